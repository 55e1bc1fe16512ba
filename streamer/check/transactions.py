"""Transactions that stay open, and partitions that stand still because of one.

Enters: settings, a connection, the topics that are there. Leaves: Findings. Nothing is changed on the cluster.

A partition's last stable offset tells that a transaction holds it back, on every cluster and with librdkafka alone;
whose it is and since when, only the coordinator tells (`kafka_transactions_list`, an extra). Whether a partition
stands still is seen by looking twice: a record's timestamp may be its input's, and says nothing of its transaction.
Must not know: how an open transaction is ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from streamer.app import Connection, topics_of
from streamer.check.delivery import check_transactional_producer
from streamer.check.findings import Finding, error, ok, warning
from streamer.errors import UsageError
from streamer.feed import QUIET
from streamer.records import Partition
from streamer.settings import Settings
from streamer.terminal import printable

Seen = TypeVar("Seen")

if TYPE_CHECKING:
    from streamer.transport.kafka_transactions_admin import HeldBack
    from streamer.transport.kafka_transactions_list import OpenTransaction, TransactionList

LOOK_S = 0.25
LONGEST_WATCH_S = 10.0
MOST_CHARACTERS = 200  # of a name
SHOWN = 5  # partitions of a topic in one finding


@dataclass(frozen=True, slots=True)
class Ours:
    """What tells a transaction of this group: its id, and what it writes to."""

    used_id: str
    prefix: str
    topics: frozenset[str]

    def named(self, transactional_id: str) -> bool:
        """Whether an id may be one of this group's. Group 'a' names its processes 'a-...', and so does 'a-b'."""
        return transactional_id == self.used_id or transactional_id.startswith(self.prefix)

    def foreign_topics(self, found: OpenTransaction) -> list[str]:
        """Topics that a transaction writes to and these settings do not name: signs of another group."""
        return sorted({at.topic for at in found.partitions} - self.topics)

    def owns(self, found: OpenTransaction) -> bool:
        """Whether a transaction is this group's. Partitions that this user may not see are not told: where there is
        none, nobody knows."""
        if found.transactional_id == self.used_id:
            return True
        return self.named(found.transactional_id) and bool(found.partitions) and not self.foreign_topics(found)


def ours_of(settings: Settings) -> Ours:
    """What the settings say of this group's transactions."""
    from streamer.transport.kafka_transactions_admin import GROUP_OFFSETS

    written = set(topics_of(settings)) - {stream.topic for stream in settings.streams}
    return Ours(settings.transactional_id(), f"{settings.kafka.group_id}-", frozenset({*written, GROUP_OFFSETS}))


def check_transactions(
    settings: Settings,
    connection: Connection,
    partitions: Mapping[str, int],
    *,
    reach_timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    wall_clock: Callable[[], float] = time.time,
) -> Iterator[Finding]:
    """Findings on transactions of this group, and on topics that are held back (`partitions`: how many each has).

    Under at_least_once only what stands still is told. Looks for `limits.transaction_timeout_s` (10 s at most) at
    partitions that are held back; where all goes well that takes a moment.
    """
    from streamer.transport.kafka_transactions_admin import TransactionAdmin
    from streamer.transport.kafka_transactions_list import transaction_list_if_possible

    servers, properties = connection.bootstrap_servers, {**QUIET, **connection.properties}
    admin = TransactionAdmin(servers, properties, reach_timeout_s)
    exactly_once = settings.delivery == "exactly_once"
    if exactly_once:
        yield from check_transactional_producer(settings, Connection(servers, properties, embedded=False), admin)
    watched = [Partition(topic, number) for topic, count in partitions.items() for number in range(count)]
    inputs = {stream.topic for stream in settings.streams}
    look_at_offsets = partial(admin.offsets_held_back, settings.kafka.group_id)
    held = admin.held_back(watched)
    offsets = look_at_offsets([at for at in watched if at.topic in inputs])
    if not (held or offsets or exactly_once):
        return
    with transaction_list_if_possible(servers, properties, reach_timeout_s) as (listed, limit):
        if exactly_once and listed is None:
            yield ok("transactions", f"those of this group are not listed: {limit}")
        elif exactly_once and listed is not None:
            hanging, findings = _check_group(settings, listed, wall_clock(), offsets_wait=bool(offsets))
            yield from findings
            # what they hold back has been told
            known = {at for one in hanging for at in one.partitions}
            held = {at: facts for at, facts in held.items() if at not in known}
            offsets = {} if hanging else offsets
        watch_s = min(settings.limits.transaction_timeout_s, LONGEST_WATCH_S)
        still = Still(clock() + watch_s, clock, sleep)
        held = still.among(admin.held_back, held, lambda one: one.stable_offset)
        offsets = still.among(look_at_offsets, offsets, lambda offset: offset)
        yield from _check_held(settings, servers, held, watch_s, _Holders.of(listed, limit, held))
        if offsets:
            yield _group_waits(settings, servers, offsets, watch_s, limit)


@dataclass(frozen=True, slots=True)
class Still:
    """Tells what stands still until a time of `clock`."""

    until_s: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]

    def among(
        self,
        look: Callable[[Collection[Partition]], dict[Partition, Seen]],
        seen: Mapping[Partition, Seen],
        offset: Callable[[Seen], int],
    ) -> dict[Partition, Seen]:
        """Those of `seen` whose `offset` stays the same, as `look` sees them last. It looks once at least, and no
        longer than something stands still."""
        still = dict(seen)
        while still:
            self.sleep(LOOK_S)
            now = look(still)
            still = {at: now[at] for at, before in still.items() if at in now and offset(now[at]) == offset(before)}
            if self.clock() >= self.until_s:
                break
        return still


def _check_group(
    settings: Settings, listed: TransactionList, now_s: float, *, offsets_wait: bool
) -> tuple[list[OpenTransaction], list[Finding]]:
    """Transactions of this group that are open for too long, and what there is to say of all."""
    ours = ours_of(settings)
    try:
        listed.knows(ours.used_id)  # raises where this user may not see it; a list would only be empty
        found = [listed.open_transaction(name) for name in listed.open_ids() if ours.named(name)]
    except UsageError as failure:
        advice = f"grant Describe on transactional ids that begin with '{ours.prefix}', and see that the broker is well"
        return [], [warning("transactions", f"those of this group are not listed: {failure}", advice)]
    opened = [one for one in found if one is not None and ours.owns(one)]
    timeout_s = settings.limits.transaction_timeout_s
    hanging = [one for one in opened if age_s(one, now_s) > timeout_s]
    if hanging:
        return hanging, [_hanging(settings, one, now_s, offsets_wait=offsets_wait) for one in hanging]
    if not opened:
        return [], [ok("transactions", "none of this group is open")]
    oldest = max(age_s(one, now_s) for one in opened)
    told = f"{len(opened)} of this group open, the oldest for {spell(oldest)}; none for more than {timeout_s:g} s"
    return [], [ok("transactions", told)]


def _hanging(settings: Settings, one: OpenTransaction, now_s: float, *, offsets_wait: bool) -> Finding:
    name, age = shown(one.transactional_id), age_s(one, now_s)
    timeout_s = settings.limits.transaction_timeout_s
    harm = [f"read_committed readers stand still at {_places(one.records_at)}"] if one.records_at else []
    if one.holds_offsets or offsets_wait:  # the broker does not tell of offsets to a user without rights on their topic
        harm.append("no process of this group can take up the partitions whose offsets it holds")
    what = (
        f"{one.state} for {spell(age)}, more than limits.transaction_timeout_s ({timeout_s:g} s): {', and '.join(harm)}"
    )
    if one.state != "Ongoing":
        return error(f"transaction '{name}'", what, "it is being ended but cannot be: see that every broker is up")
    left_s = max(0.0, one.timeout_ms / 1000 - age)
    advice = (
        f"the broker ends it in about {spell(left_s + 10)}; sooner, if no living process holds that id: "
        f"streamer check -c FILE --abort-transactions {name}"
    )
    if one.transactional_id == settings.transactional_id():
        return warning(f"transaction '{name}'", what, f"streamer run here ends it at its start; {advice}")
    return error(f"transaction '{name}'", what, advice)


@dataclass(frozen=True, slots=True)
class _Holders:
    """Whose transaction holds partitions back, as far as it is known; `limit` says why it is not."""

    limit: str
    ids: Mapping[Partition, str]  # transactional id
    starts: Mapping[Partition, int]  # offset where a transaction without known id begins

    @classmethod
    def of(cls, listed: TransactionList | None, limit: str, held: Mapping[Partition, HeldBack]) -> _Holders:
        if listed is None or not held:
            return cls(limit, {}, {})
        try:
            first = {at: writers[0] for at, writers in listed.writers(list(held)).items() if writers}
            producers = {writer.producer_id for writer in first.values()}
            names = {producer: name for name, producer in listed.open_ids(producers).items()} if producers else {}
        except UsageError as failure:
            return cls(str(failure), {}, {})
        return cls(
            "",
            {at: names[writer.producer_id] for at, writer in first.items() if writer.producer_id in names},
            {at: writer.start_offset for at, writer in first.items() if writer.producer_id not in names},
        )


def _check_held(
    settings: Settings, servers: str, held: Mapping[Partition, HeldBack], watched_s: float, holders: _Holders
) -> Iterator[Finding]:
    inputs = {stream.topic for stream in settings.streams}
    for topic in dict.fromkeys(at.topic for at in held):
        inside = sorted(at for at in held if at.topic == topic)
        places = [f"{at.partition} at offset {held[at].stable_offset:,} of {held[at].end_offset:,}" for at in inside]
        means = "nothing newer is read and labelled" if topic in inputs else "read_committed readers get nothing newer"
        what = f"held back by an open transaction, for at least {spell(watched_s)}: partition {_some(places)}; {means}"
        yield warning(f"topic '{topic}'", what, _advice(servers, inside, holders))


def _group_waits(
    settings: Settings, servers: str, offsets: Collection[Partition], watched_s: float, limit: str
) -> Finding:
    """Offsets that wait for a transaction which is none of those listed as this group's."""
    return warning(
        f"group '{settings.kafka.group_id}'",
        f"its offsets of {_places(sorted(offsets))} wait for an open transaction, for at least {spell(watched_s)}: "
        "no process can take these partitions up",
        _list_open(servers, limit),
    )


def _list_open(servers: str, limit: str) -> str:
    tool = f"kafka-transactions.sh --bootstrap-server {servers} list tells which transactions are open"
    return f"{tool} ({limit})" if limit else tool


def _advice(servers: str, inside: list[Partition], holders: _Holders) -> str:
    tool = f"kafka-transactions.sh --bootstrap-server {servers}"
    if holders.limit:
        return _list_open(servers, holders.limit)
    names = sorted({f"'{shown(holders.ids[at])}'" for at in inside if at in holders.ids})
    told = [f"see to the process that holds the transactional id {_some(names)}"] if names else []
    for at in inside:
        if at in holders.starts:
            command = f"abort --topic {at.topic} --partition {at.partition} --start-offset {holders.starts[at]}"
            told.append(f"if no coordinator knows it, as find-hanging tells: {tool} {command}")
            break
    return "; ".join(told) or "look again: it is gone"


def age_s(one: OpenTransaction, now_s: float) -> float:
    """Seconds since a transaction began, by this computer's clock against the broker's."""
    return max(0.0, now_s - one.began_ms / 1000)


def spell(seconds: float) -> str:
    """A duration for a reader: two units at most."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def shown(text: str) -> str:
    """Somebody else's text for a terminal: no control characters, and not endless."""
    return printable(text, MOST_CHARACTERS)


def _places(partitions: Collection[Partition]) -> str:
    topics: dict[str, list[str]] = {}
    for at in partitions:
        topics.setdefault(at.topic, []).append(str(at.partition))
    return ", ".join(f"{topic} [{_some(numbers)}]" for topic, numbers in topics.items())


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
