"""What the page takes from the loop: little, bounded, without texts unless they are asked for, and at no cost."""

from __future__ import annotations

import time

import pytest

from streamer.facets import LabelSet
from streamer.page.watch import (
    KEPT_LATENCIES,
    KEPT_RECORDS,
    KEPT_REJECTS,
    REASON_CHARACTERS,
    RECORDS_PER_TICK,
    RECORDS_PER_WINDOW,
    TEXT_CHARACTERS,
    PageObserver,
)
from streamer.records import Envelope, Reject
from tests.page.conftest import FakeClock, MakeWindow

MOST_US = 0.5


def observer(clock: FakeClock, *, show_text: bool = True) -> PageObserver:
    return PageObserver(show_text=show_text, wall_clock=clock)


def test_a_few_records_of_a_window_and_of_a_second_are_taken(clock: FakeClock, make_window: MakeWindow) -> None:
    watch = observer(clock)
    for _ in range(5):
        watch.labelled(*make_window([f"text {i}" for i in range(100)]))
    taken = watch.records()
    assert len(taken) == RECORDS_PER_TICK
    assert [one.position.offset for one in taken[:RECORDS_PER_WINDOW]] == [0, 50]  # spread over the window
    watch.tick()
    watch.labelled(*make_window(["after a second"]))
    assert [(one.number, one.text) for one in watch.records()[-1:]] == [(RECORDS_PER_TICK + 1, "after a second")]
    (record,) = watch.records()[-1:]
    assert (record.at_s, str(record.position)) == (1000.0, "tickets-0-0")
    assert [(one.name, one.labels) for one in record.verdict.facets] == [("mood", ("good",)), ("topic", ("billing",))]


def test_memory_is_bounded(clock: FakeClock, make_window: MakeWindow, rejected: Envelope[Reject]) -> None:
    watch = observer(clock)
    for _ in range(200):
        watch.tick()
        watch.labelled(*make_window(["x" * 100_000] * 10))
        watch.rejected(rejected)
        watch.published("tickets", [0.5, None] * 50)
    assert len(watch.records()) == KEPT_RECORDS
    assert {len(one.text or "") for one in watch.records()} == {TEXT_CHARACTERS}
    assert len(watch.rejects()) == KEPT_REJECTS
    published, latencies_s = watch.latencies_s()
    assert (published, len(latencies_s)) == (20_000, KEPT_LATENCIES)


def test_nothing_private_is_kept_unless_texts_are_shown(
    clock: FakeClock, make_window: MakeWindow, rejected: Envelope[Reject]
) -> None:
    for show_text in (False, True):
        watch = observer(clock, show_text=show_text)
        watch.labelled(*make_window(["private words"]))
        watch.rejected(rejected)
        kept = f"{watch.records()} {watch.rejects()}"
        assert ("private words" in kept) == ("not JSON: private" in kept) == show_text
        assert "private key" not in kept
        assert watch.rejects()[0].code == "not_json"


def test_why_a_reload_failed_is_kept_without_secrets(clock: FakeClock, label_set: LabelSet) -> None:
    watch = observer(clock)
    watch.serving([label_set])
    watch.reload_failed("labels.yaml: sasl.password='opensesame' is wrong " + "x" * 5000)
    assert watch.failure is not None
    assert watch.failure.reason.startswith("labels.yaml: ")
    assert "opensesame" not in watch.failure.reason
    assert len(watch.failure.reason) == REASON_CHARACTERS
    assert watch.label_sets == (label_set,)


@pytest.mark.parametrize("busy", [False, True])
def test_it_costs_the_loop_next_to_nothing(clock: FakeClock, make_window: MakeWindow, busy: bool) -> None:
    """CPU time of its hooks for a record, in windows as the loop hands them out; `busy`: records are taken of each."""
    watch = observer(clock)
    envelopes, decided = make_window(["a text of some length " * 10] * 128)
    latencies_s = [0.1] * 128
    rounds = 500
    took_s = []
    for _ in range(5):
        began_s = time.thread_time()
        for _ in range(rounds):
            if busy:
                watch.tick()
            watch.labelled(envelopes, decided)
            watch.published("tickets", latencies_s)
        took_s.append(time.thread_time() - began_s)
    cost_us = min(took_s) / (rounds * len(envelopes)) * 1e6
    print(f"{cost_us:.3f} us a record")
    assert cost_us < MOST_US
