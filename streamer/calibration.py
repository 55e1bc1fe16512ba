"""The calibration file: what `streamer calibrate` found out about a label set's scores, and from what.

Enters: a file's bytes, and the label set that names it. Leaves: a CalibrationFile that fits it, or one UsageError line
that says why not. Whether the model is the right one is known once it is loaded: `LabelSet.calibration` tells which it
has to be. Must not know: how anything in it was found, models, Kafka.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from streamer.errors import UsageError
from streamer.facets import Calibration, Correction, LabelSet
from streamer.settings_errors import one_line

AGAIN = "run streamer calibrate again"
Share = Annotated[float, Field(ge=0, le=1)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelCorrection(_Part):
    """A label's logit becomes `slope * logit + bias`."""

    slope: FiniteFloat = Field(gt=0)
    bias: FiniteFloat


class Quality(_Part):
    """How good scores and labels were, on rows that had no part in what was measured (cross-validation)."""

    log_loss: FiniteFloat = Field(ge=0, description="a row (single), or a row and label (multi)")
    calibration_error: Share = Field(description="of the highest score, 10 bins of equally many rows")
    accuracy: Share | None = Field(description="single: labels right of those given; multi: rows with all labels right")
    precision: Share | None = Field(description="labels right of those given; null: none was given")
    recall: Share = Field(description="labels given of those right")
    f1: Share
    abstained: Share = Field(description="share of rows")


class FacetCalibration(_Part):
    """What was found for one facet. Limits are null where none was asked for; those in the settings file win."""

    kind: Literal["single", "multi"]
    labels: dict[str, LabelCorrection] = Field(min_length=1)
    threshold: Share | None
    min_score: Share | None
    min_margin: Share | None
    goal: str | None = Field(description="what the limits were chosen for")
    rows: int = Field(ge=1, description="rows whose right labels were known")
    shrinkage: str = Field(description="how far labels may differ, chosen by cross-validation")
    before: Quality
    after: Quality


class FittedModel(_Part):
    """The model whose logits were calibrated."""

    name: str
    revision: str


class CalibrationFile(_Part):
    """The whole file. `version` is the digest of all that changes a label or a score, and stands in every event."""

    schema_version: Literal[1]
    version: Digest
    label_set: str
    scoring_key: Digest = Field(description="of the labels, wordings, prompt and examples it was fitted for")
    model: FittedModel
    source: str = Field(description="name of the labelled file")
    rows: int = Field(ge=1, description="of the labelled file")
    created_at: str = Field(description="ISO 8601")
    facets: dict[str, FacetCalibration] = Field(min_length=1)

    @property
    def stamp(self) -> Calibration:
        return Calibration(self.version, self.model.revision)

    def correction(self, facet: str) -> Correction | None:
        """Of a facet, None where no row told of it."""
        if facet not in self.facets:
            return None
        labels = self.facets[facet].labels.values()
        return Correction(tuple(one.slope for one in labels), tuple(one.bias for one in labels))

    def limits(self, facet: str) -> dict[str, float]:
        """Threshold, min_score and min_margin of a facet, as far as they were chosen."""
        found = self.facets.get(facet)
        chosen = {} if found is None else found.model_dump(include={"threshold", "min_score", "min_margin"})
        return {name: value for name, value in chosen.items() if value is not None}

    def to_json(self) -> bytes:
        """The file's content."""
        return orjson.dumps(self.model_dump(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def version_of(*, scoring_key: str, model_revision: str, facets: dict[str, FacetCalibration]) -> str:
    """First 16 hex digits of the SHA-256 over canonical JSON of what decides."""
    deciding = {
        name: [
            one.kind,
            [[label, fit.slope, fit.bias] for label, fit in one.labels.items()],
            one.threshold,
            one.min_score,
            one.min_margin,
        ]
        for name, one in facets.items()
    }
    content = orjson.dumps([scoring_key, model_revision, deciding], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(content).hexdigest()[:16]


def read_calibration(path: Path, label_set: LabelSet, *, read: Callable[[Path], bytes]) -> CalibrationFile:
    """The calibration in a file that the settings of a label set name; raises UsageError where it is not for it.

    `read` gives the bytes of a file, or raises OSError.
    """
    try:
        found = CalibrationFile.model_validate_json(read(path))
    except OSError as error:
        named_by = f"label_sets.{label_set.name}.calibration"
        raise UsageError(f"{path}: {error.strerror}; {named_by} names it: write it with streamer calibrate") from None
    except ValidationError as error:
        raise UsageError(f"{path}: not a calibration file ({one_line(error, CalibrationFile)}); {AGAIN}") from None
    version = version_of(scoring_key=found.scoring_key, model_revision=found.model.revision, facets=found.facets)
    if version != found.version:
        raise UsageError(
            f"{path}: was changed after it was written, for it does not fit its version; put limits of your own into "
            f"the settings file, and {AGAIN}"
        )
    misfit = _misfit(found, label_set)
    if misfit is not None:
        raise UsageError(f"{path}: was fitted for {misfit} than label set '{label_set.name}' has now; {AGAIN}")
    return found


def _misfit(found: CalibrationFile, label_set: LabelSet) -> str | None:
    """What differs between a label set and the one a calibration was fitted for."""
    facets = {facet.name: facet for facet in label_set.facets}
    for name, one in found.facets.items():
        if name not in facets:
            return f"other facets ('{name}')"
        if one.kind != facets[name].kind:
            return f"another kind of facet '{name}' ({one.kind})"
        if tuple(one.labels) != tuple(label.name for label in facets[name].labels):
            return f"other labels of facet '{name}'"
    if found.scoring_key != label_set.scoring_key:
        return "other facets, descriptions, prompt or examples"
    return None
