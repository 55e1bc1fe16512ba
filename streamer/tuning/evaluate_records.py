"""Evaluate a settings file on labelled records, alone or against another one.

Enters: settings files, a labelled file. Leaves: a RecordsEvaluation. Whatever can be wrong is told before a model is
loaded. Must not know: how the result is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from streamer.app import build_classifier
from streamer.engine.base import ModelInfo
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.offline import label_set_from_settings
from streamer.settings import ModelSettings, build_model_settings, load_settings
from streamer.terminal import progress_bar
from streamer.tuning.bootstrap import RESAMPLES
from streamer.tuning.compare import comparable, compare_facet
from streamer.tuning.evaluate_answers import Answers, answer
from streamer.tuning.evaluate_facet import evaluate_facet
from streamer.tuning.evaluate_result import Comparison, RecordsEvaluation, Side
from streamer.tuning.labelled import LabelledRecords, read_labelled_records
from streamer.tuning.scored import Logits, score_records, scored_facets


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordsWish:
    """What is to be evaluated. `model` are model settings that override those of `config`; all but the name override
    those of the other side, too. `text`: columns, none: the usual one."""

    data: Path
    config: Path
    label_set: str | None
    model: Mapping[str, str]
    against: Path | None
    against_model: str | None
    text: Sequence[str]
    split: str | None
    seed: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """One side before it is scored. `max_tokens` is of a device batch."""

    settings: str
    label_set: LabelSet
    model: ModelSettings
    max_tokens: int | str


@dataclass(frozen=True, slots=True)
class _Answered:
    """One side after it."""

    side: Side
    answers: dict[str, Answers]


def evaluate_records(wish: RecordsWish, *, console: Console) -> RecordsEvaluation:
    """Score the file by one or two settings files and measure; `console` shows progress."""
    new = _asked(wish.config, wish.label_set, wish.model)
    old = _other(wish, new)
    asked = [new] if old is None else [new, old]
    options: dict[str, Any] = {"text": wish.text} if wish.text else {}
    records = read_labelled_records(wish.data, new.label_set, split=wish.split, **options)
    known = [facet.name for facet in new.label_set.facets if any(one is not None for one in records.right[facet.name])]
    if old is not None:
        _require_comparable(old.label_set, new.label_set, known)
    began = time.monotonic()
    answered = _score(asked, records, console)
    seconds = time.monotonic() - began
    return RecordsEvaluation(
        file=wish.data.name,
        records=len(records.texts),
        side=answered[0].side,
        facets=tuple(evaluate_facet(one, records, seed=wish.seed) for one in answered[0].answers.values()),
        unknown=tuple(facet.name for facet in new.label_set.facets if facet.name not in known),
        comparison=None if old is None else _compare(answered[1], answered[0], seed=wish.seed),
        resamples=RESAMPLES,
        seed=wish.seed,
        seconds=seconds,
    )


def _asked(config: Path, label_set: str | None, model: Mapping[str, str], *, rather: str | None = None) -> _Asked:
    """One side; the label set `rather`, where the settings have it, is chosen before any other."""
    settings = load_settings(config)
    chosen = settings.model
    if model:
        kept = chosen.model_dump(exclude={"revision"} if "name" in model else set())
        chosen = build_model_settings({**kept, **model})
    return _Asked(
        settings=config.name,
        label_set=label_set_from_settings(settings, rather if rather in settings.label_sets else label_set),
        model=chosen,
        max_tokens=settings.batching.max_tokens,
    )


def _other(wish: RecordsWish, new: _Asked) -> _Asked | None:
    """What to compare with: another settings file, the same one with another model, or another file with that model."""
    if wish.against is None and wish.against_model is None:
        return None
    named = {} if wish.against_model is None else {"name": wish.against_model}
    given = {name: value for name, value in wish.model.items() if name != "name"} | named
    if wish.against is None and new.label_set.calibration is not None:
        raise UsageError(
            f"--against-model: the calibration of label set '{new.label_set.name}' is for one model; compare with a "
            "settings file of the other one (--against)"
        )
    return _asked(wish.against or wish.config, None, given, rather=new.label_set.name)


def _require_comparable(old: LabelSet, new: LabelSet, known: Sequence[str]) -> None:
    facets = {facet.name: facet for facet in old.facets}
    if not any(
        facet.name in known and facet.name in facets and comparable(facets[facet.name], facet) for facet in new.facets
    ):
        raise UsageError(
            f"nothing to compare: no facet that the file knows has the same name, kind and labels in label set "
            f"'{old.name}' of both settings"
        )


def _score(asked: Sequence[_Asked], records: LabelledRecords, console: Console) -> list[_Answered]:
    """Every side's answers; what two sides would score alike is scored once."""
    alike: dict[tuple[str, str], list[_Asked]] = {}
    for one in asked:
        alike.setdefault(_key(one), []).append(one)
    with progress_bar(console, "scoring", len(records.texts) * len(alike)) as advance:
        scored = {key: _logits(sides, records, advance) for key, sides in alike.items()}
    return [_answered(one, records, *scored[_key(one)]) for one in asked]


def _key(asked: _Asked) -> tuple[str, str]:
    return asked.model.model_dump_json(), asked.label_set.scoring_key


def _logits(
    alike: Sequence[_Asked], records: LabelledRecords, advance: Callable[[int], None]
) -> tuple[list[Logits], ModelInfo]:
    classifier = build_classifier(alike[0].model, max_tokens=alike[0].max_tokens)
    try:
        # all of them: a calibration has to fit the model of its side, too
        classifier.warm_up([one.label_set for one in alike])
        return score_records(classifier, alike[0].label_set, records.texts, advance), classifier.describe()
    finally:
        classifier.close()


def _answered(asked: _Asked, records: LabelledRecords, logits: list[Logits], info: ModelInfo) -> _Answered:
    label_set = asked.label_set
    return _Answered(
        Side(
            settings=asked.settings,
            label_set=label_set.name,
            version=label_set.version,
            calibration=None if label_set.calibration is None else label_set.calibration.version,
            model=info.name,
            revision=info.revision,
        ),
        {one.facet.name: answer(one) for one in scored_facets(label_set, records, logits)},
    )


def _compare(old: _Answered, new: _Answered, *, seed: int) -> Comparison:
    both = [
        name
        for name, answers in new.answers.items()
        if name in old.answers and comparable(old.answers[name].facet, answers.facet)
    ]
    return Comparison(
        old=old.side,
        facets=tuple(compare_facet(old.answers[name], new.answers[name], seed=seed) for name in both),
        left_out=tuple(name for name in new.answers if name not in both),
    )
