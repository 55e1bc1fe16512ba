"""The stack of deploy/compose: what it mounts is there and accepted, and it is open to this computer only."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer import __version__
from streamer.app import topics_of
from streamer.settings import Settings, load_settings
from tests.deploy.dockerfile import read_stages
from tests.tools import require_tool

ROOT = Path(__file__).parents[2]
STACK = ROOT / "deploy" / "compose"
OURS = ("streamer", "tickets", "posts")
BOOTSTRAP = "kafka:19092"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """As the file says it, merges done."""
    found: dict[str, dict[str, Any]] = read(STACK / "compose.yaml")["services"]
    return found


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(STACK / "streamer" / "streamer.yaml")


def mounts(service: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Source, target and whether it is read-only."""
    parts = [one.split(":") for one in service.get("volumes", ())]
    return [(part[0], part[1], part[2:] == ["ro"]) for part in parts]


@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")])
def test_compose_takes_it(files: tuple[str, ...]) -> None:
    """Read by the library that docker compose reads it with: schema, merges, variables, paths."""
    done = subprocess.run(
        [require_tool("compose-spec"), "-format", "json", *files],
        cwd=STACK,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    streamer = json.loads(done.stdout)["services"]["streamer"]
    target = "cuda" if len(files) == 2 else "cpu"
    assert streamer["build"]["target"] == target
    assert streamer["image"] == f"streamer:{__version__}-{target}"
    assert streamer["build"]["dockerfile"] == "deploy/docker/Dockerfile"
    assert Path(streamer["build"]["context"]) == ROOT
    assert ("deploy" in streamer) == (target == "cuda")


def test_images_are_pinned_and_the_brokers_is_that_of_the_tests(services: dict[str, dict[str, Any]]) -> None:
    version = re.search("<kafka.version>(.*)</kafka.version>", (ROOT / "deploy/kafka/pom.xml").read_text("utf-8"))
    assert version is not None
    images = {service["image"] for service in services.values()}
    assert f"apache/kafka:{version[1]}" in images
    assert f"streamer:{__version__}-cpu" in images
    assert len(images) == 4
    assert all(re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+(-cpu)?", image) for image in images)
    over = read(STACK / "compose.gpu.yaml")["services"]
    assert {name: one["image"] for name, one in over.items()} == dict.fromkeys(OURS, f"streamer:{__version__}-cuda")


def test_every_service_is_confined(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert not service.keys() & {"privileged", "network_mode", "pid", "ipc", "cap_add", "devices"}, name
        # Kafka's image writes its settings into itself
        assert service.get("read_only", False) == (name not in ("kafka", "topics")), name
        # the image of streamer names its own user
        assert ("user" in service) == (name not in OURS), name
        assert service.get("user") not in ("root", "0", "0:0")


def test_ports_are_open_on_this_computer_only(services: dict[str, dict[str, Any]]) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {
        "kafka": ["127.0.0.1:9092:9092"],
        "streamer": ["127.0.0.1:9464:9464"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    listeners = services["kafka"]["environment"]
    assert listeners["KAFKA_ADVERTISED_LISTENERS"] == f"INTERNAL://{BOOTSTRAP},OUTSIDE://127.0.0.1:9092"
    assert listeners["KAFKA_LISTENERS"].startswith("INTERNAL://:19092,")


def test_no_password_stands_anywhere(services: dict[str, dict[str, Any]]) -> None:
    for path in sorted(STACK.rglob("*.y*ml")):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not re.search(r"(?i)(passw|secret|token|api_?key)\w*['\"]?\s*[:=]", line.partition("#")[0]), (
                f"{path}: {line}"
            )
    grafana = services["grafana"]["environment"]
    assert grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert grafana["GF_AUTH_BASIC_ENABLED"] == "false"
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_what_is_mounted_is_there_and_what_is_written_is_a_volume(services: dict[str, dict[str, Any]]) -> None:
    named = read(STACK / "compose.yaml")["volumes"].keys()
    used = set()
    for name, service in services.items():
        for source, _, read_only in mounts(service):
            if source.startswith("."):
                assert (STACK / source).exists(), f"{name}: {source}"
                assert read_only, f"{name}: {source}"
            else:
                used.add(source)
    assert used == named
    _, stages = read_stages((ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8"))
    assert ("hub-cache", stages["runtime"].json("VOLUME")[0], False) in mounts(services["streamer"])
    assert ("./streamer", stages["runtime"].all("WORKDIR")[-1], True) in mounts(services["streamer"])


def test_each_waits_for_what_it_needs(services: dict[str, dict[str, Any]]) -> None:
    made = {"condition": "service_completed_successfully"}
    assert services["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert services["streamer"]["depends_on"] == {"topics": made}
    assert all(services[name]["depends_on"]["topics"] == made for name in ("tickets", "posts"))
    assert services["grafana"]["depends_on"] == {"prometheus": {"condition": "service_healthy"}}
    # streamer's own health check is in its image, producers have no port to ask
    assert {name for name, one in services.items() if "test" in one.get("healthcheck", ())} == {
        "kafka",
        "prometheus",
        "grafana",
    }


def test_the_settings_are_accepted_and_their_topics_made(
    services: dict[str, dict[str, Any]], settings: Settings
) -> None:
    assert settings.kafka.bootstrap_servers == BOOTSTRAP
    assert settings.http.host == "0.0.0.0"  # noqa: S104 - inside the container
    assert (settings.http.port, settings.page.show_text) == (9464, False)
    (script,) = services["topics"]["command"]
    made = {topic for found in re.findall(r"for topic in (.*); do", script) for topic in found.split()}
    assert made == topics_of(settings).keys()
    assert not re.search(r"(?<!\$)\$(?!\$)", script), "compose would put in a variable of its own"
    stop_s = int(services["streamer"]["stop_grace_period"].removesuffix("s"))
    assert stop_s >= settings.limits.drain_timeout_s + 10


def test_label_sets_are_those_of_the_demo_and_a_route(settings: Settings) -> None:
    demo = load_settings(ROOT / "streamer" / "demo" / "demo.yaml").label_sets
    assert {name: one.facets for name, one in settings.label_sets.items()} == {
        name: one.facets for name, one in demo.items()
    }
    (route,) = settings.label_sets["tickets"].routes
    assert route.to == "tickets.urgent"


@pytest.mark.parametrize("name", ["tickets", "posts"])
def test_producers_send_the_demo_records_for_ever(
    services: dict[str, dict[str, Any]], settings: Settings, name: str
) -> None:
    verb, file, *flags = services[name]["command"]
    options = dict(zip(flags[::2], flags[1::2], strict=True))
    assert verb == "produce"
    ((source, target, _),) = mounts(services[name])
    records = STACK / source / Path(file).relative_to(target)
    first = json.loads(records.read_text(encoding="utf-8").splitlines()[0])
    assert options["--key"] in first
    assert options["--topic"] in {stream.topic for stream in settings.streams}
    assert options["--bootstrap"] == BOOTSTRAP
    assert all(isinstance(word, str) for word in services[name]["command"])
    assert int(options["--repeat"]) >= 1_000_000
    assert services[name]["restart"] == "unless-stopped"


def test_prometheus_takes_its_settings_and_the_alerts(tmp_path: Path, services: dict[str, dict[str, Any]]) -> None:
    config = read(STACK / "prometheus" / "prometheus.yml")
    targets = {source: target for source, target, _ in mounts(services["prometheus"])}
    alerts = STACK / "../helm/streamer/files/alerts.yaml"
    assert config["rule_files"] == [targets["../helm/streamer/files/alerts.yaml"]]
    assert config["scrape_configs"][0]["static_configs"][0]["targets"] == ["streamer:9464"]
    assert f"--config.file={targets['./prometheus']}/prometheus.yml" in services["prometheus"]["command"]
    (tmp_path / "prometheus.yml").write_text(
        yaml.safe_dump({**config, "rule_files": [str(alerts.resolve())]}), encoding="utf-8"
    )
    done = subprocess.run(
        [require_tool("promtool"), "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_is_given_prometheus_and_the_dashboard(services: dict[str, dict[str, Any]]) -> None:
    provisioning = STACK / "grafana" / "provisioning"
    (source,) = read(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    assert (source["type"], source["url"], source["isDefault"]) == ("prometheus", "http://prometheus:9090", True)
    (provider,) = read(provisioning / "dashboards" / "streamer.yaml")["providers"]
    targets = {origin: target for origin, target, _ in mounts(services["grafana"])}
    dashboard = targets["../helm/streamer/files/dashboard.json"]
    assert Path(dashboard).parent == Path(provider["options"]["path"])
    assert services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard
    shown = (ROOT / "deploy/helm/streamer/files/dashboard.json").read_text(encoding="utf-8")
    uids = set(re.findall(r'"uid": "([^"]*)"', shown)) - {json.loads(shown)["uid"]}
    named = {one["name"] for one in json.loads(shown)["templating"]["list"] if one["type"] == "datasource"}
    # a variable of the dashboard, which stands for the default one, or this very source
    assert uids <= {
        source["uid"],
        "-- Grafana --",
        *(f"${{{name}}}" for name in named),
        *(f"${name}" for name in named),
    }
