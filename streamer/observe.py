"""What the loop tells whoever watches: facts, at one place, to hooks that do nothing by default.

The loop calls an Observer; telemetry implements it. Hooks must be quick and must not raise. They run on the loop's
thread; only `reload_failed` runs on the one that reads settings again, and `shadow_...` on the shadow's too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from streamer.engine.base import EngineFacts
from streamer.facets import LabelSet
from streamer.records import Decided, Document, Envelope, Partition, Reject
from streamer.transport.base import Lag


class Observer:
    """No-op base; override what you watch. Times are seconds; `topic` is the input topic everywhere."""

    def started(self) -> None:
        """The model is warm and the loop runs."""

    def beat(self, stage: str) -> None:
        """The loop lives, and is about to do this: poll, submit, wait, send, commit, rewind or drain."""

    def consumed(self, topic: str, records: int) -> None:
        """Records were polled."""

    def rejected(self, envelope: Envelope[Reject]) -> None:
        """A record goes to the dead letters."""

    def submitted(self, documents: int) -> None:
        """A window was handed to the engine."""

    def scored(self, facts: EngineFacts, engine_s: float) -> None:
        """A window came back, `engine_s` after it was submitted: once for every window submitted, also when what it
        held has been dropped meanwhile."""

    def labelled(self, envelopes: Sequence[Envelope[Document]], decided: Decided) -> None:
        """This was decided of records of one topic, in their order; their events are about to be sent."""

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        """Outputs were acknowledged, one for each latency, which counts from the input's timestamp (None: it had
        none)."""

    def dead_lettered(self, topic: str, records: int) -> None:
        """Dead letters were acknowledged."""

    def stage(self, name: str, seconds: float, records: int) -> None:
        """One of decode, decide, encode, send worked on `records` records."""

    def committed(self, partitions: int, seconds: float) -> None:
        """Offsets were committed, `seconds` after the commit was begun."""

    def commit_failed(self) -> None:
        """A commit came to nothing, or nobody knows what it came to."""

    def rewound(self, reason: str) -> None:
        """Work since the last commit was dropped and is read again."""

    def reloaded(self, label_sets: Mapping[str, LabelSet]) -> None:
        """Records read from now on are labelled by these label sets, by name."""

    def reload_failed(self, reason: str) -> None:
        """Changed settings were refused; the last good ones stay. May run on another thread than all other hooks."""

    def shadow_running(self, running: bool) -> None:
        """Whether the shadow has its model and its producer, and takes records."""

    def shadow_scored(self, topic: str, agreed: Sequence[Mapping[str, bool]]) -> None:
        """Records were scored by the shadow too: for each, by facet, whether it came to the same as the road."""

    def shadow_dropped(self, topic: str, reason: str, records: int) -> None:
        """Records of the shadow's share that no shadow event tells of. Reasons: behind, down, reject, undelivered."""

    def assigned(self, partitions: Collection[Partition]) -> None: ...

    def revoked(self, partitions: Collection[Partition], lost: bool) -> None: ...

    def lag(self, lags: Mapping[Partition, Lag]) -> None:
        """Lag of the assigned partitions, about once a second."""

    def paused(self, topics: Collection[str]) -> None:
        """Exactly these topics are paused now."""

    def stopped(self) -> None:
        """The loop has drained and ended."""


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def started(self) -> None:
        for one in self._observers:
            one.started()

    def beat(self, stage: str) -> None:
        for one in self._observers:
            one.beat(stage)

    def consumed(self, topic: str, records: int) -> None:
        for one in self._observers:
            one.consumed(topic, records)

    def rejected(self, envelope: Envelope[Reject]) -> None:
        for one in self._observers:
            one.rejected(envelope)

    def submitted(self, documents: int) -> None:
        for one in self._observers:
            one.submitted(documents)

    def scored(self, facts: EngineFacts, engine_s: float) -> None:
        for one in self._observers:
            one.scored(facts, engine_s)

    def labelled(self, envelopes: Sequence[Envelope[Document]], decided: Decided) -> None:
        for one in self._observers:
            one.labelled(envelopes, decided)

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        for one in self._observers:
            one.published(topic, latencies_s)

    def dead_lettered(self, topic: str, records: int) -> None:
        for one in self._observers:
            one.dead_lettered(topic, records)

    def stage(self, name: str, seconds: float, records: int) -> None:
        for one in self._observers:
            one.stage(name, seconds, records)

    def committed(self, partitions: int, seconds: float) -> None:
        for one in self._observers:
            one.committed(partitions, seconds)

    def commit_failed(self) -> None:
        for one in self._observers:
            one.commit_failed()

    def rewound(self, reason: str) -> None:
        for one in self._observers:
            one.rewound(reason)

    def reloaded(self, label_sets: Mapping[str, LabelSet]) -> None:
        for one in self._observers:
            one.reloaded(label_sets)

    def reload_failed(self, reason: str) -> None:
        for one in self._observers:
            one.reload_failed(reason)

    def shadow_running(self, running: bool) -> None:
        for one in self._observers:
            one.shadow_running(running)

    def shadow_scored(self, topic: str, agreed: Sequence[Mapping[str, bool]]) -> None:
        for one in self._observers:
            one.shadow_scored(topic, agreed)

    def shadow_dropped(self, topic: str, reason: str, records: int) -> None:
        for one in self._observers:
            one.shadow_dropped(topic, reason, records)

    def assigned(self, partitions: Collection[Partition]) -> None:
        for one in self._observers:
            one.assigned(partitions)

    def revoked(self, partitions: Collection[Partition], lost: bool) -> None:
        for one in self._observers:
            one.revoked(partitions, lost)

    def lag(self, lags: Mapping[Partition, Lag]) -> None:
        for one in self._observers:
            one.lag(lags)

    def paused(self, topics: Collection[str]) -> None:
        for one in self._observers:
            one.paused(topics)

    def stopped(self) -> None:
        for one in self._observers:
            one.stopped()
