"""Notes beside the offsets of groups that nobody joins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamer.errors import TransientError, UsageError
from streamer.records import Partition
from streamer.transport.kafka_notes import GroupNotes

if TYPE_CHECKING:
    from tests.conftest import RoadBroker

pytestmark = pytest.mark.kafka


def test_a_note_outlives_its_writer(kafka_road: RoadBroker, unique: str) -> None:
    at = Partition(kafka_road.create_topic(unique, partitions=2), 1)

    def notes() -> GroupNotes:
        return GroupNotes(bootstrap_servers=kafka_road.bootstrap_servers, properties={}, timeout_s=10)

    assert notes().read(unique, at) == ""
    notes().write(unique, at, 7, "x" * 3000)
    assert notes().read(unique, at) == "x" * 3000
    notes().write(unique, at, 3, "less")
    assert notes().read(unique, at) == "less"
    assert notes().read(unique, Partition(unique, 0)) == ""
    assert notes().read(f"{unique}-other", at) == ""


def test_missing_rights_and_a_broker_away_are_told(kafka_sasl_bootstrap: str, unique: str) -> None:
    login: dict[str, str | int | float | bool] = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "nobody",
        "sasl.password": "local-test-only",
    }
    denied = GroupNotes(bootstrap_servers=kafka_sasl_bootstrap, properties=login, timeout_s=10)
    with pytest.raises(UsageError, match=f"group '{unique}': Kafka denies access"):
        denied.read(unique, Partition("any", 0))
    away = GroupNotes(bootstrap_servers="127.0.0.1:1", properties={"log_level": 0}, timeout_s=0.5)
    with pytest.raises(TransientError, match=f"group '{unique}': Kafka: "):
        away.read(unique, Partition("any", 0))
