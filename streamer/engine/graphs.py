"""The bundled model on one record, its kernels captured beforehand.

Enters: a FlatIndependent. Leaves: its logits, sooner where a record comes alone: starting some hundred kernels one by
one takes longer than their work. A captured pass always has the same shapes, so the text is filled up to the next of a
few lengths, by a second text of which nothing is asked: no sequence sees another, so the answer is exact.

Must not know: label sets, tokenizers, Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamer.engine.flat_independent import Asked, FlatIndependent, LabelTable
from streamer.engine.staging import Transfers

LENGTHS: Final = (32, 64, 96, 128, 256)  # tokens of a captured pass, those that fill it up counted
MOST_LABELS: Final = 256  # with more, the kernels are busy enough
MOST_GRAPHS: Final = 64
WARM_UP_ROUNDS: Final = 2  # what libraries set up at a first call must not happen while capturing

Capture: TypeAlias = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]


class CudaCapture:
    """Kernels of a function -> a function that starts them all at once, on the same memory, and returns the same
    tensor. The captured functions share their memory: an answer lasts until the next one is asked for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        with torch.cuda.device(self._device):
            aside, here = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for _ in range(WARM_UP_ROUNDS):
                    compute()
            here.wait_stream(aside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                answer = compute()

        def run() -> Tensor:
            graph.replay()
            return answer

        return run


@dataclass(frozen=True, slots=True)
class _Pass:
    """Where a captured pass reads its input, and what runs it."""

    numbers: Tensor  # the arrays of an Asked, one after the other, int32
    vectors: Tensor
    queries: Tensor
    run: Callable[[], Tensor]


class GraphedIndependent:
    """A FlatIndependent, with captured passes for records that come alone. After a failure to capture it does
    without, which is logged."""

    def __init__(self, flat: FlatIndependent, transfers: Transfers, capture: Capture, device: torch.device) -> None:
        self._flat = flat
        self._transfers = transfers
        self._capture = capture
        self._device = device
        self._passes: dict[tuple[int, int], _Pass] = {}  # by tokens and labels
        self._captures = True

    def encode_labels(self, wordings: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        return self._flat.encode_labels(wordings)

    @torch.inference_mode()
    def expect(self, labels: int) -> None:
        """Capture passes for records of which so many labels are asked."""
        for tokens in LENGTHS:
            wanted = (tokens, labels) not in self._passes and tokens <= self._flat.most_tokens
            room = len(self._passes) < MOST_GRAPHS and labels <= MOST_LABELS
            if wanted and room and self._captures:
                self._add(tokens, labels)

    def score(
        self, texts: Sequence[Sequence[int]], labels: Sequence[int], index: NDArray[np.int64], table: LabelTable
    ) -> NDArray[np.float32]:
        """As `FlatIndependent.score`."""
        tokens = next((tokens for tokens in LENGTHS if len(texts[0]) < tokens), None)
        found = self._passes.get((tokens, labels[0])) if tokens is not None and len(texts) == 1 else None
        if tokens is None or found is None:
            return self._flat.score(texts, labels, index, table)

        def compute(placed: Sequence[Tensor]) -> Tensor:
            at, numbers = placed
            found.numbers.copy_(numbers)
            torch.index_select(table.vectors, 0, at, out=found.vectors)
            torch.index_select(table.queries, 0, at, out=found.queries)
            return found.run()

        return self._transfers.run([index, _numbers(_filled(texts[0], tokens, labels[0]))], compute)

    def _add(self, tokens: int, labels: int) -> None:
        asked = _filled((0,), tokens, labels)
        batch = replace(asked.batch, longest=tokens)
        vectors, queries = self._flat.label_inputs(labels)
        with self._transfers.alone():
            numbers = torch.from_numpy(_numbers(asked).astype(np.int32)).to(self._device)
            placed = torch.split(numbers, [array.size for array in asked.arrays()])
            try:
                run = self._capture(lambda: self._flat.logits(placed, batch, vectors, queries))
            except Exception as error:  # whatever the device or a library has against it
                self._captures = False
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                structlog.get_logger().warning("single records are scored without captured graphs", reason=reason)
                return
        self._passes[tokens, labels] = _Pass(numbers, vectors, queries, run)


def _filled(text: Sequence[int], tokens: int, labels: int) -> Asked:
    """A text of fewer than `tokens` tokens, and another that fills it up."""
    return Asked.of([text, (0,) * (tokens - len(text))], [labels, 0])


def _numbers(asked: Asked) -> NDArray[np.int64]:
    return np.concatenate(asked.arrays(), dtype=np.int64)
