"""Temperature scaling as a scikit-learn estimator."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_feature_names, assert_all_finite, check_is_fitted, column_or_1d

from logitherm._array import (
    HALF_TYPES,
    Array,
    as_array,
    as_logits,
    describe,
    dtype_name,
    is_array,
    namespace,
    require_rows,
    silent,
    to_numpy,
)
from logitherm.gibbs import softmax
from logitherm.io import write_whole
from logitherm.io.errors import ENCODE
from logitherm.kernels import reference
from logitherm.thermometer import TemperatureFit, fit_temperature

FORMAT = "logitherm.TemperatureScaling/1"
KEPT = ("temperature", "standard_error", "sandwich_error", "interval", "at_bound", "n", "classes")


class TemperatureScaling(ClassifierMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """One temperature for all rows, fitted by maximum likelihood: honest probabilities, the same predictions.

    Columns are classes, not features: `fit` takes the logits of a trained classifier on held-out data. NumPy arrays,
    lists and torch tensors go in; `predict_proba`, `transform` and `predict` return the kind that came.

    Limits: separable rows give T = 0, logits without signal T = inf (`at_bound_` says so); both are applied exactly.

    Parameters
    ----------
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.
    confidence : float
        Level of `interval_`.

    Attributes
    ----------
    temperature_ : float
        T in the units of the logits; T > 1 heats an overconfident model, T < 1 cools an underconfident one.
    standard_error_, sandwich_error_ : float or None
        Of T: model-based, and robust to a misspecified model. None at a bound.
    interval_ : (float, float) or None
        Profile-likelihood interval of T.
    at_bound_ : "zero", "infinite" or None
        Whether there was no optimum in between.
    classes_ : array
        0, 1, ..., one for every column.
    n_features_in_ : int
        Number of columns.
    n_ : int
        Rows of the fit.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(2000, 5))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> scaling = TemperatureScaling().fit(2.0 * z, labels)
    >>> round(scaling.temperature_, 1)
    2.0
    >>> scaling.predict_proba(2.0 * z).shape
    (2000, 5)
    """

    def __init__(self, *, zero_labels: str = "raise", confidence: float = 0.95) -> None:
        self.zero_labels = zero_labels
        self.confidence = confidence

    def fit(self, logits: Any, labels: Any, sample_weight: Any = None) -> TemperatureScaling:
        """Fit the temperature to logits (n, classes) and labels (n,), integers or other whole numbers.

        Raises
        ------
        TypeError, ValueError
            As `logitherm.fit_temperature`.
        """
        z = self._rows(logits, fitting=True)
        labels = _column(labels)
        if z.shape[1] == 1 and labels.size and labels.max() > 0:
            raise ValueError(
                "logits: must have a column for every class, got 1 feature(s) for labels up to "
                f"{labels.max()}; a single score x stands for the logits (0, x)"
            )
        return self._adopt(
            fit_temperature(z, labels, weights=sample_weight, zero_labels=self.zero_labels, confidence=self.confidence)
        )

    def _adopt(self, found: TemperatureFit) -> TemperatureScaling:
        """Become what `fit` makes of this."""
        self._set({name: getattr(found, name) for name in KEPT})
        return self

    def _set(self, values: dict[str, Any]) -> None:
        self.temperature_ = values["temperature"]
        self.standard_error_ = values["standard_error"]
        self.sandwich_error_ = values["sandwich_error"]
        self.interval_ = values["interval"]
        self.at_bound_ = values["at_bound"]
        self.n_ = values["n"]
        self.classes_ = np.arange(values["classes"])
        self.n_features_in_ = values["classes"]

    def _rows(self, logits: Any, *, fitting: bool = False) -> Array:
        """Logits of two dimensions; after the fit with as many columns, and no row that has NaN, +inf or only -inf."""
        _check_feature_names(self, logits, reset=fitting)  # the names of a DataFrame's columns
        z = as_array(logits, "logits")
        if z.ndim != 2:
            raise ValueError(
                f"logits: must have two dimensions (rows, classes); got shape {tuple(z.shape)}. Reshape your data"
            )
        if z.shape[1] == 0:
            raise ValueError(
                f"logits: 0 feature(s) (shape={tuple(z.shape)}) while a minimum of 1 is required; "
                "give one column for every class"
            )
        if "complex" in dtype_name(z):
            raise ValueError(f"logits: Complex data not supported; got {describe(z)}; give the real logits")
        as_logits(z[:0] if dtype_name(z) in HALF_TYPES else z)  # the kind of number
        if fitting:
            return z
        if z.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {z.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input: the logits must have one column for every class of the fit; use the calibrator of this model"
            )
        require_rows(namespace(z).max(z, axis=-1))
        return z

    def predict_proba(self, logits: Any) -> Array:
        """softmax(logits / T), shape and kind of the logits."""
        check_is_fitted(self)
        return softmax(self._rows(logits), self.temperature_)

    def transform(self, logits: Any) -> Array:
        """logits / T: logits whose softmax at T = 1 is `predict_proba`; at T = 0 the maxima stay 0 and all else is
        -inf."""
        check_is_fitted(self)
        z = as_logits(self._rows(logits))
        top = 0.0 if 0 < self.temperature_ < math.inf else namespace(z).max(z, axis=-1, keepdims=True)
        t = namespace(z).full_like(z[..., :1], self.temperature_)
        return silent(reference.over)(z - top, t)

    def predict(self, logits: Any) -> Array:
        """Index of the largest logit, the first of them where several tie. No temperature changes it."""
        check_is_fitted(self)
        z = self._rows(logits)
        return namespace(z).argmax(z, axis=-1)

    def to_json(self) -> str:
        """The fitted calibrator as JSON; an infinite temperature is null with `at_bound` "infinite"."""
        check_is_fitted(self)
        interval = None if self.interval_ is None else [_finite(v) for v in self.interval_]
        values = {
            "format": FORMAT,
            "temperature": _finite(self.temperature_),
            "standard_error": self.standard_error_,
            "sandwich_error": self.sandwich_error_,
            "interval": interval,
            "confidence": self.confidence,
            "at_bound": self.at_bound_,
            "n": self.n_,
            "classes": int(self.n_features_in_),
        }
        return json.dumps(values, indent=2, allow_nan=False) + "\n"

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write `to_json` to a file, whole or not at all; an existing file only with `force`."""
        write_whole(path, self.to_json().encode(), force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TemperatureScaling:
        """The calibrator that `save` wrote.

        Raises
        ------
        ValueError
            A file that is not a calibrator of this format, or holds impossible values.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(values, dict) or values.get("format") != FORMAT:
                raise ValueError(f"format is not {FORMAT}")
            found = _checked(values)
            self = cls(confidence=float(values["confidence"]))
            self._set(found)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{os.fspath(path)}: must be a calibrator saved by TemperatureScaling ({_reason(error)}); save it again"
            ) from error
        return self


def _column(labels: Any) -> np.ndarray:
    """Labels as scikit-learn passes them: also a column of them, and whole numbers in floating point."""
    if labels is None:
        raise ValueError("labels: this estimator requires y to be passed, but the target y is None")
    y = to_numpy(as_array(labels, "labels") if is_array(labels) else np.asarray(labels))
    if y.dtype.kind in "bOSTU":
        raise TypeError(f"labels: must be integers; got {describe(y)}; {ENCODE}")
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f" and y.ndim == 1 and y.size:
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        y = y.astype(np.int64)
    return y


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """What a file holds, as attributes; raises where it cannot be."""
    bound, interval = values["at_bound"], values["interval"]
    limitless = bound == "infinite" and values["temperature"] is None
    found = {
        "temperature": math.inf if limitless else _number(values["temperature"]),
        "standard_error": None if values["standard_error"] is None else _number(values["standard_error"]),
        "sandwich_error": None if values["sandwich_error"] is None else _number(values["sandwich_error"]),
        "interval": None if interval is None else tuple(math.inf if v is None else _number(v) for v in interval),
        "at_bound": bound,
        "n": int(values["n"]),
        "classes": int(values["classes"]),
    }
    if {0.0: "zero", math.inf: "infinite"}.get(found["temperature"]) != bound:
        raise ValueError(f"temperature {values['temperature']} with at_bound {bound!r}")
    if found["interval"] is not None and len(found["interval"]) != 2:
        raise ValueError(f"interval {interval}")
    if found["classes"] < 1 or not 0 < _number(values["confidence"]) < 1:
        raise ValueError(f"classes {found['classes']}, confidence {values['confidence']}")
    return found


def _number(value: Any) -> float:
    """A finite number that is not negative."""
    if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} where a finite number of at least 0 is due")
    return float(value)


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
