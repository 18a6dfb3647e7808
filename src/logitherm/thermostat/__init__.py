"""Set a temperature: from a set point, a schedule, or anything else that keeps the `Temperature` protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logitherm.thermostat.protocol import PerGroup, SetPoint, Temperature
from logitherm.thermostat.relative import EntropyFraction, KLBudget, RelativeToGap
from logitherm.thermostat.schedules import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    InverseTimeSchedule,
    LinearSchedule,
    LogarithmicSchedule,
    PiecewiseSchedule,
    PowerSchedule,
)
from logitherm.thermostat.setpoint import solve_temperature

if TYPE_CHECKING:
    from logitherm.thermostat.learned import LearnableTemperature

__all__ = [
    "ConstantSchedule",
    "CosineSchedule",
    "EntropyFraction",
    "ExponentialSchedule",
    "InverseTimeSchedule",
    "KLBudget",
    "LearnableTemperature",
    "LinearSchedule",
    "LogarithmicSchedule",
    "PerGroup",
    "PiecewiseSchedule",
    "PowerSchedule",
    "RelativeToGap",
    "SetPoint",
    "Temperature",
    "solve_temperature",
]


def __getattr__(name: str) -> Any:
    if name == "LearnableTemperature":  # needs PyTorch, which the others do not
        from logitherm.thermostat.learned import LearnableTemperature

        return LearnableTemperature
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
