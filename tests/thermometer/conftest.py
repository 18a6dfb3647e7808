"""The answer to every fit: a plain float64 Newton search, written out to be independent of the library."""

from __future__ import annotations

import numpy as np
import pytest


def newton(logits: np.ndarray, observed: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
    """Temperature, errors and mean NLL of one fit; `observed` is the mean observed logit of every row."""
    z = logits.astype(np.float64)
    w = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=np.float64)
    top = z.max(axis=1)
    d = z - top[:, None]

    def rows(beta: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        e = np.exp(beta * d)
        total = e.sum(axis=1)
        mean = (e * np.where(e > 0, d, 0)).sum(axis=1) / total
        square = (e * np.where(e > 0, d, 0) ** 2).sum(axis=1) / total
        return np.log(total) - beta * (observed - top), mean - (observed - top), square - mean**2

    low, high, x = -90.0, 90.0, 0.0
    for _ in range(300):
        _, score, curvature = rows(np.exp(x))
        value, slope = (w * score).sum(), np.exp(x) * (w * curvature).sum()
        low, high = (x, high) if value < 0 else (low, x)
        step = x - value / slope if slope > 0 else np.nan
        new = step if low < step < high else (low + high) / 2
        if abs(new - x) < 1e-15:
            break
        x = new
    beta = float(np.exp(x))
    nll, score, curvature = rows(beta)
    information = float((w * curvature).sum())
    return {
        "temperature": 1 / beta,
        "standard_error": information**-0.5 / beta**2,
        "sandwich_error": float(((w * score) ** 2).sum()) ** 0.5 / information / beta**2,
        "nll_before": float((w * rows(1.0)[0]).sum() / w.sum()),
        "nll_after": float((w * nll).sum() / w.sum()),
    }


def draw(n: int, classes: int, temperature: float, scale: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels follow softmax(logits / (temperature * scale))."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, classes))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return z * temperature * scale, labels


@pytest.fixture(scope="session", name="newton")
def newton_():
    return newton


@pytest.fixture(scope="session", name="draw")
def draw_():
    return draw
