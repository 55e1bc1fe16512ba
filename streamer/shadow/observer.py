"""The road's side of the shadow: gives it its share of the records, and tells it when the device is free.

Enters: hooks of `observe.Observer`. Leaves: Cases in an Intake. Nothing here waits, and nothing is kept beyond what
the intake has room for. Must not know: models, threads, transports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from streamer.engine.base import EngineFacts
from streamer.facets import LabelSet
from streamer.observe import Observer
from streamer.records import Decided, Document, Envelope
from streamer.shadow.event import Case
from streamer.shadow.intake import Intake, Yielding
from streamer.shadow.share import Share


class ShadowObserver(Observer):
    """Offers a share of the records to the intake; what it has no room for is told to `observer`.

    `names` are the shadow's label sets by input topic, `label_sets` all of the settings by name.
    """

    def __init__(
        self,
        *,
        share: Share,
        intake: Intake,
        yielding: Yielding,
        names: Mapping[str, str],
        label_sets: Mapping[str, LabelSet],
        observer: Observer,
    ) -> None:
        self._share = share
        self._intake = intake
        self._yielding = yielding
        self._names = names
        self._observer = observer
        self._label_sets = self._by_topic(label_sets)

    def label_sets(self) -> Mapping[str, LabelSet]:
        """The shadow's, by input topic; on any thread."""
        return self._label_sets

    def _by_topic(self, label_sets: Mapping[str, LabelSet]) -> Mapping[str, LabelSet]:
        return {topic: label_sets[name] for topic, name in self._names.items()}

    def reloaded(self, label_sets: Mapping[str, LabelSet]) -> None:
        self._label_sets = self._by_topic(label_sets)

    def submitted(self, documents: int) -> None:
        self._yielding.submitted()

    def scored(self, facts: EngineFacts, engine_s: float) -> None:
        self._yielding.returned()

    def labelled(self, envelopes: Sequence[Envelope[Document]], decided: Decided) -> None:
        places = self._share.places(envelopes)
        if not places:
            return
        cases = [
            Case(one.position, one.key, one.timestamp_ms, one.payload.text, decided.verdict(place))
            for place in places
            for one in (envelopes[place],)
        ]
        reason = "behind" if self._intake.is_open else "down"
        refused = self._intake.offer(cases)
        for topic, records in Counter(case.position.topic for case in refused).items():
            self._observer.shadow_dropped(topic, reason, records)
