"""A picture of the dashboard without Grafana: its own panels, drawn from what a real Prometheus answers to its queries.

    python -m load_tests.dashboard_picture deploy/pictures/dashboard.png [--minutes 8]

A streamer labels the demo's records meanwhile (see watched.py), with a burst that makes a backlog. Needs Chromium for
the picture and the Prometheus server (`make tools`). The exit code is 0 when the picture is written.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from math import pi, sin
from pathlib import Path
from typing import Annotated

import typer

from load_tests.dashboard import Panel, panels
from load_tests.dashboard_svg import PAGE_WIDTH_PX, Series, legend_of, page, page_height_px
from load_tests.harness import LoadTestError, exit_with
from load_tests.watched import Prometheus, watched

TOOLS = Path(__file__).parents[1] / ".tools" / "bin"
SCRAPE_S = 2
STEP_S = 4
RATE_S = 20
FACETS = ("sentiment", "topic", "event_type")
ROWS = ("Overview", "Labels", "Engine")  # of the picture; the dashboard has more
CHROMIUM_S = 120
SCALE = 0.85  # keeps the file small
NOTE = (
    "Drawn by load_tests/dashboard_picture.py, without Grafana: panels and queries of dashboard.json, answered by a "
    "real Prometheus that watched a streamer at work."
)


def main(
    out: Annotated[Path, typer.Argument(help="The PNG to write.")],
    minutes: Annotated[float, typer.Option(min=1, help="How long to watch.")] = 8.0,
) -> None:
    """Draw the dashboard."""
    exit_with(lambda: draw(out, minutes * 60))


def draw(out: Path, watch_s: float) -> bool:
    """Raises LoadTestError where a program is missing."""
    prometheus, chromium = _program("prometheus"), _program("chromium")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with watched(
            directory,
            program=prometheus,
            scrape_s=SCRAPE_S,
            model="bundled",
            rate_at=lambda at_s: rate(at_s, watch_s),
        ) as seen:
            began_s = time.time()
            time.sleep(watch_s)
            answered = answers(seen, began_s + RATE_S / 2, time.time())
        source = directory / "dashboard.html"
        source.write_text(page("streamer", NOTE, answered), encoding="utf-8")
        photograph(chromium, source, out, height_px=page_height_px([panel for panel, _ in answered]))
    return True


def rate(at_s: float, watch_s: float) -> float:
    """Records a second: a swell, and a burst in the middle that is more than the engine takes."""
    if 0.4 < at_s / watch_s < 0.45:
        return 90.0
    return 9.0 + 4.0 * sin(4 * pi * at_s / watch_s)


def answers(prometheus: Prometheus, from_s: float, to_s: float) -> list[tuple[Panel, list[Series]]]:
    """Every panel of ROWS with the series of its queries."""
    out = []
    for panel in panels(rate_s=RATE_S, facets=FACETS):
        if panel.row not in ROWS:
            continue
        series = []
        for query in panel.queries:
            for one in prometheus.over_time(query.expr, from_s=from_s, to_s=to_s, step_s=STEP_S):
                labels = one["metric"]
                points = tuple((float(at), float(value)) for at, value in one["values"])
                series.append(Series(legend_of(query.legend, labels), tuple(sorted(labels.items())), points))
        out.append((panel, series))
    return out


def photograph(chromium: str, source: Path, out: Path, *, height_px: int) -> None:
    """A PNG of a page."""
    out.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-lcd-text",
            f"--force-device-scale-factor={SCALE}",
            f"--window-size={PAGE_WIDTH_PX},{height_px}",
            f"--screenshot={out.absolute()}",
            source.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=CHROMIUM_S,
        check=False,
    )
    if done.returncode or not out.exists():
        raise LoadTestError(f"Chromium drew nothing: {done.stderr.strip()[-300:]}")


def _program(name: str) -> str:
    found = shutil.which(name, path=TOOLS) or shutil.which(name)
    if found is None:
        raise LoadTestError(f"{name} is missing; run: make tools")
    return found


if __name__ == "__main__":
    typer.run(main)
