"""Log-probabilities at the temperature they were sampled at, and the importance ratio that needs them to be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_array, as_temperature, describe, is_torch, like, namespace, to_numpy
from logitherm.exploration.guard import as_actions, as_values
from logitherm.gibbs import log_partition

ROWS, VALUES = 2048, 1 << 22  # that are looked at to find a temperature, at most, but at least 64 rows
COLDEST, HOTTEST, POINTS = 0.02, 50.0, 41  # of the search for it


def logprob_at(logits: Array, actions: Array, temperature: Any = 1.0, *, mask: Any = None, step: Any = None) -> Array:
    """log softmax(z / T) of one action or token a row, without the other probabilities.

    A policy gradient is one of the policy that acted. If tokens were drawn at T, then T belongs into the
    log-probabilities of the policy, of the old policy and of the reference alike.

    Parameters
    ----------
    logits : array, shape (..., actions)
        NumPy or PyTorch, with derivatives in logits and temperature.
    actions : integer array, batch shape
        Tokens or actions that were drawn.
    temperature : float, array of the batch shape, or Temperature
        The one they were drawn at; 0 <= T <= inf.
    mask : boolean array, optional
        True for allowed actions.
    step : optional
        For temperatures that are schedules.

    Returns
    -------
    array, batch shape
        In nats, in the compute dtype.

    Raises
    ------
    ValueError
        An action that is not allowed, or outside of [0, actions); bad rows.

    Examples
    --------
    >>> import numpy as np
    >>> logprob_at(np.array([[2.0, 0.0], [2.0, 0.0]]), np.array([0, 1]), 0.5).round(4).tolist()
    [-0.0181, -4.0181]
    """
    z = as_values(logits, mask)
    chosen = as_actions(actions, z)[..., None]
    own = z.gather(-1, chosen) if is_torch(z) else namespace(z).take_along_axis(z, chosen, axis=-1)
    if bool((own == -math.inf).any()):
        row = int(np.argmax(to_numpy(own).reshape(-1) == -math.inf))
        raise ValueError(
            f"actions: must be allowed; that of row {row} is masked or has -inf; mend the mask or the actions"
        )
    return -log_partition(z - own, as_temperature(temperature, z, step=step))  # relative to the action: nothing cancels


def importance_ratio(
    logits: Array,
    actions: Array,
    old_log_prob: Array,
    temperature: Any = 1.0,
    *,
    mask: Any = None,
    step: Any = None,
) -> Array:
    """pi(a) / pi_old(a) with the numerator at the temperature of sampling: PPO's and GRPO's ratio.

    The old log-probabilities must be at the same temperature; `check_log_prob` tells whether they are.

    Parameters
    ----------
    logits : array, shape (..., actions)
        Of the policy that is trained.
    actions : integer array, batch shape
    old_log_prob : array, batch shape
        Log-probabilities of the actions under the policy that drew them, taken as constants; -0.0 to -inf, nats.
    temperature, mask, step
        As in `logprob_at`.

    Returns
    -------
    array, batch shape
        1 everywhere as long as the policy is the old one.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([[2.0, 0.0, 1.0]])
    >>> old = logprob_at(z, np.array([0]), 0.6)
    >>> importance_ratio(z, np.array([0]), old, 0.6).tolist(), importance_ratio(z, np.array([0]), old).round(2).tolist()
    ([1.0], [0.81])
    """
    new = logprob_at(logits, actions, temperature, mask=mask, step=step)
    old = _as_log_prob(old_log_prob, new)
    return namespace(new).exp(new - (old.detach() if is_torch(old) else old))


@dataclass(frozen=True)
class LogProbCheck:
    """Whether log-probabilities are those of a temperature; `check_log_prob` makes it.

    Attributes
    ----------
    passed : bool
    temperature : float
        The one that they should be at.
    fitted_temperature : float
        The one that they fit best.
    difference, fitted_difference : float
        Root mean square of what is between them and the logits' own at either, in nats.
    mean_ratio : float
        The mean importance ratio at the temperature they should be at; 1 if they are.
    message : str
        One line.
    """

    passed: bool
    temperature: float
    fitted_temperature: float
    difference: float
    fitted_difference: float
    mean_ratio: float
    message: str

    def __str__(self) -> str:
        return self.message


def check_log_prob(
    logits: Array,
    actions: Array,
    log_prob: Array,
    temperature: float = 1.0,
    *,
    mask: Any = None,
    tolerance: float = 0.05,
) -> LogProbCheck:
    """Whether log-probabilities, from a server say, are those of the logits at a temperature, and at which if not.

    Call it before the first update, while both policies are the same: then every ratio should be 1. Engines that report
    log-probabilities at T = 1 for tokens that were drawn at another T are found so.

    Parameters
    ----------
    logits : array, shape (..., actions)
        Of the trainer's copy of the policy. Up to 2048 rows are looked at, evenly spaced, fewer of large
        vocabularies.
    actions : integer array, batch shape
    log_prob : array, batch shape
        What is to be checked, in nats.
    temperature : float
        The one at which they should be, 0 < T < inf.
    mask : boolean array, optional
        True for allowed actions.
    tolerance : float
        Root mean square difference in nats that rounding may make; engines in bfloat16 make 0.01 to 0.05.

    Returns
    -------
    LogProbCheck

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm import sample
    >>> z = 3 * np.random.default_rng(0).normal(size=(500, 50))
    >>> tokens = sample(z, 0.6, generator=1)
    >>> print(check_log_prob(z, tokens, logprob_at(z, tokens, 1.0), temperature=0.6))
    differ: 0.406 nats (root mean square) at T = 0.6, 4.1e-16 at T = 1.000; the mean ratio is 1.25 where it should be 1
    >>> check_log_prob(z, tokens, logprob_at(z, tokens, 0.6), temperature=0.6).passed
    True
    """
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"temperature: must lie in (0, inf) to be checked; got {temperature}; T = 0 draws no other token"
        )
    z, chosen, given = _some_rows(logits, actions, log_prob, mask)

    def difference(log_t: float) -> float:
        return math.sqrt(float(np.mean((logprob_at(z, chosen, math.exp(log_t)) - given) ** 2)))

    grid = np.linspace(math.log(COLDEST), math.log(HOTTEST), POINTS)
    best = min(grid, key=difference)
    width = grid[1] - grid[0]
    while width > 1e-5:  # halved about the best of five points
        best = min((best - width, best - width / 2, best, best + width / 2, best + width), key=difference)
        width /= 2
    asked, fitted = difference(math.log(temperature)), difference(best)
    ratio = float(np.mean(np.exp(logprob_at(z, chosen, temperature) - given)))
    passed = asked <= tolerance
    here = f"{asked:.3g} nats (root mean square) at T = {temperature:g}"
    there = f"{fitted:.2g} at T = {math.exp(best):.3f}"
    if passed:
        message = f"agree: {here}; the mean ratio is {ratio:.3f}"
    elif fitted <= max(tolerance, 0.2 * asked):
        message = f"differ: {here}, {there}; the mean ratio is {ratio:.3g} where it should be 1"
    else:
        message = f"differ: {here}, and no temperature mends it ({there}); other weights or tokens?"
    return LogProbCheck(passed, float(temperature), math.exp(best), asked, fitted, ratio, message)


def _some_rows(logits: Array, actions: Array, log_prob: Array, mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float64 rows, their actions and log-probabilities, few enough to try many temperatures."""
    z = as_values(logits, mask)
    given = to_numpy(_as_log_prob(log_prob, z[..., 0])).reshape(-1).astype(np.float64)
    chosen = to_numpy(as_actions(actions, z)).reshape(-1)
    rows = to_numpy(z).reshape(-1, z.shape[-1])
    if len(rows) == 0:
        raise ValueError(f"logits: must hold at least one row; got {describe(logits)}")
    most = min(len(rows), ROWS, max(64, VALUES // rows.shape[1]))
    some = np.unique(np.linspace(0, len(rows) - 1, most).astype(int))
    return rows[some].astype(np.float64), chosen[some], given[some]


def _as_log_prob(log_prob: Array, batch: Array) -> Array:
    """Log-probabilities of the batch shape in the library of `batch`: numbers that are not above 0."""
    given = as_array(log_prob, "log_prob")
    given = given if namespace(given) is namespace(batch) else like(to_numpy(given), batch)
    if tuple(given.shape) != tuple(batch.shape):
        raise ValueError(
            f"log_prob: must have the batch shape {tuple(batch.shape)}; got {describe(log_prob)}; one number an action"
        )
    good = given <= 1e-3  # rounding of a probability of 1
    if not bool(good.all()):
        row = int(np.argmin(to_numpy(good).reshape(-1)))
        value = float(to_numpy(given).reshape(-1)[row])
        raise ValueError(
            f"log_prob: must be logarithms of probabilities; row {row} has {value:g}; take the logarithm first"
        )
    return given
