"""Temperatures that change with the step of training or generation. Steps run from 0; a schedule stays at its end."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from logitherm._array import Array, require_temperature


class Schedule(ABC):
    """A temperature as a function of the step; a `Temperature`."""

    def at(self, step: Any) -> float:
        """Temperature at a step >= 0."""
        if step is None or math.prod(getattr(step, "shape", ())) != 1 or not step >= 0:
            raise ValueError(
                f"step: must be a number >= 0 for a schedule; got {step}; or pass schedule.at(step) as the temperature"
            )
        return self._value(float(step))

    @abstractmethod
    def _value(self, step: float) -> float: ...

    def resolve(self, logits: Array, step: Any = None) -> Array:
        """Temperature at `step`, for every row alike."""
        return np.float64(self.at(step))


def _check(**temperatures: float) -> None:
    for name, value in temperatures.items():
        try:
            require_temperature(value)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("temperature", name, 1)) from None
        if not math.isfinite(value):
            raise ValueError(f"{name}: must be finite in a schedule; got {value}")


def _check_steps(steps: float) -> None:
    if not steps > 0:
        raise ValueError(f"steps: must be above 0; got {steps}")


@dataclass(frozen=True)
class ConstantSchedule(Schedule):
    """The same temperature at every step.

    Examples
    --------
    >>> ConstantSchedule(0.7).at(100)
    0.7
    """

    value: float

    def __post_init__(self) -> None:
        _check(value=self.value)

    def _value(self, step: float) -> float:
        return self.value


@dataclass(frozen=True)
class _Ramp(Schedule):
    """From one temperature to another in so many steps, and no further."""

    start: float
    end: float
    steps: float

    def __post_init__(self) -> None:
        _check(start=self.start, end=self.end)
        _check_steps(self.steps)

    def _done(self, step: float) -> float:
        return min(1.0, step / self.steps)


@dataclass(frozen=True)
class LinearSchedule(_Ramp):
    """T = start + (end - start) step / steps, until `steps`.

    Examples
    --------
    >>> [LinearSchedule(2.0, 1.0, steps=10).at(step) for step in (0, 5, 10, 99)]
    [2.0, 1.5, 1.0, 1.0]
    """

    def _value(self, step: float) -> float:
        done = self._done(step)
        return (1 - done) * self.start + done * self.end


@dataclass(frozen=True)
class CosineSchedule(_Ramp):
    """T = end + (start - end) (1 + cos(pi step / steps)) / 2, until `steps` (Loshchilov and Hutter 2017, eq. 5).

    Examples
    --------
    >>> [round(CosineSchedule(2.0, 1.0, steps=10).at(step), 3) for step in (0, 2.5, 5, 10)]
    [2.0, 1.854, 1.5, 1.0]
    """

    def _value(self, step: float) -> float:
        return self.end + (self.start - self.end) * 0.5 * (1 + math.cos(math.pi * self._done(step)))


@dataclass(frozen=True)
class ExponentialSchedule(_Ramp):
    """T = start (end / start)^(step / steps), until `steps` (Kirkpatrick et al. 1983, geometric cooling).

    Examples
    --------
    >>> [round(ExponentialSchedule(10.0, 0.1, steps=2).at(step), 3) for step in (0, 1, 2, 9)]
    [10.0, 1.0, 0.1, 0.1]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.start > 0 and self.end > 0):
            raise ValueError(f"start, end: must be above 0 for exponential change; got {self.start}, {self.end}")

    def _value(self, step: float) -> float:
        return self.start * (self.end / self.start) ** self._done(step)


@dataclass(frozen=True)
class InverseTimeSchedule(Schedule):
    """T = max(floor, start / (1 + rate step)), without end.

    Examples
    --------
    >>> [InverseTimeSchedule(1.0, rate=1.0, floor=0.2).at(step) for step in (0, 1, 3, 99)]
    [1.0, 0.5, 0.25, 0.2]
    """

    start: float
    rate: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        _check(start=self.start, floor=self.floor)
        if not self.rate >= 0:
            raise ValueError(f"rate: must be at least 0; got {self.rate}")

    def _value(self, step: float) -> float:
        return max(self.floor, self.start / (1 + self.rate * step))


@dataclass(frozen=True)
class PowerSchedule(Schedule):
    """T = start / (1 + step)^power, without end.

    Examples
    --------
    >>> [PowerSchedule(1.0, power=0.5).at(step) for step in (0, 3, 99)]
    [1.0, 0.5, 0.1]
    """

    start: float
    power: float = 0.5

    def __post_init__(self) -> None:
        _check(start=self.start)
        if not self.power >= 0:
            raise ValueError(f"power: must be at least 0; got {self.power}")

    def _value(self, step: float) -> float:
        return self.start * (1 + step) ** -self.power


@dataclass(frozen=True)
class LogarithmicSchedule(Schedule):
    """T = start log 2 / log(2 + step), without end: the slow cooling that annealing needs to be sure of its optimum
    (Geman and Geman 1984; Hajek 1988: start log 2 must be at least the depth of the deepest valley beside it).

    Examples
    --------
    >>> [round(LogarithmicSchedule(1.0).at(step), 6) for step in (0, 2, 254)]
    [1.0, 0.5, 0.125]
    """

    start: float

    def __post_init__(self) -> None:
        _check(start=self.start)

    def _value(self, step: float) -> float:
        return self.start * math.log(2) / math.log(2 + step)


@dataclass(frozen=True)
class PiecewiseSchedule(Schedule):
    """Straight lines between (step, temperature) points with increasing steps; constant before and after.

    Examples
    --------
    >>> schedule = PiecewiseSchedule(((0, 2.0), (10, 1.0), (20, 0.5)))
    >>> [schedule.at(step) for step in (0, 5, 15, 99)]
    [2.0, 1.5, 0.75, 0.5]
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.points]
        if not steps or not all(a < b for a, b in pairwise(steps)):
            raise ValueError(f"points: must be (step, temperature) pairs with increasing steps; got {self.points}")
        for _, temperature in self.points:
            _check(points=temperature)

    def _value(self, step: float) -> float:
        steps, temperatures = zip(*self.points)
        return float(np.interp(step, steps, temperatures))
