"""`streamer evaluate`: parse and hand over, no logic. What works is imported inside the verb."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from streamer.tuning.evaluate_records import RecordsWish

PIPE_WIDTH = 160  # columns, where no terminal tells how many fit
LONGEST_TEXT_TOKENS = 256


def evaluate(
    data: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled .jsonl, .csv or .parquet.")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Settings file whose label set is evaluated.")
    ] = None,
    label_set: Annotated[str | None, typer.Option(help="With -c: which label set of the settings.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="With -c: column or JSON pointer of the text; may be repeated.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="With -c: another settings file to compare with on the same records.")
    ] = None,
    against_model: Annotated[
        str | None, typer.Option(help="With -c: another model to compare with on the same records.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With -c: write report.md, result.json and pictures there.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="With -c: of the bootstrap resamples; default: 1.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="bundled, a directory, or a Hugging Face id; default: that of the settings, or bundled."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only rows whose column 'split' says so.")] = None,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Without -c: a data set not to measure; may be repeated.")
    ] = None,
    max_text_tokens: Annotated[
        int | None, typer.Option(min=1, help="Without -c: only the first tokens of each text; default: 256.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON, last.")] = False,
) -> None:
    """Measure how good labels are, on labelled records.

    With -c: your records against a label set of your settings, with its
    calibration, thresholds and abstention. Precision, recall and F1 for each
    label, accuracy, accuracy@k, mAP, Brier score, calibration error, confusions
    and what abstention would bring, with 95 % bootstrap intervals. The file has
    a column 'text', and either a column 'labels' ({"facet": "label", "other":
    ["label", "label"]}; plain labels where there is one facet) or a column for
    each facet (names parted by ';'). What is left out is unknown, and not
    counted; an empty list says that no label holds. A report and --json quote
    the surest mistakes of each facet, with the beginning of their texts.

    --against and --against-model measure a second side on the same records and
    say whether the difference is real: paired bootstrap, McNemar's exact test.

    Without -c: a model on data sets of its own label lists (columns 'text',
    'labels', 'dataset'): macro-F1 and accuracy for each set.
    """
    from streamer.errors import UsageError
    from streamer.extras import require_tuning
    from streamer.telemetry.logs import configure_logs

    require_tuning("evaluate")
    chosen = {name: one for name, one in (("name", model), ("device", device), ("dtype", dtype)) if one is not None}
    if config is None:
        for option, given in (
            ("--label-set", label_set), ("--text", text), ("--against", against),
            ("--against-model", against_model), ("--report", report), ("--seed", seed),
        ):  # fmt: skip
            if given not in (None, []):
                raise UsageError(f"{option} is about a label set of a settings file; give the file with -c")
        _data_sets(data, chosen, split, leave_out or [], max_text_tokens or LONGEST_TEXT_TOKENS, as_json)
        return
    for option, unfit in (("--leave-out", leave_out), ("--max-text-tokens", max_text_tokens)):
        if unfit not in (None, []):
            raise UsageError(f"{option} is for data sets with label lists of their own; leave it out with -c")
    configure_logs(level="error", form="console", stream=sys.stderr)
    from streamer.tuning.evaluate_records import RecordsWish

    wish = RecordsWish(
        data=data,
        config=config,
        label_set=label_set,
        model=chosen,
        against=against,
        against_model=against_model,
        text=text or [],
        split=split,
        seed=1 if seed is None else seed,
    )
    _records(wish, report, as_json)


def _records(wish: RecordsWish, report: Path | None, as_json: bool) -> None:
    import orjson

    from streamer.tuning.evaluate_records import evaluate_records
    from streamer.tuning.evaluate_show import show_records
    from streamer.tuning.report import REPORT, require_report_folder, write_report

    if report is not None:
        require_report_folder(report)
    result = evaluate_records(wish, console=Console(stderr=True))
    show_records(Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False), result)
    if report is not None:
        write_report(report, result)
        print(f"written: {report / REPORT}")
    if as_json:
        print(orjson.dumps(result.as_dict()).decode())


def _data_sets(
    data: Path, chosen: dict[str, str], split: str | None, leave_out: list[str], max_text_tokens: int, as_json: bool
) -> None:
    import orjson

    from streamer.app import build_classifier, model_directory
    from streamer.settings import build_model_settings
    from streamer.tuning.evaluate_sets import run_evaluate, show_evaluation

    settings = build_model_settings(dict(chosen))
    result = run_evaluate(
        console=Console(stderr=True),
        load=lambda: (build_classifier(settings, max_tokens="auto"), model_directory(settings)),
        data=data,
        split=split,
        leave_out=leave_out,
        max_text_tokens=max_text_tokens,
    )
    show_evaluation(Console(), result)
    if as_json:
        print(orjson.dumps(result.as_dict()).decode())
