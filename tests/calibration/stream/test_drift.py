"""Whether a calibrator still fits: verdicts, their rates, and every family."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from logitherm import TemperatureScaling, fit_temperature, log_softmax
from logitherm.calibration import METHODS, GroupTemperatureScaling
from logitherm.calibration.stream.drift import check_drift
from logitherm.calibration.truncated.answers import TopAnswers
from logitherm.calibration.truncated.scaling import TruncatedTemperatureScaling


def draw(rng, n, temperature=1.0, classes=5):
    """Labels drawn at a temperature; the logits given away are twice as large as those they are drawn from at 1."""
    z = 2 * rng.normal(size=(n, classes))
    t = np.broadcast_to(np.asarray(temperature, dtype=float), (n,))[:, None]
    return 2 * z, (z / t + rng.gumbel(size=z.shape)).argmax(axis=1)


@pytest.fixture(scope="module")
def scaling():
    return TemperatureScaling().fit(*draw(np.random.default_rng(0), 20_000))


def test_the_numbers_are_those_of_two_fits(scaling):
    z, y = draw(np.random.default_rng(1), 3000, 1.3)
    found, fit = check_drift(scaling, z, y), fit_temperature(z, y)
    assert found.temperature == pytest.approx(fit.temperature, rel=1e-6)
    assert found.interval == pytest.approx(fit.sandwich_interval, rel=1e-6)
    assert found.reference_temperature == scaling.temperature_
    assert found.change == pytest.approx(fit.temperature / scaling.temperature_, rel=1e-6)
    errors = fit.sandwich_error / fit.temperature, scaling.sandwich_error_ / scaling.temperature_
    assert (found.error, found.reference_error) == pytest.approx(errors, rel=1e-5)
    quantile = (math.log(found.change) - math.log(1.05)) / math.hypot(*errors)
    assert found.p_value == pytest.approx(math.erfc(quantile / math.sqrt(2)), rel=1e-4)
    assert found.verdict == "drifted" and found.changed and found.needs == "heating"
    assert found.nll_after < found.nll_before
    assert found.false_alarm == pytest.approx(0.025) and found.run_length == pytest.approx(40 * 3000)


def test_verdicts(scaling):
    rng = np.random.default_rng(2)
    assert check_drift(scaling, *draw(rng, 30_000)).verdict == "holds"
    assert check_drift(scaling, *draw(rng, 100)).verdict == "undecided"
    assert check_drift(scaling, *draw(rng, 2000, 0.7)).needs == "cooling"
    assert check_drift(scaling, *draw(rng, 2000, 1.3), tolerance=0.5).verdict == "holds"
    gone = check_drift(scaling, *draw(rng, 13_000, np.repeat([1.0, 1.6, 1.0, 0.7], [6000, 500, 6000, 500])))
    assert gone.verdict == "drifted" and not gone.changed and 6000 < gone.rows_to_alarm < 6500


def test_what_fits_is_seldom_called_drifted():
    drifted = changed = alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scaling = TemperatureScaling().fit(*draw(rng, 400))
        found = check_drift(scaling, *draw(rng, 300), tolerance=0.0, confidence=0.8)
        drifted += found.verdict == "drifted"
        changed += found.changed
        alarms += found.rows_to_alarm is not None
    # 10 % of 200 plus three deviations; some comparisons are off, or they would compare nothing
    assert 5 < changed < 33 and alarms < 33 and drifted < 57


def test_blunders_that_were_always_there_are_no_drift():
    rng = np.random.default_rng(9)

    def with_blunders(n):
        z = 6 * rng.normal(size=(n, 10))
        y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
        return z, np.where(rng.random(n) < 0.02, rng.integers(0, 10, n), y)

    for family in ("temperature", "entropy"):
        alarms = 0
        for _ in range(30):
            found = check_drift(METHODS[family]().fit(*with_blunders(4000)), *with_blunders(2000))
            assert found.dispersion > 1.5 and not found.changed
            alarms += found.rows_to_alarm is not None
        assert alarms <= 2  # about 8 without the dispersion


@pytest.mark.parametrize("method", METHODS)
def test_every_family(method):
    rng = np.random.default_rng(3)
    fitted = METHODS[method]().fit(*draw(rng, 4000))
    same, other = check_drift(fitted, *draw(rng, 4000)), check_drift(fitted, *draw(rng, 4000, 1.4))
    assert same.verdict != "drifted" and other.verdict == "drifted"
    single = method == "temperature"
    assert same.reference_temperature == (fitted.temperature_ if single else 1.0)
    own = TemperatureScaling().fit(*draw(rng, 4000))
    assert same.reference_error == pytest.approx(own.sandwich_error_ / own.temperature_, rel=0.35)
    low, high = same.reference_interval
    assert low < same.reference_temperature < high


def test_a_temperature_without_errors_of_its_own():
    rng = np.random.default_rng(10)
    bare = TemperatureScaling().fit(*draw(rng, 4000))
    known = check_drift(bare, *draw(rng, 4000))
    bare.standard_error_ = bare.sandwich_error_ = bare.interval_ = None  # as some objectives leave it
    found = check_drift(bare, *draw(rng, 4000))
    assert found.reference_error == pytest.approx(known.reference_error, rel=0.1)
    assert found.verdict != "drifted"


def test_groups_at_their_common_temperature():
    rng = np.random.default_rng(4)
    z, y = draw(rng, 4000)
    fitted = GroupTemperatureScaling().fit(z, y, groups=np.arange(4000) % 3)
    assert check_drift(fitted, *draw(rng, 4000)).verdict != "drifted"


def test_limits_of_the_new_rows(scaling):
    z, _ = draw(np.random.default_rng(5), 300)
    found = check_drift(scaling, z, z.argmax(axis=1))
    assert (found.temperature, found.at_bound, found.p_value, found.interval) == (0.0, "zero", None, None)
    found = check_drift(scaling, z, z.argmin(axis=1))
    assert (found.temperature, found.at_bound, found.verdict) == (math.inf, "infinite", "drifted")
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["temperature"] is None and values["verdict"] == "drifted"


def test_a_change_to_a_bound_is_a_change(scaling):
    rng = np.random.default_rng(11)
    z, _ = draw(rng, 2000)
    for labels, side in ((z.argmax(axis=1), "cooling"), (z.argmin(axis=1), "heating")):
        found = check_drift(scaling, z, labels)
        assert (found.verdict, found.changed, found.needs) == ("drifted", True, side)
        quiet = check_drift(scaling, z, labels, run_length=1e300)  # without the alarm
        if quiet.rows_to_alarm is None:
            assert (quiet.verdict, quiet.needs) == ("drifted", side)
    few = check_drift(scaling, z[:3], z[:3].argmax(axis=1))
    assert (few.verdict, few.changed, few.needs) == ("undecided", False, None)


def test_rows_at_a_bound_by_chance_have_seldom_changed(scaling):
    """Sharp rows whose labels are all right with a probability of about a half."""
    rng, bounds, changed = np.random.default_rng(12), 0, 0
    for _ in range(200):
        z = 12 * rng.normal(size=(12, 5))
        y = (z / scaling.temperature_ + rng.gumbel(size=z.shape)).argmax(axis=1)
        found = check_drift(scaling, z, y, tolerance=0.0, confidence=0.8)
        bounds += found.at_bound == "zero"
        changed += found.at_bound is not None and found.changed
    assert bounds > 20 and changed <= 10  # 5 % at most


def test_truncated_answers_are_refused(scaling):
    rng = np.random.default_rng(13)
    z, y = draw(rng, 200)
    answers = TopAnswers.of_tokens(log_softmax(z / 2), states=5)
    truncated = TruncatedTemperatureScaling().fit(answers, y)
    with pytest.raises(TypeError, match=r"^calibrator: must take whole rows .*; got a Truncated.*; fit it .*bounds_$"):
        check_drift(truncated, answers, y)
    with pytest.raises(TypeError, match="TopAnswers"):
        check_drift(scaling, answers, y)


def test_impossible_labels(scaling):
    z, y = draw(np.random.default_rng(6), 300)
    z[4, y[4]] = -math.inf
    with pytest.raises(ValueError, match="zero_labels='exclude'"):
        check_drift(scaling, z, y)
    found = check_drift(scaling, z, y, zero_labels="exclude")
    assert (found.n, found.excluded) == (299, 1)
    assert found.rows_to_alarm == check_drift(scaling, np.delete(z, 4, 0), np.delete(y, 4)).rows_to_alarm


def test_torch(scaling):
    z, y = draw(np.random.default_rng(7), 500)
    found, known = check_drift(scaling, torch.tensor(z), torch.tensor(y)), check_drift(scaling, z, y)
    assert found.change_interval == pytest.approx(known.change_interval, rel=1e-9)
    assert found.verdict == known.verdict


def test_bad_input(scaling):
    z, y = draw(np.random.default_rng(8), 100)
    with pytest.raises(ValueError, match="5 features"):
        check_drift(scaling, z[:, :3], y % 3)
    with pytest.raises(ValueError, match="tolerance: "):
        check_drift(scaling, z, y, tolerance=-1)
    with pytest.raises(ValueError, match="run_length: "):
        check_drift(scaling, z, y, run_length=0)
    with pytest.raises(ValueError, match="at_bound 'zero'"):
        check_drift(TemperatureScaling().fit(z, z.argmax(axis=1)), z, y)
    with pytest.raises(ValueError, match="constant rows"):
        check_drift(METHODS["ensemble"]().fit(z, y), np.zeros((9, 5)), np.zeros(9, dtype=int))
