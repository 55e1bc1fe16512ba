"""`streamer classify`: which label set, which model, which of text, file and standard input.

Enters: what the command line says. Leaves: a table, JSON, or an output file. Must not know: Kafka.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import orjson
from rich.console import Console

from streamer.app import build_classifier, with_cache
from streamer.errors import UsageError
from streamer.facets import LabelSet
from streamer.offline import classify_texts, label_set_from_flags, label_set_from_settings, show_verdict
from streamer.offline_files import STANDARD, classify_file, plan_file
from streamer.records import Reject, Verdict
from streamer.settings import ModelSettings, build_model_settings, load_settings


def run_classify(
    *,
    text: str | None,
    source: Path | None,
    output: Path,
    columns: Sequence[str],
    config: Path | None,
    label_set: str | None,
    labels: Sequence[str],
    multi_labels: Sequence[str],
    threshold: float,
    model: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Label one text, or the rows of `source`. Raises UsageError for what does not go together."""
    if (text is None) == (source is None):
        raise UsageError("give a text, or --input FILE (- for standard input)")
    chosen, model_settings = _labels_and_model(config, label_set, labels, multi_labels, threshold, model)
    job = None if source is None else plan_file(source=source, output=output, text=columns, overwrite=overwrite)
    classifier = with_cache(build_classifier(model_settings, max_tokens="auto"), model_settings)
    try:
        classifier.warm_up([chosen])
        if job is None:
            # bytes of the command line that are no UTF-8 arrive as lone surrogates, which no tokenizer takes
            clean = (text or "").encode("utf-8", "replace").decode()
            _show(clean, classify_texts(classifier, chosen, [clean])[0], as_json)
            return
        console = Console(stderr=True)
        done = classify_file(
            job,
            classifier=classifier,
            label_set=chosen,
            stdin=sys.stdin.buffer,
            stdout=sys.stdout.buffer,
            console=console,
        )
        rate = done.rows / done.wall_s if done.wall_s else 0.0
        refused = "".join(f", {count} {code}" for code, count in sorted(done.rejects.items()))
        where = "standard output" if output == STANDARD else str(output)
        console.print(
            f"{done.rows} rows to {where}: {done.labelled} labelled ({done.truncated} truncated){refused}; "
            f"{rate:.0f} rows/s",
            markup=False,
            highlight=False,
        )
    finally:
        classifier.close()


def _labels_and_model(
    config: Path | None,
    label_set: str | None,
    labels: Sequence[str],
    multi_labels: Sequence[str],
    threshold: float,
    model: str | None,
) -> tuple[LabelSet, ModelSettings]:
    """Flags name labels themselves; otherwise the settings file does. --model overrides the file's model."""
    if label_set is not None and config is None:
        raise UsageError("--label-set names one of a settings file; give the file with -c")
    settings = None if config is None else load_settings(config)
    named = build_model_settings({"name": model}) if model is not None else None
    if labels or multi_labels:
        if label_set is not None:
            raise UsageError("give labels by flags or by --label-set, not both")
        chosen = label_set_from_flags(labels=labels, multi_labels=multi_labels, threshold=threshold)
    elif settings is None:
        chosen = label_set_from_flags(labels=[], multi_labels=[], threshold=threshold)
    else:
        chosen = label_set_from_settings(settings, label_set)
    return chosen, named or (settings.model if settings else ModelSettings())


def _show(text: str, answer: Verdict | Reject, as_json: bool) -> None:
    if isinstance(answer, Reject):
        raise UsageError(f"not labelled: {answer.message}")
    if not as_json and sys.stdout.isatty():
        show_verdict(Console(), text, answer)
        return
    facets = {
        facet.name: {"labels": facet.labels, "scores": facet.scores, "abstained": facet.abstained}
        for facet in answer.facets
    }
    print(orjson.dumps({"facets": facets, "truncated": answer.truncated}).decode())
