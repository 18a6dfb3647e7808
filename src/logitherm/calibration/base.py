"""What all calibrators share: the guard, prediction, and files."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED
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
    to_numpy,
)
from logitherm._json import plain
from logitherm._labels import as_weights, rows_kept
from logitherm.gibbs import softmax
from logitherm.io import write_whole
from logitherm.io.errors import ENCODE

Self = TypeVar("Self", bound="Calibrator")
AnySaved = TypeVar("AnySaved", bound="Saved")


class Saved:
    """An estimator that can be written to a file as JSON and read back; a family gives `_values` and `_set`."""

    n_features_in_: int
    provenance_: dict[str, Any] | None = None  # where it comes from, in its file; `calibrate` says it

    def _values(self) -> dict[str, Any]:
        """The fitted attributes for JSON."""
        raise NotImplementedError

    def _set(self, values: dict[str, Any]) -> None:
        """The inverse of `_values`; KeyError, TypeError or ValueError where these cannot be."""
        raise NotImplementedError

    @classmethod
    def _format(cls) -> str:
        return f"logitherm.{cls.__name__}/1"

    def to_json(self) -> str:
        """The fitted calibrator as JSON."""
        check_is_fitted(self)
        values = {"format": self._format(), **self._values(), "classes": self.n_features_in_}
        if self.provenance_ is not None:
            values["provenance"] = self.provenance_
        return json.dumps(plain(values), indent=2, allow_nan=False) + "\n"

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write `to_json` to a file, whole or not at all; an existing file only with `force`."""
        write_whole(path, self.to_json().encode(), force=force)

    @classmethod
    def load(cls: type[AnySaved], path: str | os.PathLike[str]) -> AnySaved:
        """The calibrator that `save` wrote.

        Raises
        ------
        ValueError
            A file that is not a calibrator of this format, or holds impossible values.
        """
        return read_calibrator(path, (cls,))


class Calibrator(Saved, ClassifierMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """A map from logits (rows, classes) to calibrated logits, fitted to held-out labels.

    Columns are classes, not features. A family gives four methods: `_fit`, `_calibrated`, `_values`, `_set`.
    """

    keeps_predictions: ClassVar[bool]  # whether the largest logit stays the largest, whatever is fitted
    # scikit-learn takes every argument that is not called X or y for metadata to route
    __metadata_request__fit: ClassVar = {"logits": UNUSED, "labels": UNUSED, "ignore_index": UNUSED}
    __metadata_request__transform: ClassVar = {"logits": UNUSED}
    __metadata_request__predict: ClassVar = {"logits": UNUSED}
    __metadata_request__predict_proba: ClassVar = {"logits": UNUSED}
    classes_: np.ndarray

    def fit(
        self: Self,
        logits: Any,
        labels: Any,
        sample_weight: Any = None,
        *,
        mask: Any = None,
        ignore_index: int | None = None,
    ) -> Self:
        """Fit to logits (n, classes) and labels (n,), integers or other whole numbers.

        Rows count where `mask` (n,) is True and the label is not `ignore_index`; `sample_weight` (n,) counts a row as
        so many.

        Raises
        ------
        TypeError, ValueError
            As `logitherm.fit_temperature`.
        """
        z, y, weights, _ = self._start(logits, labels, sample_weight, mask, ignore_index)
        self._fit(z, y, weights)
        return self

    def _start(
        self, logits: Any, labels: Any, sample_weight: Any, mask: Any, ignore_index: int | None
    ) -> tuple[Array, np.ndarray, Any, np.ndarray | slice]:
        """Guard what comes to a fit, take the classes from it, and give the rows that count, and which they are."""
        self.provenance_ = None
        z = self._rows(logits, fitting=True)
        y = _column(labels)
        if z.shape[1] == 1 and y.size and y.max() > 0:
            raise ValueError(
                "logits: must have a column for every class, got 1 feature(s) for labels up to "
                f"{y.max()}; a single score x stands for the logits (0, x)"
            )
        self.classes_, self.n_features_in_ = np.arange(z.shape[1]), int(z.shape[1])
        keep = rows_kept(y, mask, ignore_index, (len(z),))
        if keep is None:
            return z, y, sample_weight, slice(None)
        if sample_weight is not None:
            as_weights(sample_weight, keep.shape)
            sample_weight = to_numpy(sample_weight)[keep]
        return z[keep], y[keep], sample_weight, keep

    def _fit(self, z: Array, labels: np.ndarray, weights: Any) -> None:
        """Set the fitted attributes from logits of any floating type, whose values are not yet checked."""
        raise NotImplementedError

    def _calibrated(self, z: Array) -> Array:
        """Calibrated logits of sound ones in the compute dtype."""
        raise NotImplementedError

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

    def transform(self, logits: Any) -> Array:
        """Calibrated logits: their softmax at T = 1 is `predict_proba`."""
        check_is_fitted(self)
        return self._calibrated(as_logits(self._rows(logits)))

    def predict_proba(self, logits: Any) -> Array:
        """Calibrated probabilities: shape, dtype and kind of the logits."""
        check_is_fitted(self)
        z = self._rows(logits)
        return namespace(z).astype(softmax(self._calibrated(as_logits(z))), z.dtype)

    def predict(self, logits: Any) -> Array:
        """Index of the largest calibrated logit, the first of them where several tie."""
        check_is_fitted(self)
        z = self._rows(logits)
        return namespace(z).argmax(z if self.keeps_predictions else self._calibrated(as_logits(z)), axis=-1)


def read_calibrator(path: str | os.PathLike[str], families: tuple[type[AnySaved], ...]) -> AnySaved:
    """The calibrator of one of these families in a file."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        given = values.get("format") if isinstance(values, dict) else None
        family = next((family for family in families if family._format() == given), None)
        if family is None:
            raise ValueError(f"format is not {' or '.join(family._format() for family in families)}")
        self = family()
        self.n_features_in_ = whole_number(values["classes"])
        if isinstance(self, Calibrator):
            self.classes_ = np.arange(self.n_features_in_)
        self._set(values)
        self.provenance_ = values.get("provenance")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        name = families[0].__name__ if len(families) == 1 else "a calibrator"
        raise ValueError(
            f"{os.fspath(path)}: must be a calibrator saved by {name} ({reason}); save it again"
        ) from error
    return self


# -- numbers in files ------------------------------------------------------------------------------------


def number(value: Any, least: float = -math.inf) -> float:
    """A finite number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
        due = "a finite number" + (f" of at least {least:g}" if least > -math.inf else "")
        raise ValueError(f"{value!r} where {due} is due")
    return float(value)


def numbers(values: Any, count: int) -> np.ndarray:
    """So many finite numbers."""
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"{str(values)[:40]} where {count} numbers are due")
    return np.array([number(value) for value in values])


def whole_number(value: Any, least: int = 1) -> int:
    """An integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{value!r} where a whole number of at least {least} is due")
    return value


def or_infinite(value: Any) -> float:
    """A temperature: JSON has no infinity."""
    return math.inf if value is None else number(value, 0)


def temperature_and_bound(values: dict[str, Any], name: str = "temperature") -> tuple[float, str | None]:
    """T and the bound that it must agree with."""
    temperature = or_infinite(values[name])
    if values["at_bound"] != bound_of(temperature):
        raise ValueError(f"{name} {values[name]} with at_bound {values['at_bound']!r}")
    return temperature, bound_of(temperature)


def bound_of(temperature: float) -> str | None:
    """Whether there was no optimum in between."""
    return {0.0: "zero", math.inf: "infinite"}.get(temperature)


# -- labels ----------------------------------------------------------------------------------------------


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
