"""What a PromQL expression asks for: metrics with the labels it selects by, and labels it groups by.

No parser of the language: enough of one for rules and queries without label matchers on strings that hold braces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from streamer.metrics_table import definitions

# what Prometheus itself adds to every series of a target, and the bound of a histogram's bucket
OF_TARGETS = frozenset({"namespace", "job", "instance"})
# what others export
OTHERS: Mapping[str, frozenset[str]] = {
    "up": frozenset(),
    "process_start_time_seconds": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "process_cpu_seconds_total": frozenset(),
    "process_open_fds": frozenset(),
    "process_max_fds": frozenset(),
}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE = re.compile(r"\[[^]]*\]")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"(?<![\w.$])([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?(?!\w*\s*\()")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "by", "on"})


@dataclass(frozen=True, slots=True)
class Asked:
    """`metrics` with the labels selected by, `grouping` the labels grouped or matched by."""

    metrics: Mapping[str, frozenset[str]]
    grouping: frozenset[str]


def asked_for(expr: str) -> Asked:
    bare = _RANGE.sub("", _STRING.sub('""', expr))
    grouping = {name.strip() for names in _GROUPING.findall(bare) for name in names.split(",") if name.strip()}
    metrics: dict[str, frozenset[str]] = {}
    for name, selectors in _SELECTOR.findall(_GROUPING.sub("", bare)):
        if name not in _WORDS:
            labels = frozenset(re.findall(r"(\w+)\s*[=!]", selectors))
            metrics[name] = metrics.get(name, frozenset()) | labels
    return Asked(metrics, frozenset(grouping))


def unknown(expr: str, exported: Mapping[str, frozenset[str]]) -> list[str]:
    """Names in an expression that stand for nothing among the metrics `exported`, by name with their labels."""
    asked = asked_for(expr)
    known = {**OTHERS, **exported}
    wrong = [name for name in asked.metrics if name not in known]
    for name, labels in asked.metrics.items():
        wrong += [f"{name}{{{label}}}" for label in labels - known.get(name, labels) - OF_TARGETS]
    there = OF_TARGETS.union({"le"}, *(known.get(name, frozenset()) for name in asked.metrics))
    return wrong + [f"by {label}" for label in asked.grouping - there]


def exported_metrics() -> dict[str, frozenset[str]]:
    """All series names of this package with their labels."""
    out: dict[str, frozenset[str]] = {}
    for one in definitions():
        labels = frozenset(one.labels)
        if one.kind == "histogram":
            out |= {f"{one.name}_bucket": labels | {"le"}, f"{one.name}_sum": labels, f"{one.name}_count": labels}
        else:
            out[one.name] = labels
    return out
