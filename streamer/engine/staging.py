"""The way of a batch to the device and back: one copy there, one copy back, one wait.

Enters: index arrays made by numpy, and a function of them on the device. Leaves: what it returns, in numpy. On CUDA
all arrays of a batch are written into one pinned buffer and copied in one go, the answer is copied into another, and
only reading it waits. So the next batch can be on its way while this one is computed, if another thread brings it.

Must not know: models, what the arrays mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IndexArray: TypeAlias = NDArray[np.integer[Any]]
Compute: TypeAlias = Callable[[Sequence[Tensor]], Tensor]

ALIGNED: Final = 4  # int32 numbers: what the device reads in one go


class Transfers(Protocol):
    """A device as seen from the thread that has a batch for it."""

    def run(self, arrays: Sequence[IndexArray], compute: Compute) -> NDArray[np.float32]:
        """`compute` on the device: its tensors are the arrays, in their order and shapes, as int32 or int64.

        Returns a float32 answer, whatever its shape. May be entered by several threads at once.
        """

    def alone(self) -> Lock:
        """What to hold while using the device without `run`."""


class DirectTransfers:
    """No copies on a CPU; plain ones elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lock = Lock()

    def run(self, arrays: Sequence[IndexArray], compute: Compute) -> NDArray[np.float32]:
        answer = compute([torch.from_numpy(array).to(self._device) for array in arrays])
        return cast(NDArray[np.float32], answer.cpu().numpy())

    def alone(self) -> Lock:
        return self._lock


class StagedTransfers:
    """One copy each way, through buffers that each batch under way has for itself.

    The copies of a CUDA device are asynchronous; any other device runs the same code with copies that are done when
    they return. One thread at a time hands work to the device, so that batches follow one another there; the threads
    wait for their answers side by side.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._alone = Lock()
        self._lock = Lock()  # guards the list
        self._idle: list[_Buffers] = []

    def run(self, arrays: Sequence[IndexArray], compute: Compute) -> NDArray[np.float32]:
        buffers = self._take()  # lost after an error: a copy from them may still be under way
        buffers.fill(arrays)
        with self._alone:
            on_device = buffers.send()
            buffers.fetch(compute(_views(on_device, arrays)))
        answer = buffers.wait()
        with self._lock:
            self._idle.append(buffers)
        return answer

    def alone(self) -> Lock:
        return self._alone

    def _take(self) -> _Buffers:
        with self._lock:
            return self._idle.pop() if self._idle else _Buffers(self._device)


class _Buffers:
    """Host memory for one batch under way: arrays going out, an answer coming in."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pinned = device.type == "cuda"
        self._out = torch.empty(0, dtype=torch.int32)
        self._back = torch.empty(0)
        self._numbers = 0
        self._shape = torch.Size()
        # waiting gives the core to the thread that tokenises
        self._done = torch.cuda.Event(blocking=True) if self._pinned else None  # type: ignore[no-untyped-call]

    def fill(self, arrays: Sequence[IndexArray]) -> None:
        """Write the arrays side by side, each aligned."""
        self._numbers = sum(_room(array) for array in arrays)
        if self._numbers > len(self._out):
            self._out = self._grown(self._numbers, torch.int32)
        flat, start = self._out.numpy(), 0
        for array in arrays:
            flat[start : start + array.size] = array.reshape(-1)
            start += _room(array)

    def send(self) -> Tensor:
        """The numbers on the device, when it gets there: (numbers,) int32."""
        out = self._out[: self._numbers]
        return out.to(self._device, non_blocking=True) if self._pinned else out.clone()

    def fetch(self, answer: Tensor) -> None:
        """Ask for the answer behind the work that makes it."""
        self._shape = answer.shape
        if answer.numel() > len(self._back):
            self._back = self._grown(answer.numel(), torch.float32)
        self._back[: answer.numel()].view(answer.shape).copy_(answer, non_blocking=True)
        if self._done is not None:
            self._done.record(torch.cuda.current_stream(self._device))

    def wait(self) -> NDArray[np.float32]:
        if self._done is not None:
            self._done.synchronize()
        return cast(NDArray[np.float32], self._back[: self._shape.numel()].view(self._shape).numpy().copy())

    def _grown(self, least: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(1 << (least - 1).bit_length(), dtype=dtype, pin_memory=self._pinned)


def _room(array: IndexArray) -> int:
    return -(-array.size // ALIGNED) * ALIGNED


def _views(numbers: Tensor, arrays: Sequence[IndexArray]) -> list[Tensor]:
    views, start = [], 0
    for array in arrays:
        views.append(numbers[start : start + array.size].view(array.shape))
        start += _room(array)
    return views


def choose_transfers(device: torch.device) -> Transfers:
    """The way to this device."""
    return StagedTransfers(device) if device.type == "cuda" else DirectTransfers(device)
