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

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from streamer.errors import FatalError, RewindError, StreamerError, TransientError, UsageError
from streamer.records import Outbound
from streamer.transport.base import CommitToken, DeliveryOutcome, Offsets, OnDelivered, Refused
from streamer.transport.kafka_admin import TopicFacts
from streamer.transport.kafka_calls import Call, Hands, Progress
from streamer.transport.kafka_client import Properties, connect, is_rival_member, reason
from streamer.transport.kafka_positions import topic_partitions
from streamer.transport.kafka_sink import KafkaSink, Outstanding

_GRACE_S = 2.0  # a call is asked to return in time; one that does not even then hangs
_RETRY_S = 0.1
# producers in a row that came to nothing: more would not help
_MOST_RENEWALS = 5

# another client took this one's transactional id, or the coordinator ended a transaction that lasted too long
_FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})


class KafkaTransactionalSink(KafkaSink):
    """A producer with a transactional id, which one living process may hold at a time.

    Errors of a call are told apart. Those that may pass are tried again for `commit_deadline_s`. After those that
    need an abort, the transaction is aborted. Where nobody knows whether a commit took place, where the client is
    finished or hangs, and where the broker has ended a transaction that outlived `transaction_timeout_s`, a new
    producer takes the id over, which settles what was open, one way or the other. All of these end in RewindError: the
    committed offsets tell. A sink that is fenced otherwise has a living rival, and ends the process, as do missing
    rights.
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
        self._began_s = 0.0
        self._renewals = 0
        self._hands = Hands()
        self._call: Call | None = None
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
            # sooner than the broker ends the transaction, so that there is one to abort
            "message.timeout.ms": max(500, timeout_ms * 7 // 10),
            "error_cb": self._on_client_error,
        }

    def _on_client_error(self, error: KafkaError) -> None:
        if not error.fatal():  # what ends the client is said again by its next call, which knows what to do
            self._failures.on_client_error(error)

    def open(self) -> None:
        """See `TransactionalSink.open`. Raises TransientError when the coordinator does not answer in time."""
        self._open_producer(Progress())

    def begin(self) -> None:
        self._transaction += 1
        # what an earlier transaction left unreported never counts again: a client left behind reports nothing
        self._outstanding = Outstanding()
        self._began_s = time.monotonic()
        try:
            self._producer.begin_transaction()
        except KafkaException as error:
            raise RewindError(f"a transaction could not begin: {reason(error)}") from None

    def commit(self, offsets: Offsets, token: CommitToken) -> Call:
        """See `TransactionalSink.commit`. All messages must have been acknowledged: reports come on the caller's
        thread only."""
        return self._call_out(lambda progress: self._commit(progress, self._producer, offsets, token))

    def abort(self) -> Call:
        self._transaction += 1  # reports of the old one count no more
        self._settled.clear()
        return self._call_out(lambda progress: self._abort(progress, self._producer))

    def _call_out(self, act: Callable[[Progress], None]) -> Call:
        self._call = Call(
            act, hands=self._hands, patience_s=self._commit_deadline_s + _GRACE_S, instead=self._leave_behind
        )
        return self._call

    def close(self) -> None:
        """See `KafkaSink.close`. A client that hangs in a call is left to the end of the process."""
        self._hands.end()
        if self._call is None or self._call.progress.calling is None:
            super().close()

    def _commit(self, progress: Progress, producer: Producer, offsets: Offsets, token: CommitToken) -> None:
        deadline_s = self._deadline_s()
        partitions = topic_partitions(offsets)
        try:
            self._retried(
                progress,
                "send_offsets_to_transaction",
                lambda timeout_s: producer.send_offsets_to_transaction(partitions, token, timeout_s),
                deadline_s,
            )
            self._retried(progress, "commit_transaction", producer.commit_transaction, deadline_s)
        except KafkaException as error:
            self._recover(progress, producer, error.args[0])
            raise RewindError(f"the transaction came to nothing: {reason(error)}") from None
        self._renewals = 0

    def _abort(self, progress: Progress, producer: Producer) -> None:
        try:
            self._retried(progress, "abort_transaction", producer.abort_transaction, self._deadline_s())
        except KafkaException as error:
            self._refuse_rival(error.args[0])
            self._renew(progress, producer)

    def _recover(self, progress: Progress, producer: Producer, error: KafkaError) -> None:
        """Be ready for another transaction. Raises what cannot be recovered from."""
        if producer is not self._producer:
            return  # it was left behind, and there is a new one already
        self._refuse_rival(error)
        self._transaction += 1
        if error.txn_requires_abort():
            self._abort(progress, producer)
        else:
            self._renew(progress, producer)

    def _refuse_rival(self, error: KafkaError) -> None:
        """A transaction that lasted too long was ended by the broker; one that did not, by another process."""
        known = self._failures.reaction(error)
        if isinstance(known, UsageError) or is_rival_member(error):
            raise known
        if _is_fenced(error) and time.monotonic() - self._began_s < self._transaction_timeout_s:
            raise FatalError(
                f"fenced: another process took the transactional id '{self._transactional_id}'; each process needs a "
                "kafka.transactional_id (or group_instance_id) of its own"
            )

    def _leave_behind(self, progress: Progress, hands: Hands, hanging: str) -> None:
        """Go on with a new producer, though the old one never returned. Should it do so later, the broker takes
        nothing from it any more."""
        self._log.warning("the Kafka client hangs and is left behind", call=hanging, after_s=self._commit_deadline_s)
        self._transaction += 1
        self._hands.end()  # of the old ones, should they ever be free again
        self._hands = hands
        self._renew(progress, None)
        raise RewindError(f"the Kafka client hung in {hanging} for {self._commit_deadline_s:g} s")

    def _renew(self, progress: Progress, old: Producer | None) -> None:
        """A new producer of the same id: the broker ends what the old one left, before this returns."""
        self._renewals += 1
        if self._renewals > _MOST_RENEWALS:
            raise FatalError(
                f"transactional id '{self._transactional_id}': {_MOST_RENEWALS} producers in a row came to nothing"
            )
        self._log.warning("new producer", transactional_id=self._transactional_id, in_a_row=self._renewals)
        if old is not None:
            old.purge(blocking=False)
        self._producer = connect(Producer, self._config)
        self._open_producer(progress)
        if old is not None:
            with suppress(KafkaException):
                self._retried(progress, "close", lambda _: old.close(), self._deadline_s())

    def _open_producer(self, progress: Progress) -> None:
        self._began_s = time.monotonic()
        try:
            self._retried(progress, "init_transactions", self._producer.init_transactions, self._deadline_s())
        except KafkaException as error:
            self._refuse_rival(error.args[0])
            raise TransientError(f"transactional id '{self._transactional_id}': {reason(error)}") from None

    def _retried(self, progress: Progress, name: str, ask: Callable[[float], object], deadline_s: float) -> None:
        """Ask until it succeeds, or fails in a way that does not pass, or the deadline is over."""
        while True:
            progress.calling = (name, time.monotonic())
            try:
                ask(max(0.1, deadline_s - time.monotonic()))
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() >= deadline_s:
                    raise
                self._log.warning("transaction call is tried again", call=name, text=reason(error))
                time.sleep(_RETRY_S)
            else:
                return
            finally:
                progress.calling = None

    def _deadline_s(self) -> float:
        return time.monotonic() + self._commit_deadline_s

    def _reaction(self, error: KafkaError) -> StreamerError:
        """What makes the transaction worthless is mended by aborting it."""
        known = super()._reaction(error)
        return known if isinstance(known, UsageError) else RewindError(reason(error))

    def _outcome(self, error: KafkaError, topic: str) -> DeliveryOutcome:
        outcome = super()._outcome(error, topic)
        if isinstance(outcome, Refused) or isinstance(self._failures.reaction(error, topic), UsageError):
            return outcome
        return RewindError(f"topic '{topic}': a message could not be delivered: {reason(error)}")

    def send(self, message: Outbound, on_delivered: OnDelivered) -> None:
        """See `KafkaSink.send`. Raises RewindError when the client is finished."""
        transaction = self._transaction

        def of_this_transaction(outcome: DeliveryOutcome) -> None:
            if transaction == self._transaction:
                on_delivered(outcome)

        super().send(message, of_this_transaction)


def _is_fenced(error: KafkaError) -> bool:
    """By its code, or where the client hides that behind "fatal", by its words."""
    return error.code() in _FENCED or (error.fatal() and "fenced" in reason(error).lower())
