"""What stands still and what only moves slowly, whose a transaction is, and how it is put into words."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from streamer.check.transactions import LOOK_S, Ours, Still, age_s, shown, spell
from streamer.records import Partition
from streamer.transport.kafka_transactions_list import OpenTransaction

OURS = Ours("g-host", "g-", frozenset({"out", "dead", "__consumer_offsets"}))


class Time:
    """A clock that moves by sleeping."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def transaction(name: str, *topics: str) -> OpenTransaction:
    return OpenTransaction(name, "Ongoing", 1, 10_000, 50_000, tuple(Partition(topic, 0) for topic in topics))


def still(seen: dict[str, list[int | None]], for_s: float) -> tuple[dict[str, int], float]:
    """What stands still, of offsets as they are at each look (None: not held back), and seconds taken."""
    time = Time()
    looks = 0

    def look(partitions: Collection[Partition]) -> dict[Partition, int]:
        nonlocal looks
        looks += 1
        now = {at: seen[at.topic][min(looks, len(seen[at.topic]) - 1)] for at in partitions}
        return {at: offset for at, offset in now.items() if offset is not None}

    first = {Partition(topic, 0): offsets[0] for topic, offsets in seen.items()}
    held = {at: offset for at, offset in first.items() if offset is not None}
    found = Still(time() + for_s, time, time.sleep).among(look, held, lambda offset: offset)
    return {at.topic: offset for at, offset in found.items()}, time() - 100.0


def test_what_moves_or_is_let_go_does_not_stand_still() -> None:
    moving: list[int | None] = [5, 5, 6]
    gone: list[int | None] = [5, None]
    assert still({"stuck": [5], "moving": moving, "gone": gone}, for_s=2.0) == ({"stuck": 5}, 2.0)


def test_a_look_ends_with_the_last_one_that_stands_still() -> None:
    assert still({"a": [1, 2], "b": [1, 1, 2]}, for_s=10.0) == ({}, 2 * LOOK_S)
    assert still({}, for_s=10.0) == ({}, 0.0)


def test_it_looks_once_at_least() -> None:
    assert still({"moving": [1, 2], "stuck": [1]}, for_s=0.0) == ({"stuck": 1}, LOOK_S)


def test_an_id_is_ours_by_name_and_by_what_it_writes_to() -> None:
    assert OURS.named("g-host")
    assert OURS.named("g-another")
    assert not OURS.named("h-host")
    assert OURS.owns(transaction("g-another", "out", "__consumer_offsets"))
    assert not OURS.owns(transaction("g-b-host", "out", "elsewhere"))
    assert OURS.foreign_topics(transaction("g-b-host", "out", "elsewhere")) == ["elsewhere"]
    assert not OURS.owns(transaction("g-hidden"))
    assert not OURS.owns(transaction("h-host", "out"))
    # the id of these settings is ours, whatever an earlier version of them wrote to
    assert OURS.owns(transaction("g-host", "elsewhere"))
    assert OURS.owns(transaction("g-host"))


def test_a_clock_behind_the_brokers_gives_no_negative_age() -> None:
    assert age_s(transaction("g-host"), 49.0) == 0.0
    assert age_s(transaction("g-host"), 62.5) == 12.5


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7_199, "119 min"),
        (7_500, "2 h 5 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_are_spelled_for_a_reader(seconds: float, words: str) -> None:
    assert spell(seconds) == words


def test_other_peoples_text_cannot_drive_the_terminal() -> None:
    assert shown("a\x1b[31m\n\u202eb") == "a\\x1b[31m\\n\\u202eb"
    assert shown("é" * 200) == "é" * 200
    assert shown("x" * 201) == "x" * 200 + "…"
