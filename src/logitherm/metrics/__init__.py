"""Scores of a classifier's logits against its labels: numbers only.

Every function takes logits (NumPy, torch, ..., any floating dtype, any batch shape, classes last), integer labels of
the batch shape and a temperature (a number, one a row, or a `Temperature`). Rows are computed in float64, in blocks of
about a megabyte, so that memory does not grow with the number of classes; `weights` are nonnegative, one a row, and
an integer weight is worth that many copies of its row.

Calibration errors are of three kinds. `top_label` judges the confidence of the prediction. `class_wise` is the mean
over classes of the error of p_k as a forecast of class k. `marginal` takes that mean at the power of the error: of
squares it is the root of their mean over classes, of absolute gaps it is the class-wise error, and both are
`classwise_ece` in bins of equal width.
"""

from logitherm.metrics.classwise import classwise_ece
from logitherm.metrics.comparison import Change, Comparison, compare
from logitherm.metrics.debiased import debiased_calibration_error
from logitherm.metrics.decomposition import Decomposition, decompose_score
from logitherm.metrics.evaluation import Evaluation, evaluate
from logitherm.metrics.grid import ReliabilityGrid, reliability_grid
from logitherm.metrics.kernel import KernelError, kernel_calibration_error
from logitherm.metrics.reliability import Reliability, reliability
from logitherm.metrics.score import Score
from logitherm.metrics.scores import accuracy, brier, expected_calibration_error, maximum_calibration_error, nll
from logitherm.metrics.selective import Deferral, RiskCoverage, defer_below, risk_coverage
from logitherm.metrics.smooth import smooth_calibration_error
from logitherm.metrics.sweep import SweepError, sweep_calibration_error

__all__ = [
    "Change",
    "Comparison",
    "Decomposition",
    "Deferral",
    "Evaluation",
    "KernelError",
    "Reliability",
    "ReliabilityGrid",
    "RiskCoverage",
    "Score",
    "SweepError",
    "accuracy",
    "brier",
    "classwise_ece",
    "compare",
    "debiased_calibration_error",
    "decompose_score",
    "defer_below",
    "evaluate",
    "expected_calibration_error",
    "kernel_calibration_error",
    "maximum_calibration_error",
    "nll",
    "reliability",
    "reliability_grid",
    "risk_coverage",
    "smooth_calibration_error",
    "sweep_calibration_error",
]
