"""The event that tells what the shadow came to, beside what the road did with the same record.

Enters: a record's verdict on the road and the shadow's. Leaves: an Outbound, and by facet whether they agree. The
JSON Schema is made from ShadowEvent. Must not know: models, Kafka clients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field

from streamer.engine.base import ModelInfo
from streamer.events import FacetResult, LabelSetStamp, ModelStamp, Source
from streamer.records import FacetVerdict, Outbound, Position, Verdict

SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RoadFacet(_Part):
    """What the road gave; its scores stand in the labelled event of the same id."""

    labels: list[str]
    abstained: bool


class RoadResult(_Part):
    label_set: LabelSetStamp
    model: ModelStamp
    facets: dict[str, RoadFacet]


class ShadowResult(_Part):
    label_set: LabelSetStamp
    model: ModelStamp
    facets: dict[str, FacetResult]
    truncated: bool = Field(description="the text was longer than the model's window; its beginning was labelled")


class ShadowEvent(_Part):
    """What a second label set or model came to. Sent beside the road, outside its transactions and without a promise:
    a record may have none, or several."""

    schema_version: int = Field(ge=1, le=1)
    id: str = Field(description="topic-partition-offset of the input, as in the labelled event")
    source: Source
    shadow: ShadowResult
    road: RoadResult
    agreed: dict[str, bool] = Field(description="by facet of both label sets: the same labels, or both abstained")
    classified_at_ms: int = Field(ge=0, description="milliseconds since 1970")


class Case(NamedTuple):
    """A record for the shadow: where it stands, its text, and what the road gave."""

    position: Position
    key: bytes | None
    timestamp_ms: int | None
    text: str
    verdict: Verdict

    @property
    def size_bytes(self) -> int:
        """About what is kept for it."""
        return 4 * len(self.text) + len(self.key or b"")


def agreement(road: Verdict, shadow: Verdict) -> dict[str, bool]:
    """By facet that both have: whether the labels given are the same, and the abstention too."""
    ours = {facet.name: _outcome(facet) for facet in shadow.facets}
    return {facet.name: _outcome(facet) == ours[facet.name] for facet in road.facets if facet.name in ours}


def _outcome(facet: FacetVerdict) -> tuple[frozenset[str], bool]:
    return frozenset(facet.labels), facet.abstained


def shadow_event(
    case: Case, verdict: Verdict, agreed: dict[str, bool], *, model: ModelInfo, road_model: ModelInfo, topic: str,
    now_ms: int,
) -> Outbound:  # fmt: skip
    """The event for `topic`, keyed as the input, stamped with the time of sending."""
    position = case.position
    event: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "id": str(position),
        "source": {**position._asdict(), "timestamp_ms": case.timestamp_ms},
        "shadow": {
            **_stamps(verdict, model),
            "facets": {
                facet.name: {"labels": facet.labels, "scores": facet.scores, "abstained": facet.abstained}
                for facet in verdict.facets
            },
            "truncated": verdict.truncated,
        },
        "road": {
            **_stamps(case.verdict, road_model),
            "facets": {
                facet.name: {"labels": facet.labels, "abstained": facet.abstained} for facet in case.verdict.facets
            },
        },
        "agreed": agreed,
        "classified_at_ms": now_ms,
    }
    return Outbound(topic, case.key, orjson.dumps(event), (), None, dead_letter=False)


def _stamps(verdict: Verdict, model: ModelInfo) -> dict[str, Any]:
    return {
        "label_set": {"name": verdict.label_set.name, "version": verdict.label_set.version},
        "model": {"name": model.name, "revision": model.revision},
    }
