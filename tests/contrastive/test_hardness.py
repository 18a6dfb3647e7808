"""The report of hardness against its definition."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import logitherm.contrastive.inputs as inputs
from logitherm.contrastive import hardness, info_nce
from logitherm.thermostat import LearnableTemperature, SetPoint

TEMPERATURES = [0.02, 0.1, 1.0, 1e4]


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(12, 6, generator=generator, dtype=torch.float64) for _ in range(3)]


@pytest.mark.parametrize("queue", [False, True])
@pytest.mark.parametrize("rows", [1 << 20, 36])
def test_equals_the_definition(features, queue, rows, monkeypatch):
    monkeypatch.setattr(inputs, "ROWS", rows)  # whole, and in blocks of three rows
    q, k, negatives = features
    found = hardness(q, k, TEMPERATURES, negatives=negatives if queue else None)
    q, k, negatives = (normalize(x, dim=1) for x in features)
    assert found.negatives == (12 if queue else 11)
    for t, entropy, effective, positive in zip(
        TEMPERATURES, found.entropy, found.effective_negatives, found.positive_probability
    ):
        for i in range(12):
            s = q[i] @ (negatives if queue else torch.cat([k[:i], k[i + 1 :]])).T / t
            p = s.softmax(0)
            wanted = -torch.special.xlogy(p, p).sum().item()
            assert entropy[i] == pytest.approx(wanted, abs=1e-10)
            assert effective[i] == pytest.approx(math.exp(wanted))
            assert positive[i] == pytest.approx(torch.cat([q[i] @ k[i][:, None] / t, s]).softmax(0)[0].item())


def test_the_positive_has_the_probability_of_the_loss(features):
    q, k, _ = features
    found = hardness(q, k, 0.1)
    rows = info_nce(q, k, temperature=0.1, reduction="none")
    np.testing.assert_allclose(-np.log(found.positive_probability[0]), rows, rtol=1e-10)


def test_limits_and_order(features):
    found = hardness(*features[:2], [1e-7, 0.05, 0.2, 1.0, 1e6])
    np.testing.assert_allclose(found.effective_negatives[0], 1, rtol=1e-6)
    np.testing.assert_allclose(found.effective_negatives[-1], 11, rtol=1e-6)
    assert (np.diff(found.entropy, axis=0) >= 0).all()  # hotter is easier: more negatives share the push


def test_the_summary_is_json(features):
    found = hardness(*features[:2], torch.tensor([0.07, 0.5])).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["anchors"] == 12
    for row in found["temperatures"]:
        for name in ("entropy", "effective_negatives", "positive_probability"):
            assert row[name]["low"] <= row[name]["median"] <= row[name]["high"]
            assert row[name]["low"] <= row[name]["mean"] <= row[name]["high"]


def test_half_types_and_bad_inputs(features):
    assert hardness(*(x.half() for x in features[:2]), 0.01).entropy.dtype == np.float32
    for t in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature: must be positive and finite"):
            hardness(*features[:2], t)
    for t in ([], "0.1", SetPoint(entropy=1.0)):
        with pytest.raises(TypeError, match="temperature: must be a number or several; got"):
            hardness(*features[:2], t)
    learned = hardness(*features[:2], LearnableTemperature(0.1, low=0.01)).entropy
    assert np.allclose(learned, hardness(*features[:2], 0.1).entropy, rtol=1e-5)
    with pytest.raises(ValueError, match="keys: must have a negative"):
        hardness(features[0][:1], features[1][:1], 0.1)
