"""Short texts that outlive a process, kept at the broker beside the committed offsets of groups that nobody joins.

Enters: a group, a partition, an offset and a text. Leaves: the same text, as long as the broker keeps the offset
(offsets.retention.minutes, 7 days unless set otherwise; gone with the topic). Must not know: what the texts say.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.records import Partition
from streamer.transport.kafka_client import Failures, Properties, configuration, connect


class GroupNotes:
    """Notes of any group; each question and each note waits for the broker, at most `timeout_s`.

    A text may have 4096 bytes, unless the broker is set otherwise (offset.metadata.max.bytes). Both methods raise
    UsageError when rights on the group are missing, TransientError when the broker does not answer.
    """

    def __init__(self, *, bootstrap_servers: str, properties: Properties, timeout_s: float) -> None:
        self._failures = Failures(bootstrap_servers)
        self._timeout_s = timeout_s
        ours: dict[str, object] = {"error_cb": self._failures.on_client_error}
        self._client: AdminClient = connect(AdminClient, configuration(bootstrap_servers, properties, ours))

    def read(self, group: str, at: Partition) -> str:
        """The text, empty where there is none."""
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(*at)])
        found = self._answer(group, self._client.list_consumer_group_offsets([asked], request_timeout=self._timeout_s))
        return found.metadata or ""

    def write(self, group: str, at: Partition, offset: int, text: str) -> None:
        noted = ConsumerGroupTopicPartitions(group, [TopicPartition(at.topic, at.partition, offset, text)])
        self._answer(group, self._client.alter_consumer_group_offsets([noted], request_timeout=self._timeout_s))

    def _answer(self, group: str, answers: dict[str, Future[Any]]) -> TopicPartition:
        try:
            answer: TopicPartition = answers[group].result().topic_partitions[0]
            if answer.error is not None:
                raise KafkaException(answer.error)
        except KafkaException as error:
            self._client.poll(0)  # why it failed is told by a callback, which runs only here
            self._failures.raise_first()
            failed: KafkaError = error.args[0]
            reaction = self._failures.reaction(failed)
            raise type(reaction)(f"group {group!r}: {reaction}") from None
        return answer
