"""Every stop of the road on its own: what a record costs there.

Enters: a Classifier, a broker, texts. Leaves: seconds by stage, median over rounds, measured with the same code that
`streamer run` drives. Must not know: which model it is given, terminals.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import orjson

from streamer.app import ACCELERATOR_WINDOW_RECORDS, CPU_WINDOW_RECORDS
from streamer.bench.texts import bench_labels, bench_texts
from streamer.decide import decide_alike
from streamer.decode import Decoder
from streamer.encode import Encoder
from streamer.engine.base import Classifier, EngineFacts, Pending, WindowScores
from streamer.errors import FatalError
from streamer.pipeline import WINDOWS_UNDER_WAY
from streamer.records import Document, Envelope, Outbound, Position, Reject, Scores, Stream
from streamer.terminal import Advance
from streamer.transport.base import DeliveryOutcome, Sink
from streamer.transport.embedded import EmbeddedBroker
from streamer.transport.kafka_sink import KafkaSink

STAGES = ("decode", "tokenise", "forward", "decide", "encode", "send")
TOPIC, OUTPUT, DEAD = "bench", "bench.labelled", "bench.dead"
BUFFER_MEMORY_MB = 64
WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Medians. `us_per_record` by stage; `engine_records_per_s` counts from texts to scores, tokenising included and
    with windows overlapping as they do on the road. `forward_tokens_per_s` counts text and labels, not padding;
    `padding` is the share of the device's tokens that stand for nothing."""

    us_per_record: Mapping[str, float]
    engine_records_per_s: float
    forward_tokens_per_s: float
    padding: float


def measure_stages(*, classifier: Classifier, records: int, rounds: int, advance: Advance) -> StageTimes:
    """Take `rounds` rounds of `records` records, each with texts of its own, along the road; a round before them
    warms up and is not counted. Sending ends with the acknowledgement of an embedded broker."""
    with _open_sink() as sink:
        road = _Road(classifier, sink)
        road.run(bench_records(bench_texts(records, seed=0)))
        seconds = []
        for number in range(1, rounds + 1):
            seconds.append(road.run(bench_records(bench_texts(records, seed=number))))
            advance(records)
    medians = {name: median(one[name] for one in seconds) for name in (*STAGES, "engine")}
    return StageTimes(
        us_per_record={name: medians[name] / records * 1e6 for name in STAGES},
        engine_records_per_s=records / medians["engine"],
        forward_tokens_per_s=median(one["tokens"] / one["forward"] for one in seconds),
        padding=median(1 - one["tokens"] / one["padded_tokens"] for one in seconds),
    )


def bench_records(texts: Sequence[str]) -> list[Envelope[None]]:
    """Input records as a source makes them."""
    now_ms = time.time_ns() // 1_000_000
    return [
        Envelope(
            position=Position(TOPIC, i % 4, i // 4),
            epoch=0,
            key=str(i).encode(),
            headers=(),
            timestamp_ms=now_ms,
            value=orjson.dumps({"id": i, "created_at": now_ms, "text": text}),
            payload=None,
        )
        for i, text in enumerate(texts)
    ]


def bench_stream() -> Stream:
    """The stream these records come from."""
    return Stream(
        topic=TOPIC,
        output=OUTPUT,
        dead_letter=DEAD,
        label_set="bench",
        text=("/text",),
        parse_json=True,
        pass_payload=False,
        pass_headers=frozenset(),
        all_scores=True,
        keep_timestamp=True,
        max_value_bytes=1_048_576,
        weight=1,
    )


@contextmanager
def _open_sink() -> Iterator[Sink]:
    """A producer on a broker of its own, both gone when the context ends."""
    with EmbeddedBroker(brokers=1) as broker:
        broker.create_topics([OUTPUT])
        sink = KafkaSink(
            bootstrap_servers=broker.bootstrap_servers,
            properties=broker.client_properties("consumer"),
            buffer_memory_mb=BUFFER_MEMORY_MB,
            topics={},
        )
        try:
            yield sink
        finally:
            sink.close()


class _Road:
    """The stops, each timed over all records of a round."""

    def __init__(self, classifier: Classifier, sink: Sink) -> None:
        self._classifier = classifier
        self._sink = sink
        self._stream = bench_stream()
        self._decoder = Decoder(streams={TOPIC: self._stream}, label_sets={"bench": bench_labels()})
        self._encoder = Encoder(model=classifier.describe(), max_dead_letter_bytes=0)

    def run(self, envelopes: Sequence[Envelope[None]]) -> dict[str, float]:
        """Seconds by stage, and of the engine as a whole; tokens without and with padding."""
        began = perf_counter()
        documents = [_document(self._decoder.decode(envelope)) for envelope in envelopes]
        decoded = perf_counter()
        scores, facts = score(self._classifier, documents)
        scored = perf_counter()
        verdicts = decide_alike(documents[0].label_set, scores)
        decided = perf_counter()
        now_ms = time.time_ns() // 1_000_000
        messages = [one for some in self._encoder.window(self._stream, envelopes, verdicts, now_ms) for one in some]
        encoded = perf_counter()
        self._send(messages)
        return {
            "decode": decoded - began,
            "tokenise": sum(one.tokenise_s for one in facts),
            "forward": sum(one.forward_s for one in facts),
            "engine": scored - decoded,
            "tokens": sum(one.tokens for one in facts),
            "padded_tokens": sum(one.padded_tokens for one in facts),
            "decide": decided - scored,
            "encode": encoded - decided,
            "send": perf_counter() - encoded,
        }

    def _send(self, messages: Sequence[Outbound]) -> None:
        outcomes: list[DeliveryOutcome] = []
        for message in messages:
            self._sink.send(message, outcomes.append)
        while self._sink.flush(WAIT_S):
            pass
        failed = [outcome for outcome in outcomes if outcome is not None]
        if failed:
            raise FatalError(f"the embedded broker refused {len(failed)} events: {failed[0]}")


def score(classifier: Classifier, documents: Sequence[Document]) -> tuple[list[Scores], list[EngineFacts]]:
    """Scores in order and what each window cost, windows as large and as many under way as on the road."""
    on_cpu = classifier.describe().device == "cpu"
    size = CPU_WINDOW_RECORDS if on_cpu else ACCELERATOR_WINDOW_RECORDS
    under_way: deque[Pending] = deque()
    done: list[WindowScores] = []
    for start in range(0, len(documents), size):
        if len(under_way) == WINDOWS_UNDER_WAY:
            done.append(_result(under_way.popleft()))
        under_way.append(classifier.submit(documents[start : start + size]))
    done += [_result(pending) for pending in under_way]
    scores = []
    for answer in (answer for window in done for answer in window.scores):
        if isinstance(answer, Reject):
            raise FatalError(f"a record of the benchmark got no scores: {answer.message} ({answer.code})")
        scores.append(answer)
    return scores, [window.facts for window in done]


def _result(pending: Pending) -> WindowScores:
    while (result := pending.wait(WAIT_S)) is None:
        pass
    return result


def _document(decoded: Document | Reject) -> Document:
    if isinstance(decoded, Reject):
        raise FatalError(f"a record of the benchmark was not decoded: {decoded.message} ({decoded.code})")
    return decoded
