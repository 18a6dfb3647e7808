"""Figures draw what they are given: no number appears that did not come in."""

import json
import math

import pytest

from logitherm.report import figures, words


def by_meta(figure):
    return {trace.meta: trace for trace in figure.data}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("role", ["before", "after", "live"])
def test_reliability_draws_the_numbers_it_is_given(contents, role, theme):
    diagram = contents["reliability"]["before"]
    figure = figures.reliability(diagram, role=role, rows=3000, classes=10, theme=theme)
    traces = by_meta(figure)
    assert list(traces) == ["band", "diagonal", "gap", "accuracy", "count"]
    assert list(traces["accuracy"].x) == diagram["confidence"]
    assert list(traces["accuracy"].y) == diagram["accuracy"]
    assert list(traces["count"].y) == diagram["count"]
    assert list(traces["band"].base) == diagram["low"]
    tops = [b + h for b, h in zip(traces["band"].base, traces["band"].y, strict=True) if b is not None]
    assert tops == pytest.approx([h for h in diagram["high"] if h is not None])
    assert traces["diagonal"].x == traces["diagonal"].y == (0, 1)
    assert traces["accuracy"].marker.color == figures.THEMES[theme].line[role]
    assert figure.layout.paper_bgcolor == figures.THEMES[theme].surface


def test_an_empty_bin_draws_nothing(contents):
    diagram = contents["reliability"]["before"]
    empty = [i for i, n in enumerate(diagram["count"]) if n == 0]
    assert empty, "the study should have an empty bin"
    traces = by_meta(figures.reliability(diagram, role="before", rows=3000, classes=10))
    assert all(traces["accuracy"].y[i] is None and traces["band"].y[i] is None for i in empty)
    filled = len(diagram["count"]) - len(empty)
    assert len(traces["gap"].x) == 3 * filled


def test_a_grid_diagram_has_no_band(contents):
    diagram = contents["reliability"]["grid"]["diagrams"][0]
    traces = by_meta(figures.reliability(diagram, role="live", rows=3000, classes=10))
    assert set(traces["band"].y) == {None}
    assert not any("interval" in words for words in traces["accuracy"].hovertemplate)


@pytest.mark.parametrize(("classes", "words"), [(2, "below 1/2"), (3, "below 1/3"), (10, None)])
def test_impossible_confidences_are_shaded_for_few_classes(contents, classes, words):
    figure = figures.reliability(contents["reliability"]["before"], role="before", rows=10, classes=classes)
    noted = [note.text for note in figure.layout.annotations if "cannot occur" in note.text]
    assert [text.split(":")[0] for text in noted] == ([words] if words else [])
    assert len(figure.layout.shapes) == len(noted)
    turned = [note.textangle for note in figure.layout.annotations if "cannot occur" in note.text]
    assert turned == ([0] if classes == 2 else [-90] if noted else []), "along a strip that is narrow on a phone"


def test_margins_are_fixed_before_the_first_drawing(contents):
    part = {"name": "a", "n": 40, "temperature": 2.0, "low": 0.9, "high": 3.0}
    for figure in (
        figures.reliability(contents["reliability"]["before"], role="before", rows=10, classes=4),
        figures.temperature_by_part([part, part], 2.0, "group"),
    ):
        assert figure.layout.margin.l == 56 and figure.layout.margin.autoexpand is False
    assert len(figure.layout.yaxis.tickvals) >= 3


def test_histogram_bars_fill_their_bins(contents):
    before, after = contents["reliability"]["before"], contents["reliability"]["after"]
    figure = figures.confidence_histogram(before, after)
    traces = by_meta(figure)
    assert figure.layout.barmode == "overlay"
    for name, diagram in (("before", before), ("after", after)):
        assert [n or 0 for n in traces[name].y] == diagram["count"]
        spans = [(x - w / 2, x + w / 2) for x, w in zip(traces[name].x, traces[name].width, strict=True)]
        assert [low for low, _ in spans] == pytest.approx(before["edges"][:-1])
        assert [high for _, high in spans] == pytest.approx(before["edges"][1:])


@pytest.mark.parametrize("rows", [1, 3, 6])
def test_a_few_rows_are_counted_in_whole_ones(contents, rows):
    diagram = contents["reliability"]["before"]
    diagram["count"] = [0] * (len(diagram["count"]) - 1) + [rows]
    assert figures.confidence_histogram(diagram, diagram).layout.yaxis.dtick == 1


def test_likelihood_marks_one_and_the_fit_and_shades_the_interval(contents):
    fit = contents["fit"]
    figure = figures.likelihood(contents["nll_curve"], fit)
    traces = by_meta(figure)
    assert list(traces["nll"].x) == contents["nll_curve"]["temperature"]
    assert list(traces["nll"].y) == contents["nll_curve"]["nll"]
    assert (traces["before"].x, traces["before"].y) == ((1.0,), (fit["nll_before"],))
    assert (traces["after"].x, traces["after"].y) == ((fit["temperature"],), (fit["nll_after"],))
    assert figure.layout.xaxis.type == "log"
    band = next(shape for shape in figure.layout.shapes if shape.type == "rect")
    assert [band.x0, band.x1] == fit["interval"]


@pytest.mark.parametrize("kind", ["zero", "infinite"])
def test_a_fit_at_a_bound_has_no_fitted_mark(contents_of, kind):
    contents = contents_of(kind)
    figure = figures.likelihood(contents["nll_curve"], contents["fit"])
    assert list(by_meta(figure)) == ["nll", "before"]
    low, high = (10**v for v in figure.layout.xaxis.range)
    assert low == pytest.approx(min(contents["nll_curve"]["temperature"]))
    assert high == pytest.approx(max(contents["nll_curve"]["temperature"]))


def test_likelihood_shows_the_curve_around_what_it_marks(any_contents):
    figure = figures.likelihood(any_contents["nll_curve"], any_contents["fit"])
    low, high = figure.layout.xaxis.range
    assert low < 0 < high, "T = 1 is in sight"
    if any_contents["fit"]["temperature"]:
        assert low < math.log10(any_contents["fit"]["temperature"]) < high
    assert len(figure.layout.xaxis.tickvals) >= 3


def test_far_temperatures_have_few_ticks_and_labels_inside(far_contents):
    fit = far_contents["fit"]
    figure = figures.likelihood(far_contents["nll_curve"], fit)
    axis = figure.layout.xaxis
    assert 3 <= len(axis.tickvals) <= 7
    assert set(axis.ticktext) <= {words.as_power(k) for k in range(-12, 13)}
    before, after = figure.layout.annotations
    assert after.text == f"fitted<br>T = {words.as_temperature(fit['temperature'], fit)}"
    assert (before.xanchor, after.xanchor) == (("left", "right") if fit["temperature"] > 1 else ("right", "left"))


def test_likelihood_over_orders_of_magnitude_has_a_log_axis(contents):
    contents["nll_curve"]["nll"] = [1e5 * v for v in contents["nll_curve"]["nll"]]
    axis = figures.likelihood(contents["nll_curve"], contents["fit"]).layout.yaxis
    assert axis.type == "log"
    assert "log scale" in axis.title.text


def test_likelihood_survives_undefined_values(contents):
    contents["nll_curve"]["nll"] = [None] * len(contents["nll_curve"]["nll"])
    contents["fit"] |= {"nll_before": None, "nll_after": None, "interval": None}
    figure = figures.likelihood(contents["nll_curve"], contents["fit"])
    assert list(by_meta(figure)) == ["nll"]


def test_every_figure_is_plain_json(any_contents):
    """No typed arrays: the page reads and changes the numbers."""
    reliability = any_contents["reliability"]
    drawn = [
        figures.reliability(reliability["after"], role="after", rows=1, classes=any_contents["classes"]),
        figures.confidence_histogram(reliability["before"], reliability["after"]),
        figures.likelihood(any_contents["nll_curve"], any_contents["fit"]),
    ]
    for figure in drawn:
        text = figure.to_json()
        assert "bdata" not in text
        assert json.loads(text)["layout"]["autosize"] is True


def _luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", figures.THEMES)
def test_words_and_marks_stand_out(theme):
    """WCAG AA: a contrast of 4.5 for everything that is read."""
    look = figures.THEMES[theme]
    for colour in (look.ink, look.muted, *look.line.values()):
        light, dark = sorted((_luminance(colour), _luminance(look.surface)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, colour
