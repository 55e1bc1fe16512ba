"""Charts are valid SVG, and points stand where their axes say."""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.bench.chart import Line, Panel, chart, linear_ticks, log_ticks

SVG = "{http://www.w3.org/2000/svg}"
STRAIGHT = Line("measured", ((0.0, 0.0), (50.0, 5.0), (100.0, 10.0)), dashed=False)
BOUND = Line("bound", ((0.0, 4.0), (100.0, 4.0)), dashed=True)


def panel(*lines: Line, log_y: bool = False) -> Panel:
    return Panel("a <title>", "load, %", "latency, ms", lines, log_y)


def parsed(text: str) -> Xml.Element:
    return Xml.fromstring(text)  # noqa: S314 - our own text


def circles(root: Xml.Element) -> list[tuple[float, float]]:
    return [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in root.iter(f"{SVG}circle")]


def texts(root: Xml.Element) -> list[str]:
    return [one.text or "" for one in root.iter(f"{SVG}text")]


def test_titles_names_units_and_ticks_stand_there() -> None:
    found = texts(parsed(chart('a "model" & more', [panel(STRAIGHT, BOUND)])))
    assert {'a "model" & more', "a <title>", "load, %", "latency, ms", "measured", "bound"} <= set(found)
    assert {"0", "20", "100", "10"} <= set(found)


def test_points_lie_on_a_line_where_their_values_do() -> None:
    (x0, y0), (x1, y1), (x2, y2) = circles(parsed(chart("", [panel(STRAIGHT)])))
    assert (x1, y1) == pytest.approx(((x0 + x2) / 2, (y0 + y2) / 2), abs=0.11)
    assert x0 < x2
    assert y0 > y2, "an SVG counts from above"


def test_on_a_logarithmic_axis_equal_ratios_are_equal_distances() -> None:
    tenfold = Line("p50", ((0.0, 1.0), (50.0, 10.0), (100.0, 100.0)), dashed=False)
    (_, y0), (_, y1), (_, y2) = circles(parsed(chart("", [panel(tenfold, log_y=True)])))
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.11)


def test_a_dashed_line_has_no_marks_and_colours_follow_the_order() -> None:
    root = parsed(chart("", [panel(STRAIGHT, BOUND)]))
    assert len(circles(root)) == len(STRAIGHT.points)
    assert [one.attrib["class"] for one in root.iter(f"{SVG}polyline")][-2:] == ["line l0", "line l1 dashed"]


def test_dark_ground_has_colours_of_its_own() -> None:
    light, _, dark = chart("", [panel(STRAIGHT)]).partition("prefers-color-scheme: dark")
    for name in (".ground", ".l0", ".l1", ".l2", ".l3", ".d0", ".grid", ".axis"):
        assert f"{name} {{" in light
        assert f"{name} {{" in dark


def test_everything_stays_inside() -> None:
    root = parsed(chart("", [panel(STRAIGHT)] * 3))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert width == 3 * parsed_width(chart("", [panel(STRAIGHT)]))
    assert all(0 < x < width and 0 < y < height for x, y in circles(root))


def parsed_width(text: str) -> float:
    return float(parsed(text).attrib["width"])


@given(st.floats(min_value=1e-6, max_value=1e9))
def test_linear_ticks_begin_at_0_are_even_and_reach_just_beyond(highest: float) -> None:
    ticks = linear_ticks(highest)
    step = ticks[1]
    assert ticks[0] == 0.0
    assert 2 <= len(ticks) <= 7
    assert ticks[-1] >= highest * (1 - 1e-9)
    assert ticks[-1] - step < highest
    assert all(b - a == pytest.approx(step) for a, b in pairwise(ticks))


@given(st.floats(min_value=1e-3, max_value=1e6), st.floats(min_value=1.0, max_value=1e6))
def test_logarithmic_ticks_hold_all_and_are_few(lowest: float, ratio: float) -> None:
    ticks = log_ticks(lowest, lowest * ratio)
    assert ticks[0] <= lowest * (1 + 1e-9)
    assert ticks[-1] >= lowest * ratio * (1 - 1e-9)
    assert 2 <= len(ticks) <= 12
    assert list(ticks) == sorted(set(ticks))
