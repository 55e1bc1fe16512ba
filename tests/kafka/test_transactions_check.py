"""What a check finds of transactions on a real broker, and how a hanging one is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from streamer.app import Connection
from streamer.check.abort import abort_transactions
from streamer.check.findings import Finding, Level
from streamer.check.transactions import check_transactions
from streamer.errors import UsageError
from streamer.records import Partition
from streamer.settings import Settings, build_settings
from streamer.transport.kafka_client import Properties
from streamer.transport.kafka_transactions_admin import TransactionAdmin

if TYPE_CHECKING:
    from tests.conftest import RoadBroker
    from tests.kafka.conftest import SecureListener

pytestmark = [
    pytest.mark.kafka,
    # kafka-python reads its message schemas by a call that Python 3.11 and 3.12 call deprecated
    pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning"),
]

ANONYMOUS: Properties = {}
NO_RIGHTS: Properties = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "nobody",
    "sasl.password": "local-test-only",
}
# opens a transaction with a record in every partition and, where a group is given, its offsets; then waits
HOLDER = """
import sys, time
from confluent_kafka import Consumer, Producer, TopicPartition
servers, name, topic, group, timeout_ms = sys.argv[1:]
producer = Producer({"bootstrap.servers": servers, "transactional.id": name, "transaction.timeout.ms": int(timeout_ms)})
producer.init_transactions(30)
producer.begin_transaction()
for partition in range(2):
    producer.produce(topic, b"held", partition=partition)
assert producer.flush(30) == 0
if group:
    reader = Consumer({"bootstrap.servers": servers, "group.id": group})
    at = [TopicPartition(topic.removesuffix(".out") + ".in", 0, 1)]
    producer.send_offsets_to_transaction(at, reader.consumer_group_metadata(), 30)
print("open", flush=True)
time.sleep(300)
"""
# tells why transactions cannot be listed
LISTER = """
import json, sys
from streamer.errors import UsageError
from streamer.transport.kafka_transactions_list import transaction_list
try:
    with transaction_list(sys.argv[1], json.loads(sys.argv[2]), 2.0):
        pass
except UsageError as error:
    print(error)
"""


@pytest.fixture
def names(kafka_road: RoadBroker, unique: str) -> str:
    """Topics of one stream, two partitions each."""
    for use in ("in", "out", "dead", "other"):
        kafka_road.create_topic(f"{unique}.{use}", 2)
    return unique


@pytest.fixture
def kafka_python() -> None:
    """The extra `transactions` is installed."""
    pytest.importorskip("kafka")


@pytest.fixture
def no_kafka_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kafka", None)


def settings_of(road: RoadBroker, names: str, **kafka: Any) -> Settings:
    return build_settings(content(road.bootstrap_servers, names, **kafka), origin="test")


def content(bootstrap_servers: str, names: str, **kafka: Any) -> dict[str, Any]:
    return {
        "kafka": {"bootstrap_servers": bootstrap_servers, "group_id": names, **kafka},
        "delivery": "exactly_once",
        "model": {"name": "fake"},
        "limits": {"transaction_timeout_s": 1.0},
        "http": {"enabled": False},
        "label_sets": {"l": {"facets": {"f": {"labels": ["a", "b"]}}}},
        "streams": [
            {"topic": f"{names}.in", "output": f"{names}.out", "dead_letter": f"{names}.dead", "label_set": "l"}
        ],
    }


def look(settings: Settings, names: str, properties: Properties = ANONYMOUS) -> list[Finding]:
    connection = Connection(settings.kafka.bootstrap_servers, properties, embedded=False)
    topics = {f"{names}.{use}": 2 for use in ("in", "out", "dead")}
    return list(check_transactions(settings, connection, topics, reach_timeout_s=10))


def abort(settings: Settings, *ids: str) -> list[str]:
    connection = Connection(settings.kafka.bootstrap_servers, {}, embedded=False)
    return list(abort_transactions(settings, connection, ids, reach_timeout_s=10))


def held(road: RoadBroker, topic: str) -> set[int]:
    found = TransactionAdmin(road.bootstrap_servers, {}, 10).held_back([Partition(topic, 0), Partition(topic, 1)])
    return {at.partition for at in found}


def hold(
    road: RoadBroker, name: str, topic: str, *, group: str = "", timeout_ms: int = 600_000
) -> subprocess.Popen[str]:
    """A process with an open transaction."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, road.bootstrap_servers, name, topic, group, str(timeout_ms)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def leave_open(road: RoadBroker, name: str, topic: str, **more: Any) -> None:
    """An open transaction whose process was killed."""
    with hold(road, name, topic, **more) as process:
        process.kill()
    assert process.returncode == -signal.SIGKILL


def until_older_than(seconds: float) -> None:
    """The broker's own clock says how old a transaction is."""
    time.sleep(seconds + 0.2)


def bad(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.OK]


@pytest.mark.usefixtures("kafka_python")
def test_without_transactions_all_is_in_order(kafka_road: RoadBroker, names: str) -> None:
    findings = look(settings_of(kafka_road, names), names)
    assert not bad(findings)
    assert findings[-1].what == "none of this group is open"
    assert "brokers take up to 900 s" in findings[0].what


@pytest.mark.usefixtures("kafka_python")
def test_a_dead_processs_transaction_is_named_and_ended(kafka_road: RoadBroker, names: str) -> None:
    settings, gone = settings_of(kafka_road, names), f"{names}-gone"
    leave_open(kafka_road, gone, f"{names}.out", group=names)
    until_older_than(1.0)
    (finding,) = bad(look(settings, names))
    assert finding.level is Level.ERROR
    assert finding.where == f"transaction '{gone}'"
    assert finding.what.startswith("Ongoing for ")
    assert f"{names}.out [0, 1]" in finding.what
    assert "no process of this group can take up the partitions whose offsets it holds" in finding.what
    assert finding.advice.startswith("the broker ends it in about 10 min")
    assert finding.advice.endswith(f"--abort-transactions {gone}")
    assert held(kafka_road, f"{names}.out") == {0, 1}

    (line,) = abort(settings, gone)
    assert line.startswith(f"aborted the transaction of '{gone}', open for ")
    assert not held(kafka_road, f"{names}.out")
    assert not bad(look(settings, names))
    assert abort(settings, gone) == [f"transactional id '{gone}' has no open transaction: nothing to abort"]


@pytest.mark.usefixtures("kafka_python")
def test_the_id_of_these_settings_is_ended_by_the_next_run(kafka_road: RoadBroker, names: str) -> None:
    settings = settings_of(kafka_road, names, transactional_id="of-its-own-" + names)
    leave_open(kafka_road, settings.transactional_id(), f"{names}.out")
    until_older_than(1.0)
    (finding,) = bad(look(settings, names))
    assert finding.level is Level.WARNING
    assert finding.advice.startswith("streamer run here ends it at its start")
    abort(settings, settings.transactional_id())
    assert not held(kafka_road, f"{names}.out")


@pytest.mark.usefixtures("kafka_python")
def test_a_living_process_is_left_alone(kafka_road: RoadBroker, names: str) -> None:
    settings = settings_of(kafka_road, names)
    patient = build_settings(
        {**content(kafka_road.bootstrap_servers, names), "limits": {"transaction_timeout_s": 60}}, origin="test"
    )
    name = f"{names}-alive"
    with hold(kafka_road, name, f"{names}.other", timeout_ms=60_000) as process:
        with pytest.raises(UsageError, match=f"writes to '{names}.other', which these settings do not name"):
            abort(settings, name)
        process.kill()
    with hold(kafka_road, name, f"{names}.out", timeout_ms=60_000) as process:
        with pytest.raises(UsageError, match="a living process may be at work"):
            abort(patient, name)
        process.kill()
    assert held(kafka_road, f"{names}.out") == {0, 1}
    with pytest.raises(UsageError, match="Kafka knows no transactional id"):
        abort(settings, f"{names}-never-seen")
    with pytest.raises(UsageError, match=f"'stranger' is not of group '{names}', whose ids begin with '{names}-'"):
        abort(settings, name, "stranger")
    assert held(kafka_road, f"{names}.out") == {0, 1}
    until_older_than(1.0)
    abort(settings, name)
    assert not held(kafka_road, f"{names}.out")


@pytest.mark.usefixtures("kafka_python")
def test_another_groups_transaction_is_told_by_what_it_holds_back(kafka_road: RoadBroker, names: str) -> None:
    """A prefix alone makes no id ours, nor does writing to our topics."""
    settings = settings_of(kafka_road, names)
    leave_open(kafka_road, f"{names}-other", f"{names}.other")
    leave_open(kafka_road, f"upstream\x1b[31m-{names}", f"{names}.in")
    until_older_than(1.0)
    (finding,) = bad(look(settings, names))
    assert finding.level is Level.WARNING
    assert finding.where == f"topic '{names}.in'"
    assert "partition 0 at offset 0 of 1, 1 at offset 0 of 1; nothing newer is read and labelled" in finding.what
    assert f"the transactional id 'upstream\\x1b[31m-{names}'" in finding.advice
    # what stands still is told under at_least_once, too
    plain = build_settings({**content(kafka_road.bootstrap_servers, names), "delivery": "at_least_once"}, origin="test")
    assert look(plain, names) == [finding]


@pytest.mark.usefixtures("no_kafka_python")
def test_without_kafka_python_only_what_stands_still_is_told(kafka_road: RoadBroker, names: str) -> None:
    settings = settings_of(kafka_road, names)
    leave_open(kafka_road, settings.transactional_id(), f"{names}.out", group=names)
    findings = look(settings, names)
    (note,) = [one for one in findings if one.where == "transactions"]
    assert "pip install 'streamer[transactions]'" in note.what
    output, offsets = bad(findings)
    assert output.where == f"topic '{names}.out'"
    assert "for at least 1.0 s: partition 0 at offset 0 of 1, 1 at offset 0 of 1; read_committed readers" in output.what
    assert "kafka-transactions.sh --bootstrap-server" in output.advice
    assert offsets.where == f"group '{names}'"
    assert offsets.what.startswith(f"its offsets of {names}.in [0] wait for an open transaction")

    with pytest.raises(UsageError, match=r"cannot be told from another group's, .* 'streamer\[transactions\]'"):
        abort(settings, f"{names}-gone")
    (line,) = abort(settings, settings.transactional_id())
    assert "if any was open" in line
    assert not bad(look(settings, names))


@pytest.mark.usefixtures("kafka_python")
def test_a_user_without_rights_is_told_which_are_needed(
    kafka_road: RoadBroker, kafka_sasl_bootstrap: str, names: str
) -> None:
    settings = build_settings(content(kafka_sasl_bootstrap, names), origin="test")
    (finding,) = bad(look(settings, names, NO_RIGHTS))
    assert "this user may not look at transactions (TransactionalIdAuthorizationFailed)" in finding.what
    assert f"grant Describe on transactional ids that begin with '{names}-'" in finding.advice
    connection = Connection(kafka_sasl_bootstrap, NO_RIGHTS, embedded=False)
    with pytest.raises(UsageError, match="this user may not look at transactions"):
        list(abort_transactions(settings, connection, [settings.transactional_id()], reach_timeout_s=10))


@pytest.mark.usefixtures("kafka_python")
def test_a_login_through_tls_lists_and_ends_it(
    kafka_road: RoadBroker, kafka_secure: SecureListener, names: str, tmp_path: Path
) -> None:
    gone = f"{names}-gone"
    leave_open(kafka_road, gone, f"{names}.out", group=names)
    until_older_than(1.0)
    with kafka_secure.user() as user:
        one = content(kafka_secure.bootstrap_servers, names, properties=user.properties(tmp_path / "password"))
        settings = build_settings(one, origin="test")
        topics = [("topic", f"{names}.{use}", "Read") for use in ("in", "out", "dead")]
        ids = [("transactional-id", name, "Write") for name in (gone, settings.transactional_id())]
        user.grant([*topics, *ids, ("group", names, "Read")])
        properties = settings.kafka.client_properties()
        (finding,) = bad(look(settings, names, properties))
        assert finding.where == f"transaction '{gone}'"
        # though this user may not see __consumer_offsets
        assert "no process of this group can take up the partitions whose offsets it holds" in finding.what
        connection = Connection(kafka_secure.bootstrap_servers, properties, embedded=False)
        (line,) = abort_transactions(settings, connection, [gone], reach_timeout_s=10)
        assert line.startswith(f"aborted the transaction of '{gone}'")
        findings = look(settings, names, properties)
        assert not bad(findings)
        assert "transaction.max.timeout.ms cannot be read (DescribeConfigs on the cluster)" in findings[0].what
        assert user.password not in str(findings)
    assert not held(kafka_road, f"{names}.out")


@pytest.mark.usefixtures("kafka_python")
def test_kafka_python_without_a_connection_is_one_line(kafka_bootstrap: str, kafka_sasl_bootstrap: str) -> None:
    """In a process of its own, because kafka-python leaves sockets open after a handshake that failed."""

    def refusal(servers: str, properties: Properties) -> str:
        command = [sys.executable, "-c", LISTER, servers, json.dumps(properties)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    login = refusal(kafka_sasl_bootstrap, {**NO_RIGHTS, "sasl.password": "sesame"})
    assert login.startswith(f"the library kafka-python cannot reach {kafka_sasl_bootstrap}: ")
    assert "sesame" not in login
    assert "Connection failed: " in refusal(kafka_bootstrap, {"security.protocol": "SSL"})


@pytest.mark.usefixtures("no_kafka_python")
def test_a_user_without_rights_cannot_abort(kafka_sasl_bootstrap: str, unique: str) -> None:
    settings = build_settings(content(kafka_sasl_bootstrap, unique), origin="test")
    connection = Connection(kafka_sasl_bootstrap, NO_RIGHTS, embedded=False)
    with pytest.raises(UsageError, match="grant this user Write on that transactional id"):
        list(abort_transactions(settings, connection, [settings.transactional_id()], reach_timeout_s=10))


@pytest.fixture
def settings_file(kafka_road: RoadBroker, names: str, tmp_path: Path) -> Path:
    path = tmp_path / "streamer.yaml"
    path.write_text(yaml.safe_dump(content(kafka_road.bootstrap_servers, names)))
    return path


@pytest.fixture
def runner(
    kafka_python: None, kafka_road: RoadBroker, names: str, settings_file: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """`streamer run` under exactly_once, with records to label."""
    from streamer.records import Outbound

    records = [Outbound(f"{names}.in", None, b'{"text": "a"}', (), None, dead_letter=False)] * 2_000
    kafka_road.produce(records)
    command = [sys.executable, "-m", "streamer", "run", "-c", str(settings_file)]
    environment = {**os.environ, "STREAMER_MODEL__SERVICE_TIME_MS": "2"}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        yield process
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.usefixtures("kafka_python")
def test_a_running_group_gives_no_warning(kafka_road: RoadBroker, names: str, runner: subprocess.Popen[bytes]) -> None:
    settings = settings_of(kafka_road, names)
    deadline = time.monotonic() + 60
    while not kafka_road.read_all(f"{names}.out"):
        assert runner.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    seen = 0
    while not seen:
        findings = look(settings, names)
        assert not bad(findings)
        seen += "of this group open, the oldest for" in findings[-1].what
        assert time.monotonic() < deadline, "no look fell into a transaction"
    assert runner.poll() is None


@pytest.mark.usefixtures("kafka_python")
def test_the_command_line_names_and_ends_it(kafka_road: RoadBroker, names: str, settings_file: Path) -> None:
    gone = f"{names}-gone"
    leave_open(kafka_road, gone, f"{names}.dead")
    until_older_than(1.0)

    def streamer(*more: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "streamer", "check", "-c", str(settings_file), *more]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "400"}
        )
        return done.returncode, done.stdout, done.stderr

    code, out, err = streamer()
    assert (code, err) == (1, "")
    assert f"transaction '{gone}'" in out
    code, out, err = streamer("--abort-transactions", gone)
    assert (code, err) == (0, "")
    assert out.startswith(f"aborted the transaction of '{gone}', open for ")
    code, out, err = streamer()
    assert (code, err) == (0, "")
    assert "none of this group is open" in out
    code, out, err = streamer("--abort-transactions", "stranger")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
