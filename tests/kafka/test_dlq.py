"""`streamer dlq` on dead letters that `streamer run` made, and on many that are made for it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
import yaml
from confluent_kafka import Message

from streamer.encode import DEAD_LETTER_HEADER
from streamer.records import Headers, Outbound
from tests.commands import Command

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

pytestmark = pytest.mark.kafka

HOSTILE = b"\x1b]0;owned\x07\x1b[31m\xe2\x80\xaeevil\r\n"
Dlq: TypeAlias = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dlq(command: Command) -> Command:
    """Runs `streamer dlq ARGUMENTS`; what it says moves no cursor."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code, out, err = command("dlq", *arguments)
        assert "\x1b" not in out + err
        return code, out, err

    return run


@dataclass
class Road:
    """Topics of one test, and `streamer run` on them."""

    broker: RoadBroker
    name: str
    folder: Path

    def topic(self, part: str) -> str:
        return f"{self.name}-{part}"

    def settings(self, **stream: Any) -> Path:
        content = {
            "kafka": {"bootstrap_servers": self.broker.bootstrap_servers, "group_id": self.name},
            "model": {"name": "fake"},
            "http": {"enabled": False},
            "limits": {"max_dead_letter_bytes": 1000},
            "label_sets": {"tickets": {"facets": {"mood": {"labels": ["bad", "good"]}}}},
            "streams": [
                {
                    "topic": self.topic("in"),
                    "output": self.topic("out"),
                    "dead_letter": self.topic("dead"),
                    "label_set": "tickets",
                    "max_value_bytes": 2000,
                    "pass_headers": ["redrive-of"],
                    **stream,
                }
            ],
        }
        path = self.folder / "streamer.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def read(self, part: str) -> list[Message]:
        return self.broker.read_all(self.topic(part))

    def label(self, settings: Path, ended: int) -> None:
        """Let `streamer run` go until so many records have ended, then stop it."""
        with running(self.folder / "log", "run", "-c", str(settings)) as process:
            deadline_s = time.monotonic() + 60
            while len(self.read("out")) + len(self.read("dead")) < ended:
                assert process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline_s, "not all records ended"
                time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


@contextmanager
def running(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamer", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture
def road(kafka_road: RoadBroker, unique: str, tmp_path: Path) -> Road:
    road = Road(kafka_road, unique, tmp_path)
    for part, partitions in (("in", 2), ("out", 1), ("dead", 3), ("side", 1)):
        kafka_road.create_topic(road.topic(part), partitions)
    return road


def headers(message: Message) -> list[tuple[str, bytes]]:
    return list(message.headers() or [])  # type: ignore[arg-type]  # a list of pairs when read


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_dead_letters_of_a_run_are_listed_explained_mended_and_redriven(road: Road, dlq: Command) -> None:
    def record(key: str, value: bytes | None, own: Headers = ()) -> Outbound:
        return Outbound(road.topic("in"), key.encode(), value, own, None, False)

    mendable = [record(f"m{n}", b'{"body": "late again %d"}' % n, (("trace", b"%d" % n),)) for n in range(10)]
    others = [
        record("xml", b"<xml/>"),
        record("null", None),
        record("nothing", b'{"id": 1}'),
        record("number", b'{"text": 3}'),
        record("large", b'{"text": "' + b"x" * 3000 + b'"}'),
        Outbound(road.topic("in"), HOSTILE, HOSTILE, (("evil", HOSTILE),), None, False),
    ]
    road.broker.produce([*mendable, record("good", b'{"text": "fine"}'), *others])
    settings = str(road.settings(text=["/text"]))
    road.label(Path(settings), ended=17)

    # list
    code, out, err = dlq("list", "-c", settings, "--json")
    assert (code, err) == (0, "")
    letters = lines(out)
    wanted = {"no_text": 11, "not_json": 2, "null_value": 1, "text_not_string": 1, "value_too_large": 1}
    assert Counter(letter["code"] for letter in letters) == wanted
    by_key = {letter["key"]: letter for letter in letters}
    assert by_key["large"]["cut"]
    code, out, _ = dlq("list", "-c", settings)
    assert [row.split()[0] for row in out.splitlines()[1:]] == list(wanted)[:2] + sorted(list(wanted)[2:])
    assert out.splitlines()[1].split()[:4] == ["no_text", road.topic("in"), "tickets", "11"]
    code, out, _ = dlq("list", "-c", settings, "--records", "--code", "not_json", "--code", "null_value")
    assert by_key["xml"]["position"] in out
    assert r"\x1b]0;owned\x07\x1b[31m\u202eevil" in out
    assert by_key["m1"]["position"] not in out
    assert len(lines(dlq("list", "-c", settings, "--json", "--limit", "4")[1])) == 4
    assert len(lines(dlq("list", "-c", settings, "--json", "--source-topic", "other")[1])) == 0
    assert len(lines(dlq("list", "-c", settings, "--json", "--since", "1h")[1])) == 16
    assert "no dead letters" in dlq("list", "-c", settings, "--since", "end")[1]

    # explain
    for position in (by_key["xml"]["position"], by_key["xml"]["record"]):
        code, out, _ = dlq("explain", position, "-c", settings)
        assert code == 0
        for part in (by_key["xml"]["position"], by_key["xml"]["record"], "not_json", "expects JSON", "6 bytes: <xml/>"):
            assert part in out
    assert "cut to 1000 bytes of 3012" in dlq("explain", by_key["large"]["position"], "-c", settings)[1]
    evil = by_key[HOSTILE.decode()]["position"]
    assert r"\u202eevil\r\n" in dlq("explain", evil, "-c", settings)[1]
    code, _, err = dlq("explain", f"{road.topic('dead')}-0-999", "-c", settings)
    assert code == 2
    assert f"no dead letter stands at {road.topic('dead')}-0-999" in err
    code, _, err = dlq("explain", f"{road.topic('in')}-0-999", "-c", settings)
    assert code == 2
    assert "no dead letter of the record" in err

    # dry run, and nobody to ask: nothing is sent
    code, out, _ = dlq("redrive", "-c", settings, "--code", "no_text", "--dry-run")
    assert code == 0
    assert f"{by_key['m3']['position']} (no_text, record {by_key['m3']['record']}) -> {road.topic('in')}" in out
    assert "11 records to send" in out
    code, _, err = dlq("redrive", "-c", settings)
    assert code == 2
    assert "--yes" in err
    assert len(road.read("in")) == 17

    # mended and redriven: once, however often it is asked for
    code, out, _ = dlq("redrive", "-c", settings, "--code", "no_text", "--limit", "4", "--yes")
    assert (code, out.splitlines()[0]) == (0, "4 records sent, all of them acknowledged")
    code, out, _ = dlq("redrive", "-c", settings, "--code", "no_text", "--yes")
    assert (code, out.splitlines()[0]) == (0, "7 records sent, all of them acknowledged")
    code, out, _ = dlq("redrive", "-c", settings, "--code", "no_text", "--yes")
    assert code == 0
    assert "0 records sent" in out
    assert "11 records not sent: redriven before" in out
    assert len(road.read("in")) == 28
    road.label(road.settings(text=["/text", "/body"]), ended=28)
    labelled = {message.key(): dict(headers(message)) for message in road.read("out")}
    assert labelled == {
        b"good": {},
        **{b"m%d" % n: {"redrive-of": by_key[f"m{n}"]["position"].encode()} for n in range(10)},
    }
    sent = {message.key(): message for message in road.read("in") if dict(headers(message)).get("redrive-of")}
    assert sent[b"m7"].value() == b'{"body": "late again 7"}'
    assert headers(sent[b"m7"]) == [
        ("trace", b"7"),
        ("redrive-of", by_key["m7"]["position"].encode()),
        ("redrive-count", b"1"),
    ]

    # what ends among the dead letters again is a new one, and shows how often it was tried
    back = [letter for letter in lines(dlq("list", "-c", settings, "--json")[1]) if letter["redrives"]]
    assert [(letter["key"], letter["redrives"]) for letter in back] == [("nothing", 1)]
    code, out, _ = dlq("redrive", "-c", settings, back[0]["position"], "--max-redrives", "1", "--yes")
    assert code == 1
    assert "as often as --max-redrives allows" in out

    # what cannot be sent is told
    code, out, _ = dlq("redrive", "-c", settings, "--code", "value_too_large", "--yes")
    assert code == 1
    assert "1 records not sent: not whole any more" in out
    code, out, _ = dlq("redrive", "-c", settings, by_key["xml"]["position"], f"{road.topic('in')}-0-999", "--yes")
    assert code == 1
    assert "1 records sent" in out
    assert "1 records not sent: not found" in out

    # elsewhere
    side = road.topic("side")
    code, out, _ = dlq("redrive", "-c", settings, "--code", "not_json", "--to", side, "--yes")
    assert code == 0
    assert [message.value() for message in road.read("side")] == [HOSTILE]  # the other one was sent back above
    code, out, _ = dlq("redrive", "-c", settings, "--code", "not_json", "--to", side, "--yes", "--again")
    assert code == 0
    assert [message.value() for message in road.read("side")].count(HOSTILE) == 2
    for target, says in ((road.topic("dead"), "that is where the dead letters come from"), ("nowhere", "no topic")):
        code, _, err = dlq("redrive", "-c", settings, "--to", target, "--yes")
        assert code == 2
        assert says in err


def dead_letter(road: Road, number: int, **changed: str) -> Outbound:
    told: Mapping[str, str] = {
        "code": "engine_out_of_memory",
        "message": "m",
        "topic": road.topic("in"),
        "partition": "0",
        "offset": str(number),
        "timestamp-ms": "",
        "label-set": "tickets",
        **changed,
    }
    marks = tuple((DEAD_LETTER_HEADER + name, text.encode()) for name, text in told.items())
    return Outbound(road.topic("dead"), b"%d" % number, b'{"text": "%d"}' % number, marks, None, False)


@pytest.mark.parametrize(("number", "most_twice"), [(signal.SIGTERM, 0), (signal.SIGKILL, 500)])
def test_a_redrive_that_is_stopped_goes_on_where_it_was(
    road: Road, dlq: Command, number: signal.Signals, most_twice: int
) -> None:
    road.broker.produce([dead_letter(road, n) for n in range(5000)])
    settings = str(road.settings())
    with running(road.folder / "log", "dlq", "redrive", "-c", settings, "--yes", "--rate", "2000") as process:
        while not road.read("in"):
            assert process.poll() is None
        time.sleep(0.3)  # at some moment of it
        process.send_signal(number)
        assert process.wait(30) == (130 if number == signal.SIGTERM else -number)
    before = len(road.read("in"))
    assert 0 < before < 5000
    code, out, err = dlq("redrive", "-c", settings, "--yes")
    assert (code, err) == (0, "")
    times = Counter(dict(headers(message))["redrive-of"] for message in road.read("in"))
    assert len(times) == 5000
    assert sum(times.values()) - 5000 <= most_twice
    assert f"{5000 - before + sum(times.values()) - 5000:,} records sent" in out


@pytest.mark.parametrize(("answer", "code", "sent"), [("n", 1, 0), ("y", 0, 3)])
def test_on_a_terminal_it_shows_what_it_would_send_and_asks(
    road: Road, dlq: Command, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, sent: int
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    road.broker.produce([dead_letter(road, n) for n in range(3)])
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    found, out, _ = dlq("redrive", "-c", str(road.settings()))
    assert found == code
    assert "3 records to send" in out
    assert "Send 3 records?" in out
    assert ("nothing was sent" in out) is (sent == 0)
    assert len(road.read("in")) == sent


def test_without_settings_the_topics_are_named(road: Road, dlq: Command) -> None:
    road.broker.produce(
        [
            dead_letter(road, 0),
            dead_letter(road, 1, topic=road.topic("side")),
            Outbound(road.topic("dead"), None, b"what is this", (), None, False),
        ]
    )
    place = ("--bootstrap", road.broker.bootstrap_servers, "--topic", road.topic("dead"))
    assert sorted(str(letter["record"]) for letter in lines(dlq("list", *place, "--json")[1])) == [
        "None", f"{road.topic('in')}-0-0", f"{road.topic('side')}-0-1"
    ]  # fmt: skip
    assert "engine_out_of_memory" in dlq("explain", f"{road.topic('in')}-0-0", *place)[1]
    code, _, err = dlq("redrive", *place, "--yes")
    assert code == 2
    assert "--source-topic" in err
    code, out, _ = dlq("redrive", *place, "--yes", "--source-topic", road.topic("in"))
    assert code == 0
    assert (len(road.read("in")), len(road.read("side"))) == (1, 0)
    # a header does not choose a topic that nobody named
    code, out, _ = dlq("redrive", "-c", str(road.settings()), "--yes")
    assert code == 1
    for says in ("1 records not sent: redriven before", "from a topic that is not an input", "no dead letters of"):
        assert says in out
    assert (len(road.read("in")), len(road.read("side"))) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list",), "give a settings file with -c, or --bootstrap"),
        (("list", "--topic", "t"), "give a settings file with -c, or --bootstrap"),
        (("list", "-c", "SETTINGS", "--bootstrap", "b:1"), "leave them out with -c"),
        (("list", "-c", "SETTINGS", "--since", "never"), "--since 'never': write 2h ago"),
        (("list", "-c", "SETTINGS", "--topic", "not-there"), "has no topic 'not-there'"),
        (("explain", "what", "-c", "SETTINGS"), "write topic-partition-offset"),
        (("redrive", "what", "-c", "SETTINGS", "--yes"), "write topic-partition-offset"),
        (("redrive", "-c", "SETTINGS", "--rate", "0", "--yes"), "--rate"),
    ],
)
def test_mistakes_are_one_line(road: Road, dlq: Command, arguments: tuple[str, ...], says: str) -> None:
    settings = str(road.settings())
    code, _, err = dlq(*(settings if one == "SETTINGS" else one for one in arguments))
    assert code == 2
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
