"""Three Apache Kafka brokers of a run's own, and who of them does what.

Enters: names of groups, transactional ids, topics. Leaves: brokers killed and started, their numbers by role.
Must not know: why a broker is killed, or who works with it.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from load_tests.harness import KAFKA_SCRIPT, REQUEST_S, LoadTestError

NODES = (1, 2, 3)
NODE_PORTS = 10  # from one node's first port to the next one's, as kafka.sh says
PROXIED_PORT, PROXY_PORT = 4, 5  # of these: where a proxy passes on to, and where it listens
GROUPS, TRANSACTIONS = "__consumer_offsets", "__transaction_state"
ASK_S = 5.0
PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes numbered from 1, run by deploy/kafka/kafka.sh with this environment."""

    bootstrap_servers: str
    environment: Mapping[str, str]

    def kill(self, node: int) -> None:
        """kill -9. Raises LoadTestError when it did not run."""
        done = _script(self.environment, "kill", str(node))
        if done.returncode != 0:
            raise LoadTestError(done.stderr.strip())

    def start(self, node: int) -> subprocess.Popen[bytes]:
        """Start it again; it serves clients when the process returned has ended with 0."""
        environment = {**os.environ, **self.environment}
        return subprocess.Popen([KAFKA_SCRIPT, "start", str(node)], env=environment, stdout=subprocess.DEVNULL)

    def coordinator(self, topic: str, name: str) -> int:
        """The node that looks after a group (GROUPS) or a transactional id (TRANSACTIONS)."""
        partitions = self._admin().list_topics(topic, timeout=ASK_S).topics[topic].partitions
        return int(partitions[abs_java_hash(name) % len(partitions)].leader)

    def leader(self, topic: str, partition: int) -> int:
        """The node that takes what is written to a partition."""
        return int(self._admin().list_topics(topic, timeout=ASK_S).topics[topic].partitions[partition].leader)

    def whole(self) -> bool:
        """Whether every replica of every topic is in sync."""
        topics = self._admin().list_topics(timeout=ASK_S).topics.values()
        return all(len(one.isrs) == len(one.replicas) for topic in topics for one in topic.partitions.values())

    def proxied_port(self, node: int) -> int:
        """Where a broker's listener PROXIED listens."""
        return self._first_port(node) + PROXIED_PORT

    def proxy_port(self, node: int) -> int:
        """Where that listener sends its clients: a proxy is to listen there."""
        return self._first_port(node) + PROXY_PORT

    def _first_port(self, node: int) -> int:
        return int(self.environment["KAFKA_PORT"]) + NODE_PORTS * (node - 1)

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})


def abs_java_hash(text: str) -> int:
    """Java's String.hashCode, made positive as Kafka's Utils.abs does: it tells the coordinator's partition."""
    value = 0
    for unit in memoryview(text.encode("utf-16-le")).cast("H"):
        value = (31 * value + unit) & 0xFFFF_FFFF
    signed = value - (1 << 32) if value >> 31 else value
    return 0 if signed == -(1 << 31) else abs(signed)


@contextmanager
def three_brokers(home: Path) -> Iterator[Cluster]:
    """Brokers with their data in `home`, on free ports; stopped when the context ends."""
    environment = {"BROKERS": "3", "KAFKA_HOME": str(home), "KAFKA_PORT": str(free_ports(NODE_PORTS * len(NODES)))}
    try:
        started = _script(environment, "up")
        if started.returncode != 0:
            raise LoadTestError(f"no Apache Kafka cluster: {started.stderr.strip()}")
        cluster = Cluster(started.stdout.strip(), environment)
        make_internal_topics(cluster.bootstrap_servers)
        yield cluster
    finally:
        _script(environment, "down")


def _script(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [KAFKA_SCRIPT, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on, below those that systems give to outgoing calls."""
    while True:
        first = random.randrange(20_000, 30_000, NODE_PORTS)
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first


def make_internal_topics(bootstrap_servers: str) -> None:
    """They come with the first group and the first transaction, and must be there before a coordinator is killed."""
    client = {"bootstrap.servers": bootstrap_servers, "log_level": 0}
    producer = Producer({**client, "transactional.id": "first"})
    producer.init_transactions(REQUEST_S)
    producer.close()
    consumer = Consumer({**client, "group.id": "first"})
    deadline_s = time.monotonic() + REQUEST_S
    try:
        while True:
            try:
                consumer.committed([TopicPartition(GROUPS, 0)], timeout=REQUEST_S)
                return
            except KafkaException as error:
                if time.monotonic() > deadline_s:
                    raise LoadTestError(f"the cluster does not serve groups: {error}") from None
                time.sleep(PAUSE_S)
    finally:
        consumer.close()
