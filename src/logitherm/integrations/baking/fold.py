"""The algebra of baking: calibrated logits A (W h + c) + b are plain logits of the weights A W and the bias A c + b."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from logitherm.calibration import (
    BiasCorrectedTemperatureScaling,
    DirichletCalibration,
    EnsembleTemperatureScaling,
    EntropyTemperatureScaling,
    GroupTemperatureScaling,
    LabelShift,
    ParametricTemperatureScaling,
    PlattScaling,
    StructuredMatrixScaling,
    TemperatureScaling,
    TruncatedTemperatureScaling,
    VectorScaling,
)
from logitherm.kernels.affine import Affine

KINDS = "a temperature, TemperatureScaling, BiasCorrectedTemperatureScaling, VectorScaling, StructuredMatrixScaling"
CURVED = {  # calibrators that no linear layer can hold, and the way out
    DirichletCalibration: "it maps log-probabilities, which come after the last layer; fit StructuredMatrixScaling",
    EnsembleTemperatureScaling: "it mixes probabilities, which come after the last layer; fit TemperatureScaling",
    EntropyTemperatureScaling: "its temperature depends on the row; fit TemperatureScaling",
    GroupTemperatureScaling: "its temperature depends on the group; give that of one group, temperatures_[i]",
    ParametricTemperatureScaling: "its temperature depends on the row; fit TemperatureScaling",
    TruncatedTemperatureScaling: "its columns are those of lists, not the outputs of a layer; give temperature_ alone",
}


@dataclass(frozen=True)
class Baked:
    """What was done to a file: the layer or tensor that holds the map now, and whether nothing was added to it.

    Examples
    --------
    >>> print(Baked("Gemm 'head'", folded=True))
    folded into Gemm 'head'
    """

    where: str
    folded: bool

    def __str__(self) -> str:
        return f"folded into {self.where}" if self.folded else f"inserted {self.where}"


def affine_map(calibrator: Any) -> Affine:
    """The map of logits of a fitted calibrator; its `scale` has no axis where any number of classes will do.

    Raises
    ------
    TypeError, ValueError
        Not a calibrator, not fitted, at T = 0 or inf, or a map that is not affine.
    """
    if isinstance(calibrator, Real) and not isinstance(calibrator, bool):
        return Affine(1 / _finite(float(calibrator)), np.zeros(()))
    for family, reason in CURVED.items():
        if isinstance(calibrator, family):
            raise ValueError(f"calibrator: must be affine in the logits; got {family.__name__}: {reason}")
    if isinstance(calibrator, LabelShift):
        with np.errstate(divide="ignore"):
            return Affine(np.ones(len(calibrator.prior)), np.log(calibrator.adapted) - np.log(calibrator.prior))
    affine = (BiasCorrectedTemperatureScaling, VectorScaling, StructuredMatrixScaling)
    if not isinstance(calibrator, (TemperatureScaling, PlattScaling, *affine)):
        raise TypeError(
            f"calibrator: must be {KINDS}, PlattScaling or LabelShift; got {type(calibrator).__name__}; give one of "
            "these"
        )
    check_is_fitted(calibrator)
    if isinstance(calibrator, PlattScaling):
        return Affine(1 / _finite(calibrator.temperatures_), calibrator.biases_)
    k, inverse = calibrator.n_features_in_, 1 / _finite(calibrator.temperature_)
    if isinstance(calibrator, TemperatureScaling):
        return Affine(np.full(k, inverse), np.zeros(k))
    matrix = None if calibrator.matrix_ is None else inverse * calibrator.matrix_
    return Affine(inverse * calibrator.relative_scale_, calibrator.bias_, matrix)


def is_temperature(mapped: Affine) -> bool:
    """Whether it is one temperature for all outputs, whatever their number."""
    return mapped.matrix is None and not mapped.bias.any() and float(np.ptp(mapped.scale)) == 0


def _finite(temperature: Any) -> np.ndarray:
    t = np.asarray(temperature, dtype=np.float64)
    if not ((t > 0) & (t < math.inf)).all():
        bad = float(t[~((t > 0) & (t < math.inf))][0]) if t.ndim else float(t)
        raise ValueError(
            f"calibrator: T must be positive and finite, as no finite weights are those of T = 0 and all information "
            f"is lost at T = inf; got {bad:g}; fit on other or more held-out rows"
        )
    return t


def fitted_to(mapped: Affine, outputs: int, where: str) -> Affine:
    """The map for a layer of so many outputs; one output x of a two-class map stands for the logits (0, x).

    Raises
    ------
    ValueError
        Another number of classes.
    """
    if mapped.scale.ndim == 0:
        return Affine(np.full(outputs, mapped.scale), np.zeros(outputs))
    if len(mapped.scale) == outputs:
        return mapped
    if len(mapped.scale) == 2 and outputs == 1:  # u_1 - u_0 at the logits (0, x)
        mixed = 0.0 if mapped.matrix is None else mapped.matrix[1, 1] - mapped.matrix[0, 1]
        return Affine(mapped.scale[1:] + mixed, mapped.bias[1:] - mapped.bias[:1])
    raise ValueError(
        f"calibrator: must have the classes of the model; got {len(mapped.scale)} for {where} with {outputs} outputs; "
        "use the calibrator of this model"
    )


def fold(
    mapped: Affine, weight: np.ndarray, bias: np.ndarray | None, *, largest: float, where: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights (outputs, inputs) and bias (outputs,) of the layer with the map in it, float64.

    The bias is None where there was none and the map has none. `largest` is the largest number of the dtype they will
    be stored in.

    Raises
    ------
    ValueError
        Another number of classes, or a result that is not finite in that dtype.
    """
    mapped = fitted_to(mapped, len(weight), where)
    scaled = mapped.scale[:, None] * weight
    if mapped.matrix is not None:
        scaled += mapped.matrix @ weight
    shifted = (
        None if bias is None and not mapped.bias.any() else mapped(np.zeros(len(weight)) if bias is None else bias)
    )
    allowed = np.zeros(1) if shifted is None else shifted if bias is None else shifted[bias > -math.inf]
    for name, values in (("weights", scaled), ("bias", allowed)):
        if values.size and not (values.max() <= largest and values.min() >= -largest):  # NaN fails both
            raise ValueError(
                f"calibrator: the {name} of {where} must stay finite (at most {largest:.3g}) with the map folded in; "
                "they do not; store the model in float32, or mend weights that are inf or NaN"
            )
    return scaled, shifted
