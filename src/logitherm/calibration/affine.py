"""More than one temperature, still affine in the logits: a bias for every class, a temperature for every class, and a
matrix; each shrunk towards one temperature for all.

With T the temperature and a_k = 1 / T wherever no class asks for another:

    BiasCorrectedTemperatureScaling   u_k = z_k / T + b_k
    VectorScaling                     u_k = a_k z_k + b_k
    StructuredMatrixScaling           u_k = a_k z_k + sum_j M_kj z_j + b_k

T is free; biases, relative deviations of a_k from 1 / T and off-diagonal entries are ridge-penalised
(`affine_search.py` says how, and about which pivots). Strength 1, as Berta et al. (2025) have it, is normal priors of
variance 1/(2K), 1/(2K) and 1/(2K(K-1)), K the number of classes; by default every kind of parameter learns its own
from the data.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from logitherm._array import Array, like, namespace, to_numpy
from logitherm._labels import as_labels, as_weights
from logitherm.calibration.affine_search import AffineSearch
from logitherm.calibration.base import Calibrator, number, numbers, temperature_and_bound, whole_number
from logitherm.calibration.rows import possible
from logitherm.calibration.temperature_scaling import heated
from logitherm.gibbs import log_softmax
from logitherm.kernels.affine import Affine
from logitherm.thermometer import fit_temperature

LEAST_SCALE = 1e-6  # relative to 1 / T, at which there is none


class _AffineScaling(Calibrator):
    """What the three share; `_has_scale` and `_has_matrix` say which parameters there are."""

    keeps_predictions = False
    _has_scale: ClassVar[bool] = False
    _has_matrix: ClassVar[bool] = False

    def __init__(self, *, strength: float | None = None, zero_labels: str = "raise") -> None:
        self.strength = strength
        self.zero_labels = zero_labels

    def _fit(self, z: Array, labels: np.ndarray, weights: Any) -> None:
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
        if fit.at_bound == "zero":  # nothing is left to explain
            k = z.shape[1]
            self._adopt(0.0, Affine(np.ones(k), np.zeros(k), np.zeros((k, k)) if self._has_matrix else None), 0)
            return
        self._require_optimum(y, w, z.shape[1])
        if fit.at_bound is None:
            search = AffineSearch(z, y, w, fit.temperature, self._has_scale, self._has_matrix)
            relative, self.strengths_ = search.run(self.strength)
            if self.strength == 0 and search.is_separated():
                raise ValueError(
                    "labels: must overlap; a bias for every class separates them perfectly, so that neither T nor the "
                    "biases have an optimum; give strength=1"
                )
            if relative.scale.mean() > LEAST_SCALE:
                self._adopt(fit.temperature, relative, search.passes)
                return
            self.at_bound_ = "infinite"  # beside their biases the logits have no signal, or point away
        search = AffineSearch(z, y, w, math.inf, self._has_scale, self._has_matrix)
        relative, self.strengths_ = search.run(self.strength)
        nothing = None if relative.matrix is None else np.zeros_like(relative.matrix)
        self._adopt(math.inf, relative._replace(scale=np.ones(z.shape[1]), matrix=nothing), search.passes)

    def _require_optimum(self, labels: np.ndarray, weights: np.ndarray, classes: int) -> None:
        """Without a penalty the bias of a class without rows falls for ever."""
        absent = np.flatnonzero(np.bincount(labels, weights, classes) == 0)
        if self.strength == 0 and len(absent):
            raise ValueError(
                f"labels: must have every class where nothing restrains the biases; class {absent[0]} has no rows "
                f"({len(absent)} such in all); give strength=1, or leave its column out"
            )

    def _features(self, z: Array) -> Array:
        return z

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
        The strength, given or learned: of the biases, of the scales and of the matrix, where there are such. Only after
        a search. 1 where the rows can be separated perfectly, so that nothing tells how strong it should be.
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
    strength : float, optional
        Of the ridge penalty: as in `VectorScaling`, and for every M_kj (relative to 1 / T) a normal prior of variance
        1 / (2 K (K - 1) strength). Learned from the data unless given.
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.

    Attributes
    ----------
    matrix_ : array, shape (classes, classes)
        M_kj T, with a diagonal of zeros.
    temperature_, relative_scale_, bias_, at_bound_, strengths_, iterations_, n_
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
