"""What `streamer dlq` does: list, explain, redrive.

Enters: what the command line says. Leaves: tables, lines of JSON, records sent again.
Must not know: how options are parsed.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from threading import Event

from rich.console import Console
from rich.text import Text

from streamer.app import REACH_TIMEOUT_S
from streamer.bounds import parse_bound
from streamer.dlq.ledger import Ledger
from streamer.dlq.letters import DeadLetter, Selection, parse_position
from streamer.dlq.reading import Place, Reading, find_letter, find_reading
from streamer.dlq.redrive import BATCH, Held, Orders, Redrive, Tally
from streamer.dlq.show import ROWS_SHOWN, Overview, json_line, records_table, redrive_line, show_letter, show_tally
from streamer.errors import UsageError
from streamer.feed import BUFFER_MEMORY_MB, Pace
from streamer.records import Outbound
from streamer.terminal import Advance, progress_bar
from streamer.transport.kafka_admin import TopicFacts, topic_facts
from streamer.transport.kafka_notes import GroupNotes
from streamer.transport.kafka_sink import KafkaSink


def list_letters(
    place: Place,
    *,
    selection: Selection,
    since: str,
    limit: int | None,
    records: bool,
    as_json: bool,
    out: Console,
    err: Console,
) -> None:
    """Count dead letters, and show each of them where that is asked for. Lines of JSON take the place of tables."""
    reading = _reading(place, since, selection, err)
    overview = Overview()
    rows: list[DeadLetter] = []
    with progress_bar(err, "dead letters", reading.offsets) as advance:
        for letter in islice(filter(selection.takes, reading.letters(advance)), limit):
            if as_json:
                print(json_line(letter))
            overview.add(letter)
            if records and len(rows) < ROWS_SHOWN:
                rows.append(letter)
    if as_json:
        return
    if not overview.letters:
        out.print(Text(f"no dead letters in {', '.join(place.topics)}"))
        return
    out.print(overview.table())
    if records:
        out.print()
        out.print(records_table(rows))
        if len(rows) < overview.letters:
            err.print(Text(f"the first {len(rows):,} of {overview.letters:,} are shown; --json prints all"))


def explain_letter(place: Place, position: str, *, out: Console, err: Console) -> None:
    """Show all about one dead letter."""
    wanted = parse_position(position)
    with progress_bar(err, "looking for it", None) as advance:
        letter = find_letter(place, wanted, advance=advance)
    show_letter(out, letter)


@dataclass(frozen=True, slots=True)
class Request:
    """What to redrive and how. `confirm` is asked before anything is sent; None: nobody need be asked."""

    selection: Selection
    since: str
    limit: int | None
    to: str | None
    max_redrives: int
    again: bool
    dry_run: bool
    rate: float | None
    confirm: Callable[[str], bool] | None


def redrive_letters(place: Place, request: Request, *, out: Console, err: Console) -> bool:
    """Send dead letters again. True when nothing that was asked for is left unsent.

    Raises UsageError for a target that is missing, DeliveryError and what else stops a sink."""
    orders, sources = _orders(place, request)
    targets = {orders.to} if orders.to else sources
    facts = topic_facts(place.bootstrap_servers, place.properties, targets, REACH_TIMEOUT_S)
    if missing := sorted(targets - facts.keys()):
        raise UsageError(f"{place.bootstrap_servers} has no topic '{missing[0]}' to send to; create it, or give --to")
    reading = _reading(place, request.since, request.selection, err)
    notes = GroupNotes(
        bootstrap_servers=place.bootstrap_servers, properties=place.properties, timeout_s=REACH_TIMEOUT_S
    )
    work = _Work(request, orders, reading, Ledger(notes), err)
    if request.dry_run or request.confirm is not None:
        plan = work.plan(show=(lambda line: out.print(line, soft_wrap=True)) if request.dry_run else None)
        show_tally(out, plan, verb="to send")
        if request.dry_run or not plan.sent_records:
            return not plan.failed
        if request.confirm is None or not request.confirm(f"Send {plan.sent_records:,} records?"):
            out.print(Text("nothing was sent"))
            return False
    with _stop_on_signals() as stop:
        return work.send(facts, stop, out)


@contextmanager
def _stop_on_signals() -> Iterator[Event]:
    """An event set by the first SIGINT or SIGTERM; a second one ends the process at once."""
    stop = Event()

    def handle(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Work:
    """One pass over the letters for the plan, and one for the sending: both see the same."""

    def __init__(self, request: Request, orders: Orders, reading: Reading, ledger: Ledger, err: Console) -> None:
        self._request = request
        self._orders = orders
        self._reading = reading
        self._err = err
        self._ledger = ledger

    def plan(self, *, show: Callable[[Text], None] | None) -> Tally:
        tally = Tally()
        with progress_bar(self._err, "reading", self._reading.offsets) as advance:
            for letter, message in self._to_send(tally, advance):
                tally.sent[letter.code, message.topic] += 1
                if show is not None:
                    show(redrive_line(letter, message))
        return tally

    def send(self, targets: Mapping[str, TopicFacts], stop: Event, out: Console) -> bool:
        """True when nothing is left unsent. Whatever ends it, what was sent is shown."""
        place, rate = self._reading.place, self._request.rate

        def pause(seconds: float) -> None:
            stop.wait(seconds)

        sink = KafkaSink(
            bootstrap_servers=place.bootstrap_servers,
            properties=place.properties,
            buffer_memory_mb=BUFFER_MEMORY_MB,
            topics=targets,
        )
        redrive = Redrive(
            sink=sink,
            ledger=self._ledger,
            pace=Pace(rate=rate, clock=time.monotonic, sleep=pause),
            # a slow redrive notes once a second what it did
            batch=BATCH if rate is None else max(1, min(BATCH, int(rate))),
            stop=stop,
        )
        try:
            with progress_bar(self._err, "redriving", self._reading.offsets) as advance:
                for letter, message in self._to_send(redrive.tally, advance):
                    redrive.add(letter, message)
                redrive.finish()
        finally:
            sink.close()
            show_tally(out, redrive.tally, verb="sent, all of them acknowledged")
        return not redrive.tally.failed

    def _to_send(self, tally: Tally, advance: Advance) -> Iterator[tuple[DeadLetter, Outbound]]:
        """Letters that may be sent, at most `limit`; the others are counted, with named positions that are missing."""
        return islice(self._judged(tally, advance), self._request.limit)

    def _judged(self, tally: Tally, advance: Advance) -> Iterator[tuple[DeadLetter, Outbound]]:
        selection = self._request.selection
        missing = set(selection.positions)
        for letter in filter(selection.takes, self._reading.letters(advance)):
            missing -= {letter.at, letter.source}
            judged = self._orders.judge(letter, self._ledger)
            if isinstance(judged, Held):
                tally.held[judged] += 1
            else:
                yield letter, judged
        if missing:
            tally.held[Held.MISSING] += len(missing)


def _orders(place: Place, request: Request) -> tuple[Orders, set[str]]:
    """What may go where; and where it would go back to."""
    named = request.selection.source_topics
    inputs = {topic: known | named for topic, known in place.inputs.items()}
    sources = set(named) or set().union(*inputs.values())
    if request.to in place.topics:
        raise UsageError(f"--to {request.to}: that is where the dead letters come from")
    if request.to is None and not sources:
        raise UsageError("where to? Name the topic they came from with --source-topic, or give --to")
    return Orders(request.to, inputs, request.max_redrives, request.again), sources


def _reading(place: Place, since: str, selection: Selection, err: Console) -> Reading:
    bound = parse_bound(since, "--since", now_ms=time.time_ns() // 1_000_000)
    reading = find_reading(place, since=bound, positions=selection.positions)
    if reading.expired:
        err.print(Text(f"{reading.expired:,} older dead letters have expired"))
    return reading
