"""Scores of texts seen lately, answered without the model: reposts, templates, one message sent to thousands.

Enters: documents and a Classifier. Leaves: the very scores that the model gave when it last read such a text with such
labels, or those it gives now. Must not know: what the model is, Kafka.

A text is known by a digest of 128 bits over `LabelSet.scoring_key` and the whole text, so a reload that only moves
thresholds or routes keeps what is known. Weights, dtype and facet mode are those of the one classifier behind it.
Batches differ in the last bits of a logit, so a hit may differ by as much from what the model would say now; decisions
are made from scores of four decimals, as they are without a cache. Only scores are remembered: a Reject and a failure
never are, and the next such text is tried anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from secrets import token_bytes
from struct import Struct
from sys import getsizeof
from threading import Lock
from time import monotonic
from typing import cast

import numpy as np

from streamer.engine.base import CacheFacts, Classifier, EngineFacts, ModelInfo, Pending, WindowScores
from streamer.errors import FatalError, StreamerError
from streamer.facets import LabelSet
from streamer.records import Document, Reject, Scores

DIGEST_BYTES = 16
GENERATIONS = 8
_TAIL = Struct("<I?")  # text tokens, truncated: what follows the logits of an entry


@dataclass(slots=True, eq=False)
class _Generation:
    """Entries by digest: `bytes` by `bytes`, which a garbage collection need not look at."""

    entries: dict[bytes, bytes] = field(default_factory=dict)
    entry_bytes: int = 0

    @property
    def held_bytes(self) -> int:
        """Memory of the entries, and of the table with its free places."""
        return self.entry_bytes + getsizeof(self.entries)


class _Memory:
    """Scores by digest in at most `max_bytes`; the least lately used are forgotten first, an eighth at a time.

    What is used moves to the newest generation, and the oldest is dropped as a whole. One table in order of use would
    take twice the memory: it keeps links, and places of what has moved.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._generations = deque([_Generation()])  # the newest first
        self._older_bytes = 0  # of all but the newest

    @property
    def held_bytes(self) -> int:
        return self._older_bytes + self._generations[0].held_bytes

    def get(self, key: bytes) -> Scores | None:
        """Scores whose logits nobody can write to, since they lie in the entry itself."""
        for generation in self._generations:
            entry = generation.entries.get(key)
            if entry is None:
                continue
            if generation is not self._generations[0]:
                del generation.entries[key]
                size = _allocated(key) + _allocated(entry)
                generation.entry_bytes -= size
                self._older_bytes -= size
                self._keep(key, entry)
            labels = (len(entry) - _TAIL.size) // 4
            tokens, truncated = _TAIL.unpack_from(entry, 4 * labels)
            return Scores(np.frombuffer(entry, np.float32, labels), tokens, truncated)
        return None

    def put(self, key: bytes, scores: Scores) -> None:
        """Remember a copy under a key that is not there."""
        self._keep(key, scores.logits.tobytes() + _TAIL.pack(scores.tokens, scores.truncated))

    def _keep(self, key: bytes, entry: bytes) -> None:
        newest = self._generations[0]
        newest.entries[key] = entry
        newest.entry_bytes += _allocated(key) + _allocated(entry)
        if newest.held_bytes > self._max_bytes // GENERATIONS:
            self._older_bytes += newest.held_bytes
            self._generations.appendleft(_Generation())
        while len(self._generations) > 1 and self.held_bytes > self._max_bytes:
            self._older_bytes -= self._generations.pop().held_bytes


def _allocated(held: bytes) -> int:
    """Memory a `bytes` object takes: allocators give sixteen bytes at a time, and keep up to sixteen for themselves."""
    return (getsizeof(held) + 31) & ~15


@dataclass(slots=True, eq=False)
class _Window:
    """A window under way: what is known of its answers, and where the others come from.

    `asked` are digest and place of the documents given to the engine. `twins` have the text of another document that
    is under way: place here, the window that asks for it, place there.
    """

    settled: Callable[[_Window, float], WindowScores | None]
    answers: list[Scores | Reject | None]
    asked: list[tuple[bytes, int]] = field(default_factory=list)
    twins: list[tuple[int, _Window, int]] = field(default_factory=list)
    pending: Pending | None = None  # None: nothing was asked
    outcome: WindowScores | StreamerError | None = None

    def wait(self, timeout_s: float) -> WindowScores | None:
        return self.settled(self, timeout_s)

    def ask(self, timeout_s: float) -> WindowScores | StreamerError | None:
        """What the engine says, None where it has not within `timeout_s`."""
        if self.pending is None:
            return WindowScores((), EngineFacts(0, 0, 0, 0, 0.0, 0.0))
        try:
            return self.pending.wait(timeout_s)
        except StreamerError as error:
            return error


class CachingClassifier:
    """A Classifier that asks `inner` only for texts it does not remember; holds at most `max_bytes`.

    Texts are looked up in `submit`, on the caller's thread: about two microseconds each. A text that stands several
    times in a window, or in a window still under way, is asked for once, and all of its documents get that answer,
    a Reject included. Windows are settled in the order they were submitted, those without any question too. Facts
    count what the engine did; `documents` are all of the window, and `cache` tells how many of them it never saw.
    """

    def __init__(self, *, inner: Classifier, max_bytes: int) -> None:
        self._inner = inner
        self._secret = token_bytes(DIGEST_BYTES)  # so that nobody can write two texts of one digest
        self._lock = Lock()  # guards all below
        self._memory = _Memory(max_bytes=max_bytes)
        self._under_way: deque[_Window] = deque()  # not settled yet, in the order of submission
        self._in_flight: dict[bytes, tuple[_Window, int]] = {}  # texts asked for: by which window, at which place
        self._failure: FatalError | None = None

    def warm_up(self, label_sets: Sequence[LabelSet]) -> None:
        self._inner.warm_up(label_sets)

    def describe(self) -> ModelInfo:
        return self._inner.describe()

    def close(self) -> None:
        self._inner.close()

    def submit(self, documents: Sequence[Document]) -> Pending:
        keys = self._digests(documents)
        with self._lock:
            if self._failure is not None:
                raise self._failure
            window = self._looked_up(keys)
            if window.asked:
                window.pending = self._inner.submit([documents[place] for _, place in window.asked])
            self._in_flight.update((key, (window, place)) for key, place in window.asked)
            self._under_way.append(window)
        return window

    def _digests(self, documents: Sequence[Document]) -> list[bytes]:
        starts = {}
        digests = []
        for document in documents:
            labels = document.label_set.scoring_key
            if labels not in starts:
                starts[labels] = blake2b(
                    b"%d %s" % (len(labels), labels.encode()), digest_size=DIGEST_BYTES, key=self._secret
                )
            digest = starts[labels].copy()
            digest.update(document.text.encode("utf-8", "surrogatepass"))  # no two texts have the same bytes
            digests.append(digest.digest())
        return digests

    def _looked_up(self, keys: Sequence[bytes]) -> _Window:
        """A window of these texts, answered as far as they are remembered."""
        window = _Window(self._settled, [self._memory.get(key) for key in keys])
        places: dict[bytes, int] = {}  # of texts to ask for
        for place, (key, answer) in enumerate(zip(keys, window.answers, strict=True)):
            if answer is not None:
                continue
            if key in self._in_flight:
                window.twins.append((place, *self._in_flight[key]))
            elif key in places:
                window.twins.append((place, window, places[key]))
            else:
                places[key] = place
                window.asked.append((key, place))
        return window

    def _settled(self, window: _Window, timeout_s: float) -> WindowScores | None:
        """What came of a window, None where that is not known within `timeout_s`; those before it are settled first."""
        deadline_s = monotonic() + timeout_s
        while True:
            with self._lock:
                if window.outcome is not None:
                    break
                oldest = self._under_way[0]
            answer = oldest.ask(max(0.0, deadline_s - monotonic()))
            if answer is None:
                return None
            with self._lock:
                if oldest.outcome is None:  # no other thread was quicker
                    self._settle(oldest, answer)
        if isinstance(window.outcome, StreamerError):
            raise window.outcome
        return window.outcome

    def _settle(self, window: _Window, answer: WindowScores | StreamerError) -> None:
        """Take the oldest window off, with what the engine said to what it was asked."""
        self._under_way.popleft()
        for key, _ in window.asked:
            del self._in_flight[key]
        if isinstance(answer, FatalError):
            self._failure = answer
        window.outcome = self._outcome(window, self._failure or answer)
        window.twins.clear()  # else the windows that they point to would live as long as this one

    def _outcome(self, window: _Window, answer: WindowScores | StreamerError) -> WindowScores | StreamerError:
        if isinstance(answer, StreamerError):
            return answer
        for (key, place), scores in zip(window.asked, answer.scores, strict=True):
            window.answers[place] = scores
            if isinstance(scores, Scores):
                self._memory.put(key, scores)
        for place, source, there in window.twins:
            if isinstance(source.outcome, StreamerError):
                return source.outcome
            window.answers[place] = _copied(source.answers[there])
        documents = len(window.answers)
        asked = len(window.asked)
        cache = CacheFacts(hits=documents - asked, misses=asked, held_bytes=self._memory.held_bytes)
        answers = tuple(cast("list[Scores | Reject]", window.answers))
        return WindowScores(answers, replace(answer.facts, documents=documents, cache=cache))


def _copied(answer: Scores | Reject | None) -> Scores | Reject | None:
    """The same answer for another document, which shares no memory with it."""
    if isinstance(answer, Scores):
        return Scores(answer.logits.copy(), answer.tokens, answer.truncated)
    return answer
