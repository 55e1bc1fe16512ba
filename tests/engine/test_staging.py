"""The way to the device and back: whatever goes, and however many go at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from streamer.engine.staging import DirectTransfers, StagedTransfers, Transfers, choose_transfers

CPU = torch.device("cpu")
KINDS: list[Transfers] = [DirectTransfers(CPU), StagedTransfers(CPU)]
ARRAYS = arrays(np.int64, array_shapes(max_dims=2, max_side=9, min_side=0), elements=st.integers(-(2**31), 2**31 - 1))


@given(st.sampled_from(KINDS), st.lists(ARRAYS, min_size=1, max_size=6))
def test_arrays_arrive_as_they_were(transfers: Transfers, sent: list[np.typing.NDArray[np.int64]]) -> None:
    seen: list[np.typing.NDArray[np.int64]] = []

    def compute(placed: Sequence[Tensor]) -> Tensor:
        seen.extend(one.numpy().astype(np.int64) for one in placed)
        return torch.cat([one.flatten() for one in placed]).double().float()

    answer = transfers.run(sent, compute)
    for array, arrived in zip(sent, seen, strict=True):
        np.testing.assert_array_equal(arrived, array)
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, np.concatenate([array.ravel() for array in sent]).astype(np.float32))


@pytest.mark.parametrize("transfers", KINDS)
def test_an_answer_is_the_caller_s_to_keep(transfers: Transfers) -> None:
    def twice(placed: Sequence[Tensor]) -> Tensor:
        return placed[0].float() * 2

    first = transfers.run([np.array([[1, 2], [3, 4]])], twice)
    transfers.run([np.array([7, 8, 9, 10, 11])], twice)
    np.testing.assert_array_equal(first, [[2, 4], [6, 8]])


@pytest.mark.parametrize("transfers", KINDS)
def test_many_threads_get_their_own_answers(transfers: Transfers) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for size in range(1, 60):
            sent = np.full(size * (number + 1), number)
            answer = transfers.run([sent, sent], lambda placed: (placed[0] + placed[1]).float())
            if not (answer == 2 * number).all() or len(answer) != len(sent):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_thread_at_a_time_hands_work_to_the_device() -> None:
    transfers = StagedTransfers(CPU)
    inside, most = 0, 0

    def compute(placed: Sequence[Tensor]) -> Tensor:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        torch.ones(64, 64) @ torch.ones(64, 64)
        inside -= 1
        return placed[0].float()

    threads = [
        threading.Thread(target=lambda: [transfers.run([np.arange(9)], compute) for _ in range(50)]) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@pytest.mark.parametrize("transfers", KINDS)
def test_a_failure_leaves_it_usable(transfers: Transfers) -> None:
    def fail(placed: Sequence[Tensor]) -> Tensor:
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        transfers.run([np.arange(3)], fail)
    np.testing.assert_array_equal(transfers.run([np.arange(3)], lambda placed: placed[0].float()), [0, 1, 2])


def test_a_cpu_needs_no_copies() -> None:
    assert isinstance(choose_transfers(CPU), DirectTransfers)
