"""What `streamer check` asks of the cluster, and of the times agreed with it.

Enters: settings and a connection. Leaves: Findings. Must not know: models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from streamer.app import Connection, shadow_topics_of, topics_of
from streamer.check.findings import Finding, error, ok, told_by, warning
from streamer.check.transactions import check_transactions
from streamer.encode import MAX_HEAD_BYTES
from streamer.errors import UsageError
from streamer.feed import QUIET, create_command
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.transport.kafka_admin import TopicFacts

OUR_HEADERS_BYTES = 1_024  # what a dead letter says in headers of its own
# librdkafka's defaults
MAX_POLL_INTERVAL_MS = 300_000
SESSION_TIMEOUT_MS = 45_000


def check_broker(settings: Settings, connection: Connection, *, reach_timeout_s: float) -> Iterator[Finding]:
    """Whether the cluster answers in time, has every topic, and takes what will be written."""
    if connection.embedded:
        yield ok("kafka.bootstrap_servers", "embedded broker: it makes its topics, and ends with the process")
        return
    from streamer.transport.kafka_admin import describe_cluster, topic_facts

    servers, topics = connection.bootstrap_servers, {**topics_of(settings), **shadow_topics_of(settings)}
    properties = {**QUIET, **connection.properties}
    try:
        cluster = describe_cluster(servers, properties, reach_timeout_s)
        there = topic_facts(servers, properties, list(topics), reach_timeout_s)
    except UsageError as failure:
        yield told_by("kafka.bootstrap_servers", failure)
        return
    brokers = "1 broker" if len(cluster.brokers) == 1 else f"{len(cluster.brokers)} brokers"
    yield ok("kafka.bootstrap_servers", f"{servers} answers: {brokers}, cluster {cluster.cluster_id or 'without id'}")
    for topic, use in topics.items():
        if topic in there:
            yield from _check_topic(settings, topic, use, there[topic])
        else:
            yield error(
                f"topic '{topic}'",
                f"missing, or this user may not see it ({use})",
                f"grant Describe on it, or create it: {create_command(servers, topic)}",
            )
    partitions = {topic: facts.partitions for topic, facts in there.items()}
    yield from check_transactions(settings, connection, partitions, reach_timeout_s=reach_timeout_s)


def _check_topic(settings: Settings, topic: str, use: str, facts: TopicFacts) -> Iterator[Finding]:
    where = f"topic '{topic}'"
    partitions = "1 partition" if facts.partitions == 1 else f"{facts.partitions} partitions"
    if topic in {stream.topic for stream in settings.streams}:
        share = "1 instance works" if facts.partitions == 1 else f"up to {facts.partitions} instances share the work"
        yield ok(where, f"{use}, {partitions}: {share}")
        return
    yield ok(where, f"{use}, {partitions}")
    if facts.cleanup_policy is None or facts.max_message_bytes is None:
        yield warning(
            where,
            "its settings cannot be read: this user may lack the right",
            "grant DescribeConfigs on it, or see yourself that it takes messages without key, and large ones",
        )
    is_dead_letter = topic in {stream.dead_letter for stream in settings.streams}
    if facts.compacted and is_dead_letter:
        yield warning(
            where,
            "is compacted: a dead letter without key is refused, which stops the process",
            "set cleanup.policy=delete on it",
        )
    elif facts.compacted:
        yield warning(
            where,
            "is compacted: events without key are refused and become dead letters, and of each key the last one stays",
            "set cleanup.policy=delete on it, or see that every input has a key",
        )
    largest = settings.limits.max_dead_letter_bytes + MAX_HEAD_BYTES + OUR_HEADERS_BYTES
    if is_dead_letter and facts.max_message_bytes is not None and facts.max_message_bytes < largest:
        yield warning(
            where,
            f"takes messages of {facts.max_message_bytes:,} bytes, dead letters may hold {largest:,}: "
            "one that is refused stops the process",
            f"set max.message.bytes on it above {largest:,}, or limits.max_dead_letter_bytes lower",
        )


def check_times(settings: Settings) -> Iterator[Finding]:
    """Whether work under way can be finished before the group gives this member up."""
    times_ms: dict[str, float] = {}
    for name, default_ms in (
        ("max.poll.interval.ms", MAX_POLL_INTERVAL_MS),
        ("session.timeout.ms", SESSION_TIMEOUT_MS),
    ):
        value = settings.kafka.properties.get(name, default_ms)
        try:
            times_ms[name] = float(value) if isinstance(value, str | int | float) else float("nan")
        except ValueError:
            times_ms[name] = float("nan")
        if not times_ms[name] > 0:
            yield error(f"kafka.properties.{name}", "is no number of milliseconds", f"e.g. {default_ms}")
            return
    poll_s, session_s = times_ms["max.poll.interval.ms"] / 1000, times_ms["session.timeout.ms"] / 1000
    drain_s = settings.limits.drain_timeout_s
    if session_s > poll_s:
        yield error(
            "kafka.properties.session.timeout.ms",
            f"{session_s:g} s, longer than max.poll.interval.ms ({poll_s:g} s), which the client refuses",
            "set it lower, or max.poll.interval.ms higher",
        )
    if drain_s >= poll_s:
        yield error(
            "limits.drain_timeout_s",
            f"{drain_s:g} s, and the group gives a member up after {poll_s:g} s (max.poll.interval.ms)",
            f"set it well below {poll_s:g}, or max.poll.interval.ms higher",
        )
    elif settings.delivery == "exactly_once" and drain_s + settings.limits.commit_deadline_s >= poll_s:
        yield warning(
            "limits.commit_deadline_s",
            f"{settings.limits.commit_deadline_s:g} s for the last transaction after {drain_s:g} s to finish work "
            f"(limits.drain_timeout_s), and the group gives a member up after {poll_s:g} s (max.poll.interval.ms)",
            f"set both so that they come to less than {poll_s:g}, or max.poll.interval.ms higher",
        )
    else:
        yield ok("limits.drain_timeout_s", f"{drain_s:g} s to finish work in a rebalance; the group waits {poll_s:g} s")
