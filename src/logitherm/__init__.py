"""logitherm: a thermometer and a thermostat for every softmax.

Names are loaded when they are first used, so that importing the package costs nothing and needs no optional library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logitherm.calibration import TemperatureScaling
    from logitherm.gibbs import (
        GibbsState,
        entropy,
        free_energy,
        heat_capacity,
        linear_state,
        log_partition,
        log_softmax,
        mean_energy,
        sample,
        softmax,
    )
    from logitherm.integrations.baking import bake
    from logitherm.metrics import evaluate
    from logitherm.thermometer import effective_temperature, fit_temperature
    from logitherm.thermostat import Temperature, solve_temperature

__version__ = "0.1.0"

__all__ = [
    "GibbsState",
    "Temperature",
    "TemperatureScaling",
    "bake",
    "effective_temperature",
    "entropy",
    "evaluate",
    "fit_temperature",
    "free_energy",
    "heat_capacity",
    "linear_state",
    "log_partition",
    "log_softmax",
    "mean_energy",
    "sample",
    "softmax",
    "solve_temperature",
]

_homes = {
    "calibration": ("TemperatureScaling",),
    "gibbs": (
        "GibbsState",
        "entropy",
        "free_energy",
        "heat_capacity",
        "linear_state",
        "log_partition",
        "log_softmax",
        "mean_energy",
        "sample",
        "softmax",
    ),
    "integrations.baking": ("bake",),
    "metrics": ("evaluate",),
    "thermometer": ("effective_temperature", "fit_temperature"),
    "thermostat": ("Temperature", "solve_temperature"),
}
_home = {name: module for module, names in _homes.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _home:
        return getattr(importlib.import_module(f"logitherm.{_home[name]}"), name)
    if name in (*_homes, "io", "ood", "report"):
        return importlib.import_module(f"logitherm.{name}")
    raise AttributeError(f"module 'logitherm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
