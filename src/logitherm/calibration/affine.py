"""More than one temperature, still affine in the logits: a bias for every class, a temperature for every class, and a
matrix; each shrunk towards one temperature for all.

With T the temperature and a_k = 1 / T wherever no class asks for another:

    BiasCorrectedTemperatureScaling   u_k = z_k / T + b_k
    VectorScaling                     u_k = a_k z_k + b_k
    StructuredMatrixScaling           u_k = a_k z_k + sum_j M_kj z_j + b_k

T is free; biases, relative deviations of a_k from 1 / T and off-diagonal entries are ridge-penalised. With the strength
1 of Berta et al. (2025) these are normal priors of variance 1/(2K), 1/(2K) and 1/(2K(K-1)), K the number of classes.
Biases and scales may learn theirs from the data. Simulated with K = 10 and 100 (2000 and 5000 rows; biases and scales
that spread by 0 to 0.5) that came within 0.0001 nats of the better of no penalty and strength 1 or below it in all 16
cases, where strength 1 cost up to 0.23 and no penalty up to 0.02. A matrix keeps a strength of 1: there the diagonal
of the curvature counts too many parameters as determined, and learning gained up to 0.04 but cost up to 0.005.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from scipy.optimize import minimize

from logitherm._array import Array, like, namespace, to_numpy
from logitherm._labels import as_labels, as_weights
from logitherm.calibration.base import Calibrator, number, numbers, temperature_and_bound, whole_number
from logitherm.calibration.rows import possible
from logitherm.calibration.temperature_scaling import heated
from logitherm.gibbs import log_softmax
from logitherm.kernels.affine import Affine, cross_entropy, curvatures
from logitherm.thermometer import fit_temperature

TOLERANCE = 1e-10  # relative change of the objective at which the search ends
MOST_STEPS = 500
MOST_ROUNDS = 5  # of learning the strengths
COARSE = 1e-7  # as TOLERANCE, while they are learned
SETTLED = 0.2  # change of their logarithms that is none
FARTHEST = 1e6  # from strength 1, either way
KEPT_STEPS = 20  # of the quasi-Newton method


class _AffineScaling(Calibrator):
    """What the three share; `_has_scale` and `_has_matrix` say which parameters there are."""

    keeps_predictions = False
    _has_scale: ClassVar[bool] = False
    _has_matrix: ClassVar[bool] = False

    def __init__(self, *, strength: float | None = None, zero_labels: str = "raise") -> None:
        self.strength = strength
        self.zero_labels = zero_labels

    def _fit(self, z: Array, labels: np.ndarray, weights: Any) -> None:
        if self.strength is None and self._has_matrix:
            raise ValueError("strength: must be a number for a matrix; got None; 1 is the default")
        if self.strength is not None and not 0 <= self.strength < math.inf:
            raise ValueError(f"strength: must be finite and at least 0; got {self.strength}; leave it out")
        z = self._features(z)
        fit = fit_temperature(z, labels, weights=weights, zero_labels=self.zero_labels)
        y = as_labels(labels, (z.shape[0],), z.shape[1])
        w = as_weights(weights, (z.shape[0],))
        w = np.ones(len(y)) if w is None else w
        if fit.excluded:
            keep = possible(z, y)
            z, y, w = z[keep], y[keep], w[keep]
        if self._has_matrix and not math.isfinite(float(to_numpy(namespace(z).min(z)))):
            raise ValueError(
                "logits: must be finite for a matrix, which mixes the columns; got -inf; use VectorScaling"
            )
        self.at_bound_, self.n_ = fit.at_bound, fit.n
        k = z.shape[1]
        nothing = Affine(np.zeros(k), np.zeros(k), np.zeros((k, k)) if self._has_matrix else None)
        if fit.at_bound == "zero":  # nothing is left to explain
            self._adopt(0.0, nothing._replace(scale=np.ones(k)), 0)
        elif fit.at_bound == "infinite":
            found, steps = self._search(z, y, w, math.inf, nothing)
            self._adopt(math.inf, found._replace(scale=np.ones(k), matrix=nothing.matrix), steps)
        else:
            self._adopt(fit.temperature, *self._search(z, y, w, fit.temperature, nothing))

    def _features(self, z: Array) -> Array:
        return z

    def _search(
        self, z: Array, labels: np.ndarray, weights: np.ndarray, temperature: float, nothing: Affine
    ) -> tuple[Affine, int]:
        """Parameters relative to the temperature, (1 + s + v_k) z_k / T + ..., and passes over the rows.

        The quasi-Newton search runs in units in which the second derivatives at its start are 1.
        """
        k = len(nothing.bias)
        x = np.zeros_like(self._pack(0.0, *(np.zeros_like(v) if v is not None else None for v in nothing)))
        blocks = [slice(1 + i * k, 1 + (i + 1) * k) for i in range(1 + self._has_scale)]
        unit_precision = np.where(np.arange(len(x)) > 0, 2.0 * k, 0.0)
        unit_precision[1 + 2 * k :] *= k - 1
        precision = unit_precision * (1.0 if self.strength is None else self.strength)
        factor = 1 / temperature

        def mapped(x: np.ndarray) -> Affine:
            s, scale, bias, matrix = self._unpack(x, k)
            return Affine(factor * (1 + s + scale), bias, None if matrix is None else factor * matrix)

        def packed(slopes: Affine, power: int) -> np.ndarray:
            scale = slopes.scale * factor**power
            matrix = None if slopes.matrix is None else slopes.matrix * factor**power
            return self._pack(scale.sum(), scale, slopes.bias, matrix)

        def best(x: np.ndarray, tolerance: float) -> Any:
            unit = 1 / np.sqrt(curvature + precision + 1e-12)

            def objective(y: np.ndarray) -> tuple[float, np.ndarray]:
                nll, slopes = cross_entropy(z, labels, weights, mapped(y * unit))
                slope = packed(slopes, 1) + precision * y * unit
                return nll + 0.5 * float(precision @ (y * unit) ** 2), slope * unit

            options = {"maxiter": MOST_STEPS, "maxcor": KEPT_STEPS, "ftol": tolerance, "gtol": 1e-4}
            found = minimize(objective, x / unit, jac=True, method="L-BFGS-B", options=options)
            return found.x * unit, int(found.nfev)

        curvature, passes = packed(curvatures(z, weights, mapped(x)), 2), 0
        for _ in range(MOST_ROUNDS if self.strength is None else 0):
            x, more = best(x, COARSE)
            curvature, passes = packed(curvatures(z, weights, mapped(x)), 2), passes + more
            before = precision.copy()
            for block in blocks:
                precision[block] = _likeliest_precision(x[block], curvature[block], precision[block], unit_precision[1])
            if np.abs(np.log(precision[1:] / before[1:])).max() < SETTLED:
                break
        x, more = best(x, TOLERANCE)
        self.strengths_ = tuple(float(precision[block.start] / unit_precision[1]) for block in blocks)
        s, scale, bias, matrix = self._unpack(x, k)
        return Affine(1 + s + scale, bias, matrix), passes + more

    def _pack(self, s: float, scale: Any, bias: Any, matrix: Any) -> np.ndarray:
        """Parameters as one array: s, b, and v and M (without its diagonal) where there are such."""
        parts = [np.array([s]), bias]
        if self._has_scale:
            parts.append(scale)
        if self._has_matrix:
            parts.append(matrix[~np.eye(len(bias), dtype=bool)])
        return np.concatenate(parts)

    def _unpack(self, x: np.ndarray, k: int) -> tuple[float, np.ndarray, np.ndarray, np.ndarray | None]:
        scale = x[1 + k : 1 + 2 * k] if self._has_scale else np.zeros(k)
        matrix = None
        if self._has_matrix:
            matrix = np.zeros((k, k))
            matrix[~np.eye(k, dtype=bool)] = x[1 + 2 * k :]
        return float(x[0]), scale, x[1 : 1 + k], matrix

    def _adopt(self, temperature: float, relative: Affine, iterations: int) -> None:
        """Public attributes from parameters relative to a temperature."""
        typical = float(relative.scale.mean()) if 0 < temperature < math.inf else 1.0
        self.temperature_ = temperature / typical
        self.relative_scale_ = relative.scale / typical if self._has_scale else np.ones_like(relative.scale)
        self.bias_ = relative.bias - relative.bias.mean()
        self.matrix_ = None if relative.matrix is None else relative.matrix / typical
        self.iterations_ = iterations

    def _calibrated(self, z: Array) -> Array:
        xp = namespace(z)
        z = self._features(z)
        cooled = heated(z, self.temperature_)

        def cast(values: np.ndarray) -> Array:
            return xp.astype(like(values, z), z.dtype)

        u = cooled * cast(self.relative_scale_) + cast(self.bias_)
        if self.matrix_ is not None:
            return u + cooled @ cast(self.matrix_.T) if 0 < self.temperature_ < math.inf else u
        return xp.where(cooled == -math.inf, cooled, u)

    def _values(self) -> dict[str, Any]:
        values = {
            "temperature": self.temperature_,
            "bias": self.bias_.tolist(),
            "at_bound": self.at_bound_,
            "n": self.n_,
            "strength": self.strength,
        }
        if self._has_scale:
            values["relative_scale"] = self.relative_scale_.tolist()
        if self.matrix_ is not None:
            values["matrix"] = self.matrix_.tolist()
        return values

    def _set(self, values: dict[str, Any]) -> None:
        k = self.n_features_in_
        self.temperature_, self.at_bound_ = temperature_and_bound(values)
        self.relative_scale_ = numbers(values["relative_scale"], k) if self._has_scale else np.ones(k)
        self.bias_ = numbers(values["bias"], k)
        self.matrix_ = np.array([numbers(row, k) for row in values["matrix"]]) if self._has_matrix else None
        if self.matrix_ is not None and self.matrix_.shape != (k, k):
            raise ValueError(f"a matrix of shape {self.matrix_.shape} for {k} classes")
        self.n_ = whole_number(values["n"])
        self.strength = None if values["strength"] is None else number(values["strength"], 0)


def _likeliest_precision(x: np.ndarray, curvature: np.ndarray, precision: np.ndarray, unit: float) -> float:
    """Of normal priors under which x is most probable: the number of determined parameters over their squares."""
    determined = float((curvature / (curvature + precision)).sum())
    squares = max(float(x @ x), np.finfo(np.float64).tiny)
    return min(max(determined / squares, unit / FARTHEST), unit * FARTHEST)


class BiasCorrectedTemperatureScaling(_AffineScaling):
    """One temperature and a bias for every class: u_k = z_k / T + b_k.

    For models whose class frequencies are off, by training on others than those of use for instance. May change
    predictions. The base for adapting to other class frequencies.

    Parameters
    ----------
    strength : float, optional
        Of the ridge penalty on the biases: a normal prior of variance 1 / (2 K strength); 0 for none. Learned from
        the data unless given, as the one that makes them most probable.
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.

    Attributes
    ----------
    temperature_ : float
        T, in the units of the logits.
    bias_ : array, shape (classes,)
        b_k in nats, of mean 0.
    at_bound_ : "zero", "infinite" or None
        Where one temperature alone has no optimum in between: at "zero" nothing else is fitted, at "infinite" only the
        biases, which are then the logarithms of the class frequencies.
    strengths_ : tuple of float
        The strength, given or learned: of the biases, and in `VectorScaling` of the scales. Only after a search.
    iterations_, n_ : int
        Passes over the rows of the search, and rows.

    References
    ----------
    Alexandari, Kundaje and Shrikumar (2020), Maximum likelihood with bias-corrected calibration is hard-to-beat at
    label shift adaptation, section 3; for the penalty Berta et al. (2025), Structured matrix scaling for multi-class
    calibration; for its strength MacKay (1992), Bayesian interpolation, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 2 * rng.normal(size=(5000, 3))
    >>> labels = (z + np.array([1.0, 0.0, -1.0]) + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> scaling = BiasCorrectedTemperatureScaling().fit(1.5 * z, labels)
    >>> round(scaling.temperature_, 1), (scaling.bias_[:2] - scaling.bias_[1:]).round(1).tolist()
    (1.5, [0.9, 1.1])
    """


class VectorScaling(_AffineScaling):
    """A temperature and a bias for every class: u_k = a_k z_k + b_k.

    For models that are overconfident in some classes more than in others. May change predictions. Not invariant to a
    constant added to a row of logits: fit and use the logits of one model as they are.

    Parameters
    ----------
    strength : float, optional
        Of the ridge penalty on the biases and on the relative deviations of a_k from their mean: normal priors of
        variance 1 / (2 K strength); 0 for none. Learned from the data unless given, one for the biases and one for
        the scales.
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.

    Attributes
    ----------
    temperature_ : float
        T, the inverse of the mean of a_k.
    relative_scale_ : array, shape (classes,)
        a_k T, of mean 1.
    bias_, at_bound_, strengths_, iterations_, n_
        As in `BiasCorrectedTemperatureScaling`.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2; for the penalty Berta et al. (2025),
    Structured matrix scaling for multi-class calibration; for its strength MacKay (1992), Bayesian interpolation,
    section 4.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 2 * rng.normal(size=(5000, 3))
    >>> labels = (z * np.array([1.2, 1.0, 0.8]) + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> scaling = VectorScaling().fit(z, labels)
    >>> round(scaling.temperature_, 1), scaling.relative_scale_.round(1).tolist()
    (1.0, [1.2, 1.0, 0.8])
    """

    _has_scale = True


class StructuredMatrixScaling(_AffineScaling):
    """Every class may depend on every logit: u_k = a_k z_k + sum_j M_kj z_j + b_k.

    For models that mistake some classes for each other systematically, where there are many rows for every class. May
    change predictions; logits must be finite.

    Parameters
    ----------
    strength : float
        Of the ridge penalty: as in `VectorScaling`, and for every M_kj (relative to 1 / T) a normal prior of variance
        1 / (2 K (K - 1) strength).
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.

    Attributes
    ----------
    matrix_ : array, shape (classes, classes)
        M_kj T, with a diagonal of zeros.
    temperature_, relative_scale_, bias_, at_bound_, iterations_, n_
        As in `VectorScaling`.

    References
    ----------
    Berta, Holzmueller, Jordan and Bach (2025), Structured matrix scaling for multi-class calibration, section 4; Guo
    et al. (2017), section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 2 * rng.normal(size=(5000, 3))
    >>> mixed = z + z[:, [1, 0, 2]] * np.array([0.5, 0.5, 0.0])
    >>> labels = (mixed + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> scaling = StructuredMatrixScaling().fit(z, labels)
    >>> round(float((z.argmax(axis=1) == labels).mean()), 2), round(scaling.score(z, labels), 2)
    (0.68, 0.71)
    """

    _has_scale = True
    _has_matrix = True

    def __init__(self, *, strength: float = 1.0, zero_labels: str = "raise") -> None:
        super().__init__(strength=strength, zero_labels=zero_labels)


class DirichletCalibration(StructuredMatrixScaling):
    """Structured matrix scaling of log-probabilities: u = W log softmax(z) + b.

    A constant added to a row of logits changes nothing, and probabilities alone are enough. Parameters and attributes
    are those of `StructuredMatrixScaling`.

    References
    ----------
    Kull et al. (2019), Beyond temperature scaling: obtaining well-calibrated multiclass probabilities with Dirichlet
    calibration, eq. 3; for the penalty Berta et al. (2025).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 2 * rng.normal(size=(5000, 3))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> calibration = DirichletCalibration().fit(2 * z, labels)
    >>> bool(np.allclose(calibration.predict_proba(z + 5), calibration.predict_proba(z)))
    True
    """

    def _features(self, z: Array) -> Array:
        return log_softmax(z)
