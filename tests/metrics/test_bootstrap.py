from __future__ import annotations

import math

import numpy as np
import pytest

from logitherm.metrics import bootstrap
from logitherm.metrics.bootstrap import draw_counts, interval, resampled_sums, runs


def test_counts_are_poisson():
    counts = draw_counts(np.random.default_rng(0), 1000, 500).ravel()
    for k in range(5):
        assert np.mean(counts == k) == pytest.approx(math.exp(-1) / math.factorial(k), abs=0.003)
    assert counts.mean() == pytest.approx(1.0, abs=0.005)
    assert counts.var() == pytest.approx(1.0, abs=0.01)


def test_sums_of_runs():
    rng = np.random.default_rng(0)
    columns = np.stack([np.ones(50), rng.normal(size=50)], axis=1)
    sums = resampled_sums(columns, np.array([0, 10, 11]), 4000, rng)
    assert sums.shape == (3, 2, 4000)
    assert sums[:, 0].mean(axis=1) == pytest.approx([10, 1, 39], rel=0.1)
    assert sums[1, 1] == pytest.approx(sums[1, 0] * columns[10, 1])  # one row: both columns of one weight
    assert sums[2, 1].var() == pytest.approx((columns[11:, 1] ** 2).sum(), rel=0.1)


def test_memory_is_bounded_by_the_step(monkeypatch):
    monkeypatch.setattr(bootstrap, "HELD_VALUES", 64)
    held = []
    draw = bootstrap.draw_counts
    monkeypatch.setattr(bootstrap, "draw_counts", lambda rng, n, r: held.append(n * r) or draw(rng, n, r))
    sums = resampled_sums(np.ones((100, 1)), np.array([0]), 10, np.random.default_rng(0))
    assert len(held) == 17
    assert max(held) <= 64
    assert sums.mean() == pytest.approx(100, rel=0.2)


def test_long_runs_have_the_distribution_of_drawn_ones(monkeypatch):
    rng = np.random.default_rng(0)
    n = 6000
    hit = np.ones(n)
    hit[:3] = 0  # a few misses among many hits must stay Poisson
    columns = np.stack([hit, 1 - hit, rng.lognormal(sigma=2.0, size=n)], axis=1)
    fast = resampled_sums(columns, np.array([0]), 2000, np.random.default_rng(1))[0]
    monkeypatch.setattr(bootstrap, "LONG_RUN", n + 1)
    slow = resampled_sums(columns, np.array([0]), 2000, np.random.default_rng(2))[0]
    assert set(fast[1].tolist()) <= set(map(float, range(20)))
    for a, b in zip(fast, slow, strict=True):
        noise = b.std() / math.sqrt(2000)
        assert a.mean() == pytest.approx(b.mean(), abs=5 * noise)
        assert np.quantile(a, [0.025, 0.975]) == pytest.approx(np.quantile(b, [0.025, 0.975]), abs=10 * noise)
    assert np.corrcoef(fast) == pytest.approx(np.corrcoef(slow), abs=0.1)


def test_long_runs_draw_few_rows(monkeypatch):
    drawn = []
    draw = bootstrap.draw_counts
    monkeypatch.setattr(bootstrap, "draw_counts", lambda rng, n, r: drawn.append(n) or draw(rng, n, r))
    columns = np.ones((100_000, 2))
    columns[:5, 1] = 1e3
    resampled_sums(columns, np.array([0]), 100, np.random.default_rng(0))
    assert sum(drawn) == 5


def test_interval_holds_the_value():
    replicates = np.linspace(0.1, 0.3, 1001)
    assert interval(0.2, replicates, 0.9) == pytest.approx((0.11, 0.29))
    assert interval(0.0, replicates, 0.9) == pytest.approx((0.0, 0.29))
    assert interval(0.05, replicates, 0.9, recentre=True) == pytest.approx((0.0, 0.14))
    assert interval(0.95, replicates, 0.9, recentre=True) == pytest.approx((0.86, 1.0))
    assert all(math.isnan(bound) for bound in interval(0.5, np.empty(0), 0.9))


def test_interval_of_infinite_replicates():
    assert interval(math.inf, np.array([1.0, 2.0, math.inf, math.inf]), 0.9) == (1.0, math.inf)


def test_runs_bring_equal_indices_together():
    index = np.array([3, 0, 3, 7, 0, 3])
    order, starts = runs(index)
    assert order.tolist() == [1, 4, 0, 2, 5, 3] and index[order[starts]].tolist() == [0, 3, 7]
