"""The end of the road: messages to Kafka, each acknowledged, refused or failed.

Enters: Outbound messages. Leaves: one report per message. Must not know: labels, the pipeline, where a message came
from.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamer.errors import DeliveryError, StreamerError, UsageError
from streamer.records import Outbound
from streamer.transport.base import DeliveryOutcome, OnDelivered, Refused
from streamer.transport.kafka_admin import TopicFacts
from streamer.transport.kafka_client import Failures, Properties, configuration, connect, missing_topic, reason

_WAIT_S = 0.05
_CLOSE_S = 1.0
_CLIENT_LIMIT_BYTES = 1_000_000  # librdkafka's own default
_LARGEST_BYTES = 1_000_000_000  # the most that librdkafka can be set to
_ANY_PARTITION = -1  # as the partitioner says

_REFUSED = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.POLICY_VIOLATION,
    }
)


class Outstanding:
    """Size of the messages that were handed to a client and not yet reported."""

    def __init__(self) -> None:
        self.size_bytes = 0


class KafkaSink:
    """An idempotent producer: in order per partition, and once per message as long as it lives.

    A broker that refuses one message refuses the whole batch it came in, and does not tell which one it was. So what
    the topics are known to refuse is kept out of batches: `topics` holds what `kafka_admin.topic_facts` read of the
    output and dead-letter topics. Messages without a key for a compacted topic and timestamps out of bounds are
    refused here, and no batch grows beyond the smallest limit of a topic, so that a message beyond it travels alone.
    Of a topic that is not in `topics`, all messages of a refused batch are reported as refused.

    `buffer_memory_mb` bounds what waits to be sent. Raises UsageError for properties that librdkafka does not take.
    """

    def __init__(
        self, *, bootstrap_servers: str, properties: Properties, buffer_memory_mb: int, topics: Mapping[str, TopicFacts]
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topics = topics
        self._settled: deque[tuple[OnDelivered, DeliveryOutcome]] = deque()
        self._failures = Failures(bootstrap_servers)
        self._open = True
        self._buffer_bytes = buffer_memory_mb * 1024 * 1024
        self._outstanding = Outstanding()
        limits = [facts.max_message_bytes for facts in topics.values() if facts.max_message_bytes is not None]
        ours: dict[str, object] = {
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",  # as Java's producer does it
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.size": min([_CLIENT_LIMIT_BYTES, *limits]),
            "message.max.bytes": min(max([_CLIENT_LIMIT_BYTES, *limits]), _LARGEST_BYTES),
            # a guard: `full` says so before, and what it counts lacks the client's own overhead
            "queue.buffering.max.kbytes": 2 * buffer_memory_mb * 1024,
            # ends before a consumer that waits for it is put out of its group (max.poll.interval.ms, 5 minutes)
            "message.timeout.ms": 120_000,
            "error_cb": self._failures.on_client_error,
            **self._more(),
        }
        self._config = configuration(bootstrap_servers, properties, ours)
        self._producer: Producer = connect(Producer, self._config)

    def _more(self) -> Mapping[str, object]:
        """Properties of a kind of sink."""
        return {}

    @property
    def full(self) -> bool:
        return self._outstanding.size_bytes >= self._buffer_bytes

    def send(self, message: Outbound, on_delivered: OnDelivered) -> None:
        """See `Sink.send`. A timestamp of None or 0 becomes the time of sending. Acknowledgements are served by
        `flush`, many at a time. Raises UsageError when the broker refuses the login."""
        topic, key, value, headers, timestamp_ms, _ = message
        facts = self._topics.get(topic)
        if facts is not None and (key is None or timestamp_ms):
            refusal = _known_refusal(facts, key, timestamp_ms)
            if refusal is not None:
                self._settled.append((on_delivered, refusal))
                return
        size = (0 if value is None else len(value)) + (0 if key is None else len(key))
        report = partial(self._report, self._outstanding, size, topic, on_delivered)
        own: list[tuple[str, str | bytes | None]] | None = list(headers) if headers else None
        while True:
            try:
                # by place: names would take a third of the call
                self._producer.produce(topic, value, key, _ANY_PARTITION, report, None, timestamp_ms or 0, own)
            except BufferError:
                self._serve(_WAIT_S)
            except KafkaException as error:
                self._settled.append((on_delivered, self._outcome(error.args[0], topic)))
                return
            else:
                self._outstanding.size_bytes += size
                return

    def flush(self, timeout_s: float) -> int:
        """See `Sink.flush`. Raises UsageError when the broker refuses the login."""
        self._serve(0)
        if timeout_s > 0 and len(self._producer):
            # sends at once what lingers; a mere look at reports (timeout 0) must not, or batches stay small
            self._ask(self._producer.flush, timeout_s)
            self._serve(0)
        return len(self._producer) + len(self._settled)

    def close(self) -> None:
        """Let go of the broker; messages not yet acknowledged are given up without a report."""
        if not self._open:
            return
        self._open = False
        self._settled.clear()
        self._producer.purge(blocking=False)
        with suppress(KafkaException):  # a client that is finished says so again
            self._producer.flush(_CLOSE_S)
            self._producer.close()

    def _serve(self, wait_s: float) -> None:
        self._ask(self._producer.poll, wait_s)
        while self._settled:
            on_delivered, outcome = self._settled.popleft()
            on_delivered(outcome)
        self._failures.raise_first()

    def _ask(self, question: Callable[[float], int], wait_s: float) -> None:
        """A client that is finished says so at any call."""
        try:
            question(wait_s)
        except KafkaException as error:
            raise self._reaction(error.args[0]) from None

    def _reaction(self, error: KafkaError) -> StreamerError:
        return self._failures.reaction(error)

    def _report(
        self,
        counted_in: Outstanding,
        size: int,
        topic: str,
        on_delivered: OnDelivered,
        error: KafkaError | None,
        _message: Message,
    ) -> None:
        counted_in.size_bytes -= size
        if self._open:
            on_delivered(None if error is None else self._outcome(error, topic))

    def _outcome(self, error: KafkaError, topic: str) -> DeliveryOutcome:
        if error.code() in _REFUSED:
            return Refused(reason(error))
        if error.code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART):
            return DeliveryError(str(missing_topic(topic, self._bootstrap_servers)))
        known = self._failures.reaction(error, topic)
        if isinstance(known, UsageError):
            return known
        return DeliveryError(f"topic {topic!r}: a message could not be delivered: {reason(error)}")


def _known_refusal(facts: TopicFacts, key: bytes | None, timestamp_ms: int | None) -> Refused | None:
    if key is None and facts.compacted:
        return Refused("the topic is compacted and takes no message without a key")
    before_max_ms, after_max_ms = facts.timestamp_before_max_ms, facts.timestamp_after_max_ms
    if timestamp_ms and not (before_max_ms is None and after_max_ms is None):
        ahead_ms = timestamp_ms - time.time() * 1000
        if after_max_ms is not None and ahead_ms > after_max_ms:
            return Refused(f"the timestamp lies more than {after_max_ms} ms in the future")
        if before_max_ms is not None and -ahead_ms > before_max_ms:
            return Refused(f"the timestamp lies more than {before_max_ms} ms in the past")
    return None
