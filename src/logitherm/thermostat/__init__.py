"""Set a temperature: from a set point, a schedule, or anything else that keeps the `Temperature` protocol."""

from logitherm.thermostat.protocol import PerGroup, SetPoint, Temperature
from logitherm.thermostat.schedules import (
    ConstantSchedule,
    CosineSchedule,
    ExponentialSchedule,
    InverseTimeSchedule,
    LinearSchedule,
    PiecewiseSchedule,
)
from logitherm.thermostat.setpoint import solve_temperature

__all__ = [
    "ConstantSchedule",
    "CosineSchedule",
    "ExponentialSchedule",
    "InverseTimeSchedule",
    "LinearSchedule",
    "PerGroup",
    "PiecewiseSchedule",
    "SetPoint",
    "Temperature",
    "solve_temperature",
]
