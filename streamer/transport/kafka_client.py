"""What all Kafka clients share: their configuration, their log, and what an error of theirs means to a user.

Enters: properties as the user wrote them, KafkaErrors. Leaves: configurations for librdkafka, log lines, UsageErrors.
Must not know: records, offsets, the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException

from streamer.errors import UsageError

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
_SECRET_WORDS = ("password", "secret", "token", "credential", "jaas", ".pem", "oauthbearer.config")

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


class ClientLog:
    """librdkafka's log lines as structured log lines; stands where the client wants a `logging.Logger`."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()

    def log(self, level: int, _template: str, facility: str, client: str, text: str) -> None:
        # consumers and producers are given the same properties, and each complains of those that are the other's
        if facility == "CONFWARN" and "will be ignored by this" in text:
            return
        self._log.log(level, "kafka client", facility=facility, client=client, text=text)


def configuration(bootstrap_servers: str, properties: Properties, ours: Mapping[str, object]) -> dict[str, Any]:
    """`ours`, overridden by the user's properties. Raises UsageError for a property that has a setting of its own."""
    for name in properties:
        if name in _RESERVED:
            raise UsageError(f"kafka.properties: {name!r} cannot be set here: {_RESERVED[name]}")
    return {"bootstrap.servers": bootstrap_servers, **ours, **properties}


def connect(client: Callable[..., Client], config: dict[str, Any]) -> Client:
    """Make a client that logs to structlog. Raises UsageError when librdkafka does not accept the configuration."""
    try:
        return client(config, logger=ClientLog())
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


def missing_topic(topic: str, bootstrap_servers: str) -> UsageError:
    return UsageError(
        f"topic {topic!r} does not exist at {bootstrap_servers}, or this user may not see it: "
        "create it, or correct its name in the settings"
    )


def user_error(error: KafkaError, *, topic: str | None, bootstrap_servers: str) -> UsageError | None:
    """What the user has to change, or None when the error is not the user's."""
    about = f"topic {topic!r}: " if topic else ""
    if error.code() in _MISSING_TOPIC and topic:
        return missing_topic(topic, bootstrap_servers)
    if error.code() in _DENIED:
        return UsageError(f"{about}Kafka denies access ({reason(error)}): give this user the rights it needs")
    if error.code() in _LOGIN:
        return UsageError(
            f"Kafka at {bootstrap_servers} refuses the login ({reason(error)}): "
            "check the security and sasl properties in kafka.properties"
        )
    if error.code() in _WRONG:
        return UsageError(f"{about}Kafka at {bootstrap_servers} does not accept the settings: {reason(error)}")
    return None


def _without_secrets(text: str, config: Mapping[str, object]) -> str:
    for name, value in config.items():
        if value and any(word in name for word in _SECRET_WORDS):
            text = text.replace(str(value), "***")
    return text
