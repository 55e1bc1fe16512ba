"""Work on a thread of its own: done, failed, or left behind."""

from __future__ import annotations

import time
from threading import Event

import pytest

from streamer.errors import RewindError
from streamer.transport.kafka_calls import Call, Hands, Progress


def never(progress: Progress, hands: Hands, hanging: str) -> None:
    raise AssertionError("nothing hangs")


def settle(call: Call) -> None:
    deadline = time.monotonic() + 10
    while not call.wait(0.01):
        assert time.monotonic() < deadline


def test_work_is_done_in_order_and_what_it_raises_comes_out() -> None:
    hands, done = Hands(), []

    def fail(progress: Progress) -> None:
        raise RewindError("came to nothing")

    first = Call(lambda _: done.append(1), hands=hands, patience_s=5, instead=never)
    second = Call(fail, hands=hands, patience_s=5, instead=never)
    settle(first)
    with pytest.raises(RewindError, match="came to nothing"):
        settle(second)
    assert done == [1]
    hands.end()


def test_a_call_that_hangs_is_left_behind_and_the_next_goes_on() -> None:
    stuck, told = Event(), []
    hands = Hands()
    fresh: list[Hands] = []

    def hang(progress: Progress) -> None:
        progress.calling = ("commit_transaction", time.monotonic())
        stuck.wait(30)
        told.append("returned late")

    def instead(progress: Progress, new: Hands, hanging: str) -> None:
        fresh.append(new)
        told.append(hanging)
        raise RewindError("it hung")

    call = Call(hang, hands=hands, patience_s=0.05, instead=instead)
    with pytest.raises(RewindError, match="it hung"):
        settle(call)
    assert told == ["commit_transaction"]
    settle(Call(lambda _: told.append("next"), hands=fresh[0], patience_s=5, instead=never))
    stuck.set()
    assert told[:2] == ["commit_transaction", "next"]
    with pytest.raises(RewindError):  # what the old thread came to counts no more
        settle(call)


def test_work_between_calls_may_take_its_time() -> None:
    def slow(progress: Progress) -> None:
        progress.calling = None
        time.sleep(0.2)

    settle(Call(slow, hands=Hands(), patience_s=0.01, instead=never))
