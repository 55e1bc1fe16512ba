"""Fixtures that tests of several packages share."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import string
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from xdist.scheduler import LoadScopeScheduling

from streamer.__main__ import main
from streamer.records import Outbound
from streamer.transport.embedded import EmbeddedBroker
from streamer.transport.kafka_admin import create_topics
from streamer.transport.kafka_client import GroupProtocol, Properties
from tests.commands import Command

KAFKA_SCRIPT = Path(__file__).parents[1] / "deploy" / "kafka" / "kafka.sh"


CLUSTER_FILES = ("test_cluster.py", "test_faults.py", "test_transactional_sink.py")


class ByFixture(LoadScopeScheduling):  # type: ignore[misc]
    """Tests that need three brokers go to one worker, those of a file on Kafka or with a browser share what it sets up,
    others go wherever there is room."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.endswith(CLUSTER_FILES):
            return "cluster"
        return file if "tests/kafka/" in file or file.endswith("test_browser.py") else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFixture:
    return ByFixture(config, log)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Commands run inside a test configure the log of the whole process: the next test finds it as it was."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs `streamer ARGUMENTS` in this process; returns exit code, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamer", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capfd.readouterr()
        code = exit_.value.code
        return (code if isinstance(code, int) else 1), out, err

    return run


@pytest.fixture(scope="session")
def tiny_bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model directory of the bundled architecture: random weights, hidden 32, 2 layers, 47 text positions.

    Its tokenizer spells: every latin letter, digit and punctuation mark is a token. While it is in use torch keeps
    to one thread: work this small only waits for a second one.
    """
    import torch  # here, so that tests without a model do not load it

    from streamer.engine.independent import IndependentConfig, IndependentLabelModel
    from streamer.engine.loading import save_independent

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tokenizer = _spelling_tokenizer()
    encoder = {
        "vocab_size": 128,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 48,
        "type_vocab_size": 2,
    }
    model = IndependentLabelModel(
        IndependentConfig(encoder=encoder, query_position=47, label_tokens=12, scorer_hidden=16)
    )
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "LayerNorm" not in name and weight.dim():
                weight.normal_(0.0, 0.15, generator=generator)
    directory = tmp_path_factory.mktemp("tiny-bundled")
    save_independent(model, directory, tokenizer=tokenizer, dtype=torch.float32)
    yield directory
    torch.set_num_threads(threads)


def _spelling_tokenizer() -> str:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    within = [f"##{sign}" for sign in string.ascii_lowercase + string.digits]
    signs = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    vocabulary = {token: i for i, token in enumerate([*special, *signs, *within])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    )
    tokenizer.add_special_tokens(special)
    text: str = tokenizer.to_str()
    return text


@dataclass(frozen=True)
class RoadBroker:
    """A broker under test, and a plain client to look at it with. Waits are bounded; topics made here are removed."""

    name: str
    bootstrap_servers: str
    embedded: EmbeddedBroker | None
    made: list[str] = field(default_factory=list)

    def properties(self, group_protocol: GroupProtocol) -> Properties:
        return {} if self.embedded is None else self.embedded.client_properties(group_protocol)

    def create_topic(self, topic: str, partitions: int = 4, settings: Mapping[str, str] | None = None) -> str:
        """The embedded broker always makes 4 partitions and knows no settings."""
        if self.embedded is not None:
            assert (partitions, settings) == (4, None), "the embedded broker cannot do this"
            self.embedded.create_topics([topic])
        else:
            create_topics(self.bootstrap_servers, {}, {topic: partitions}, settings or {}, timeout_s=30)
            self.made.append(topic)
        return topic

    def produce(self, messages: Sequence[Outbound], partition: int = -1) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap_servers, **self.properties("consumer")})
        failed: list[object] = []
        for one in messages:
            producer.produce(
                one.topic,
                one.value,
                one.key,
                partition,
                headers=list(one.headers),
                timestamp=one.timestamp_ms or 0,
                on_delivery=lambda error, _message: failed.append(error) if error else None,
            )
        assert producer.flush(30) == 0
        producer.close()
        assert not failed, failed

    def read_all(self, topic: str, timeout_s: float = 30) -> list[Message]:
        """All that a read_committed reader finds now, in order within each partition."""
        reader = Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": f"reader-{uuid.uuid4().hex}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                **self.properties("classic"),
            }
        )
        found: list[Message] = []
        try:
            parts = reader.list_topics(topic, timeout=timeout_s).topics[topic].partitions
            ends = {part: reader.get_watermark_offsets(TopicPartition(topic, part), timeout_s)[1] for part in parts}
            left = [TopicPartition(topic, part, 0) for part, end in ends.items() if end > 0]
            reader.assign(left)
            deadline = time.monotonic() + timeout_s
            while any(at.offset < ends[at.partition] for at in reader.position(left)):
                assert time.monotonic() < deadline, f"{topic}: {len(found)} messages read, more expected"
                for message in reader.consume(1000, 0.05):
                    assert message.error() is None, message.error()
                    found.append(message)
        finally:
            reader.close()
        return found

    def remove_topics(self) -> None:
        if self.made:
            client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
            for answer in client.delete_topics(self.made, request_timeout=30).values():
                answer.result()


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """Address of an Apache Kafka broker: the one named by KAFKA_BOOTSTRAP_SERVERS, one that runs already, or one
    started for these tests and stopped after them. Without any, tests skip; with REQUIRE_KAFKA=1 they fail."""
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        yield named
        return
    base = tmp_path_factory.getbasetemp()
    with shared_broker(base if worker_id == "master" else base.parent) as address:
        yield address


@contextmanager
def shared_broker(folder: Path) -> Iterator[str]:
    """The broker of kafka.sh. Its users count themselves in a file: the last one stops it, if the first started it."""
    with _counted(folder) as users:
        running = _kafka_script("status")
        address = running.stdout.strip() if running.returncode == 0 else _start_kafka()
        ours = bool(users) or running.returncode != 0
        if ours:
            users.append("one")
    yield address
    if ours:
        with _counted(folder) as users:
            users.pop()
            if not users:
                assert _kafka_script("down").returncode == 0


@contextmanager
def _counted(folder: Path) -> Iterator[list[str]]:
    """A list that all processes of a test run share; one at a time has it."""
    with (folder / "kafka-users").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        users = file.read().split()
        yield users
        file.truncate(0)
        file.write("\n".join(users))


def _start_kafka() -> str:
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    started = None if missing else _kafka_script("up")
    if started is None or started.returncode != 0:
        why = f"no Apache Kafka: {started.stderr.strip() if started else ' and '.join(missing) + ' missing'}"
        if os.environ.get("REQUIRE_KAFKA") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return started.stdout.strip()


@pytest.fixture(scope="session")
def kafka_sasl_bootstrap(kafka_bootstrap: str) -> str:
    """The same broker's listener with a login; its one user, nobody with local-test-only, has no rights at all."""
    if os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        pytest.skip("needs the broker of deploy/kafka/kafka.sh")
    host, _, port = kafka_bootstrap.partition(":")
    return f"{host}:{int(port) + 2}"


def _kafka_script(verb: str) -> subprocess.CompletedProcess[str]:
    one = {**os.environ, "BROKERS": "1"}
    return subprocess.run([KAFKA_SCRIPT, verb], capture_output=True, text=True, check=False, env=one)


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(brokers=1) as broker:
        yield broker


@pytest.fixture
def embedded_road(embedded_broker: EmbeddedBroker) -> RoadBroker:
    return RoadBroker("embedded", embedded_broker.bootstrap_servers, embedded_broker)


@pytest.fixture
def kafka_road(kafka_bootstrap: str) -> Iterator[RoadBroker]:
    road = RoadBroker("kafka", kafka_bootstrap, None)
    yield road
    road.remove_topics()


@pytest.fixture(params=["embedded_road", pytest.param("kafka_road", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> RoadBroker:
    """The same test on the embedded broker and on Apache Kafka."""
    road: RoadBroker = request.getfixturevalue(request.param)
    return road


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """A name for topics and groups that no other test uses."""
    return f"{re.sub('[^A-Za-z0-9]+', '-', request.node.name)[:60]}-{uuid.uuid4().hex[:8]}"
