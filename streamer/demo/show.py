"""What the demo shows: a live table while it labels, then a summary.

Enters: the loop's facts, as an Observer. Leaves: renderables for the terminal, and the figures of `--json`.
Must not know: Kafka clients, models.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streamer.observe import Observer
from streamer.records import Decided, Document, Envelope, Reject, Verdict

ROWS = 14  # of the live table
MOOD_STYLE = {"positive": "green", "negative": "red", "neutral": "yellow"}


class DemoObserver(Observer):
    """Counts, compares with the gold labels, and calls `on_end` when every record has ended.

    `topics` maps an input topic to the name it is shown by; `gold` is record id -> facet -> label.
    """

    def __init__(
        self,
        *,
        expected: int,
        topics: Mapping[str, str],
        gold: Mapping[str, Mapping[str, str]],
        on_end: Callable[[], object],
    ) -> None:
        self._expected = expected
        self._topics = topics
        self._gold = gold
        self._on_end = on_end
        self._recent: deque[Envelope[Verdict]] = deque(maxlen=ROWS)
        self._agreed: dict[str, list[bool]] = defaultdict(list)
        self._shares: dict[str, Counter[str]] = defaultdict(Counter)
        self._rejects: list[tuple[str, str, str]] = []
        self._truncated = 0
        self.consumed_records = self.published_records = self.dead_lettered_records = 0
        self._began: float | None = None
        self._ended: float | None = None

    def consumed(self, topic: str, records: int) -> None:
        self._began = self._began or time.monotonic()
        self.consumed_records += records

    def rejected(self, envelope: Envelope[Reject]) -> None:
        topic = self._topics[envelope.position.topic]
        self._rejects.append((topic, envelope.payload.code, envelope.payload.message))

    def labelled(self, envelopes: Sequence[Envelope[Document]], decided: Decided) -> None:
        labelled = [envelope.replace(decided.verdict(row)) for row, envelope in enumerate(envelopes)]
        self._recent.extend(labelled)
        for envelope in labelled:
            name = self._topics[envelope.position.topic]
            self._truncated += envelope.payload.truncated
            gold = self._gold.get((envelope.key or b"").decode(), {})
            for facet in envelope.payload.facets:
                self._shares[f"{name}.{facet.name}"].update(facet.labels)
                if facet.name in gold:
                    self._agreed[f"{name}.{facet.name}"].append(facet.labels == (gold[facet.name],))

    def published(self, topic: str, latencies_s: Sequence[float | None]) -> None:
        self.published_records += len(latencies_s)
        self._end_when_all()

    def dead_lettered(self, topic: str, records: int) -> None:
        self.dead_lettered_records += records
        self._end_when_all()

    def _end_when_all(self) -> None:
        if self.published_records + self.dead_lettered_records >= self._expected:
            self._ended = time.monotonic()
            self._on_end()

    @property
    def seconds(self) -> float:
        """From the first record read to the last one acknowledged, or to now."""
        return 0.0 if self._began is None else (self._ended or time.monotonic()) - self._began

    def agreement(self) -> dict[str, float]:
        """Share of records whose label is the gold one, by `topic.facet`."""
        return {name: sum(right) / len(right) for name, right in sorted(self._agreed.items())}

    def figures(self, model: str) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "consumed": self.consumed_records,
            "published": self.published_records,
            "dead_lettered": self.dead_lettered_records,
            "seconds": round(self.seconds, 3),
            "records_per_s": round(self.consumed_records / self.seconds, 1) if self.seconds else 0.0,
            "agreement": {name: round(share, 4) for name, share in self.agreement().items()},
            "model": model,
        }

    def __rich__(self) -> Group:
        """The live view."""
        if self._began is None:
            return Group(Text("loading the model ...", style="dim"))
        ended = self.published_records + self.dead_lettered_records
        rate = ended / self.seconds if self.seconds else 0.0
        counts = (
            f"{self.consumed_records} of {self._expected} read · {self.published_records} labelled · "
            f"{self.dead_lettered_records} dead letters · {rate:.0f} records/s"
        )
        table = Table(expand=True, box=None, header_style="bold", pad_edge=False)
        table.add_column("", width=8, style="dim")
        table.add_column("text", ratio=1, no_wrap=True, overflow="ellipsis")
        # wide enough for the longest label of the demo with its score, where the terminal is
        for name, width in (("sentiment", 13), ("topic", 22), ("event type", 25)):
            table.add_column(name, max_width=width, no_wrap=True, overflow="ellipsis")
        for envelope in list(self._recent):
            facets = {facet.name: facet for facet in envelope.payload.facets}
            cells = [_label_text(facets[name]) for name in ("sentiment", "topic", "event_type")]
            table.add_row(self._topics[envelope.position.topic], Text(_text_of(envelope)), *cells)
        return Group(Panel(table, title="streamer demo", subtitle=counts, border_style="cyan"))

    def print_summary(self, console: Console) -> None:
        """Agreement, what was found, and what became of the bad records."""
        table = Table(title="labels found", header_style="bold", title_justify="left")
        table.add_column("facet")
        table.add_column("agrees with gold", justify="right")
        table.add_column("labels")
        for name, share in self.agreement().items():
            found = ", ".join(f"{label} {count}" for label, count in self._shares[name].most_common())
            table.add_row(name, f"{share:.2f}", Text(found))
        console.print(table)
        bad = Table(title="dead letters", header_style="bold", title_justify="left")
        for column in ("stream", "code", "message"):
            bad.add_column(column)
        for topic, code, message in self._rejects:
            bad.add_row(topic, code, Text(message))
        console.print(bad)
        console.print(
            f"{self.consumed_records} records in {self.seconds:.1f} s: {self.published_records} labelled "
            f"({self._truncated} truncated), {self.dead_lettered_records} dead letters, none lost"
            if self.published_records + self.dead_lettered_records == self._expected
            else "stopped before the end"
        )


def _label_text(facet: Any) -> Text:
    if not facet.labels:
        return Text("abstained", style="dim")
    label = facet.labels[0]
    return Text(f"{label} {facet.scores[label]:.2f}", style=MOOD_STYLE.get(label, ""))


def _text_of(envelope: Envelope[Verdict]) -> str:
    """The beginning of a demo record's text, on one line."""
    record = orjson.loads(envelope.value or b"{}")
    text = " ".join(str(record.get(name) or "") for name in ("subject", "text", "body"))
    return " ".join(text[:300].split())
