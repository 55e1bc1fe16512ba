"""Counts what the loop labels, one record in so many: an Observer of the road.

Enters: hooks of `observe.Observer`. Leaves: StreamCounts by topic, lately, and their drift from a baseline. Must not
know: who shows them, settings.

Records are taken at random, on average one of `sample_every` that pass: a fixed step would see one stream alone where
windows take from streams in turn. They are counted together, some hundreds at a time or about once a second, which
makes it less than a microsecond for each record that passes. The loop's thread counts; any thread may ask, for what was
counted is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from streamer.drift.counts import Sample, StreamTally, sample_of
from streamer.drift.report import StreamCounts, StreamDrift, drift_report
from streamer.facets import LabelSet
from streamer.observe import Observer
from streamer.records import Decided, Document, Envelope, Partition
from streamer.transport.base import Lag

COUNTED_AT_ONCE = 256


class DriftObserver(Observer):
    """Watches the last `window_records` of each stream. A stream's counts begin anew when its label set changes."""

    def __init__(self, *, baseline: Mapping[str, StreamCounts], window_records: int, sample_every: int) -> None:
        self._baseline = baseline
        self._sample_every = sample_every
        self._decay = 1.0 - min(1.0, sample_every / window_records)
        self._random = Random(0)
        self._skip = self._random.randrange(sample_every)  # records to let pass before the next one that is taken
        self._waiting: list[tuple[str, LabelSet, Sample]] = []
        self._tallies: dict[str, StreamTally] = {}
        self._counted: Mapping[str, StreamCounts] = {}

    def labelled(self, envelopes: Sequence[Envelope[Document]], decided: Decided) -> None:
        place = self._skip
        while place < len(envelopes):
            envelope = envelopes[place]
            sample = sample_of(decided.verdict(place), envelope.payload.text)
            self._waiting.append((envelope.position.topic, decided.label_set, sample))
            place += self._random.randrange(1, 2 * self._sample_every)
        self._skip = place - len(envelopes)
        if len(self._waiting) >= COUNTED_AT_ONCE:
            self._count()

    def lag(self, lags: Mapping[Partition, Lag]) -> None:
        self._count()

    def stopped(self) -> None:
        self._count()

    def _count(self) -> None:
        """Count what was taken, by stream and label set in the order it came."""
        waiting, self._waiting = self._waiting, []
        groups: dict[tuple[str, str], tuple[LabelSet, list[Sample]]] = {}
        for topic, label_set, sample in waiting:
            groups.setdefault((topic, label_set.version), (label_set, []))[1].append(sample)
        for (topic, version), (label_set, samples) in groups.items():
            tally = self._tallies.get(topic)
            if tally is None or tally.version != version:
                tally = self._tallies[topic] = StreamTally(label_set, decay=self._decay)
            tally.add(samples)
            self._counted = {**self._counted, topic: tally.counts()}

    def counted(self) -> Mapping[str, StreamCounts]:
        """What was counted of each stream lately, by topic; on any thread."""
        return self._counted

    def drift(self) -> tuple[StreamDrift, ...]:
        """The same as shares, with their distance from the baseline; on any thread."""
        return drift_report(self._counted, self._baseline)
