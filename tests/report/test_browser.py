"""The page in a real browser: the slider moves the diagram, the exports hold the numbers, nothing is requested.

Skipped without playwright or Chromium; with LOGITHERM_REQUIRE_BROWSER=1 that is a failure.
"""

import csv
import io
import json
import os
import re
import shutil
import time

import pytest

from logitherm.report import render_report
from logitherm.report.tables import export_tables

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _missing(reason):
    if os.environ.get("LOGITHERM_REQUIRE_BROWSER") == "1":
        pytest.fail(f"LOGITHERM_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed (pip install playwright)")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        _missing("no chromium, chromium-browser or google-chrome on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, tmp_path, wrap):
    """Open a study's page; after the test, no console message, error or request may have been seen."""
    seen, pages = [], []

    def visit(contents, *, width=1280, scheme="light"):
        file = tmp_path / "report.html"
        file.write_text(render_report(wrap(contents)), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        pages.append(page)
        page.on("console", lambda message: seen.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("request", lambda request: seen.append(f"request: {request.url}"))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        assert seen.pop(0) == f"request: {file.as_uri()}"
        return page

    yield visit
    for page in pages:
        page.close()
    assert seen == []


def until(page, condition, seconds=10):
    """Wait for a condition; the page's policy forbids the eval behind Playwright's own wait_for_function."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def shown(page, figure, meta):
    """The x and y that Plotly now shows for one trace."""
    return page.evaluate(
        "([id, meta]) => { const t = document.getElementById(id).data.find((t) => t.meta === meta);"
        " return [Array.from(t.x), Array.from(t.y)]; }",
        [figure, meta],
    )


def move_slider(page, index):
    page.evaluate(
        "(i) => { const s = document.getElementById('slider'); s.value = i; s.dispatchEvent(new Event('input')); }",
        index,
    )


def test_the_slider_moves_the_diagram_and_the_readout(visit, contents):
    page, grid = visit(contents), contents["reliability"]["grid"]
    seen = set()
    for index in (0, 12, len(grid["temperature"]) - 1):
        move_slider(page, index)
        diagram = grid["diagrams"][index]
        assert shown(page, "slider-diagram", "accuracy") == [diagram["confidence"], diagram["accuracy"]]
        assert shown(page, "slider-diagram", "count")[1] == diagram["count"]
        assert float(page.inner_text("#show-temperature")) == pytest.approx(grid["temperature"][index], rel=5e-3)
        assert page.inner_text("#show-ece") == f"{100 * grid['ece'][index]:.2f}\u00a0%"
        assert float(page.inner_text("#show-nll")) == pytest.approx(grid["nll"][index], abs=6e-5)
        assert float(page.inner_text("#show-brier")) == pytest.approx(grid["brier"][index], abs=6e-5)
        seen.add((page.inner_text("#show-temperature"), page.inner_text("#show-ece")))
        drawn = page.eval_on_selector_all("#slider-diagram .scatterlayer .point", "nodes => nodes.length")
        assert drawn == sum(c is not None for c in diagram["confidence"])
    assert len(seen) == 3


def test_the_slider_obeys_keyboard_and_buttons(visit, contents):
    page, temperatures = visit(contents), contents["reliability"]["grid"]["temperature"]
    one, fitted = temperatures.index(1.0), temperatures.index(contents["fit"]["temperature"])
    assert page.input_value("#slider") == str(one), "it starts with the model as it came"
    page.focus("#slider")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#slider") == str(one + 1)
    assert page.get_attribute("#slider", "aria-valuetext") == "T = " + page.inner_text("#show-temperature")
    page.keyboard.press("Home")
    assert "Colder than the fitted range" in page.inner_text("#show-words")
    page.keyboard.press("End")
    assert "Hotter than the fitted range" in page.inner_text("#show-words")
    page.click("#go-fitted")
    assert page.input_value("#slider") == str(fitted)
    assert "Within the range" in page.inner_text("#show-words")
    page.click("#go-one")
    assert page.inner_text("#show-temperature") == "1.00"


@pytest.mark.parametrize("kind", ["zero", "infinite"])
def test_a_bound_disables_the_fitted_button(visit, contents_of, kind):
    page = visit(contents_of(kind))
    assert page.is_disabled("#go-fitted")
    move_slider(page, 3)
    assert "No finite temperature" in page.inner_text("#show-words")


def download(page, selector):
    with page.expect_download() as waiting:
        page.click(selector)
    return waiting.value.suggested_filename, waiting.value.path().read_bytes().decode()


def test_every_table_exports_as_csv(visit, contents):
    page = visit(contents)
    for name, table in export_tables(contents).items():
        filename, text = download(page, f'button[data-export="csv"][data-figure="{name}"]')
        assert filename == f"overconfident-val-npz-{name}.csv"
        head, *rows = csv.reader(io.StringIO(text))
        assert head == list(table)
        for cells, values in zip(zip(*rows, strict=True), table.values(), strict=True):
            for cell, value in zip(cells, values, strict=True):
                assert (cell or None) == value if value is None or isinstance(value, str) else float(cell) == value


def test_every_table_exports_as_json_and_figures_as_svg(visit, contents):
    page = visit(contents)  # ten downloads a page at most: then Chromium asks its user
    for name, table in export_tables(contents).items():
        _, text = download(page, f'button[data-export="json"][data-figure="{name}"]')
        assert json.loads(text) == table
    filename, text = download(page, 'button[data-export="study"]')
    assert filename == "overconfident-val-npz-report.json"
    assert json.loads(text) == contents
    filename, text = download(page, 'button[data-export="svg"][data-figure="nll-curve"]')
    assert filename == "overconfident-val-npz-nll-curve.svg"
    assert text.startswith("<svg")


def test_figures_are_exported_light_from_a_dark_page(visit, contents):
    page = visit(contents, scheme="dark")
    for name in ("nll-curve", "slider-diagram"):
        _, text = download(page, f'button[data-export="svg"][data-figure="{name}"]')
        assert "rgb(255, 255, 255)" in text
        assert "rgb(23, 28, 35)" not in text, "the surface of the dark theme"


CHARTS_FIT = """() => [...document.querySelectorAll(".chart")].every(
    (chart) => Math.abs(chart.clientWidth - chart.querySelector("svg").clientWidth) <= 1)"""
OUTSIDE = """() => [...document.querySelectorAll("main *")].filter((element) =>
    !element.closest("svg") && !element.closest(".visually-hidden") && element.getClientRects().length
    && element.getBoundingClientRect().right > innerWidth + 0.5).map((element) => element.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("first", [390, 1280])
def test_nothing_overflows(visit, any_contents, first):
    page = visit(any_contents, width=first)
    for width in (first, 768, 360):
        page.set_viewport_size({"width": width, "height": 900})
        until(page, CHARTS_FIT)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OUTSIDE) == []


def test_far_temperatures_do_not_overflow(visit, far_contents):
    page = visit(far_contents, width=390)
    for width in (390, 360):
        page.set_viewport_size({"width": width, "height": 900})
        until(page, CHARTS_FIT)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OUTSIDE) == []
        inside = page.evaluate("""() => {
            const card = document.getElementById("temperature").getBoundingClientRect();
            return [...document.querySelectorAll(".gauge *")].map((e) => e.getBoundingClientRect())
                .every((box) => box.left >= card.left && box.right <= card.right); }""")
        assert inside


@pytest.mark.parametrize("width", [390, 360])
def test_slider_reading_and_diagram_share_the_screen_of_a_phone(visit, contents, width):
    page = visit(contents, width=width)
    until(page, CHARTS_FIT)
    top = page.locator("#readout").bounding_box()["y"]
    diagram = page.locator("#slider-diagram").bounding_box()
    assert top < page.locator("#slider").bounding_box()["y"] < diagram["y"]
    assert diagram["y"] + diagram["height"] - top < 560


def test_long_names_do_not_overflow(visit, contents):
    contents |= {"name": "a" * 150 + ".npz", "scored_on": "b" * 150, "verdict": ["c" * 150, "d" * 150]}
    page = visit(contents, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_charts_follow_the_colour_scheme_and_print_light(visit, contents):
    page = visit(contents, scheme="dark")
    background = "document.getElementById('nll-curve').layout.paper_bgcolor"
    body = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background), page.evaluate(body)
    page.emulate_media(color_scheme="light")
    until(page, f"() => {background} === '#ffffff'")
    assert page.evaluate(body) != dark[1]
    page.emulate_media(color_scheme="dark")
    until(page, f"() => {background} === '{dark[0]}'")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(background) == "#ffffff"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(background) == dark[0]


def test_it_is_labelled_for_those_who_listen(visit, contents):
    page = visit(contents)
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('button, input, [role=img]')]"
        ".filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || (e.labels || []).length)).length"
    )
    assert unnamed == 0
    levels = page.eval_on_selector_all("h1, h2, h3", "nodes => nodes.map((n) => Number(n.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert re.search(r"^en", page.get_attribute("html", "lang"))


CUT = """() => [...document.querySelectorAll(".chart")].filter((chart) => {
    const edge = chart.querySelector("svg").getBoundingClientRect().left, plot = chart._fullLayout;
    return Math.abs(plot.width - chart.getBoundingClientRect().width) > 1 || plot._size.l !== 56
        || [...chart.querySelectorAll(".ytick text, .y2tick text")].some((t) => t.getBoundingClientRect().left < edge);
    }).map((chart) => chart.id)"""


def test_labels_are_whole_after_a_window_that_was_too_narrow(visit, contents):
    page = visit(contents)
    assert page.evaluate(CUT) == []
    page.set_viewport_size({"width": 40, "height": 900})
    page.wait_for_timeout(200)
    page.set_viewport_size({"width": 1280, "height": 900})
    until(page, CHARTS_FIT)
    assert page.evaluate(CUT) == []
