"""A cluster of three nodes that tests may break, and the listener with TLS and a login."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest
import yaml
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    TopicMetadata,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

KAFKA_SCRIPT = Path(__file__).parents[2] / "deploy" / "kafka" / "kafka.sh"
NODES = (1, 2, 3)
NODE_PORTS = 10  # from one node's first port to the next one's, as kafka.sh says
INTERNAL_TOPICS = {"group": "__consumer_offsets", "transaction": "__transaction_state"}
SETTLE_S = 60.0
PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """Three Apache Kafka nodes, numbered from 1, that nobody else uses. Every wait is bounded."""

    bootstrap_servers: str
    environment: Mapping[str, str]

    def kill(self, node: int) -> None:
        """End a node at once, as kill -9 does."""
        self._script("kill", node)

    def start(self, node: int) -> None:
        """Start a killed node, and return when it serves clients."""
        self._script("start", node)

    def coordinator(self, kind: Literal["group", "transaction"], name: str) -> int:
        """The node that looks after a consumer group or a transactional id now."""
        topic = self.topic(INTERNAL_TOPICS[kind])
        return int(topic.partitions[abs_java_hash(name) % len(topic.partitions)].leader)

    def topic(self, name: str) -> TopicMetadata:
        """Partitions of a topic, with leaders, replicas and replicas in sync."""
        return self._admin().list_topics(name, timeout=SETTLE_S).topics[name]

    def await_whole(self) -> None:
        """Start what is down, and wait until every replica of every topic is in sync."""
        for node in NODES:
            self.start(node)
        deadline = time.monotonic() + SETTLE_S
        admin = self._admin()
        while True:
            topics = admin.list_topics(timeout=SETTLE_S).topics.values()
            behind = [topic for topic in topics for one in topic.partitions.values() if len(one.isrs) < len(NODES)]
            if not behind:
                return
            assert time.monotonic() < deadline, f"not in sync: {behind[:3]}"
            time.sleep(PAUSE_S)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def _script(self, verb: str, node: int) -> None:
        done = run_kafka_script(self.environment, verb, str(node))
        assert done.returncode == 0, done.stderr


def abs_java_hash(text: str) -> int:
    """Java's String.hashCode, made positive as Kafka's Utils.abs does: it tells the coordinator's partition."""
    units = memoryview(text.encode("utf-16-le")).cast("H")
    value = 0
    for unit in units:
        value = (31 * value + unit) & 0xFFFF_FFFF
    signed = value - (1 << 32) if value >> 31 else value
    return 0 if signed == -(1 << 31) else abs(signed)


def run_kafka_script(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [KAFKA_SCRIPT, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three nodes started for these tests on free ports, with data of their own, and stopped after them. Who kills a
    node starts it again, or takes `whole_cluster`. Where it cannot be had, as with `kafka_bootstrap`."""
    home = tmp_path_factory.mktemp("cluster")
    environment = {"BROKERS": "3", "KAFKA_HOME": str(home), "KAFKA_PORT": str(_free_ports())}
    try:
        started = run_kafka_script(environment, "up")
        if started.returncode != 0:
            _without(f"no Apache Kafka cluster: {started.stderr.strip()}")
        cluster = KafkaCluster(started.stdout.strip(), environment)
        _make_internal_topics(cluster.bootstrap_servers)
        yield cluster
    finally:
        run_kafka_script(environment, "down")


@pytest.fixture
def whole_cluster(kafka_cluster: KafkaCluster) -> Iterator[KafkaCluster]:
    """The cluster with all nodes up and in sync, before a test and after it."""
    kafka_cluster.await_whole()
    yield kafka_cluster
    kafka_cluster.await_whole()


@dataclass(frozen=True, slots=True)
class SecureListener:
    """The listener with TLS and a login, the file that holds the certificate to trust, and the plain listener, whose
    clients may do everything."""

    bootstrap_servers: str
    ca: Path
    plain_bootstrap_servers: str

    @contextmanager
    def user(self) -> Iterator[SecureUser]:
        """A new user without rights. It and what it was granted are gone afterwards."""
        admin = AdminClient({"bootstrap.servers": self.plain_bootstrap_servers, "log_level": 0})
        one = SecureUser(f"user-{uuid.uuid4().hex[:8]}", f"planted-{uuid.uuid4().hex}", self, admin)
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        upsert = UserScramCredentialUpsertion(one.name, info, one.password.encode())
        admin.alter_user_scram_credentials([upsert])[one.name].result(SETTLE_S)
        yield one
        delete = UserScramCredentialDeletion(one.name, ScramMechanism.SCRAM_SHA_512)
        admin.alter_user_scram_credentials([delete])[one.name].result(SETTLE_S)
        for answer in admin.delete_acls([one.rights()]).values():
            answer.result(SETTLE_S)


@dataclass(frozen=True, slots=True)
class SecureUser:
    """A user of the secure listener, with a password that stands nowhere else."""

    name: str
    password: str
    listener: SecureListener
    admin: AdminClient

    def rights(self) -> AclBindingFilter:
        """All that this user was granted."""
        return AclBindingFilter(
            ResourceType.ANY,
            None,  # type: ignore[arg-type]  # of any name
            ResourcePatternType.ANY,
            f"User:{self.name}",
            None,  # type: ignore[arg-type]  # from any host
            AclOperation.ANY,
            AclPermissionType.ANY,
        )

    def grant(self, rights: Iterable[tuple[str, str, str]]) -> None:
        """Rights as kafka-acls.sh is given them: ("topic", its name, "Read"). Returns when the broker knows them."""
        wanted = [
            AclBinding(
                ResourceType[resource.replace("-", "_").upper()],
                name,
                ResourcePatternType.LITERAL,
                f"User:{self.name}",
                "*",
                AclOperation[re.sub("(?<=[a-z])(?=[A-Z])", "_", operation).upper()],
                AclPermissionType.ALLOW,
            )
            for resource, name, operation in rights
        ]
        for answer in self.admin.create_acls(wanted).values():
            answer.result(SETTLE_S)
        deadline = time.monotonic() + SETTLE_S
        while len(self.admin.describe_acls(self.rights()).result(SETTLE_S)) < len(wanted):
            assert time.monotonic() < deadline
            time.sleep(PAUSE_S)

    def properties(self, password_file: Path) -> dict[str, Any]:
        """What a settings file says under kafka.properties; the password goes into the file."""
        password_file.write_text(f"{self.password}\n", encoding="utf-8")
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.listener.ca),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": self.name,
            "sasl.password": {"file": str(password_file)},
        }


@pytest.fixture(scope="session")
def kafka_secure(kafka_bootstrap: str) -> SecureListener:
    """Another listener of the broker at `kafka_bootstrap`, whose users may only do what they are granted."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        pytest.skip("needs the broker of deploy/kafka/kafka.sh")
    told = run_kafka_script({"BROKERS": "1"}, "secure")
    if told.returncode != 0:
        _without(told.stderr.strip())
    kafka = yaml.safe_load(told.stdout)["kafka"]
    return SecureListener(kafka["bootstrap_servers"], Path(kafka["properties"]["ssl.ca.location"]), kafka_bootstrap)


def _without(why: str) -> NoReturn:
    if os.environ.get("REQUIRE_KAFKA") == "1":
        pytest.fail(why)
    pytest.skip(why)


def _free_ports() -> int:
    """The first of so many ports in a row that nobody listens on, below those that systems give to outgoing calls."""
    while True:
        first = random.randrange(20_000, 30_000, NODE_PORTS)
        try:
            for port in range(first, first + NODE_PORTS * len(NODES)):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first


def _make_internal_topics(bootstrap_servers: str) -> None:
    """They come with the first group and the first transaction; questions in that moment are turned away."""
    client = {"bootstrap.servers": bootstrap_servers, "log_level": 0}
    producer = Producer({**client, "transactional.id": "first"})
    producer.init_transactions(SETTLE_S)
    producer.close()
    consumer = Consumer({**client, "group.id": "first"})
    deadline = time.monotonic() + SETTLE_S
    while True:
        try:
            consumer.committed([TopicPartition(INTERNAL_TOPICS["group"], 0)], timeout=SETTLE_S)
            break
        except KafkaException:
            assert time.monotonic() < deadline
            time.sleep(PAUSE_S)
    consumer.close()
