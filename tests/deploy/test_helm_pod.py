"""The pod: who it is in the group, when it is ready, how it stops, and what it may do."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.deploy.helm import (
    EXAMPLES,
    FULL,
    MORE,
    NAME,
    container,
    environment,
    example,
    found,
    kinds,
    manifests,
    pod,
    render,
    set_,
)

SMALL, TICKETS, POSTS = example("small-cpu"), example("ticket-routing"), example("social-monitoring")


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_may_do_nothing_but_its_work(name: str) -> None:
    objects = render(example(name))
    spec = pod(objects)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(objects)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert found(objects, "ServiceAccount")["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == NAME
    assert spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    volumes = {one["name"]: one for one in spec["volumes"]}
    writable = {m["mountPath"]: m["name"] for m in container(objects)["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/tmp": "tmp", "/var/cache/streamer": "hub"}  # noqa: S108
    assert volumes["tmp"]["emptyDir"] == {"sizeLimit": "1Gi"}


def test_every_mount_has_its_volume() -> None:
    for arguments in ((SMALL,), (TICKETS,), (POSTS,), FULL, (POSTS, *set_(kind="StatefulSet"))):
        objects = render(*arguments)
        (workload,) = [one for one in objects if one["kind"] in ("Deployment", "StatefulSet")]
        claims = [one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", [])]
        volumes = [one["name"] for one in pod(objects)["spec"]["volumes"]] + claims
        assert len(volumes) == len(set(volumes))
        assert {one["name"] for one in container(objects)["volumeMounts"]} == set(volumes)


def test_probes_fit_loading_and_standing_still() -> None:
    one = container(render(SMALL))
    for probe, path in (("startupProbe", "/readyz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert one[probe]["httpGet"] == {"path": path, "port": "http"}
    assert one["startupProbe"]["failureThreshold"] * one["startupProbe"]["periodSeconds"] == 600
    slow = container(render(SMALL, *set_(probes__startup={"deadlineSeconds": 901, "periodSeconds": 10})))[
        "startupProbe"
    ]
    assert slow["failureThreshold"] == math.ceil(901 / 10)
    assert one["ports"] == [{"name": "http", "containerPort": 9464}]


@pytest.mark.parametrize(
    ("arguments", "drain_s"),
    [((SMALL,), 30), ((TICKETS,), 40 + 15), ((SMALL, *set_(config__limits={"drain_timeout_s": 53.5})), 53.5)],
)
def test_a_stop_has_time_to_finish(arguments: tuple[str, ...], drain_s: float) -> None:
    assert pod(render(*arguments))["spec"]["terminationGracePeriodSeconds"] > drain_s + 4.5


def test_exactly_once_pods_are_known_by_their_names() -> None:
    objects = render(TICKETS)
    workload = found(objects, "StatefulSet")["spec"]
    variables = environment(objects)
    assert variables["POD_NAME"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert variables["STREAMER_KAFKA__TRANSACTIONAL_ID"]["value"] == "ticket-routing-$(POD_NAME)"
    assert "STREAMER_KAFKA__GROUP_INSTANCE_ID" not in variables
    assert workload["serviceName"] == found(objects, "Service")["metadata"]["name"]
    assert found(objects, "Service")["spec"]["clusterIP"] == "None"
    names = list(variables)
    assert names.index("POD_NAME") < names.index("STREAMER_KAFKA__TRANSACTIONAL_ID"), "$(NAME) needs it before"


def test_static_members_are_known_by_their_names() -> None:
    variables = environment(render(SMALL, *set_(kind="StatefulSet", staticMembership=True)))
    assert variables["STREAMER_KAFKA__GROUP_INSTANCE_ID"]["value"] == "$(POD_NAME)"
    assert "STREAMER_KAFKA__TRANSACTIONAL_ID" not in variables
    assert "POD_NAME" not in environment(render(SMALL))


def test_a_change_of_settings_replaces_pods_and_one_of_label_sets_does_not() -> None:
    def template(*arguments: str) -> Any:
        return pod(render(TICKETS, *arguments))

    before = template()
    assert template(*set_(labelSets="tickets: {facets: {mood: {labels: [good, bad]}}}")) == before
    assert template(*set_(labelSetFiles={"c.json": "{}"})) == before
    for change in (set_(config__log={"level": "debug"}), set_(files={"baseline.json": "{}"})):
        assert template(*change)["metadata"]["annotations"] != before["metadata"]["annotations"]


def test_without_reload_a_change_of_label_sets_replaces_pods() -> None:
    still = set_(config__reload={"enabled": False})
    first, other = (
        pod(render(SMALL, *still, *set_(labelSets__feedback__facets__wish__threshold=threshold)))["metadata"]
        for threshold in (0.5, 0.6)
    )
    assert first["annotations"].keys() == {"checksum/settings", "checksum/label-sets"}
    assert first["annotations"] != other["annotations"]


def test_label_sets_are_a_folder_that_follows_its_configmap() -> None:
    mounts = {one["name"]: one for one in container(render(SMALL))["volumeMounts"]}
    assert mounts["label-sets"] == {"name": "label-sets", "mountPath": "/etc/streamer/label-sets", "readOnly": True}
    assert mounts["settings"]["subPath"] == "streamer.yaml", "pods still to be replaced must not see new settings"
    own = render(SMALL, *set_(labelSetsConfigMap="own"), "--set=labelSets=null")
    volumes = {one["name"]: one for one in pod(own)["spec"]["volumes"]}
    assert volumes["label-sets"] == {"name": "label-sets", "configMap": {"name": "own"}}
    assert kinds(own).count("ConfigMap") == 1


def test_secrets_are_referred_to() -> None:
    objects = render(*FULL)
    assert "Secret" not in kinds(objects)
    volumes = {one["name"]: one for one in pod(objects)["spec"]["volumes"]}
    sources = [one["secret"] for one in volumes["secrets"]["projected"]["sources"]]
    assert {(one["name"], one["items"][0]["key"], one["items"][0]["path"]) for one in sources} == {
        ("kafka-tickets", "username", "sasl.username"),
        ("kafka-tickets", "password", "sasl.password"),
        ("kafka-tickets", "ca.crt", "ssl.ca.pem"),
        ("s", "k", "page-token"),
    }
    assert volumes["secrets"]["projected"]["defaultMode"] == 0o440
    assert environment(objects)["TRACING_HEADERS"]["valueFrom"] == {"secretKeyRef": {"name": "s", "key": "k"}}
    settings = found(objects, "ConfigMap", f"{NAME}-settings")["data"]["streamer.yaml"]
    assert "file: /etc/streamer/secrets/page-token" in settings


def test_a_gpu_comes_with_its_image_and_runtime() -> None:
    objects = render(POSTS)
    spec = pod(objects)["spec"]
    assert container(objects)["image"] == "streamer:0.1.0-cuda"
    for part in ("requests", "limits"):
        assert container(objects)["resources"][part]["nvidia.com/gpu"] == 1
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert spec["priorityClassName"] == "streaming"
    assert "nvidia" not in manifests(SMALL)
    assert container(render(SMALL))["image"] == "streamer:0.1.0-cpu"


def test_threads_are_those_that_the_pod_may_use() -> None:
    def given(*arguments: str) -> Any:
        return environment(render(*arguments))["OMP_NUM_THREADS"]["valueFrom"]["resourceFieldRef"]["resource"]

    assert given(SMALL) == "limits.cpu"
    assert given(TICKETS) == "requests.cpu"


def test_models_of_the_hub_are_kept_on_a_volume() -> None:
    shared = render(POSTS)
    assert found(shared, "PersistentVolumeClaim", f"{NAME}-hub")["spec"]["accessModes"] == ["ReadWriteMany"]
    assert {"name": "hub", "persistentVolumeClaim": {"claimName": f"{NAME}-hub"}} in pod(shared)["spec"]["volumes"]
    own = render(POSTS, *set_(hubCache__existingClaim="models"))
    assert "PersistentVolumeClaim" not in kinds(own)
    assert {"name": "hub", "persistentVolumeClaim": {"claimName": "models"}} in pod(own)["spec"]["volumes"]
    each = render(*FULL)
    (claim,) = found(each, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "10Gi"}},
    }
    assert environment(each)["HF_HOME"]["value"].startswith("/var/cache/streamer/")


def test_what_users_add_is_there() -> None:
    objects = render(*FULL)
    template, spec = pod(objects), pod(objects)["spec"]
    assert container(objects)["image"] == f"registry.example/streamer@{MORE['image']['digest']}"
    assert spec["imagePullSecrets"] == MORE["imagePullSecrets"]
    assert MORE["extraEnv"][0] in container(objects)["env"]
    assert MORE["extraVolumes"][0] in spec["volumes"]
    assert MORE["extraVolumeMounts"][0] in container(objects)["volumeMounts"]
    assert spec["initContainers"] == MORE["initContainers"]
    assert spec["affinity"] == MORE["affinity"]
    assert template["metadata"]["annotations"]["a"] == "b"
    assert {"team": "a", "b": "c"}.items() <= template["metadata"]["labels"].items()
    assert all(one["metadata"]["labels"]["team"] == "a" for one in objects)
    assert found(objects, "StatefulSet")["spec"]["updateStrategy"] == MORE["updateStrategy"]
    (spread,) = spec["topologySpreadConstraints"]
    selector = found(objects, "StatefulSet")["spec"]["selector"]
    assert spread == {**MORE["topologySpreadConstraints"][0], "labelSelector": selector}
    assert found(objects, "ServiceAccount")["metadata"]["annotations"] == {"cloud": "role"}
    assert found(objects, "Service")["metadata"]["annotations"] == {"a": "b"}
    assert found(objects, "ServiceMonitor")["spec"]["endpoints"][0]["relabelings"][0]["action"] == "labeldrop"


def test_selectors_choose_the_pods_of_the_release() -> None:
    objects = render(*FULL)
    labels = pod(objects)["metadata"]["labels"]
    chosen = found(objects, "StatefulSet")["spec"]["selector"]["matchLabels"]
    assert chosen == {"app.kubernetes.io/name": "streamer", "app.kubernetes.io/instance": "prod"}
    assert chosen.items() <= labels.items()
    assert "helm.sh/chart" not in labels, "a new chart alone is no reason to replace pods"
    assert found(objects, "Service")["spec"]["selector"] == chosen
    for kind in ("PodDisruptionBudget", "ServiceMonitor"):
        assert found(objects, kind)["spec"]["selector"]["matchLabels"] == chosen
    assert found(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == chosen


def test_the_network_is_as_closed_as_asked_for() -> None:
    open_out = found(render(SMALL), "NetworkPolicy")["spec"]
    assert open_out["policyTypes"] == ["Ingress"]
    assert open_out["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    closed = found(render(TICKETS), "NetworkPolicy")["spec"]
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    assert "monitoring" in json.dumps(closed["ingress"][0]["from"])
    dns, kafka = closed["egress"]
    assert [one["port"] for one in dns["ports"]] == [53, 53]
    assert kafka["ports"] == [{"port": 9093, "protocol": "TCP"}]
    assert "kafka" in json.dumps(kafka["to"])
    *_, hub = found(render(POSTS), "NetworkPolicy")["spec"]["egress"]
    assert hub["ports"] == [{"port": 443, "protocol": "TCP"}]
    ports = found(render(*FULL), "NetworkPolicy")["spec"]["egress"][1]["ports"]
    assert [one["port"] for one in ports] == [9094, 9095]
    assert "NetworkPolicy" not in kinds(render(SMALL, *set_(networkPolicy__enabled=False)))


def test_a_drained_node_takes_one_pod_at_a_time() -> None:
    budget = found(render(SMALL), "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert "PodDisruptionBudget" not in kinds(render(SMALL, *set_(podDisruptionBudget__enabled=False)))
    assert found(render(SMALL), "Deployment")["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 1,
        "maxUnavailable": 0,
    }
