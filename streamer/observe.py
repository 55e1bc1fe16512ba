"""What the loop tells whoever watches: facts, at one place, to hooks that do nothing by default.

The loop calls an Observer; telemetry implements it. Hooks must be quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from streamer.engine.base import EngineFacts
from streamer.records import Envelope, Partition, Reject, Verdict
from streamer.transport.base import Lag


class Observer:
    """No-op base; override what you watch. Times are seconds; `topic` is the input topic everywhere."""

    def started(self) -> None:
        """The model is warm and the loop runs."""

    def beat(self) -> None:
        """The loop went round once."""

    def consumed(self, topic: str, records: int) -> None:
        """Records were polled."""

    def rejected(self, envelope: Envelope[Reject]) -> None:
        """A record goes to the dead letters."""

    def submitted(self, documents: int) -> None:
        """A window was handed to the engine."""

    def scored(self, facts: EngineFacts, engine_s: float) -> None:
        """A window came back, `engine_s` after it was submitted: once for every window submitted, also when what it
        held has been dropped meanwhile."""

    def labelled(self, envelopes: Sequence[Envelope[Verdict]]) -> None:
        """Verdicts were reached and are about to be sent."""

    def published(self, topic: str, latency_s: float | None) -> None:
        """An output was acknowledged; latency counts from the input's timestamp (None: it had none)."""

    def dead_lettered(self, topic: str) -> None:
        """A dead letter was acknowledged."""

    def stage(self, name: str, seconds: float, records: int) -> None:
        """One of decode, decide, encode, send worked on `records` records."""

    def committed(self, partitions: int) -> None:
        """Offsets were committed."""

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

    def beat(self) -> None:
        for one in self._observers:
            one.beat()

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

    def labelled(self, envelopes: Sequence[Envelope[Verdict]]) -> None:
        for one in self._observers:
            one.labelled(envelopes)

    def published(self, topic: str, latency_s: float | None) -> None:
        for one in self._observers:
            one.published(topic, latency_s)

    def dead_lettered(self, topic: str) -> None:
        for one in self._observers:
            one.dead_lettered(topic)

    def stage(self, name: str, seconds: float, records: int) -> None:
        for one in self._observers:
            one.stage(name, seconds, records)

    def committed(self, partitions: int) -> None:
        for one in self._observers:
            one.committed(partitions)

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
