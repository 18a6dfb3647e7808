"""The section on selective prediction: its numbers, its sentence and its size."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from logitherm.calibration import calibrate
from logitherm.metrics import defer_below, risk_coverage
from logitherm.report import figures, render_report
from logitherm.report.tables import export_tables
from logitherm.report.trust import trust


def no_export(figure):
    return ""


def simulated(classes=4, n=3000, seed=0):
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, classes))
    return 2 * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


@pytest.fixture(scope="module")
def study():
    return calibrate(*simulated(), *simulated(seed=1), bootstrap=50, compare_methods=False)


def test_the_numbers_are_those_of_the_metrics(study):
    (logits, labels), t = simulated(seed=1), study.fit.temperature
    found = study.to_dict()["selective"]
    for side, temperature in (("before", 1.0), ("after", t)):
        curve = risk_coverage(logits, labels, temperature, bootstrap=50)
        assert found[side]["aurc"] == curve.aurc.to_dict() and found[side]["excess_aurc"] == curve.excess_aurc.to_dict()
        half = int(np.searchsorted(curve.coverage, 0.5))
        assert found[side]["half"] == {"coverage": curve.coverage[half], "risk": curve.risk[half]}
        assert found[side]["coverage"][-1] == 1 and len(found[side]["risk"]) == len(found[side]["threshold"]) <= 60
    assert found["discordant"] == defer_below(logits, labels, t).discordant > 0


def test_one_temperature_orders_the_rows_of_all_folds():
    logits, labels = simulated(classes=2)
    found = calibrate(logits, labels, bootstrap=20, compare_methods=False)
    assert found.selective.discordant == 0
    assert found.selective.before.aurc.value == found.selective.after.aurc.value
    html = trust(found.to_dict(), no_export)
    assert "with two classes it cannot do otherwise" in html


def test_the_section(study):
    contents = study.to_dict()
    html, selective = trust(contents, no_export), contents["selective"]
    for side in ("before", "after"):
        aurc = selective[side]["aurc"]
        assert f"<b>{aurc['value']:.4f}</b><small>{aurc['low']:.4f}\u2013{aurc['high']:.4f}" in html
    assert f"{100 * selective['discordant']:.2g}" in html
    assert "which it can with more than two classes; the AURC" in html
    assert 'id="risk-coverage"' in render_report(study) and trust({}, no_export) == ""


@pytest.mark.parametrize(
    ("changes", "method", "says"),
    [
        ({"discordant": 1e-6}, "temperature", "less than 0.01\u00a0% of all pairs"),
        ({"discordant": 0.0}, "matrix", "The calibrator leaves the rows in their order of confidence, so"),
        ({"discordant": None}, "temperature", "leaves the rows in their order"),
        ({"before": 0.05, "after": 0.04}, "matrix", "the AURC falls by 0.0100 (20\u00a0%)"),
        ({"before": 0.04, "after": 0.05}, "matrix", "the AURC rises by 0.0100 (25\u00a0%)"),
        ({"before": 0.04, "after": 0.04}, "matrix", "the AURC stays the same to four decimals"),
    ],
)
def test_the_sentence(study, changes, method, says):
    contents = copy.deepcopy(study.to_dict()) | {"method": method}
    for name, value in changes.items():
        if name == "discordant":
            contents["selective"]["discordant"] = value
        else:
            contents["selective"][name]["aurc"]["value"] = value
    assert says in trust(contents, no_export)


def test_at_a_bound_no_row_is_surer_than_another(study):
    contents = study.to_dict()
    contents = contents | {"fit": contents["fit"] | {"at_bound": "zero"}}
    assert "T\u00a0=\u00a00 all confidences are alike" in trust(contents, no_export)


def test_ties_are_said(study):
    contents = study.to_dict()
    contents["selective"]["after"]["half"] = {"coverage": 0.61, "risk": 0.1}
    assert "ties: 61.00\u00a0% of the rows" in trust(contents, no_export)


def test_the_figure_and_the_table_hold_the_curves_and_are_small(study):
    contents = study.to_dict()
    sides = [contents["selective"][side] for side in ("before", "after")]
    figure = figures.risk_coverage(*sides)
    assert [trace.meta for trace in figure.data] == ["before", "after"]
    for trace, side in zip(figure.data, sides, strict=True):
        assert list(trace.x) == side["coverage"] and list(trace.y) == side["risk"]
    table = export_tables(contents)["risk-coverage"]
    assert table["risk"] == sides[0]["risk"] + sides[1]["risk"]
    size = len(json.dumps(contents["selective"])) + len(json.dumps(table)) + 2 * len(figure.to_json())
    assert size + len(trust(contents, no_export)) < 30_000
    assert figures.risk_coverage({**sides[0], "risk": [0.0]}, {**sides[1], "risk": [0.0]}).layout.yaxis.range[1] > 0
