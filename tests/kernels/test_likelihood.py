"""Sums over rows against the definition, for every kind of observation, however the rows are cut."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from logitherm.kernels import values
from logitherm.kernels.likelihood import Observed, expected_logits, extremes, no_rows, sampled_logits, totals

INF = math.inf
BETA = np.array([0.1, 1.0, 2.5])
# relative to the sum of the sizes of the terms
BUDGET = {"float64": 1e-12, "float32": 2e-6}
KINDS = ["labels", "samples", "soft"]
SIZES = [pytest.param(1500, 7, id="narrow"), pytest.param(300, 90, id="wide"), pytest.param(60, 9000, id="long")]


class Rows(NamedTuple):
    """What happened in every row, as users give it: one of the first three."""

    labels: np.ndarray | None = None
    samples: np.ndarray | None = None
    soft: np.ndarray | None = None
    weights: np.ndarray | None = None
    keep: np.ndarray | None = None


def make(kind, n, states, rng, weights=False, keep=False):
    fields = {
        "labels": lambda: rng.integers(0, states, n),
        "samples": lambda: rng.integers(0, states, (n, 3)),
        "soft": lambda: rng.dirichlet(np.ones(states), n) * (rng.random((n, states)) < 0.8) + 1e-3,
    }
    return Rows(
        **{kind: fields[kind]()},
        weights=rng.random(n) * 3 if weights else None,
        keep=rng.random(n) < 0.7 if keep else None,
    )


def observed_in(z, rows):
    """The same, as the sums take it."""
    if rows.labels is not None:
        return Observed(rows.labels, weights=rows.weights, keep=rows.keep)
    if rows.soft is not None:
        return Observed(means=expected_logits(z, rows.soft.__getitem__), weights=rows.weights, keep=rows.keep)
    weights = (np.ones(len(z)) if rows.weights is None else rows.weights) * rows.samples.shape[1]
    return Observed(means=sampled_logits(z, rows.samples), weights=weights, keep=rows.keep)


def totals_of(z, rows, beta, step=1):
    return totals(z, observed_in(z[::step], rows), beta, step)


def by_hand(z, observed, beta):
    """nll, score, curvature, squared score of every row: float64, one row at a time, and the sums of their sizes."""
    sums, sizes = np.zeros((4, len(beta))), np.zeros((4, len(beta)))
    weight = rows = impossible = 0
    for i, row in enumerate(np.asarray(z, dtype=np.float64)):
        if observed.keep is not None and not observed.keep[i]:
            continue
        if observed.labels is not None:
            share = np.bincount([observed.labels[i]], minlength=len(row))
        elif observed.samples is not None:
            share = np.bincount(observed.samples[i], minlength=len(row))
        else:
            share = observed.soft[i] / observed.soft[i].sum()
        w = 1.0 if observed.weights is None else observed.weights[i]
        times, share = w * (share.sum() if observed.samples is not None else 1), share / share.sum()
        if np.any((share > 0) & (row == -INF)):
            impossible += 1
            continue
        allowed = row > -INF
        x = row[allowed]
        seen = (share[allowed] * x).sum()
        for b, inverse in enumerate(beta):
            y = x * inverse
            log_z = y.max() + math.log(np.exp(y - y.max()).sum())
            p = np.exp(y - log_z)
            mean = (p * x).sum()
            terms = (
                times * (log_z - seen * inverse),
                times * (mean - seen),
                times * (p * (x - mean) ** 2).sum(),
                (times * (mean - seen)) ** 2,
            )
            sums[:, b] += terms
            sizes[:, b] += np.abs(terms) + [times * abs(y).max(), times * abs(x).max(), times * np.ptp(x) ** 2, 0]
        weight, rows = weight + times, rows + 1
    return sums, sizes, weight, rows, impossible


def assert_right(found, z, observed, beta=BETA, dtype="float64"):
    sums, sizes, weight, rows, impossible = by_hand(z, observed, beta)
    assert np.all(np.abs(found.sums - sums) <= BUDGET[dtype] * sizes)
    assert (found.rows, found.impossible) == (rows, impossible)
    assert math.isclose(found.weight, weight, rel_tol=1e-12)
    assert np.array_equal(found.sums, np.stack([found.nll, found.score, found.curvature, found.squares]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "states"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("keep", [False, True], ids=["", "keep"])
def test_against_sums_by_hand(dtype, n, states, kind, weights, keep, rng, ran):
    z = (3 * rng.normal(size=(n, states))).astype(dtype)
    observed = make(kind, n, states, rng, weights, keep)
    assert_right(totals_of(z, observed, BETA), z, observed, dtype=dtype)
    assert ran("likelihood") >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_few_values_take_the_reference(kind, rng, ran):
    z = rng.normal(size=(20, 5))
    observed = make(kind, 20, 5, rng, weights=True)
    assert_right(totals_of(z, observed, BETA), z, observed)
    assert ran("likelihood") == 0


@pytest.mark.parametrize("beta", [0.0, 1e-40, 1e40])
def test_temperatures_beyond_the_kernel(beta, rng, ran):
    z = rng.normal(size=(300, 90))
    observed = make("labels", 300, 90, rng)
    found = totals_of(z, observed, np.array([beta]))
    assert ran("likelihood") == 0
    if beta == 1e40:
        assert np.isclose(found.score[0], (z.max(axis=1) - z[np.arange(300), observed.labels]).sum())
        assert found.curvature[0] == 0
    else:
        assert np.isclose(found.score[0], (z.mean(axis=1) - z[np.arange(300), observed.labels]).sum())
        assert np.isclose(found.nll[0], 300 * math.log(90))
        if beta:
            assert np.isclose(found.curvature[0], z.var(axis=1).sum())


def test_masks_and_ties(rng):
    z = np.round(2 * rng.normal(size=(400, 60)))
    observed = make("labels", 400, 60, rng)
    mask = rng.random(z.shape) < 0.4
    mask[np.arange(400), observed.labels] = False
    z[mask] = -INF
    assert_right(totals_of(z, observed, BETA), z, observed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "states"), [(200, 4), (1500, 7), (300, 90)])
def test_impossible_rows_are_counted_and_left_out(kind, n, states, rng):
    z = rng.normal(size=(n, states))
    observed = make(kind, n, states, rng, weights=True)
    z[rng.random(z.shape) < 0.05] = -INF
    z[:, 0] = 0
    found = totals_of(z, observed, BETA)
    assert found.impossible > 0
    assert_right(found, z, observed)


def test_soft_labels_of_zero_on_forbidden_states_are_possible(rng):
    z = rng.normal(size=(300, 60))
    z[:, 10] = -INF
    soft = rng.dirichlet(np.ones(60), 300)
    soft[:, 10] = 0
    found = totals_of(z, Rows(soft=soft), BETA)
    assert found.impossible == 0
    assert_right(found, z, Rows(soft=soft))


def test_hard_soft_and_sampled_labels_agree(rng):
    z = rng.normal(size=(300, 60))
    labels = rng.integers(0, 60, 300)
    hard = totals_of(z, Rows(labels=labels), BETA)
    soft = totals_of(z, Rows(soft=np.eye(60)[labels]), BETA)
    once = totals_of(z, Rows(samples=labels[:, None]), BETA)
    for other in (soft, once):
        assert np.allclose(hard.sums, other.sums, rtol=1e-12)
    twice = totals_of(z, Rows(samples=np.stack([labels, labels], axis=1)), BETA)
    assert np.allclose(twice.sums[:3], 2 * hard.sums[:3], rtol=1e-12)
    assert twice.weight == 2 * hard.weight


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [2, 7])
def test_steps_take_every_so_manieth_row(kind, step, rng, ran):
    z = rng.normal(size=(2001, 40))
    n = len(z[::step])
    observed = make(kind, n, 40, rng, weights=True)
    assert_right(totals_of(z, observed, BETA, step), z[::step], observed)
    assert ran("likelihood") >= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_partition_of_the_rows_adds_up(kind, dtype, rng):
    z = rng.normal(size=(5000, 20)).astype(dtype)
    observed = make(kind, 5000, 20, rng, weights=True, keep=True)
    whole = totals_of(z, observed, BETA)
    edges = [0, *np.sort(rng.choice(5000, 9, replace=False)), 5000]
    seen = observed_in(z, observed)
    parts = [totals(z[a:b], seen.take(slice(a, b)), BETA) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    for order in (parts, parts[::-1]):
        added = sum(order, start=no_rows(len(BETA)))
        # the narrow tiles of a kernel in float32 hold other rows, which changes the last digits
        assert np.allclose(added.sums, whole.sums, rtol=BUDGET[dtype], atol=1e-9 if dtype == "float64" else 1e-3)
        assert math.isclose(added.weight, whole.weight, rel_tol=1e-12)
        assert (added.rows, added.impossible) == (whole.rows, whole.impossible)


def test_the_totals_at_one_temperature(rng):
    z = rng.normal(size=(100, 5))
    observed = make("labels", 100, 5, rng)
    all_of_them = totals_of(z, observed, BETA)
    one = all_of_them.at(1)
    assert one.sums.shape == (4, 1)
    assert one.score[0] == all_of_them.score[1]
    assert one.rows == 100


def test_no_rows(rng):
    found = totals(np.zeros((0, 5)), Observed(labels=np.zeros(0, dtype=np.int64)), BETA)
    assert np.array_equal(found.sums, no_rows(3).sums)
    assert (found.weight, found.rows, found.impossible) == (0, 0, 0)


INPUTS = {
    "torch": torch.from_numpy,
    "torch, half": lambda z: torch.from_numpy(z).half(),
    "torch, bfloat16": lambda z: torch.from_numpy(z).bfloat16(),
    "torch, transposed": lambda z: torch.from_numpy(np.ascontiguousarray(z.T)).T,
    "float16": lambda z: z.astype(np.float16),
    "Fortran order": np.asfortranarray,
    "read-only": lambda z: np.frombuffer(z.tobytes(), z.dtype).reshape(z.shape),
    "every second row": lambda z: np.repeat(z, 2, axis=0)[::2],
}


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("step", [1, 3])
def test_any_input(given, step, rng, ran):
    z = rng.normal(size=(3000, 30)).astype(np.float32)
    x = INPUTS[given](z)
    observed = make("labels", len(z[::step]), 30, rng)
    found = totals_of(x, observed, BETA, step)
    assert ran("likelihood") >= 1
    wide = x.double().numpy() if isinstance(x, torch.Tensor) else np.asarray(x, dtype=np.float64)
    assert_right(found, wide[::step], observed, dtype="float32")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("states", [3, 40, 400])
def test_a_bad_row_is_named_by_its_place_in_the_input(kind, step, keep, states, rng):
    z = rng.normal(size=(1001, states))
    n = len(z[::step])
    observed = make(kind, n, states, rng, keep=keep)
    row = 900 if observed.keep is None else int(np.flatnonzero(observed.keep)[-3]) * step
    z[row] = math.nan
    for x in (z, z.astype(np.float16)):
        with pytest.raises(ValueError, match=rf"logits: .*row {row} has NaN"):
            totals_of(x, observed, BETA, step)


@pytest.mark.parametrize("kind", KINDS)
def test_extremes_are_the_scores_at_both_limits(kind, rng):
    z = rng.normal(size=(500, 20))
    z[rng.random(z.shape) < 0.1] = -INF
    z[:, 0] = 0
    observed = make(kind, 500, 20, rng, weights=True, keep=True)
    cold, hot = extremes(z, observed_in(z, observed))
    at_limits = totals_of(z, observed, np.array([1e40, 0.0]))
    assert np.isclose(cold, at_limits.score[0])
    assert np.isclose(hot, at_limits.score[1])


def test_the_kernel_is_used_from_a_few_thousand_values(rng, ran):
    states = 10
    n = values.SMALLEST // 4 // states
    for rows, calls in ((n, 0), (n + 1, 1)):
        z = rng.normal(size=(rows, states))
        totals_of(z, make("labels", rows, states, rng), BETA)
        assert ran("likelihood") == calls
