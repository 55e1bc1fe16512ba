"""What scale runs come to: figures as JSON, what is wrong with them, and tables of medians.

Enters: runs, or the same as mappings of an earlier day. Leaves: mappings, reasons, tables. Must not know: how it was
measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from load_tests.scale_figures import Effect

LEAST_SHARE = 0.85  # of what so many times one process would do
Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ThroughputRun:
    """A backlog worked off; `twice`: outputs beyond the first of a record."""

    processes: int
    records: int
    per_s: float
    lost: int
    twice: int
    unknown: int
    exit_codes: Sequence[int]
    restarts: int


@dataclass(frozen=True, slots=True)
class MovesRun:
    """Members that came and went under `per_s` records a second. `twice_by_loss`: repeated after a kill, which
    at_least_once allows; `twice`: repeated without one."""

    session_s: float
    per_s: float
    records: int
    effects: Sequence[Effect]
    lost: int
    twice_by_loss: int
    twice: int
    unknown: int
    exit_codes: Sequence[int]
    restarts: int


def failures(told: Iterable[Figures]) -> list[str]:
    """What is not as it should be."""
    found: list[str] = []
    told = list(told)
    for one in told:
        where = f"{one['case']}, {one['protocol']}, {one['delivery']}"
        checks = {
            "lost": not one["lost"],
            "of no record": not one["unknown"],
            "twice": not one["twice"],
            "twice under exactly_once": one["delivery"] != "exactly_once" or not one.get("twice_by_loss"),
            "exit code": not any(one["exit_codes"]),
            # the consumer protocol turns a static member's successor away while the session of the killed one lasts
            "ended by itself": not one["restarts"] or (one["case"], one["protocol"]) == ("static", "consumer"),
            "lag did not recover": all(effect["recovered_s"] is not None for effect in one.get("effects", ())),
        }
        found += [f"{where}: {name}" for name, good in checks.items() if not good]
    for (protocol, delivery, processes), (_, ratio) in sorted(rates(told).items()):
        if ratio < LEAST_SHARE * processes:
            found.append(
                f"throughput, {protocol}, {delivery}: {processes} processes do {ratio:.2f} times what one does"
            )
    return found


def rates(told: Iterable[Figures]) -> dict[tuple[str, str, int], tuple[float, float]]:
    """(protocol, delivery, processes) -> median records a second, and how many times what one process does."""
    runs: dict[tuple[str, str, int], list[float]] = {}
    for one in told:
        if one["case"] == "throughput":
            runs.setdefault((one["protocol"], one["delivery"], one["processes"]), []).append(one["per_s"])
    medians = {key: median(values) for key, values in runs.items()}
    return {key: (per_s, per_s / medians[*key[:2], 1]) for key, per_s in medians.items() if (*key[:2], 1) in medians}


def show(console: Console, told: Sequence[Figures]) -> None:
    """Medians of all runs, and what is wrong."""
    if any(one["case"] == "throughput" for one in told):
        _show_rates(console, told)
    if any(one["case"] != "throughput" for one in told):
        _show_effects(console, [one for one in told if one["case"] != "throughput"])
    console.print(f"wrong: {'; '.join(failures(told)) or 'nothing'}", markup=False, highlight=False)


def _show_rates(console: Console, told: Sequence[Figures]) -> None:
    table = _table(
        "throughput, medians", left=2, columns=("group protocol", "delivery", "processes", "records/s", "ratio")
    )
    for (protocol, delivery, processes), (per_s, ratio) in sorted(rates(told).items()):
        table.add_row(protocol, delivery, str(processes), f"{per_s:.1f}", f"{ratio:.2f}")
    console.print(table)


def _show_effects(console: Console, told: Sequence[Figures]) -> None:
    columns = (
        "protocol, heartbeat", "delivery", "what", "runs", "silent: all", "a partition", "(before)", "longest wait",
        "lag before", "at most", "as before after",
    )  # fmt: skip
    table = _table("processes that come and go: medians, in seconds and records", left=3, columns=columns)
    by_what: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for one in told:
        for effect in one["effects"]:
            group = f"{one['protocol']}, {one['heartbeat_s']:g} s"
            by_what.setdefault((group, one["delivery"], effect["what"]), []).append(effect)
    for key, effects in sorted(by_what.items()):
        figures = [
            median(effect[name] for effect in effects)
            for name in ("pause_s", "partition_pause_s", "calm_s", "longest_wait_s", "lag_before", "lag_peak")
        ]
        recovered_s = median(inf if effect["recovered_s"] is None else effect["recovered_s"] for effect in effects)
        back = "not" if recovered_s == inf else f"{recovered_s:.1f}"
        table.add_row(
            *key,
            str(len(effects)),
            *(f"{one:.1f}" for one in figures[:4]),
            *(f"{one:.0f}" for one in figures[4:]),
            back,
        )
    console.print(table)
    repeated = [one["twice_by_loss"] for one in told]
    console.print(f"repeated after a kill: {', '.join(map(str, repeated))} records")


def _table(title: str, *, left: int, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for at, name in enumerate(columns):
        table.add_column(name, justify="left" if at < left else "right")
    return table
