"""The log-probability of one state a row: one definition in every library, at every temperature."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from logitherm.kernels import ran
from logitherm.kernels.chosen import log_probability, take


@pytest.mark.parametrize("t", [0.0, 1e-30, 0.3, 1.0, 1e30, math.inf])
def test_libraries_agree(t):
    rng = np.random.default_rng(0)
    z, chosen = 3 * rng.normal(size=(2, 3, 5)).astype(np.float32), rng.integers(5, size=(2, 3))
    z[:, :, 4] = np.where(chosen == 4, z[:, :, 4], -np.inf)
    every = np.full((2, 3), t, np.float32)
    found = log_probability(z, every, chosen)
    torches = log_probability(torch.tensor(z), torch.tensor(every), torch.tensor(chosen))
    np.testing.assert_allclose(torches.numpy(), found, rtol=3e-7)
    if 0 < t < math.inf:
        x = z.astype(float) / t
        x -= x.max(-1, keepdims=True)
        wide = take(x, chosen) - np.log(np.exp(x).sum(-1))
        np.testing.assert_allclose(found, wide, rtol=1e-6, atol=1e-6)
        jaxes = log_probability(jnp.asarray(z), jnp.asarray(every), jnp.asarray(chosen))
        np.testing.assert_allclose(np.asarray(jaxes), found, rtol=1e-5, atol=1e-6)


def test_a_probability_near_one_keeps_its_digits():
    z = np.array([[30.0, 0.0]], np.float32)
    assert log_probability(z, np.ones(1, np.float32), np.array([0])) == pytest.approx(-math.exp(-30), rel=1e-6)


def test_the_compiled_kernel_runs_forward_and_back():
    z = torch.randn(40, 1000, requires_grad=True, generator=torch.Generator().manual_seed(0))
    before = dict(ran)
    log_probability(z, torch.ones(40), torch.arange(40)).sum().backward()
    assert ran["moments"] > before.get("moments", 0) and ran["softmax"] > before.get("softmax", 0)


def test_no_rows():
    z = torch.zeros(0, 4, requires_grad=True)
    found = log_probability(z, torch.ones(0), torch.zeros(0, dtype=torch.int64))
    found.sum().backward()
    assert found.shape == (0,) and z.grad.shape == (0, 4)
