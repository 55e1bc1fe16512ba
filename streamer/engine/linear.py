"""Linear layers with their weights laid out once for the CPU's matrix kernels.

Enters: weights of a linear layer. Leaves: a Projection, which also takes the operation that follows a linear layer
into the same kernel. Without oneDNN (other devices, other builds of torch) the plain operations do the same.

Must not know: models, batches.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear, pad

# rows the weights are laid out for; the layout that oneDNN chooses is the same from some dozens of rows on
USUAL_ROWS = 1024
_ROWS_STEP = 16  # what a kernel computes at a time


class Projection(Protocol):
    """x (rows, inputs) -> (rows, outputs)."""

    def __call__(self, x: Tensor) -> Tensor:
        """x @ weight.T + bias"""

    def gelu(self, x: Tensor) -> Tensor:
        """The exact GELU of it."""

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        """It and `residual` (rows, outputs), added before rounding."""


class PlainProjection:
    """torch's own operations, one after the other."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self._weight, self._bias)

    def gelu(self, x: Tensor) -> Tensor:
        return gelu(self(x))

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        return self(x) + residual


class PackedProjection:
    """oneDNN's kernels, as torch's compiler calls them on frozen weights.

    A plain linear layer lays its weights out anew in each call, and its output makes two more journeys through
    memory for what follows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, USUAL_ROWS)
        self._bias = bias
        self._run = torch.ops.mkldnn._linear_pointwise.default
        self._run_two = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._run(x, self._weight, self._bias, "none", [], ""))

    def gelu(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._run(x, self._weight, self._bias, "gelu", [], "none"))

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        return cast(Tensor, self._run_two(x, residual, self._weight, self._bias, "add"))


def projection(weight: Tensor, bias: Tensor | None) -> Projection:
    """The faster kind that there is for these weights: (outputs, inputs) and (outputs,)."""
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    packed = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if weight.dtype is torch.bfloat16:
        packed = packed and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    elif weight.dtype is not torch.float32:  # the kernels know no others
        packed = False
    return PackedProjection(weight, bias) if packed else PlainProjection(weight, bias)


def padded_rows(rows: Tensor) -> Tensor:
    """(rows, ...) -> (more rows, ...): zeros behind, up to one of few sizes, at most a sixteenth more than 256 rows.

    oneDNN writes a kernel for each number of rows that it meets and keeps a thousand of them: with batches of any size
    they fill a gigabyte.
    """
    return pad(rows, (0, 0) * (rows.dim() - 1) + (0, _usual_size(len(rows)) - len(rows)))


def _usual_size(rows: int) -> int:
    """The least number, no smaller, of those that divide by 16, and by a sixteenth of the power of two below them."""
    step = max(_ROWS_STEP, (1 << rows.bit_length()) // 32)
    return -(-rows // step) * step
