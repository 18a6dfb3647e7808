"""What is identifiable of weights and temperature, and how much of regularisation is a temperature.

What needs PyTorch is loaded when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logitherm.gauge.comparing import HeadDifference, head_difference, same_head
from logitherm.gauge.functional import free_energy_functional, logit_gap
from logitherm.gauge.heads import Head, canonical_head
from logitherm.gauge.regression import regression_stationarity
from logitherm.gauge.regularisation import PathPoint, RegularisationPath, regularisation_path
from logitherm.gauge.shares import ThermalShare, thermal_share
from logitherm.gauge.stationarity import LayerBalance, Stationarity, stationarity

if TYPE_CHECKING:
    from logitherm.gauge.decay import GaugeWarning, check_gauge
    from logitherm.gauge.network import network_stationarity

_LATE = {"GaugeWarning": "decay", "check_gauge": "decay", "network_stationarity": "network"}

__all__ = [
    "GaugeWarning",
    "Head",
    "HeadDifference",
    "LayerBalance",
    "PathPoint",
    "RegularisationPath",
    "Stationarity",
    "ThermalShare",
    "canonical_head",
    "check_gauge",
    "free_energy_functional",
    "head_difference",
    "logit_gap",
    "network_stationarity",
    "regression_stationarity",
    "regularisation_path",
    "same_head",
    "stationarity",
    "thermal_share",
]


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
