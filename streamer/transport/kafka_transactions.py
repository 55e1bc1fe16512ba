"""The end of the road under exactly_once: messages and offsets to Kafka in one transaction.

Enters: Outbound messages, next offsets, a consumer's group metadata. Leaves: transactions that a read_committed
reader sees whole or not at all. Must not know: labels, the pipeline, where a message came from.

Calls that talk to the transaction coordinator may take seconds while it moves, and librdkafka is known to hang in
them (its issues 5456 and 5511). So they run on a thread of their own, one at a time, and are looked at from outside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Event, Thread

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from streamer.errors import FatalError, RewindError, StreamerError, TransientError
from streamer.records import Outbound
from streamer.transport.base import CommitToken, DeliveryOutcome, Offsets, OnDelivered, Refused
from streamer.transport.kafka_admin import TopicFacts
from streamer.transport.kafka_client import Properties, connect, reason
from streamer.transport.kafka_positions import topic_partitions
from streamer.transport.kafka_sink import KafkaSink

_GRACE_S = 5.0  # a call is asked to return in time; one that does not even then hangs
_RETRY_S = 0.1

# another client took this one's transactional id, or the coordinator ended a transaction that lasted too long
_FENCED = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.FENCED_INSTANCE_ID}
)


class _Call:
    """Work on the transaction, under way on its thread. Implements Settling.

    `overdue` tells what hangs, None while all is well."""

    def __init__(self, act: Callable[[], None], overdue: Callable[[], str | None]) -> None:
        self._act = act
        self._overdue = overdue
        self._done = Event()
        self._error: Exception | None = None
        Thread(target=self._run, name="transaction", daemon=True).start()

    def _run(self) -> None:
        try:
            self._act()
        except Exception as error:
            self._error = error
        self._done.set()

    def wait(self, timeout_s: float) -> bool:
        if self._done.wait(timeout_s):
            if self._error is not None:
                raise self._error
            return True
        hanging = self._overdue()
        if hanging is not None:
            raise FatalError(hanging)
        return False


class KafkaTransactionalSink(KafkaSink):
    """A producer with a transactional id, which one living process may hold at a time.

    Errors of a call are told apart: those that may pass are tried again for `commit_deadline_s`; after those that
    need an abort the transaction is aborted; where nobody knows whether a commit took place, a new producer takes the
    id over, which settles it, one way or the other. Both end in RewindError: the committed offsets tell. All else is
    fatal, above all being fenced.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        properties: Properties,
        buffer_memory_mb: int,
        topics: Mapping[str, TopicFacts],
        transactional_id: str,
        transaction_timeout_s: float,
        commit_deadline_s: float,
    ) -> None:
        self._transactional_id = transactional_id
        self._transaction_timeout_s = transaction_timeout_s
        self._commit_deadline_s = commit_deadline_s
        self._log = structlog.get_logger()
        self._transaction = 0
        self._calling: tuple[str, float] | None = None  # of the client, and since when
        super().__init__(
            bootstrap_servers=bootstrap_servers,
            properties=properties,
            buffer_memory_mb=buffer_memory_mb,
            topics=topics,
        )

    def _more(self) -> Mapping[str, object]:
        timeout_ms = int(self._transaction_timeout_s * 1000)
        return {
            "transactional.id": self._transactional_id,
            "transaction.timeout.ms": timeout_ms,
            "message.timeout.ms": timeout_ms,  # the client takes no more than this
            "error_cb": self._on_client_error,
        }

    def _on_client_error(self, error: KafkaError) -> None:
        if _is_fenced(error):
            self._failures.keep(self._fenced())
        else:
            self._failures.on_client_error(error)

    def open(self) -> None:
        """See `TransactionalSink.open`. Raises TransientError when the coordinator does not answer in time."""
        try:
            self._retried("init_transactions", self._producer.init_transactions, self._deadline_s())
        except KafkaException as error:
            raise self._reaction(error.args[0]) from None

    def begin(self) -> None:
        self._transaction += 1
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            self._recover(error)
            raise RewindError(f"a transaction could not begin: {reason(error)}") from None

    def commit(self, offsets: Offsets, token: CommitToken) -> _Call:
        """See `TransactionalSink.commit`. All messages must have been acknowledged: reports come on the caller's
        thread only."""
        return _Call(lambda: self._commit(offsets, token), self._overdue)

    def abort(self) -> _Call:
        self._transaction += 1  # reports of the old one count no more
        self._settled.clear()
        return _Call(self._abort, self._overdue)

    def close(self) -> None:
        """See `KafkaSink.close`. A client that hangs in a call is left to the end of the process."""
        if self._calling is None:
            super().close()

    def _commit(self, offsets: Offsets, token: CommitToken) -> None:
        deadline_s = self._deadline_s()
        partitions = topic_partitions(offsets)
        try:
            self._retried(
                "send_offsets_to_transaction",
                lambda timeout_s: self._producer.send_offsets_to_transaction(partitions, token, timeout_s),
                deadline_s,
            )
            self._retried("commit_transaction", lambda s: self._producer.commit_transaction(s), deadline_s)
        except KafkaException as error:
            self._recover(error)
            raise RewindError(f"the transaction came to nothing: {reason(error)}") from None

    def _abort(self) -> None:
        try:
            self._retried("abort_transaction", lambda s: self._producer.abort_transaction(s), self._deadline_s())
        except KafkaException as error:
            if error.args[0].fatal() or _is_fenced(error.args[0]):
                raise self._reaction(error.args[0]) from None
            self._renew()

    def _recover(self, error: KafkaException) -> None:
        """Be ready for another transaction. Raises FatalError."""
        if error.args[0].fatal() or _is_fenced(error.args[0]):
            raise self._reaction(error.args[0]) from None
        self._transaction += 1
        if error.args[0].txn_requires_abort():
            self._abort()
        else:
            self._renew()

    def _renew(self) -> None:
        """A new producer of the same id: the broker ends what the old one left, before this returns."""
        self._log.warning("new producer", transactional_id=self._transactional_id)
        old = self._producer
        old.purge(blocking=False)
        self._producer = connect(Producer, self._config)
        self.open()
        with suppress(KafkaException):
            self._retried("close", lambda _: old.close(), self._deadline_s())

    def _retried(self, name: str, call: Callable[[float], object], deadline_s: float) -> None:
        """Call until it succeeds, or fails in a way that does not pass, or the deadline is over."""
        while True:
            self._calling = (name, time.monotonic())
            try:
                call(max(0.1, deadline_s - time.monotonic()))
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() >= deadline_s:
                    raise
                self._log.warning("transaction call is tried again", call=name, text=reason(error))
                time.sleep(_RETRY_S)
            else:
                return
            finally:
                self._calling = None

    def _deadline_s(self) -> float:
        return time.monotonic() + self._commit_deadline_s

    def _overdue(self) -> str | None:
        calling = self._calling
        if calling is None or time.monotonic() - calling[1] < self._commit_deadline_s + _GRACE_S:
            return None
        return (
            f"the Kafka client hangs in {calling[0]} beyond limits.commit_deadline_s "
            f"({self._commit_deadline_s:g} s); the records since the last commit are read again after a restart"
        )

    def _reaction(self, error: KafkaError) -> StreamerError:
        """What an error means that cannot be recovered from here."""
        if _is_fenced(error):
            return self._fenced()
        reaction = super()._reaction(error)
        if isinstance(reaction, TransientError):
            return TransientError(f"transactional id '{self._transactional_id}': {reason(error)}")
        return reaction

    def _fenced(self) -> FatalError:
        return FatalError(
            f"fenced: another process took the transactional id '{self._transactional_id}', or this one stood still "
            f"for more than limits.transaction_timeout_s ({self._transaction_timeout_s:g} s); each process needs a "
            "kafka.transactional_id (or group_instance_id) of its own"
        )

    def _outcome(self, error: KafkaError, topic: str) -> DeliveryOutcome:
        if _is_fenced(error):
            return self._fenced()
        outcome = super()._outcome(error, topic)
        if isinstance(outcome, Refused) or not isinstance(self._failures.reaction(error, topic), TransientError):
            return outcome
        return RewindError(f"topic '{topic}': a message could not be delivered: {reason(error)}")

    def send(self, message: Outbound, on_delivered: OnDelivered) -> None:
        """See `KafkaSink.send`."""
        transaction = self._transaction

        def of_this_transaction(outcome: DeliveryOutcome) -> None:
            if transaction == self._transaction:
                on_delivered(outcome)

        super().send(message, of_this_transaction)


def _is_fenced(error: KafkaError) -> bool:
    """By its code, or where the client hides that behind "fatal", by its words."""
    return error.code() in _FENCED or (error.fatal() and "fenced" in reason(error).lower())
