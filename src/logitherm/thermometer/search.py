"""The search for the likelihood's maximum and for the ends of its interval, in as few passes over the rows as
possible."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from logitherm._solve import Root, find_root
from logitherm.kernels import exponential
from logitherm.kernels.likelihood import Totals
from logitherm.thermometer.sources import Source

REACH = 80.0  # |log T| within which a temperature is searched for
PATIENCE = 5  # points visited in vain before the limits are asked whether there is a maximum at all
CLOSE = 1e-4  # a step in log T that need not be checked: corrected for the bend, it leaves an error below 1e-8
FAR = 30.0  # an end of the interval this far off in log T is no end
NEAR = 1e-5  # product of the last two steps at which the trend of the first leaves an error of its size in the second
STEADY = 1e-3  # the largest relative change to be taken from that trend
CLOSE_START = 3e-3  # the same for a start
CLOSE_END = 1e-3  # the same for an end of the interval, where the root of the deviance is all but linear


class Search:
    """Passes over the rows, in x = log(1/T). Each pass also visits the points that are likely to be asked for next.

    A start on part of the rows makes two passes enough as a rule: one at the start and at T = 1, one at the maximum
    and at both ends of its interval.
    """

    def __init__(self, source: Source, quantile: float | None) -> None:
        self.source, self.quantile = source, quantile
        self.passes = 0
        self.seen: dict[float, Totals] = {}
        self.bend = 0.0  # relative change of the score's slope with x
        self.doubtful = False  # whether a part of the rows had no maximum
        self.converged = False

    @property
    def nll_one(self) -> float:
        """Total negative log-likelihood at T = 1."""
        return float(self.seen[0.0].nll[0])

    def at(self, *points: float) -> list[Totals]:
        """Statistics at every point, from one pass for those that are new."""
        new = [p for p in dict.fromkeys(points) if p not in self.seen]
        if new:
            total = self.source.totals(np.asarray(exponential(np.array(new))))
            self.passes += 1
            for i, p in enumerate(new):
                self.seen[p] = total.at(i)
        return [self.seen[p] for p in points]

    @cached_property
    def extremes(self) -> tuple[float, float]:
        """Total score at zero and at infinite temperature, from one pass."""
        self.passes += 1
        return self.source.extremes()

    @property
    def bound(self) -> str | None:
        """The limit of T at which the likelihood is highest, "zero" or "infinite", if at one."""
        cold, hot = self.extremes
        noise = 1e-12 * (abs(cold) + abs(hot))
        if hot >= -noise:
            return "infinite"
        return "zero" if cold <= (0.0 if self.source.exact else noise) else None

    def root(self) -> tuple[float, Totals] | None:
        """x of zero score and the statistics there; None if there is none within reach."""
        found, visited = self._climb(self._warm_start(), CLOSE, [0.0])
        x, self.converged = float(found.x), bool(found.done)
        if not _inside(found):
            return None
        if len(visited) > 1:
            self.bend = _bend(*visited[-2:])
        if not _may_carry(visited, x):
            visited.append((x, self.at(x, *self._ends(*visited[-1]))[0]))
            value, slope = _score(*visited[-1])
            x -= float(value / slope) if slope > 0 else 0.0
        return x, _carried(visited, x)

    def _climb(self, start: float, tolerance: float, also: list[float]) -> tuple[Root, list[tuple[float, Totals]]]:
        """The search itself and the points it visited: with the first `also`, with the others the interval's ends."""
        visited: list[tuple[float, Totals]] = []

        def score(x: Any) -> tuple[Any, Any]:
            x = float(x)
            more = self._ends(x, visited[-1][1]) if visited else also
            total = self.at(x, *more)[0]
            visited.append((x, total))
            value, slope = _score(x, total)
            in_vain = slope <= 0 or self.doubtful or len(visited) > PATIENCE
            return (value * 0, slope * 0) if value and in_vain and self.bound else (value, slope)

        return find_root(score, np.float64(start), -REACH, REACH, step_tolerance=tolerance, bend=self.bend), visited

    def profile(self, x: float, total: Totals) -> tuple[float, float]:
        """Interval of T in which twice the loss of log-likelihood is at most quantile^2."""
        ends, far = self._ends(x, total), np.array([x - FAR, x + FAR])
        starts = np.array(ends or [x - 0.5, x + 0.5])
        for i, sign in enumerate((-1, 1)):  # points that a pass has visited, if they are near enough
            near = [p for p in self.seen if abs(p - starts[i]) < 0.2 * abs(starts[i] - x)]
            if near and sign * (near[0] - x) > 0:
                starts[i] = min(near, key=lambda p: abs(p - starts[i]))

        def excess(points: Any) -> tuple[Any, Any]:
            there = self.at(*map(float, points))
            loss = np.array([max(0.0, 2 * float(t.nll[0] - total.nll[0])) for t in there])
            slope = 2 * exponential(points) * np.array([float(t.score[0]) for t in there])
            root = np.sqrt(loss)  # all but linear in x
            side = np.sign(points - x)
            return side * (root - self.quantile), side * slope / (2 * np.maximum(root, 1e-300))

        is_open = np.zeros(2, dtype=bool)
        if not ends:
            self.at(*far, *starts)
            is_open = excess(far)[0] * [-1, 1] < 0
        lower, upper = np.array([far[0], x]), np.array([x, far[1]])
        found = find_root(
            lambda points: tuple(np.where(is_open, 0.0, v) for v in excess(points)),
            starts,
            lower,
            upper,
            step_tolerance=CLOSE_END,
        )
        low, high = found.x
        return (
            0.0 if is_open[1] else 1 / float(exponential(high)),
            math.inf if is_open[0] else 1 / float(exponential(low)),
        )

    def _warm_start(self) -> float:
        """x from a part of the rows, itself started on a part of the part, with the bend there; or T = 1."""
        part = self.source.part()
        if part is None:
            return 0.0
        small = Search(part, None)
        start = small._warm_start()
        self.bend = small.bend
        found, visited = small._climb(start, CLOSE_START, [])
        if not _inside(found):
            self.doubtful, self.bend = True, 0.0
            return 0.0
        if len(visited) > 1:
            self.bend = _bend(*visited[-2:])
        return float(found.x)

    def _ends(self, x: float, total: Totals) -> list[float]:
        """Where the ends of the interval are to be expected about a maximum at x, to third order."""
        if self.quantile is None:
            return []
        information = float(exponential(2 * x)) * float(total.curvature[0])
        width = self.quantile / math.sqrt(information) if information > 0 else math.inf
        if width > 0.5:
            return []
        shift = (2 + self.bend) * width**2 / 6
        return [x - width - shift, x + width - shift]


def _score(x: float, total: Totals) -> tuple[Any, Any]:
    """The score and its slope in x."""
    return np.float64(total.score[0]), np.float64(exponential(x) * total.curvature[0])


def _bend(before: tuple[float, Totals], after: tuple[float, Totals]) -> float:
    first, last = _score(*before)[1], _score(*after)[1]
    return float((last - first) / (after[0] - before[0]) / last) if after[0] != before[0] and last > 0 else 0.0


def _inside(root: Root) -> bool:
    """Whether a root was found, rather than a bound or a plateau where the score has no slope."""
    return bool(abs(root.x) < REACH - 1) and bool(root.slope > 0)


def _may_carry(visited: list[tuple[float, Totals]], x: float) -> bool:
    """Whether the statistics at the last two points visited tell those at x, so that a pass can be saved."""
    if visited[-1][0] == x:
        return True
    if len(visited) < 2 or abs((x - visited[-1][0]) * (visited[-1][0] - visited[-2][0])) > NEAR:
        return False
    last, there = visited[-1][1], _carried(visited, x)
    return bool(np.all(np.abs(there.squares - last.squares) <= STEADY * last.squares))


def _carried(visited: list[tuple[float, Totals]], x: float) -> Totals:
    """Statistics at x, a step of at most CLOSE from the last point visited, with their trend from the one before."""
    point, total = visited[-1]
    beta = float(exponential(point))
    step = float(exponential(x)) - beta
    nll = total.nll + total.score * step + 0.5 * total.curvature * step**2
    curvature, squares = total.curvature, total.squares
    before, earlier = visited[-2] if len(visited) > 1 else visited[-1]
    advance = beta - float(exponential(before))
    if advance:
        share = step / advance
        curvature = curvature + share * (curvature - earlier.curvature)
        squares = np.maximum(squares + share * (squares - earlier.squares), 0)
    return replace(total, sums=np.stack([nll, np.zeros(1), curvature, squares]))
