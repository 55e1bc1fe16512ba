"""Whether the settings of exactly_once fit each other, and what the cluster takes.

Enters: settings, and for the second question a connection. Leaves: Findings; none under at_least_once. Must not know:
which transactions are open.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from streamer.app import Connection
from streamer.check.findings import Finding, error, ok, told_by, warning
from streamer.errors import StreamerError
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.transport.kafka_transactions_admin import TransactionAdmin


def check_delivery(settings: Settings) -> Iterator[Finding]:
    """Under which name a process works, and times that work against each other. Nothing is asked of the cluster."""
    if settings.delivery != "exactly_once":
        return
    limits = settings.limits
    yield ok("delivery", f"exactly_once as transactional id '{settings.transactional_id()}', {_origin(settings)}")
    if limits.commit_deadline_s < limits.transaction_timeout_s:
        yield warning(
            "limits.commit_deadline_s",
            f"{limits.commit_deadline_s:g} s, and the broker gives a transaction {limits.transaction_timeout_s:g} s: "
            "the process would end where a slow broker may still answer",
            f"set it to {limits.transaction_timeout_s:g} or more, or limits.transaction_timeout_s lower",
        )
    if "transaction.timeout.ms" in settings.kafka.properties:
        yield warning(
            "kafka.properties.transaction.timeout.ms",
            f"takes the place of limits.transaction_timeout_s ({limits.transaction_timeout_s:g} s), which all other "
            "times are measured against",
            "remove it, and set limits.transaction_timeout_s",
        )


def _origin(settings: Settings) -> str:
    """Where the transactional id comes from, and what that means for a second process."""
    if settings.kafka.transactional_id is not None:
        return "as set: each process needs one of its own"
    if settings.kafka.group_instance_id is not None:
        return "from kafka.group_id and group_instance_id"
    return (
        "from kafka.group_id and this host's name: a second process on this host needs a kafka.transactional_id "
        "or group_instance_id of its own"
    )


def check_transactional_producer(
    settings: Settings, connection: Connection, admin: TransactionAdmin
) -> Iterator[Finding]:
    """Whether the client and the brokers take what exactly_once needs. Nothing is taken up or written.

    A producer is made as `streamer run` makes it, because librdkafka alone knows which properties it refuses beside a
    transactional id.
    """
    from streamer.transport.kafka_transactions import KafkaTransactionalSink

    limits = settings.limits
    if str(connection.properties.get("isolation.level", "read_committed")).lower() != "read_committed":
        yield error(
            "kafka.properties.isolation.level",
            "reads what transactions that came to nothing have left, and offsets that are about to change: "
            "records would be labelled twice",
            "remove it: exactly_once needs read_committed",
        )
    try:
        KafkaTransactionalSink(
            bootstrap_servers=connection.bootstrap_servers,
            properties=connection.properties,
            buffer_memory_mb=settings.kafka.send_memory_mb,
            topics={},
            transactional_id=settings.transactional_id(),
            transaction_timeout_s=limits.transaction_timeout_s,
            commit_deadline_s=limits.commit_deadline_s,
        ).close()
    except StreamerError as failure:
        yield told_by("kafka.properties", failure)
    longest_ms = admin.longest_timeout_ms()
    if longest_ms is None:
        yield ok(
            "limits.transaction_timeout_s",
            f"{limits.transaction_timeout_s:g} s; the brokers' transaction.max.timeout.ms cannot be read "
            "(DescribeConfigs on the cluster)",
        )
    elif limits.transaction_timeout_s * 1000 > longest_ms:
        yield error(
            "limits.transaction_timeout_s",
            f"{limits.transaction_timeout_s:g} s, and the brokers take {longest_ms / 1000:g} s at most "
            "(transaction.max.timeout.ms)",
            f"set it to {longest_ms / 1000:g} or less",
        )
    else:
        yield ok(
            "limits.transaction_timeout_s",
            f"{limits.transaction_timeout_s:g} s until the broker ends a dead process's transaction; "
            f"the brokers take up to {longest_ms / 1000:g} s",
        )
