"""The page of a sweep in a real browser: the slider changes texts and readings, nothing is requested."""

import importlib.util
from pathlib import Path

import pytest

from logitherm.report.sweep import render_sweep


def _beside(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONTENTS = _beside("test_sweep").CONTENTS
browser = _beside("test_browser").browser


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_slider_shows_the_texts(browser, tmp_path, width, scheme):
    file = tmp_path / "sweep.html"
    file.write_text(render_sweep(CONTENTS), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    seen = []
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("request", lambda request: seen.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    assert page.input_value("#slider") == "1", "it starts where the entropy turns"
    for i, temperature in enumerate(CONTENTS["temperatures"]):
        page.evaluate(
            "(i) => { const s = document.getElementById('slider'); s.value = i; s.dispatchEvent(new Event('input')); }",
            i,
        )
        assert page.inner_text("#show-temperature") == f"{temperature:g}"
        texts = [each.strip() for each in page.locator("#texts li").all_inner_texts()]
        assert texts == ["Once <upon>" + text for text in CONTENTS["texts"][i][0]]
    tall = page.evaluate("[...document.querySelectorAll('#texts li')].map((e) => [e.clientHeight, e.scrollHeight])")
    assert all(high == needed < 130 for high, needed in tall), "boxes are as high as their texts, which are short"
    wider = page.evaluate("(e => e.scrollWidth > e.clientWidth)(document.getElementById('all-columns'))")
    assert wider == (width == 390) == page.is_visible("#more-columns"), "where the table goes on, it is said"
    page.select_option("#prompt", "1")
    assert "alert(1)" in page.locator("#texts li").first.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing sticks out"
    assert page.locator("#loop_rate .scatterlayer .trace").count() == 3, "band, curve, and where the slider stands"
    with page.expect_download() as saved:
        page.click("button[data-export=csv][data-figure=excess]")
    assert Path(saved.value.path()).read_text().splitlines()[0] == "temperature,value,low,high"
    page.close()
    assert [each for each in seen if not each.startswith("blob:")] == [file.as_uri()]
