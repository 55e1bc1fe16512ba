"""Label sets as the settings file writes them: facets, labels, thresholds, examples, routes.

Enters: values of a settings file. Leaves: immutable LabelSets. Must not know: streams, Kafka clients, models.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from streamer.calibration import CalibrationFile
from streamer.facets import Facet, InContextExample, Kind, LabelSet, Route, flatten_labels
from streamer.settings_errors import near
from streamer.settings_parts import Part, Score, Topic

LabelsValue = list[str] | dict[str, Any]

# far beyond what models tell apart, and what events and metrics bear
MOST_LABELS = 10_000  # of one facet
MOST_NAME_CHARACTERS = 500
MOST_TEXT_CHARACTERS = 20_000  # of a description, a prompt, an example


class FacetSettings(Part):
    """One question: `single` (exactly one label) or `multi` (any number, each at `threshold`)."""

    kind: Literal["single", "multi"] = "single"
    labels: LabelsValue = Field(description="names, or name: description, or group: {...} for dotted hierarchies")
    threshold: Score = Field(0.5, description="multi: a label holds from this score on")
    min_score: Score = Field(0.0, description="abstain when the best score is below")
    min_margin: Score = Field(0.0, description="abstain when the decision is closer than this")

    @field_validator("labels", mode="before")
    @classmethod
    def _usable(cls, value: Any) -> Any:
        if not isinstance(value, list | dict):
            raise ValueError("give a list of names, or a mapping of name: description")
        _check_labels(value)
        labels = flatten_labels(value)
        names = [label.name for label in labels]
        if len(names) > MOST_LABELS:
            raise ValueError(f"{len(names):,} labels; a facet has at most {MOST_LABELS:,}")
        if any(len(name) > MOST_NAME_CHARACTERS for name in names):
            raise ValueError(f"a label's name is longer than {MOST_NAME_CHARACTERS} characters")
        if any(len(label.description or "") > MOST_TEXT_CHARACTERS for label in labels):
            raise ValueError(f"a label's description is longer than {MOST_TEXT_CHARACTERS:,} characters")
        if not names:
            raise ValueError("the list is empty; give at least one label")
        if any(not name.strip() for name in names):
            raise ValueError("a label is empty")
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"label '{twice[0]}' stands twice")
        return value

    @model_validator(mode="after")
    def _two(self) -> FacetSettings:
        if self.kind == "single" and len(flatten_labels(self.labels)) < 2:
            raise ValueError("a 'single' facet needs at least two labels; use kind: multi for one yes-or-no label")
        return self


def _check_labels(value: Any) -> None:
    """Label trees hold strings, mappings and lists of strings only."""
    below = value.values() if isinstance(value, dict) else value
    for one in below:
        if isinstance(one, dict | list) and isinstance(value, dict):
            _check_labels(one)
        elif not (isinstance(one, str) or (one is None and isinstance(value, dict))):
            raise ValueError(f"{one!r} is not text; quote it (YAML reads yes, no, on, off and numbers as other things)")
    wrong = [key for key in value if not isinstance(key, str)] if isinstance(value, dict) else []
    if wrong:
        raise ValueError(
            f"{wrong[0]!r} is not text; quote it (YAML reads yes, no, on, off and numbers as other things)"
        )


class RouteCondition(Part):
    """Holds where `facet` was given `label` with at least `score`, which is never where the facet abstained; or, with
    `abstained`, just where it did."""

    facet: str
    label: str | None = Field(None, description="this label was given")
    score: Score = Field(0.0, description="least score of the label itself; 0: whatever it was given with")
    abstained: bool = Field(False, description="in place of a label: none was given for doubt (min_score, min_margin)")

    @model_validator(mode="after")
    def _one(self) -> RouteCondition:
        if (self.label is None) != self.abstained:
            raise ValueError("give either 'label' or 'abstained: true'")
        if self.abstained and self.score:
            raise ValueError("'score' is a label's least score; leave it out beside 'abstained: true'")
        return self


class RouteSettings(Part):
    """Records for which `when` holds go to the topic `to` instead of the stream's output."""

    when: RouteCondition
    to: Topic


class ExampleSettings(Part):
    text: str = Field(min_length=1, max_length=MOST_TEXT_CHARACTERS)
    labels: list[str] = Field(min_length=1)


class LabelSetSettings(Part):
    """Facets asked together. `prompt` and `examples` are for GLiClass checkpoints trained with them."""

    facets: dict[str, FacetSettings] = Field(min_length=1)
    prompt: str | None = Field(None, min_length=1, max_length=MOST_TEXT_CHARACTERS)
    examples: list[ExampleSettings] = Field(default_factory=list)
    routes: list[RouteSettings] = Field(default_factory=list)
    all_matching: bool = Field(
        False, description="a record goes to every route that holds, each topic once; else the first one wins"
    )
    calibration: Path | None = Field(
        None, description="file that `streamer calibrate` wrote, relative to the settings file; limits given here win"
    )

    @model_validator(mode="after")
    def _consistent(self) -> LabelSetSettings:
        names = {facet: [x.name for x in flatten_labels(one.labels)] for facet, one in self.facets.items()}
        for route in self.routes:
            if route.when.facet not in names:
                raise ValueError(
                    f"a route names the facet '{route.when.facet}', which is not there{near(route.when.facet, names)}"
                )
            if not route.when.abstained and route.when.label not in names[route.when.facet]:
                raise ValueError(
                    f"a route names the label '{route.when.label}', which facet '{route.when.facet}' lacks"
                    f"{near(str(route.when.label), names[route.when.facet])}"
                )
        known = {name for labels in names.values() for name in labels}
        for example in self.examples:
            for label in example.labels:
                if label not in known:
                    raise ValueError(f"an example names the label '{label}', which no facet has{near(label, known)}")
        return self

    def build(self, name: str, calibration: CalibrationFile | None = None) -> LabelSet:
        """The immutable LabelSet that documents carry, with what the file that `calibration` names says."""
        facets = tuple(_facet(facet, one, calibration) for facet, one in self.facets.items())
        return LabelSet(
            name,
            facets,
            self.prompt,
            tuple(InContextExample(e.text, tuple(e.labels)) for e in self.examples),
            tuple(Route(r.when.facet, r.when.label, r.when.score, r.to) for r in self.routes),
            self.all_matching,
            None if calibration is None else calibration.stamp,
        )


def _facet(name: str, one: FacetSettings, calibration: CalibrationFile | None) -> Facet:
    """Limits are those of the settings file, else those of the calibration, else the defaults."""
    limits = {limit: getattr(one, limit) for limit in ("threshold", "min_score", "min_margin")}
    if calibration is not None:
        limits |= {limit: x for limit, x in calibration.limits(name).items() if limit not in one.model_fields_set}
    correction = None if calibration is None else calibration.correction(name)
    return Facet(name, Kind(one.kind), flatten_labels(one.labels), **limits, correction=correction)
