"""`streamer check`: what would go wrong, before it does.

Enters: valid Settings, and a connection to the cluster unless it is left out. Leaves: a Report and its table. Nothing
is written anywhere, and no value of `kafka.properties` is shown. Must not know: the loop.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from time import perf_counter

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.app import REACH_TIMEOUT_S, Connection, build_classifier, build_embedder, window_records
from streamer.check.cluster import check_broker, check_times
from streamer.check.delivery import check_delivery
from streamer.check.findings import Finding, Level, error, ok, told_by, warning
from streamer.check.labels import Texts, check_labels, check_names
from streamer.check.routes import check_routes
from streamer.check.tracing import check_tracing
from streamer.check.trust import check_trust
from streamer.engine.base import Classifier
from streamer.errors import StreamerError, UsageError
from streamer.facets import LabelSet
from streamer.pipeline import WINDOWS_UNDER_WAY
from streamer.records import Document, Reject
from streamer.settings import HttpSettings, Settings

SAMPLE_RECORDS_EACH = 16  # of tickets and of posts
SHORT_S = 0.5  # a sample scored faster than this says little of a device's speed
WAIT_S = 1.0
STYLES = {Level.OK: ("✓ ok", "green"), Level.WARNING: ("! warning", "yellow"), Level.ERROR: ("✗ error", "bold red")}


@dataclass(frozen=True, slots=True)
class Report:
    """Everything found, in the order of looking."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        return sum(finding.level is Level.ERROR for finding in self.findings)

    @property
    def warnings(self) -> int:
        return sum(finding.level is Level.WARNING for finding in self.findings)


def check_settings(
    settings: Settings,
    *,
    connection: Connection | None,
    clock: Callable[[], float] = perf_counter,
    texts: Texts | None = None,
) -> Report:
    """Look at label sets, model, times, port, and (with a connection) broker and topics.

    The model is loaded, and scores a small sample with each label set to tell its speed on this machine, and `texts`
    to find labels that it cannot tell apart; texts that cannot be read are an error among the findings.
    """
    label_sets = list(settings.build_label_sets().values())
    findings = [finding for label_set in label_sets for finding in _check_labels(settings, label_set)]
    findings += _check_model(settings, label_sets, clock, texts)
    findings += check_trust(settings, {label_set.name: label_set for label_set in label_sets})
    findings += check_tracing(settings.tracing)
    findings += check_times(settings)
    findings += check_delivery(settings)
    findings += _check_port(settings.http)
    findings += _check_page(settings)
    if connection is not None:
        findings += check_broker(settings, connection, reach_timeout_s=REACH_TIMEOUT_S)
    return Report(tuple(findings))


def show_report(console: Console, report: Report) -> None:
    """The findings as a table, and one line that sums them up."""
    table = Table(show_lines=False)
    table.add_column("")
    table.add_column("where", overflow="fold")
    table.add_column("found", overflow="fold")
    table.add_column("what to do", overflow="fold")
    for finding in report.findings:
        name, style = STYLES[finding.level]
        table.add_row(Text(name, style=style), Text(finding.where), Text(finding.what), Text(finding.advice))
    console.print(table)
    if report.errors or report.warnings:
        style = STYLES[Level.ERROR if report.errors else Level.WARNING][1]
        console.print(Text(f"{report.errors} errors, {report.warnings} warnings", style=style))
    else:
        console.print(Text("Everything is in order.", style="green"))


def _check_labels(settings: Settings, label_set: LabelSet) -> Iterator[Finding]:
    where = f"label_sets.{label_set.name}"
    facets = ", ".join(f"{facet.name} ({len(facet.labels)})" for facet in label_set.facets)
    yield ok(where, f"{len(label_set.labels)} labels: {facets}; version {label_set.version}")
    shadows = [] if settings.shadow is None else list(settings.shadow.streams.values())
    used = {stream.label_set for stream in settings.streams} | {one.label_set for one in shadows}
    if label_set.name not in used:
        yield warning(where, "no stream uses it", "name it in streams, or remove it")
    yield from check_names(label_set)
    yield from check_routes(label_set)


def _check_model(
    settings: Settings, label_sets: list[LabelSet], clock: Callable[[], float], texts: Texts | None
) -> Iterator[Finding]:
    try:
        classifier = build_classifier(settings.model, max_tokens=settings.batching.max_tokens)
    except StreamerError as failure:
        yield told_by("model", failure)
        return
    try:
        info = classifier.describe()
        made = f"{info.name}, revision {info.revision}, {info.dtype} on {info.device}"
        yield ok("model", f"{made}, window of {info.window_tokens:,} tokens")
        embedder = build_embedder(settings.model)
        for label_set in label_sets:
            try:
                classifier.warm_up([label_set])
                yield from _check_speed(settings, classifier, label_set, clock)
                yield from check_labels(settings, label_set, classifier=classifier, embedder=embedder, texts=texts)
            except StreamerError as failure:
                yield told_by(f"label_sets.{label_set.name}", failure)
    finally:
        classifier.close()


def _check_speed(
    settings: Settings, classifier: Classifier, label_set: LabelSet, clock: Callable[[], float]
) -> Iterator[Finding]:
    """Score the sample; where that is too quick to tell, as many records as a window holds."""
    where = f"label_sets.{label_set.name}"
    window = window_records(settings, classifier)
    sample = sample_texts()
    documents = [Document(text, label_set) for text in sample]
    seconds, reject = _score(classifier, documents, clock)
    if seconds < SHORT_S and window > len(documents):
        documents = [documents[i % len(sample)] for i in range(window)]
        seconds, reject = _score(classifier, documents, clock)
    if reject is not None:
        yield error(where, f"the sample could not be scored: {reject.message}", "lower batching.max_tokens")
        return
    speed = len(documents) / max(seconds, 1e-6)
    yield ok(where, f"warm; about {_roughly(speed)} records/s of tickets and posts on {classifier.describe().device}")
    under_way_s = WINDOWS_UNDER_WAY * window / speed
    if under_way_s > settings.limits.drain_timeout_s:
        yield warning(
            where,
            f"records under way take about {under_way_s:,.0f} s, limits.drain_timeout_s gives them "
            f"{settings.limits.drain_timeout_s:g} s: at a rebalance the rest is labelled again",
            "lower batching.max_records, or raise limits.drain_timeout_s",
        )


def _roughly(speed: float) -> str:
    """Two digits: more would not come out the same next time."""
    return f"{float(f'{speed:.2g}'):,.{0 if speed >= 10 else 1}f}"


def _score(
    classifier: Classifier, documents: list[Document], clock: Callable[[], float]
) -> tuple[float, Reject | None]:
    """Seconds taken, and the first document that got no scores."""
    began_s = clock()
    pending = classifier.submit(documents)
    result = None
    while result is None:
        result = pending.wait(WAIT_S)
    seconds = clock() - began_s
    return seconds, next((answer for answer in result.scores if isinstance(answer, Reject)), None)


def sample_texts() -> list[str]:
    """Tickets and posts of the demo."""
    texts = []
    for name in ("tickets.jsonl", "posts.jsonl"):
        lines = (files("streamer") / "demo" / name).read_bytes().splitlines()
        records = [orjson.loads(line) for line in lines[:SAMPLE_RECORDS_EACH]]
        texts += ["\n".join(filter(None, (r.get("subject"), r.get("body"), r.get("text")))) for r in records]
    return texts


def _check_page(settings: Settings) -> Iterator[Finding]:
    page = settings.page
    if not (settings.http.enabled and page.enabled):
        yield ok("page", "switched off")
        return
    try:
        token = page.read_token()
    except UsageError as failure:
        yield told_by("page.token", failure)
        return
    yield ok("page", f"texts {'shown' if page.show_text else 'hidden'}, {'no' if token is None else 'a'} token needed")


def _check_port(http: HttpSettings) -> Iterator[Finding]:
    if not http.enabled:
        yield ok("http", "switched off: no health checks, no metrics")
        return
    try:
        family, _, _, _, address = socket.getaddrinfo(
            http.host, http.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        socket.create_server(address, family=family).close()
    except OSError as failure:
        yield error(
            "http.port",
            f"cannot listen on {http.host}:{http.port} ({failure.strerror or failure})",
            "see whether streamer runs already, or set another http.port (0 takes any free port)",
        )
    else:
        yield ok("http.port", "any free port" if http.port == 0 else f"{http.host}:{http.port} is free")
