"""Classifiers made honest."""

from logitherm.calibration.study import CalibrationStudy, calibrate
from logitherm.calibration.temperature_scaling import TemperatureScaling

__all__ = ["CalibrationStudy", "TemperatureScaling", "calibrate"]
