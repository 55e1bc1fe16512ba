"""A replay from its first line to its last: find the range, run, say what happened and what changed.

Enters: what the command line says. Leaves: lines and tables, JSON. Must not know: Kafka clients, models.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.text import Text

from streamer.app import REACH_TIMEOUT_S, Connection, connect
from streamer.bounds import parse_bound
from streamer.errors import UsageError
from streamer.replay.plan import Plan, plan_replay, require_topics, take_up
from streamer.replay.report import Report, show_report
from streamer.replay.run import Outcome, compare, replay
from streamer.settings import Settings, load_settings
from streamer.terminal import progress_bar

if TYPE_CHECKING:
    from streamer.transport.kafka_admin import TopicFacts
    from streamer.transport.kafka_range import Bound, Range
    from streamer.transport.replay_group import Progress, ReplayGroup

StopOnSignals = Callable[[], Event]


@dataclass(frozen=True, slots=True)
class Wish:
    """A replay as the command line says it; see `streamer replay --help`."""

    config: Path
    topic: str
    to: str
    since: str
    until: str
    dead_letter: str | None
    group: str | None
    compare_with: Sequence[str]
    rate: float | None
    report: Path | None
    as_json: bool


def run_replay(wish: Wish, *, console: Console, out: Console, stop_on_signals: StopOnSignals) -> bool:
    """Replay and report; False when a signal ended it before. `console` shows progress, `out` the result;
    `stop_on_signals` gives an event that the next signal sets.

    Raises UsageError for a wish that cannot be fulfilled, FatalError or TransientError for what stopped the work.
    """
    settings = load_settings(wish.config)
    plan = plan_replay(
        settings,
        topic=wish.topic,
        to=wish.to,
        dead_letter=wish.dead_letter,
        since=wish.since,
        until=wish.until,
        group=wish.group,
        compare_with=wish.compare_with,
    )
    _require_writable(wish.report)
    now_ms = time.time_ns() // 1_000_000
    since = parse_bound(wish.since, "--since", now_ms=now_ms)
    until = parse_bound(wish.until, "--until", now_ms=now_ms)
    with connect(settings) as connection:
        started = _Started(settings, plan, connection, require_topics(plan, connection), console)
        group = _open_group(plan, connection)
        try:
            found = _find(wish.topic, connection, since, until)
            if gone := sum(one.expired for one in found):
                started.say(f"{gone:,} offsets that were asked for are there no more: the broker has deleted them")
            progress = take_up(group, found)
            if not progress:
                started.say(f"nothing to replay: '{wish.topic}' has no records from {wish.since} until {wish.until}")
                return True
            outcome = started.replay(group, progress, wish.rate, stop_on_signals)
        finally:
            group.close()
        if outcome.left:
            started.say(f"stopped with {outcome.left:,} offsets left; the same command goes on from there")
            return False
        ranges = [one.range for one in progress]
        report = started.compare(ranges, stop_on_signals())
        if report is None:
            started.say("stopped while comparing; the same command compares again")
            return False
    _publish(wish, out, _as_dict(plan, ranges, outcome, report), report)
    return True


@dataclass(frozen=True, slots=True)
class _Started:
    """What both halves of a replay need."""

    settings: Settings
    plan: Plan
    connection: Connection
    topics: dict[str, TopicFacts]
    console: Console

    def say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)

    def replay(
        self, group: ReplayGroup, progress: Sequence[Progress], rate: float | None, stop_on_signals: StopOnSignals
    ) -> Outcome:
        left, total = sum(one.left for one in progress), sum(len(one.range) for one in progress)
        if not left:
            self.say(f"replayed before: group '{group.group_id}' has settled all {total:,} offsets")
            return Outcome()
        if left < total:
            self.say(f"going on: {left:,} of {total:,} offsets are left (group '{group.group_id}')")
        with progress_bar(self.console, f"to {self.plan.stream.output}", left) as advance:
            outcome = replay(
                self.settings,
                self.plan,
                connection=self.connection,
                topics=self.topics,
                group=group,
                progress=progress,
                rate=rate,
                stop=stop_on_signals(),
                advance=advance,
            )
        self.say(self._told(outcome))
        return outcome

    def compare(self, ranges: Sequence[Range], stop: Event) -> Report | None:
        old_topics = [topic for topic in self.plan.compare_with if topic in self.topics]
        for topic in self.plan.compare_with:
            if topic not in self.topics:
                self.say(f"not compared with '{topic}', which does not exist")
        with progress_bar(self.console, "comparing", None) as advance:
            return compare(
                self.plan,
                connection=self.connection,
                ranges=ranges,
                old_topics=old_topics,
                stop=stop,
                advance=advance,
            )

    def _told(self, outcome: Outcome) -> str:
        stream = self.plan.stream
        rejects = ", ".join(f"{count:,} {code}" for code, count in outcome.rejected.most_common())
        where = f"in '{stream.dead_letter}'" if self.plan.dead_letter else "not written"
        rejected = f", not labelled: {rejects} ({where})" if rejects else ""
        rate = outcome.labelled / outcome.wall_s if outcome.wall_s else 0.0
        return (
            f"{outcome.labelled:,} events from '{stream.topic}' to '{stream.output}', {rate:,.0f} a second{rejected}; "
            f"label set {self.plan.label_set.name} {self.plan.label_set.version}"
        )


def _open_group(plan: Plan, connection: Connection) -> ReplayGroup:
    from streamer.transport.replay_group import ReplayGroup

    return ReplayGroup(
        bootstrap_servers=connection.bootstrap_servers,
        properties=connection.properties,
        group_id=plan.group_id,
        identity=plan.identity,
    )


def _find(topic: str, connection: Connection, since: Bound, until: Bound) -> list[Range]:
    from streamer.transport.kafka_range import find_ranges

    servers, properties = connection.bootstrap_servers, connection.properties
    return find_ranges(servers, properties, topic, since=since, until=until, timeout_s=REACH_TIMEOUT_S)


def _as_dict(plan: Plan, ranges: Sequence[Range], outcome: Outcome, report: Report) -> dict[str, Any]:
    """For JSON. Counts of `this_start` are of the last start of the command alone."""
    return {
        "topic": plan.stream.topic,
        "to": plan.stream.output,
        "group": plan.group_id,
        "label_set": {"name": plan.label_set.name, "version": plan.label_set.version},
        "ranges": [{"partition": one.at.partition, "begin": one.begin, "end": one.end} for one in ranges],
        "this_start": {
            "read": outcome.read,
            "labelled": outcome.labelled,
            "rejected": dict(outcome.rejected),
            "wall_s": round(outcome.wall_s, 3),
        },
        "compared_with": list(plan.compare_with),
        **report.as_dict(),
    }


def _publish(wish: Wish, out: Console, found: dict[str, Any], report: Report) -> None:
    show_report(out, report)
    if wish.report is not None:
        try:
            wish.report.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        except OSError as error:
            raise UsageError(f"{wish.report}: {error.strerror}; --report takes a file to write") from None
    if wish.as_json:
        print(orjson.dumps(found).decode())


def _require_writable(report: Path | None) -> None:
    """Told before the work, not after it."""
    if report is not None and (report.is_dir() or not report.absolute().parent.is_dir()):
        raise UsageError(f"{report}: --report takes a file to write, in a directory that exists")
