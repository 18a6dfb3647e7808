"""Calibrators of every family that can be folded, and of every one that cannot."""

import numpy as np
import pytest

from logitherm.calibration import (
    BiasCorrectedTemperatureScaling,
    DirichletCalibration,
    EnsembleTemperatureScaling,
    EntropyTemperatureScaling,
    ParametricTemperatureScaling,
    PlattScaling,
    StructuredMatrixScaling,
    TemperatureScaling,
    VectorScaling,
)

FOLDED = (TemperatureScaling, BiasCorrectedTemperatureScaling, VectorScaling, StructuredMatrixScaling)
CURVED = (DirichletCalibration, EnsembleTemperatureScaling, EntropyTemperatureScaling, ParametricTemperatureScaling)


def _fitted(family, classes=4):
    """A calibrator of logits that are too large, biased and mixed, so that nothing in its map is trivial."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, classes))
    labels = (z + np.linspace(0, 1, classes) + 0.3 * z[:, ::-1] + rng.gumbel(size=z.shape)).argmax(axis=1)
    return family().fit(2 * z * np.linspace(0.8, 1.2, classes), labels)


@pytest.fixture(scope="session")
def fitted():
    return _fitted


@pytest.fixture(scope="session")
def platt():
    """One score a label."""

    def fit(labels=1):
        rng = np.random.default_rng(0)
        x = 3 * rng.normal(size=(600, labels))
        return PlattScaling().fit(x, (x / 2 + 1 + rng.logistic(size=x.shape) > 0).astype(int))

    return fit


@pytest.fixture(params=FOLDED, ids=lambda family: family.__name__)
def calibrator(request):
    """One of each foldable family, of four classes."""
    return _fitted(request.param)


@pytest.fixture(params=CURVED, ids=lambda family: family.__name__)
def curved(request):
    return _fitted(request.param)
