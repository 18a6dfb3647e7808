"""Values of a softmax: the soft value, mellowmax, and the policy of largest entropy that has its value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from logitherm._array import Array, as_temperature, is_traced, namespace
from logitherm.exploration.guard import as_values
from logitherm.gibbs import free_energy
from logitherm.thermostat import solve_temperature

HOT = 1e4  # temperatures over differences from which the value is held to the mean


def soft_value(values: Array, temperature: Any = 1.0, *, log_prior: Array | None = None, mask: Any = None) -> Array:
    """V = T log sum_a pi0(a) exp(Q(a) / T) = E_pi[Q] + T S: what the Boltzmann policy is worth, entropy included.

    Without a prior every action counts 1, as in soft Q-learning and soft actor-critic, and V grows with the number of
    actions; with a normalised prior V lies between E_pi0[Q] (T = inf) and max Q (T = 0), and T S is -T KL(pi || pi0).
    It is minus the free energy of energies -Q.

    Parameters
    ----------
    values : array, shape (..., actions)
        NumPy or PyTorch, with derivatives.
    temperature : float, array of the batch shape, or Temperature
        0 <= T <= inf, in units of the values.
    log_prior : array, optional
        log pi0, broadcastable against the values.
    mask : boolean array, optional
        True for allowed actions.

    Returns
    -------
    array, batch shape

    References
    ----------
    Haarnoja et al. (2017), Reinforcement learning with deep energy-based policies, eq. 5.

    Examples
    --------
    >>> import numpy as np
    >>> q = np.array([1.0, 0.2, -0.5, 0.9])
    >>> round(float(soft_value(q, 0.2)), 5), round(float(soft_value(q, 0.0)), 5)
    (1.09715, 1.0)
    """
    z = as_values(values, mask)
    return -free_energy(z, temperature, log_prior=log_prior)


def mellowmax(values: Array, temperature: Any = 1.0, *, mask: Any = None) -> Array:
    """T log mean exp(Q / T) over the allowed actions: a maximum that is smooth and never expands differences.

    Its omega is 1 / T. Between the mean (T = inf) and the maximum (T = 0). As an operator of value iteration it has
    one fixed point at any T, where the mean under a Boltzmann policy may have several.

    Parameters, errors and shapes are those of `soft_value`.

    References
    ----------
    Asadi and Littman (2017), An alternative softmax operator for reinforcement learning, eq. 1.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(mellowmax(np.array([1.0, 0.2, -0.5, 0.9]), 1 / 5)), 5)
    0.81989
    """
    z = as_values(values, mask)
    return _mellowmax(z, as_temperature(temperature, z))


def _mellowmax(z: Array, t: Array) -> Array:
    xp = namespace(z)
    infinite = t == math.inf
    finite = xp.where(infinite, xp.ones_like(t), t)
    span, count = _span_and_count(z)
    value = -free_energy(z, finite, check=False) - finite * xp.log(count)
    if not (is_traced(z) or is_traced(t) or bool(xp.any(t > HOT * span))):
        return value
    # Far above the differences large numbers cancel; by Hoeffding's lemma the value is within span^2 / 8 T of the mean.
    mean = xp.sum(xp.where(z > -math.inf, z, xp.zeros_like(z)), axis=-1) / count
    bound = xp.where(infinite, xp.zeros_like(t), span**2 / (8 * xp.where(t > 0, finite, xp.ones_like(t))))
    close = xp.clip(value, mean, mean + bound)
    return xp.where(t > HOT * span, close, value)


def mellowmax_temperature(values: Array, temperature: Any = 1.0, *, mask: Any = None) -> Array:
    """T of the Boltzmann policy whose mean value is mellowmax: of all with that mean the one of largest entropy.

    Exact, row by row (`solve_temperature`). Its T is not that of mellowmax itself. A row of equal values has T = inf,
    and so has every row for T = inf.

    Parameters, errors and shapes are those of `soft_value`.

    References
    ----------
    Asadi and Littman (2017), section 6 (their beta is 1 / T).

    Examples
    --------
    >>> import numpy as np
    >>> round(float(1 / mellowmax_temperature(np.array([1.0, 0.2, -0.5, 0.9]), 1 / 5)), 5)
    1.75434
    """
    z = as_values(values, mask)
    xp = namespace(z)
    given = as_temperature(temperature, z)
    t = solve_temperature(z, mean_energy=-_mellowmax(z, given), out_of_range="limit", check=False)
    if not (is_traced(t) or bool(xp.any((t == 0) | (given == math.inf)))):
        return t
    # every mean of equal values is theirs, and that of all alike is met at T = inf alone, within rounding before
    return xp.where((_span_and_count(z)[0] > 0) & (given < math.inf), t, xp.full_like(t, math.inf))


@dataclass(frozen=True)
class MellowmaxTemperature:
    """`mellowmax_temperature` as a `Temperature`: `BoltzmannPolicy(MellowmaxTemperature(0.2))` is the policy.

    Attributes
    ----------
    temperature : float
        That of mellowmax, 1 / omega.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.exploration import BoltzmannPolicy
    >>> policy = BoltzmannPolicy(MellowmaxTemperature(1 / 5))
    >>> policy.probabilities(np.array([1.0, 0.2, -0.5, 0.9])).round(3).tolist()
    [0.464, 0.114, 0.033, 0.389]
    """

    temperature: Any

    def resolve(self, logits: Array, step: Any = None) -> Array:
        return mellowmax_temperature(logits, as_temperature(self.temperature, logits, step=step))


def _span_and_count(z: Array) -> tuple[Array, Array]:
    """Between the largest and the smallest allowed value, and the number of allowed ones."""
    xp = namespace(z)
    top, least = xp.max(z, axis=-1), xp.min(z, axis=-1)
    if not is_traced(z) and bool(xp.all(least > -math.inf)):  # nothing is forbidden, so there is nothing to go round
        return top - least, xp.full_like(top, z.shape[-1])
    allowed = z > -math.inf
    least = xp.min(xp.where(allowed, z, xp.full_like(z, math.inf)), axis=-1)
    return top - least, xp.sum(xp.astype(allowed, z.dtype), axis=-1)
