"""`streamer run` through TLS and a login with the rights of deploy/kafka/acls.md, and what it says without them.

Every process is the real one; the password is planted, and looked for wherever others could read it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from streamer.records import Outbound

if TYPE_CHECKING:
    from tests.conftest import RoadBroker
    from tests.kafka.conftest import SecureListener

pytestmark = pytest.mark.kafka

ACLS = Path(__file__).parents[2] / "deploy" / "kafka" / "acls.md"
WAIT_S = 60.0
PAUSE_S = 0.1
RECORDS = 50


@dataclass(frozen=True, slots=True)
class Ended:
    """What a process left behind: its exit code and its streams."""

    code: int
    out: str
    err: str


def listed_rights(names: Mapping[str, str], without: str | None) -> list[tuple[str, str, str]]:
    """All that acls.md lists, but for the lines about the word `without`; `names`: its words -> real names."""
    rights = []
    for line in ACLS.read_text(encoding="utf-8").splitlines():
        words = shlex.split(line) if line.startswith("acls --") else [""]
        if words[-1] not in ("", without):
            operations = [words[i + 1] for i, word in enumerate(words) if word == "--operation"]
            rights += [(words[-2].removeprefix("--"), names[words[-1]], operation) for operation in operations]
    return rights


@pytest.fixture
def names(kafka_road: RoadBroker, unique: str) -> dict[str, str]:
    """The words of acls.md -> names of this test; the topics are there."""
    topics = {word: f"{unique}-{word.lower()}" for word in ("INPUT", "OUTPUT", "ROUTE", "DEAD_LETTER")}
    for topic in topics.values():
        kafka_road.create_topic(topic, 2)
    return {**topics, "GROUP": f"{unique}-group", "TRANSACTIONAL_ID": f"{unique}-id"}


def produce(road: RoadBroker, names: Mapping[str, str]) -> None:
    """Records that go to the output, the route and the dead letters."""
    values = [b'{"text": "record %d"}' % n for n in range(RECORDS - 1)]
    road.produce([Outbound(names["INPUT"], None, value, (), None, False) for value in [*values, b"no json"]])


def start(
    folder: Path,
    *,
    bootstrap: str,
    properties: Mapping[str, Any],
    names: Mapping[str, str],
    delivery: str,
    port: int | None,
) -> subprocess.Popen[str]:
    """`streamer run`; its metrics are at `port`."""
    content = {
        "kafka": {
            "bootstrap_servers": bootstrap,
            "group_id": names["GROUP"],
            "transactional_id": names["TRANSACTIONAL_ID"],
            "properties": dict(properties),
        },
        "delivery": delivery,
        "model": {"name": "fake"},
        "http": {"enabled": port is not None, "port": port or 0},
        "log": {"level": "debug"},
        "label_sets": {
            "l": {
                "facets": {"f": {"labels": ["a", "b"]}},
                "routes": [{"when": {"facet": "f", "label": "b"}, "to": names["ROUTE"]}],
            }
        },
        "streams": [
            {"topic": names["INPUT"], "output": names["OUTPUT"], "dead_letter": names["DEAD_LETTER"], "label_set": "l"}
        ],
    }
    settings = folder / "streamer.yaml"
    settings.write_text(yaml.safe_dump(content), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "streamer", "run", "-c", settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def end(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process to end; one that does not is killed, which its exit code tells."""
    try:
        out, err = process.communicate(timeout=WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return Ended(process.returncode, out, err)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def seen_by_others(process: subprocess.Popen[str], port: int) -> str:
    """The arguments of the process and its children, and its metrics once it serves them."""
    deadline = time.monotonic() + WAIT_S
    while True:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                metrics = answer.read().decode()
            me = psutil.Process(process.pid)
            return "\n".join([*(" ".join(one.cmdline()) for one in (me, *me.children(recursive=True))), metrics])
        time.sleep(PAUSE_S)


def await_written(road: RoadBroker, names: Mapping[str, str]) -> list[int]:
    """How many events, routed events and dead letters there are once every record has become one of them."""
    deadline = time.monotonic() + WAIT_S
    while True:
        written = [len(road.read_all(names[word])) for word in ("OUTPUT", "ROUTE", "DEAD_LETTER")]
        if sum(written) >= RECORDS:
            return written
        assert time.monotonic() < deadline, written
        time.sleep(PAUSE_S)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_records_are_labelled_and_the_password_stays_secret(
    kafka_road: RoadBroker, kafka_secure: SecureListener, names: dict[str, str], tmp_path: Path, delivery: str
) -> None:
    produce(kafka_road, names)
    port = free_port()
    with kafka_secure.user() as user, contextlib.ExitStack() as stack:
        user.grant(listed_rights(names, "TRANSACTIONAL_ID" if delivery == "at_least_once" else None))
        process = start(
            tmp_path,
            bootstrap=kafka_secure.bootstrap_servers,
            properties=user.properties(tmp_path / "password"),
            names=names,
            delivery=delivery,
            port=port,
        )
        stack.callback(process.kill)
        written = await_written(kafka_road, names)
        shown = seen_by_others(process, port)
        process.send_signal(signal.SIGTERM)
        ended = end(process)
    assert ended.code == 0, ended.err
    assert sum(written) == RECORDS
    assert all(written), written
    for text in (shown, ended.out, ended.err):
        assert user.password not in text


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is wrong with a start, and what the user is told. `says`: a pattern; capitals are the words of acls.md."""

    says: str
    properties: Mapping[str, str] = field(default_factory=dict)
    without: str | None = None
    delivery: str = "at_least_once"


REFUSALS = {
    "wrong password": Refusal("refuses the login .*Authentication failed", {"sasl.password": "another"}),
    "no TLS": Refusal("cannot reach Kafka at .*check .*security properties", {"security.protocol": "PLAINTEXT"}),
    "authority not trusted": Refusal("certificate verify failed", {"ssl.ca.location": "probe"}),
    "input not granted": Refusal(r"lacks 'INPUT' \(input\); .* grant the right", without="INPUT"),
    "output not granted": Refusal(r"lacks 'OUTPUT' \(output .*\); .* grant the right", without="OUTPUT"),
    "output not to be written": Refusal("topic 'OUTPUT': .*authorization failed", without="OUTPUT"),
    "group not granted": Refusal("Kafka denies access .*give this user the rights", without="GROUP"),
    "transactional id not granted": Refusal(
        "Kafka denies access .*give this user the rights", without="TRANSACTIONAL_ID", delivery="exactly_once"
    ),
}


def test_what_is_wrong_is_one_line(
    kafka_road: RoadBroker, kafka_secure: SecureListener, names: dict[str, str], tmp_path: Path
) -> None:
    """All at once, since most of the time is spent waiting for an answer that does not come."""
    produce(kafka_road, names)

    def refused(name: str) -> str | None:
        one = REFUSALS[name]
        folder = tmp_path / name
        folder.mkdir()
        with kafka_secure.user() as user:
            user.grant(listed_rights(names, one.without))
            if name == "output not to be written":
                user.grant([("topic", names["OUTPUT"], "Describe")])
            properties = {**user.properties(folder / "password"), **one.properties}
            process = start(
                folder,
                bootstrap=kafka_secure.bootstrap_servers,
                properties=properties,
                names=names,
                delivery=one.delivery,
                port=None,
            )
            return wrong_with(end(process), secret=user.password, says=one.says, names=names)

    with ThreadPoolExecutor(len(REFUSALS)) as pool:
        found = dict(zip(REFUSALS, pool.map(refused, REFUSALS), strict=True))
    assert found == dict.fromkeys(REFUSALS)


def wrong_with(ended: Ended, *, secret: str, says: str, names: Mapping[str, str]) -> str | None:
    """None where one line tells what `says` says, exit code 1 or 2."""
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    pattern = re.sub("[A-Z_]{5,}", lambda word: re.escape(names.get(word[0], word[0])), says)
    right = (
        ended.code in (1, 2)
        and len(errors) == 1
        and ended.err.splitlines()[-1] == errors[0]
        and re.search(pattern, errors[0])
        and secret not in ended.out + ended.err
        and "Traceback" not in ended.err
    )
    return None if right else f"exit {ended.code}: {ended.err[-2000:]}"
