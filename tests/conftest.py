"""What every test may ask for: the definition in many digits, and a count of the compiled kernels that ran."""

import math
from types import SimpleNamespace

import hypothesis
import mpmath
import numpy as np
import pytest

from logitherm.kernels import ran as kernel_counts

hypothesis.settings.register_profile("here", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.load_profile("here")

mp = mpmath.mp.clone()
mp.dps = 120  # a variance over T^2 cancels 88 of them at T = 1e-44


def definition(z, temperature, log_prior=None):
    """Every quantity of one row from p_i = q_i exp(z_i / T) / Z, in many digits; the limits as they are defined."""
    z = [float(v) for v in z]
    log_q = [0.0] * len(z) if log_prior is None else [float(v) for v in log_prior]
    allowed = [i for i in range(len(z)) if z[i] > -math.inf and log_q[i] > -math.inf]
    t = mp.mpf(float(temperature))
    q = {i: mp.exp(mp.mpf(log_q[i])) for i in allowed}
    if temperature == 0:
        best = max(z[i] for i in allowed)
        weight = {i: q[i] if z[i] == best else mp.mpf(0) for i in allowed}
    elif temperature == math.inf:
        weight = q
    else:
        weight = {i: q[i] * mp.exp(mp.mpf(z[i]) / t) for i in allowed}
    total = mp.fsum(weight.values())
    p = {i: weight[i] / total for i in allowed}
    mean = mp.fsum(p[i] * mp.mpf(z[i]) for i in allowed)
    variance = mp.fsum(p[i] * (mp.mpf(z[i]) - mean) ** 2 for i in allowed)
    entropy = -mp.fsum(p[i] * mp.log(p[i] / q[i]) for i in allowed if p[i] > 0)
    limit = temperature in (0, math.inf)
    if temperature == 0:
        free, log_z = -mean, mp.mpf(0) if mean == 0 else mp.sign(mean) * mp.inf
        log_z = entropy if mean == 0 else log_z
    elif temperature == math.inf:
        still = abs(entropy) < 1e-14  # a prior that sums to 1 within float64
        free, log_z = (-mean if still else -mp.sign(entropy) * mp.inf), mp.log(total)
    else:
        free, log_z = -t * mp.log(total), mp.log(total)
    return SimpleNamespace(
        p=[p.get(i, mp.mpf(0)) for i in range(len(z))],
        log_p=[mp.log(p[i]) if p.get(i, 0) > 0 else -mp.inf for i in range(len(z))],
        log_partition=log_z,
        free_energy=free,
        mean_energy=-mean,
        entropy=entropy,
        heat_capacity=mp.mpf(0) if limit else variance / t**2,
        top_probability=max(p.values()),
    )


@pytest.fixture(scope="session", name="definition")
def definition_():
    return definition


@pytest.fixture
def ran():
    """`ran("moments")`: how often a compiled kernel was called since the last question."""
    before = kernel_counts.copy()

    def count(kernel):
        calls = kernel_counts[kernel] - before[kernel]
        before[kernel] = kernel_counts[kernel]
        return calls

    return count


@pytest.fixture
def rng():
    return np.random.default_rng(0)
