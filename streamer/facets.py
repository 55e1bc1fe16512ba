"""Facets and label sets: what a record can be labelled with.

Enters: plain values from the settings file. Leaves: immutable LabelSets with a version that changes exactly when
something that decides labels changes. Must not know: settings, models, Kafka.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson


class Kind(StrEnum):
    """single: exactly one label holds (softmax over the facet's labels); multi: any number (sigmoid each)."""

    SINGLE = "single"
    MULTI = "multi"


@dataclass(frozen=True, slots=True)
class Label:
    """A label's name, as it stands in events, and an optional description that the model reads beside it."""

    name: str
    description: str | None = None

    @property
    def wording(self) -> str:
        """What the model reads."""
        return self.name if self.description is None else f"{self.name}: {self.description}"


@dataclass(frozen=True, slots=True)
class Correction:
    """What makes a facet's scores mean what they say: each label's logit becomes `slope * logit + bias`.

    One number per label, in the order of the facet's labels. Slopes are above 0 (the inverse of a temperature), and
    those of a single facet are all the same.
    """

    slopes: tuple[float, ...]
    biases: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Facet:
    """One question asked of every record.

    `threshold` (multi): labels scoring at least this hold. `min_score`, `min_margin`: below them the facet
    abstains; the margin is the distance of the best score to the second (single), or of the score nearest to the
    threshold (multi). Scores are those after the `correction`, where there is one.
    """

    name: str
    kind: Kind
    labels: tuple[Label, ...]
    threshold: float = 0.5
    min_score: float = 0.0
    min_margin: float = 0.0
    correction: Correction | None = None

    def canonical(self) -> dict[str, Any]:
        """Everything that decides labels, defaults omitted."""
        out: dict[str, Any] = {"name": self.name, "kind": str(self.kind)}
        out["labels"] = [
            label.name if label.description is None else [label.name, label.description] for label in self.labels
        ]
        for name, default in (("threshold", 0.5), ("min_score", 0.0), ("min_margin", 0.0)):
            if getattr(self, name) != default:
                out[name] = getattr(self, name)
        if self.correction is not None:
            out["correction"] = [list(self.correction.slopes), list(self.correction.biases)]
        return out


@dataclass(frozen=True, slots=True)
class Route:
    """Records whose `facet` was given `label` with at least `score` go to the topic `to`; where `label` is None, those
    whose `facet` abstained.

    A label is given where it is its facet's verdict: the best one of a single facet, one at or above the threshold in a
    multi facet, none when the facet abstained. `score` is compared with that label's own score: softmax over the
    facet's labels (single), sigmoid (multi).
    """

    facet: str
    label: str | None
    score: float
    to: str


@dataclass(frozen=True, slots=True)
class InContextExample:
    """A text shown to the model with its right labels (GLiClass's in-context examples)."""

    text: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Which calibration the corrections of a label set come from, as events name it, and the model it is for."""

    version: str
    model_revision: str


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Facets asked together, with the task prompt and examples shown to the model, and the routes of the result.

    The first route that holds wins; with `all_matching` every route that holds does, each topic once.
    `version`: first 16 hex digits of the SHA-256 over canonical JSON of everything that decides labels.
    `scoring_key`: the same over the part that decides logits (labels, prompt, examples): a calibration acts on them
    afterwards, and is no part of it.
    """

    name: str
    facets: tuple[Facet, ...]
    prompt: str | None = None
    examples: tuple[InContextExample, ...] = ()
    routes: tuple[Route, ...] = ()
    all_matching: bool = False
    calibration: Calibration | None = None
    version: str = field(init=False, compare=False)
    scoring_key: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        deciding: dict[str, Any] = {"facets": [facet.canonical() for facet in self.facets]}
        scoring: dict[str, Any] = {"facets": [[label.wording for label in facet.labels] for facet in self.facets]}
        if self.prompt is not None:
            deciding["prompt"] = scoring["prompt"] = self.prompt
        if self.examples:
            deciding["examples"] = scoring["examples"] = [[e.text, list(e.labels)] for e in self.examples]
            # examples go by names, and two wordings may be one where names and descriptions differ
            scoring["names"] = [[label.name for label in facet.labels] for facet in self.facets]
        if self.routes:
            deciding["routes"] = [[r.facet, r.label, r.score, r.to] for r in self.routes]
        if self.all_matching:
            deciding["all_matching"] = True
        if self.calibration is not None:
            deciding["calibration"] = [self.calibration.version, self.calibration.model_revision]
        object.__setattr__(self, "version", _digest(deciding))
        object.__setattr__(self, "scoring_key", _digest(scoring))

    @property
    def labels(self) -> tuple[Label, ...]:
        """Labels of all facets, in the order of the logits."""
        return tuple(label for facet in self.facets for label in facet.labels)


def _digest(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def flatten_labels(labels: Sequence[str] | dict[str, Any], prefix: str = "") -> tuple[Label, ...]:
    """Labels as written in a settings file -> Labels.

    A list holds names. A mapping holds `name: description`, or `group: labels` for a hierarchy, whose leaves are
    named with dots as in GLiClass (`hardware.laptop`). A mapping to nothing is a name without description.
    """
    dotted = f"{prefix}." if prefix else ""
    if not isinstance(labels, dict):
        return tuple(Label(f"{dotted}{name}") for name in labels)
    out: list[Label] = []
    for name, below in labels.items():
        if below is None or isinstance(below, str):
            out.append(Label(f"{dotted}{name}", below))
        else:
            out.extend(flatten_labels(below, f"{dotted}{name}"))
    return tuple(out)
