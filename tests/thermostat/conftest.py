"""The quantities of one row in extended precision, from the plain formulas."""

import math

import numpy as np
import pytest

LONG = np.longdouble


def _exponents(z, temperature, log_prior):
    """z / T + log q relative to the largest allowed logit, with both limits of T."""
    allowed = (z > -math.inf) & (log_prior > -math.inf)
    top = z[allowed].max()
    fall = np.where(allowed, z - top, 0)
    if temperature == 0:
        x = np.where(fall < 0, -math.inf, 0)
    else:
        x = fall / LONG(temperature)
    return np.where(allowed, x + np.where(allowed, log_prior, 0), -math.inf), fall


def _quantity(name, z, temperature, log_prior=None, reference_temperature=1.0):
    z = np.asarray(z, LONG)
    q = np.zeros(z.shape, LONG) if log_prior is None else np.asarray(log_prior, LONG)
    x, fall = _exponents(z, temperature, q)
    log_z = x.max() + np.log(np.exp(x - x.max()).sum())
    p = np.exp(x - log_z)
    mean = (p * fall).sum()
    energy = mean / LONG(temperature) if temperature else LONG(0)
    if name == "entropy":
        return log_z - energy
    if name == "mean_energy":
        return -mean - z[(z > -math.inf) & (q > -math.inf)].max()
    if name == "top_probability":
        return p.max()
    near, _ = _exponents(z, reference_temperature, q)
    log_near = near.max() + np.log(np.exp(near - near.max()).sum())
    return energy - mean / LONG(reference_temperature) + log_near - log_z


@pytest.fixture(scope="session")
def quantity():
    return _quantity
