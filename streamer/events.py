"""Records as others see them: what may be sent in, and what comes out. The JSON Schemas are made from these models.

The hot path does not build these objects (`encode.py` writes the same shape with orjson); tests hold every
published message to the schemas. Must not know: Kafka clients, models.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Score = Annotated[float, Field(ge=0, le=1)]


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Input(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Ticket(_Input):
    """A support ticket, as the demo sends them. Your own inputs may have any shape: `streams[].text` says where
    their text is."""

    id: str
    subject: str | None = None
    body: str
    customer: str | None = None
    channel: str | None = None
    created_at: str | None = Field(None, description="ISO 8601")


class Post(_Input):
    """A social post, as the demo sends them."""

    id: str
    text: str
    author: str | None = None
    lang: str | None = Field(None, description="ISO 639-1")
    created_at: str | None = Field(None, description="ISO 8601")


class Correction(_Input):
    """What somebody says is right about a record that was labelled, for `streamer feedback`. The last correction of a
    record counts as a whole; best sent with the id as key, so that those of one record keep their order."""

    id: str = Field(description="of the labelled event: topic-partition-offset of the record")
    labels: dict[str, list[str]] = Field(
        description="facet -> names of its right labels: exactly one of a single facet, any number of a multi facet; "
        "facets left out stay unknown, and no facet at all takes earlier corrections back"
    )


class Source(_Event):
    """Where the input record stands. (topic, partition, offset) is unique for all time."""

    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)
    timestamp_ms: int | None = Field(
        description="of the input message, milliseconds since 1970; null where it has none"
    )


class FacetResult(_Event):
    """The labels given for one facet."""

    labels: list[str] = Field(description="one for a single facet, any number for a multi facet, none when abstained")
    scores: dict[str, Score] = Field(description="softmax over the facet's labels (single) or sigmoid of each (multi)")
    abstained: bool = Field(description="the scores were below min_score or closer than min_margin")


class LabelSetStamp(_Event):
    name: str
    version: str = Field(
        pattern="^[0-9a-f]{16}$", description="changes exactly when something that decides labels does"
    )


class ModelStamp(_Event):
    name: str
    revision: str


class LabelledEvent(_Event):
    """One per input record, keyed as the input; one in each topic where several routes of `all_matching` held."""

    schema_version: int = Field(ge=1, le=1)
    id: str = Field(description="topic-partition-offset of the input: use it to recognise duplicates within a topic")
    source: Source
    facets: dict[str, FacetResult]
    route: str | None = Field(
        description="the topic a route sent this copy of the event to; null: the stream's own output"
    )
    label_set: LabelSetStamp
    model: ModelStamp
    calibration: str | None = Field(
        pattern="^[0-9a-f]{16}$", description="version of the calibration file the scores went through; null: none"
    )
    truncated: bool = Field(description="the text was longer than the model's window; its beginning was labelled")
    classified_at_ms: int = Field(ge=0, description="milliseconds since 1970")
    payload: Any = Field(default=None, description="the input's JSON, where the stream has pass_payload")


class DeadLetterHeaders(_Event):
    """Headers added to a dead letter, which otherwise is the input as it came: key, value, headers.

    Each stands as `streamer.dead-letter.NAME`, UTF-8 text.
    """

    code: str = Field(description="stable and machine-readable", examples=["not_json", "null_value", "no_text"])
    message: str
    topic: str
    partition: str = Field(pattern="^[0-9]+$")
    offset: str = Field(pattern="^[0-9]+$")
    timestamp_ms: str = Field(alias="timestamp-ms", pattern="^[0-9]*$")
    label_set: str = Field(alias="label-set")
    key_bytes: str | None = Field(
        None, alias="key-bytes", pattern="^[0-9]+$", description="only where the key was too large and is cut"
    )
    key_sha256: str | None = Field(None, alias="key-sha256", description="of the whole key, where it is cut")
    headers_left_out: str | None = Field(
        None,
        alias="headers-left-out",
        pattern="^[0-9]+$",
        description="how many, only where the input's headers were too large: the last ones are not repeated",
    )
    value_bytes: str | None = Field(
        None, alias="value-bytes", description="only where the value was too large and is cut"
    )
    value_sha256: str | None = Field(None, alias="value-sha256", description="of the whole value, where it is cut")
