"""The page as text: all sections, everything escaped, nothing loaded from anywhere."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from logitherm.report import render_report

SECTIONS = [
    "verdict",
    "temperature",
    "scores",
    "reliability",
    "thermostat",
    "histogram",
    "likelihood",
    "use",
    "how-to-read",
    "how-computed",
]
FIGURES = ("reliability-before", "reliability-after", "slider-diagram", "confidence-histogram", "nll-curve")
VOID = {"meta", "link", "input", "br", "hr", "img"}


class Page(HTMLParser):
    """Elements with their attributes, text outside scripts, and a check that tags nest."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.scripts, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))

    @property
    def ids(self):
        return [attrs["id"] for _, attrs in self.elements if "id" in attrs]

    @property
    def data(self):
        return json.loads(self.scripts[0])


def test_every_kind_of_study_renders_whole(any_contents, wrap):
    text = render_report(wrap(any_contents))
    page = Page(text)
    assert set(SECTIONS) | set(FIGURES) | {"slider"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert len(text.encode()) < 6_000_000
    assert page.data["study"] == any_contents
    assert set(page.data["figures"]) == set(FIGURES)
    assert all(set(themes) == {"light", "dark"} for themes in page.data["figures"].values())
    assert "$" not in page.text, "a placeholder was left"
    assert all(sentence in page.text for sentence in any_contents["verdict"])
    assert "None" not in page.text
    assert "nan" not in page.text.lower().split()


def test_what_is_said(contents, wrap):
    text = Page(render_report(wrap(contents))).text
    fit = contents["fit"]
    assert f"T = {fit['temperature']:.2f}" in text
    assert f"{fit['interval'][0]:.2f} to {fit['interval'][1]:.2f}" in text
    for name in ("standard_error", "sandwich_error"):
        assert f"{fit[name]:.3g}" in text
    for score in ("Accuracy", "Negative log-likelihood", "Brier score", "ECE", "Maximum calibration error"):
        assert score in text
    assert "logitherm apply calibrator.json logits.npz -o probs.npz" in text
    for term in ("right-closed bins", "weights of the rows are resampled", "Profile likelihood", "sandwich"):
        assert term in text
    assert "15 equal-width" in text


def test_the_table_holds_the_scores(contents, wrap):
    contents["before"]["ece"] = {"value": 0.0412, "low": 0.035, "high": 0.0475}
    contents["after"]["ece"] = {"value": 0.0057, "low": 0.0041, "high": 0.0094}
    contents["after"]["nll"] = {"value": None, "low": None, "high": None}
    text = Page(render_report(wrap(contents))).text
    assert "4.12 %3.50\u20134.75" in text
    assert "0.57 %0.41\u20130.94" in text
    assert "undefinedno interval" in text


@pytest.mark.parametrize(("kind", "heading"), [("zero", "T \u2192 0"), ("infinite", "T \u2192 \u221e")])
def test_a_bound_is_said_and_not_given_as_a_number(contents_of, wrap, kind, heading):
    text = Page(render_report(wrap(contents_of(kind)))).text
    assert heading in text
    assert "No finite temperature was fitted" in text
    assert "There is nothing here to apply" in text
    assert "Or divide the logits by" not in text
    assert "logitherm apply" not in text
    assert re.search(r'class="tick" style="left:(0|100)\.0%">(0|∞)<', render_report(wrap(contents_of(kind))))


def test_far_temperatures_are_powers_of_ten(far_contents, wrap):
    page = Page(render_report(wrap(far_contents)))
    power = "10\u207b\u2077" if far_contents["fit"]["temperature"] < 1 else "10\u2077"
    found = far_contents["verdict"][0].split("=")[1].split("e")[0].strip()
    assert page.text.count(f"T = {found} \u00d7 {power}") >= 3, "verdict, heading and table"
    assert not re.search(r"\de[+-]?\d", page.text)
    ticks = [attrs for tag, attrs in page.elements if attrs.get("class") == "tick"]
    assert 3 <= len(ticks) <= 7


def test_a_score_is_written_alike_in_table_and_slider(contents, wrap):
    page, grid = Page(render_report(wrap(contents))), contents["reliability"]["grid"]
    reading = page.data["readings"][grid["temperature"].index(1.0)]
    assert reading["temperature"] == "1.00"
    for key in ("ece", "nll", "brier"):
        value = contents["before"][key]["value"]
        assert reading[key] == (f"{100 * value:.2f}\u00a0%" if key == "ece" else f"{value:.4f}")
        assert reading[key].replace("\u00a0", " ") in page.text


def test_zero_labels_and_no_convergence_are_said(contents, wrap):
    contents["fit"] |= {"zero_labels": 29, "converged": False}
    text = Page(render_report(wrap(contents))).text
    assert "29 rows whose true label has probability zero" in text
    assert "did not converge" in text


def test_words_of_the_user_are_escaped(contents, wrap):
    evil = '</script><script>alert("x")</script><img src=x onerror=alert(1)>&amp; ${x} $title'
    contents |= {"name": evil, "scored_on": evil, "verdict": [evil, evil]}
    text = render_report(wrap(contents), title=evil)
    page = Page(text)
    assert text.count("<script") == 3, "data, Plotly, page"
    assert "<img" not in text.split('<script type="application/json"')[0]
    assert page.data["study"]["name"] == evil
    assert page.text.count(evil) >= 5
    assert re.fullmatch(r"[A-Za-z0-9_-]+", page.data["stem"])


def test_default_title_names_the_study(contents, wrap):
    page = render_report(wrap(contents))
    assert "<title>How honest is overconfident.val.npz?</title>" in page
    assert "<title>Release 3</title>" in render_report(wrap(contents), title="Release 3")


def test_nothing_is_loaded_from_anywhere(contents, wrap):
    page = Page(render_report(wrap(contents)))
    for tag, attrs in page.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert re.match(r"data:|#", attrs.get(name) or "#"), (tag, attrs)
    policy = next(attrs["content"] for _, attrs in page.elements if "http-equiv" in attrs)
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_no_style_or_script_of_ours_knows_an_address(contents, wrap):
    text = render_report(wrap(contents))
    own = text[: text.index("<script>")] + text[text.rindex("<script>") :]
    assert "http://" not in own
    assert "https://" not in own
    assert "@import" not in own
    assert "url(" not in own


def test_the_page_is_the_same_each_time(contents, wrap):
    assert render_report(wrap(contents)) == render_report(wrap(contents))


def test_undefined_numbers_must_be_none(contents, wrap):
    contents["fit"]["nll_after"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        render_report(wrap(contents))


def test_importing_the_report_does_not_load_plotly():
    code = "import sys, logitherm.report; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_another_method_than_one_temperature_is_the_big_one_and_the_temperature_second(contents, wrap):
    plain_page = render_report(wrap(contents))
    assert 'class="saved"' not in plain_page and "One temperature instead" not in plain_page
    contents |= {"method": "ensemble", "words": "a mixture"}
    page = render_report(wrap(contents))
    text = Page(page).text
    assert text.index("Ensemble") < text.index("One temperature instead") < text.index("T divides the logits")
    for key, decimals in (("nll", 4), ("brier", 4)):
        before, after = (contents[side][key]["value"] for side in ("before", "after"))
        assert f"{before:.{decimals}f} \u2192 {after:.{decimals}f}" in text
    assert "Method ensemble is not on this scale" in text
    assert "Method ensemble is fitted to the same rows" in text


def test_where_few_rows_decide_the_interval_is_the_robust_one(contents, wrap):
    contents["fit"]["sandwich_interval"] = [1.11, 3.33]
    contents["state"] = {"kind": "overconfident", "mixed": False, "robust": True, "interval": [1.11, 3.33]}
    contents["state"]["p_value"] = 0.0213
    page = Page(render_report(wrap(contents)))
    text = page.text
    assert "1.11 to 3.33by the sandwich error: a few rows decide" in text
    assert "p = 0.021 (robust, by the sandwich error)" in text and "Likelihood ratio" not in text
    assert "shaded: its robust 95 % interval, by the sandwich error" in text
    low, high = contents["fit"]["interval"]
    assert f"{low:.2f} to {high:.2f}, is too narrow" in text and "as a few rows decide" in text
    figure, table = page.data["figures"]["nll-curve"]["light"], page.data["tables"]["nll-curve"]
    shaded = next(shape for shape in figure["layout"]["shapes"] if shape["type"] == "rect")
    assert [shaded["x0"], shaded["x1"]] == [1.11, 3.33] == table["temperature"][-2:]


def test_a_prior_is_said(contents, wrap):
    without = {"temperature": 0.0, "interval": None, "at_bound": "zero"}
    contents["prior"] = {"centre": 1.0, "deviation": 0.5, "without": without}
    text = Page(render_report(wrap(contents))).text
    for part in (
        "T by these rows alone0",
        "Most probable temperature under the prior",
        "Normal approximation of log T",
    ):
        assert part in text
    assert "is the lowest point" not in text and "Profile likelihood" not in text


def test_one_row_and_one_class_are_singular(contents, wrap):
    contents |= {"n_fit": 1, "classes": 1}
    contents["fit"]["zero_labels"] = 1
    text = Page(render_report(wrap(contents))).text
    assert "Fitted on 1 row of overconfident.val.npz with 1 class;" in text and "1 row whose true label" in text
