"""Measure a temperature: from labels, soft labels, samples, batches, or another model."""

from logitherm.thermometer.effective import EffectiveTemperature, effective_temperature
from logitherm.thermometer.fit import TemperatureFit, fit_temperature

__all__ = ["EffectiveTemperature", "TemperatureFit", "effective_temperature", "fit_temperature"]
