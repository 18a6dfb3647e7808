"""The temperatures of groups: all of them, or the farthest; and how to apply them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from logitherm.calibration import calibrate
from logitherm.report import render_report
from logitherm.report.groups import group_table


def no_export(figure, *, image=True):
    return ""


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(600, 4))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    groups = np.array(["calm", "<hot>"])[np.arange(600) % 2]
    return calibrate(
        z * np.where(groups == "calm", 1.0, 3.0)[:, None], labels, method="group", groups=groups, bootstrap=20
    )


def test_every_group_has_its_temperature_and_interval(study):
    html = group_table(study.to_dict(), no_export)
    names = re.findall(r'<th scope="row">(.*?)</th>', html)
    assert names == ["calm", "&lt;hot&gt;"], "from cold to hot"
    scaling = study.calibrator
    for t, (low, high) in zip(scaling.temperatures_, scaling.intervals_, strict=True):
        assert f"<b>{t:.3g}" in html and f"{low:.3g} to {high:.3g}" in html
    assert f"{scaling.temperature_:.3g}" in html


def test_of_many_groups_those_farthest_from_the_common_one(study):
    groups = [{"group": i, "temperature": 1.1**i, "interval": [1.1**i / 1.2, 1.1**i * 1.2]} for i in range(-10, 11)]
    contents = study.to_dict() | {"groups": groups}
    contents["common"] |= {"temperature": 1.0}
    html = group_table(contents, no_export, most=4)
    assert re.findall(r'<th scope="row">(.*?)</th>', html) == ["-10", "-9", "9", "10"]
    assert "17 more groups are closer" in html
    assert "One more group is closer" in group_table(contents, no_export, most=20)


def test_the_page_shows_how_to_give_groups(study):
    page = render_report(study)
    assert "logitherm apply calibrator.json logits.npz --groups groups.npy -o probs.npz" in page
    assert ".predict_proba(logits, groups)" in page and "T of each group" in page
    assert '"group-temperatures":{"group":["\\u003chot>","calm"]' in page


def test_other_methods_know_nothing_of_groups(study):
    page = render_report(calibrate(*_plain(), bootstrap=20, compare_methods=False))
    assert "--groups" not in page and "T of each group" not in page and ".predict_proba(logits)" in page
    assert group_table(study.to_dict() | {"fit": {"at_bound": "zero"}}, no_export) == ""


def _plain():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 4))
    return 2 * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def test_group_and_predicted_class_stand_side_by_side(study):
    page = render_report(study)
    rows = page.split('<div class="pair">')
    row = next(row for row in rows if 'id="temperature-by-group"' in row)
    assert 'id="temperature-by-class"' in row and 'id="temperature-by-confidence"' not in row
