"""What a fault run is told as: tables for people, a mapping for machines.

Enters: an Outcome. Leaves: text. Must not know: how it came about.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from load_tests.faults.evidence import Delivery, Verdict
from load_tests.faults.ordeal import Outcome
from load_tests.harness import LoadTestError


def delivery_named(flag: str) -> Delivery:
    """What the command line names. Raises LoadTestError."""
    if flag == "exactly_once":
        return "exactly_once"
    if flag == "at_least_once":
        return "at_least_once"
    raise LoadTestError(f"--delivery '{flag}' is neither exactly_once nor at_least_once")


def summary(outcome: Outcome) -> dict[str, Any]:
    """The last line of a run."""
    rest = asdict(outcome)
    rest.pop("verdict")
    return {**outcome.verdict.as_json(), **rest}


def show(console: Console, outcome: Outcome) -> None:
    """What was done and what it led to, then the invariants."""
    console.print(
        f"{outcome.seconds:,.1f} s until the last record came out; nothing came out for at most"
        f" {outcome.longest_silence_s:.1f} s; at most {outcome.peak_memory_mb:.0f} MB a process"
    )
    table = Table(title="what happened", title_justify="left")
    table.add_column("")
    table.add_column("times", justify="right")
    for what, times in [*sorted(outcome.happenings.items()), *(("  " + why, n) for why, n in outcome.causes.items())]:
        table.add_row(Text(what), f"{times:,}")
    console.print(table)
    show_verdict(console, outcome.verdict)


def show_verdict(console: Console, verdict: Verdict) -> None:
    """Counts, then a line for each invariant."""
    console.print(
        f"{verdict.delivery}: {verdict.inputs:,} in = {verdict.outputs:,} out + {verdict.dead_letters:,} dead,"
        f" {verdict.lost:,} lost, {verdict.duplicates:,} twice (at most {verdict.most_per_disruption:,} by disruption),"
        f" {verdict.samples:,} samples of commits"
    )
    table = Table(title="invariants", title_justify="left")
    for name in ("", "invariant", "looked at", "broken"):
        table.add_column(name, justify="left" if name == "invariant" else "right")
    for finding in verdict.findings:
        table.add_row(str(finding.invariant), finding.name, f"{finding.checked:,}", f"{finding.violations:,}")
    console.print(table)
    for finding in verdict.findings:
        for example in finding.examples:
            console.print(Text(f"{finding.invariant} {finding.name}: {example}"))
