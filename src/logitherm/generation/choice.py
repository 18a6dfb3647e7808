"""A chosen temperature, and how the bootstrap over prompts says how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm._json import plain
from logitherm.generation.resampling import interval, prompt_weights, ratio, tails
from logitherm.generation.sweep import Part


@dataclass(frozen=True)
class TemperatureChoice:
    """A temperature, and how sure it is.

    Attributes
    ----------
    rule : str
        What it was chosen by.
    temperature : float or None
        T; None where the rule names none: the target is out of the reach of the grid, or all temperatures tie.
    interval : (float, float) or None
        Bootstrap over prompts, and all that ties; None without a temperature, where there are fewer than two prompts,
        or where replicates without a choice are too many.
    confidence : float
    temperatures, value, low, high : lists
        The curve that was decided by, with pointwise intervals.
    quantity : str
        What the curve is of.
    shares : list of float or None
        Share of the replicates that choose each temperature of the grid, of which equal ones get equal parts of a
        replicate; None where the choice is not of the grid.
    prompts, replicates : int
    at_bound : "zero", "infinite" or None
        A held-out fit without an optimum in between.
    tied : list of float
        The other temperatures of the grid that are as good; all of the grid where no choice can be made.
    """

    rule: str
    temperature: float | None
    interval: tuple[float, float] | None
    confidence: float
    temperatures: list[float]
    value: list[float]
    low: list[float]
    high: list[float]
    quantity: str
    shares: list[float] | None
    prompts: int
    replicates: int
    at_bound: str | None = None
    tied: list[float] = field(default_factory=list)

    def resolve(self, logits: Array, step: Any = None) -> float:
        """The temperature itself: a choice goes wherever a temperature does."""
        if self.temperature is None and self.tied:
            raise ValueError(
                f"temperature: the rule {self.rule} chose none, as all temperatures tie; score what differs"
            )
        if self.temperature is None:
            raise ValueError(f"temperature: the rule {self.rule} chose none; widen the grid or change the target")
        return self.temperature

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for what is not finite."""
        return dict(plain(asdict(self)))


def crossing(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where each row of values first rises to 0, straight between the points; NaN where it does not."""
    values = np.atleast_2d(values)
    up = (values[:, :-1] < 0) & (values[:, 1:] >= 0)
    i = up.argmax(axis=1)
    rows = np.arange(len(values))
    a, b = values[rows, i], values[rows, i + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        at = x[i] + (x[i + 1] - x[i]) * (-a / (b - a))
    return np.where(up.any(axis=1), at, math.nan)


def ends_of(
    temperature: float | None, found: np.ndarray, confidence: float, prompts: int
) -> tuple[float, float] | None:
    """Percentile interval of T; None where the replicates without one could hold an end of it."""
    levels = tails(confidence, prompts)
    if temperature is None or np.isnan(found).mean() > min(levels[0], 1 - levels[1]):
        return None
    low, high = np.quantile(found[~np.isnan(found)], levels, method="nearest")
    return min(float(low), temperature), max(float(high), temperature)


def _curve_of(part: Part, weights: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    prompts = part[0].shape[1]
    value = ratio(*part, np.ones((1, prompts)))[0]
    drawn = ratio(*part, weights)
    low, high = interval(value, drawn, confidence, prompts)
    curve = {"value": value.tolist(), "low": low.tolist(), "high": high.tolist()}
    return value, drawn, curve | {"confidence": confidence, "prompts": prompts, "replicates": len(weights)}


def _shared(chosen: np.ndarray) -> np.ndarray:
    """How often each point of the grid is chosen, (grid,) of (replicates, grid); those that tie share a replicate.

    Parts are as good as lots, and need no chance.
    """
    return np.asarray((chosen / chosen.sum(axis=1, keepdims=True)).mean(axis=0).round(12))


def ends_of_shares(
    t: np.ndarray, shares: np.ndarray, best: np.ndarray, confidence: float, prompts: int
) -> tuple[float, float]:
    """Percentile interval of a law on the grid, widened to all that is best of the whole sample."""
    below = shares.cumsum() / shares.sum()
    first, last = (int(np.searchsorted(below, level)) for level in tails(confidence, prompts))
    held = np.flatnonzero(best)
    return float(t[min(first, held[0])]), float(t[max(min(last, len(t) - 1), held[-1])])


def of_grid(
    rule: str,
    quantity: str,
    t: np.ndarray,
    part: Part,
    choose: Callable[[np.ndarray], np.ndarray],
    shift: float,
    confidence: float,
    replicates: int,
    seed: int,
) -> TemperatureChoice:
    """A point of the grid. `choose` marks the best of each row of values; of several, the most supported one is taken.

    Where all of them tie there is no choice, and the temperature is None.
    """
    prompts = part[0].shape[1]
    value, drawn, curve = _curve_of(part, prompt_weights(prompts, replicates, seed), confidence)
    best, at = choose(value), t + shift
    shares = _shared(choose(drawn)) if prompts > 1 and replicates > 0 else None
    chosen = int(np.where(best, best if shares is None else shares, -1.0).argmax())
    undecided = len(t) > 1 and bool(best.all())
    ends = None if shares is None or undecided else ends_of_shares(at, shares, best, confidence, prompts)
    return TemperatureChoice(
        rule=rule,
        quantity=quantity,
        temperature=None if undecided else float(at[chosen]),
        interval=ends,
        temperatures=t.tolist(),
        shares=None if shares is None else shares.tolist(),
        tied=[float(each) for i, each in enumerate(at) if best[i] and (undecided or i != chosen)],
        **curve,
    )


def of_crossing(
    rule: str,
    quantity: str,
    t: np.ndarray,
    part: Part,
    beyond: Callable[[np.ndarray], np.ndarray],
    confidence: float,
    replicates: int,
    seed: int,
) -> TemperatureChoice:
    """Between two points of the grid."""
    prompts = part[0].shape[1]
    value, drawn, curve = _curve_of(part, prompt_weights(prompts, replicates, seed), confidence)
    at = float(crossing(t, beyond(value))[0])
    temperature = None if math.isnan(at) else at
    many = prompts > 1 and replicates > 0
    return TemperatureChoice(
        rule=rule,
        quantity=quantity,
        temperature=temperature,
        interval=ends_of(temperature, crossing(t, beyond(drawn)), confidence, prompts) if many else None,
        temperatures=t.tolist(),
        shares=None,
        **curve,
    )
