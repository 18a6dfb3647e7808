"""The temperature of an update that may move a policy only so far: the duals of REPS, MPO and V-MPO.

Each is g(T) = T kl + T mean_s log mean_a exp(Q / T), convex in T, and least where the reweighted samples are exactly
`kl` away from the old policy. So T is the root of one monotone function, and no gradient steps, learning rate or floor
are needed.
"""

from __future__ import annotations

import math
from typing import Any

from logitherm._array import Array, as_log_prior, as_temperature, describe, namespace
from logitherm.exploration.guard import as_values
from logitherm.gibbs import free_energy, log_partition
from logitherm.thermostat import solve_temperature


def mpo_temperature(values: Array, kl: float, *, log_prior: Array | None = None) -> Array:
    """One T for all states, at which KL(pi_T || pi_old), averaged over the states, is the budget.

    Parameters
    ----------
    values : array, shape (states, samples) or (..., samples)
        Q of actions drawn from the old policy, NumPy or PyTorch; or of all actions, with their log probabilities under
        it as the prior.
    kl : float
        Budget in nats, above 0; 0.1 is usual.
    log_prior : array, optional
        log pi_old, broadcastable against the values and normalised by us; uniform for samples of it.

    Returns
    -------
    array without axes
        T; the weights of the samples are `softmax(values, T, log_prior=...)`. Limits: T = 0 where even the best samples
        alone are within the budget, T = inf for kl = 0.

    Raises
    ------
    ValueError
        A budget that is negative or no number; values with NaN or +inf.

    References
    ----------
    Abdolmaleki et al. (2018), Maximum a posteriori policy optimisation, eq. 8.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(mpo_temperature(np.array([[1.0, 0.2, -0.5, 0.9]]), kl=0.3)), 5)
    0.57265
    """
    z, q, mass = _prepare(values, kl, log_prior)
    xp = namespace(z)
    return solve_temperature(z, entropy=xp.mean(mass) - kl, log_prior=q, pooled=True, out_of_range="limit")


def mpo_dual(values: Array, temperature: Any, kl: float, *, log_prior: Array | None = None) -> Array:
    """g(T) = T kl + T mean_s log mean_a exp(Q / T), without axes: what those who take gradient steps in T minimise.

    Its slope is kl - KL(pi_T || pi_old), and it is least at `mpo_temperature`, whose parameters it has. Limits: the
    mean of the largest values at T = 0; inf at T = inf, or the mean value for kl = 0.

    Examples
    --------
    >>> import numpy as np
    >>> q = np.array([[1.0, 0.2, -0.5, 0.9]])
    >>> [round(float(mpo_dual(q, t, kl=0.3)), 4) for t in (0.3, 0.57265, 1.0)]
    [0.8492, 0.8189, 0.8604]
    """
    z, q, mass = _prepare(values, kl, log_prior)
    xp = namespace(z)
    t = as_temperature(temperature, z)
    # normalised, the prior has no mass to be taken off, which at T = inf would be inf - inf
    found = xp.mean(-free_energy(z, t, log_prior=q - mass[..., None]))
    return found + (xp.mean(t) * kl if kl > 0 else 0.0)


def reps_temperature(advantages: Array, kl: float) -> Array:
    """T at which samples weighted by exp(A / T) are `kl` away from the samples as they are.

    Parameters
    ----------
    advantages : array, shape (samples,)
        Advantages, or the Bellman errors r + gamma V(s') - V(s) of REPS for given V.
    kl : float
        Budget in nats, above 0.

    Returns
    -------
    array without axes
        T, with limits as in `mpo_temperature`.

    References
    ----------
    Peters et al. (2010), Relative entropy policy search, section 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm import softmax
    >>> a = np.array([0.5, -1.0, 2.0, 0.0])
    >>> t = reps_temperature(a, kl=0.1)
    >>> w = softmax(a, t)
    >>> round(float(t), 4), round(float((w * np.log(4 * w)).sum()), 6)
    (2.4609, 0.1)
    """
    return mpo_temperature(_as_advantages(advantages)[None, :], kl)


def vmpo_temperature(advantages: Array, kl: float, *, top_fraction: float = 0.5) -> Array:
    """`reps_temperature` of the best samples alone, as V-MPO has it.

    Parameters
    ----------
    advantages : array, shape (samples,)
    kl : float
        Budget in nats, above 0.
    top_fraction : float
        Share of the samples that is kept, in (0, 1]; at least one is.

    Returns
    -------
    array without axes

    References
    ----------
    Song et al. (2020), V-MPO, eq. 4 and section 4.

    Examples
    --------
    >>> import numpy as np
    >>> round(float(vmpo_temperature(np.array([0.5, -1.0, 2.0, 0.0]), kl=0.1)), 4)
    1.5899
    """
    z = _as_advantages(advantages)
    if not 0 < top_fraction <= 1:
        raise ValueError(f"top_fraction: must lie in (0, 1]; got {top_fraction}; 0.5 is usual")
    kept = max(1, math.floor(z.shape[0] * top_fraction))
    return reps_temperature(namespace(z).sort(z)[-kept:], kl)


def _as_advantages(advantages: Array) -> Array:
    z = as_values(advantages, name="advantages")
    if z.ndim != 1:
        raise ValueError(f"advantages: must have one axis, a number a sample; got {describe(advantages)}; flatten them")
    return z


def _prepare(values: Array, kl: float, log_prior: Array | None) -> tuple[Array, Array, Array]:
    """Values, the log prior of every sample, and the log of its mass over the allowed ones."""
    z = as_values(values)
    xp = namespace(z)
    if math.prod(getattr(kl, "shape", ())) != 1 or isinstance(kl, str) or not 0 <= kl < math.inf:
        raise ValueError(f"kl: must be at least 0 and finite, in nats; got {kl}; 0.1 is usual")
    if math.prod(z.shape[:-1]) == 0:
        raise ValueError(f"values: must hold at least one state; got {describe(values)}")
    q = as_log_prior(0.0 if log_prior is None else log_prior, z)
    return z, q, log_partition(xp.where(z > -math.inf, q, -math.inf))
