"""Are log-probabilities those of the temperature at which the tokens were drawn?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, describe, is_array, to_numpy
from logitherm._labels import place
from logitherm._solve import find_root
from logitherm.exploration.guard import as_values
from logitherm.exploration.ratios import as_log_prob, some_actions
from logitherm.kernels import row_moments
from logitherm.kernels.chosen import of_moments, take

ROWS, VALUES = 2048, 1 << 22  # that are looked at to find a temperature, at most, but at least 64 rows
COLDEST, HOTTEST, POINTS = 0.02, 50.0, 25  # of the search for it


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
    ignore_index: int | None = None,
    tolerance: float = 0.05,
) -> LogProbCheck:
    """Whether log-probabilities, from a server say, are those of the logits at a temperature, and at which if not.

    Call it before the first update, while both policies are the same: then every ratio should be 1. Engines that report
    log-probabilities at T = 1 for tokens that were drawn at another T are found so.

    Parameters
    ----------
    logits : array, shape (..., actions)
        Of the trainer's copy of the policy. Up to 2048 rows are looked at, evenly spaced, 64 of large vocabularies.
    actions : integer array, batch shape
    log_prob : array, batch shape
        What is to be checked, in nats, finite.
    temperature : float
        The one at which they should be, 0 < T < inf.
    mask : boolean array, optional
        True for allowed actions, as where top-k or top-p sampling left some.
    ignore_index : int, optional
        Rows whose action is this number are left out.
    tolerance : float
        Root mean square difference in nats that rounding may make; engines in bfloat16 make 0.01 to 0.05.

    Returns
    -------
    LogProbCheck

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm import sample
    >>> from logitherm.exploration import logprob_at
    >>> z = 3 * np.random.default_rng(0).normal(size=(500, 50))
    >>> tokens = sample(z, 0.6, generator=1)
    >>> print(check_log_prob(z, tokens, logprob_at(z, tokens, 1.0), temperature=0.6))
    differ: 0.406 nats (root mean square) at T = 0.6, 0 at T = 1.000; the mean ratio is 1.25 where it should be 1
    >>> check_log_prob(z, tokens, logprob_at(z, tokens, 0.6), temperature=0.6).passed
    True
    """
    number = is_array(temperature) or isinstance(temperature, (int, float))  # no schedule, nor a set point
    if not number or not 0 < float(temperature) < math.inf:
        raise ValueError(
            f"temperature: must lie in (0, inf) to be checked; got {temperature}; T = 0 draws no other token"
        )
    z, chosen, given = _some_rows(logits, actions, log_prob, mask, ignore_index)
    own = take(z, chosen).astype(np.float64)

    def off(t: float) -> tuple[np.ndarray, np.ndarray]:
        """The logits' own log-probabilities at a temperature less those given, and their slope in log T."""
        every = np.full(len(z), t)
        m = row_moments(z, every)
        return of_moments(m, own, every) - given, (m.top - own - m.gap) / t

    def difference(log_t: float) -> float:
        return float(np.sqrt(np.mean(off(math.exp(log_t))[0] ** 2)))

    def slope(log_t: np.float64) -> tuple[Any, Any]:
        r, by_log_t = off(math.exp(log_t))
        return np.mean(r * by_log_t), np.mean(by_log_t**2)  # of half the mean square, and about its own slope

    grid = np.linspace(math.log(COLDEST), math.log(HOTTEST), POINTS)
    start, width = min(grid, key=difference), grid[1] - grid[0]
    best = find_root(slope, start, start - width, start + width, step_tolerance=1e-7, max_iterations=30).x
    ours = off(temperature)[0]
    asked, fitted, ratio = (float(v) for v in (np.sqrt(np.mean(ours**2)), difference(best), np.mean(np.exp(ours))))
    passed = asked <= tolerance
    here = f"{asked:.3g} nats (root mean square) at T = {temperature:g}"
    there = f"{round(fitted, 9):.2g} at T = {math.exp(best):.3f}"
    if passed:
        message = f"agree: {here}; the mean ratio is {ratio:.3f}"
    elif fitted <= max(tolerance, 0.2 * asked):
        message = f"differ: {here}, {there}; the mean ratio is {ratio:.3g} where it should be 1"
    else:
        message = (
            f"differ: {here}, and no temperature mends it ({there}); other weights or tokens, or logits before top-k "
            "or a penalty?"
        )
    return LogProbCheck(passed, float(temperature), float(math.exp(best)), asked, fitted, ratio, message)


def _some_rows(
    logits: Array, actions: Array, log_prob: Array, mask: Any, ignore_index: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, their actions and log-probabilities in float64, few enough to try many temperatures."""
    z = as_values(logits, mask, "logits")
    chosen, kept = some_actions(actions, z, ignore_index)
    given = to_numpy(as_log_prob(log_prob, z[..., 0], kept)).reshape(-1).astype(np.float64)
    rows = np.arange(len(given)) if kept is None else np.flatnonzero(to_numpy(kept))
    if len(rows) == 0:
        raise ValueError(f"logits: must hold at least one row; got {describe(logits)}")
    endless = np.isneginf(given[rows])
    if endless.any():
        row = place(int(rows[endless.argmax()]), tuple(z.shape[:-1]))
        raise ValueError(f"log_prob: must be finite; {row} has -inf; what was drawn has a probability above 0")
    most = min(len(rows), ROWS, max(64, VALUES // z.shape[-1]))
    some = rows[np.unique(np.linspace(0, len(rows) - 1, most).astype(int))]
    return to_numpy(z.reshape(-1, z.shape[-1])[some]), to_numpy(chosen).reshape(-1)[some], given[some]
