"""Messages for browsers: whole at first, then what is new; the same figures as the metrics; bounded."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from streamer.drift.report import AspectDrift, StreamDrift
from streamer.engine.base import CacheFacts, EngineFacts, ModelInfo
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.observe import Observers
from streamer.page.live import LivePage, Since
from streamer.page.readings import NAMES
from streamer.page.state import MOST_LABELS, Condition, condition_of
from streamer.records import Envelope, Partition, Reject, Stream
from streamer.telemetry.prometheus import PrometheusObserver
from streamer.transport.base import Lag
from tests.page.conftest import FakeClock, MakeWindow

MODEL = ModelInfo(name="small", revision="abc", device="cpu", dtype="float32", window_tokens=512)
DRIFT = (StreamDrift("tickets", 10.0, "v", "v", (AspectDrift("labels", "mood", {}, {}, 0.25),)),)


class Place:
    """Metrics and a page that are told the same."""

    def __init__(self, stream: Stream, label_set: LabelSet, clock: FakeClock, *, show_text: bool) -> None:
        self.metrics = PrometheusObserver(
            streams=[stream], wall_clock=clock, longest_pauses=dict, drift=lambda: DRIFT, shadow=False
        )
        self.page = LivePage(
            show_text=show_text,
            streams=[stream],
            values=self.metrics.values,
            alive=list,
            ready=list,
            drift=lambda: DRIFT,
            clock=clock,
            wall_clock=clock,
        )
        self.told = Observers(self.metrics, self.page.observer)
        self.clock = clock
        self.metrics.serving(MODEL, [label_set])
        self.page.serving(MODEL, [label_set], window_records=128)
        self.told.started()

    def tick(self) -> None:
        self.clock.now_s += 1.0
        self.page.tick()

    def message(self, since: Since = Since()) -> tuple[dict[str, Any], Since]:
        body, after = self.page.message(since)
        assert body is not None
        found: dict[str, Any] = orjson.loads(body)
        return found, after


@pytest.fixture
def place(stream: Stream, label_set: LabelSet, clock: FakeClock) -> Place:
    return Place(stream, label_set, clock, show_text=False)


def test_every_metric_that_is_read_is_there(place: Place, make_window: MakeWindow, rejected: Envelope[Reject]) -> None:
    tell_everything(place, make_window, rejected)
    assert set(place.metrics.values(NAMES)) == NAMES


def tell_everything(place: Place, make_window: MakeWindow, rejected: Envelope[Reject]) -> None:
    told = place.told
    told.consumed("tickets", 12)
    told.submitted(10)
    facts = EngineFacts(
        documents=10, batches=1, tokens=80, padded_tokens=100, tokenise_s=0.1, forward_s=0.2,
        cache=CacheFacts(hits=3, misses=7, held_bytes=900),
    )  # fmt: skip
    told.scored(facts, 0.5)
    told.labelled(*make_window(["one"] * 6))
    told.labelled(*make_window(["two"] * 4, logits=(0.0, 0.05, -3.0, 5.0)))  # in doubt, and urgent
    told.published("tickets", [0.1] * 9 + [2.0])
    told.rejected(rejected)
    told.dead_lettered("tickets", 1)
    told.committed(1, 0.01)
    told.lag({Partition("tickets", 0): Lag(records=5, seconds=1.5)})
    told.paused(["tickets"])
    told.reload_failed("labels.yaml: not YAML")


def test_the_state_says_what_was_told(place: Place, make_window: MakeWindow, rejected: Envelope[Reject]) -> None:
    tell_everything(place, make_window, rejected)
    place.tick()
    message, _ = place.message()
    state = message["state"]
    assert state["condition"] == {
        "word": "paused", "reasons": ["tickets is paused: more is read than can be finished"]
    }  # fmt: skip
    assert state["model"] == {
        "name": "small", "revision": "abc", "device": "cpu", "dtype": "float32", "window_records": 128
    }  # fmt: skip
    wanted = {"read": 12, "decided": 10, "labelled": 10, "dead": 1, "rejected": 1, "windows": 1, "tokens": 80}
    assert wanted.items() <= state["totals"].items()
    assert state["latency"] == {"of": 10, "quantiles_s": [0.1, 2.0, 2.0]}
    assert state["cache"] == {"hits": 3, "misses": 7, "bytes": 900}
    (stream,) = state["streams"]
    assert (stream["lag_records"], stream["lag_s"], stream["paused"], stream["decided"]) == (5, 1.5, True, 10)
    mood, topic = stream["facets"]
    assert {one["name"]: one["count"] for one in mood["labels"]} == {"bad": 0, "good": 6}
    assert mood["abstained"]["count"] == 4
    assert {one["name"]: one["count"] for one in topic["labels"]} == {"billing": 6, "outage": 4}
    (code,) = state["dead"]["codes"]
    assert (code["code"], code["count"], code["topics"]) == ("not_json", 1, [["tickets", 1]])
    assert "JSON" in code["meaning"]
    assert state["dead"]["latest"] == [{"at_s": 1000.0, "id": "tickets-1-7", "code": "not_json", "message": None}]
    assert dict(state["routes"]) == {"tickets.out": 6, "tickets.urgent": 4}
    assert state["reload"]["failed"] == 1
    assert state["reload"]["refused"]
    assert state["reload"]["failure"]["reason"] == "labels.yaml: not YAML"
    assert state["drift"] == [{"topic": "tickets", "aspect": "labels", "facet": "mood", "distance": 0.25}]
    assert [one["text"] for one in message["records"]] == [None] * len(message["records"])
    (point,) = message["points"]
    assert point[1:6] == [12.0, 10.0, 1.0, 5, 1.5]


def test_a_label_set_that_is_taken_up_mends_a_refusal(place: Place, label_set: LabelSet) -> None:
    place.told.reload_failed("labels.yaml: not YAML")
    newer = LabelSet("tickets", label_set.facets[:1])
    place.told.reloaded({"tickets": newer})
    place.tick()
    state = place.message()[0]["state"]
    assert not state["reload"]["refused"]
    assert [one["version"] for one in state["label_sets"]] == [newer.version]
    assert [one["name"] for one in state["streams"][0]["facets"]] == ["mood"]


def test_a_browser_is_sent_what_is_new(place: Place, make_window: MakeWindow) -> None:
    place.told.labelled(*make_window(["one"]))
    place.tick()
    first, since = place.message()
    assert first["whole"]
    assert place.page.message(since) == (None, since)
    place.told.labelled(*make_window(["two"]))
    place.tick()
    second, since = place.message(since)
    assert not second["whole"]
    assert [one["number"] for one in first["records"] + second["records"]] == [1, 2]
    assert len(first["points"]) == len(second["points"]) == 1
    for _ in range(10):
        place.tick()
    late, _ = place.message(since)  # a browser that was slow
    assert (len(late["points"]), len(late["buckets"])) == (10, 2)


def test_messages_are_bounded(stream: Stream, clock: FakeClock, make_window: MakeWindow) -> None:
    labels = tuple(Label(f"label {i} " + "x" * 50) for i in range(25))
    many = LabelSet("tickets", tuple(Facet(f"facet {i}", Kind.MULTI, labels) for i in range(12)))
    place = Place(stream, many, clock, show_text=True)
    place.told.labelled(*make_window(["\x00" * 10_000] * 3))
    for _ in range(310):
        place.tick()
    message, since = place.message()
    assert len(message["state"]["streams"][0]["facets"][0]["labels"]) == MOST_LABELS
    assert message["state"]["streams"][0]["facets"][0]["others"]["labels"] == 25 - MOST_LABELS
    body, _ = place.page.message(Since())
    assert body is not None
    assert len(body) < 100_000
    place.tick()
    body, _ = place.page.message(since)
    assert body is not None
    assert len(body) < 50_000


@pytest.mark.parametrize(
    ("alive", "ready", "running", "paused", "busy", "word"),
    [
        (["the loop stands still"], [], True, [], True, "stuck"),
        ([], ["the model is not warm yet"], False, [], False, "starting"),
        ([], ["nothing assigned"], True, [], False, "waiting"),
        ([], ["stopped"], False, [], False, "stopping"),
        ([], [], True, ["tickets"], True, "paused"),
        ([], [], True, [], True, "labelling"),
        ([], [], True, [], False, "idle"),
    ],
)
def test_the_condition_in_a_word(
    alive: list[str], ready: list[str], running: bool, paused: list[str], busy: bool, word: str
) -> None:
    found = condition_of(alive, ready, running=running, paused=paused, busy=busy)
    assert isinstance(found, Condition)
    assert found.word == word
