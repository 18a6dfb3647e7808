from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import softmax


class Case(NamedTuple):
    logits: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def draw_case(n: int, classes: int, seed: int = 0, overconfidence: float = 1.5, scale: float = 2.0) -> Case:
    """Logits whose labels are drawn at temperature `overconfidence`, and uneven weights."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * scale
    labels = (logits / overconfidence + rng.gumbel(size=(n, classes))).argmax(axis=1)
    return Case(logits, labels, rng.uniform(0.1, 3.0, n))


@pytest.fixture(scope="session")
def case() -> Case:
    return draw_case(600, 5)


@pytest.fixture(scope="session")
def make_case():
    return draw_case


class Naive:
    """The definitions in plain loops, with SciPy's softmax: an oracle that shares no code with logitherm."""

    @staticmethod
    def top_label(case: Case, temperature: float) -> tuple[np.ndarray, np.ndarray]:
        confidence = softmax(case.logits / temperature, axis=1).max(axis=1)
        return confidence, case.logits.argmax(axis=1) == case.labels

    @staticmethod
    def binned(p: np.ndarray, hit: np.ndarray, weights: np.ndarray, bins: int) -> list[tuple[float, float]]:
        """(share of the weight, mean p - mean hit) of every bin (b/bins, (b+1)/bins] that is not empty."""
        found = []
        for b in range(bins):
            inside = [i for i in range(len(p)) if b / bins < p[i] <= (b + 1) / bins or (b == 0 and p[i] == 0)]
            if inside:
                w = weights[inside]
                gap = np.average(p[inside], weights=w) - np.average(hit[inside], weights=w)
                found.append((w.sum() / weights.sum(), gap))
        return found

    def ece(self, case: Case, temperature: float = 1.0, bins: int = 15) -> float:
        return sum(
            share * abs(gap) for share, gap in self.binned(*self.top_label(case, temperature), case.weights, bins)
        )

    def mce(self, case: Case, temperature: float = 1.0, bins: int = 15) -> float:
        return max(abs(gap) for _, gap in self.binned(*self.top_label(case, temperature), case.weights, bins))

    def classwise(self, case: Case, temperature: float = 1.0, bins: int = 15) -> float:
        p = softmax(case.logits / temperature, axis=1)
        errors = [
            sum(share * abs(gap) for share, gap in self.binned(p[:, k], case.labels == k, case.weights, bins))
            for k in range(p.shape[1])
        ]
        return float(np.mean(errors))


@pytest.fixture(scope="session")
def naive() -> Naive:
    return Naive()
