"""The temperature of soft actor-critic: the one at which the policy has a target entropy, and whether it can."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from logitherm._array import Array, as_log_prior, describe, namespace
from logitherm.exploration.guard import as_values
from logitherm.gibbs import softmax
from logitherm.thermostat import solve_temperature

if TYPE_CHECKING:
    from torch import Tensor

    from logitherm.thermostat import LearnableTemperature


def sac_temperature(
    values: Array,
    entropy: Any,
    *,
    log_density: Array | None = None,
    mask: Any = None,
    pooled: bool = True,
    out_of_range: str = "raise",
) -> Array:
    """alpha at which softmax(Q / alpha) has the target entropy: exact, where others take gradient steps.

    Discrete actions: values of all of them. Continuous actions: values of sampled ones with the log density of what
    they were drawn from; the entropy is then the differential one of p ~ exp(Q / alpha), estimated by the samples
    (self-normalised importance weights), and as good as they cover p.

    Parameters
    ----------
    values : array, shape (..., actions)
        NumPy or PyTorch.
    entropy : float
        Target in nats; `entropy_target` gives one, `check_entropy_target` tells what it means.
    log_density : array, optional
        Log density of every sampled action, broadcastable against the values: for actions uniform in a box, minus
        the sum of log(high - low).
    mask : boolean array, optional
        True for allowed actions.
    pooled : bool
        One alpha for all states, at which their mean entropy is the target (soft actor-critic), or one a state.
    out_of_range : "raise" or "limit"
        As in `solve_temperature`: a target that no alpha reaches raises, or is answered by 0 or inf.

    Returns
    -------
    array, without axes if pooled, else of the batch shape

    Raises
    ------
    ValueError
        A target out of reach; values with NaN or +inf.

    References
    ----------
    Haarnoja et al. (2018), Soft actor-critic algorithms and applications, section 5; Christodoulou (2019) for discrete
    actions.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm import entropy
    >>> q = np.array([[1.0, 0.5], [0.2, 0.9], [3.0, -1.0]])
    >>> alpha = sac_temperature(q, entropy=0.5)
    >>> round(float(alpha), 4), round(float(entropy(q, alpha).mean()), 9)
    (1.2645, 0.5)

    A quadratic Q is a Gaussian policy of variance alpha / 2, whose entropy is known:

    >>> a = np.random.default_rng(0).uniform(-4, 4, size=(1, 40_000))
    >>> alpha = sac_temperature(-(a**2), entropy=0.5, log_density=-np.log(8.0))
    >>> round(float(alpha), 2), round(float(np.exp(2 * 0.5) / (np.pi * np.e)), 3)
    (0.31, 0.318)
    """
    z = as_values(values, mask)
    density = as_log_prior(log_density, z)
    if density is None:
        q = None
    else:  # every sample stands for 1 / (number of samples times density)
        xp = namespace(z)
        q = -xp.log(xp.sum(xp.astype(z > -math.inf, z.dtype), axis=-1, keepdims=True)) - density
    return solve_temperature(z, entropy=entropy, log_prior=q, pooled=pooled, out_of_range=out_of_range)


def sac_temperature_loss(temperature: LearnableTemperature, entropy: Tensor, target: float) -> Tensor:
    """The loss whose gradient steps take a `LearnableTemperature` to where the mean entropy is the target.

    log T (entropy - target), averaged: its slope in log T is how far the entropy is from the target. The paper's T
    (entropy - target) has the same root, with steps that shrink as T does.

    Parameters
    ----------
    temperature : LearnableTemperature
    entropy : tensor
        Entropies of the policy's states, or -log pi of sampled actions; taken as constants.
    target : float
        In nats.

    Returns
    -------
    tensor without axes

    References
    ----------
    Haarnoja et al. (2018), Soft actor-critic algorithms and applications, eq. 18.

    Examples
    --------
    >>> import torch, logitherm
    >>> from logitherm.thermostat import LearnableTemperature
    >>> q = torch.tensor([[1.0, 0.5], [0.2, 0.9], [3.0, -1.0]])
    >>> alpha = LearnableTemperature(3.0)
    >>> optimizer = torch.optim.Adam(alpha.parameters(), lr=0.1)
    >>> for _ in range(100):
    ...     optimizer.zero_grad()
    ...     sac_temperature_loss(alpha, logitherm.entropy(q, alpha), target=0.5).backward()
    ...     optimizer.step()
    >>> alpha
    LearnableTemperature(1.265)
    """
    if not hasattr(temperature, "resolve"):
        raise TypeError(
            f"temperature: must be a LearnableTemperature; got {describe(temperature)}; wrap the first value in one"
        )
    return (temperature.resolve().log() * (entropy - target).detach()).mean()


def entropy_target(actions: int, *, top_probability: float) -> float:
    """Entropy in nats of a policy that gives its best action a probability and shares the rest among the others.

    The dial that means something: how sure the policy may become. A fraction of log |A| does not, as the same fraction
    allows different certainty for every number of actions.

    Parameters
    ----------
    actions : int
        At least 2.
    top_probability : float
        In [1 / actions, 1].

    Examples
    --------
    >>> [round(entropy_target(n, top_probability=0.9), 3) for n in (2, 4, 18)]
    [0.325, 0.435, 0.608]
    """
    p, n = top_probability, _require_actions(actions)
    if not 1 / n <= p <= 1:
        raise ValueError(f"top_probability: must lie in [1 / actions, 1], [{1 / n:.3g}, 1]; got {p}")
    rest = 1 - p
    return 0.0 if rest == 0 else -p * math.log(p) - rest * math.log(rest / (n - 1))


@dataclass(frozen=True)
class EntropyTarget:
    """What a target entropy asks of a policy; `check_entropy_target` makes it.

    Attributes
    ----------
    target : float
        In nats.
    least, most : float
        Entropies between which a policy can be (least is -inf for continuous actions).
    verdict : "binds", "never binds", "out of reach"
    top_probability : float
        The largest probability that the target leaves to one action; NaN for continuous actions.
    deviation : float
        The standard deviation of a Gaussian of that entropy in every dimension; NaN for discrete actions.
    message : str
        One line.
    """

    target: float
    least: float
    most: float
    verdict: str
    top_probability: float
    deviation: float
    message: str

    def __str__(self) -> str:
        return self.message


def check_entropy_target(
    target: float, *, actions: int | None = None, low: Any = None, high: Any = None
) -> EntropyTarget:
    """Whether a target entropy can be held, and how sure the policy may be under it.

    A target at or below the least entropy never binds: alpha falls to 0 and exploration ends. One at or above the
    largest is out of reach: alpha grows without end.

    Parameters
    ----------
    target : float
        In nats.
    actions : int, optional
        The number of discrete actions; or
    low, high : float or array, shape (dimensions,), optional
        The box of continuous actions, in the units in which log pi is taken (-1 and 1 for a policy that ends in tanh).

    Returns
    -------
    EntropyTarget

    Raises
    ------
    ValueError
        Neither or both kinds of actions; a box without volume; a target that is no number.

    References
    ----------
    Christodoulou (2019), which proposes 0.98 log |A|; Haarnoja et al. (2018), minus the number of dimensions.

    Examples
    --------
    >>> import math
    >>> print(check_entropy_target(0.98 * math.log(2), actions=2))
    binds: 0.679 nats are 98 % of the largest entropy; the best of 2 actions gets a probability of at most 0.583
    >>> print(check_entropy_target(-math.log(2), actions=2))
    never binds: entropies of 2 actions are 0 to 0.693 nats, the target is -0.693; alpha will fall to 0
    >>> print(check_entropy_target(-3.0, low=-np.ones(3), high=np.ones(3)))
    binds: -3 nats, those of a Gaussian of deviation 0.089 in 3 dimensions
    """
    if isinstance(target, str) or not math.isfinite(target):
        raise ValueError(f"target: must be a finite number of nats; got {target}")
    if (actions is None) == (low is None and high is None) or (low is None) != (high is None):
        raise ValueError("actions, low, high: give the number of discrete actions, or both ends of the box, not both")
    if actions is not None:
        n = _require_actions(actions)
        least, most, which = 0.0, math.log(n), f"{n} actions"
    else:
        width = np.atleast_1d(np.asarray(high, dtype=float) - np.asarray(low, dtype=float))
        if not (np.all(width > 0) and np.all(np.isfinite(width))):
            raise ValueError(f"low, high: must be finite with low < high; got widths {width.tolist()}")
        n = width.size
        dimensions = f"{n} dimension" + "s" * (n > 1)
        least, most, which = -math.inf, float(np.log(width).sum()), f"a box of {dimensions}"
    top = deviation = math.nan
    if target <= least or target >= most:
        verdict = "never binds" if target <= least else "out of reach"
        span = f"0 to {most:.3g}" if least == 0 else f"at most {most:.3g}"
        end = "fall to 0" if target <= least else "grow without end"
        message = f"{verdict}: entropies of {which} are {span} nats, the target is {target:.3g}; alpha will {end}"
    elif actions is not None:
        verdict = "binds"
        one_above_all = np.eye(1, n)[0]
        top = float(softmax(one_above_all, solve_temperature(one_above_all, entropy=target)).max())
        message = (
            f"binds: {target:.3g} nats are {target / most:.0%} of the largest entropy; the best of {n} actions gets a "
            f"probability of at most {top:.3f}"
        ).replace("%", " %")
    else:
        verdict = "binds"
        deviation = math.exp(target / n - 0.5 * math.log(2 * math.pi * math.e))
        message = f"binds: {target:.3g} nats, those of a Gaussian of deviation {deviation:.3g} in {dimensions}"
    return EntropyTarget(float(target), least, most, verdict, top, deviation, message)


def _require_actions(actions: int) -> int:
    if isinstance(actions, (bool, str)) or int(actions) != actions or actions < 2:
        raise ValueError(f"actions: must be an integer of at least 2; got {actions}; one action has no entropy")
    return int(actions)
