"""Several device threads: batches side by side, windows settled in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from streamer.engine.base import Row
from streamer.engine.scoring import BatchingClassifier
from streamer.errors import FatalError
from streamer.records import Document
from tests.engine.facet_rows import FacetRows, check, label_set, run


class Meeting(FacetRows):
    """As many batches as `parties` meet before any is answered; notes how many threads each was given."""

    def __init__(self, parties: int) -> None:
        super().__init__()
        self.barrier = threading.Barrier(parties)
        self.set: dict[str, int] = {}  # by thread
        self.given: list[int] = []

    def set_threads(self, threads: int) -> None:
        self.set[threading.current_thread().name] = threads

    def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        self.barrier.wait(10.0)
        self.given.append(self.set[threading.current_thread().name])
        return super().forward(rows)


def make_wide(backend: FacetRows, set_threads: Callable[[int], None], *, threads: int = 2) -> BatchingClassifier:
    return BatchingClassifier(
        backend=backend, max_tokens=10_000, batch_cost_tokens=None, device_threads=threads, set_threads=set_threads
    )


def test_a_small_window_is_shared_among_the_device_threads() -> None:
    backend = Meeting(2)
    classifier = make_wide(backend, backend.set_threads)
    documents = [Document("a" * 9, label_set(2)), Document("a" * 8, label_set(3))]
    check(documents, run(classifier, documents).scores)
    assert backend.batches == [1, 1]
    assert backend.given == [1, 1]
    assert len(backend.threads) == 2
    classifier.close()


def test_a_lone_batch_is_given_all_threads() -> None:
    backend = Meeting(1)
    classifier = make_wide(backend, backend.set_threads, threads=3)
    documents = [Document("a" * 9, label_set(2))]
    check(documents, run(classifier, documents).scores)
    assert backend.given == [3]
    classifier.close()


def test_windows_are_settled_in_order_whichever_is_done_first() -> None:
    class Held(FacetRows):
        """Texts of 'h' wait until they are let go."""

        def __init__(self) -> None:
            super().__init__()
            self.gate, self.later = threading.Event(), threading.Event()

        def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
            if rows[0].ids[0] == ord("h"):
                self.gate.wait(10.0)
            else:
                self.later.set()
            return super().forward(rows)

    backend = Held()
    classifier = make_wide(backend, lambda threads: None, threads=3)
    held = classifier.submit([Document(text, label_set(1)) for text in ("hh", "hh")])
    later = classifier.submit([Document("aaa", label_set(1))])
    assert backend.later.wait(10.0), "the later window is scored beside the held one"
    assert later.wait(0.05) is None, "but not settled before it"
    backend.gate.set()
    for pending, texts in ((held, ("hh", "hh")), (later, ("aaa",))):
        window = pending.wait(10.0)
        assert window is not None
        check([Document(text, label_set(1)) for text in texts], window.scores)
    classifier.close()


def test_many_windows_on_many_threads_keep_their_order_and_their_splits() -> None:
    backend = FacetRows(most_rows=3)
    classifier = make_wide(backend, lambda threads: None, threads=4)
    windows = [[Document("a" * n, label_set(2, 1)) for n in range(1, 2 + w % 9)] for w in range(60)]
    for documents, pending in [(documents, classifier.submit(documents)) for documents in windows]:
        window = pending.wait(10.0)
        assert window is not None
        check(documents, window.scores)
        assert window.facts.documents == len(documents)
        assert window.facts.tokens == window.facts.padded_tokens
    assert max(backend.batches) <= 3
    classifier.close()


def test_a_failure_reaches_the_windows_behind_it_and_none_before() -> None:
    for _ in range(20):
        classifier = make_wide(FacetRows(), lambda threads: None, threads=3)
        good, bad, behind = (classifier.submit([Document(text, label_set(1))]) for text in ("aa", "xx", "a"))
        window = good.wait(10.0)
        assert window is not None
        check([Document("aa", label_set(1))], window.scores)
        for pending in (bad, behind):
            with pytest.raises(FatalError, match="weights eaten"):
                pending.wait(10.0)
        classifier.close()
