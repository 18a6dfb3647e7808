"""Classifiers made honest."""

from logitherm.calibration.affine import (
    BiasCorrectedTemperatureScaling,
    DirichletCalibration,
    StructuredMatrixScaling,
    VectorScaling,
)
from logitherm.calibration.binary import PlattScaling, binary_logits
from logitherm.calibration.ensemble import EnsembleTemperatureScaling
from logitherm.calibration.entropy import EntropyTemperatureScaling
from logitherm.calibration.goodness import GoodnessOfFit, goodness_of_fit
from logitherm.calibration.group import GroupTemperatureScaling
from logitherm.calibration.label_shift import LabelShift, adapt_to_label_shift
from logitherm.calibration.overfitting import OverfittingGauge, mean_overconfidence, overconfidence, overfitting_gauge
from logitherm.calibration.parametric import ParametricTemperatureScaling
from logitherm.calibration.plan import SampleSizePlan, plan_sample_size
from logitherm.calibration.selection import METHODS, Selection, load_calibrator, select_method
from logitherm.calibration.stream.drift import DriftCheck, check_drift
from logitherm.calibration.stream.online import OnlineTemperature, OnlineThermometer
from logitherm.calibration.study import CalibrationStudy, calibrate
from logitherm.calibration.temperature_scaling import TemperatureScaling
from logitherm.calibration.truncated.answers import TopAnswers
from logitherm.calibration.truncated.scaling import TruncatedTemperatureScaling

__all__ = [
    "METHODS",
    "BiasCorrectedTemperatureScaling",
    "CalibrationStudy",
    "DirichletCalibration",
    "DriftCheck",
    "EnsembleTemperatureScaling",
    "EntropyTemperatureScaling",
    "GoodnessOfFit",
    "GroupTemperatureScaling",
    "LabelShift",
    "OnlineTemperature",
    "OnlineThermometer",
    "OverfittingGauge",
    "ParametricTemperatureScaling",
    "PlattScaling",
    "SampleSizePlan",
    "Selection",
    "StructuredMatrixScaling",
    "TemperatureScaling",
    "TopAnswers",
    "TruncatedTemperatureScaling",
    "VectorScaling",
    "adapt_to_label_shift",
    "binary_logits",
    "calibrate",
    "check_drift",
    "goodness_of_fit",
    "load_calibrator",
    "mean_overconfidence",
    "overconfidence",
    "overfitting_gauge",
    "plan_sample_size",
    "select_method",
]
