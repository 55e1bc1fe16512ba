"""What is shown: bounded, and nothing that a record holds acts on the terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streamer.dlq.letters import DeadLetter
from streamer.dlq.redrive import Held, Tally
from streamer.dlq.show import (
    Overview,
    json_line,
    moment,
    records_table,
    redrive_line,
    show_letter,
    show_tally,
    shown_bytes,
)
from streamer.records import Outbound, Position
from streamer.terminal import printable

Make = Callable[..., DeadLetter]
HOSTILE = "\x1b]0;owned\x07\x1b[31m[bold]\u202eevil\x9b2J\r\x00"


def screen(show: Callable[[Console], None]) -> str:
    out = io.StringIO()
    show(Console(file=out, width=200, force_terminal=True, color_system=None, highlight=False))
    return out.getvalue()


def harmless(text: str) -> bool:
    return all(one.isprintable() or one == "\n" for one in text)


@given(st.text(max_size=100), st.integers(0, 50))
def test_printable_is_bounded_and_harmless(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert harmless(shown)
    assert "\n" not in shown
    assert shown.endswith("…") or len(text) <= limit


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (None, "null"),
        (b"", ""),
        (b"a\tb\x1b[0m\n", r"a\tb\x1b[0m\n"),
        ("\u202eä".encode(), r"\u202eä"),
        (b"\xff\xfe", "0xfffe"),
        ("ä".encode() * 11, "ä" * 10 + "…"),
        (b"\xff" * 6, "0xffffffffff…"),
        (b"ok\xc3", "ok"),  # a character that is cut
    ],
)
def test_bytes(content: bytes | None, shown: str) -> None:
    assert shown_bytes(content, 10) == shown


def test_moments() -> None:
    assert moment(1_700_000_000_000) == "2023-11-14 22:13:20Z"
    assert moment(None) == moment(-1) == ""
    assert moment(10**18) == "1000000000000000000 ms"


def test_overview_counts_by_code_source_and_label_set(letter: Make) -> None:
    overview = Overview()
    for one in (
        letter(written_ms=2000),
        letter(written_ms=1000),
        letter(written_ms=None),
        letter(code="no_text", source=Position("other", 0, 1)),
        letter(code="", source=None, label_set=""),
    ):
        overview.add(one)
    shown = screen(lambda console: console.print(overview.table())).splitlines()
    assert overview.letters == 5
    assert shown[0].split() == ["code", "source", "topic", "label", "set", "letters", "first", "last"]
    assert shown[1].split()[:4] == ["not_json", "in", "tickets", "3"]
    assert shown[1].endswith("1970-01-01 00:00:01Z  1970-01-01 00:00:02Z")
    assert shown[2].split()[:4] == ["-", "-", "-", "1"]
    assert shown[3].split()[:4] == ["no_text", "other", "tickets", "1"]


def test_everything_of_one_letter(letter: Make) -> None:
    one = letter(cuts=("the value is cut to 1 bytes of 7",), headers=(("redrive-of", b"dead-0-1"),), redrives=1)
    shown = screen(lambda console: show_letter(console, one))
    for part in (
        "dead-0-5", "in-2-7", "2023-11-14 22:13:20Z", "2020-09-13 12:26:40Z", "tickets", "not_json", "unexpected end",
        "The stream expects JSON", "set format: text", "the value is cut to 1 bytes of 7", "3 bytes: key",
        "redrive-of: dead-0-1", "1 bytes: {", "impossible", "redriven 1 times",
    ):  # fmt: skip
        assert part in shown
    assert "does not help" in screen(lambda console: show_letter(console, letter(code="null_value")))
    binary = screen(lambda console: show_letter(console, letter(value=bytes(range(256)) * 2)))
    assert "512 bytes, not UTF-8:" in binary
    assert "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f " in binary
    assert "null" in screen(lambda console: show_letter(console, letter(value=None)))
    many = screen(lambda console: show_letter(console, letter(headers=(("h", b"v"),) * 60)))
    assert "… 10 more" in many


def test_hostile_records_act_on_nothing(letter: Make) -> None:
    one = letter(
        code=HOSTILE,
        message=HOSTILE,
        source=Position(HOSTILE, 0, 1),
        label_set=HOSTILE,
        key=HOSTILE.encode(),
        value=HOSTILE.encode() * 1000,
        headers=((HOSTILE, HOSTILE.encode()), ("redrive-of", HOSTILE.encode())),
        cuts=(HOSTILE,),
        redrives=1,
    )
    overview, tally = Overview(), Tally()
    overview.add(one)
    tally.sent[HOSTILE, "in"] += 1
    tally.held[Held.CUT] += 1
    tally.refusals.append(HOSTILE)
    message = Outbound("in", None, None, (), None, False)
    for show in (
        lambda console: console.print(overview.table()),
        lambda console: console.print(records_table([one])),
        lambda console: show_letter(console, one),
        lambda console: console.print(redrive_line(one, message)),
        lambda console: show_tally(console, tally, verb="sent"),
    ):
        shown = screen(show)
        assert harmless(shown), ascii(shown)
        assert "[bold]" in shown or "not sent" in shown
    line = json_line(one)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == HOSTILE


def test_json_lines(letter: Make) -> None:
    assert json.loads(json_line(letter())) == {
        "position": "dead-0-5",
        "record": "in-2-7",
        "source_topic": "in",
        "code": "not_json",
        "message": "not JSON: unexpected end",
        "label_set": "tickets",
        "written_ms": 1_700_000_000_000,
        "record_timestamp_ms": 1_600_000_000_000,
        "key": "key",
        "value_bytes": 1,
        "cut": False,
        "redrives": 0,
    }
    odd = json.loads(json_line(letter(key=b"\xff", source=None, value=None)))
    assert (odd["key"], odd["key_base64"], odd["record"], odd["value_bytes"]) == (None, "/w==", None, None)
    assert json.loads(json_line(letter(key=None)))["key"] is None


def test_a_tally_says_what_was_not_sent_and_why() -> None:
    tally = Tally()
    tally.sent["not_json", "in"] += 1200
    tally.held[Held.BEFORE] += 2
    shown = screen(lambda console: show_tally(console, tally, verb="to send"))
    assert shown == "1,200 records to send\n  1,200 not_json -> in\n2 records not sent: " + Held.BEFORE.value + "\n"
