"""An independent oracle, Newton in float64 on the plain formulas, and labels drawn at a known temperature."""

import math
from types import SimpleNamespace

import numpy as np
import pytest


def _rows(z, seen, beta):
    """Negative log-likelihood of every row and its first and second derivative in beta = 1/T."""
    fall = z - z.max(axis=1, keepdims=True)
    weight = np.exp(fall * beta)
    total = weight.sum(axis=1)
    fall = np.where(weight > 0, fall, 0.0)
    mean = (weight * fall).sum(axis=1) / total
    variance = (weight * (fall - mean[:, None]) ** 2).sum(axis=1) / total
    below = seen - z.max(axis=1)
    return np.log(total) - beta * below, mean - below, variance


def _newton(z, seen, weights):
    """log beta of zero score: Newton's steps where they stay in the bracket, halving where they do not."""
    low, high, x = -200.0, 200.0, 0.0
    for _ in range(200):
        _, score, curvature = _rows(z, seen, math.exp(x))
        value = float(weights @ score)
        slope = math.exp(x) * float(weights @ curvature)
        low, high = (x, high) if value < 0 else (low, x)
        step = -value / slope if slope > 0 else math.nan
        target = x + step if abs(step) < 2 and low < x + step < high else 0.5 * (low + high)
        if abs(target - x) < 1e-14 * max(1.0, abs(x)):
            break
        x = target
    return x


@pytest.fixture(scope="session")
def newton():
    """Temperature, its errors and the likelihood for what was seen: labels (n,), or mean observed logits (n,)."""

    def fit(z, seen, weights=None):
        z = np.asarray(z, dtype=np.float64)
        seen = np.asarray(seen)
        seen = z[np.arange(len(z)), seen] if seen.dtype.kind in "iu" else seen
        weights = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=np.float64)
        beta = math.exp(_newton(z, seen, weights))
        nll, score, curvature = _rows(z, seen, beta)
        information, total = float(weights @ curvature), weights.sum()

        def deviance(temperature):
            return 2 * float(weights @ (_rows(z, seen, 1 / temperature)[0] - nll))

        return SimpleNamespace(
            temperature=1 / beta,
            standard_error=beta**-2 / math.sqrt(information),
            sandwich_error=beta**-2 * math.sqrt(float(weights**2 @ score**2)) / information,
            nll_after=float(weights @ nll / total),
            nll_before=float(weights @ _rows(z, seen, 1.0)[0] / total),
            deviance=deviance,
        )

    return fit


@pytest.fixture(scope="session")
def draw():
    """Logits (n, states) and labels drawn from their softmax at a temperature."""

    def sample(n, states, temperature=1.0, *, scale=1.0, spread=1.5, seed=0):
        rng = np.random.default_rng(seed)
        z = spread * rng.normal(size=(n, states))
        labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
        return temperature * scale * z, labels

    return sample


@pytest.fixture(scope="session")
def agree():
    """Hold a fit to the oracle: T to 1e-6, errors to 1e-4, the likelihood to rounding (relative)."""

    def check(found, truth, *, nll=1e-9):
        assert found.at_bound is None
        assert found.converged
        assert found.temperature == pytest.approx(truth.temperature, rel=1e-6)
        if found.standard_error is not None:
            assert found.standard_error == pytest.approx(truth.standard_error, rel=1e-4)
        tiny = 1e-6 * truth.standard_error  # one row alone has a score of exactly 0
        assert found.sandwich_error == pytest.approx(truth.sandwich_error, rel=1e-4, abs=tiny)
        assert found.nll_after == pytest.approx(truth.nll_after, rel=nll, abs=1e-12)
        assert found.nll_before == pytest.approx(truth.nll_before, rel=nll, abs=1e-12)

    return check
