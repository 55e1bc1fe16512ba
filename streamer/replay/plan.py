"""What a replay is to do: which range, by which labels, into which topic, and whether it was begun before.

Enters: Settings, what the command line says, what the replay's group tells. Leaves: a Plan, and the ranges to read.
What a replay may write to is decided here: never a topic or a group that the settings name. Must not know: records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import orjson

from streamer.app import REACH_TIMEOUT_S, Connection, shadow_topics_of, topics_of
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.records import Stream
from streamer.settings import EMBEDDED, Settings
from streamer.settings_errors import near

if TYPE_CHECKING:
    from streamer.transport.kafka_admin import TopicFacts
    from streamer.transport.kafka_range import Range
    from streamer.transport.replay_group import Progress, ReplayGroup


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replay does: `stream` with its outputs turned to the side topic. `dead_letter` None: what cannot be
    labelled is counted and written nowhere, as it stands in the input. `identity` (hex digits) is the same for two
    replays of the same range, as it was written, to the same target by the same label set and model."""

    stream: Stream
    label_set: LabelSet
    dead_letter: str | None
    compare_with: tuple[str, ...]
    compare_named: bool
    group_id: str
    identity: str


def plan_replay(
    settings: Settings,
    *,
    topic: str,
    to: str,
    dead_letter: str | None,
    since: str,
    until: str,
    group: str | None,
    compare_with: Sequence[str],
) -> Plan:
    """Settle what is to be done. Raises UsageError for what would harm the topics or the group of the settings."""
    if settings.kafka.bootstrap_servers == EMBEDDED:
        raise UsageError("a replay reads a Kafka cluster; the embedded broker of these settings starts empty")
    streams = {stream.topic: stream for stream in settings.build_streams()}
    if topic not in streams:
        raise UsageError(f"--topic '{topic}' is no input topic of the settings{near(topic, streams)}")
    stream, uses = streams[topic], {**topics_of(settings), **shadow_topics_of(settings)}
    for flag, target in (("--to", to), ("--dead-letter", dead_letter)):
        if target in uses:
            raise UsageError(f"{flag} '{target}' is in use ({uses[target]}); a replay writes to topics of its own")
    if dead_letter == to:
        raise UsageError(f"--to and --dead-letter are both '{to}'; give dead letters a topic of their own")
    if to in compare_with:
        raise UsageError(f"--compare-with '{to}' is the target itself; name a topic with other events")
    if group == settings.kafka.group_id:
        raise UsageError(f"--group '{group}' is the group of the settings, whose offsets a replay must not move")
    label_set = settings.build_label_sets()[stream.label_set]
    model = settings.model
    alike = orjson.dumps([topic, to, since, until, label_set.version, model.name, model.revision])
    identity = hashlib.sha256(alike).hexdigest()[:16]
    events_of = dict.fromkeys([stream.output, *(route.to for route in label_set.routes)])
    return Plan(
        stream=replace(stream, output=to, dead_letter=dead_letter or to),
        label_set=label_set,
        dead_letter=dead_letter,
        compare_with=tuple(compare_with or events_of),
        compare_named=bool(compare_with),
        group_id=group or f"{settings.kafka.group_id}.replay.{topic}.{identity}",
        identity=identity,
    )


def require_topics(plan: Plan, connection: Connection) -> dict[str, TopicFacts]:
    """Facts of the plan's topics. Raises UsageError where the broker cannot be reached or a topic is missing; one that
    only the settings name to compare with may be, for nothing went there yet."""
    from streamer.transport.kafka_admin import topic_facts

    stream = plan.stream
    uses = {stream.topic: "--topic", stream.output: "--to", stream.dead_letter: "--dead-letter"}
    if plan.compare_named:
        uses.update(dict.fromkeys(plan.compare_with, "--compare-with"))
    uses[stream.output] = "--to"
    wanted = [*uses, *plan.compare_with]
    facts = topic_facts(connection.bootstrap_servers, connection.properties, wanted, REACH_TIMEOUT_S)
    for topic, flag in uses.items():
        if topic not in facts:
            raise UsageError(
                f"{flag} '{topic}' is missing at {connection.bootstrap_servers}; create it "
                "(kafka-topics.sh --create --topic NAME), or grant the right to see it"
            )
    return facts


def take_up(group: ReplayGroup, found: Sequence[Range]) -> list[Progress]:
    """The replay that the group tells of, when it was interrupted or holds all of `found`; else a new one of `found`,
    where that is anything at all."""
    known = group.read([one.at for one in found])
    whole = {one.range.at: one.range for one in known}
    interrupted = any(one.left for one in known) and any(one.next_offset > one.range.begin for one in known)
    contained = all(
        not len(one) or (one.at in whole and whole[one.at].begin <= one.begin and one.end <= whole[one.at].end)
        for one in found
    )
    if known and (interrupted or contained):
        return known
    return group.begin(found) if any(map(len, found)) else []
