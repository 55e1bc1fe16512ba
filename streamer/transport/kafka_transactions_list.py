"""Who holds transactions open: questions of the Kafka protocol that librdkafka's admin client lacks (KIP-664).

Enters: an address, properties, transactional ids or partitions. Leaves: plain facts, or a UsageError. Needs the
library kafka-python, an extra of this package, which is loaded only here. Nothing is changed on the cluster.
Must not know: which transactional ids are ours, settings.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from streamer.errors import UsageError
from streamer.records import Partition
from streamer.transport.kafka_client import Properties
from streamer.transport.kafka_python import client_settings
from streamer.transport.kafka_transactions_admin import GROUP_OFFSETS

Answer = TypeVar("Answer")

# what the broker calls a transaction that is not finished
_OPEN_STATES = ("Ongoing", "PrepareCommit", "PrepareAbort")
_PAUSE_S = 0.1
_CAUSE = "Connection failed: "  # so begins the one complaint of kafka-python that names it


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction that is not finished, as its coordinator knows it.

    `state`: Ongoing, PrepareCommit or PrepareAbort. `timeout_ms`: set by its producer; the broker aborts an Ongoing
    one after it. `began_ms`: milliseconds since 1970. `partitions`: what it wrote to, a group's offsets among it, as
    far as this user may see the topics.
    """

    transactional_id: str
    state: str
    producer_id: int
    timeout_ms: int
    began_ms: int
    partitions: tuple[Partition, ...]

    @property
    def holds_offsets(self) -> bool:
        """Whether offsets of a group wait for its end."""
        return len(self.records_at) < len(self.partitions)

    @property
    def records_at(self) -> tuple[Partition, ...]:
        """Where it wrote records, offsets of a group left out."""
        return tuple(at for at in self.partitions if at.topic != GROUP_OFFSETS)


@dataclass(frozen=True, slots=True)
class Writer:
    """A producer with an unfinished transaction in a partition, whose first record there is `start_offset`."""

    producer_id: int
    start_offset: int


class TransactionList:
    """Asks coordinators and partition leaders; made by `transaction_list`. Every method raises UsageError when the
    cluster refuses or does not answer in time."""

    def __init__(self, admin: Any, timeout_s: float) -> None:
        self._admin = admin
        self._timeout_s = timeout_s

    def open_ids(self, producer_ids: Collection[int] = ()) -> dict[str, int]:
        """Transactional ids with an unfinished transaction -> producer id; of these producers, or of all.

        Those that this user may not describe are left out by the broker, without a word.
        """
        found = self._ask(
            lambda: self._admin.list_transactions(state_filters=_OPEN_STATES, producer_id_filters=list(producer_ids))
        )
        return {one.transactional_id: one.producer_id for listed in found.values() for one in listed}

    def knows(self, transactional_id: str) -> bool:
        """Whether the cluster has ever seen this id, and not forgotten it (transactional.id.expiration.ms)."""
        return self._describe(transactional_id) is not None

    def open_transaction(self, transactional_id: str) -> OpenTransaction | None:
        """The unfinished transaction of an id; None when there is none."""
        found = self._describe(transactional_id)
        if found is None or found.state.value not in _OPEN_STATES:
            return None
        return OpenTransaction(
            transactional_id=transactional_id,
            state=found.state.value,
            producer_id=found.producer_id,
            timeout_ms=found.transaction_timeout_ms,
            began_ms=found.transaction_start_time_ms,
            partitions=tuple(sorted(Partition(at.topic, at.partition) for at in found.topic_partitions)),
        )

    def writers(self, partitions: Collection[Partition]) -> dict[Partition, list[Writer]]:
        """Producers with an unfinished transaction in each partition, the first one first."""
        from kafka import TopicPartition

        wanted = [TopicPartition(at.topic, at.partition) for at in partitions]
        found = self._ask(lambda: self._admin.describe_producers(wanted))
        writers: dict[Partition, list[Writer]] = {}
        for at, state in found.items():
            inside = [
                Writer(one.producer_id, one.current_transaction_start_offset)
                for one in state.active_producers
                if one.current_transaction_start_offset >= 0
            ]
            writers[Partition(at.topic, at.partition)] = sorted(inside, key=lambda one: one.start_offset)
        return writers

    def _describe(self, transactional_id: str) -> Any:
        from kafka.errors import TransactionalIdNotFoundError

        def ask() -> Any:
            try:
                return self._admin.describe_transactions([transactional_id])[transactional_id]
            except TransactionalIdNotFoundError:
                return None

        return self._ask(ask)

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        from kafka.errors import AuthorizationError, KafkaError

        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return question()
            except AuthorizationError as error:
                name = type(error).__name__.removesuffix("Error")
                raise UsageError(f"this user may not look at transactions ({name})") from None
            except KafkaError as error:
                # a coordinator that moves or starts says so for a moment
                if not error.retriable or time.monotonic() > deadline:
                    raise UsageError(f"transactions cannot be listed: {_words(error)}") from None
                time.sleep(_PAUSE_S)


@contextmanager
def transaction_list(bootstrap_servers: str, properties: Properties, timeout_s: float) -> Iterator[TransactionList]:
    """A TransactionList connected for as long as the context lasts.

    Raises UsageError without kafka-python, for a login or TLS setting that it cannot take, and when no broker answers
    in `timeout_s`.
    """
    try:
        from kafka import KafkaAdminClient
        from kafka.errors import KafkaError
        from kafka.net.compat import KafkaNetClient
    except ImportError:
        raise UsageError("the library kafka-python 3 is not installed (pip install 'streamer[transactions]')") from None

    settings = client_settings(bootstrap_servers, properties, timeout_s)
    made: list[Any] = []

    def make(**config: Any) -> Any:
        made.append(KafkaNetClient(**config))
        return made[-1]

    with _overheard() as complaints:
        try:
            admin = KafkaAdminClient(**settings, kafka_client=make)
        except KafkaError as error:
            for client in made:  # what an admin client that could not start leaves open
                client.close()
            why = next((one for one in complaints if one.startswith(_CAUSE)), _words(error))
            raise UsageError(f"the library kafka-python cannot reach {bootstrap_servers}: {why}") from None
        try:
            yield TransactionList(admin, timeout_s)
        finally:
            admin.close()


@contextmanager
def transaction_list_if_possible(
    bootstrap_servers: str, properties: Properties, timeout_s: float
) -> Iterator[tuple[TransactionList | None, str]]:
    """A `transaction_list`; or None, and the reason why there is none."""
    with ExitStack() as stack:
        listed, limit = None, ""
        try:
            listed = stack.enter_context(transaction_list(bootstrap_servers, properties, timeout_s))
        except UsageError as failure:
            limit = str(failure)
        yield listed, limit


class _Complaints(logging.Handler):
    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(" ".join(record.getMessage().split()))


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Errors that kafka-python logs: it tells there alone why it cannot connect, and else they would stand on the
    terminal. At its debug level it logs passwords, so nothing below a warning is let out meanwhile."""
    library = logging.getLogger("kafka")
    before = library.level, library.propagate
    complaints: list[str] = []
    handler = _Complaints(complaints)
    library.addHandler(handler)
    library.setLevel(logging.ERROR)
    library.propagate = False
    try:
        yield complaints
    finally:
        library.removeHandler(handler)
        library.level, library.propagate = before


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
