"""Windows of documents through a model, on threads of their own.

Enters: documents and a Backend. Leaves: Scores in the order of the documents, and what the window cost.
Must not know: what a model is made of, where documents come from.

Why threads: the loop that submits must keep polling its source while the device works. One thread tokenises and packs
windows, so that the next one is ready when the device is; device threads score the batches, first come first served.
A GPU is fed by one. On a CPU there is one a core, each computing alone: two batches side by side are a quarter faster
than one batch on both cores, whose kernels would wait for each other some hundred times a pass. Only a batch that is
the engine's whole work is given all cores, so that a lone record is answered soonest: the first thread scores it on
the spot. No other thread ever computes on several cores, since OpenMP lets its threads sleep at every barrier once
there are more of them than cores.

Windows are settled in the order they were submitted, whichever batch is done first. How many are under way is the
caller's choice: it submits the next one when it likes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from streamer.engine.answers import Answers
from streamer.engine.base import Backend, EngineFacts, ModelInfo, Pending, Row, WindowScores
from streamer.engine.packing import pack, padded_tokens
from streamer.errors import FatalError, UsageError
from streamer.facets import LabelSet
from streamer.records import Document, Reject

KEPT_LABEL_SETS = 16  # kept ready after they were last used, beside those that were warmed up


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
        except TimeoutError:  # never the engine's own: it raises StreamerErrors alone
            return None


@dataclass(slots=True, eq=False)
class _Window:
    """Documents on their way through the threads; `outcome` is there once nothing of it is left to do."""

    documents: Sequence[Document]
    label_sets: Sequence[LabelSet]
    future: Future[WindowScores] = field(default_factory=Future)
    outcome: WindowScores | Exception | None = None
    rows: Sequence[Row] = ()
    costs: Sequence[int] = ()
    batches_left: int = 0
    batches: int = 0
    padded_tokens: int = 0
    out_of_memory: int = 0
    tokenise_s: float = 0.0
    forward_s: float = 0.0


class BatchingClassifier:
    """A Classifier made of a Backend: tokenise, pack, score, put back in order.

    `max_tokens` bounds a device batch, `batch_cost_tokens` see `packing.pack`. `device_threads` batches are scored side
    by side; `set_threads` tells the calling thread, once, how many threads a kernel may use. The Backend's `forward`
    is called by all device threads at once, its other methods by one thread at a time. A batch that runs out of memory
    is split and tried again. Any other failure of the model is a FatalError, raised from `wait` and from then on.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        max_tokens: int,
        batch_cost_tokens: int | None,
        device_threads: int,
        set_threads: Callable[[int], None],
    ) -> None:
        self._backend = backend
        self._max_tokens = max_tokens
        self._batch_cost_tokens = batch_cost_tokens
        self._device_threads = device_threads
        self._failure: FatalError | None = None
        self._prepared: dict[str, None] = {}  # scoring keys of label sets, the one used last at the end
        self._served: frozenset[str] = frozenset()  # those of the last warm-up
        self._lock = Lock()  # guards the one below and the counts of a window
        self._under_way: deque[_Window] = deque()  # not settled yet, in the order of submission
        self._prepare = ThreadPoolExecutor(1, "engine-prepare", set_threads, (device_threads,))
        self._device = ThreadPoolExecutor(device_threads, "engine", set_threads, (1,))

    def describe(self) -> ModelInfo:
        return self._backend.describe()

    def warm_up(self, label_sets: Sequence[LabelSet]) -> None:
        """Prepare label sets and score one short text with each, behind whatever is queued; on any thread.

        Raises UsageError for a label set the model cannot serve, FatalError when it gives no scores with one; what
        was served before stays served in both cases.
        """
        for label_set in label_sets:
            _require_model_of_calibration(label_set, self.describe().revision)
        window = self._enqueue([Document("warm up", label_set) for label_set in label_sets], label_sets)
        for label_set, answer in zip(label_sets, window.future.result().scores, strict=True):
            if isinstance(answer, Reject):
                raise FatalError(
                    f"label set '{label_set.name}': warming up gave no scores ({answer.code}: {answer.message})"
                )
        self._served = frozenset(label_set.scoring_key for label_set in label_sets)

    def submit(self, documents: Sequence[Document]) -> Pending:
        label_sets = {one.label_set.scoring_key: one.label_set for one in documents}
        return _Pending(self._enqueue(documents, list(label_sets.values())).future)

    def close(self) -> None:
        self._prepare.shutdown(wait=True)
        self._device.shutdown(wait=True)

    def _enqueue(self, documents: Sequence[Document], label_sets: Sequence[LabelSet]) -> _Window:
        window = _Window(documents, label_sets)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._under_way.append(window)
            self._prepare.submit(self._begin, window)
        return window

    def _begin(self, window: _Window) -> None:
        """On the prepare thread: tokenise, pack, and hand the batches to the device threads."""
        started = perf_counter()
        try:
            for label_set in window.label_sets:
                self._prepare_labels(label_set)
            self._forget_label_sets()
            window.rows = self._backend.rows(window.documents)
            window.costs = [row.cost_tokens for row in window.rows]
            answers = Answers(window.rows, len(window.documents))
            batches = self._pack(window.costs)
        except Exception as error:
            self._settle(window, self._told(error))
            return
        window.tokenise_s = perf_counter() - started
        window.batches_left = len(batches)
        if not batches:
            self._settle(window, self._result(window, answers))
            return
        if self._device_threads > 1 and len(batches) == len(self._under_way) == 1:
            self._score(window, answers, batches[0], self._device_threads)
            return
        for batch in batches:
            self._device.submit(self._score, window, answers, batch, 1)

    def _prepare_labels(self, label_set: LabelSet) -> None:
        try:
            self._backend.prepare(label_set)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise UsageError(
                f"label set '{label_set.name}': the model runs out of memory on its labels; name fewer"
            ) from None
        self._prepared.pop(label_set.scoring_key, None)
        self._prepared[label_set.scoring_key] = None

    def _forget_label_sets(self) -> None:
        """Else the memory they take would grow with every change of the settings."""
        if len(self._prepared) <= KEPT_LABEL_SETS:
            return
        with self._lock:
            used = self._served.union(*([one.scoring_key for one in win.label_sets] for win in self._under_way))
        idle = [key for key in self._prepared if key not in used]
        gone = idle[: max(0, len(idle) - KEPT_LABEL_SETS)]
        if gone:
            self._backend.forget(gone)
        for key in gone:
            del self._prepared[key]

    def _pack(self, costs: Sequence[int]) -> list[list[int]]:
        """Batches for all device threads, even where they could be fewer: a small window is soon done.

        A batch may end up to one row below its budget; with room for that, no small one is left over at the end.
        """
        threads, longest = self._device_threads, max(costs, default=1)
        share = max(-(-(sum(costs) + (threads - 1) * longest) // threads), longest)
        return pack(costs, max_tokens=min(self._max_tokens, share), batch_cost_tokens=self._batch_cost_tokens)

    def _score(self, window: _Window, answers: Answers, batch: list[int], threads: int) -> None:
        """One batch, in parts where it does not fit; `threads` is what the calling thread computes on."""
        started = perf_counter()
        done = padded = refused = 0
        todo = [batch]
        try:
            while todo and self._failure is None:
                part = todo.pop()
                logits = self._forward([window.rows[i] for i in part])
                if logits is not None:
                    answers.put(part, logits)
                    done += 1
                    padded += padded_tokens(window.costs, part, batch_cost_tokens=self._batch_cost_tokens)
                    continue
                refused += 1
                if len(part) > 1:
                    half = len(part) // 2
                    todo += [part[half:], part[:half]]
                else:
                    answers.give_up(part[0])
        except Exception as error:
            self._settle(window, self._told(error))
            return
        with self._lock:
            window.batches += done
            window.padded_tokens += padded
            window.out_of_memory += refused
            window.forward_s += (perf_counter() - started) * threads / self._device_threads
            window.batches_left -= 1
            last = not window.batches_left
        if last:
            self._settle(window, self._result(window, answers))

    def _result(self, window: _Window, answers: Answers) -> WindowScores:
        facts = EngineFacts(
            documents=len(window.documents),
            batches=window.batches,
            tokens=sum(window.costs),
            padded_tokens=window.padded_tokens,
            tokenise_s=window.tokenise_s,
            forward_s=window.forward_s,
            out_of_memory=window.out_of_memory,
            capacity_tokens=window.batches * self._max_tokens,
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

    def _told(self, error: Exception) -> Exception:
        """A refused label set as it is, since the model is as good as before; anything else ends the engine."""
        if isinstance(error, UsageError):
            return error
        told = FatalError(f"model '{self._backend.describe().name}' failed: {type(error).__name__}: {error}")
        told.__cause__ = error
        return told

    def _settle(self, window: _Window, outcome: WindowScores | Exception) -> None:
        """Answer every window that is done and has none before it; after a failure all get that."""
        with self._lock:
            if window.outcome is None:
                window.outcome = outcome
            while self._under_way and (self._failure or self._under_way[0].outcome is not None):
                settled = self._under_way.popleft()
                answer = self._failure or settled.outcome
                if isinstance(answer, FatalError):
                    self._failure = answer
                if isinstance(answer, WindowScores):
                    settled.future.set_result(answer)
                else:
                    settled.future.set_exception(answer)


def _require_model_of_calibration(label_set: LabelSet, revision: str) -> None:
    calibration = label_set.calibration
    if calibration is not None and calibration.model_revision != revision:
        raise UsageError(
            f"label_sets.{label_set.name}.calibration: was fitted for revision {calibration.model_revision} of a model "
            f"and not for this one ({revision}); run streamer calibrate again"
        )
