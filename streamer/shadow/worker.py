"""The shadow itself: a second model, on a thread of its own beside the road.

Enters: Cases from an Intake. Leaves: shadow events, and facts for an Observer. Whatever goes wrong here is told and
tried again later; none of it reaches the road. Must not know: the loop, which transport or model it drives.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from threading import Event, Thread

import structlog

from streamer.decide import decide
from streamer.engine.base import Classifier, ModelInfo, WindowScores
from streamer.facets import LabelSet
from streamer.observe import Observer
from streamer.records import Document, Scores
from streamer.shadow.event import Case, agreement, shadow_event
from streamer.shadow.intake import Intake, Yielding
from streamer.transport.base import DeliveryOutcome, Sink

WAIT_S = 0.1
CLOSE_S = 5.0  # a model that is being loaded is waited for: to end in the midst of that may crash
LONGEST_RETRY_S = 600.0

# a model and a producer, both closed when the context ends
Open = Callable[[], AbstractContextManager[tuple[Classifier, Sink]]]


class ShadowWorker:
    """Scores what lies in the intake from `start` to `stop`, in windows of `window_records`.

    `open_` loads the model and makes the producer; a failure of either ends both, and they are opened anew after
    `retry_s`, and twice as long after every further failure. A window begins when `yielding` says that the device is
    free, and after it the worker rests so long that it computes `max_busy` of the time. `label_sets` gives the shadow's
    label set by input topic, `topics` the side topic. `observer` is called on this thread. `clock`: monotonic seconds.
    """

    def __init__(
        self,
        *,
        open_: Open,
        intake: Intake,
        yielding: Yielding,
        label_sets: Callable[[], Mapping[str, LabelSet]],
        topics: Mapping[str, str],
        road_model: ModelInfo,
        observer: Observer,
        window_records: int,
        max_busy: float,
        retry_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = structlog.get_logger()
        self._open = open_
        self._intake = intake
        self._yielding = yielding
        self._label_sets = label_sets
        self._topics = topics
        self._road_model = road_model
        self._observer = observer
        self._window_records = window_records
        self._rest_share = 1.0 / max_busy - 1.0
        self._clock = clock
        self._stop = Event()
        self._first_retry_s = self._retry_s = retry_s
        # a daemon: a model that never answers must not keep the process from its end
        self._thread = Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, without waiting long for a model or a broker. What waits is given up."""
        self._stop.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._open() as (classifier, sink):
                    self._serve(classifier, sink)
            except Exception as error:  # whatever it is, it must not end this thread unheard
                self._log.warning(
                    "the shadow failed; the road goes on",
                    error=f"{type(error).__name__}: {error}",
                    again_in_s=self._retry_s,
                )
            self._stop.wait(self._retry_s)
            self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def _serve(self, classifier: Classifier, sink: Sink) -> None:
        classifier.warm_up(list({one.name: one for one in self._label_sets().values()}.values()))
        self._intake.open()
        self._observer.shadow_running(True)
        try:
            while not self._stop.is_set():
                sink.flush(0.0)
                cases = self._intake.take(self._window_records, WAIT_S)
                if cases and self._device_free():
                    self._window(classifier, sink, cases)
                else:
                    self._dropped("down", cases)
        finally:
            self._dropped("down", self._intake.close())
            self._observer.shadow_running(False)

    def _device_free(self) -> bool:
        """Wait for the device; False when the end comes first."""
        while not self._stop.is_set():
            if self._yielding.wait(WAIT_S):
                return True
        return False

    def _window(self, classifier: Classifier, sink: Sink, cases: Sequence[Case]) -> None:
        began_s = self._clock()
        label_sets = self._label_sets()
        documents = [Document(case.text, label_sets[case.position.topic]) for case in cases]
        try:
            pending = classifier.submit(documents)
            result = None
            while result is None and not self._stop.is_set():
                result = pending.wait(WAIT_S)
        except Exception:
            self._dropped("down", cases)
            raise
        if result is None:
            self._dropped("down", cases)
            return
        busy_s = self._clock() - began_s
        self._hand_out(classifier.describe(), sink, documents, cases, result)
        self._retry_s = self._first_retry_s
        self._stop.wait(busy_s * self._rest_share)

    def _hand_out(
        self,
        model: ModelInfo,
        sink: Sink,
        documents: Sequence[Document],
        cases: Sequence[Case],
        result: WindowScores,
    ) -> None:
        answered = list(zip(documents, cases, result.scores, strict=True))
        scored = [(document, case, one) for document, case, one in answered if isinstance(one, Scores)]
        self._dropped("reject", [case for _, case, one in answered if not isinstance(one, Scores)])
        verdicts = decide([document for document, _, _ in scored], [one for _, _, one in scored])
        now_ms = time.time_ns() // 1_000_000
        agreed: dict[str, list[Mapping[str, bool]]] = {}
        for (_, case, _), verdict in zip(scored, verdicts, strict=True):
            topic = case.position.topic
            same = agreement(case.verdict, verdict)
            agreed.setdefault(topic, []).append(same)
            if sink.full:
                self._dropped("undelivered", [case])
                continue
            message = shadow_event(
                case,
                verdict,
                same,
                model=model,
                road_model=self._road_model,
                topic=self._topics[topic],
                now_ms=now_ms,
            )
            sink.send(message, partial(self._on_delivered, case))
        for topic, ones in agreed.items():
            self._observer.shadow_scored(topic, ones)

    def _on_delivered(self, case: Case, outcome: DeliveryOutcome) -> None:
        if outcome is not None:
            self._dropped("undelivered", [case])

    def _dropped(self, reason: str, cases: Sequence[Case]) -> None:
        for topic in {case.position.topic for case in cases}:
            self._observer.shadow_dropped(topic, reason, sum(case.position.topic == topic for case in cases))
