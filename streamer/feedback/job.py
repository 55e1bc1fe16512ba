"""`streamer feedback` from its first line to its last: read corrections, fetch their records, write the file.

Enters: what the command line says. Leaves: a labelled file, a table of counts, JSON. Must not know: Kafka clients.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.app import REACH_TIMEOUT_S
from streamer.bounds import parse_bound
from streamer.decode import Decoder
from streamer.errors import UsageError
from streamer.feed import QUIET
from streamer.feedback.corrections import Corrected, Rules, position_of
from streamer.feedback.store import Counts, Problem, Row, Store
from streamer.offline import label_set_from_settings
from streamer.records import Envelope, Reject
from streamer.settings import EMBEDDED, Settings, load_settings
from streamer.tables import JSON_LINES, batched, count_rows, read_file, write_file
from streamer.terminal import printable, progress_bar

if TYPE_CHECKING:
    from streamer.feedback.join import Cluster
    from streamer.transport.kafka_range import Bound

ROWS_AT_ONCE = 500
PROBLEMS_SHOWN = 20
SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Wish:
    """A run as the command line says it; see `streamer feedback --help`."""

    config: Path
    topic: str
    out: Path
    label_set: str | None
    since: str
    problems: Path | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the corrections. `problems` counts by code; `replaced` had later ones of the same record."""

    corrections: int
    replaced: int
    counts: Counts
    problems: dict[str, int]

    @property
    def written(self) -> int:
        return self.counts.joined + self.counts.kept

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"corrections": self.corrections, "replaced": self.replaced, **asdict(self.counts),
                "written": self.written, "problems": self.problems}  # fmt: skip


def run_feedback(wish: Wish, *, console: Console, out: Console) -> bool:
    """Whether a file was written. `console` shows progress, `out` the counts.

    Raises UsageError for a wish that cannot be fulfilled, TransientError when the broker goes away.
    """
    from streamer.feedback.join import Cluster, join_records

    settings = load_settings(wish.config)
    rules, decoder = _rules(settings, wish.label_set)
    since = parse_bound(wish.since, "--since", now_ms=time.time_ns() // 1_000_000)
    _require_writable(wish.out, "--out")
    if wish.problems is not None:
        _require_writable(wish.problems, "--problems")
        if wish.problems.absolute() == wish.out.absolute():
            raise UsageError(f"--problems {wish.problems}: is the file of --out; name another")
    if settings.kafka.bootstrap_servers == EMBEDDED:
        raise UsageError(f"{wish.config}: the embedded broker is gone with the process that ran it, corrections too")
    properties = {**QUIET, **settings.kafka.client_properties()}
    cluster = Cluster(settings.kafka.bootstrap_servers, properties, REACH_TIMEOUT_S)
    with Store() as store:
        _read_earlier(wish.out, rules, store, console)
        corrections, accepted = _read_corrections(wish.topic, cluster, since, rules, store, console)
        wanted = store.counts().records - store.counts().taken_back
        with progress_bar(console, "fetching records", wanted) as advance:
            join_records(store, cluster, decoder, advance=advance)
        outcome = Outcome(corrections, accepted - store.counts().corrected, store.counts(), dict(store.problem_codes()))
        if outcome.written or wish.out.exists():
            _write(wish.out, store, settings)
        if wish.problems is not None:
            with write_file(wish.problems, None) as write:
                for batch in batched(store.problems(), ROWS_AT_ONCE):
                    write([asdict(problem) for problem in batch])
        _show(out, wish, outcome, list(islice(store.problems(), PROBLEMS_SHOWN)))
    if wish.as_json:
        print(orjson.dumps(outcome.as_dict()).decode())
    return outcome.written > 0


def _rules(settings: Settings, name: str | None) -> tuple[Rules, Decoder]:
    label_set = label_set_from_settings(settings, name)
    streams = {stream.topic: stream for stream in settings.build_streams()}
    rules = Rules(label_set=label_set, label_set_of={topic: one.label_set for topic, one in streams.items()})
    own = {topic: stream for topic, stream in streams.items() if stream.label_set == label_set.name}
    return rules, Decoder(streams=own, label_sets={label_set.name: label_set})


def _require_writable(path: Path, flag: str) -> None:
    """Told before the work, not after it."""
    if path.suffix not in JSON_LINES:
        raise UsageError(f"{flag} {path}: is written as JSON Lines; name a .jsonl file")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{flag} {path}: takes a file to write, in a directory that exists")


def _read_earlier(path: Path, rules: Rules, store: Store, console: Console) -> None:
    """Rows that an earlier run wrote. Raises UsageError for a file that it did not write."""
    if not path.exists():
        return
    with progress_bar(console, f"reading {path.name}", count_rows(path)) as advance:
        for number, one in enumerate(read_file(path), 1):
            advance(1)
            columns = one.columns
            record, text, labels = position_of(str(columns.get("id"))), columns.get("text"), columns.get("labels")
            named = isinstance(labels, dict) and all(
                isinstance(names, list) and all(isinstance(name, str) for name in names) for names in labels.values()
            )
            if record is None or not isinstance(text, str) or not named or not labels:
                raise UsageError(
                    f"{path}: row {number} was not written by streamer feedback, which would replace the file; "
                    "name another with --out"
                )
            refusal = rules.refusal(Corrected(record, labels))
            if refusal is not None:  # the settings have changed since
                store.problem(Problem(f"{path.name}, row {number}", str(record), refusal.code, refusal.message))
                continue
            at_ms = columns.get("corrected_at_ms")
            store.add_earlier(Row(record, text, labels, at_ms if isinstance(at_ms, int) else None))


def _read_corrections(
    topic: str, cluster: Cluster, since: Bound, rules: Rules, store: Store, console: Console
) -> tuple[int, int]:
    """How many corrections there are, and how many of them can be used. One partition after the other: within one
    their order is that of the topic."""
    from streamer.feedback.join import POLL_RECORDS, POLL_S

    ranges = [one for one in cluster.ranges(topic, since).values() if len(one)]
    seen = accepted = 0
    reader = cluster.open([])
    try:
        with progress_bar(console, f"reading {topic}", sum(map(len, ranges))) as advance:
            for one in ranges:
                reader.read_next([one])
                while not reader.done:
                    messages = reader.poll(POLL_RECORDS, POLL_S)
                    accepted += sum(_take(message, rules, store) for message in messages)
                    seen += len(messages)
                    advance(len(messages))
    finally:
        reader.close()
    return seen, accepted


def _take(message: Envelope[None], rules: Rules, store: Store) -> bool:
    """Whether a correction can be used."""
    found = rules.read(message)
    if isinstance(found, Reject):
        told = printable((message.value or b"").decode("utf-8", "replace"), SHOWN_CHARACTERS)
        store.problem(Problem(str(message.position), told, found.code, found.message))
        return False
    store.correct(found, by=message.position, at_ms=message.timestamp_ms)
    return True


def _write(path: Path, store: Store, settings: Settings) -> None:
    label_set_of = {stream.topic: stream.label_set for stream in settings.streams}
    with write_file(path, None) as write:
        for rows in batched(store.rows(), ROWS_AT_ONCE):
            write(
                [
                    {
                        "id": str(row.record),
                        "text": row.text,
                        "labels": row.labels,
                        "label_set": label_set_of[row.record.topic],
                        "corrected_at_ms": row.at_ms,
                    }
                    for row in rows
                ]
            )


def _show(out: Console, wish: Wish, outcome: Outcome, problems: list[Problem]) -> None:
    counts = outcome.counts
    lines = [
        f"{outcome.corrections:,} corrections in '{wish.topic}': {outcome.replaced:,} replaced by later ones, "
        f"{counts.taken_back:,} records whose corrections were taken back",
        f"{outcome.written:,} rows in {wish.out}: {counts.joined:,} with texts of now, {counts.kept:,} kept of an "
        "earlier run",
    ]
    if not outcome.written:
        lines[1] = f"nothing to write to {wish.out}"
    for line in lines:
        out.print(Text(line), soft_wrap=True)
    total = sum(outcome.problems.values())
    if not total:
        return
    told = ", ".join(f"{count:,} {code}" for code, count in sorted(outcome.problems.items()))
    out.print(Text(f"not used: {told}"), soft_wrap=True)
    table = Table(header_style="bold")
    for column in ("correction", "about", "code", "why"):
        table.add_column(column, overflow="fold")
    for one in problems:
        table.add_row(
            *(Text(printable(part, SHOWN_CHARACTERS)) for part in (one.correction, one.about, one.code, one.message))
        )
    out.print(table)
    if total > len(problems):
        more = f"and {total - len(problems):,} more" + ("" if wish.problems else "; --problems FILE takes them all")
        out.print(Text(more), soft_wrap=True)
