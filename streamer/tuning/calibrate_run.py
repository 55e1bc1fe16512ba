"""What `streamer calibrate` does: read, score, fit, write, show.

Enters: a Wish, from the command line. Leaves: a calibration file beside the settings, a table of what it brings, and
what is left to do. Must not know: how corrections and limits are found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.app import build_classifier
from streamer.calibration import CalibrationFile, FacetCalibration, FittedModel, Quality, version_of
from streamer.engine.base import ModelInfo
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.offline import label_set_from_settings
from streamer.settings import Settings, load_settings
from streamer.tables import TEXT_COLUMN
from streamer.terminal import printable, progress_bar
from streamer.tuning.calibrate import FEWEST_ROWS, LIMITS, Wanted, calibrate_facet
from streamer.tuning.calibrate_choose import NOTHING
from streamer.tuning.calibrate_goals import parse_goals
from streamer.tuning.labelled import LabelledRecords, read_labelled_records
from streamer.tuning.scored import Scored, score_records, scored_facets

SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line asks for."""

    data: Path
    config: Path
    label_set: str | None
    out: Path | None
    goals: Sequence[str]
    accuracy: float | None
    text: Sequence[str]
    split: str | None
    overwrite: bool


def run_calibrate(wish: Wish, *, console: Console, out: Console) -> CalibrationFile:
    """Write the calibration file; `console` shows progress and notes, `out` the result.

    Raises UsageError for data, goals or a file that cannot be used.
    """
    settings = load_settings(wish.config, calibrated=False)  # the old file may be what is to be replaced
    label_set = label_set_from_settings(settings, wish.label_set)
    path = _target(wish, settings, label_set)
    goals = parse_goals(wish.goals, label_set)
    records = read_labelled_records(wish.data, label_set, text=wish.text or (TEXT_COLUMN,), split=wish.split)
    _require_enough(wish, records)
    model, scored = _score(settings, label_set, records, console)
    facets = {
        one.facet.name: calibrate_facet(one, Wanted(goals.get(one.facet.name), wish.accuracy))
        for one in scored
        if len(one.rows) >= FEWEST_ROWS
    }
    found = calibration_file(label_set, model, facets, source=wish.data.name, rows=len(records.texts))
    write_whole(path, found.to_json())
    _show(out, found)
    for line in _notes(wish, settings, label_set, found, path):
        console.print(Text(line))
    return found


def calibration_file(
    label_set: LabelSet, model: ModelInfo, facets: Mapping[str, FacetCalibration], *, source: str, rows: int
) -> CalibrationFile:
    """What was found for the facets of a label set, stamped; `source` and `rows` tell of the labelled file."""
    of_facets = dict(facets)
    return CalibrationFile(
        schema_version=1,
        version=version_of(scoring_key=label_set.scoring_key, model_revision=model.revision, facets=of_facets),
        label_set=label_set.name,
        scoring_key=label_set.scoring_key,
        model=FittedModel(name=model.name, revision=model.revision),
        source=source,
        rows=rows,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        facets=of_facets,
    )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all: a running process may look at it. Raises UsageError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None


def _target(wish: Wish, settings: Settings, label_set: LabelSet) -> Path:
    named = settings.label_sets[label_set.name].calibration
    if wish.out is None and named is None:
        raise UsageError(f"say where to write with --out, or name a file in label_sets.{label_set.name}.calibration")
    path = wish.out if wish.out is not None else wish.config.parent / str(named)
    if path.exists() and not wish.overwrite:
        raise UsageError(f"{path}: exists already; replace it with --overwrite, or give another --out")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no directory {path.parent}")
    return path


def _require_enough(wish: Wish, records: LabelledRecords) -> None:
    known = {name: sum(one is not None for one in right) for name, right in records.right.items()}
    if max(known.values()) < FEWEST_ROWS:
        told = ", ".join(f"{count} tell of '{name}'" for name, count in known.items())
        raise UsageError(f"{wish.data}: too few labelled rows ({told}); at least {FEWEST_ROWS} are needed")


def _score(
    settings: Settings, label_set: LabelSet, records: LabelledRecords, console: Console
) -> tuple[ModelInfo, list[Scored]]:
    classifier = build_classifier(settings.model, max_tokens=settings.batching.max_tokens)
    try:
        with progress_bar(console, "scoring", len(records.texts)) as advance:
            logits = score_records(classifier, label_set, records.texts, advance)
        return classifier.describe(), scored_facets(label_set, records, logits)
    finally:
        classifier.close()


def _show(out: Console, found: CalibrationFile) -> None:
    """Before and after, on rows that had no part in the fit."""
    named = f"{printable(found.label_set, SHOWN_CHARACTERS)}: calibration {found.version}"
    out.print(Text(f"{named} for {found.model.name}@{found.model.revision}", style="bold"))
    for name, facet in found.facets.items():
        told = f"{printable(name, SHOWN_CHARACTERS)} ({facet.kind}, {facet.rows:,} rows); {_found(facet)}"
        out.print(Text(told))
        table = Table(box=SIMPLE_HEAD, show_edge=False)
        for column in ("", "log loss", "ECE", "accuracy", "precision", "recall", "F1", "abstained"):
            table.add_column(column, justify="right" if column else "left")
        table.add_row("before", *_figures(facet.before))
        table.add_row("after", *_figures(facet.after))
        out.print(table)


def _figures(one: Quality) -> list[str]:
    values = (one.log_loss, one.calibration_error, one.accuracy, one.precision, one.recall, one.f1, one.abstained)
    return ["-" if value is None else f"{value:.3f}" for value in values]


def _found(facet: FacetCalibration) -> str:
    limits = [f"{name} {getattr(facet, name):g}" for name in LIMITS if getattr(facet, name) is not None]
    return ", ".join([f"correction: {facet.shrinkage}", *limits])


def _notes(wish: Wish, settings: Settings, label_set: LabelSet, found: CalibrationFile, path: Path) -> Iterator[str]:
    """What is left to do, and what will not be as one may think."""
    yield f"written: {path}"
    one = settings.label_sets[label_set.name]
    place = f"label_sets.{label_set.name}"
    for facet in label_set.facets:
        written = one.facets[facet.name].model_fields_set
        if facet.name not in found.facets:
            yield f"facet '{facet.name}' stays as it is: fewer than {FEWEST_ROWS} rows tell of it"
            continue
        for limit in LIMITS:
            chosen, mine = found.limits(facet.name).get(limit), f"{place}.facets.{facet.name}.{limit}"
            if limit in written and chosen is not None:
                yield f"{mine} is {getattr(facet, limit):g} in the settings, which wins; remove it there for {chosen:g}"
            elif limit in written and found.facets[facet.name].shrinkage != NOTHING:
                yield f"{mine} is {getattr(facet, limit):g} in the settings, and now means corrected scores"
    if one.calibration is None or (wish.config.parent / one.calibration).resolve() != path.resolve():
        relative = os.path.relpath(path.resolve(), wish.config.parent.resolve())
        yield f"to use it, name it in the settings: {place}.calibration: {relative}"
