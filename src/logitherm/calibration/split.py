"""What recalibration can mend of a proper score, and what it cannot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ScoreSplit:
    """A proper score of the logits as they are: calibration loss and refinement loss add up to it.

    The calibration loss is what the best of the methods compared saves on rows it was not fitted to, all classes
    considered: a lower bound, up to chance, of what recalibration can mend, as there may be better methods. The
    refinement loss is what remains: mending it takes a better model.

    Attributes
    ----------
    score : str
        "nll" (nats) or "brier".
    total, calibration, refinement : float
        Means over rows; infinite where a label was given probability 0, and the calibration loss then NaN if it still
        is after recalibration. It is below 0 where the best method makes the score worse.
    error : float
        Standard error of the calibration loss, of paired rows.

    References
    ----------
    Broecker (2009), Reliability, sufficiency, and the decomposition of proper scores; Berta, Holzmueller, Jordan and
    Bach (2025), Rethinking early stopping: refine, then calibrate, for its estimate by recalibration.
    """

    score: str
    total: float
    calibration: float
    refinement: float
    error: float


def split_score(score: str, as_it_is: np.ndarray, recalibrated: np.ndarray) -> ScoreSplit:
    """From the scores of the same rows before and after the best recalibration."""
    with np.errstate(invalid="ignore"):
        saved = as_it_is - recalibrated
        error = float(saved.std() / math.sqrt(len(saved)))
        calibration = float(saved.mean())
    return ScoreSplit(score, float(as_it_is.mean()), calibration, float(recalibrated.mean()), error)
