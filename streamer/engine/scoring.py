"""Windows of documents through a model, on a thread of their own.

Enters: documents and a Backend. Leaves: Scores in the order of the documents, and what the window cost.
Must not know: what a model is made of, where documents come from.

Why a thread: the loop that submits must keep polling its source while the device works. There is exactly one,
so windows are scored one after the other, a model is never entered twice, and nothing here needs a lock. How many
windows wait is the caller's choice: it submits the next one when it likes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from streamer.engine.base import Backend, EngineFacts, ModelInfo, Pending, Row, WindowScores
from streamer.engine.packing import pack, padded_tokens
from streamer.errors import FatalError, UsageError
from streamer.facets import LabelSet
from streamer.records import Document, Reject, Scores

T = TypeVar("T")

OUT_OF_MEMORY = Reject("engine_out_of_memory", "the model ran out of memory on this record alone")
NOT_FINITE = Reject("engine_not_finite", "the model's scores for this record are not finite numbers")


def is_out_of_memory(error: Exception) -> bool:
    """Whether a smaller batch may succeed.

    Devices raise torch.OutOfMemoryError or a plain RuntimeError, the CPU allocator only the latter, so it is the
    message that tells; reading it also spares this module the import of torch.
    """
    message = str(error).lower()
    marks = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(m in message for m in marks))


@dataclass(frozen=True, slots=True)
class _Pending:
    future: Future[WindowScores]

    def wait(self, timeout_s: float) -> WindowScores | None:
        try:
            return self.future.result(timeout_s)
        except TimeoutError:  # never the worker's own: it raises StreamerErrors alone
            return None


class _Answers:
    """Logits of a window, gathered batch by batch into one flat array."""

    def __init__(self, rows: Sequence[Row], documents: int) -> None:
        columns = [(r.document, r.first_label, r.labels, r.text_tokens, r.truncated) for r in rows]
        table = np.array(columns, dtype=np.int64).reshape(-1, 5)
        document, first_label, self._labels = table[:, 0], table[:, 1], table[:, 2]
        sizes = np.zeros(documents, dtype=np.int64)
        np.add.at(sizes, document, self._labels)
        self._ends = sizes.cumsum()  # (documents,): where each one's logits end in the flat array
        self._starts = self._ends - sizes
        self._places = self._starts[document] + first_label  # (rows,): where each row's logits start
        self._facts = np.zeros((documents, 2), dtype=np.int64)  # text tokens, truncated
        np.maximum.at(self._facts, document, table[:, 3:])
        self._flat = np.full(int(sizes.sum()), np.nan, dtype=np.float32)
        self._documents = document
        self._lost: set[int] = set()

    def put(self, batch: Sequence[int], logits: NDArray[np.float32]) -> None:
        """Store logits (rows of the batch, most labels of any)."""
        columns = np.arange(logits.shape[1])
        real = columns < self._labels[batch, None]
        self._flat[(self._places[batch, None] + columns)[real]] = logits[real]

    def give_up(self, row: int) -> None:
        """The document of this row gets no scores."""
        self._lost.add(int(self._documents[row]))

    def scores(self) -> tuple[Scores | Reject, ...]:
        """One answer per document, in order."""
        facts = zip(self._starts.tolist(), self._ends.tolist(), self._facts.tolist(), strict=True)
        answers: list[Scores | Reject] = [
            Scores(self._flat[start:end], tokens, bool(truncated)) for start, end, (tokens, truncated) in facts
        ]
        broken = np.flatnonzero(~np.isfinite(self._flat))
        for document in set(np.searchsorted(self._ends, broken, side="right").tolist()):
            answers[document] = NOT_FINITE
        for document in self._lost:
            answers[document] = OUT_OF_MEMORY
        return tuple(answers)


class BatchingClassifier:
    """A Classifier made of a Backend: tokenise, pack, score, put back in order.

    `max_tokens` bounds a device batch, `batch_cost_tokens` see `packing.pack`. A batch that runs out of memory is
    split and tried again. Any other failure of the model is a FatalError, raised from `wait` and from then on.
    """

    def __init__(self, *, backend: Backend, max_tokens: int, batch_cost_tokens: int) -> None:
        self._backend = backend
        self._max_tokens = max_tokens
        self._batch_cost_tokens = batch_cost_tokens
        self._failure: FatalError | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    def describe(self) -> ModelInfo:
        return self._backend.describe()

    def warm_up(self, label_sets: Sequence[LabelSet]) -> None:
        """Prepare label sets and score one short text with each, behind whatever is queued; on any thread.

        Raises UsageError for a label set the model cannot serve, FatalError when it gives no scores with one; what
        was served before stays served in both cases.
        """
        answers = self._worker.submit(self._guard, lambda: self._warm_up(label_sets)).result()
        for label_set, answer in zip(label_sets, answers, strict=True):
            if isinstance(answer, Reject):
                raise FatalError(
                    f"label set '{label_set.name}': warming up gave no scores ({answer.code}: {answer.message})"
                )

    def submit(self, documents: Sequence[Document]) -> Pending:
        if self._failure is not None:
            raise self._failure
        return _Pending(self._worker.submit(self._guard, lambda: self._score(documents)))

    def close(self) -> None:
        self._worker.shutdown(wait=True)

    def _guard(self, work: Callable[[], T]) -> T:
        """Run on the worker; after a failure nothing runs any more."""
        if self._failure is not None:
            raise self._failure
        try:
            return work()
        except UsageError:  # a label set was refused: the model is as good as before
            raise
        except Exception as error:
            name = self._backend.describe().name
            self._failure = FatalError(f"model '{name}' failed: {type(error).__name__}: {error}")
            raise self._failure from error

    def _warm_up(self, label_sets: Sequence[LabelSet]) -> tuple[Scores | Reject, ...]:
        for label_set in label_sets:
            try:
                self._backend.prepare(label_set)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise UsageError(
                    f"label set '{label_set.name}': the model runs out of memory on its labels; name fewer"
                ) from None
        return self._score([Document("warm up", label_set) for label_set in label_sets]).scores

    def _score(self, documents: Sequence[Document]) -> WindowScores:
        started = perf_counter()
        for label_set in {one.label_set.scoring_key: one.label_set for one in documents}.values():
            self._backend.prepare(label_set)
        rows = self._backend.rows(documents)
        costs = [row.cost_tokens for row in rows]
        answers = _Answers(rows, len(documents))
        tokenised = perf_counter()
        todo = pack(costs, max_tokens=self._max_tokens, batch_cost_tokens=self._batch_cost_tokens)[::-1]
        batches = padded = 0
        while todo:
            batch = todo.pop()
            logits = self._forward([rows[i] for i in batch])
            if logits is not None:
                answers.put(batch, logits)
                batches += 1
                padded += padded_tokens(costs, batch)
            elif len(batch) > 1:
                half = len(batch) // 2
                todo += [batch[half:], batch[:half]]
            else:
                answers.give_up(batch[0])
        forwarded = perf_counter()
        facts = EngineFacts(
            documents=len(documents),
            batches=batches,
            tokens=sum(costs),
            padded_tokens=padded,
            tokenise_s=tokenised - started,
            forward_s=forwarded - tokenised,
        )
        return WindowScores(answers.scores(), facts)

    def _forward(self, rows: Sequence[Row]) -> NDArray[np.float32] | None:
        """Logits, or None when memory ran out: returning lets go of the error and the tensors in its frames."""
        try:
            return self._backend.forward(rows)
        except Exception as error:
            if is_out_of_memory(error):
                return None
            raise
