"""fit_temperature against an independent float64 search, in every form of input and at every limit."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import logitherm
from logitherm import fit_temperature

ERRORS = ("standard_error", "sandwich_error")


def labelled(logits, labels):
    return np.take_along_axis(logits.astype(np.float64), labels[:, None], axis=1)[:, 0]


def agree(fit, truth, rtol=1e-6):
    assert fit.temperature == pytest.approx(truth["temperature"], rel=rtol)
    for name in ERRORS:
        if getattr(fit, name) is not None:
            assert getattr(fit, name) == pytest.approx(truth[name], rel=2e-3)
    for name in ("nll_before", "nll_after"):
        assert getattr(fit, name) == pytest.approx(truth[name], rel=1e-6)
    assert fit.converged and fit.at_bound is None


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("temperature", [0.05, 0.5, 0.86, 1.0, 5.47, 50.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_answer(newton, draw, classes, temperature, dtype):
    logits, labels = draw(1200, classes, temperature)
    logits = logits.astype(dtype)
    agree(fit_temperature(logits, labels), newton(logits, labelled(logits, labels)))


@given(
    seed=st.integers(0, 2**31),
    n=st.integers(40, 400),
    classes=st.integers(2, 30),
    log_t=st.floats(-2, 2),
    log_scale=st.floats(-6, 6),
)
def test_the_answer_at_any_scale(newton, draw, seed, n, classes, log_t, log_scale):
    logits, labels = draw(n, classes, math.exp(log_t), 10**log_scale, seed)
    fit = fit_temperature(logits, labels)
    if fit.at_bound is None and fit.standard_error < 3 * fit.temperature:
        truth = newton(logits, labelled(logits, labels))
        assert fit.temperature == pytest.approx(truth["temperature"], rel=1e-6)
        assert fit.standard_error == pytest.approx(truth["standard_error"], rel=2e-3)


def test_the_published_failures_do_not_happen_here(newton, draw):
    """T = 1 for float32 input; a negative T for an underconfident model; a bound at T = 5 met by a hot one."""
    for temperature, n in ((2.0, 5000), (0.86, 5000), (5.5, 200)):
        logits, labels = draw(n, 10, temperature)
        logits = logits.astype(np.float32)
        fit = fit_temperature(logits, labels)
        agree(fit, newton(logits, labelled(logits, labels)))
        assert abs(fit.temperature - temperature) < 4 * fit.standard_error


def test_rows_sorted_by_class(draw):
    logits, labels = draw(6000, 4, 2.0)
    order = np.argsort(labels, kind="stable")
    shuffled, ordered = fit_temperature(logits, labels), fit_temperature(logits[order], labels[order])
    assert ordered.temperature == pytest.approx(shuffled.temperature, rel=1e-7)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_every_float_type(newton, draw, kind):
    logits, labels = draw(3000, 10, 2.0)
    tensor = torch.from_numpy(logits).to(getattr(torch, kind))
    seen = tensor.double().numpy()
    truth = newton(seen, labelled(seen, labels))
    agree(fit_temperature(tensor, torch.from_numpy(labels)), truth)
    if kind != "bfloat16":
        agree(fit_temperature(tensor.numpy(), labels), truth)


def test_layouts_and_axes(draw):
    logits, labels = draw(3000, 12, 2.0)
    want = fit_temperature(logits, labels).temperature
    read_only = logits.copy()
    read_only.flags.writeable = False
    for same in (np.asfortranarray(logits), np.repeat(logits, 2, axis=1)[:, ::2], read_only, logits.tolist()):
        assert fit_temperature(same, labels).temperature == pytest.approx(want, rel=1e-7)
    assert fit_temperature(logits.T, labels, axis=0).temperature == pytest.approx(want, rel=1e-7)
    batch = fit_temperature(logits.reshape(30, 100, 12), labels.reshape(30, 100))
    assert batch.temperature == pytest.approx(want, rel=1e-7)


def test_weights_are_repetition(draw):
    logits, labels = draw(2000, 5, 2.0)
    weights = np.random.default_rng(0).integers(0, 4, len(labels))
    weighted = fit_temperature(logits, labels, weights=weights)
    repeated = fit_temperature(np.repeat(logits, weights, axis=0), np.repeat(labels, weights))
    for name in ("temperature", "standard_error", "nll_before", "nll_after", "likelihood_ratio"):
        assert getattr(weighted, name) == pytest.approx(getattr(repeated, name), rel=1e-5)


def test_masked_and_ignored_rows_are_not_looked_at(draw):
    logits, labels = draw(2000, 5, 2.0)
    keep = np.random.default_rng(0).random(2000) < 0.7
    want = fit_temperature(logits[keep], labels[keep])
    logits[~keep] = np.nan
    ignored = np.where(keep, labels, -100)
    for fit in (fit_temperature(logits, labels, mask=keep), fit_temperature(logits, ignored, ignore_index=-100)):
        assert fit.temperature == pytest.approx(want.temperature, rel=1e-7)
        assert fit.n == want.n == keep.sum()


def test_soft_labels(newton, draw):
    logits, _ = draw(2000, 5, 2.0)
    soft = logitherm.softmax(logits, 3.0)
    fit = fit_temperature(logits, soft_labels=soft)
    assert fit.temperature == pytest.approx(3.0, rel=1e-6)
    assert fit.standard_error is None and fit.p_value is None and fit.sandwich_error < 1e-6
    one_hot = np.eye(5)[draw(2000, 5, 2.0)[1]]
    hard = fit_temperature(logits, one_hot.argmax(axis=1))
    assert fit_temperature(logits, soft_labels=one_hot).temperature == pytest.approx(hard.temperature, rel=1e-7)


def test_samples_of_the_model_itself(draw):
    logits, _ = draw(1000, 6, 1.0)
    draws = logitherm.sample(logits, 1.7, generator=0, size=20)
    fit = fit_temperature(logits, samples=draws)
    assert abs(fit.temperature - 1.7) < 4 * fit.standard_error
    flat = fit_temperature(np.repeat(logits, 20, axis=0), draws.reshape(-1))
    assert fit.temperature == pytest.approx(flat.temperature, rel=1e-6)
    assert fit.standard_error == pytest.approx(flat.standard_error, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 3, 320, 5000])
def test_bounds_are_said_not_clamped(scale, dtype, n):
    z = (np.random.default_rng(n).normal(size=(n, 5)) * scale).astype(dtype)
    cold = fit_temperature(z, z.argmax(axis=1))
    assert (cold.at_bound, cold.temperature, cold.interval) == ("zero", 0.0, None)
    assert cold.nll_after == 0
    hot = fit_temperature(z, z.argmin(axis=1))
    assert (hot.at_bound, hot.temperature, hot.standard_error) == ("infinite", math.inf, None)
    assert hot.nll_after == pytest.approx(math.log(5))
    for fit in (cold, hot):
        values = json.loads(json.dumps(fit.to_dict(), allow_nan=False))
        assert values["at_bound"] == fit.at_bound


def test_constant_rows_carry_no_signal():
    fit = fit_temperature(np.zeros((10, 3)), np.zeros(10, dtype=int))
    assert fit.at_bound == "infinite"


@pytest.mark.parametrize("seed", range(30))
def test_separable_rows_of_any_luck(seed):
    z = 3.75 * np.random.default_rng(seed).normal(size=(320, 5))
    assert fit_temperature(z, z.argmax(axis=1)).at_bound == "zero"


def test_the_interval_is_where_the_deviance_says(newton, draw):
    for n, temperature in ((200, 5.5), (5000, 0.7)):
        logits, labels = draw(n, 10, temperature)
        for confidence, quantile in ((0.95, 3.841459), (0.5, 0.454936)):
            fit = fit_temperature(logits, labels, confidence=confidence)
            for end in fit.interval:
                loss = logitherm.metrics.nll(logits, labels, end) - fit.nll_after
                assert 2 * n * loss == pytest.approx(quantile, rel=5e-3)
            assert fit.interval[0] < fit.temperature < fit.interval[1]


def test_likelihood_ratio_against_one(draw):
    logits, labels = draw(4000, 5, 1.03)
    fit = fit_temperature(logits, labels)
    assert fit.likelihood_ratio == pytest.approx(2 * 4000 * (fit.nll_before - fit.nll_after), rel=1e-6)
    from scipy.stats import chi2

    assert fit.p_value == pytest.approx(chi2.sf(fit.likelihood_ratio, 1), rel=1e-9)


@pytest.mark.slow
def test_the_interval_covers_the_truth(draw):
    hits = 0
    for seed in range(400):
        logits, labels = draw(200, 4, 2.0, seed=seed)
        low, high = fit_temperature(logits, labels).interval
        hits += low < 2.0 < high
    assert 0.95 - 4 * (0.95 * 0.05 / 400) ** 0.5 < hits / 400 <= 1.0 - 0.01


def test_memory_does_not_grow_with_the_input(draw):
    logits, labels = draw(20_000, 500, 1.5)
    logits = logits.astype(np.float32)
    fit_temperature(logits[:3000], labels[:3000])
    tracemalloc.start()
    fit_temperature(logits, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**20, f"{peak / 2**20:.1f} MB for an input of {logits.nbytes / 2**20:.0f} MB"


def test_a_memory_mapped_file(draw, tmp_path):
    logits, labels = draw(5000, 20, 2.0)
    np.save(tmp_path / "logits.npy", logits)
    mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
    assert fit_temperature(mapped, labels) == fit_temperature(logits, labels)


def test_the_compiled_kernel_ran(draw, ran):
    logits, labels = draw(5000, 20, 2.0)
    ran("likelihood")
    fit_temperature(logits, labels)
    assert ran("likelihood")
    fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
    assert ran("likelihood")


Z = np.random.default_rng(0).normal(size=(6, 3))
Y = np.array([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((Z.astype(int), Y), {}, TypeError, "logits: must be floating point"),
        ((Z, Y.astype(float)), {}, TypeError, "labels: must be integers"),
        ((Z, Y[:3]), {}, ValueError, r"labels: must have the batch shape \(6,\)"),
        ((Z, np.array([0, 1, 2, 0, 3, 2])), {}, ValueError, r"labels: must lie in \[0, 3\); row 4 has 3"),
        ((np.where(np.arange(6)[:, None] == 4, np.nan, Z), Y), {}, ValueError, "logits: .* row 4 has NaN"),
        ((np.where(np.arange(6)[:, None] == 2, np.inf, Z), Y), {}, ValueError, r"logits: .* row 2 has \+inf"),
        ((np.where(np.arange(6)[:, None] == 2, -np.inf, Z), Y), {}, ValueError, "row 2 has no allowed state"),
        ((Z[:0], Y[:0]), {}, ValueError, "at least one row"),
        ((Z, Y), {"weights": -np.ones(6)}, ValueError, "weights: must be finite and not negative; row 0"),
        ((Z, Y), {"weights": np.zeros(6)}, ValueError, "weights: must not all be zero"),
        ((Z, Y), {"mask": np.ones(6)}, ValueError, r"mask: must be bool of the batch shape \(6,\)"),
        ((Z, Y), {"zero_labels": "drop"}, ValueError, "zero_labels: must be 'raise' or 'exclude'"),
        ((Z, Y), {"confidence": 1.0}, ValueError, r"confidence: must lie in \(0, 1\)"),
        ((Z, Y), {"soft_labels": Z}, ValueError, "labels: exactly one of labels, soft_labels and samples"),
        ((Z,), {}, ValueError, "labels: exactly one of labels, soft_labels and samples"),
        ((Z,), {"soft_labels": np.full((6, 3), 0.5)}, ValueError, "soft_labels: rows must be probabilities"),
        ((Z,), {"samples": Y}, ValueError, "samples: must have the shape"),
        ((Z, Y), {"model": abs}, ValueError, "model: must come with batches"),
    ],
)
def test_errors(arguments, options, error, message):
    with pytest.raises(error, match=message) as raised:
        fit_temperature(*arguments, **options)
    assert "\n" not in str(raised.value)


def test_impossible_labels(draw):
    logits, labels = draw(500, 5, 2.0)
    want = fit_temperature(logits[7:], labels[7:])
    logits[np.arange(7), labels[:7]] = -np.inf
    with pytest.raises(ValueError, match="7 of 500 rows have a label of logit -inf"):
        fit_temperature(logits, labels)
    fit = fit_temperature(logits, labels, zero_labels="exclude")
    assert (fit.n, fit.excluded) == (493, 7)
    assert fit.temperature == pytest.approx(want.temperature, rel=1e-7)
