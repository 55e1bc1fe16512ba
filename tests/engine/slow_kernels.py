"""Slow twins of what a GPU runs, and each kind of batch by its name."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from streamer.engine.flat import ChooseKernels, FlatKernels
from streamer.engine.varlen import VarlenKernels, choose_kernels


class AuxRequest(NamedTuple):
    lse: bool = False


def varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    return_aux: Any = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor | tuple[Tensor, Tensor]:
    """torch.nn.attention.varlen.varlen_attn as it is documented, one sequence at a time in float64.

    It insists on what the kernel takes for granted, or would answer with a crash.
    """
    for bounds, rows, most in ((cu_seq_q, query, max_q), (cu_seq_k, key, max_k)):
        assert bounds.dtype == torch.int32
        assert bounds.is_contiguous()
        assert (int(bounds[0]), int(bounds[-1])) == (0, len(rows))
        sizes = bounds.diff()
        assert int(sizes.min()) >= 0
        assert 0 < int(sizes.max()) <= most
    assert len(cu_seq_q) == len(cu_seq_k)
    assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
    assert key.shape == value.shape
    assert query.shape[1:] == key.shape[1:]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    out = torch.zeros(query.shape, dtype=torch.float64)
    log_sum = torch.zeros(query.shape[1], len(query), dtype=torch.float64)
    for (q0, q1), (k0, k1) in zip(pairwise(cu_seq_q.tolist()), pairwise(cu_seq_k.tolist()), strict=True):
        asking, keys, values = query[q0:q1].double(), key[k0:k1].double(), value[k0:k1].double()
        scores = torch.einsum("qhd,khd->hqk", asking, keys) * scale
        if window_size != (-1, -1):  # aligned at the ends of both
            at = torch.arange(q1 - q0)[:, None] + (k1 - k0) - (q1 - q0)
            distance = torch.arange(k1 - k0) - at
            left, right = window_size
            scores = scores.masked_fill((distance < -left) | (distance > right), float("-inf"))
        out[q0:q1] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), values)
        log_sum[:, q0:q1] = scores.logsumexp(-1)
    if return_aux is not None and return_aux.lse:
        return out.to(query.dtype), log_sum.float()
    return out.to(query.dtype)


def slow_varlen() -> VarlenKernels:
    """The kernels of a GPU, around the slow attention."""
    return VarlenKernels(varlen_attn, with_log_sum=AuxRequest(lse=True), compiles=lambda: False)


def _slow_varlen(device: torch.device, dtype: torch.dtype, head_dim: int) -> FlatKernels:
    return slow_varlen()


def _none(device: torch.device, dtype: torch.dtype, head_dim: int) -> None:
    return None


KINDS: Final[dict[str, ChooseKernels]] = {"flat": choose_kernels, "varlen": _slow_varlen, "padded": _none}
