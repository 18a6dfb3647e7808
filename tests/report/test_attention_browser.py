"""The page about attention in a real browser: cells choose a head, the slider turns it, nothing is requested."""

import importlib.util
from pathlib import Path

import pytest

from logitherm.report.attention import render_attention


def _beside(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONTENTS = _beside("test_attention_report").CONTENTS
browser = _beside("test_browser").browser
SLIDE = "(i) => { const s = document.getElementById('slider'); s.value = i; s.dispatchEvent(new Event('input')); }"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_cells_and_the_slider_show_a_head(browser, tmp_path, width, scheme):
    file = tmp_path / "heads.html"
    file.write_text(render_attention(CONTENTS), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    seen = []
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.on("request", lambda request: seen.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]")
    assert (page.input_value("#layer"), page.input_value("#number")) == ("0", "0"), "it starts at a head of note"
    assert page.inner_text("#show-about").startswith("Collapsed. Own T = 2.")
    assert page.input_value("#slider") == "2" and page.inner_text("#show-relative") == "1"
    assert page.locator("#temperatures .scatterlayer .trace").count() == 4, "two curves, and where the slider stands"
    page.evaluate(SLIDE, 0)
    assert (page.inner_text("#show-relative"), page.inner_text("#show-temperature")) == ("0.25", "0.5")
    cold = page.inner_text("#show-entropy")
    page.evaluate(SLIDE, 4)
    assert float(page.inner_text("#show-entropy")) > float(cold)
    page.locator("#heads").scroll_into_view_if_needed()
    box = page.locator("#heads .nsewdrag").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.25)  # the middle of the first row
    assert (page.input_value("#layer"), page.input_value("#number")) == ("0", "1")
    assert page.inner_text("#show-about").startswith("Uniform.")
    page.select_option("#layer", "1")
    assert page.input_value("#number") == "1" and "Own T = 2." in page.inner_text("#show-about")
    for name in ("support", "first_key", "normalised_entropy"):
        page.select_option("#quantity", name)
        shown = page.evaluate("document.getElementById('positions').data.find((e) => e.meta === 'value').y")
        assert shown == CONTENTS["positions"][name][1][1]
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing sticks out"
    with page.expect_download() as saved:
        page.click("button[data-export=csv][data-figure=heads]")
    assert Path(saved.value.path()).read_text().startswith("layer,head,normalised_entropy,entropy,")
    with page.expect_download() as saved:
        page.click("button[data-export=svg][data-figure=heads]")
    assert Path(saved.value.path()).read_text().startswith("<svg")
    page.close()
    assert [each for each in seen if not each.startswith(("blob:", "data:"))] == [file.as_uri()]
