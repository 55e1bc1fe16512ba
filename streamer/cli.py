"""The verbs: parse and hand over, no logic. Heavy modules are imported inside the verb that needs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from streamer import __version__
from streamer.dlq.command import dlq_app
from streamer.drift.command import drift_app
from streamer.feedback.command import feedback
from streamer.labels.command import labels_app
from streamer.replay.command import replay
from streamer.signals import stop_on_signals
from streamer.tuning.calibrate_command import calibrate
from streamer.tuning.evaluate_command import evaluate
from streamer.tuning.train_command import train

app = typer.Typer(
    name="streamer",
    help="Label Kafka streams by sentiment, topic, event type, or whatever you describe in words.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(dlq_app, name="dlq")
app.add_typer(drift_app, name="drift")
app.add_typer(labels_app, name="labels")
app.command()(replay)
app.command()(feedback)
app.command()(train)
app.command()(calibrate)
app.command()(evaluate)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="Settings file (YAML).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON, last.")]


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(f"streamer {__version__}")
        raise typer.Exit


@app.command()
def demo(
    as_json: JsonOption = False,
    page: Annotated[
        bool, typer.Option("--page", help="Send the records slowly, and keep the live page open until Ctrl-C.")
    ] = False,
) -> None:
    """Label the shipped tickets and posts on an embedded broker: no Kafka, network or settings needed."""
    from streamer.demo.run import run_demo
    from streamer.telemetry.logs import configure_logs

    configure_logs(level="error", form="console", stream=sys.stderr)  # rejects stand in the summary
    whole = run_demo(console=Console(), as_json=as_json, keep_page=page, stop=stop_on_signals())
    raise typer.Exit(0 if whole else 1)


@app.command()
def run(config: ConfigOption) -> None:
    """Label the topics of a settings file until SIGINT or SIGTERM; then finish, commit, and exit."""
    from streamer.app import connect
    from streamer.serving import serve
    from streamer.settings import load_settings
    from streamer.telemetry.logs import configure_logs

    settings = load_settings(config)
    form: Any = settings.log.format
    if form == "auto":
        form = "console" if sys.stderr.isatty() else "json"
    configure_logs(level=settings.log.level, form=form, stream=sys.stderr)
    stop = stop_on_signals()
    with connect(settings) as connection:
        if connection.embedded:
            print(f"embedded broker at {connection.bootstrap_servers}", flush=True)
        serve(settings, connection=connection, stop=stop, observers=[], settings_path=config)


@app.command()
def check(
    config: ConfigOption,
    offline: Annotated[bool, typer.Option("--offline", help="Do not reach for the broker.")] = False,
    abort: Annotated[
        list[str] | None,
        typer.Option(
            "--abort-transactions",
            metavar="ID",
            help="Instead of checking, end what this transactional id of the group left open; a process that still "
            "holds it is fenced, and stops. May be repeated.",
        ),
    ] = None,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead, show what a record of this value would get; - is stdin."),
    ] = None,
    topic: Annotated[str | None, typer.Option(help="With --explain: the topic of the record.")] = None,
    texts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Find labels that the model cannot tell apart on these texts.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --explain: print one line of JSON.")] = False,
) -> None:
    """Validate settings, label sets, model, broker and topics, and say what to change."""
    from streamer.app import REACH_TIMEOUT_S, connect
    from streamer.check.abort import abort_transactions
    from streamer.check.labels import open_texts
    from streamer.check.run import check_settings, show_report
    from streamer.errors import UsageError
    from streamer.settings import load_settings
    from streamer.telemetry.logs import configure_logs

    settings = load_settings(config)
    configure_logs(level="error", form="console", stream=sys.stderr)
    if explain is not None or topic is not None or as_json:
        from streamer.check.explain_show import run_explain

        run_explain(settings, source=explain, topic=topic, stdin=sys.stdin.buffer, console=Console(), as_json=as_json)
        return
    if abort:
        if offline:
            raise UsageError("--abort-transactions needs the broker; leave out --offline")
        with connect(settings) as connection:
            for line in abort_transactions(settings, connection, abort, reach_timeout_s=REACH_TIMEOUT_S):
                print(line, flush=True)
        return
    tried = None if texts is None else open_texts(texts, Console(stderr=True))
    if offline:
        report = check_settings(settings, connection=None, texts=tried)
    else:
        with connect(settings) as connection:
            report = check_settings(settings, connection=connection, texts=tried)
    show_report(Console(), report)
    raise typer.Exit(1 if report.errors else 0)


@app.command()
def classify(
    text: Annotated[str | None, typer.Argument(help="One text; or give --input.")] = None,
    source: Annotated[
        Path | None, typer.Option("--input", "-i", help=".jsonl, .csv, .parquet, .txt, or - (stdin).")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help=".jsonl, .parquet, or - (stdout).")] = Path("-"),
    column: Annotated[list[str] | None, typer.Option("--text", help="Column or JSON pointer; may be repeated.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Take label set and model from settings.")
    ] = None,
    label_set: Annotated[str | None, typer.Option(help="Which label set of the settings.")] = None,
    labels: Annotated[list[str] | None, typer.Option(help="facet=label,label: one holds; may be repeated.")] = None,
    multi_labels: Annotated[
        list[str] | None, typer.Option(help="facet=label,label: any may hold; may be repeated.")
    ] = None,
    threshold: Annotated[float, typer.Option(min=0.0, max=1.0, help="For --multi-labels.")] = 0.5,
    model: Annotated[str | None, typer.Option(help="bundled, a directory, or a Hugging Face id.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One text: print JSON instead of a table.")] = False,
) -> None:
    """Label a text, a file or standard input, without Kafka."""
    from streamer.offline_command import run_classify
    from streamer.telemetry.logs import configure_logs

    configure_logs(level="error", form="console", stream=sys.stderr)
    run_classify(
        text=text,
        source=source,
        output=output,
        columns=column or [],
        config=config,
        label_set=label_set,
        labels=labels or [],
        multi_labels=multi_labels or [],
        threshold=threshold,
        model=model,
        overwrite=overwrite,
        as_json=as_json,
    )


@app.command()
def produce(
    path: Annotated[Path, typer.Argument(metavar="FILE", help=".jsonl, .csv, .parquet or .txt.")],
    topic: Annotated[str, typer.Option(help="Where to.")],
    bootstrap: Annotated[str, typer.Option(help="host:port,... of the cluster.")] = "localhost:9092",
    property_: Annotated[
        list[str] | None, typer.Option("--property", help="librdkafka's name=value, or name=@file; may be repeated.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Field whose value becomes the key.")] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Records a second; default: as fast as possible.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Send the file so many times.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Send no more records than this.")] = None,
) -> None:
    """Send a file's records to a topic, for try-outs and load."""
    from streamer.app import REACH_TIMEOUT_S
    from streamer.feed import parse_properties, produce_file
    from streamer.telemetry.logs import configure_logs

    configure_logs(level="error", form="console", stream=sys.stderr)
    sent = produce_file(
        path=path,
        topic=topic,
        bootstrap_servers=bootstrap,
        properties=parse_properties(property_ or []),
        key_field=key,
        rate=rate,
        repeat=repeat,
        limit=limit,
        reach_timeout_s=REACH_TIMEOUT_S,
        console=Console(stderr=True),
    )
    print(f"{sent.records} records, {sent.bytes} bytes to '{topic}' in {sent.wall_s:.1f} s, all acknowledged")


@app.command()
def pretrain(
    data: Annotated[Path, typer.Option(help="Labelled file: jsonl, csv or parquet with 'text' and 'labels'.")],
    out: Annotated[Path, typer.Option(help="New directory for the model.")],
    start: Annotated[Path | None, typer.Option(help="A BERT encoder or a model; default: bundled.")] = None,
    split: Annotated[str | None, typer.Option(help="Only rows whose column 'split' says so.")] = None,
    wordnet: Annotated[Path | None, typer.Option(help="Folder of WordNet's database files, as further data.")] = None,
    written: Annotated[
        Path | None, typer.Option(help="jsonl of text, sentiment, kind, topic, as further data.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Batches of 32 examples.")] = 500,
    stop_after: Annotated[int | None, typer.Option(min=1, help="End early, after so many of the steps.")] = None,
    fewest_labels: Annotated[int, typer.Option(min=1, help="Labels per example at the start.")] = 3,
    most_labels: Annotated[int, typer.Option(min=2, help="Labels per example from half-way on.")] = 16,
    seed: Annotated[int, typer.Option(help="Of sampling and of new weights.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Make a zero-shot model of the bundled kind from many labelled sets; `train` fits one to your labels."""
    from streamer.app import bundled_directory
    from streamer.tuning.pretrain import run_pretrain
    from streamer.tuning.train import TrainSettings

    run_pretrain(
        console=Console(stderr=True),
        data=data,
        split=split,
        wordnet=wordnet,
        written=written,
        start=start or bundled_directory(),
        out=out,
        device=device,
        settings=TrainSettings(
            steps=steps,
            stop_after=min(stop_after or steps, steps),
            fewest_labels=fewest_labels,
            most_labels=most_labels,
            seed=seed,
        ),
    )


@app.command()
def bench(
    model: Annotated[str, typer.Option(help="bundled, fake, a directory, or a Hugging Face id.")] = "bundled",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    records: Annotated[int, typer.Option(min=1, help="Texts of a round.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are reported.")] = 3,
    load_seconds: Annotated[float, typer.Option(min=0.1, help="How long each load is offered.")] = 6.0,
    only: Annotated[
        list[str] | None,
        typer.Option(help="stages, latency, scaling, compare (with gliclass); parted by commas. Default: all."),
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw latency and scaling into this .svg file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine: cost by stage, latency by load, growth with labels and text, and the reference pipeline."""
    import orjson

    from streamer.bench.run import parse_sections, require_picture, run_bench, write_picture
    from streamer.bench.show import show_bench
    from streamer.settings import build_model_settings
    from streamer.telemetry.logs import configure_logs

    configure_logs(level="error", form="console", stream=sys.stderr)
    sections = parse_sections(only or [])
    if picture is not None:
        require_picture(picture, sections)
    result = run_bench(
        console=Console(stderr=True),
        model=build_model_settings({"name": model, "device": device, "dtype": dtype}),
        records=records,
        rounds=rounds,
        load_s=load_seconds,
        sections=sections,
    )
    show_bench(Console(), result)
    if picture is not None:
        write_picture(picture, result)
    if as_json:
        print(orjson.dumps(result.as_dict()).decode())
