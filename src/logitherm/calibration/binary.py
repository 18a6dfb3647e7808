"""One score a label: binary and multi-label heads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from logitherm._array import Array, as_array, as_logits, describe, dtype_name, like, namespace, silent, to_numpy
from logitherm._labels import as_weights
from logitherm.calibration.affine import BiasCorrectedTemperatureScaling
from logitherm.calibration.base import Saved, number, numbers, or_infinite, whole_number
from logitherm.calibration.temperature_scaling import TemperatureScaling
from logitherm.gibbs import softmax
from logitherm.kernels.reference import over

MISSING = -1


def binary_logits(scores: Array) -> Array:
    """The logits (0, x) of single scores x, whose softmax is (1 - s, s) with s = sigmoid(x).

    Not (-x, x), which would double every temperature.

    Parameters
    ----------
    scores : floating array, any shape

    Returns
    -------
    array, shape (..., 2)

    Examples
    --------
    >>> import numpy as np
    >>> softmax(binary_logits(np.array([0.0, 2.0]))).round(3).tolist()
    [[0.5, 0.5], [0.119, 0.881]]
    """
    x = as_array(scores, "scores")
    if "float" not in dtype_name(x):
        raise TypeError(f"scores: must be floating point; got {describe(x)}; convert with float32")
    xp = namespace(x)
    return xp.stack([xp.zeros_like(x), x], axis=-1)


class PlattScaling(Saved, ClassifierMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """For every label its own temperature and bias: P(label) = sigmoid(x / T + b).

    For heads with one score a label: binary (scores (n,)) and multi-label (n, labels). With `bias=False` a temperature
    alone, which keeps every decision at the threshold 0.5.

    Limits: a label whose scores separate it perfectly gets T = 0 and no bias (`at_bound_` "zero"); scores without
    signal T = inf and the label's frequency as its probability ("infinite").

    Parameters
    ----------
    bias : bool
        Whether to fit b.
    strength : float
        Of a normal prior of variance 1 / (2 strength) on b, for labels with few rows, and for those without positive or
        without negative ones, which need it; 0 for none.

    Attributes
    ----------
    temperatures_, biases_ : array, shape (labels,)
    at_bounds_ : list of "zero", "infinite" or None
    n_ : array, shape (labels,)
        Rows that counted: labels of -1 are missing.

    References
    ----------
    Platt (1999), Probabilistic outputs for support vector machines, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = 3 * rng.normal(size=(5000, 2))
    >>> happened = rng.random((5000, 2)) < 1 / (1 + np.exp(-(x / [2.0, 0.5] + [0.0, 1.0])))
    >>> scaling = PlattScaling().fit(x, happened.astype(int))
    >>> scaling.temperatures_.round(1).tolist(), scaling.biases_.round(1).tolist()
    ([1.9, 0.5], [-0.0, 1.0])
    """

    def __init__(self, *, bias: bool = True, strength: float = 0.0) -> None:
        self.bias = bias
        self.strength = strength

    def fit(self, scores: Any, labels: Any, sample_weight: Any = None) -> PlattScaling:
        """Fit to scores and labels 0, 1 or -1 (missing) of one shape, (n,) or (n, labels).

        Raises
        ------
        TypeError, ValueError
            Scores that are not floating or not finite; labels of another shape or value; a label without rows; with a
            bias and no prior on it, a label that is always the same or whose rows the bias separates.
        """
        x, _ = self._columns(scores)
        y = to_numpy(as_array(labels, "labels"))
        y = y.astype(np.int64) if y.dtype.kind == "b" else y
        given = tuple(as_array(scores, "scores").shape)
        y = y[:, None] if given == (len(y), 1) and y.ndim == 1 else y  # as scikit-learn has one column
        if y.shape != given or y.dtype.kind not in "iu":
            raise ValueError(
                f"labels: must be integers of the shape of scores {given}; got {describe(y)}; give 0, 1 or -1"
            )
        y = y.reshape(x.shape)
        bad = (y < MISSING) | (y > 1)
        if bad.any():
            row = int(np.argmax(bad.any(axis=1)))
            raise ValueError(f"labels: must be 0, 1 or -1 (missing); row {row} has {int(y[row][bad[row]][0])}; mend it")
        weights = as_weights(sample_weight, (len(x),))
        self.temperatures_, self.biases_ = np.empty(x.shape[1]), np.zeros(x.shape[1])
        self.at_bounds_: list[str | None] = []
        self.n_ = np.zeros(x.shape[1], dtype=np.int64)
        for j in range(x.shape[1]):
            rows = np.flatnonzero(y[:, j] != MISSING)
            if not len(rows):
                raise ValueError(f"labels: every label needs rows; label {j} has none; leave its column out")
            self._fit_one(j, x[rows, j], y[rows, j], None if weights is None else weights[rows])
        self.n_features_in_ = x.shape[1]
        self.provenance_ = None
        return self

    def _fit_one(self, j: int, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None) -> None:
        family = BiasCorrectedTemperatureScaling(strength=self.strength) if self.bias else TemperatureScaling()
        seen = np.unique(y if weights is None else y[weights > 0])
        if self.bias and self.strength == 0 and len(seen) == 1:
            raise ValueError(
                f"labels: must be both 0 and 1 where nothing restrains the bias; label {j} is always {seen[0]}; "
                "give strength=1, pass bias=False, or leave its column out"
            )
        try:
            fitted = family.fit(binary_logits(x), y, weights)
        except ValueError as error:
            raise ValueError(f"{error} (label {j})") from error
        self.temperatures_[j], self.n_[j] = fitted.temperature_, len(y)
        self.at_bounds_.append(fitted.at_bound_)
        if self.bias:
            self.biases_[j] = fitted.bias_[1] - fitted.bias_[0]  # type: ignore[union-attr]

    def _columns(self, scores: Any) -> tuple[np.ndarray, Array]:
        """Scores as NumPy (rows, labels) in the compute dtype, and as they came."""
        given = as_array(scores, "scores")
        if given.ndim not in (1, 2) or "float" not in dtype_name(given) or 0 in given.shape:
            raise ValueError(
                f"scores: must be floating of shape (rows,) or (rows, labels); got {describe(given)}; two logits a row "
                "are for TemperatureScaling"
            )
        z = as_logits(given)
        x = to_numpy(z)
        x = x.reshape(len(x), -1)
        if not np.isfinite(x).all():
            row = int(np.argmax(~np.isfinite(x).all(axis=1)))
            raise ValueError(f"scores: must be finite; row {row} is not; drop or mend it")
        return x, z

    def transform(self, scores: Any) -> Array:
        """x / T + b: scores whose sigmoid is `predict_proba`."""
        check_is_fitted(self)
        x, z = self._columns(scores)
        if x.shape[1] != len(self.temperatures_):
            raise ValueError(f"scores: must have {len(self.temperatures_)} labels as in the fit; got {describe(z)}")
        shape = (-1,) if z.ndim == 2 else ()

        def cast(values: np.ndarray) -> Array:
            return namespace(z).astype(like(values.reshape(shape), z), z.dtype)

        return silent(over)(z, cast(self.temperatures_) + 0 * z) + cast(self.biases_)

    def predict_proba(self, scores: Any) -> Array:
        """Probability of every label, shape of the scores."""
        u = self.transform(scores)
        xp = namespace(u)
        big = xp.clip(u, -700.0, 700.0)  # two infinite logits have no softmax
        p = softmax(binary_logits(big))[..., 1]
        return xp.where(u == math.inf, xp.ones_like(p), xp.where(u == -math.inf, xp.zeros_like(p), p))

    def predict(self, scores: Any) -> Array:
        """1 where the probability is above one half, else 0."""
        u = self.transform(scores)
        return namespace(u).astype(u > 0, namespace(u).int64)

    def _values(self) -> dict[str, Any]:
        return {
            "temperatures": [t if t < math.inf else None for t in self.temperatures_.tolist()],
            "biases": self.biases_.tolist(),
            "at_bounds": self.at_bounds_,
            "n": self.n_.tolist(),
            "bias": self.bias,
            "strength": self.strength,
        }

    def _set(self, values: dict[str, Any]) -> None:
        count = self.n_features_in_
        self.temperatures_ = np.array([or_infinite(t) for t in values["temperatures"]])
        self.biases_ = numbers(values["biases"], count)
        self.at_bounds_, self.n_ = list(values["at_bounds"]), np.array([whole_number(n) for n in values["n"]])
        if not count == len(self.temperatures_) == len(self.at_bounds_) == len(self.n_):
            raise ValueError(f"{len(self.temperatures_)} temperatures for {count} labels")
        self.bias, self.strength = bool(values["bias"]), number(values["strength"], 0)
