"""The shadow at work on its own thread: what it sends, when it yields, and what becomes of its failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

import jsonschema
import orjson

from streamer.decide import decide
from streamer.engine.fake import FakeClassifier
from streamer.facets import Facet, Kind, Label, LabelSet
from streamer.records import Document
from streamer.shadow.event import ShadowEvent
from streamer.transport.base import Refused
from tests.shadow.conftest import MOOD, NEXT_LABELS, SIDE_TOPIC, Shadow, road_verdict

MakeShadow: TypeAlias = Callable[..., Shadow]
EVENT = jsonschema.Draft202012Validator(ShadowEvent.model_json_schema())


def events(shadow: Shadow) -> list[dict[str, object]]:
    return [orjson.loads(stored.value or b"") for stored in shadow.broker.messages(SIDE_TOPIC).values()]


def expected_mood(text: str) -> str:
    fake = FakeClassifier(window_tokens=100, max_tokens=4000, window_s=0.0, record_s=0.0)
    try:
        document = Document(text, NEXT_LABELS)
        result = fake.submit([document]).wait(10)
        assert result is not None
        return decide([document], list(result.scores))[0].facets[0].labels[0]  # type: ignore[arg-type]
    finally:
        fake.close()


def test_records_come_out_as_events_of_the_second_label_set(make_shadow: MakeShadow) -> None:
    shadow = make_shadow()
    shadow.start()
    texts = [f"ticket {i}" for i in range(6)]
    shadow.offer(*texts)
    shadow.told.wait_for(lambda: len(shadow.told.agreed) == 6)
    found = sorted(events(shadow), key=lambda event: str(event["id"]))
    for event, text in zip(found, texts, strict=True):
        EVENT.validate(event)
        mood = expected_mood(text)
        assert event["shadow"]["facets"]["mood"]["labels"] == [mood]  # type: ignore[index]
        assert event["agreed"] == {"mood": mood == "good"}
    assert [dict(one) for one in shadow.told.agreed] == [{"mood": expected_mood(text) == "good"} for text in texts]
    assert shadow.told.dropped == {}
    assert max(shadow.engine.windows) <= 4


def test_it_waits_until_the_road_has_nothing_under_way(make_shadow: MakeShadow) -> None:
    shadow = make_shadow()
    shadow.start()
    shadow.offer("a")
    shadow.told.wait_for(lambda: len(shadow.told.agreed) == 1)
    shadow.yielding.submitted()
    shadow.yielding.submitted()
    shadow.offer("b")
    shadow.yielding.returned()
    time.sleep(0.3)  # what must not happen has no sign to wait for
    assert shadow.engine.windows == [1]
    shadow.yielding.returned()
    shadow.told.wait_for(lambda: len(shadow.told.agreed) == 2)


def test_it_ends_while_it_waits_for_the_device(make_shadow: MakeShadow) -> None:
    shadow = make_shadow()
    shadow.yielding.submitted()
    shadow.start()
    shadow.offer("a", "b")
    shadow.worker.stop()
    assert shadow.told.running == [True, False]
    assert shadow.told.dropped == {"down": 2}


def test_it_rests_so_that_it_computes_only_its_share_of_the_time(make_shadow: MakeShadow) -> None:
    shadow = make_shadow(max_busy=0.2, window_records=1)
    shadow.engine.window_s = 0.05
    shadow.start()
    begun_s = time.monotonic()
    shadow.offer("a", "b", "c")
    shadow.told.wait_for(lambda: len(shadow.told.agreed) == 3)
    assert time.monotonic() - begun_s >= 2 * 0.05 * 5  # two windows with their rests, before the third


def test_a_slow_shadow_drops_what_it_has_no_room_for(make_shadow: MakeShadow) -> None:
    shadow = make_shadow(most_records=5)
    shadow.engine.hang = True
    shadow.start()
    for _ in range(20):
        shadow.offer(*"abcdefghij")
    assert shadow.told.dropped["behind"] >= 200 - 5 - 4
    assert len(shadow.intake) <= 5
    begun_s = time.monotonic()
    shadow.worker.stop()
    assert time.monotonic() - begun_s < 10
    shadow.told.wait_for(lambda: shadow.told.running[-1] is False)
    assert sum(shadow.told.dropped.values()) == 200  # none is lost without being counted
    assert shadow.told.dropped["down"] <= 9


def test_a_failure_is_told_and_tried_again(make_shadow: MakeShadow) -> None:
    shadow = make_shadow()
    shadow.engine.fail = True
    shadow.start()
    shadow.offer("a")
    shadow.told.wait_for(lambda: False in shadow.told.running)
    assert shadow.told.dropped == {"down": 1}
    shadow.engine.fail = False
    shadow.told.wait_for(lambda: shadow.told.running[-1] is True)
    assert shadow.opened >= 2
    shadow.offer("a")
    shadow.told.wait_for(lambda: len(shadow.told.agreed) == 1)


def test_a_label_set_that_cannot_be_served_is_tried_again_too(make_shadow: MakeShadow) -> None:
    shadow = make_shadow(label_sets={"tickets-next": LabelSet("tickets-next", ())})
    shadow.worker.start()
    while shadow.opened < 2:
        time.sleep(0.01)
    shadow.offer("a")
    assert shadow.told.running == []
    assert shadow.told.dropped == {"down": 1}
    shadow.road.reloaded({"tickets-next": NEXT_LABELS})
    shadow.told.wait_for(lambda: shadow.told.running == [True])


def test_a_reloaded_label_set_is_used_from_then_on(make_shadow: MakeShadow) -> None:
    shadow = make_shadow()
    shadow.start()
    changed = LabelSet("tickets-next", (MOOD, Facet("size", Kind.SINGLE, (Label("small"), Label("large")))))
    shadow.road.reloaded({"tickets-next": changed, "tickets": NEXT_LABELS})
    shadow.offer("a", verdict=road_verdict())
    shadow.told.wait_for(lambda: len(shadow.told.agreed) == 1)
    (event,) = events(shadow)
    assert event["shadow"]["label_set"] == {"name": "tickets-next", "version": changed.version}  # type: ignore[index]


def test_what_the_broker_refuses_is_counted(make_shadow: MakeShadow) -> None:
    shadow = make_shadow(deliver=lambda message: Refused("null key on a compacted topic"))
    shadow.start()
    shadow.offer("a", "b")
    shadow.told.wait_for(lambda: shadow.told.dropped["undelivered"] == 2)
    assert events(shadow) == []
    assert shadow.told.running == [True]


def test_a_producer_that_is_full_is_not_waited_for(make_shadow: MakeShadow) -> None:
    shadow = make_shadow(most_unacknowledged=0)
    shadow.start()
    shadow.offer("a")
    shadow.told.wait_for(lambda: shadow.told.dropped["undelivered"] == 1)
    assert events(shadow) == []


def test_a_share_alone_is_offered(make_shadow: MakeShadow) -> None:
    shadow = make_shadow(share=0.1)
    shadow.start()
    shadow.offer(*(f"ticket {i}" for i in range(100)))
    shadow.told.wait_for(lambda: bool(shadow.told.agreed))
    assert len(shadow.told.agreed) + sum(shadow.told.dropped.values()) < 30
