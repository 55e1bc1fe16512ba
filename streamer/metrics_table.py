"""The table of all metrics, made from the code that exports them: `python -m streamer.metrics_table FILE`.

Enters: what the Observer of metrics defines. Leaves: a page of Markdown. A test holds the committed page to what this
writes.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from streamer.telemetry.prometheus import PrometheusObserver
from streamer.telemetry.prometheus_series import Definition

# how a name ends -> its unit, the first that fits
_UNITS = (
    ("_timestamp_seconds", "Unix time, seconds"),
    ("_seconds(_total)?", "seconds"),
    ("_bytes", "bytes"),
    ("_tokens(_total)?", "tokens"),
    ("_documents|_cache_(hits|misses)_total", "documents"),
    ("_records(_[a-z_]+)?(_total)?|_shadow_dropped_total", "records"),
    ("_shadow_(agreed|compared)_total", "verdicts"),
    ("_labels_total", "labels"),
    ("_abstentions_total", "verdicts"),
    ("_(commits|commit_failures|reloads|reload_failures|rewinds|rebalances)_total", "count"),
    ("_(batches|engine_out_of_memory)_total", "device batches"),
    ("_ratio|_distance", "0 to 1"),
    ("_info", "always 1"),
    ("_up|_paused|_running|_successful|_outdated", "0 or 1"),
)
_HEAD = """# Metrics

Made by `python -m streamer.metrics_table deploy/metrics.md`. What `/metrics` exports:

- `topic` is always the input topic, `partition` its partition; `facet`, `label` and `to` come from the settings, so the
  number of series is bounded by them. No text, key or header of a record is ever part of a series.
- A counter ends in `_total`; a histogram `X` is exported as `X_bucket{le}`, `X_sum` and `X_count`.
- Counters of topics, facets, labels and routes start at 0. `streamer_drift_...` are there with `drift` in the settings,
  `streamer_shadow_...` with `shadow`; `streamer_device_memory_bytes` has series on a CUDA device.
- Of the process itself the client library tells `process_resident_memory_bytes`, `process_cpu_seconds_total`,
  `process_start_time_seconds`, `process_open_fds`, `process_max_fds` (Linux), `python_info` and `python_gc_...`.

| name | type | labels | unit | meaning |
|---|---|---|---|---|
"""


def definitions() -> Sequence[Definition]:
    """All metrics that there can be, by name."""
    everything = PrometheusObserver(streams=(), wall_clock=time.time, longest_pauses=dict, drift=tuple, shadow=True)
    return everything.definitions()


def metrics_table() -> str:
    """The page: one line for every metric, by name."""
    return _HEAD + "".join(_line(one) for one in definitions())


def _line(metric: Definition) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {_unit(metric.name)} | {metric.about} |\n"


def _unit(name: str) -> str:
    return next(unit for ending, unit in _UNITS if re.search(f"({ending})$", name))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(metrics_table(), encoding="utf-8")
