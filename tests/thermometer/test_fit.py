"""`fit_temperature` against an independent float64 Newton, its statistics against simulation and closed forms."""

import json
import math
import tracemalloc
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given
from hypothesis import strategies as st

from logitherm import fit_temperature
from logitherm.thermometer import TemperatureFit

CHI_SQUARED = scipy.stats.chi2.ppf(0.95, 1)
SINGLE = 1e-7  # relative error of a mean log-likelihood of float32 logits: that of the kernels' exponential


# -- the oracle ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 5.47, 50.0])
@pytest.mark.parametrize(("n", "states"), [(3000, 2), (3000, 3), (2500, 10), (700, 100), (250, 1000)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_newton(n, states, temperature, dtype, newton, draw, agree):
    z, labels = draw(n, states, temperature)
    z = z.astype(dtype)
    found = fit_temperature(z, labels)
    agree(found, newton(z, labels), nll=SINGLE if dtype == np.float32 else 1e-9)
    assert (found.n, found.classes, found.excluded) == (n, states, 0)
    assert abs(found.temperature - temperature) < 5 * found.standard_error


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [0.05, 50.0])
def test_any_scale_of_the_logits(scale, temperature, dtype, newton, draw, agree):
    z, labels = draw(4000, 10, temperature, scale=scale)
    z = z.astype(dtype)
    agree(fit_temperature(z, labels), newton(z, labels), nll=SINGLE if dtype == np.float32 else 1e-9)


@given(
    z=arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 12), st.integers(2, 6)),
        elements=st.floats(-30, 30, width=32).map(lambda v: round(v, 3)),
    ),
    seed=st.integers(0, 2**16),
    weighted=st.booleans(),
    single=st.booleans(),
)
def test_agrees_with_newton_on_any_few_rows(z, seed, weighted, single, newton, agree):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, z.shape[1], len(z))
    weights = rng.integers(1, 4, len(z)).astype(float) if weighted else None
    z = z.astype(np.float32) if single else z
    found = fit_temperature(z, labels, weights=weights)
    exact = z.astype(np.float64)
    seen = exact[np.arange(len(z)), labels]
    mass = np.ones(len(z)) if weights is None else weights
    cold, hot = mass @ (exact.max(axis=1) - seen), mass @ (exact.mean(axis=1) - seen)
    assume(abs(hot) > 1e-9)  # below it, rounding decides whether there is a maximum
    assert found.at_bound == ("infinite" if hot > 0 else "zero" if cold == 0 else None)
    if found.at_bound is None:
        truth = newton(z, labels, weights)
        assume(1e-25 < truth.temperature < 1e25)
        agree(found, truth, nll=SINGLE if single else 1e-9)


@pytest.mark.parametrize("states", [2, 100])
def test_half_precision(states, newton, draw, agree):
    z, labels = draw(3000, states, 3.0)
    half = z.astype(np.float16)
    agree(fit_temperature(half, labels), newton(half, labels), nll=SINGLE)


def test_half_precision_of_torch(newton, draw, agree):
    torch = pytest.importorskip("torch")
    z, labels = draw(3000, 20, 0.4)
    half = torch.tensor(z).bfloat16()
    agree(fit_temperature(half, torch.tensor(labels)), newton(half.double().numpy(), labels), nll=SINGLE)


def test_forbidden_states(newton, draw, agree):
    z, labels = draw(3000, 12, 2.0)
    forbidden = np.random.default_rng(1).random(z.shape) < 0.2
    forbidden[np.arange(len(z)), labels] = False
    z[forbidden] = -math.inf
    agree(fit_temperature(z, labels), newton(z, labels))


def test_a_common_offset_changes_nothing(draw):
    z, labels = draw(3000, 5, 2.0)
    found = fit_temperature(z + 1e4 * np.arange(3000)[:, None], labels)
    assert found.temperature == pytest.approx(fit_temperature(z, labels).temperature, rel=1e-6)


def test_temperature_scales_with_the_logits(draw):
    z, labels = draw(1000, 5, 2.0)
    assert fit_temperature(4 * z, labels).temperature == pytest.approx(
        4 * fit_temperature(z, labels).temperature, rel=1e-9
    )


# -- what was observed -----------------------------------------------------------------------------------


def test_soft_labels(newton, draw):
    z, _ = draw(2500, 8, 1.0)
    soft = np.random.default_rng(1).dirichlet(np.ones(8), len(z)) ** 2
    soft /= soft.sum(axis=1, keepdims=True)
    z = z + 2 * np.log(soft)
    truth = newton(z, (soft * z).sum(axis=1))
    found = fit_temperature(z, soft_labels=soft)
    assert found.temperature == pytest.approx(truth.temperature, rel=1e-6)
    assert found.sandwich_error == pytest.approx(truth.sandwich_error, rel=1e-4)
    assert found.nll_after == pytest.approx(truth.nll_after, rel=1e-9)
    assert (found.standard_error, found.likelihood_ratio, found.p_value) == (None, None, None)
    half_width = scipy.stats.norm.ppf(0.975) * truth.sandwich_error / truth.temperature
    assert np.log(found.interval) == pytest.approx(
        [math.log(truth.temperature) - half_width, math.log(truth.temperature) + half_width], abs=1e-4
    )


def test_one_hot_soft_labels_are_labels(draw):
    z, labels = draw(2500, 6, 2.0)
    hard, soft = fit_temperature(z, labels), fit_temperature(z, soft_labels=np.eye(6)[labels])
    assert soft.temperature == pytest.approx(hard.temperature, rel=1e-9)
    assert soft.sandwich_error == pytest.approx(hard.sandwich_error, rel=1e-6)


def test_soft_labels_of_the_model_itself_give_its_temperature(draw):
    z, _ = draw(500, 10)
    p = np.exp(z / 3)
    assert fit_temperature(z, soft_labels=p / p.sum(axis=1, keepdims=True)).temperature == pytest.approx(3, rel=1e-9)


def test_samples(newton, draw, agree):
    z, _ = draw(2500, 6, 1.0)
    rng = np.random.default_rng(1)
    samples = (z[:, None] / 2 + rng.gumbel(size=(len(z), 4, 6))).argmax(axis=2)
    seen = np.take_along_axis(z, samples, axis=1).mean(axis=1)
    found = fit_temperature(z, samples=samples)
    agree(found, newton(z, seen, np.full(len(z), 4.0)))
    assert abs(found.temperature - 2) < 4 * found.standard_error
    repeated = fit_temperature(np.repeat(z, 4, axis=0), samples.reshape(-1))
    assert found.standard_error == pytest.approx(repeated.standard_error, rel=1e-6)
    assert found.interval == pytest.approx(repeated.interval, rel=1e-4)


def test_weights_are_repetitions(draw, newton, agree):
    z, labels = draw(3000, 7, 2.0)
    weights = np.random.default_rng(1).integers(0, 4, len(z))
    found = fit_temperature(z, labels, weights=weights)
    agree(found, newton(z, labels, weights))
    repeated = fit_temperature(np.repeat(z, weights, axis=0), np.repeat(labels, weights))
    for name in ("temperature", "nll_before", "nll_after", "likelihood_ratio"):
        assert getattr(found, name) == pytest.approx(getattr(repeated, name), rel=1e-7)
    assert found.standard_error == pytest.approx(repeated.standard_error, rel=1e-5)
    assert found.interval == pytest.approx(repeated.interval, rel=1e-4)


def test_the_sandwich_takes_a_weighted_row_for_one_row(draw):
    z, labels = draw(3000, 7, 2.0)
    one, four = (fit_temperature(z, labels, weights=np.full(len(z), w)) for w in (1.0, 4.0))
    assert four.sandwich_error == pytest.approx(one.sandwich_error, rel=1e-6)
    assert four.standard_error == pytest.approx(one.standard_error / 2, rel=1e-6)


def test_rows_of_weight_zero_do_not_count(draw):
    z, labels = draw(3000, 7, 2.0)
    kept = np.arange(3000) % 3 > 0
    found = fit_temperature(z, labels, weights=kept.astype(float))
    assert found.temperature == pytest.approx(fit_temperature(z[kept], labels[kept]).temperature, rel=1e-8)


# -- intervals and tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", [20, 200, 20_000])
def test_deviance_at_both_ends_is_the_quantile(n, confidence, newton, draw):
    z, labels = draw(n, 4, 3.0, seed=5)
    found = fit_temperature(z, labels, confidence=confidence)
    truth = newton(z, labels)
    low, high = found.interval
    assert 0 < low < found.temperature < high < math.inf
    for end in found.interval:
        assert truth.deviance(end) == pytest.approx(scipy.stats.chi2.ppf(confidence, 1), rel=1e-3)


def test_deviance_at_the_ends_of_few_rows(newton):
    open_ended = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        n, states = int(rng.integers(1, 10)), int(rng.integers(2, 5))
        z, labels = np.exp(rng.normal()) * rng.normal(size=(n, states)), rng.integers(0, states, n)
        found = fit_temperature(z, labels)
        if found.at_bound:
            continue
        low, high = found.interval
        truth = newton(z, labels)
        assert truth.deviance(low) == pytest.approx(CHI_SQUARED, rel=1e-3)  # T = 0 always has likelihood 0 here
        if high < math.inf:
            assert truth.deviance(high) == pytest.approx(CHI_SQUARED, rel=1e-3)
        else:
            open_ended += 1
            assert truth.deviance(1e12) < CHI_SQUARED
    assert open_ended > 20


def test_likelihood_ratio_and_p_value(newton, draw):
    for temperature in (1.0, 1.1, 2.0):
        z, labels = draw(1000, 5, temperature, seed=3)
        found, truth = fit_temperature(z, labels), newton(z, labels)
        ratio = truth.deviance(1.0)
        assert found.likelihood_ratio == pytest.approx(ratio, rel=1e-5, abs=1e-9)
        assert found.p_value == pytest.approx(scipy.stats.chi2.sf(ratio, 1), rel=1e-4)


def test_exactly_calibrated_rows_have_a_p_value_of_one():
    z = np.array([[math.log(3), 0.0]] * 4)
    found = fit_temperature(z, [0, 0, 0, 1])
    assert found.temperature == pytest.approx(1, abs=1e-12)
    assert found.p_value == pytest.approx(1, abs=1e-6)
    assert found.likelihood_ratio == pytest.approx(0, abs=1e-12)


def test_closed_form_of_two_states():
    """One logit for all rows: T = x / log(odds), and the information is n p (1 - p) x^2."""
    x, n, hits = 2.0, 1000, 700
    labels = np.r_[np.zeros(hits, int), np.ones(n - hits, int)]
    found = fit_temperature(np.tile([x, 0.0], (n, 1)), labels)
    temperature = x / math.log(hits / (n - hits))
    assert found.temperature == pytest.approx(temperature, rel=1e-9)
    error = temperature**2 / (x * math.sqrt(n * 0.7 * 0.3))
    assert found.standard_error == pytest.approx(error, rel=1e-7)
    assert found.sandwich_error == pytest.approx(error, rel=1e-7)  # the model is right: both agree


@pytest.mark.slow
def test_intervals_cover_as_promised():
    """800 samples of 60 rows: the 95 % interval holds T within four binomial standard deviations."""
    rng, samples, truth = np.random.default_rng(0), 800, 2.0
    covered = rejected = 0
    for _ in range(samples):
        z = 1.5 * rng.normal(size=(60, 4))
        labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
        found = fit_temperature(truth * z, labels)
        low, high = found.interval or (0.0, 0.0)
        covered += low <= truth <= high
        rejected += fit_temperature(z, labels).p_value < 0.05
    tolerance = 4 * math.sqrt(samples * 0.95 * 0.05)
    assert abs(covered - 0.95 * samples) < tolerance
    assert abs(rejected - 0.05 * samples) < tolerance


def test_standard_errors_are_those_of_simulation():
    """The spread of T over samples, of a right model and of one with a wrong slope in part of the rows."""
    for wrong in (False, True):
        rng, found = np.random.default_rng(1), []
        for _ in range(300):
            z = 1.5 * rng.normal(size=(400, 4))
            labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
            z[: 40 if wrong else 0] *= 12.0
            found.append(fit_temperature(z, labels))
        spread = np.std([f.temperature for f in found])
        assert np.mean([f.sandwich_error for f in found]) == pytest.approx(spread, rel=0.15)
        ratio = np.mean([f.sandwich_error / f.standard_error for f in found])
        assert ratio > 2 if wrong else 0.9 < ratio < 1.1


# -- bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_separable_rows_have_temperature_zero(n, dtype, draw):
    z = draw(n, 6)[0].astype(dtype)
    found = fit_temperature(z, z.argmax(axis=1))
    assert (found.temperature, found.at_bound, found.converged) == (0.0, "zero", True)
    assert (found.standard_error, found.sandwich_error, found.interval, found.p_value) == (None,) * 4
    assert found.nll_after == pytest.approx(0, abs=1e-12)
    assert found.likelihood_ratio == pytest.approx(2 * n * found.nll_before, rel=1e-6)


def test_separable_rows_with_ties_keep_the_entropy_of_the_ties():
    z = np.array([[1.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    found = fit_temperature(z, [0, 0])
    assert found.at_bound == "zero"
    assert found.nll_after == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("kind", ["constant", "opposed", "unrelated", "one class"])
@pytest.mark.parametrize("n", [10, 5000])
def test_logits_without_signal_have_infinite_temperature(kind, n, draw):
    z, labels = draw(n, 4, seed=1)
    if kind == "constant":
        z = np.ones_like(z)
    elif kind == "opposed":
        z = -z
    elif kind == "unrelated":
        labels = np.where(z.mean(axis=1) > z[:, 0], 0, z.argmin(axis=1))
    else:
        z, labels = z[:, :1], np.zeros_like(labels)
    found = fit_temperature(z, labels)
    assert (found.temperature, found.at_bound, found.interval) == (math.inf, "infinite", None)
    assert found.nll_after == pytest.approx(math.log(z.shape[1]), abs=1e-9)


def test_uniform_over_allowed_states_at_infinite_temperature():
    z = np.array([[0.0, 1.0, -math.inf], [0.0, 2.0, 1.0]])
    found = fit_temperature(z, [0, 0])
    assert found.at_bound == "infinite"
    assert found.nll_after == pytest.approx((math.log(2) + math.log(3)) / 2, abs=1e-9)


def test_a_single_error_is_enough_for_an_optimum(draw):
    z = draw(5000, 6)[0]
    labels = z.argmax(axis=1)
    labels[77] = z[77].argsort()[-2]
    found = fit_temperature(z, labels)
    assert found.at_bound is None
    assert 0 < found.interval[0] < found.temperature < found.interval[1]


def test_bounds_take_few_passes(draw):
    z = draw(5000, 6)[0]
    assert fit_temperature(z, z.argmax(axis=1)).iterations <= 4
    assert fit_temperature(z, z.argmin(axis=1)).iterations <= 4


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_bounds_at_any_scale(scale, draw):
    z = scale * draw(3000, 6)[0]
    separable, opposed = fit_temperature(z, z.argmax(axis=1)), fit_temperature(z, z.argmin(axis=1))
    assert (separable.at_bound, opposed.at_bound) == ("zero", "infinite")
    assert separable.nll_after == pytest.approx(0, abs=1e-12)
    assert opposed.nll_after == pytest.approx(math.log(6), rel=1e-9)


def test_out_of_reach_is_an_error_not_a_clamp(draw):
    z, labels = draw(200, 4)
    with pytest.raises(ValueError, match=r"temperature must lie within exp\(\+-80\); rescale the logits"):
        fit_temperature(1e100 * z, labels)


@pytest.mark.parametrize("n", [0, 5])
def test_no_rows_are_an_error(n):
    with pytest.raises(ValueError, match="at least one row"):
        fit_temperature(np.zeros((n, 3)), np.zeros(n, int), mask=np.zeros(n, bool))


# -- JSON ------------------------------------------------------------------------------------------------


def _fits(draw):
    z, labels = draw(300, 4, 2.0)
    yield "plain", fit_temperature(z, labels)
    yield "zero", fit_temperature(z, z.argmax(axis=1))
    yield "infinite", fit_temperature(-z, labels)
    yield "open", fit_temperature(np.array([[0.1, 0.0, -0.3]]), [1])
    yield "soft", fit_temperature(z, soft_labels=np.eye(4)[labels])


def test_every_result_is_json(draw):
    for kind, found in _fits(draw):
        back = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert set(back) == set(TemperatureFit.__dataclass_fields__)
        assert back["temperature"] == (None if kind == "infinite" else found.temperature)
        assert back["at_bound"] == found.at_bound
        if kind == "open":
            assert back["interval"][1] is None
            assert found.interval[1] == math.inf


# -- impossible labels -----------------------------------------------------------------------------------


def test_impossible_labels_are_counted(draw):
    z, labels = draw(3000, 6, 2.0)
    z[[5, 70, 900], labels[[5, 70, 900]]] = -math.inf
    with pytest.raises(ValueError, match=r"3 of 3000 rows have a label of logit -inf.*zero_labels='exclude'"):
        fit_temperature(z, labels)


def test_impossible_labels_can_be_left_out(draw, newton, agree):
    z, labels = draw(3000, 6, 2.0)
    gone = np.arange(0, 3000, 300)
    z[gone, labels[gone]] = -math.inf
    weights = np.random.default_rng(1).random(3000)
    kept = np.setdiff1d(np.arange(3000), gone)
    found = fit_temperature(z, labels, zero_labels="exclude", weights=weights)
    agree(found, newton(z[kept], labels[kept], weights[kept]))
    assert (found.n, found.excluded) == (2990, 10)


def test_all_labels_impossible():
    z = np.array([[0.0, -math.inf], [1.0, -math.inf]])
    with pytest.raises(ValueError, match="at least one row"):
        fit_temperature(z, [1, 1], zero_labels="exclude")


def test_soft_labels_on_forbidden_states_are_impossible():
    z = np.array([[0.0, -math.inf, 1.0], [1.0, 0.0, 0.5]])
    soft = np.array([[0.5, 0.1, 0.4], [0.5, 0.1, 0.4]])
    with pytest.raises(ValueError, match="1 of 2 rows"):
        fit_temperature(z, soft_labels=soft)


# -- published failures ----------------------------------------------------------------------------------


def test_float32_input_is_not_answered_with_one(draw):
    """Finite differences of a float32 loss stop at the start, T = 1 (netcal 1.4, its issue 61)."""
    z, labels = draw(5000, 10, 1.7)
    found = fit_temperature(z.astype(np.float32), labels)
    assert found.temperature == pytest.approx(1.7, abs=0.15)
    assert found.temperature == pytest.approx(fit_temperature(z, labels).temperature, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.51, 0.86])
def test_underconfident_models_are_cooled(temperature, draw):
    """The published LBFGS code leaves the positive half line there, T = -23.5."""
    z, labels = draw(1500, 4, temperature, spread=1.0)
    found = fit_temperature(z.astype(np.float32), labels)
    assert found.interval[0] < temperature < found.interval[1]


def test_hot_models_meet_no_bound(draw, newton, agree):
    """T = 5.5 from 200 rows, where other code stops at 5."""
    z, labels = draw(200, 4, 5.5, seed=2)
    found = fit_temperature(z.astype(np.float32), labels)
    agree(found, newton(z.astype(np.float32), labels), nll=SINGLE)
    assert found.temperature > 5


def test_log_of_clipped_probabilities_shows_in_the_sandwich_error(draw):
    """Probabilities of 0 that were clipped at 1e-38 decide T: the robust error says so."""
    z, labels = draw(3000, 20, 1.0, spread=3.0)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    log_p = np.log(np.maximum((p / p.sum(axis=1, keepdims=True)).astype(np.float32), 1e-38))
    wrong = np.arange(0, 3000, 100)
    log_p[wrong, labels[wrong]] = math.log(1e-38)
    found = fit_temperature(log_p, labels)
    assert found.sandwich_error > 3 * found.standard_error


# -- memory and speed of the route -----------------------------------------------------------------------


def traced_peak(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def large():
    """200 MB of logits, and labels of the right temperature."""
    rng = np.random.default_rng(0)
    z = np.empty((50_000, 1000), np.float32)
    labels = np.empty(len(z), np.int64)
    for start in range(0, len(z), 5000):
        block = rng.normal(size=(5000, 1000), scale=1.5)
        labels[start : start + 5000] = (block + rng.gumbel(size=block.shape)).argmax(axis=1)
        z[start : start + 5000] = 2 * block
    fit_temperature(z[:3000], labels[:3000])  # kernels are loaded, threads started
    return z, labels


@pytest.mark.slow
def test_a_fit_of_200_mb_adds_less_than_2(large):
    z, labels = large
    found = []
    assert traced_peak(lambda: found.append(fit_temperature(z, labels))) < 2e6
    assert found[0].temperature == pytest.approx(2, abs=0.1)
    weights = np.random.default_rng(1).random(len(z))
    assert traced_peak(lambda: fit_temperature(z, labels, weights=weights)) < 2e6


@pytest.mark.slow
def test_resident_memory_of_a_fit(large):
    """The same of the whole process, with what compiled code allocates."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    except OSError:
        pytest.skip("needs /proc/self/clear_refs of Linux")

    def status(name):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

    before = status("VmRSS")
    fit_temperature(*large)
    assert status("VmHWM") - before < 2e6


@pytest.mark.slow
def test_memory_does_not_grow_where_blocks_are_copied(large):
    """Masked, half precision, other layouts, impossible labels, bounds: blocks of a fixed size."""
    z, labels = (v[:25_000] for v in large)
    mask = np.arange(len(z)) % 10 > 0
    half, right, opposed = z.astype(np.float16), z.argmax(axis=1), z.argmin(axis=1)
    impossible = z.copy()
    impossible[np.arange(100), labels[:100]] = -math.inf
    fits = {
        "mask": lambda: fit_temperature(z, labels, mask=mask),
        "half": lambda: fit_temperature(half, labels),
        "strided": lambda: fit_temperature(z[:, :999], labels % 999),
        "impossible": lambda: fit_temperature(impossible, labels, zero_labels="exclude"),
        "zero": lambda: fit_temperature(z, right),
        "infinite": lambda: fit_temperature(z, opposed),
    }
    peaks = {name: traced_peak(fit) for name, fit in fits.items()}
    assert {name: peak for name, peak in peaks.items() if peak > 8e6} == {}


@pytest.mark.slow
def test_a_memory_mapped_file_is_read_in_place(large, tmp_path):
    z, labels = large
    np.save(tmp_path / "logits.npy", z)
    mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
    found = []
    assert traced_peak(lambda: found.append(fit_temperature(mapped, labels))) < 2e6
    assert found[0] == fit_temperature(z, labels)


def test_two_passes_as_a_rule_both_compiled(draw, ran):
    torch = pytest.importorskip("torch")
    z, labels = draw(20_000, 10, 2.0)
    for logits in (z, torch.from_numpy(z)):
        ran("likelihood")
        assert fit_temperature(logits, labels).iterations == 2
        assert ran("likelihood") >= 2


def test_the_number_of_threads_changes_nothing(draw, monkeypatch):
    z, labels = draw(20_000, 10, 2.0)
    found = fit_temperature(z, labels)
    monkeypatch.setenv("LOGITHERM_NUM_THREADS", "1")
    assert fit_temperature(z, labels) == found


# -- what is refused -------------------------------------------------------------------------------------

Z = np.random.default_rng(0).normal(size=(6, 3))
Y = np.array([0, 1, 2, 0, 1, 2])


def with_row(row, value):
    return np.where(np.arange(6)[:, None] == row, value, Z)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((Z.astype(int), Y), {}, TypeError, "logits: must be floating point"),
        ((Z, Y.astype(float)), {}, TypeError, "labels: must be integers"),
        ((Z, Y[:3]), {}, ValueError, r"labels: must have the batch shape \(6,\)"),
        ((Z, np.array([0, 1, 2, 0, 3, 2])), {}, ValueError, r"labels: must lie in \[0, 3\); row 4 has 3"),
        ((with_row(4, np.nan), Y), {}, ValueError, "logits: .* row 4 has NaN"),
        ((with_row(2, np.inf), Y), {}, ValueError, r"logits: .* row 2 has \+inf"),
        ((with_row(2, -np.inf), Y), {}, ValueError, "row 2 has no allowed state"),
        ((Z[:0], Y[:0]), {}, ValueError, "at least one row"),
        ((np.float64(1), 0), {}, ValueError, "logits: must have an axis of states"),
        ((Z[:, :0], Y), {}, ValueError, "logits: must have at least one state"),
        ((Z, Y), {"axis": 2}, ValueError, "axis: must name an axis of logits; got 2"),
        ((Z, Y), {"weights": -np.ones(6)}, ValueError, "weights: must be finite and not negative; row 0"),
        ((Z, Y), {"weights": np.zeros(6)}, ValueError, "weights: must not all be zero"),
        ((Z, Y), {"weights": np.ones(5)}, ValueError, r"weights: must have the batch shape \(6,\)"),
        ((Z, Y), {"mask": np.ones(6)}, ValueError, r"mask: must be bool of the batch shape \(6,\)"),
        ((Z, Y), {"zero_labels": "drop"}, ValueError, "zero_labels: must be 'raise' or 'exclude'"),
        ((Z, Y), {"confidence": 1.0}, ValueError, r"confidence: must lie in \(0, 1\)"),
        ((Z, Y), {"soft_labels": Z}, ValueError, "labels: exactly one of labels, soft_labels and samples"),
        ((Z,), {}, ValueError, "labels: exactly one of labels, soft_labels and samples"),
        ((Z,), {"soft_labels": np.full((6, 3), 0.5)}, ValueError, "soft_labels: rows must be probabilities"),
        ((Z,), {"soft_labels": np.eye(3)[Y, :2]}, ValueError, "soft_labels: must be floating of shape"),
        ((Z,), {"soft_labels": np.eye(3, dtype=int)[Y]}, ValueError, "soft_labels: must be floating of shape"),
        ((Z,), {"samples": Y}, ValueError, "samples: must have the shape"),
        ((Z,), {"samples": Y[:, None] + 1}, ValueError, "labels: must lie in"),
        ((Z,), {"samples": Y[:, None], "ignore_index": 0}, ValueError, "ignore_index: must come with labels"),
        ((Z, Y), {"model": abs}, ValueError, "model: must come with batches"),
    ],
)
def test_what_is_refused(arguments, options, error, message):
    with pytest.raises(error, match=message) as raised:
        fit_temperature(*arguments, **options)
    assert "\n" not in str(raised.value)


def test_the_row_of_an_error_is_the_callers(draw):
    z, labels = draw(20_000, 10)
    z[12_345, 3] = math.nan
    mask = np.arange(len(z)) % 3 == 0
    assert mask[12_345]
    for options in ({}, {"mask": mask}):
        with pytest.raises(ValueError, match="row 12345 has NaN"):
            fit_temperature(z, labels, **options)
