"""What every Classifier promises, asked of each of them through the port alone.

A subject is a way to make one: over the fake, or over a real model whose backend is only watched and tripped from
outside. `gate` holds the worker back until it is set, so that "not yet" can be tested without sleeping.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Protocol

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.app import bundled_directory
from streamer.engine.base import Backend, Classifier, ModelInfo, Row, WindowScores
from streamer.engine.bundled import BundledBackend
from streamer.engine.cache import CachingClassifier
from streamer.engine.devices import thread_setter
from streamer.engine.fake import FakeClassifier
from streamer.engine.scoring import BatchingClassifier
from streamer.engine.varlen import choose_kernels
from streamer.errors import FatalError, UsageError
from streamer.facets import Calibration, Facet, Kind, Label, LabelSet
from streamer.records import Document, Reject, Scores

WAIT_S = 30.0
TOLERANCE = 1e-5  # of a logit in float32, relative where it is above 1

MOOD = LabelSet("mood", (Facet("mood", Kind.SINGLE, (Label("good"), Label("bad"), Label("so so"))),))
CASE = LabelSet(
    "case",
    (
        Facet("topic", Kind.MULTI, (Label("bill", "about money"), Label("outage"))),
        Facet("event", Kind.SINGLE, (Label("question"), Label("complaint"), Label("praise"))),
    ),
)


class Make(Protocol):
    """Makes a fresh classifier; texts in `out_of_memory` and `failing` trip the model."""

    def __call__(
        self, *, gate: Event | None = None, out_of_memory: Collection[str] = (), failing: Collection[str] = ()
    ) -> Classifier: ...


class Tripped:
    """A real backend that waits at a gate and fails on planted texts."""

    def __init__(
        self, inner: Backend, gate: Event | None, out_of_memory: Collection[str], failing: Collection[str]
    ) -> None:
        self._inner = inner
        self._gate = gate
        self._out_of_memory = out_of_memory
        self._failing = failing
        self._texts: dict[tuple[int, ...], str] = {}  # by token ids: rows are made ahead of the batches they go into
        self.describe: Callable[[], ModelInfo] = inner.describe
        self.prepare: Callable[[LabelSet], None] = inner.prepare
        self.forget: Callable[[Collection[str]], None] = inner.forget

    def rows(self, documents: Sequence[Document]) -> list[Row]:
        rows = self._inner.rows(documents)
        self._texts |= {tuple(row.ids): documents[row.document].text for row in rows}
        return rows

    def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        if self._gate is not None:
            self._gate.wait(WAIT_S)
        texts = {self._texts[tuple(row.ids)] for row in rows}
        if not texts.isdisjoint(self._out_of_memory):
            raise RuntimeError("device out of memory")
        if not texts.isdisjoint(self._failing):
            raise RuntimeError("device failed")
        return self._inner.forward(rows)


def make_fake(
    *, gate: Event | None = None, out_of_memory: Collection[str] = (), failing: Collection[str] = ()
) -> Classifier:
    def pass_gate(_: float) -> None:
        if gate is not None:
            gate.wait(WAIT_S)

    return FakeClassifier(
        window_tokens=48,
        max_tokens=150,
        window_s=0.0,
        record_s=0.0,
        sleep=pass_gate,
        out_of_memory=out_of_memory,
        failing=failing,
    )


def maker_of(backend: Backend) -> Make:
    """Classifiers over one loaded model; batches of a few records, so that a window takes several."""

    def make(
        *, gate: Event | None = None, out_of_memory: Collection[str] = (), failing: Collection[str] = ()
    ) -> Classifier:
        tripped = Tripped(backend, gate, out_of_memory, failing)
        return BatchingClassifier(
            backend=tripped,
            max_tokens=150,
            batch_cost_tokens=None,
            device_threads=2,
            set_threads=thread_setter(torch.device("cpu")),
        )

    return make


def make_bundled(directory: Path) -> Make:
    device = torch.device("cpu")
    dtype = torch.float32
    return maker_of(
        BundledBackend(directory=directory, name="tiny", device=device, dtype=dtype, choose_kernels=choose_kernels)
    )


def behind_a_cache(inner: Make) -> Make:
    """Each of its classifiers behind a cache."""

    def make(
        *, gate: Event | None = None, out_of_memory: Collection[str] = (), failing: Collection[str] = ()
    ) -> Classifier:
        made = inner(gate=gate, out_of_memory=out_of_memory, failing=failing)
        return CachingClassifier(inner=made, max_bytes=1 << 20)

    return make


@pytest.fixture(scope="module", params=["fake", "tiny", "bundled", "cached fake", "cached tiny"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "fake":
        return make_fake
    if request.param == "cached fake":
        return behind_a_cache(make_fake)
    if request.param == "cached tiny":
        return behind_a_cache(make_bundled(request.getfixturevalue("tiny_bundled")))
    return make_bundled(bundled_directory() if request.param == "bundled" else request.getfixturevalue("tiny_bundled"))


@pytest.fixture(scope="module")
def classifier(make: Make) -> Iterator[Classifier]:
    made = make()
    yield made
    made.close()


def run(classifier: Classifier, documents: Sequence[Document]) -> WindowScores:
    window = classifier.submit(documents).wait(WAIT_S)
    assert window is not None
    assert len(window.scores) == len(documents)
    return window


def logits_of(classifier: Classifier, documents: Sequence[Document]) -> list[NDArray[np.float32]]:
    answers = run(classifier, documents).scores
    assert all(isinstance(answer, Scores) for answer in answers)
    return [answer.logits for answer in answers if isinstance(answer, Scores)]


def documents(*texts: str) -> list[Document]:
    return [Document(text, MOOD) for text in texts]


def test_answers_come_in_the_order_of_the_documents(classifier: Classifier) -> None:
    texts = ["late again", "a", "what a fine long day it was", "no", "charged me twice", ""]
    together = logits_of(classifier, documents(*texts))
    for text, logits in zip(texts, together, strict=True):
        np.testing.assert_allclose(logits, logits_of(classifier, documents(text))[0], atol=TOLERANCE, rtol=TOLERANCE)
    assert len({logits.tobytes() for logits in together}) == len(texts)


def test_logits_are_float32_one_per_label_of_all_facets(classifier: Classifier) -> None:
    (logits,) = logits_of(classifier, [Document("where is my bill", CASE)])
    assert logits.shape == (5,)
    assert logits.dtype == np.float32


def test_label_sets_may_mix_in_a_window(classifier: Classifier) -> None:
    mixed = [Document(f"text {i}", (MOOD, CASE)[i % 2]) for i in range(8)]
    for document, logits in zip(mixed, logits_of(classifier, mixed), strict=True):
        assert len(logits) == len(document.label_set.labels)
        np.testing.assert_allclose(logits, logits_of(classifier, [document])[0], atol=TOLERANCE, rtol=TOLERANCE)


WORDS = st.sampled_from(["bill", "outage", "good", "bad", "a question about x", "none", "praise", "late"])
FACETS = st.lists(st.lists(WORDS, min_size=1, max_size=5, unique=True), min_size=1, max_size=3)
TEXTS = st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=9).map(" ".join))


def named(facets: list[list[str]]) -> LabelSet:
    return LabelSet(
        "drawn",
        tuple(Facet(f"f{i}", Kind.MULTI, tuple(Label(word) for word in words)) for i, words in enumerate(facets)),
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    window=st.lists(st.tuples(TEXTS, FACETS), min_size=1, max_size=6),
    pick=st.tuples(st.integers(0, 5), st.integers(0, 14)),
)
def test_a_logit_depends_on_text_and_label_alone(
    classifier: Classifier, window: list[tuple[str, list[list[str]]]], pick: tuple[int, int]
) -> None:
    submitted = [Document(text, named(facets)) for text, facets in window]
    together = logits_of(classifier, submitted)
    place = pick[0] % len(submitted)
    labels = submitted[place].label_set.labels
    label = pick[1] % len(labels)
    (alone,) = logits_of(classifier, [Document(submitted[place].text, named([[labels[label].name]]))])
    np.testing.assert_allclose(together[place][label], alone[0], atol=TOLERANCE, rtol=TOLERANCE)


def test_an_empty_window_is_answered(classifier: Classifier) -> None:
    window = run(classifier, [])
    assert window.scores == ()
    assert (window.facts.documents, window.facts.batches, window.facts.tokens) == (0, 0, 0)


def test_facts_add_up(classifier: Classifier) -> None:
    facts = run(classifier, documents("one", "two and more", "three " * 6)).facts
    assert facts.documents == 3
    assert facts.batches >= 1
    assert 0 < facts.tokens <= facts.padded_tokens
    assert facts.tokenise_s >= 0.0
    assert facts.forward_s >= 0.0


def test_a_long_text_is_cut_and_says_so(classifier: Classifier) -> None:
    short, long, huge = run(classifier, documents("short", "long " * 600, "x" * 200_000)).scores
    assert isinstance(short, Scores)
    assert isinstance(long, Scores)
    assert isinstance(huge, Scores)
    assert (short.truncated, long.truncated, huge.truncated) == (False, True, True)
    assert 0 < short.tokens < long.tokens <= classifier.describe().window_tokens


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\x00", "[SEP] [CLS] [PAD]", "<<LABEL>>", "日本語 🎉 é", "a\ufeff\u202eb"]
)
def test_any_text_gets_finite_scores(classifier: Classifier, text: str) -> None:
    (logits,) = logits_of(classifier, documents(text))
    assert np.isfinite(logits).all()


def test_wait_gives_none_until_the_window_is_done(make: Make) -> None:
    gate = Event()
    classifier = make(gate=gate)
    pending = classifier.submit(documents("a", "b"))
    assert pending.wait(0.0) is None
    assert pending.wait(0.01) is None
    gate.set()
    window = pending.wait(WAIT_S)
    assert window is not None
    assert len(window.scores) == 2
    assert pending.wait(0.0) is window  # asking again is no harm
    classifier.close()


def test_windows_under_way_are_answered_in_order(make: Make) -> None:
    gate = Event()
    classifier = make(gate=gate)
    first, second = classifier.submit(documents("a", "b")), classifier.submit(documents("c"))
    assert first.wait(0.0) is None
    assert second.wait(0.0) is None
    gate.set()
    after = second.wait(WAIT_S)
    before = first.wait(0.0)
    assert before is not None
    assert after is not None
    assert (len(before.scores), len(after.scores)) == (2, 1)
    classifier.close()


def test_a_window_may_follow_without_warm_up_or_after_it(make: Make) -> None:
    warm, cold = make(), make()
    warm.warm_up([MOOD, CASE])
    for one, other in zip(logits_of(warm, documents("a", "b")), logits_of(cold, documents("a", "b")), strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE, rtol=TOLERANCE)
    warm.close()
    cold.close()


def one_facet(number: int) -> LabelSet:
    """No two alike."""
    return LabelSet("many", (Facet("facet", Kind.MULTI, (Label("bill"), Label(f"number {number}"))),))


def test_label_sets_that_come_and_go_change_no_scores(make: Make) -> None:
    """More than are kept, some of them warmed up while a window with others is under way."""
    gate = Event()
    gate.set()
    classifier = make(gate=gate)
    texts = [Document("where is my bill", one) for one in (MOOD, CASE, one_facet(0))]
    before = logits_of(classifier, texts)
    for first in range(1, 100, 25):
        gate.clear()
        held = classifier.submit([Document(f"held up by {first}", one_facet(first))])
        many = [Document(f"text {first}", one_facet(first + i)) for i in range(25)]
        pending = classifier.submit(many)
        gate.set()
        classifier.warm_up([one_facet(first)])
        for window in (held, pending):
            answered = window.wait(WAIT_S)
            assert answered is not None
            assert all(isinstance(answer, Scores) for answer in answered.scores)
    again = logits_of(classifier, texts)
    for one, other in zip(before, again, strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE, rtol=TOLERANCE)
    classifier.close()


def test_a_label_set_that_cannot_be_served_is_refused_at_warm_up(make: Make) -> None:
    classifier = make()
    with pytest.raises(UsageError, match="label set 'empty'") as refused:
        classifier.warm_up([MOOD, LabelSet("empty", ())])
    assert "\n" not in str(refused.value)
    assert len(logits_of(classifier, documents("still here"))) == 1
    classifier.close()


def test_a_calibration_for_another_model_is_refused_at_warm_up(make: Make) -> None:
    classifier = make()
    revision = classifier.describe().revision
    fitting, other = (LabelSet("mood", MOOD.facets, calibration=Calibration("0" * 16, one)) for one in (revision, "r7"))
    classifier.warm_up([fitting])
    with pytest.raises(UsageError, match=r"label_sets\.mood\.calibration: was fitted for revision r7") as refused:
        classifier.warm_up([fitting, other])
    assert revision in str(refused.value)
    assert len(logits_of(classifier, documents("still here"))) == 1
    classifier.close()


def test_a_record_too_big_for_the_device_is_rejected_alone(make: Make) -> None:
    classifier = make(out_of_memory=["poison"])
    texts = ["a", "b", "poison", "c", "d"]
    window = run(classifier, documents(*texts))
    answers, facts = window.scores, window.facts
    assert [isinstance(answer, Scores) for answer in answers] == [True, True, False, True, True]
    assert isinstance(answers[2], Reject)
    assert answers[2].code == "engine_out_of_memory"
    assert facts.out_of_memory >= 1
    assert facts.capacity_tokens >= facts.padded_tokens > 0
    assert len(logits_of(classifier, documents("next"))) == 1
    classifier.close()


def test_a_failing_model_raises_from_wait_and_from_then_on(make: Make) -> None:
    gate = Event()
    classifier = make(gate=gate, failing=["broken"])
    good, bad, queued = (classifier.submit(documents(text)) for text in ("a", "broken", "b"))
    gate.set()
    assert good.wait(WAIT_S) is not None
    for pending in (bad, bad, queued):
        with pytest.raises(FatalError, match="device failed") as failure:
            pending.wait(WAIT_S)
        assert "\n" not in str(failure.value)
    with pytest.raises(FatalError, match="device failed"):
        classifier.submit(documents("a"))
    classifier.close()


def test_close_finishes_what_is_queued_and_may_be_called_again(make: Make) -> None:
    classifier = make()
    pending = [classifier.submit(documents(text)) for text in ("a", "b", "c")]
    classifier.close()
    assert all(one.wait(0.0) is not None for one in pending)
    classifier.close()


def test_describe_names_model_and_window(classifier: Classifier) -> None:
    info = classifier.describe()
    assert info == classifier.describe()
    assert all((info.name, info.revision, info.device, info.dtype))
    assert info.window_tokens > 0
