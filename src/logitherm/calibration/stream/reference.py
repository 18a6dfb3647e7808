"""The temperature in use, its errors, and the band around it that is no cause for alarm."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from logitherm._array import describe
from logitherm.calibration.temperature_scaling import TemperatureScaling
from logitherm.kernels import exponential
from logitherm.thermometer import TemperatureFit


def as_reference(given: Any, error: float | None = None, dispersion: float | None = None) -> tuple[float, float, float]:
    """A reference temperature, its relative standard error and its dispersion, the latter two of a fit if not given."""
    model: float | None = None
    robust: float | None = None
    if isinstance(given, TemperatureScaling):
        temperature, model, robust = given.temperature_, given.standard_error_, given.sandwich_error_
    elif isinstance(given, TemperatureFit):
        temperature, model, robust = given.temperature, given.standard_error, given.sandwich_error
    elif isinstance(given, (int, float, np.integer, np.floating)) and not isinstance(given, bool):
        temperature = float(given)
    else:
        raise TypeError(
            "reference_temperature: must be a number, a TemperatureScaling or a TemperatureFit; got "
            f"{describe(given)}; for another calibrator pass its transform(logits), with reference_temperature=1"
        )
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"reference_temperature: must be positive and finite; got {temperature:g}; "
            "fit it on rows that have an optimum"
        )
    if error is None:
        error = (robust or model or 0.0) / temperature
    if dispersion is None:
        dispersion = max(1.0, (robust / model) ** 2) if robust and model else 1.0
    if not 0 <= error < math.inf:
        raise ValueError(f"reference_error: must be finite and not negative; got {error}; give 0.02 for 2 %")
    if not 1 <= dispersion < math.inf:
        raise ValueError(
            f"dispersion: must be finite and at least 1; got {dispersion}; give 1 for a model without other flaws"
        )
    return temperature, float(error), float(dispersion)


def band_around(reference: float, error: float, tolerance: float, confidence: float) -> tuple[float, float]:
    """The interval of the reference, widened by the tolerance."""
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance: must be finite and not negative; got {tolerance}; give 0.05 for 5 %")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: must lie in (0, 1); got {confidence}; give 0.95, say")
    width = NormalDist().inv_cdf(0.5 + confidence / 2) * error
    if width > math.log(1e6):
        raise ValueError(f"reference_error: must leave a band; got {error:g}; fit the reference on more rows")
    factor = (1 + tolerance) * float(exponential(width))
    return reference / factor, reference * factor


def as_run_length(run_length: float) -> float:
    """Rows to a false alarm."""
    if not 1 <= run_length < math.inf:
        raise ValueError(f"run_length: must be a number of rows, at least 1; got {run_length}; give 100000, say")
    return float(run_length)
