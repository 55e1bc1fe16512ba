"""The live page in a real browser: figures, load, hostile texts, token, sizes, colours, accessibility."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from streamer.page.live import PageOptions
from tests.page.road import HOSTILE_LABEL, LiveRoad, live_road
from tests.tools import require_tool

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
TOKEN = "of-these-tests-alone"  # noqa: S105 - keeps nobody out
PATIENCE_MS = 20_000
HOSTILE = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 2'><svg onload='window.hacked = 3'>",
    "[click](javascript:window.hacked=4) **bold** ![x](http://192.0.2.1/x.png)",
    "\u202egnirts desrever\u202c and \u2066isolated",
    "nul \x00 bell \x07 escape \x1b[31m",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301",
    "long " + "x" * 100_000,
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = require_tool("chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def road() -> Iterator[LiveRoad]:
    """A road at rest: every kind of text, of label and of dead letter has come."""
    with live_road(PageOptions(show_text=True, token=None)) as road:
        road.send([f"the parcel {i} is late" for i in range(200)] + [None] * 3)
        road.send([f"post number {i}" for i in range(90)], topic="posts")
        road.send([f"the parcel {i} is late" for i in range(50)])
        road.settle()
        yield road


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser without a past; nothing on the page may fail, and nothing may be fetched from elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    wrong: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    assert wrong == []
    assert {url for url in asked if not url.startswith("http://127.0.0.1:")} == set()


def opened(page: Page, road: LiveRoad) -> Page:
    """The page, once it shows all that has ended."""
    page.goto(road.address)
    labelled = int(road.metric("streamer_records_published_total"))
    expect(figure(page, "labelled")).to_have_text(f"{labelled:,}" if labelled < 10_000 else re.compile("K|M"))
    expect(figure(page, "dead")).to_have_text(f"{int(road.metric('streamer_records_dead_lettered_total'))}")
    expect(figure(page, "lag")).to_have_text("0")
    return page


def figure(page: Page, name: str) -> Any:
    return page.locator(f"#figure-{name} dd").first


def number(text: str | None) -> int:
    return int(re.sub(r"\D", "", text or ""))


def by_label(metrics: Any, name: str, **labels: str) -> int:
    """Sum over the series of a metric that have these label values."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return int(sum(v for k, v in metrics.items() if k.startswith(name) and all(one in k for one in wanted)))


def test_figures_are_the_metrics(page: Page, road: LiveRoad) -> None:
    opened(page, road)
    metrics = road.metrics()
    assert page.title() == "streamer"
    expect(page.locator("#condition-word")).to_have_text(re.compile("Idle|Labelling"))
    expect(page.locator("#model")).to_have_text("fake \u00b7 cpu \u00b7 float32")
    labelled, read = (by_label(metrics, f"streamer_records_{name}_total") for name in ("published", "consumed"))
    dead = by_label(metrics, "streamer_records_dead_lettered_total")
    assert number(figure(page, "labelled").text_content()) == labelled == read - dead
    assert number(page.locator("#figure-labelled .more").text_content()) == read
    assert number(figure(page, "dead").text_content()) == dead
    assert number(figure(page, "lag").text_content()) == by_label(metrics, "streamer_lag_records") == 0

    for topic, facets in (("tickets", ("sentiment", "topic")), ("posts", ("event",))):
        page.get_by_role("button", name=topic, exact=True).click()
        decided = by_label(metrics, "streamer_records_labelled_total", topic=topic)
        for card, facet in zip(page.locator(".facet").all(), facets, strict=True):
            shown = dict(zip(card.locator(".label bdi").all_text_contents(), counts(card), strict=True))
            abstained = by_label(metrics, "streamer_abstentions_total", topic=topic, facet=facet)
            assert shown.pop("abstained", 0) == abstained
            others = [name for name in shown if name.endswith("more labels")]
            given = by_label(metrics, "streamer_labels_total", topic=topic, facet=facet)
            assert sum(shown.values()) == given
            for name, count in shown.items():
                if name not in others:
                    assert count == by_label(metrics, "streamer_labels_total", topic=topic, facet=facet, label=name)
            if facet != "topic":  # one of them holds, or the facet abstained
                assert given + abstained == decided

    (code,) = page.locator("#dead > li").all()
    assert (code.locator(".code").text_content(), number(code.locator(".count").text_content())) == ("not_json", dead)
    routes = dict(zip(page.locator("#routes .name").all_text_contents(), counts(page.locator("#routes")), strict=True))
    assert routes == {
        to: by_label(metrics, "streamer_records_routed_total", to=to)
        for to in ("tickets.out", "tickets.billing", "posts.out")
    }
    versions = re.findall(r'version="(\w+)"', " ".join(k for k in metrics if k.startswith("streamer_label_set_info")))
    assert sorted(page.locator("#label-sets code").all_text_contents()) == sorted(versions)
    engine = dict(zip(page.locator("#engine dt").all_text_contents(), page.locator("#engine dd").all(), strict=True))
    windows, documents = (by_label(metrics, f"streamer_window_documents_{part}") for part in ("count", "sum"))
    expect(engine["Windows"]).to_have_text(f"{windows}, {documents} records")


def counts(place: Any) -> list[int]:
    return [number(text) for text in place.locator(".count").all_text_contents()]


def test_hostile_texts_are_shown_and_do_nothing(page: Page, road: LiveRoad) -> None:
    opened(page, road)
    shown = page.locator("#records .text")
    for pair in (HOSTILE[:2], HOSTILE[2:4], HOSTILE[4:6], HOSTILE[6:]):  # so many are taken of a window
        road.send(pair)
        for text in pair:
            expected = seen(text)
            expect(shown.filter(has_text=expected[:60]).first).to_have_text(expected)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main script, main img, main svg[onload], main a[href^=javascript]").count() == 0
    page.get_by_role("button", name="tickets", exact=True).click()
    expect(page.locator(".facet .label bdi").filter(has_text=HOSTILE_LABEL)).to_have_count(1)
    assert page.locator("b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def seen(text: str) -> str:
    """How the page shows a text: its beginning, with control and direction signs made visible."""
    pictures = {code: chr(0x2400 + code) for code in (0x00, 0x07, 0x1B)}
    return text[:400].translate(pictures | {code: f"\u27e8U+{code:04X}\u27e9" for code in (0x202E, 0x202C, 0x2066)})


def test_ten_thousand_events_do_not_slow_it(page: Page, context: BrowserContext, road: LiveRoad) -> None:
    opened(page, road)
    session = context.new_cdp_session(page)
    session.send("Performance.enable")

    def state() -> dict[str, float]:
        session.send("HeapProfiler.collectGarbage")
        found = session.send("Performance.getMetrics")["metrics"]
        return {one["name"]: one["value"] for one in found}

    page.evaluate(
        """() => {
            window.worst_ms = 0;
            const look = (list) => {
                for (const one of list.getEntries()) window.worst_ms = Math.max(window.worst_ms, one.duration);
            };
            new PerformanceObserver(look).observe({ entryTypes: ["longtask"] });
        }"""
    )
    before, began_s = state(), time.monotonic()
    for round_ in range(10):
        road.send([f"{round_} {'word ' * 40} number {i}" for i in range(900)])
        road.send([f"post {round_} {i}" for i in range(100)], topic="posts")
        page.wait_for_timeout(200)
    road.settle()
    documents = f"{int(road.metric('streamer_window_documents_sum')):,} records"
    expect(page.locator("#engine dd").filter(has_text=documents)).to_be_visible()
    after, worst_ms = state(), page.evaluate("window.worst_ms")
    seconds = time.monotonic() - began_s
    busy_s = sum(after[name] - before[name] for name in ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration"))
    print(
        f"busy {busy_s:.2f} of {seconds:.1f} s, longest task {worst_ms:.0f} ms, "
        f"heap {after['JSHeapUsedSize'] / 1e6:.1f} MB, nodes {after['Nodes']:.0f}"
    )
    assert busy_s < 0.25 * seconds
    assert worst_ms < 500  # on a machine with other work; a tenth of that where there is none
    assert page.locator("body *").count() < 1500
    assert page.locator("#records > li").count() <= 12
    assert after["Nodes"] < 6000
    assert after["JSHeapUsedSize"] < 20e6


def test_a_token_is_asked_for_and_remembered(browser: Browser) -> None:
    with ExitStack() as running:
        road = running.enter_context(live_road(PageOptions(show_text=False, token=TOKEN)))
        context = running.enter_context(browser.new_context())
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        answer = page.goto(road.address)
        assert answer is not None
        assert answer.status == 401
        assert axe_findings(page) == []
        page.get_by_label("Token").fill("not the token at all")
        page.get_by_role("button").click()
        expect(page.get_by_role("heading")).to_have_text("This page needs its token")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        condition = page.locator("#condition-word")
        expect(condition).to_have_text(re.compile("Idle|Waiting"))
        assert page.url == road.address  # without the token
        (cookie,) = context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert TOKEN not in cookie["value"]
        assert page.evaluate("document.cookie") == ""

        road.send(["a private text"])
        expect(figure(page, "labelled")).to_have_text("1")
        expect(page.locator("#records > li")).to_have_count(1)
        assert "private" not in page.content()
        expect(page.locator("#records-note")).to_be_visible()

        road.end()
        expect(condition).to_have_text("Connection lost, trying again")


def test_light_and_dark(page: Page, road: LiveRoad) -> None:
    opened(page, road)

    def paper() -> int:
        return sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))))

    assert paper() > 600
    page.emulate_media(color_scheme="dark")
    assert paper() < 150
    theme = page.get_by_role("button", name="Theme")
    theme.click()
    expect(theme).to_have_text("Theme: light")
    assert paper() > 600
    theme.click()
    page.emulate_media(color_scheme="light")
    page.reload()
    expect(theme).to_have_text("Theme: dark")
    assert paper() < 150
    theme.click()
    expect(theme).to_have_text("Theme: automatic")
    assert paper() > 600


def axe_findings(page: Page) -> list[str]:
    """What is wrong by axe: rule and places."""
    result = Axe().run(page)
    return [f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}" for one in result.response["violations"]]


def test_axe_finds_nothing_and_a_phone_need_not_scroll_sideways(page: Page, road: LiveRoad) -> None:
    opened(page, road)
    looks: tuple[tuple[int, Literal["light", "dark"]], ...] = ((1280, "light"), (375, "dark"))
    for width, scheme in looks:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for name in ("condition", "rate", "figures", "facets", "records", "engine"):
            expect(page.locator(f"#{name}")).to_be_visible()
        assert axe_findings(page) == [], f"{scheme}, {width} px"
    page.set_viewport_size({"width": 320, "height": 600})
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_all_of_it_by_keyboard(page: Page, road: LiveRoad) -> None:
    opened(page, road)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the figures")).to_be_focused()
    for name in ("Theme", "tickets", "posts"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name=name)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".facet h3")).to_have_text("event")
    page.keyboard.press("Tab")
    hold = page.locator("#hold")
    expect(hold).to_be_focused()
    page.keyboard.press("Space")
    expect(hold).to_have_attribute("aria-pressed", "true")
    first = page.locator("#records .row").first.get_attribute("data-key")
    ended = int(road.metric("streamer_records_published_total"))
    road.send(["while it is held"])
    expect(figure(page, "labelled")).to_have_text(f"{ended + 1:,}" if ended < 9_999 else re.compile("K"))
    assert page.locator("#records .row").first.get_attribute("data-key") == first
    page.keyboard.press("Space")
    expect(page.locator("#records .text").first).to_have_text("while it is held")
