"""A temperature that depends on how undecided the model is."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize

from logitherm._array import Array, like, namespace
from logitherm.calibration.base import Calibrator, temperature_and_bound, whole_number
from logitherm.calibration.rows import labelled, likelihoods, relative_entropies
from logitherm.calibration.temperature_scaling import heated
from logitherm.kernels import exponential
from logitherm.thermometer import fit_temperature

RANGE = 10.0  # of log T around the best single temperature
FLAT = 1e-10  # relative gain of a step that is not worth another: below it is the rounding of float32 logits


class EntropyTemperatureScaling(Calibrator):
    """T = (1 - h) T_certain + h T_uncertain, h the entropy of softmax(z / T_0) over its maximum; keeps predictions.

    For models that are too sure where they are sure, and about right where they are not, or the other way round. T_0 is
    the best single temperature.

    Parameters
    ----------
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.

    Attributes
    ----------
    temperature_ : float
        T_0, in the units of the logits.
    temperature_certain_, temperature_uncertain_ : float
        T of a row of entropy 0 and of one of the largest entropy; both T_0 where there is no optimum in between.
    at_bound_ : "zero", "infinite" or None
        As in `TemperatureScaling`.
    n_ : int
        Rows of the fit.

    References
    ----------
    Balanya, Maronas and Ramos (2024), Adaptive temperature scaling for robust calibration of deep neural networks,
    section 4.2 (there T is a softplus of the logarithm of the entropy).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = np.concatenate([6 * rng.normal(size=(3000, 4)), rng.normal(size=(3000, 4))])
    >>> temperature = np.repeat([3.0, 1.0], 3000)[:, None]
    >>> labels = (z / temperature + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> scaling = EntropyTemperatureScaling().fit(z, labels)
    >>> scaling.temperature_certain_ > 3 > 1 > scaling.temperature_uncertain_
    True
    """

    keeps_predictions = True

    def __init__(self, *, zero_labels: str = "raise") -> None:
        self.zero_labels = zero_labels

    def _fit(self, z: Array, labels: np.ndarray, weights: Any) -> None:
        single = fit_temperature(z, labels, weights=weights, zero_labels=self.zero_labels)
        centre = self.temperature_ = single.temperature
        self.temperature_certain_ = self.temperature_uncertain_ = centre
        self.at_bound_, self.n_ = single.at_bound, single.n
        if single.at_bound:
            return
        data = labelled(z, labels, weights, exclude=single.excluded > 0)
        h = relative_entropies(data.logits, centre)
        total = data.weights.sum()

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            ends = centre * exponential(x)
            t = (1 - h) * ends[0] + h * ends[1]
            nll, score, _ = likelihoods(data, t)
            slope = -data.weights * score / t**2
            return float(data.weights @ nll) / total, np.array([slope @ (1 - h), slope @ h]) * ends / total

        found = minimize(
            objective,
            np.zeros(2),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-RANGE, RANGE)] * 2,
            options={"ftol": FLAT, "gtol": 1e-6},
        )
        self.temperature_certain_, self.temperature_uncertain_ = (centre * exponential(found.x)).tolist()

    def _calibrated(self, z: Array) -> Array:
        if self.at_bound_:
            return heated(z, self.temperature_)
        h = relative_entropies(z, self.temperature_)
        t = (1 - h) * self.temperature_certain_ + h * self.temperature_uncertain_
        return z / namespace(z).astype(like(t, z), z.dtype)[:, None]

    def _values(self) -> dict[str, Any]:
        names = ("temperature", "temperature_certain", "temperature_uncertain")
        values = {name: getattr(self, f"{name}_") for name in names}
        return {**values, "at_bound": self.at_bound_, "n": self.n_}

    def _set(self, values: dict[str, Any]) -> None:
        self.temperature_, self.at_bound_ = temperature_and_bound(values)
        self.n_ = whole_number(values["n"])
        for name in ("temperature_certain", "temperature_uncertain"):
            setattr(self, f"{name}_", temperature_and_bound(values, name)[0])
