"""The window's machinery, over a backend small enough to read: one row per facet, logits that say where they belong."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamer.engine.base import Row
from streamer.engine.scoring import KEPT_LABEL_SETS, BatchingClassifier, is_out_of_memory
from streamer.errors import FatalError, UsageError
from streamer.facets import LabelSet
from streamer.records import Document, Reject, Scores
from tests.engine.facet_rows import FacetRows, check, label_set, run


def make(backend: FacetRows, *, max_tokens: int = 10_000) -> BatchingClassifier:
    return BatchingClassifier(
        backend=backend,
        max_tokens=max_tokens,
        batch_cost_tokens=max_tokens,
        device_threads=1,
        set_threads=lambda threads: None,
    )


DOCUMENTS = [
    Document("a" * 7, label_set(3, 2)),
    Document("a", label_set(1)),
    Document("a" * 30, label_set(2, 4, 1)),
    Document("a" * 2, label_set(3, 2)),
]


@pytest.mark.parametrize("max_tokens", [1, 20, 64, 10_000])
def test_logits_of_several_rows_come_back_in_the_order_of_documents_and_labels(max_tokens: int) -> None:
    classifier = make(FacetRows(), max_tokens=max_tokens)
    window = run(classifier, DOCUMENTS)
    check(DOCUMENTS, window.scores)
    classifier.close()


def test_a_document_counts_its_text_once_and_is_truncated_when_any_row_is() -> None:
    classifier = make(FacetRows())
    answers = run(classifier, DOCUMENTS).scores
    assert [(a.tokens, a.truncated) for a in answers if isinstance(a, Scores)] == [
        (7, True),
        (1, False),
        (30, True),
        (2, True),
    ]
    classifier.close()


def test_facts_are_counted_and_measured() -> None:
    classifier = make(FacetRows(), max_tokens=90)
    facts = run(classifier, DOCUMENTS).facts
    # rows of 30, 30, 30 | 7, 7, 2, 2, 1
    assert (facts.documents, facts.batches) == (4, 2)
    assert facts.tokens == 3 * 30 + 2 * 7 + 2 * 2 + 1
    assert facts.padded_tokens == 3 * 30 + 5 * 7
    assert facts.tokenise_s >= 0.0
    assert facts.forward_s > 0.0
    classifier.close()


def test_a_window_too_big_for_the_device_is_split_until_it_fits() -> None:
    backend = FacetRows(most_rows=3)
    classifier = make(backend)
    documents = [Document("a" * n, label_set(2)) for n in range(1, 12)]
    window = run(classifier, documents)
    check(documents, window.scores)
    assert sum(backend.batches) == 11
    assert window.facts.batches == len(backend.batches)
    assert max(backend.batches) <= 3
    classifier.close()


def test_a_document_that_fails_alone_in_one_of_its_rows_is_a_reject() -> None:
    classifier = make(FacetRows(poison=1))
    documents = [Document("aa", label_set(2, 2)), Document("pp", label_set(2, 2)), Document("aaa", label_set(2, 2))]
    before, poisoned, after = run(classifier, documents).scores
    check([documents[0], documents[2]], [before, after])
    assert isinstance(poisoned, Reject)
    assert poisoned.code == "engine_out_of_memory"
    check(documents[:1], run(classifier, documents[:1]).scores)  # and the next window is served
    classifier.close()


def test_scores_that_are_no_numbers_are_rejects() -> None:
    classifier = make(FacetRows())
    documents = [Document("aa", label_set(2)), Document("nn", label_set(2, 1)), Document("aaa", label_set(2))]
    before, broken, after = run(classifier, documents).scores
    check([documents[0], documents[2]], [before, after])
    assert isinstance(broken, Reject)
    assert broken.code == "engine_not_finite"
    classifier.close()


def test_a_failure_of_the_model_stops_it_for_good() -> None:
    classifier = make(FacetRows())
    with pytest.raises(FatalError, match="model 'rows' failed: ValueError: weights eaten"):
        run(classifier, [Document("xx", label_set(1))])
    with pytest.raises(FatalError, match="weights eaten"):
        classifier.submit(DOCUMENTS)
    with pytest.raises(FatalError, match="weights eaten"):
        classifier.warm_up([label_set(1)])
    classifier.close()


def test_a_refused_label_set_harms_nothing() -> None:
    classifier = make(FacetRows())
    refused = LabelSet("set", label_set(1).facets, prompt="think")
    with pytest.raises(UsageError, match="no prompts here"):
        classifier.warm_up([label_set(1), refused])
    with pytest.raises(UsageError, match="no prompts here"):
        run(classifier, [Document("a", refused)])
    check(DOCUMENTS, run(classifier, DOCUMENTS).scores)
    classifier.close()


def test_warm_up_prepares_and_runs_on_the_thread_that_serves() -> None:
    backend = FacetRows()
    classifier = make(backend)
    sets = [label_set(1), label_set(2, 3)]
    classifier.warm_up(sets)
    assert set(backend.prepared) == {one.scoring_key for one in sets}
    assert sum(backend.batches) == 3
    run(classifier, DOCUMENTS)
    assert len(backend.threads) == 1
    assert threading.current_thread().name not in backend.threads
    classifier.close()


def test_a_thousand_reloads_leave_few_label_sets_behind() -> None:
    backend = FacetRows()
    classifier = make(backend)
    for size in range(1, 1001):
        served = [label_set(1), label_set(size, 2)]
        classifier.warm_up(served)
        check(DOCUMENTS, run(classifier, DOCUMENTS).scores)
        held = Counter(backend.prepared_anew) - Counter(backend.forgotten)
        assert all(held[one.scoring_key] for one in served)
        assert max(held.values()) == 1
        assert len(held) <= KEPT_LABEL_SETS + 2 + 3, "those served, those of a window, and the last ones"
    classifier.close()


def test_label_sets_of_windows_under_way_are_kept() -> None:
    gate = threading.Event()
    started = threading.Event()
    all_prepared = threading.Event()

    class Gated(FacetRows):
        def rows(self, documents: Sequence[Document]) -> list[Row]:
            if documents[0].label_set == label_set(79):
                all_prepared.set()
            return super().rows(documents)

        def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
            started.set()
            gate.wait(10)
            return super().forward(rows)

    backend = Gated()
    classifier = make(backend)
    window = classifier.submit(DOCUMENTS)
    assert started.wait(10)
    # their rows are made while the first window is at the device
    others = [classifier.submit([Document("a", label_set(size))]) for size in range(50, 80)]
    assert all_prepared.wait(10)
    assert backend.forgotten == []
    gate.set()
    for pending in (window, *others):
        assert pending.wait(10) is not None
    run(classifier, [Document("a", label_set(99))])
    assert {one.label_set.scoring_key for one in DOCUMENTS} <= set(backend.forgotten), "no window needs them now"
    classifier.close()


def test_a_model_that_does_not_fit_fails_at_warm_up() -> None:
    classifier = make(FacetRows(most_rows=0))
    with pytest.raises(FatalError, match="engine_out_of_memory"):
        classifier.warm_up([label_set(1)])
    classifier.close()


def test_a_warm_up_that_gives_no_scores_leaves_the_engine_as_it_was() -> None:
    backend = FacetRows()
    classifier = make(backend)
    backend.most_rows = 0
    with pytest.raises(FatalError, match=r"label set 'set': warming up gave no scores \(engine_out_of_memory"):
        classifier.warm_up([label_set(3)])
    backend.most_rows = 1000
    check(DOCUMENTS, run(classifier, DOCUMENTS).scores)
    classifier.close()


def test_a_label_set_too_big_for_the_device_is_refused_and_harms_nothing() -> None:
    class Full(FacetRows):
        def prepare(self, label_set: LabelSet) -> None:
            if len(label_set.labels) > 10:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            super().prepare(label_set)

    classifier = make(Full())
    with pytest.raises(UsageError, match="label set 'set': the model runs out of memory on its labels; name fewer"):
        classifier.warm_up([label_set(1), label_set(11)])
    check(DOCUMENTS, run(classifier, DOCUMENTS).scores)
    classifier.close()


def test_label_sets_are_warmed_from_another_thread_while_windows_are_scored() -> None:
    backend = FacetRows()
    classifier = make(backend)
    stop = threading.Event()
    failures: list[Exception] = []

    def warm() -> None:
        size = 0
        while not stop.is_set():
            size = size % 50 + 1
            try:
                classifier.warm_up([label_set(size), label_set(size, size)])
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=warm)
    thread.start()
    for _ in range(200):
        check(DOCUMENTS, run(classifier, DOCUMENTS).scores)
    stop.set()
    thread.join(10)
    assert failures == []
    assert len(backend.threads) == 1
    classifier.close()


def test_what_counts_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as cpu:
        torch.empty(1 << 55)
    assert is_out_of_memory(cpu.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_out_of_memory(ValueError("out of memory"))
