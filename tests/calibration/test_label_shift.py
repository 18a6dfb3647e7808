"""Class frequencies from unlabelled logits: on simulated rows, and on real ones resampled to other frequencies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from logitherm.calibration import BiasCorrectedTemperatureScaling, adapt_to_label_shift
from logitherm.metrics import accuracy, nll

FOLDER = Path(__file__).parents[3] / "shared" / "data"


def simulated(frequencies, n=8000, seed=0):
    """Logits that are calibrated where all classes are equally frequent."""
    rng = np.random.default_rng(seed)
    k = len(frequencies)
    labels = rng.choice(k, size=n, p=frequencies)
    x = 1.5 * np.eye(k)[labels] + rng.normal(size=(n, k))
    return 1.5 * x, labels


def test_frequencies_are_found_and_mend_the_probabilities():
    frequencies = np.array([0.6, 0.3, 0.08, 0.02])
    z, labels = simulated(frequencies)
    found = adapt_to_label_shift(z, np.ones(4))
    assert found.converged
    np.testing.assert_allclose(found.adapted, frequencies, atol=0.015)
    assert nll(found.transform(z), labels) < nll(z, labels) - 0.1
    assert accuracy(found.transform(z), labels) > accuracy(z, labels)


def test_it_is_the_maximum_of_the_likelihood():
    z, _ = simulated([0.5, 0.3, 0.2], n=500)
    found = adapt_to_label_shift(z, [2, 1, 1])
    p = np.exp(z - z.max(axis=1, keepdims=True)) / found.prior

    def loss(frequencies):
        return -np.log((p * frequencies).sum(axis=1)).sum()

    rng = np.random.default_rng(0)
    for _ in range(20):
        other = found.adapted * np.exp(0.01 * rng.normal(size=3))
        assert loss(found.adapted) < loss(other / other.sum())


def test_the_same_frequencies_change_nothing():
    z, _ = simulated([0.25] * 4, n=50_000)
    np.testing.assert_allclose(adapt_to_label_shift(z, np.ones(4)).adapted, 0.25, atol=0.006)


@pytest.mark.skipif(
    not (FOLDER / "facts.json").exists(), reason="the real predictions do not lie beside this repository"
)
@pytest.mark.parametrize("name", ["cifar10_netcal_wideresnet164", "cifar10_verifiedvgg16", "cifar10_netcal_lenet5"])
def test_real_logits_resampled_to_other_frequencies(name):
    val, test = (np.load(FOLDER / f"{name}.{half}.npz") for half in ("val", "test"))
    scaling = BiasCorrectedTemperatureScaling().fit(val["logits"], val["labels"])
    frequencies = np.random.default_rng(0).dirichlet(np.ones(10))
    share = frequencies[test["labels"]] / np.bincount(test["labels"], minlength=10)[test["labels"]]
    rows = np.random.default_rng(1).choice(len(share), 5000, p=share / share.sum())
    z, labels = scaling.transform(test["logits"][rows]), test["labels"][rows]
    found = adapt_to_label_shift(z, np.bincount(val["labels"], minlength=10))
    truth = np.bincount(labels, minlength=10) / 5000
    assert np.abs(found.adapted - truth).sum() < 0.35 * np.abs(found.prior - truth).sum()
    assert nll(found.transform(z), labels) < nll(z, labels)


def test_json_and_errors():
    z, _ = simulated([0.5, 0.5], n=100)
    assert json.loads(adapt_to_label_shift(z, [1, 1]).to_json())["converged"] is True
    with pytest.raises(ValueError, match=r"prior: must be 2 positive frequencies or counts; got shape \(2,\)"):
        adapt_to_label_shift(z, [1, 0])
    with pytest.raises(ValueError, match="logits: must have shape"):
        adapt_to_label_shift(z[:0], [1, 1])
    z[3] = np.nan
    with pytest.raises(ValueError, match=r"row 3 .* NaN"):
        adapt_to_label_shift(z, [1, 1])
