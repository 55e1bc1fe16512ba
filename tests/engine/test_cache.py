"""The cache against the classifier behind it; what every Classifier promises is in tests/contracts."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator, Sequence
from threading import Event

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamer.app import build_classifier
from streamer.decide import decide
from streamer.engine.base import CacheFacts, Classifier, EngineFacts, ModelInfo, Pending, WindowScores
from streamer.engine.cache import CachingClassifier
from streamer.engine.fake import FakeClassifier
from streamer.errors import UsageError
from streamer.facets import Facet, InContextExample, Kind, Label, LabelSet, Route
from streamer.records import Document, Reject, Scores
from streamer.settings import ModelSettings

WAIT_S = 30.0
TOPIC = Facet("topic", Kind.MULTI, (Label("bill"), Label("outage"), Label("praise", "thanks")))
MOOD = LabelSet("mood", (TOPIC,))
ROOMY_BYTES = 1 << 20


class Instant:
    """A Classifier that answers at once, in windows of one flat array as the engine does, and counts what it is asked.

    Logits tell texts and calls apart: (length of the text, number of the call, ...).
    """

    def __init__(self, *, labels: int = 3) -> None:
        self.asked: list[list[str]] = []
        self._labels = labels

    def warm_up(self, label_sets: Sequence[LabelSet]) -> None:
        pass

    def describe(self) -> ModelInfo:
        return ModelInfo("instant", "none", "cpu", "float32", 1)

    def close(self) -> None:
        pass

    def submit(self, documents: Sequence[Document]) -> Pending:
        self.asked.append([document.text for document in documents])
        flat = np.full((len(documents), self._labels), len(self.asked), dtype=np.float32)
        flat[:, 0] = [len(document.text) for document in documents]
        scores = tuple(Scores(logits, len(one.text), False) for one, logits in zip(documents, flat, strict=True))
        count = len(documents)
        return Done(WindowScores(scores, EngineFacts(count, 1, 2 * count, 3 * count, 0.25, 0.5)))


class Done:
    def __init__(self, window: WindowScores) -> None:
        self._window = window

    def wait(self, timeout_s: float) -> WindowScores:
        return self._window


def documents(*texts: str, label_set: LabelSet = MOOD) -> list[Document]:
    return [Document(text, label_set) for text in texts]


def run(classifier: Classifier, window: Sequence[Document]) -> WindowScores:
    done = classifier.submit(window).wait(WAIT_S)
    assert done is not None
    assert len(done.scores) == len(window)
    return done


def logits_of(window: WindowScores) -> list[NDArray[np.float32]]:
    assert all(isinstance(one, Scores) for one in window.scores)
    return [one.logits for one in window.scores if isinstance(one, Scores)]


def cache_of(window: WindowScores) -> CacheFacts:
    assert window.facts.cache is not None
    return window.facts.cache


@pytest.fixture
def inner() -> Instant:
    return Instant()


@pytest.fixture
def cached(inner: Instant) -> CachingClassifier:
    return CachingClassifier(inner=inner, max_bytes=ROOMY_BYTES)


@pytest.fixture(scope="module")
def bundled() -> Iterator[Classifier]:
    classifier = build_classifier(ModelSettings(device="cpu"), max_tokens="auto")
    yield classifier
    classifier.close()


def test_a_hit_is_exactly_what_the_model_gave(bundled: Classifier) -> None:
    cached = CachingClassifier(inner=bundled, max_bytes=ROOMY_BYTES)
    texts = ["the bill is wrong", "no power since noon", "thank you all", "word " * 2000, ""]
    first = run(cached, documents(*texts))
    again = run(cached, documents(*reversed(texts)))
    plain = run(bundled, documents(*texts))
    assert (cache_of(first).hits, cache_of(again).hits, plain.facts.cache) == (0, len(texts), None)
    for one, other, direct in zip(first.scores, reversed(again.scores), plain.scores, strict=True):
        assert isinstance(one, Scores)
        assert isinstance(other, Scores)
        assert isinstance(direct, Scores)
        assert one.logits.tobytes() == other.logits.tobytes()
        assert one.logits.dtype == other.logits.dtype == np.float32
        assert (one.tokens, one.truncated) == (other.tokens, other.truncated) == (direct.tokens, direct.truncated)
        np.testing.assert_allclose(other.logits, direct.logits, atol=1e-4, rtol=1e-4)


def test_only_what_is_new_reaches_the_model(inner: Instant, cached: CachingClassifier) -> None:
    run(cached, documents("a", "bb"))
    window = run(cached, documents("bb", "ccc", "a", "dddd", "ccc"))
    assert inner.asked == [["a", "bb"], ["ccc", "dddd"]]
    assert [logits[0] for logits in logits_of(window)] == [2, 3, 1, 4, 3]
    assert [logits[1] for logits in logits_of(window)] == [1, 2, 1, 2, 2]
    facts = window.facts
    assert (facts.documents, facts.scored, facts.batches, facts.tokens, facts.padded_tokens) == (5, 2, 1, 4, 6)
    assert (cache_of(window).hits, cache_of(window).misses) == (3, 2)
    assert 0 < cache_of(window).held_bytes < ROOMY_BYTES


def test_a_window_of_hits_costs_the_engine_nothing(inner: Instant, cached: CachingClassifier) -> None:
    run(cached, documents("a"))
    facts = run(cached, documents("a", "a")).facts
    assert len(inner.asked) == 1
    assert (facts.documents, facts.scored, facts.batches, facts.tokens) == (2, 0, 0, 0)
    assert facts.tokenise_s == facts.forward_s == 0.0


@settings(max_examples=60, deadline=None)
@given(
    windows=st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=8), max_size=12),
    max_bytes=st.sampled_from([500, 1500, ROOMY_BYTES]),
    ahead=st.integers(0, 3),
)
def test_any_stream_gets_the_scores_of_its_own_texts(windows: list[list[str]], max_bytes: int, ahead: int) -> None:
    """With up to `ahead` windows under way, whatever is forgotten meanwhile."""
    fake = FakeClassifier(window_tokens=50, max_tokens=100, window_s=0.0, record_s=0.0)
    cached = CachingClassifier(inner=fake, max_bytes=max_bytes)
    truth = dict(zip("abcdefgh", logits_of(run(fake, documents(*"abcdefgh"))), strict=True))
    pending: list[tuple[list[str], Pending]] = []
    for texts in [*windows, *[[] for _ in range(ahead)]]:
        pending.append((texts, cached.submit(documents(*texts))))
        if len(pending) > ahead:
            submitted, oldest = pending.pop(0)
            done = oldest.wait(WAIT_S)
            assert done is not None
            for text, logits in zip(submitted, logits_of(done), strict=True):
                np.testing.assert_array_equal(logits, truth[text])
            assert cache_of(done).held_bytes <= max_bytes
    cached.close()


def test_what_is_used_stays_and_what_is_not_goes(inner: Instant) -> None:
    cached = CachingClassifier(inner=inner, max_bytes=100_000)
    for number in range(5_000):
        run(cached, documents("used again and again", f"used once {number}"))
    assert sum("used again and again" in asked for asked in inner.asked) == 1
    latest, first = run(cached, documents("used once 4999")), run(cached, documents("used once 0"))
    assert (cache_of(latest).hits, cache_of(first).hits) == (1, 0)


@pytest.mark.parametrize(("labels", "max_bytes"), [(3, 1 << 20), (24, 8 << 20), (2000, 8 << 20)])
def test_the_bound_holds_in_memory(labels: int, max_bytes: int) -> None:
    inner = Instant(labels=labels)
    cached = CachingClassifier(inner=inner, max_bytes=max_bytes)
    entries = 100_000 if labels < 100 else 5_000
    gc.collect()
    tracemalloc.start()
    try:
        most = 0
        for first in range(0, entries, 100):
            held = cache_of(run(cached, documents(*(f"text {first + i}" for i in range(100))))).held_bytes
            assert held <= max_bytes
            most = max(most, held)
            inner.asked.clear()
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert most > 0.85 * max_bytes  # it forgets for want of room alone
    assert used < max_bytes + 100_000


def test_a_cache_too_small_for_anything_still_answers(inner: Instant) -> None:
    cached = CachingClassifier(inner=inner, max_bytes=1)
    window = run(cached, documents("a", "bb", "a"))
    assert [logits[0] for logits in logits_of(window)] == [1, 2, 1]
    assert cache_of(run(cached, documents("a"))).hits == 0


def test_label_sets_that_differ_in_thresholds_or_routes_alone_share(inner: Instant, cached: CachingClassifier) -> None:
    strict = Facet("topic", Kind.MULTI, TOPIC.labels, threshold=0.9, min_margin=0.1)
    renamed = LabelSet("other", (strict,), routes=(Route("topic", "bill", 0.6, "bills"),), all_matching=True)
    run(cached, documents("a"))
    window = run(cached, documents("a", label_set=renamed))
    assert cache_of(window).hits == 1
    scores = [one for one in window.scores if isinstance(one, Scores)]
    (verdict,) = decide(documents("a", label_set=renamed), scores)
    assert verdict.label_set is renamed
    assert verdict.facets[0].labels == ()


@pytest.mark.parametrize(
    "other",
    [
        LabelSet("mood", (Facet("topic", Kind.MULTI, TOPIC.labels[::-1]),)),
        LabelSet("mood", (Facet("topic", Kind.MULTI, TOPIC.labels[:2]),)),
        LabelSet("mood", (Facet("topic", Kind.MULTI, (*TOPIC.labels[:2], Label("praise"))),)),
        LabelSet("mood", (TOPIC, Facet("more", Kind.MULTI, (Label("yes"),)))),
        LabelSet("mood", tuple(Facet(f"f{number}", Kind.MULTI, (label,)) for number, label in enumerate(TOPIC.labels))),
        LabelSet("mood", (TOPIC,), prompt="what is it about?"),
        LabelSet("mood", (TOPIC,), examples=(InContextExample("a", ("bill",)),)),
    ],
)
def test_label_sets_that_differ_in_what_the_model_reads_share_nothing(
    inner: Instant, cached: CachingClassifier, other: LabelSet
) -> None:
    run(cached, documents("a"))
    assert cache_of(run(cached, [*documents("a", label_set=other), *documents("a")])).hits == 1
    assert inner.asked == [["a"], ["a"]]


def test_texts_that_differ_at_all_share_nothing(inner: Instant, cached: CachingClassifier) -> None:
    texts = ["a", "A", "a ", " a", "a\n", "á", "a\u0301", "", "\x00", "a\x00", "\ud800", "\udcff", "x" * 9999 + "y"]
    assert cache_of(run(cached, documents(*texts))).misses == len(texts)
    assert cache_of(run(cached, documents("x" * 9999 + "z"))).misses == 1


def test_nobody_can_change_what_is_remembered(cached: CachingClassifier) -> None:
    asked, twin = logits_of(run(cached, documents("a", "a")))
    asked[:] = -1.0
    twin[:] = -2.0
    (hit,) = logits_of(run(cached, documents("a")))
    assert hit.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="read-only"):
        hit[:] = 0.0


def test_a_reject_is_not_remembered() -> None:
    slept: list[float] = []
    fake = FakeClassifier(
        window_tokens=50, max_tokens=100, window_s=1.0, record_s=0.0, sleep=slept.append, out_of_memory=["poison"]
    )
    cached = CachingClassifier(inner=fake, max_bytes=ROOMY_BYTES)
    first = run(cached, documents("poison", "a", "poison"))
    assert isinstance(first.scores[1], Scores)
    for place in (0, 2):
        answer = first.scores[place]
        assert isinstance(answer, Reject)
        assert answer.code == "engine_out_of_memory"
    again = run(cached, documents("poison", "a"))
    assert (cache_of(again).hits, cache_of(again).misses) == (1, 1)
    assert slept.count(1.0) == 2  # the fake was asked again
    cached.close()


def held_back(gate: Event) -> CachingClassifier:
    """A cache before a fake that answers once the gate is open."""

    def pass_gate(_: float) -> None:
        gate.wait(WAIT_S)

    fake = FakeClassifier(window_tokens=50, max_tokens=100, window_s=0.0, record_s=0.0, sleep=pass_gate)
    return CachingClassifier(inner=fake, max_bytes=ROOMY_BYTES)


def test_a_text_under_way_is_asked_for_once(inner: Instant, cached: CachingClassifier) -> None:
    first, second = cached.submit(documents("a", "bb")), cached.submit(documents("bb", "bb", "a"))
    after, before = second.wait(WAIT_S), first.wait(0.0)
    assert before is not None
    assert after is not None
    assert inner.asked == [["a", "bb"]]
    assert [logits[0] for logits in logits_of(after)] == [2, 2, 1]
    assert (cache_of(before).hits, cache_of(after).hits) == (0, 3)


def test_a_window_of_hits_waits_for_those_before_it() -> None:
    gate = Event()
    gate.set()
    cached = held_back(gate)
    run(cached, documents("a"))
    gate.clear()
    slow, hits, none = cached.submit(documents("b")), cached.submit(documents("a", "a")), cached.submit([])
    assert [one.wait(0.0) for one in (none, hits, slow)] == [None, None, None]
    gate.set()
    done = none.wait(WAIT_S)
    assert done is not None
    assert all(one.wait(0.0) is not None for one in (slow, hits))
    assert hits.wait(0.0) is hits.wait(0.0)
    cached.close()


def test_a_label_set_the_model_refuses_fails_its_own_windows_alone() -> None:
    gate = Event()
    cached = held_back(gate)
    refused = LabelSet("empty", ())
    bad = cached.submit([*documents("a"), *documents("a", label_set=refused)])
    twin, other = cached.submit(documents("a")), cached.submit(documents("b"))
    gate.set()
    for pending in (bad, twin, bad):
        with pytest.raises(UsageError, match="label set 'empty'"):
            pending.wait(WAIT_S)
    assert other.wait(WAIT_S) is not None
    assert cache_of(run(cached, documents("a", "b"))).hits == 1  # nothing of the failed window is known
    cached.close()


def test_reloaded_label_sets_are_scored_anew_and_old_ones_still_known(bundled: Classifier) -> None:
    cached = CachingClassifier(inner=bundled, max_bytes=ROOMY_BYTES)
    changed = LabelSet("mood", (Facet("topic", Kind.MULTI, (*TOPIC.labels, Label("question"))),))
    cached.warm_up([MOOD])
    (before,) = logits_of(run(cached, documents("where is my bill")))
    cached.warm_up([changed])
    new = run(cached, documents("where is my bill", label_set=changed))
    old = run(cached, documents("where is my bill"))
    assert (cache_of(new).hits, cache_of(old).hits) == (0, 1)
    assert len(logits_of(new)[0]) == 4
    assert logits_of(old)[0].tobytes() == before.tobytes()
