"""Labels from flags and settings, texts through a classifier, and the table of one verdict."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from rich.console import Console

from streamer.app import CPU_WINDOW_RECORDS, build_classifier
from streamer.engine.base import Classifier, EngineFacts, ModelInfo, WindowScores
from streamer.engine.fake import FakeClassifier
from streamer.errors import UsageError
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.offline import (
    classify_texts,
    label_records,
    label_set_from_flags,
    label_set_from_settings,
    show_verdict,
)
from streamer.records import Document, FacetVerdict, Reject, Scores, Verdict
from streamer.settings import ModelSettings, Settings, build_settings

LABELS = LabelSet("l", (Facet("mood", Kind.SINGLE, (Label("good"), Label("bad"))),))


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    made = build_classifier(ModelSettings(name="fake"), max_tokens="auto")
    yield made
    made.close()


def settings(*names: str) -> Settings:
    return build_settings(
        {
            "label_sets": {name: {"facets": {"f": {"labels": [name, "b"]}}} for name in names},
            "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": names[0]}],
        },
        origin="test",
    )


def test_flags_become_facets() -> None:
    made = label_set_from_flags(
        labels=["sentiment=negative, positive"], multi_labels=["topic=billing,log in", "urgent=yes"], threshold=0.7
    )
    assert made.facets == (
        Facet("sentiment", Kind.SINGLE, (Label("negative"), Label("positive"))),
        Facet("topic", Kind.MULTI, (Label("billing"), Label("log in")), threshold=0.7),
        Facet("urgent", Kind.MULTI, (Label("yes"),), threshold=0.7),
    )


@pytest.mark.parametrize(
    ("labels", "multi_labels", "threshold", "told"),
    [
        ([], [], 0.5, "no labels to choose from; give e.g. --labels sentiment="),
        (["billing,outage"], [], 0.5, "'billing,outage': a facet's name and its labels are needed, e.g. --labels"),
        (["=a,b"], [], 0.5, "a facet's name"),
        (["topic=billing"], [], 0.5, "'topic=billing': two labels or more are needed.* use --multi-labels"),
        (["topic=a,b"], ["topic=c"], 0.5, "facet 'topic' stands twice"),
        (["topic=a,a"], [], 0.5, "label 'a' stands twice.*e.g. --labels"),
        ([], ["topic= ,"], 0.5, "at least one label"),
        ([], ["topic=a"], 1.5, "threshold: .*less than or equal to 1"),
    ],
)
def test_wrong_flags_are_told_in_one_line(
    labels: list[str], multi_labels: list[str], threshold: float, told: str
) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        label_set_from_flags(labels=labels, multi_labels=multi_labels, threshold=threshold)
    assert "\n" not in str(caught.value)


def test_a_label_set_of_the_settings_is_the_only_one_or_named() -> None:
    assert label_set_from_settings(settings("tickets"), None).name == "tickets"
    assert label_set_from_settings(settings("tickets", "posts"), "posts").name == "posts"
    with pytest.raises(UsageError, match=r"several label sets \(tickets, posts\)"):
        label_set_from_settings(settings("tickets", "posts"), None)
    with pytest.raises(
        UsageError, match=r"no label set 'ticket' \(did you mean 'tickets'\?\); the settings have: tickets, posts"
    ):
        label_set_from_settings(settings("tickets", "posts"), "ticket")


def test_texts_get_their_answers_in_order(classifier: Classifier) -> None:
    texts = [f"text {i}" if i % 7 else " " for i in range(3 * CPU_WINDOW_RECORDS + 5)]
    answers = classify_texts(classifier, LABELS, texts)
    assert len(answers) == len(texts)
    for text, answer in zip(texts, answers, strict=True):
        if not text.strip():
            assert answer == Reject("empty_text", "the text is empty")
            continue
        assert isinstance(answer, Verdict)
        assert answer == classify_texts(classifier, LABELS, [text])[0]


def test_windows_without_any_document_ask_nothing_of_the_model(classifier: Classifier) -> None:
    assert classify_texts(classifier, LABELS, []) == []
    answers = classify_texts(classifier, LABELS, [""] * (CPU_WINDOW_RECORDS + 1))
    assert {answer.code for answer in answers if isinstance(answer, Reject)} == {"empty_text"}


def test_a_text_that_the_model_cannot_score_is_a_reject_among_verdicts() -> None:
    classifier = FakeClassifier(window_tokens=64, max_tokens=640, window_s=0, record_s=0, out_of_memory=["heavy"])
    try:
        one, two, three = classify_texts(classifier, LABELS, ["light", "heavy", "light"])
    finally:
        classifier.close()
    assert isinstance(two, Reject)
    assert two.code == "engine_out_of_memory"
    assert isinstance(one, Verdict)
    assert one == three


class Watched:
    """A Classifier that notes when windows are submitted and when they are waited for."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def warm_up(self, label_sets: Sequence[LabelSet]) -> None: ...

    def describe(self) -> ModelInfo:
        return ModelInfo("watched", "1", "cpu", "float32", 64)

    def close(self) -> None: ...

    def submit(self, documents: Sequence[Document]) -> WatchedWindow:
        self.events.append(f"submit {documents[0].text}")
        return WatchedWindow(self, documents)


class WatchedWindow:
    """Comes back on the second wait."""

    def __init__(self, classifier: Watched, documents: Sequence[Document]) -> None:
        self._classifier = classifier
        self._documents = documents
        self._waits = 0

    def wait(self, timeout_s: float) -> WindowScores | None:
        self._waits += 1
        if self._waits == 1:
            return None
        self._classifier.events.append(f"wait {self._documents[0].text}")
        scores = Scores(np.zeros(2, dtype=np.float32), 1, False)
        return WindowScores((scores,) * len(self._documents), EngineFacts(len(self._documents), 1, 1, 1, 0.0, 0.0))


def test_the_next_window_is_queued_before_the_last_one_is_waited_for() -> None:
    classifier = Watched()
    read: list[int] = []

    def records() -> Iterator[tuple[int, Document]]:
        for i in range(3 * CPU_WINDOW_RECORDS):
            read.append(i)
            yield i, Document(str(i // CPU_WINDOW_RECORDS), LABELS)

    answers = label_records(classifier, records())
    assert next(answers)[0] == 0
    assert len(read) == 2 * CPU_WINDOW_RECORDS  # no more than what is under way is read
    assert [item for item, _ in answers] == list(range(1, 3 * CPU_WINDOW_RECORDS))
    assert classifier.events == ["submit 0", "submit 1", "wait 0", "submit 2", "wait 1", "wait 2"]


def shown(verdict: Verdict | Reject, text: str = "the text") -> str:
    console = Console(file=io.StringIO(), width=100)
    show_verdict(console, text, verdict)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def verdict(*facets: FacetVerdict, truncated: bool = False) -> Verdict:
    return Verdict(facets, (), LABELS, truncated)


def test_a_verdict_is_shown_best_first_with_its_labels_marked() -> None:
    seen = shown(verdict(FacetVerdict("mood", ("good",), {"bad": 0.25, "good": 0.75}, False)), "[bold]hm[/bold]")
    assert "[bold]hm[/bold]" in seen  # a text is no markup
    assert seen.index("✓ good") < seen.index("bad  ")
    assert "0.750" in seen
    assert "abstained" not in seen


@pytest.mark.parametrize("scores", [{"a": 0.4}, {"a": 0.4, "b": 0.3}])
@pytest.mark.parametrize(("abstained", "note"), [(True, "abstained"), (False, "none holds")])
def test_a_facet_without_labels_says_why(scores: dict[str, float], abstained: bool, note: str) -> None:
    assert note in shown(verdict(FacetVerdict("topic", (), scores, abstained)))


def test_many_labels_are_cut_but_given_ones_stay() -> None:
    scores = {f"label{i:03}": 0.9 - i / 1000 for i in range(100)}
    seen = shown(verdict(FacetVerdict("topic", ("label099",), scores, False), truncated=True))
    assert "label099" in seen
    assert "label050" not in seen
    assert "and 87 more" in seen
    assert "its beginning was labelled" in seen


def test_a_reject_is_shown_with_its_code() -> None:
    assert shown(Reject("empty_text", "the text is empty")) == "not labelled: the text is empty (empty_text)\n"
