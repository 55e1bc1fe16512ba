"""Settings of the model, and of what watches over its labels: drift against a baseline, a shadow beside the road.

Enters: values of a settings file. Leaves: frozen parts of Settings. Must not know: streams, Kafka clients, models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from streamer.settings_parts import Part, Topic


class ModelSettings(Part):
    """Which model: `bundled`, a directory, a Hugging Face id, or `fake` (deterministic, for delivery tests)."""

    name: str = Field("bundled", min_length=1)
    revision: str | None = Field(None, description="of a Hugging Face id: branch, tag or commit")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    facet_mode: Literal["separate", "joint"] = Field(
        "separate", description="GLiClass checkpoints: one row per facet (exact), or all facets in one prompt"
    )
    max_row_tokens: int = Field(1024, ge=64, description="longest row, labels included; less where the model has less")
    cache_memory_mb: int = Field(
        64, ge=0, le=65536, description="memory for scores of texts seen lately, 0: none; 'fake' never has one"
    )
    service_time_ms: float = Field(0.0, ge=0, description="model 'fake' only: time per record")


class DriftSettings(Part):
    """Shares of labels, scores, lengths and languages lately, by stream, as metrics; with a baseline, how far from it.

    One record in `sample_every` is counted. The last `window_records` weigh most: what is as old as that weighs 1/e.
    """

    baseline: Path | None = Field(
        None, description="file made by `streamer drift baseline`, relative to the settings file; none: shares alone"
    )
    window_records: int = Field(20_000, ge=100, description="of a stream, how many records count as lately")
    sample_every: int = Field(20, ge=1, description="one record in so many is counted")


class ShadowStreamSettings(Part):
    """What the shadow does with a stream's records."""

    label_set: str = Field(description="one of label_sets; facets of the stream's own by name are compared")
    share: float = Field(0.05, gt=0, le=1, description="of the stream's records, always the same ones")
    topic: Topic = Field(description="for shadow events; none that anything else is written to")


class ShadowSettings(Part):
    """A second label set or model that scores a share of the records beside the road, and never delays it.

    It works while the road's own engine has nothing under way, one small window at a time. What it cannot keep up with
    is dropped and counted.
    """

    model: ModelSettings | None = Field(None, description="default: the settings of `model`, loaded a second time")
    streams: dict[Topic, ShadowStreamSettings] = Field(min_length=1, description="by input topic")
    max_busy: float = Field(0.1, gt=0, le=1, description="share of the time that its model may compute")
    max_waiting_records: int = Field(256, ge=1, description="records that may wait for it; more are dropped")
