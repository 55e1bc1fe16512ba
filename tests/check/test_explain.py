"""What one record would get: the same as on the road, in words."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rich.console import Console

from streamer.__main__ import main
from streamer.check.explain import Explanation, explain_file, explain_value, less
from streamer.check.explain_show import SHOWN_CHARACTERS, explanation_json, show_explanation
from streamer.decide import decide
from streamer.decode import Decoder
from streamer.encode import DEAD_LETTER_HEADER
from streamer.engine.base import Classifier
from streamer.engine.fake import FakeClassifier
from streamer.errors import UsageError
from streamer.facets import Facet, Kind, Label, LabelSet, Route
from streamer.records import Document, Envelope, Position, Reject, Scores, Stream, Verdict
from streamer.settings import Settings, build_settings

MOOD = Facet("mood", Kind.SINGLE, (Label("bad"), Label("good")))
TOPIC = Facet("topic", Kind.MULTI, (Label("billing"), Label("outage")))


@pytest.fixture(scope="module")
def fake() -> Iterator[Classifier]:
    classifier = FakeClassifier(window_tokens=100, max_tokens=1000, window_s=0, record_s=0)
    yield classifier
    classifier.close()


def stream(*, parse_json: bool = True, max_value_bytes: int = 10_000) -> Stream:
    return Stream(
        topic="in", output="out", dead_letter="dead", label_set="l", text=("/text",), parse_json=parse_json,
        pass_payload=False, pass_headers=frozenset(), all_scores=True, keep_timestamp=True,
        max_value_bytes=max_value_bytes, weight=1,
    )  # fmt: skip


def explained(
    fake: Classifier, *facets: Facet, text: str = "hello", routes: tuple[Route, ...] = (), all_matching: bool = False
) -> Explanation:
    label_set = LabelSet("l", facets or (MOOD, TOPIC), routes=routes, all_matching=all_matching)
    value = orjson.dumps({"text": text})
    return explain_value(value, stream=stream(), label_set=label_set, classifier=fake, max_dead_letter_bytes=100)


def shown(one: Explanation, width: int = 160) -> str:
    file = io.StringIO()
    show_explanation(Console(file=file, width=width), one)
    return file.getvalue()


def verdict(one: Explanation) -> Verdict:
    assert isinstance(one.outcome, Verdict)
    return one.outcome


def test_it_is_what_the_road_does(fake: Classifier) -> None:
    label_set = LabelSet("l", (MOOD, TOPIC), routes=(Route("topic", "billing", 0.5, "money"),))
    envelope = Envelope(Position("in", 0, 0), 0, None, (), None, b'{"text": "hello"}', None)
    document = Decoder(streams={"in": stream()}, label_sets={"l": label_set}).decode(envelope)
    assert isinstance(document, Document)
    result = fake.submit([document]).wait(10)
    assert result is not None
    (scores,) = result.scores
    assert isinstance(scores, Scores)
    one = explained(fake, MOOD, TOPIC, routes=label_set.routes)
    assert one.outcome == decide([document], [scores])[0]
    assert [message.topic for message in one.messages] == list(verdict(one).routes or ("out",))
    assert orjson.loads(one.messages[0].value or b"")["label_set"]["version"] == label_set.version


def test_the_bundled_model_explains_a_ticket(tmp_path: Path) -> None:
    content = {
        "model": {"name": "bundled", "device": "cpu", "dtype": "float32"},
        "label_sets": {"a": {
            "facets": {"topic": {"kind": "multi", "labels": {"billing": "a bill or payment", "outage": "is down"}}},
            "routes": [
                {"when": {"facet": "topic", "label": "billing", "score": 0.5}, "to": "money"},
                {"when": {"facet": "topic", "label": "outage"}, "to": "ops"},
            ],
        }},
        "streams": [{"topic": "in", "output": "out", "dead_letter": "dead", "label_set": "a", "text": ["/body"]}],
    }  # fmt: skip
    path = tmp_path / "record.json"
    path.write_text('{"body": "I was charged twice on my last invoice, please refund the payment"}\n')
    one = explain_file(build_settings(content, origin="x"), source=path, topic=None, stdin=io.BytesIO())
    assert verdict(one).routes == ("money",)
    seen = shown(one)
    for part in ("✓ billing", "I was charged twice", "'billing' was given, with score", "→ money", "bundled@"):
        assert part in seen
    assert "< threshold 0.5" in seen  # why not ops


def test_every_facet_says_why(fake: Classifier) -> None:
    strict = Facet("strict", Kind.SINGLE, MOOD.labels, min_score=1.0, min_margin=1.0)
    close = Facet("close", Kind.MULTI, TOPIC.labels, min_margin=0.9)
    none = Facet("none", Kind.MULTI, TOPIC.labels, threshold=1.0)
    every = Facet("all", Kind.MULTI, TOPIC.labels, threshold=0.0)
    one = explained(fake, strict, close, none, every, MOOD)
    why = {facet.facet.name: facet.why for facet in one.facets}
    best = max(one.facets[0].verdict.scores.values())
    assert why["strict"].startswith(f"abstained: its best score {less(best, 1.0, 'min_score')} and its margin 0.")
    assert why["strict"].endswith("< min_margin 1")
    assert why["close"].startswith("abstained: its margin 0.")
    assert why["close"].endswith("< min_margin 0.9")
    assert why["none"] == "no score reaches threshold 1"
    assert why["all"] == "scores from threshold 0 on hold"
    assert why["mood"] == "the best score holds"
    assert [facet.verdict for facet in one.facets] == list(verdict(one).facets)
    seen = shown(one)
    for part in ("strict (single)", "threshold 1, min_score 0, margin", "✓ billing", "✓ outage", why["strict"]):
        assert part in seen


def test_every_route_says_whether_it_holds_and_why_not(fake: Classifier) -> None:
    topic = Facet("topic", Kind.MULTI, TOPIC.labels, threshold=0.0)
    (mood,) = verdict(explained(fake, MOOD)).facets
    given_, other = mood.labels[0], next(label.name for label in MOOD.labels if label.name not in mood.labels)
    routes = (
        Route("mood", given_, 1.0, "certain"),
        Route("mood", other, 0.0, "never"),
        Route("unsure", "bad", 0.0, "nowhere"),
        Route("topic", "billing", 0.0, "money"),
        Route("topic", "outage", 0.0, "ops"),
        Route("topic", "outage", 0.0, "money"),
    )
    unsure = Facet("unsure", Kind.SINGLE, MOOD.labels, min_score=1.0)
    first = explained(fake, MOOD, topic, unsure, routes=routes)
    every = explained(fake, MOOD, topic, unsure, routes=routes, all_matching=True)
    why = [route.why for route in first.routes]
    assert why[0] == f"score {less(mood.scores[given_], 1.0)}"
    assert why[1] == f"'{given_}' was given, with score {mood.scores[given_]:.3f}"
    assert why[2] == "facet 'unsure' abstained"
    assert why[3].startswith("'billing' was given, with score")
    assert why[4] == "it holds, but route 3 was first"
    assert [route.holds for route in first.routes] == [False, False, False, True, True, True]
    assert [route.taken for route in first.routes] == [False, False, False, True, False, False]
    assert [route.taken for route in every.routes] == [False, False, False, True, True, True]
    assert [message.topic for message in first.messages] == ["money"]
    assert [message.topic for message in every.messages] == ["money", "ops"]
    for one in (first, every):
        for topic_ in {message.topic for message in one.messages}:
            assert f"→ {topic_}" in shown(one)
    assert "the first rule that holds wins" in shown(first)
    assert "every rule that holds counts" in shown(every)
    assert "the stream's own output" in shown(explained(fake, MOOD))


def test_a_route_of_abstention_says_why_it_holds(fake: Classifier) -> None:
    unsure = Facet("unsure", Kind.SINGLE, MOOD.labels, min_score=1.0)
    routes = (Route("mood", None, 0.0, "nowhere"), Route("unsure", None, 0.0, "tickets.review"))
    one = explained(fake, MOOD, unsure, routes=routes)
    assert [route.why for route in one.routes] == ["facet 'mood' did not abstain", "facet 'unsure' abstained"]
    assert [route.taken for route in one.routes] == [False, True]
    assert [message.topic for message in one.messages] == ["tickets.review"]
    for part in ("unsure: abstained", "tickets.review"):
        assert part in shown(one)
    assert orjson.loads(explanation_json(one))["routes"][1] == {
        "when": {"facet": "unsure", "abstained": True},
        "to": "tickets.review",
        "holds": True,
        "taken": True,
        "why": "facet 'unsure' abstained",
    }


@pytest.mark.parametrize(
    ("value", "code"), [(b"", "not_json"), (b'{"text": 3}', "text_not_string"), (b" " * 101, "value_too_large")]
)
def test_a_reject_names_its_code_and_the_dead_letter_topic(fake: Classifier, value: bytes, code: str) -> None:
    one = explain_value(
        value, stream=stream(max_value_bytes=100), label_set=LabelSet("l", (MOOD,)), classifier=fake,
        max_dead_letter_bytes=100,
    )  # fmt: skip
    assert isinstance(one.outcome, Reject)
    assert one.outcome.code == code
    assert dict(one.messages[0].headers)[f"{DEAD_LETTER_HEADER}code"] == code.encode()
    seen = shown(one)
    assert f"({code})" in seen
    assert "→ dead letters: dead" in seen
    printed = json.loads(explanation_json(one))
    assert printed["reject"]["code"] == code
    assert printed["to"] == ["dead"]


def test_a_text_stream_takes_the_whole_value(fake: Classifier) -> None:
    one = explain_value(
        b"plain words\n", stream=stream(parse_json=False), label_set=LabelSet("l", (MOOD,)), classifier=fake,
        max_dead_letter_bytes=100,
    )  # fmt: skip
    assert one.text == "plain words\n"


def test_long_text_is_shortened_and_says_how_long_it_is(fake: Classifier) -> None:
    one = explained(fake, MOOD, text="word " * 1000)
    seen = shown(one)
    assert "5,000 characters, the first 500 are shown; longer than the model's window" in seen
    assert len(seen) < 3 * SHOWN_CHARACTERS + 2000
    printed = json.loads(explanation_json(one))
    assert (len(printed["text"]), printed["characters"], printed["truncated"]) == (SHOWN_CHARACTERS, 5000, True)


def test_many_labels_are_not_all_shown(fake: Classifier) -> None:
    seen = shown(explained(fake, Facet("f", Kind.MULTI, tuple(Label(f"label{i}") for i in range(50)))))
    assert "and 30 more" in seen
    assert "threshold 0.5" in shown(explained(fake, Facet("f", Kind.MULTI, (Label("alone"),))))


EVIL = "\x1b[31m[red]x[/red]\x1b]0;owned\x07 \u202etfel\u202c \u200b \x7f \x9b2J \x00 \r\n end 🎉"


def test_nothing_in_a_record_acts_on_the_terminal(fake: Classifier) -> None:
    one = explained(fake, MOOD, text=EVIL)
    for seen in (shown(one), explanation_json(one)):
        assert not [sign for sign in seen if not (sign.isprintable() or sign == "\n")]
        assert "[red]x[/red]" in seen
    assert "\\x1b[31m" in shown(one)
    assert "\\u202e" in shown(one)
    line = explanation_json(one)
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line)["text"] == EVIL


@given(st.text(min_size=1, max_size=50))
@hypothesis_settings(max_examples=50, deadline=None)
def test_any_text_is_explained_on_one_line_of_json(text: str) -> None:
    classifier = FakeClassifier(window_tokens=10, max_tokens=1000, window_s=0, record_s=0)
    try:
        one = explain_value(
            text.encode("utf-8", "surrogatepass"), stream=stream(parse_json=False),
            label_set=LabelSet("l", (MOOD, TOPIC)), classifier=classifier, max_dead_letter_bytes=10,
        )  # fmt: skip
    finally:
        classifier.close()
    line = explanation_json(one)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["to"] == ["dead" if isinstance(one.outcome, Reject) else "out"]
    assert shown(one)


@given(st.floats(0, 1), st.floats(0, 1))
def test_less_never_shows_two_equal_numbers_for_different_ones(one: float, two: float) -> None:
    low, high = sorted((round(one, 4), round(two, 4)))
    if low < high:
        left, right = less(low, high).split(" < ")
        assert float(left) < float(right)


def content(streams: int = 1) -> dict[str, Any]:
    return {
        "model": {"name": "fake"},
        "label_sets": {"l": {"facets": {"mood": {"labels": ["bad", "good"]}}}},
        "streams": [
            {"topic": f"in{i}", "output": "out", "dead_letter": "dead", "label_set": "l"} for i in range(streams)
        ],
    }


def several(streams: int) -> Settings:
    return build_settings(content(streams), origin="x")


def test_with_several_streams_the_topic_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(b'{"text": "x"}')
    for topic, says in ((None, "several streams (in0, in1); say which"), ("in9", r"the settings have: in0, in1")):
        with pytest.raises(UsageError, match=says.replace("(", r"\(").replace(")", r"\)")):
            explain_file(several(2), source=path, topic=topic, stdin=io.BytesIO())
    assert explain_file(several(2), source=path, topic="in1", stdin=io.BytesIO()).stream.topic == "in1"
    assert explain_file(several(1), source=path, topic=None, stdin=io.BytesIO()).stream.topic == "in0"


def test_standard_input_and_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = explain_file(several(1), source=Path("-"), topic=None, stdin=io.BytesIO(b'{"text": "from stdin"}'))
    assert one.text == "from stdin"
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(UsageError, match="--explain takes a file that holds one record's value"):
            explain_file(several(1), source=path, topic=None, stdin=io.BytesIO())
    monkeypatch.setattr("streamer.check.explain.MOST_BYTES", 10)
    with pytest.raises(UsageError, match="larger than 10 bytes"):
        explain_file(several(1), source=Path("-"), topic=None, stdin=io.BytesIO(b"x" * 11))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamer", "check", "-c", str(settings_), *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capfd.readouterr())

    settings_, record = tmp_path / "s.yaml", tmp_path / "r.json"
    # no broker is there: it is not asked for anything
    settings_.write_text(yaml.safe_dump({**content(), "kafka": {"bootstrap_servers": "127.0.0.1:1"}}))
    record.write_bytes(b'{"text": "hello"}')
    code, out, err = run("--explain", str(record))
    assert (code, err) == (0, "")
    assert "→ out" in out
    code, out, err = run("--explain", str(record), "--topic", "in0", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["to"] == ["out"]
    for arguments in (("--json",), ("--topic", "in0"), ("--explain", str(tmp_path))):
        code, out, err = run(*arguments)
        assert code == 2
        assert err.startswith("error: ")
        assert err.count("\n") == 1
