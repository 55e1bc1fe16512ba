"""Which transactional ids are refused before anything is asked of a broker."""

from __future__ import annotations

from typing import Any

import pytest

from streamer.app import Connection
from streamer.check.abort import abort_transactions
from streamer.errors import UsageError
from streamer.settings import Settings, build_settings


def settings(**kafka: Any) -> Settings:
    content: dict[str, Any] = {
        "kafka": {"group_id": "g", **kafka},
        "label_sets": {"l": {"facets": {"f": {"labels": ["a", "b"]}}}},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "l"}],
    }
    return build_settings(content, origin="test")


def abort(one: Settings, *ids: str, embedded: bool = False) -> list[str]:
    connection = Connection("127.0.0.1:1", {}, embedded=embedded)
    return list(abort_transactions(one, connection, ids, reach_timeout_s=0.5))


@pytest.mark.parametrize("name", ["h-1", "g", "gg-1", "-g-1", ""])
def test_an_id_of_another_group_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not of group 'g', whose ids begin with 'g-'"):
        abort(settings(), "g-1", name)


def test_an_id_that_is_set_is_ours_without_the_groups_name() -> None:
    with pytest.raises(UsageError, match="cannot reach Kafka"):
        abort(settings(transactional_id="mine"), "mine", "g-1")


def test_a_refused_id_cannot_drive_the_terminal() -> None:
    with pytest.raises(UsageError, match=r"'a\\x1b\[31m' is not of group"):
        abort(settings(), "a\x1b[31m")


def test_the_embedded_broker_has_nothing_to_abort() -> None:
    with pytest.raises(UsageError, match="the embedded broker knows no transactions"):
        abort(settings(), "g-1", embedded=True)
