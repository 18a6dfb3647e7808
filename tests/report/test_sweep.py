"""The page of a temperature sweep: as text, and in a browser."""

import copy
import json
import re

import numpy as np
import pytest

from logitherm.report.sweep import render_sweep, sweep_tables
from logitherm.report.sweep_figures import against_temperature

T = [0.2, 0.6, 1.0, 1.4]


def _curve(*values):
    return {"value": list(values), "low": [v - 0.1 for v in values], "high": [v + 0.1 for v in values]}


def _choice(temperature, shares):
    return {
        "temperature": temperature,
        "interval": [0.6, 1.0],
        "confidence": 0.95,
        "temperatures": T,
        "shares": shares,
    }


CONTENTS = {
    "model": "m<b>",
    "file": "p.txt",
    "temperatures": T,
    "curves": {
        "loop_rate": _curve(0.9, 0.5, 0.2, 0.1),
        "excess": _curve(-0.5, -0.2, 0.0, 0.6),
        "distinct_2": _curve(0.2, 0.4, 0.6, 0.8),
        "perplexity": _curve(1.5, 4.0, 20.0, 300.0),
        "entropy": _curve(0.2, 0.5, 1.0, 2.0),
    },
    "choices": {"turning_point": _choice(0.6, [0.0, 0.7, 0.3, 0.0])},
    "prompts": 2,
    "samples": 3,
    "confidence": 0.95,
    "replicates": 1000,
    "counted": [30, 32],
    "tokens": 16,
    "seed": 0,
    "best_of": 3,
    "asked": ["Once <upon>", "</script><script>alert(1)</script>"],
    "texts": [[[f"text {t} {p} {s} </script>" for s in range(3)] for p in range(2)] for t in T],
}


@pytest.fixture
def sweep():
    return copy.deepcopy(CONTENTS)


def test_the_page_says_the_choice_and_the_numbers(sweep):
    page = render_sweep(sweep)
    assert (
        "The entropy of its texts turns at T\u00a0=\u00a00.6, 95\u00a0%\u00a0interval\u00a00.6\u00a0to\u00a01." in page
    )
    assert "<td><b>90\u00a0%</b><small>80\u00a0% to 100\u00a0%</small></td>" in page
    assert "<td><b>+0.60</b><small>+0.50 to +0.70</small></td>" in page
    assert "0.6 in 70\u00a0%, 1 in 30\u00a0%" in page
    for name in ("loop_rate", "excess", "distinct_2", "perplexity", "entropy"):
        assert f'id="{name}"' in page
    assert 'id="self_bleu"' not in page, "what was not measured is not drawn"


def test_everything_is_escaped(sweep):
    page = render_sweep(sweep)
    assert "alert(1)</script>" not in page and "m<b>" not in re.sub(r'"[^"]*"', "", page)
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page
    (block,) = re.findall(r'<script type="application/json" id="logitherm-data">(.*?)</script>', page, re.S)
    data = json.loads(block)
    assert data["asked"] == sweep["asked"] and data["texts"] == sweep["texts"]
    assert not re.search(r'(?:src|href)="(?!data:,)', page.split("<script>")[0]), "nothing is loaded"


def test_a_scorer_has_the_first_word(sweep):
    sweep["curves"] |= {"score": _curve(0.1, 0.2, 0.9, 0.3), "best_of_3": _curve(0.2, 0.4, 1.0, 0.5)}
    sweep["choices"] |= {"score": _choice(1.0, [0, 0, 1.0, 0]), "best_of": _choice(1.0, [0, 0, 1.0, 0])}
    page = render_sweep(sweep)
    assert '<p class="first">A text scores highest at T' in page
    assert '<span class="key">Score</span>mean score</th>' in page, "beside loops and excess"
    assert "<td><b>0.90</b><small>0.80 to 1.00</small></td>" in page
    assert "The best of 3 texts scores highest" in page and "pass@3" in page
    assert re.search(r'id="slider"[^>]* value="2"', page)


def test_without_choices_or_intervals(sweep):
    sweep["choices"] = {}
    for curve in sweep["curves"].values():
        curve["low"] = curve["high"] = [None] * 4
    page = render_sweep(sweep)
    assert "No temperature is named here." in page and 'id="choices"' not in page
    assert "<td><b>90\u00a0%</b></td>" in page


def _figures(page):
    (block,) = re.findall(r'<script type="application/json" id="logitherm-data">(.*?)</script>', page, re.S)
    return json.loads(block)["figures"]


def test_every_figure_marks_the_headline_and_its_interval(sweep):
    sweep["curves"] |= {"score": _curve(0.1, 0.2, 0.9, 0.3), "vote": _curve(0.2, 0.4, 0.7, 0.9)}
    sweep["choices"] |= {"score": _choice(1.0, [0, 0, 1.0, 0]), "vote": _choice(1.4, [0, 0, 0.2, 0.8])}
    sweep["choices"]["vote"]["interval"] = [1.0, 1.4]
    figures = _figures(render_sweep(sweep))
    assert set(figures) == set(sweep["curves"])
    for figure in (each[theme] for each in figures.values() for theme in ("light", "dark")):
        (block,) = (shape for shape in figure["layout"]["shapes"] if shape["type"] == "rect")
        assert (block["x0"], block["x1"]) == (1.0, 1.4)
        assert [shape["x0"] for shape in figure["layout"]["shapes"] if shape.get("line", {}).get("dash") == "dot"] == [
            1.4
        ]
        assert [note["text"] for note in figure["layout"]["annotations"]] == ["vote peaks at T = 1.4"]


def test_ties_are_said(sweep):
    sweep["curves"] |= {"score": _curve(0.1, 0.9, 0.9, 0.3), "vote": _curve(0, 0, 0, 0)}
    level = _choice(None, [0.25] * 4) | {"interval": None, "tied": T}
    sweep["choices"] |= {"score": _choice(0.6, [0.002, 0.5, 0.498, 0.0]) | {"tied": [1.0]}, "vote": level}
    page = render_sweep(sweep)
    assert "interval\u00a00.6\u00a0to\u00a01, tied with T\u00a0=\u00a01." in page
    assert "Majority vote cannot choose: all temperatures tie." in page and "no temperature: all of them tie" in page
    assert "0.2 in 0\u00a0%" not in page, "shares that round to nothing are left out"
    sweep["choices"] = {"vote": level}
    page = render_sweep(sweep)
    assert "No temperature is named here." in page and "What does m&lt;b&gt; write" in page
    assert all(not each["light"]["layout"].get("annotations") for each in _figures(page).values())


def test_it_says_why_there_is_no_turning_point(sweep):
    sweep["choices"] = {}
    sweep["no_turning_point"] = "the grid must be five positive, finite temperatures or more; got 4"
    page = render_sweep(sweep)
    assert "For a turning point of the entropy the grid must be five positive" in page
    assert "At which temperature" not in page and "no law of nature" not in page


def test_a_perplexity_has_three_digits(sweep):
    sweep["curves"]["perplexity"]["value"][3] = 12345.6
    assert "<td>12300</td>" in render_sweep(sweep)


def test_nan_is_refused(sweep):
    sweep["curves"]["entropy"]["value"][0] = float("nan")
    with pytest.raises(ValueError, match=r"NaN|JSON"):
        render_sweep(sweep)


def test_tables(sweep):
    tables = sweep_tables(sweep)
    assert tables["entropy"] == {"temperature": T, **sweep["curves"]["entropy"]}
    assert tables["numbers"]["excess_low"] == sweep["curves"]["excess"]["low"]
    assert {len(column) for column in tables["numbers"].values()} == {4}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_figure_draws_what_comes_in(theme):
    curve = {"value": [1.0, None, 3.0], "low": [0.5, None, None], "high": [1.5, None, 4.0]}
    chosen = {"temperature": 0.2, "interval": [0.1, 0.3], "name": "here"}
    figure = against_temperature([0.1, 0.2, 0.3], curve, title="x", chosen=chosen, level=0.0, theme=theme)
    band, value = figure.data
    assert value.meta == "value" and list(value.y) == [1.0, None, 3.0]
    assert band.meta == "band" and list(band.x) == [0.1, 0.1] and list(band.y) == [1.5, 0.5]
    assert len(figure.layout.shapes) == 3 and figure.layout.annotations[0].text == "here"
    bare = against_temperature([0.1], {"value": [1.0], "low": [None], "high": [None]}, title="x", theme=theme)
    assert [trace.meta for trace in bare.data] == ["value"]
    assert not np.isnan(bare.layout.xaxis.range).any()
