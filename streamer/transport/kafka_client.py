"""What all Kafka clients share: their configuration, their log, and what an error of theirs means to a user.

Enters: properties as the user wrote them, KafkaErrors. Leaves: configurations for librdkafka, log lines, UsageErrors.
Must not know: records, offsets, the pipeline.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

import structlog
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, KafkaException, Message

from streamer.errors import FatalError, StreamerError, TransientError, UsageError
from streamer.records import Headers

Client = TypeVar("Client")

# librdkafka's properties, as its CONFIGURATION.md names them
Properties: TypeAlias = Mapping[str, str | int | float | bool]
GroupProtocol: TypeAlias = Literal["classic", "consumer"]
OffsetReset: TypeAlias = Literal["earliest", "latest"]

_RESERVED = {
    "bootstrap.servers": "set kafka.bootstrap_servers",
    "metadata.broker.list": "set kafka.bootstrap_servers",
    "group.id": "set kafka.group_id",
    "group.protocol": "set kafka.group_protocol",
    "group.instance.id": "set kafka.group_instance_id",
    "auto.offset.reset": "set kafka.auto_offset_reset",
    "transactional.id": "set delivery",
    "partition.assignment.strategy": "the assignment is always cooperative-sticky",
    "enable.auto.commit": "offsets are committed when their outputs are acknowledged, never before",
    "enable.auto.offset.store": "offsets are committed when their outputs are acknowledged, never before",
}
_REPEAT_S = 10.0
_SECRET_WORDS = ("password", "passphrase", "secret", "token", "credential", "jaas", ".pem", "oauthbearer.config")

_LOGIN = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
    }
)
_DENIED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_MISSING_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
# the last two: another client took this one's place
_FATAL = frozenset({KafkaError._FATAL, KafkaError._FENCED, KafkaError.PRODUCER_FENCED})
# of two members with one group.instance.id the classic protocol turns out the first, the consumer protocol the second
_RIVAL_MEMBERS = frozenset({KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID})
_WRONG = frozenset(
    {
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_GROUP_ID,
        KafkaError.INVALID_SESSION_TIMEOUT,
        KafkaError.INCONSISTENT_GROUP_PROTOCOL,
        KafkaError.UNSUPPORTED_ASSIGNOR,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError.GROUP_MAX_SIZE_REACHED,
    }
)


class Sparing:
    """Lets a line through once in `_REPEAT_S`: a client without its broker says the same 25 times a second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last_s: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def held_back(self, text: str) -> int | None:
        """None: hold this line back too. A number: let it through, so many like it were held back before."""
        key = re.sub(r"\d+", "", text)  # ports, durations and thread numbers make no new line
        now_s = self._clock()
        if now_s - self._last_s.get(key, -math.inf) < _REPEAT_S:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return None
        self._last_s[key] = now_s
        return self._held_back.pop(key, 0)


class ClientLog:
    """librdkafka's log lines as structured log lines; stands where the client wants a `logging.Logger`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._log = structlog.get_logger()
        self._sparing = Sparing(clock)

    def log(self, level: int, _template: str, facility: str, client: str, text: str) -> None:
        # consumers and producers are given the same properties, and each complains of those that are the other's
        if facility == "CONFWARN" and "will be ignored by this" in text:
            return
        repeated = self._sparing.held_back(text)
        if repeated is not None:
            self._log.log(level, "kafka client", facility=facility, client=client, text=text, repeated=repeated)


def configuration(bootstrap_servers: str, properties: Properties, ours: Mapping[str, object]) -> dict[str, Any]:
    """`ours`, overridden by the user's properties. Raises UsageError for a property that has a setting of its own."""
    for name in properties:
        if name in _RESERVED:
            raise UsageError(f"kafka.properties: {name!r} cannot be set here: {_RESERVED[name]}")
    return {"bootstrap.servers": bootstrap_servers, **ours, **properties}


def connect(client: Callable[..., Client], config: dict[str, Any]) -> Client:
    """Make a client that logs to structlog. Raises UsageError when librdkafka does not accept the configuration."""
    try:
        return client(config, logger=ClientLog(time.monotonic))
    except (KafkaException, TypeError, ValueError) as error:
        raise UsageError(f"kafka.properties: {_without_secrets(reason(error), config)}") from None


def reason(error: KafkaError | Exception) -> str:
    """The client's own words, on one line."""
    if isinstance(error, KafkaException):
        error = error.args[0]
    text = error.str() if isinstance(error, KafkaError) else str(error)
    return " ".join(text.split()) or repr(error)


def code(error: KafkaException) -> int:
    """The error code inside an exception of the client."""
    return int(error.args[0].code())


def consume(consumer: Consumer, failures: Failures, max_records: int, timeout_s: float) -> list[Message]:
    """Up to `max_records` messages, waiting at most `timeout_s` for the first. Raises what `failures` makes of an error
    of the client; those of messages are the caller's."""
    try:
        # a wait for many would last until all are there, so wait for one
        messages: list[Message] = consumer.consume(max_records, 0)
        if not messages:
            messages = consumer.consume(1, timeout_s)
            if messages and max_records > 1:
                messages += consumer.consume(max_records - 1, 0)
    except KafkaException as error:
        raise failures.reaction(error.args[0]) from None
    return messages


def timestamp_of(message: Message) -> int | None:
    """When a message that was read was written, milliseconds since 1970; None where its topic does not tell."""
    kind, written_ms = message.timestamp()
    return None if kind == TIMESTAMP_NOT_AVAILABLE else written_ms


def headers_of(message: Message) -> Headers:
    """Headers of a message that was read; none where the client cannot read them, for a name that is not UTF-8."""
    try:
        headers = message.headers()
        return tuple(headers) if headers else ()  # type: ignore[arg-type]  # pairs, when read
    except (SystemError, UnicodeDecodeError):
        at = f"{message.topic()}-{message.partition()}-{message.offset()}"
        structlog.get_logger().warning("headers left out: a name is not UTF-8", record=at)
        return ()


def missing_topic(topic: str, bootstrap_servers: str) -> UsageError:
    return UsageError(
        f"topic {topic!r} does not exist at {bootstrap_servers}, or this user may not see it: "
        "create it, or correct its name in the settings"
    )


class Failures:
    """What errors of one client mean: which are the user's, which end it, and which it mends by itself.

    The client reports most of them in callbacks, where nothing can be raised: they are kept until `raise_first`.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._log = structlog.get_logger()
        self._sparing = Sparing(time.monotonic)
        self._first: Exception | None = None

    def keep(self, error: Exception) -> None:
        """Raise this at the next `raise_first`, unless one waits already."""
        self._first = self._first or error

    def raise_first(self) -> None:
        if self._first is not None:
            first, self._first = self._first, None
            raise first

    def on_error(self, error: KafkaError, topic: str | None = None) -> None:
        """Keep what must stop the process, log all else."""
        reaction = self.reaction(error, topic)
        if not isinstance(reaction, TransientError):
            self.keep(reaction)
        elif (repeated := self._sparing.held_back(f"{topic} {reason(error)}")) is not None:
            self._log.warning("kafka error", code=error.name(), topic=topic, text=reason(error), repeated=repeated)

    def on_client_error(self, error: KafkaError) -> None:
        """The client's `error_cb`. What the client mends by itself stands in its log too, but for one thing."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN or not isinstance(self.reaction(error), TransientError):
            self.on_error(error)

    def reaction(self, error: KafkaError, topic: str | None = None) -> StreamerError:
        """UsageError: the user can mend it. FatalError: this client is finished. TransientError: all else."""
        about = f"topic {topic!r}: " if topic else ""
        if error.code() in _MISSING_TOPIC and topic:
            return missing_topic(topic, self._bootstrap_servers)
        if error.code() in _DENIED:
            return UsageError(f"{about}Kafka denies access ({reason(error)}): give this user the rights it needs")
        if error.code() in _LOGIN:
            return UsageError(
                f"Kafka at {self._bootstrap_servers} refuses the login ({reason(error)}): "
                "check the security and sasl properties in kafka.properties"
            )
        if error.code() in _WRONG:
            return UsageError(f"{about}Kafka at {self._bootstrap_servers} does not take the settings: {reason(error)}")
        if is_rival_member(error):
            return FatalError(
                f"another member of the group has the same kafka.group_instance_id ({reason(error)}): give each process"
                " an id of its own; that of a killed process is free once its session has timed out"
            )
        if error.fatal() or error.code() in _FATAL:
            return FatalError(f"this Kafka client cannot go on: {reason(error)}")
        return TransientError(f"{about}Kafka: {reason(error)}")


def is_rival_member(error: KafkaError) -> bool:
    """Whether two members of a group claim one group.instance.id; by the words where the client hides the code."""
    hidden = error.code() == KafkaError._FATAL and any(KafkaError(one).str() in error.str() for one in _RIVAL_MEMBERS)
    return error.code() in _RIVAL_MEMBERS or hidden


def is_secret(name: str) -> bool:
    """Whether a property of librdkafka holds something that nobody else may read."""
    return any(word in name for word in _SECRET_WORDS)


def _without_secrets(text: str, config: Mapping[str, object]) -> str:
    for name, value in config.items():
        if value and is_secret(name):
            text = text.replace(str(value), "***")
    return text
