"""`streamer check --abort-transactions`: ends transactions of this group that a dead process left open.

Enters: settings, a connection, transactional ids. Leaves: a line for each, or one error. An id is taken over, which
makes the broker abort what it left open, and fences a process that still holds it: so only ids that the user names,
that are this group's, and whose transaction is older than a living process's would be.
Must not know: how transactions are found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from streamer.app import Connection
from streamer.check.transactions import Ours, age_s, ours_of, shown, spell
from streamer.errors import UsageError
from streamer.feed import QUIET
from streamer.settings import Settings

if TYPE_CHECKING:
    from streamer.transport.kafka_transactions_list import OpenTransaction, TransactionList


def abort_transactions(
    settings: Settings,
    connection: Connection,
    transactional_ids: Sequence[str],
    *,
    reach_timeout_s: float,
    wall_clock: Callable[[], float] = time.time,
) -> Iterator[str]:
    """Abort what these ids left open, one after the other, and say so line by line.

    Where kafka-python cannot tell what is open, only the id of these very settings is taken over.
    Raises UsageError for an id that is not this group's, that Kafka does not know, or whose transaction is young; no
    id is touched before all were found to be of this group by name. Raises TransientError when the broker does not
    answer within `limits.commit_deadline_s`.
    """
    if connection.embedded:
        raise UsageError("the embedded broker knows no transactions: there is nothing to abort")
    from streamer.transport.kafka_admin import describe_cluster
    from streamer.transport.kafka_transactions_admin import take_over
    from streamer.transport.kafka_transactions_list import transaction_list_if_possible

    ours = ours_of(settings)
    for name in transactional_ids:
        if not ours.named(name):
            raise UsageError(
                f"transactional id '{shown(name)}' is not of group '{settings.kafka.group_id}', whose ids begin with "
                f"'{ours.prefix}'; give -c the settings of its own group"
            )
    servers, properties = connection.bootstrap_servers, {**QUIET, **connection.properties}
    describe_cluster(servers, properties, reach_timeout_s)
    with transaction_list_if_possible(servers, properties, reach_timeout_s) as (listed, limit):
        for name in transactional_ids:
            found = None
            if listed is not None:
                found = _require_hanging(settings, ours, listed, name, wall_clock())
                if found is None:
                    yield f"transactional id '{shown(name)}' has no open transaction: nothing to abort"
                    continue
            elif name != ours.used_id:
                raise UsageError(f"'{shown(name)}' cannot be told from another group's, and is left alone: {limit}")
            take_over(
                servers,
                properties,
                transactional_id=name,
                transaction_timeout_s=settings.limits.transaction_timeout_s,
                timeout_s=settings.limits.commit_deadline_s,
            )
            since = f", open for {spell(age_s(found, wall_clock()))}" if found else ", if any was open"
            yield (
                f"aborted the transaction of '{shown(name)}'{since}; "
                "a process that still held this id is fenced, and ends when it next commits"
            )


def _require_hanging(
    settings: Settings, ours: Ours, listed: TransactionList, name: str, now_s: float
) -> OpenTransaction | None:
    """The open transaction of an id; None where there is none. Raises UsageError where it must be left alone."""
    found = listed.open_transaction(name)
    if found is None:
        if not listed.knows(name):
            raise UsageError(f"Kafka knows no transactional id '{shown(name)}'; streamer check lists those that hang")
        return None
    if not ours.owns(found):
        foreign = ours.foreign_topics(found)
        where = f"'{foreign[0]}', which these settings do not name" if foreign else "topics that this user may not see"
        raise UsageError(
            f"transactional id '{shown(name)}' writes to {where}: it may be another group's, and is left alone"
        )
    age, timeout_s = age_s(found, now_s), settings.limits.transaction_timeout_s
    if age <= timeout_s:
        raise UsageError(
            f"the transaction of '{shown(name)}' is open for {spell(age)} only: a living process may be at work, and "
            f"would be fenced; try again when it is open for more than limits.transaction_timeout_s ({timeout_s:g} s)"
        )
    return found
