"""Schedules: their values, their ends, their errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

import logitherm
from logitherm.thermostat import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    InverseTimeSchedule,
    LinearSchedule,
    LogarithmicSchedule,
    PiecewiseSchedule,
    PowerSchedule,
    Temperature,
)

ALL = [
    ConstantSchedule(2.0),
    LinearSchedule(4.0, 1.0, steps=10),
    CosineSchedule(4.0, 1.0, steps=10),
    ExponentialSchedule(4.0, 1.0, steps=10),
    InverseTimeSchedule(4.0, rate=0.5, floor=1.0),
    PiecewiseSchedule(((0, 4.0), (3, 2.0), (10, 1.0))),
]


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_every_schedule_cools_from_its_start_to_its_end(schedule):
    values = [schedule.at(step) for step in range(20)]
    assert all(b <= a for a, b in zip(values, values[1:]))
    if not isinstance(schedule, ConstantSchedule):
        assert values[0] == 4.0 and values[10] == pytest.approx(1.0) and values[-1] == pytest.approx(1.0)
    assert isinstance(schedule, Temperature)
    assert schedule.resolve(np.zeros((2, 3)), step=5) == schedule.at(5)
    with pytest.raises(ValueError, match="step: must be a number >= 0"):
        schedule.resolve(np.zeros((2, 3)))


def test_values_between():
    assert CosineSchedule(2.0, 1.0, steps=10).at(5) == pytest.approx(1.5)
    assert ExponentialSchedule(8.0, 2.0, steps=2).at(1) == pytest.approx(4.0)
    assert InverseTimeSchedule(1.0, rate=1.0).at(3) == pytest.approx(0.25)
    assert PowerSchedule(2.0, power=2.0).at(3) == pytest.approx(0.125)
    assert LogarithmicSchedule(0.1 / math.log(2)).at(98) == pytest.approx(0.1 / math.log(100))


def test_endless_schedules_cool_all_the_way():
    for schedule in (PowerSchedule(4.0), LogarithmicSchedule(4.0)):
        values = [schedule.at(step) for step in (0, 1, 10, 10**6, 10**12)]
        assert values[0] == 4.0 and all(0 < b < a for a, b in zip(values, values[1:]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearSchedule(-1.0, 1.0, steps=3), r"start: must lie in \[0, inf\]; got -1.0"),
        (lambda: CosineSchedule(1.0, math.nan, steps=3), "end: must lie in"),
        (lambda: LinearSchedule(1.0, math.inf, steps=3), "end: must be finite"),
        (lambda: LinearSchedule(1.0, 2.0, steps=0), "steps: must be above 0"),
        (lambda: ExponentialSchedule(1.0, 0.0, steps=3), "must be above 0 for exponential"),
        (lambda: InverseTimeSchedule(1.0, rate=-1.0), "rate: must be at least 0"),
        (lambda: PowerSchedule(1.0, power=-1.0), "power: must be at least 0"),
        (lambda: LogarithmicSchedule(-1.0), "start: must lie in"),
        (lambda: PiecewiseSchedule(((3, 1.0), (3, 2.0))), "points: must be"),
        (lambda: PiecewiseSchedule(()), "points: must be"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_schedule_is_used_through_resolve():
    t = LinearSchedule(4.0, 1.0, steps=10).resolve(np.zeros((2, 3)), step=10)
    assert logitherm.softmax(np.array([[1.0, 0.0]]), t).shape == (1, 2)


def test_one_step_at_a_time():
    with pytest.raises(ValueError, match=r"step: must be a number >= 0 for a schedule; got \[1 2\]"):
        LinearSchedule(1.0, 0.1, 10).at(np.array([1, 2]))
    assert LinearSchedule(1.0, 0.5, 10).at(np.array([10])[0]) == 0.5
