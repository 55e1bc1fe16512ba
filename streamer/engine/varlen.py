"""Flat batches on CUDA: attention by torch's variable-length kernel, means and small functions by kernels of their own.

Enters: states of a FlatBatch whose bounds lie on the device. Leaves: what `flat.FlatKernels` promises. No batch is
padded, no mask is made, and nothing waits for the device. A label query attends to its text and to itself without a
mask either: the kernel gives its attention to the text and the log-sum-exp of those scores, into which the one score
of itself is merged.

Must not know: models, tokenizers, label sets.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

import structlog
import torch
from torch import Tensor

from streamer.engine.flat import FlatBatch, FlatKernels, RunKernels, Wanted

MOST_HEAD_DIM: Final = 256  # of the flash kernels, which also want multiples of 8
OLDEST_CAPABILITY: Final = (8, 0)
DTYPES: Final = (torch.bfloat16, torch.float16)
EVERYWHERE: Final = (-1, -1)


class VarlenAttention(Protocol):
    """torch.nn.attention.varlen.varlen_attn: attention of sequences that lie one after the other.

    query (asking, heads, head_dim), key and value (tokens, heads, head_dim), in float16 or bfloat16. `cu_seq_q` and
    `cu_seq_k` (sequences + 1,) int32 say where those of each sequence begin; `max_q` and `max_k` bound one sequence.
    `window_size`: how far to the left and right a token sees, where a sequence asks with all its tokens. Returns
    (asking, heads, head_dim), and with `return_aux.lse` the log-sum-exp of the scores (heads, asking), float32.
    """

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        return_aux: Any = None,
        window_size: tuple[int, int] = EVERYWHERE,
    ) -> Tensor | tuple[Tensor, Tensor]: ...


class VarlenKernels:
    """FlatKernels around a variable-length attention. `compiles`: whether `fused` may use torch's compiler."""

    def __init__(self, attention: VarlenAttention, *, with_log_sum: Any, compiles: Callable[[], bool]) -> None:
        self._attention = attention
        self._with_log_sum = with_log_sum  # the kernel's AuxRequest(lse=True)
        self._compiles = compiles

    def attend(self, qkv: Tensor, batch: FlatBatch, heads: int, *, reach: int | None = None) -> Tensor:
        query, key, value = qkv.view(len(qkv), 3, heads, -1).unbind(1)  # (tokens + queries, heads, head_dim) each
        text = slice(batch.tokens)
        mixed = self._among_tokens(query[text], key[text], value[text], batch, reach)
        if not batch.queries:
            return mixed.flatten(1)
        asked = slice(batch.tokens, None)
        merged = self._of_queries(query[asked], key, value, batch)
        return torch.cat([mixed, merged]).flatten(1)

    def attend_from(
        self, query: Tensor, key_value: Tensor, wanted: Wanted, heads: int, *, reach: int | None = None
    ) -> Tensor:
        batch = wanted.batch
        if not batch.queries:
            return torch.empty_like(query)
        key, value = key_value.view(len(key_value), 2, heads, -1).unbind(1)
        asking = query.view(len(query), heads, -1)
        if _all_within(reach, batch):
            out = self._attention(
                asking, key, value, batch.query_bounds, batch.token_bounds, batch.most_queries, batch.longest
            )
            return cast(Tensor, out).flatten(1)
        # the kernel's windows go by places in the sequence: they need all of them
        everywhere = torch.zeros_like(key).index_copy_(0, wanted.index.long(), asking)
        mixed = self._among_tokens(everywhere, key, value, batch, reach)
        return mixed[wanted.index].flatten(1)

    def in_usual_size(self, rows: Tensor) -> Tensor:
        return rows

    def means(self, states: Tensor, batch: FlatBatch) -> Tensor:
        tokens = states[: batch.tokens].float()
        return torch.segment_reduce(tokens, "mean", offsets=batch.token_bounds, axis=0, unsafe=True)

    def fused(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return torch.compile(function, dynamic=True, fullgraph=True) if self._compiles() else function

    def _among_tokens(self, query: Tensor, key: Tensor, value: Tensor, batch: FlatBatch, reach: int | None) -> Tensor:
        """(tokens, heads, head_dim) each -> the same."""
        window = EVERYWHERE if reach is None or _all_within(reach, batch) else (reach, reach)
        bounds, longest = batch.token_bounds, batch.longest
        return cast(Tensor, self._attention(query, key, value, bounds, bounds, longest, longest, window_size=window))

    def _of_queries(self, query: Tensor, key: Tensor, value: Tensor, batch: FlatBatch) -> Tensor:
        """query (queries, heads, head_dim), key and value (tokens + queries, heads, head_dim) -> as query.

        Where l is the logarithm of the sum of exponentials over the tokens, and s the score of the query's own key,
        the own value weighs exp(s) / (exp(l) + exp(s)).
        """
        mixed, log_sum = self._attention(
            query,
            key[: batch.tokens],
            value[: batch.tokens],
            batch.query_bounds,
            batch.token_bounds,
            batch.most_queries,
            batch.longest,
            return_aux=self._with_log_sum,
        )
        own_key, own_value = key[batch.tokens :], value[batch.tokens :]
        own = (query.float() * own_key).sum(-1) * query.shape[-1] ** -0.5  # (queries, heads)
        weight = (own - log_sum.t()).sigmoid().unsqueeze(-1)
        return torch.lerp(mixed.float(), own_value.float(), weight).to(query.dtype)


def choose_kernels(device: torch.device, dtype: torch.dtype, head_dim: int) -> FlatKernels | None:
    """Kernels for flat batches of this number format; None where batches have to be padded, which is logged."""
    if device.type == "cpu":
        return RunKernels()
    missing = _what_is_missing(device, dtype, head_dim)
    if missing is not None:
        structlog.get_logger().info("batches are padded", device=str(device), reason=missing)
        return None
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    # cuDNN makes a plan for every new shape, and here every batch has one
    torch.backends.cuda.enable_cudnn_sdp(False)
    kernel = cast(VarlenAttention, varlen_attn)
    return VarlenKernels(kernel, with_log_sum=AuxRequest(lse=True), compiles=lambda: _compiler_works(device))


def _what_is_missing(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    if device.type != "cuda" or torch.version.cuda is None:
        return "no kernel for variable lengths on this kind of device"
    if torch.cuda.get_device_capability(device) < OLDEST_CAPABILITY:
        return f"the kernel for variable lengths needs compute capability {'.'.join(map(str, OLDEST_CAPABILITY))}"
    if dtype not in DTYPES:
        return f"the kernel for variable lengths does not compute in {str(dtype).removeprefix('torch.')}"
    if head_dim % 8 or head_dim > MOST_HEAD_DIM:
        return f"the kernel for variable lengths takes no heads {head_dim} wide"
    return None if _has_varlen() else f"torch {torch.__version__} lacks the kernel for variable lengths; 2.11 has it"


def _has_varlen() -> bool:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return {"return_aux", "window_size"} <= inspect.signature(varlen_attn).parameters.keys()


def _compiler_works(device: torch.device) -> bool:
    """torch's compiler needs a C compiler, which small container images lack."""
    try:
        doubled = torch.compile(lambda x: x * 2.0, dynamic=True)(torch.ones(4, device=device))
        return bool(doubled.sum() == 8.0)
    except Exception as error:  # whatever the compiler's parts raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        structlog.get_logger().info("small functions are not compiled", device=str(device), reason=reason)
        return False


def _all_within(reach: int | None, batch: FlatBatch) -> bool:
    return reach is None or batch.longest - 1 <= reach
