"""The chart as a whole: every value set renders to what Kubernetes takes, and what cannot work is refused in a line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.generate import generated
from streamer import __version__
from tests.deploy.helm import (
    CHART,
    EXAMPLES,
    FULL,
    ROOT,
    example,
    found,
    kinds,
    manifests,
    refusal,
    render,
    set_,
)
from tests.tools import require_tool

SCHEMAS = Path(__file__).parent / "kube_schemas"
SMALL, TICKETS, POSTS = example("small-cpu"), example("ticket-routing"), example("social-monitoring")
MONITORED = set_(serviceMonitor__enabled=True, prometheusRule__enabled=True, dashboard__enabled=True)


@pytest.mark.parametrize("name", EXAMPLES)
def test_helm_finds_no_fault(name: str) -> None:
    command = [require_tool("helm"), "lint", "--strict", str(CHART), example(name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_takes_every_value_set() -> None:
    members = set_(kind="StatefulSet", updateStrategy={}, autoscaling__minReplicas=0)
    sets = [(SMALL,), (TICKETS,), (POSTS,), FULL, (POSTS, *members)]
    text = "\n---\n".join(manifests(*one) for one in sets)
    places = str(SCHEMAS / "{{ .ResourceKind }}{{ .KindSuffix }}.json")
    command = [require_tool("kubeconform"), "-strict", "-output", "json", "-summary", "-schema-location", places]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    told = json.loads(done.stdout)
    assert told.get("resources", []) == []
    assert told["summary"]["valid"] == sum(len(render(*one)) for one in sets)
    assert done.returncode == 0


def test_the_schemas_refuse_what_kubernetes_would() -> None:
    wrong = manifests(POSTS).replace("  pollingInterval:", "  polingInterval:").replace("readOnlyRoot", "readonlyRoot")
    places = str(SCHEMAS / "{{ .ResourceKind }}{{ .KindSuffix }}.json")
    command = [require_tool("kubeconform"), "-strict", "-output", "json", "-schema-location", places]
    done = subprocess.run(command, input=wrong, capture_output=True, text=True, check=False, timeout=60)
    assert {one["kind"] for one in json.loads(done.stdout)["resources"]} == {"Deployment", "ScaledObject"}


def test_what_the_chart_repeats_is_as_its_source_has_it() -> None:
    for path, text in generated().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make schemas"


def test_the_chart_installs_the_version_beside_it() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert about["appVersion"] == __version__


def test_the_schema_knows_every_value_and_refuses_others() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema["properties"].pop("global")  # Helm hands it to every chart

    def compare(schema: Any, values: Any, place: str) -> None:
        assert schema["additionalProperties"] is False, place
        assert schema["properties"].keys() == values.keys(), place
        for key, below in schema["properties"].items():
            if "properties" in below and values[key]:
                compare(below, values[key], f"{place}.{key}")

    compare(schema, values, "")


def test_every_value_is_told_in_the_table() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    guide = (CHART / "README.md").read_text(encoding="utf-8")

    def untold(values: Any, place: str) -> list[str]:
        if f"| `{place}` |" in guide:
            return []
        if not isinstance(values, dict) or not values:
            return [place]
        return [one for key, below in values.items() for one in untold(below, f"{place}.{key}" if place else key)]

    assert untold(values, "") == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "config.streams: is empty"),
        ((SMALL, *set_(config__kafka__bootstrap_servers="")), "config.kafka.bootstrap_servers: is empty"),
        ((SMALL, *set_(config__kafka__bootstrap_servers="embedded")), "an embedded broker dies with its pod"),
        ((SMALL, *set_(config__http__enabled=False)), "probes and metrics need the HTTP port"),
        ((SMALL, *set_(config__http__port=0)), "config.http.port: 0 takes any port"),
        ((SMALL, "--set=labelSets=null"), "labelSets: is empty"),
        ((SMALL, *set_(labelSetsConfigMap="own")), "labelSetsConfigMap: stands beside labelSets"),
        ((SMALL, *set_(config__streams=[{"topic": "a", "output": "b", "dead_letter": "c", "label_set": "d"}])),
         "'a' names the label set 'd', which labelSets lacks"),
        ((TICKETS, "--set-string=labelSets=a: [b"), "labelSets: not a YAML mapping of label sets"),
        ((SMALL, *set_(labelSets__feedback__calibration="label-sets/c.json")), "Helm sorts a mapping"),
        ((TICKETS, *set_(kind="Deployment")), "exactly_once needs pods whose names stay; set kind: StatefulSet"),
        ((SMALL, *set_(staticMembership=True)), "staticMembership needs pods whose names stay"),
        ((SMALL, *set_(config__kafka__group_instance_id="a")), "set staticMembership: true"),
        ((TICKETS, *set_(config__kafka__transactional_id="a")), "each fences the others"),
        ((TICKETS, *set_(terminationGracePeriodSeconds=60)), "GracePeriodSeconds: 60, but a stop may take 60 s"),
        ((SMALL, *set_(terminationGracePeriodSeconds=35)), "GracePeriodSeconds: 35, but a stop may take 35 s"),
        ((TICKETS, *set_(config__http__stuck_after_s=20)), "probes.liveness: restarts a pod after 50 s"),
        ((POSTS, *set_(hubCache__accessModes=["ReadWriteOnce"])), "the pods of a Deployment share the volume"),
        ((SMALL, *set_(config__page={"show_text": True})), "name a Secret under secrets.pageToken"),
        ((SMALL, *set_(config__page={"show_text": True, "token": None})), "name a Secret under secrets.pageToken"),
        ((SMALL, *set_(extraEnv=[{"name": "STREAMER_DELIVERY", "value": "x"}])), "overrides a setting unseen"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(arguments: tuple[str, ...], line: str) -> None:
    told = refusal(*arguments)
    assert line in told
    assert len(told.splitlines()) == 1
    assert told.startswith("Error: execution error at (streamer/templates/workload.yaml:1:4): ")


@pytest.mark.parametrize(
    "arguments",
    [
        (TICKETS, "--set=config.kafka.properties.sasl\\.password=hunter2hunter2"),
        (SMALL, "--set=config.kafka.properties.sasl\\.password=hunter2hunter2"),
        (SMALL, "--set=config.kafka.properties.ssl\\.key\\.pem=hunter2hunter2"),
        (SMALL, "--set=config.kafka.properties.sasl\\.oauthbearer\\.client\\.secret=hunter2hunter2"),
        (SMALL, "--set=secrets.kafka.sasl\\.password=hunter2hunter2"),
        (SMALL, "--set=secrets.env.HF_TOKEN=hunter2hunter2"),
        (SMALL, *set_(extraEnv=[{"name": "HF_TOKEN", "value": "hunter2hunter2"}])),
        (SMALL, "--set=config.page.token=hunter2hunter2"),
        (SMALL, "--set=config.tracing.headers.authorization=hunter2hunter2"),
    ],
)
def test_a_secret_among_the_values_is_refused_and_not_repeated(arguments: tuple[str, ...]) -> None:
    assert "hunter2hunter2" not in refusal(*arguments)


@pytest.mark.parametrize("values", ["config.kafka.groupid=a", "config.limits.drain=1", "replica=2", "gpu.count=2"])
def test_a_value_that_nothing_reads_is_refused(values: str) -> None:
    assert "values don't meet the specifications of the schema" in refusal(SMALL, f"--set={values}")


def test_monitoring_is_there_on_demand_alone() -> None:
    bare = ["ConfigMap", "ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"]
    assert kinds(render(SMALL)) == sorted([*bare, "HorizontalPodAutoscaler"])
    more = ["ConfigMap", "HorizontalPodAutoscaler", "PrometheusRule", "ServiceMonitor"]
    assert kinds(render(SMALL, *MONITORED)) == sorted([*bare, *more])


def test_alerts_are_those_of_the_file_to_the_letter() -> None:
    source = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))
    rendered = found(render(SMALL, *MONITORED), "PrometheusRule")
    assert rendered["spec"]["groups"] == source["groups"]
    assert "{{ $labels." in json.dumps(rendered)
    tickets = found(render(TICKETS, *set_(prometheusRule__disabled=["StreamerDown"])), "PrometheusRule")
    alerts = [rule for group in tickets["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    assert all(rule["labels"]["team"] == "support" and "severity" in rule["labels"] for rule in alerts)
    names = {rule["alert"] for group in source["groups"] for rule in group["rules"] if "alert" in rule}
    assert {rule["alert"] for rule in alerts} == names - {"StreamerDown"}


def test_the_dashboard_is_the_file_and_found_by_its_label() -> None:
    source = (CHART / "files" / "dashboard.json").read_text(encoding="utf-8")
    one = found(render(TICKETS), "ConfigMap", "prod-streamer-dashboard")
    assert json.loads(one["data"]["prod-streamer.json"]) == json.loads(source)
    assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert one["metadata"]["annotations"] == {"grafana_folder": "Kafka"}
    elsewhere = render(TICKETS, *set_(dashboard__namespace="grafana"))
    assert found(elsewhere, "ConfigMap", "prod-streamer-dashboard")["metadata"]["namespace"] == "grafana"


def test_the_examples_are_those_of_the_guide() -> None:
    guide = (CHART / "README.md").read_text(encoding="utf-8")
    assert {path.stem for path in (CHART / "examples").iterdir()} == set(EXAMPLES)
    assert all(f"(examples/{name}.yaml)" in guide for name in EXAMPLES)
    assert all((ROOT / "deploy" / one).exists() for one in ("docker/Dockerfile", "kafka/acls.md", "README.md"))
