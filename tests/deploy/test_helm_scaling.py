"""Scaling: by lag or by CPU, never beyond the partitions, and not so often that the group only rebalances."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deploy.helm import NAME, Object, example, found, kinds, refusal, render, set_

SMALL, TICKETS, POSTS = example("small-cpu"), example("ticket-routing"), example("social-monitoring")
KEDA = set_(autoscaling__keda__enabled=True, autoscaling__hpa__enabled=False)


def scaled(*arguments: str) -> Object:
    spec: Object = found(render(*arguments), "ScaledObject")["spec"]
    return spec


def test_every_topic_has_a_trigger_and_no_pod_stands_idle() -> None:
    spec = scaled(POSTS)
    assert [one["metadata"]["topic"] for one in spec["triggers"]] == ["posts.en", "news.comments"]
    assert spec["maxReplicaCount"] <= min(24, 12)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    for one, threshold in zip(spec["triggers"], ("200000", "50000"), strict=True):
        told = one["metadata"]
        assert one["type"] == "kafka"
        assert told["consumerGroup"] == "social-monitoring"
        assert told["bootstrapServers"] == "broker.streaming.svc:9093"
        assert told["lagThreshold"] == threshold
        assert told["allowIdleConsumers"] == "false"
        assert all(isinstance(value, str) for value in told.values())
    assert spec["fallback"] == {"failureThreshold": 5, "replicas": 6}
    assert "replicas" not in found(render(POSTS), "Deployment")["spec"], "an upgrade must not undo the scaling"
    assert found(render(TICKETS), "StatefulSet")["spec"]["replicas"] == 3


def test_marks_of_transactions_wake_nobody() -> None:
    topics = ("posts.en", 24), ("news.comments", 12)
    for one, (topic, partitions) in zip(scaled(POSTS)["triggers"], topics, strict=True):
        assert one["metadata"]["topic"] == topic
        assert int(one["metadata"]["activationLagThreshold"]) > partitions


def test_scaling_does_not_thrash_the_group() -> None:
    small = found(render(SMALL), "HorizontalPodAutoscaler")["spec"]["behavior"]
    keda = scaled(POSTS)
    assert keda["cooldownPeriod"] >= 300
    assert keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == small
    assert small["scaleDown"]["stabilizationWindowSeconds"] >= 300
    assert small["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]
    (up,) = small["scaleUp"]["policies"]
    assert up["periodSeconds"] > small["scaleUp"]["stabilizationWindowSeconds"] > 0


def test_keda_logs_in_by_the_secrets_of_the_pods() -> None:
    objects = render(POSTS)
    taken = found(objects, "TriggerAuthentication")["spec"]["secretTargetRef"]
    assert {(one["parameter"], one["name"], one["key"]) for one in taken} == {
        ("username", "kafka-posts", "username"),
        ("password", "kafka-posts", "password"),
    }
    for one in found(objects, "ScaledObject")["spec"]["triggers"]:
        assert one["authenticationRef"] == {"name": NAME}
        assert (one["metadata"]["sasl"], one["metadata"]["tls"]) == ("scram_sha256", "enable")


def test_keda_can_log_in_otherwise() -> None:
    reference = {"name": "cloud", "kind": "ClusterTriggerAuthentication"}
    objects = render(POSTS, *set_(autoscaling__keda__authenticationRef=reference))
    assert "TriggerAuthentication" not in kinds(objects)
    for one in found(objects, "ScaledObject")["spec"]["triggers"]:
        assert one["authenticationRef"] == reference
        assert not {"sasl", "tls"} & one["metadata"].keys()
    (one,) = scaled(SMALL, *KEDA)["triggers"]
    assert "authenticationRef" not in one
    assert "sasl" not in one["metadata"]


def test_an_hpa_scales_by_cpu_or_by_metrics_of_ones_own() -> None:
    spec = found(render(SMALL), "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 3)
    assert spec["metrics"][0]["resource"] == {
        "name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 75},
    }
    metrics = [
        {"type": "Pods", "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "5"}}}
    ]
    own = render(SMALL, *set_(autoscaling__hpa__metrics=metrics))
    assert found(own, "HorizontalPodAutoscaler")["spec"]["metrics"] == metrics


def changed(**values: Any) -> tuple[str, ...]:
    return set_(**{f"autoscaling__{name}": value for name, value in values.items()})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((SMALL, *changed(keda__enabled=True)), "keda and hpa are both enabled"),
        ((POSTS, *changed(maxReplicas=13)), "maxReplicas: 13, but 'news.comments' has 12 partitions"),
        ((SMALL, *changed(maxReplicas=4)), "maxReplicas: 4, but 'feedback' has 3 partitions"),
        ((TICKETS, *changed(keda__enabled=True)), "autoscaling.partitions: lacks 'support.tickets'"),
        ((SMALL, *changed(minReplicas=4)), "minReplicas: 4, above maxReplicas (3)"),
        ((SMALL, *changed(minReplicas=0)), "minReplicas: 0 needs keda"),
        ((POSTS, *changed(minReplicas=0), *set_(config__kafka__auto_offset_reset="latest")), "is never woken"),
        ((SMALL, *set_(resources={"requests": {"cpu": None}})), "resources.requests.cpu, which is missing"),
        ((POSTS, *changed(keda__activationLagThreshold=24)), "of 'posts.en' is 24; above its partitions (24)"),
        ((POSTS, *changed(keda__topics={"news.comment": {"lagThreshold": 1}})), "no stream reads 'news.comment'"),
        ((POSTS, "--set=config.kafka.properties.sasl\\.mechanism=OAUTHBEARER"), "cannot log in by OAUTHBEARER"),
        ((POSTS, "--set=secrets.kafka.sasl\\.username=null"), "takes sasl.username from a Secret alone"),
        ((POSTS, "--set=config.kafka.properties.ssl\\.ca\\.location=/ca.pem"), "cannot read files of the pods"),
    ],
)
def test_what_would_scale_wrongly_is_refused(arguments: tuple[str, ...], line: str) -> None:
    told = refusal(*arguments)
    assert line in told
    assert len(told.splitlines()) == 1
