"""Dead letters on a terminal and as lines of JSON.

Enters: DeadLetters and tallies. Leaves: tables and text in which nothing that a record holds can act: control
characters are written out. Must not know: Kafka clients, settings.
"""

from __future__ import annotations

import base64
import codecs
import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.dlq.codes import explain_code
from streamer.dlq.letters import REDRIVE_OF, DeadLetter
from streamer.dlq.redrive import Tally
from streamer.records import Outbound
from streamer.terminal import printable

SHORT, NAME, LONG = 60, 280, 2000  # characters of a cell, of a position (topics have 249 at most), of a value
HEX_BYTES, HEX_ROW = 256, 16
ROWS_SHOWN = 1000
HEADERS_SHOWN = 50


def shown_bytes(content: bytes | None, limit: int) -> str:
    """Text, or hexadecimal where it is not UTF-8, or "null"."""
    if content is None:
        return "null"
    text = as_text(content, limit)
    if text is None:
        return f"0x{content[: limit // 2].hex()}" + ("…" if len(content) > limit // 2 else "")
    return printable(text, limit)


def as_text(content: bytes, limit: int) -> str | None:
    """The first `limit` characters and one more, if there are so many; a character that is cut at the end is left
    out. None where it is not UTF-8."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(content[: (limit + 1) * 4], final=False)[: limit + 1]
    except UnicodeDecodeError:
        return None


def moment(unix_ms: int | None) -> str:
    """A time in UTC, or nothing."""
    if unix_ms is None or unix_ms < 0:
        return ""
    try:
        return f"{datetime.fromtimestamp(unix_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"
    except (ValueError, OverflowError, OSError):
        return f"{unix_ms} ms"


class Overview:
    """Counts dead letters by code, source topic and label set, with the time of the first and the last."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._times: dict[tuple[str, str, str], tuple[int, int]] = {}

    def add(self, letter: DeadLetter) -> None:
        group = (letter.code, letter.source.topic if letter.source else "", letter.label_set)
        self._counts[group] += 1
        if letter.written_ms is not None:
            first, last = self._times.get(group, (letter.written_ms, letter.written_ms))
            self._times[group] = (min(first, letter.written_ms), max(last, letter.written_ms))

    @property
    def letters(self) -> int:
        return self._counts.total()

    def table(self) -> Table:
        table = _table("code", "source topic", "label set", "letters", "first", "last")
        for group, count in sorted(self._counts.items(), key=lambda one: (-one[1], one[0])):
            first, last = self._times.get(group, (None, None))
            cells = [*(printable(part, NAME) or "-" for part in group), f"{count:,}", moment(first), moment(last)]
            table.add_row(*(Text(cell, overflow="fold") for cell in cells))
        return table


def records_table(letters: Iterable[DeadLetter]) -> Table:
    table = _table("dead letter", "record", "code", "message", "key")
    for letter in letters:
        cells = [
            str(letter.at),
            printable(str(letter.source or "-"), NAME),
            printable(letter.code, SHORT) or "-",
            printable(letter.message, SHORT),
            shown_bytes(letter.key, SHORT // 2),
        ]
        table.add_row(*(Text(cell, overflow="fold") for cell in cells))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column == "letters" else "left")
    return table


def json_line(letter: DeadLetter) -> str:
    """One line, in ASCII: nothing in it can act on a terminal. The value is not repeated."""
    key = None if letter.key is None else _whole_text(letter.key)
    line: dict[str, object] = {
        "position": str(letter.at),
        "record": None if letter.source is None else str(letter.source),
        "source_topic": None if letter.source is None else letter.source.topic,
        "code": letter.code,
        "message": letter.message,
        "label_set": letter.label_set,
        "written_ms": letter.written_ms,
        "record_timestamp_ms": letter.source_ms,
        "key": key,
        "value_bytes": None if letter.value is None else len(letter.value),
        "cut": bool(letter.cuts),
        "redrives": letter.redrives,
    }
    if letter.key is not None and key is None:
        line["key_base64"] = base64.b64encode(letter.key).decode()
    return json.dumps(line)


def _whole_text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def show_letter(console: Console, letter: DeadLetter) -> None:
    """Everything about one dead letter, and what to do."""
    explanation = explain_code(letter.code)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")

    def row(name: str, text: str) -> None:
        grid.add_row(Text(name), Text(text, overflow="fold"))

    row("dead letter", f"{letter.at}  {moment(letter.written_ms)}")
    row("record", f"{printable(str(letter.source or 'unknown'), NAME)}  {moment(letter.source_ms)}")
    row("label set", printable(letter.label_set, LONG) or "-")
    row("code", printable(letter.code, LONG) or "none: no dead letter of streamer")
    row("message", printable(letter.message, LONG))
    row("means", explanation.meaning)
    row("to do", explanation.remedy)
    row("redrive", _redrive_line(letter, explanation.redrive_helps))
    for cut in letter.cuts:
        row("cut", printable(cut, LONG))
    row("key", _sized(letter.key))
    for name, content in letter.headers[:HEADERS_SHOWN]:
        row("header", f"{printable(name, SHORT)}: {shown_bytes(content, LONG)}")
    if len(letter.headers) > HEADERS_SHOWN:
        row("header", f"… {len(letter.headers) - HEADERS_SHOWN} more")
    row("value", _sized(letter.value))
    console.print(grid)


def _redrive_line(letter: DeadLetter, helps: bool) -> str:
    before = [shown_bytes(content, SHORT) for name, content in letter.headers if name == REDRIVE_OF]
    if letter.cuts:
        advice = "impossible: what is here is not the whole record"
    else:
        advice = "helps once the cause is mended" if helps else "does not help: the same bytes end here again"
    return advice + (f"; redriven {letter.redrives} times (of {', '.join(before)})" if letter.redrives else "")


def _sized(content: bytes | None) -> str:
    """Size and content; what is not UTF-8 as rows of hexadecimal."""
    if content is None:
        return "null"
    text = as_text(content, LONG)
    if text is not None:
        return f"{len(content):,} bytes: {printable(text, LONG)}"
    rows = [content[at : at + HEX_ROW].hex(" ") for at in range(0, min(len(content), HEX_BYTES), HEX_ROW)]
    more = ["…"] if len(content) > HEX_BYTES else []
    return "\n".join([f"{len(content):,} bytes, not UTF-8:", *rows, *more])


def redrive_line(letter: DeadLetter, message: Outbound) -> Text:
    """What would be sent."""
    source = printable(str(letter.source), NAME)
    again = f", redriven {letter.redrives} times before" if letter.redrives else ""
    return Text(f"{letter.at} ({printable(letter.code, SHORT)}, record {source}) -> {message.topic}{again}")


def show_tally(console: Console, tally: Tally, *, verb: str) -> None:
    """What was sent ("sent") or would be ("to send"), and what was not, with the reasons."""
    console.print(Text(f"{tally.sent_records:,} records {verb}"))
    for (code, topic), count in sorted(tally.sent.items(), key=lambda one: (-one[1], one[0])):
        console.print(Text(f"  {count:,} {printable(code, SHORT)} -> {topic}"))
    for held, count in tally.held.items():
        console.print(Text(f"{count:,} records not sent: {held.value}"))
    for refusal in tally.refusals:
        console.print(Text(f"  {printable(refusal, LONG)}"))
