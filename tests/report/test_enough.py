"""The section on whether one temperature is enough: there where it was asked, right in its numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from logitherm.calibration import calibrate
from logitherm.report import render_report
from logitherm.report.enough import enough, parted
from logitherm.report.words import as_number


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(1200, 4))
    labels = (z + [1, 0, 0, -1] + rng.gumbel(size=z.shape)).argmax(axis=1)
    return calibrate(1.8 * z, labels, bootstrap=20, method="auto", groups=np.arange(1200) % 3)


def test_every_test_and_method_has_its_row(study):
    contents = study.to_dict()
    html = enough(contents, lambda name: "")
    assert len(re.findall(r'<th scope="row">', html)) == (
        len(study.goodness.tests) + len(study.selection.candidates) + 3
    )
    assert f"<b>{study.method}</b>" in html
    for each in study.selection.candidates:
        assert (f"{each.nll:.4f}" if np.isfinite(each.nll) else "\u221e") in html


def test_p_values_are_the_robust_ones_where_there_are_such(study):
    html = enough(study.to_dict(), lambda name: "")
    group = next(test for test in study.goodness.tests if test.family == "group")
    assert group.trusted_p_value == group.robust_p_value != group.p_value
    assert f"<td>{as_number(group.robust_p_value, digits=2)}</td>" in html and "<small>robust</small>" in html
    mixture = next(test for test in study.goodness.tests if test.family == "ensemble")
    assert mixture.robust_p_value is None and mixture.trusted_p_value == mixture.p_value


def test_the_page_has_the_section_and_its_numbers(study):
    page = render_report(study)
    assert "Is one temperature enough?" in page and f"After: method {study.method}" in page
    assert "load_calibrator" in page and "Or divide the logits" not in page
    for name in ("temperature-by-confidence", "temperature-by-class", "temperature-by-group"):
        assert f'"{name}":{{"name":[' in page and f'id="{name}"' in page


def test_parts_without_two_temperatures_have_no_figure():
    part = {"name": "a", "n": 40, "temperature": 2.0, "low": 1.0, "high": 3.0}
    goodness = {"by_confidence": [part, part], "by_class": [part, {**part, "temperature": None}], "by_group": []}
    assert list(parted(goodness)) == ["temperature-by-confidence"] and parted(None) == {}


def test_it_is_left_out_where_it_was_not_asked():
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(300, 4))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    page = render_report(calibrate(1.8 * z, labels, bootstrap=20, compare_methods=False))
    assert "Is one temperature enough?" not in page and "temperature-by-" not in page


def test_the_figure_has_a_dot_for_every_part_with_a_temperature(study):
    from logitherm.report.figures import temperature_by_part

    contents = study.goodness.to_dict()
    parts = [*contents["by_confidence"], {"name": "few", "n": 3, "temperature": None, "low": None, "high": None}]
    parts.append({"name": "open", "n": 50, "temperature": 2.0, "low": 1.0, "high": None})
    trace = temperature_by_part(parts, contents["temperature"], "confidence").data[0]
    assert "few" not in trace.x and "open" in trace.x
    assert len(trace.x) == len(trace.error_y.array) == len(contents["by_confidence"]) + 1
    assert min(trace.error_y.array) >= 0 and min(trace.error_y.arrayminus) >= 0
