"""Temperatures without units: whatever logits or values are measured in, the same number means the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from logitherm._array import Array, as_array, as_log_prior, as_temperature, namespace
from logitherm.kernels import state_function
from logitherm.thermostat.setpoint import solve_temperature


@dataclass(frozen=True)
class EntropyFraction:
    """The temperature at which the entropy is a fraction of the largest possible one, log of the allowed states.

    Between 0 (T = 0) and 1 (T = inf, uniform), for every row on its own: rows with fewer allowed states get less
    entropy. Ties at the top that alone have more entropy are left at T = 0. It is the entropy of softmax(logits / T)
    without a prior; of a prior it minds only which states are forbidden.

    Attributes
    ----------
    fraction : float or array of the batch shape
        0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> import logitherm
    >>> q = np.array([[1.0, 0.5, 0.2, -0.3], [100.0, 50.0, 20.0, -np.inf]])
    >>> (logitherm.entropy(q, EntropyFraction(0.5)) / np.log([4, 3])).round(6).tolist()
    [0.5, 0.5]
    """

    fraction: Any

    def __post_init__(self) -> None:
        _require_share(self.fraction, "fraction", 1.0, "0 is the best state alone, 1 all alike")

    def resolve(self, logits: Array, step: Any = None) -> Array:
        xp = namespace(logits)
        count = xp.sum(xp.astype(logits > -math.inf, logits.dtype), axis=-1)
        fraction = as_temperature(self.fraction, logits, name="fraction")
        return solve_temperature(logits, entropy=fraction * xp.log(count), out_of_range="limit")


@dataclass(frozen=True)
class RelativeToGap:
    """A temperature in units of each row's own gap below its largest logit.

    T = factor * gap; a row of equal logits has a gap of 0, and T = 0 shares between ties as any T would.

    Attributes
    ----------
    factor : float or array of the batch shape
        0 to inf.
    gap : "mean" or "second"
        The mean distance of the allowed logits from the largest, or that of the second one alone. With "second", two
        states that come close to a tie are kept, and all others are cut off.

    Examples
    --------
    >>> import numpy as np
    >>> import logitherm
    >>> q = np.array([[1.0, 0.4, 0.0], [1000.0, 400.0, 0.0]])
    >>> logitherm.softmax(q, RelativeToGap(0.5)).round(3).tolist()
    [[0.886, 0.093, 0.021], [0.886, 0.093, 0.021]]
    """

    factor: Any
    gap: str = "mean"

    def __post_init__(self) -> None:
        _require_share(self.factor, "factor", math.inf, "0.1 to 1 is usual")
        if self.gap not in ("mean", "second"):
            raise ValueError(f"gap: must be 'mean' or 'second'; got {self.gap!r}")

    def resolve(self, logits: Array, step: Any = None) -> Array:
        xp = namespace(logits)
        top = xp.max(logits, axis=-1, keepdims=True)
        allowed = logits > -math.inf
        fall = xp.where(allowed, top - logits, xp.zeros_like(logits))
        if self.gap == "mean":
            gap = xp.sum(fall, axis=-1) / xp.sum(xp.astype(allowed, logits.dtype), axis=-1)
        else:
            first = xp.cumulative_sum(xp.astype(fall == 0, logits.dtype), axis=-1) == 1
            others = xp.where(allowed & ~(first & (fall == 0)), fall, xp.full_like(fall, math.inf))
            gap = xp.min(others, axis=-1)
            gap = xp.where(gap < math.inf, gap, xp.zeros_like(gap))
        return as_temperature(self.factor, logits, name="factor") * gap


@dataclass(frozen=True)
class KLBudget:
    """The temperature at which a policy is so far from its prior: KL(p_T || q) = budget, for every row.

    The prior q is the `log_prior` of the function that asks (normalised over the allowed states), uniform without one.
    A budget that not even T = 0 uses up is answered by T = 0, and a budget of 0 by T = inf, the prior itself.

    Attributes
    ----------
    kl : float or array of the batch shape
        In nats, at least 0.

    References
    ----------
    Abdolmaleki et al. (2018), Maximum a posteriori policy optimisation, section 3.2, for every state on its own.

    Examples
    --------
    >>> import numpy as np
    >>> import logitherm
    >>> q, prior = np.array([1.0, 0.2, -0.5]), np.log([0.2, 0.3, 0.5])
    >>> p = logitherm.softmax(q, KLBudget(0.1), log_prior=prior)
    >>> p.round(3).tolist(), round(float((p * (np.log(p) - prior)).sum()), 9)
    ([0.373, 0.313, 0.314], 0.1)
    """

    kl: Any
    log_prior: Any = None

    def __post_init__(self) -> None:
        _require_share(self.kl, "kl", math.inf, "it is in nats; 0.01 to 1 is usual")

    def under(self, log_prior: Array) -> KLBudget:
        """The same budget against a prior."""
        return KLBudget(self.kl, log_prior)

    def resolve(self, logits: Array, step: Any = None) -> Array:
        xp = namespace(logits)
        q = as_log_prior(self.log_prior, logits)
        # log of the prior's mass on the allowed states: their entropy relative to it at T = inf
        weights = xp.where(logits > -math.inf, xp.zeros_like(logits) if q is None else q, -math.inf)
        mass = state_function("log_partition", weights, xp.ones_like(weights[..., 0]))
        target = mass - as_temperature(self.kl, logits, name="kl")
        target = xp.maximum(target, xp.zeros_like(target)) if q is None else target  # entropies are not negative then
        return solve_temperature(logits, entropy=target, log_prior=q, out_of_range="limit")


def _require_share(value: Any, name: str, most: float, hint: str) -> None:
    given = as_array(value, name)
    xp = namespace(given)
    if not bool(xp.all((given >= 0) & (given <= most))):  # False for NaN as well
        raise ValueError(f"{name}: must lie in [0, {most:g}]; got {value}; {hint}")
