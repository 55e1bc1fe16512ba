"""The compose file gives what kafka.sh gives: same version, settings and addresses, open on this computer only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

KAFKA = Path(__file__).parents[2] / "deploy" / "kafka"
NODES = (1, 2, 3)
FIRST_PORT = 9492  # kafka.sh: of three nodes, the first one's
# what containers must say otherwise; everything else is the same to the letter
PLACES = {
    "node.id",
    "controller.quorum.voters",
    "inter.broker.listener.name",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "log.dirs",
    "listener.name.tls.ssl.keystore.location",
}
# read by the image's scripts, which make no property of them
FOR_THE_IMAGE = {"CLUSTER_ID", "KAFKA_HEAP_OPTS"}
SERVICE_KEYS = {
    "image", "user", "cap_drop", "security_opt", "depends_on", "mem_limit", "stop_grace_period", "healthcheck",
    "hostname", "ports", "volumes", "environment", "working_dir", "network_mode", "entrypoint", "command",
}  # fmt: skip


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, as compose does."""


def _mapping(loader: StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    assert len(keys) == len(set(keys)), f"twice at {node.start_mark}: {keys}"
    loader.flatten_mapping(node)
    return dict(loader.construct_pairs(node, deep=True))


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.load((KAFKA / "compose.yaml").read_text(encoding="utf-8"), StrictLoader)  # noqa: S506
    return content


@pytest.fixture(params=NODES)
def node(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


def of_container(compose: dict[str, Any], node: int) -> dict[str, str]:
    """Properties that the image makes of a node's environment: `___` is `-`, `__` is `_`, `_` is `.`."""
    environment = compose["services"][f"kafka-{node}"]["environment"]
    properties = {}
    for name, value in environment.items():
        if name not in FOR_THE_IMAGE:
            name = name.removeprefix("KAFKA_").lower().replace("_", ".").replace("...", "-").replace("..", "_")
            properties[name] = value
    return properties


def of_script() -> dict[str, str]:
    """server.properties as kafka.sh fills it in for three nodes; names of places stay as they are."""
    script = (KAFKA / "kafka.sh").read_text(encoding="utf-8")
    filled = re.search(r"replicas=(?!1)(\d) in_sync=(\d) session_ms=(\d+)", script)
    assert filled is not None
    text = (KAFKA / "server.properties").read_text(encoding="utf-8")
    for name, value in zip(("@REPLICAS@", "@IN_SYNC@", "@SESSION_MS@"), filled.groups(), strict=True):
        text = text.replace(name, value)
    text = text.replace("@QUORUM@", "controller.quorum.voters=@QUORUM@")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def listeners(value: str) -> dict[str, str]:
    """Name -> host:port."""
    return dict(one.split("://") for one in value.split(","))


def test_the_settings_are_the_same(compose: dict[str, Any], node: int) -> None:
    container, script = of_container(compose, node), of_script()
    assert container.keys() == script.keys()
    assert {name: value for name, value in container.items() if name not in PLACES} == {
        name: value for name, value in script.items() if name not in PLACES
    }
    assert all(isinstance(value, str) for value in container.values())


def test_each_node_has_its_own_place(compose: dict[str, Any], node: int) -> None:
    container, script = of_container(compose, node), of_script()
    assert container["node.id"] == str(node)
    assert container["controller.quorum.voters"] == ",".join(f"{one}@kafka-{one}:19093" for one in NODES)
    assert container["inter.broker.listener.name"] == "INTERNAL"
    assert (
        container["listener.security.protocol.map"] == f"{script['listener.security.protocol.map']},INTERNAL:PLAINTEXT"
    )
    assert compose["services"][f"kafka-{node}"]["hostname"] == f"kafka-{node}"
    assert compose["services"][f"kafka-{node}"]["volumes"] == [
        f"data-{node}:{container['log.dirs']}",
        f"tls:{Path(container['listener.name.tls.ssl.keystore.location']).parent}:ro",
    ]


def test_clients_find_it_where_the_script_has_it_and_on_this_computer_only(compose: dict[str, Any], node: int) -> None:
    container = of_container(compose, node)
    first = FIRST_PORT + 10 * (node - 1)
    ports = {"PLAINTEXT": first, "SASL": first + 2, "TLS": first + 3, "PROXIED": first + 4}
    assert listeners(container["listeners"]) == {
        **{name: f":{port}" for name, port in ports.items()},
        "CONTROLLER": ":19093",
        "INTERNAL": ":19092",
    }
    advertised = {name: f"127.0.0.1:{port}" for name, port in {**ports, "PROXIED": first + 5}.items()}
    assert listeners(container["advertised.listeners"]) == {**advertised, "INTERNAL": f"kafka-{node}:19092"}
    assert compose["services"][f"kafka-{node}"]["ports"] == [f"127.0.0.1:{port}:{port}" for port in ports.values()]
    assert f"127.0.0.1:{first}" in (KAFKA / "compose.yaml").read_text(encoding="utf-8").split("name:")[0]


def test_every_service_is_of_the_brokers_version_and_without_privileges(compose: dict[str, Any]) -> None:
    version = re.search("<kafka.version>(.*)</kafka.version>", (KAFKA / "pom.xml").read_text(encoding="utf-8"))
    assert version is not None
    assert compose["services"].keys() == {"kafka-1", "kafka-2", "kafka-3", "certificate", "user"}
    for name, service in compose["services"].items():
        assert service.keys() <= SERVICE_KEYS, name
        assert service["image"] == f"apache/kafka:{version[1]}"
        assert service["user"] == "appuser"
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert name.startswith("kafka-") or "ports" not in service


def test_one_waits_for_the_other(compose: dict[str, Any], node: int) -> None:
    services = compose["services"]
    one = services[f"kafka-{node}"]
    assert one["depends_on"] == {"certificate": {"condition": "service_completed_successfully"}}
    assert "kafka-broker-api-versions.sh --bootstrap-server localhost:19092" in one["healthcheck"]["test"][1]
    assert services["user"]["depends_on"][f"kafka-{node}"] == {"condition": "service_healthy"}


def test_volumes_are_named_and_the_certificate_is_the_scripts(compose: dict[str, Any]) -> None:
    mounted = {mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", ())}
    assert compose["volumes"].keys() == mounted == {"data-1", "data-2", "data-3", "tls"}
    script = (KAFKA / "kafka.sh").read_text(encoding="utf-8")
    (command,) = compose["services"]["certificate"]["command"]
    assert not re.search(r"(?<!\$)\$(?!\$)", command), "compose would put in a variable of its own"
    for line in script.splitlines():
        for option in re.findall(
            r"-(?:ext|alias|keyalg|groupname|validity|signer|dname|storetype) (?:\"[^\"]*\"|\S+)", line
        ):
            assert option.rstrip(")") in command
    password = re.search("^password=(.*)$", script, re.MULTILINE)
    assert password is not None
    assert f"-storepass {password[1]}" in command
    assert f"--add-config=SCRAM-SHA-512=[password={password[1]}]" in compose["services"]["user"]["command"]
