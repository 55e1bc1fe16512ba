"""Calibration files for tests: as `streamer calibrate` writes them, with numbers that a test chooses."""

from __future__ import annotations

from typing import Any

from streamer.calibration import (
    CalibrationFile,
    FacetCalibration,
    FittedModel,
    LabelCorrection,
    Quality,
    version_of,
)
from streamer.facets import LabelSet

QUALITY = Quality(
    log_loss=0.5, calibration_error=0.1, accuracy=0.8, precision=0.8, recall=0.7, f1=0.75, abstained=0.0
)  # fmt: skip


def calibration_of(
    label_set: LabelSet, *, revision: str = "none", slope: float = 0.5, bias: float = -1.0, **limits: Any
) -> CalibrationFile:
    """Every facet corrected alike; `limits` are those of all facets."""
    facets = {
        facet.name: FacetCalibration(
            kind=facet.kind.value,
            labels={label.name: LabelCorrection(slope=slope, bias=bias) for label in facet.labels},
            **{"threshold": None, "min_score": None, "min_margin": None, **limits},
            goal=None,
            rows=200,
            shrinkage="temperature",
            before=QUALITY,
            after=QUALITY,
        )
        for facet in label_set.facets
    }
    return CalibrationFile(
        schema_version=1,
        version=version_of(scoring_key=label_set.scoring_key, model_revision=revision, facets=facets),
        label_set=label_set.name,
        scoring_key=label_set.scoring_key,
        model=FittedModel(name="fake", revision=revision),
        source="labelled.jsonl",
        rows=200,
        created_at="2025-01-01T00:00:00+00:00",
        facets=facets,
    )
