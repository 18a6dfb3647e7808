"""A fitted scikit-learn classifier with calibrated probabilities, in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted, column_or_1d

from logitherm._array import describe
from logitherm.calibration import METHODS, binary_logits
from logitherm.calibration.base import Calibrator

RESPONSES = ("decision_function", "predict_proba")


class CalibratedClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """A fitted classifier with a calibrator behind it, fitted to held-out rows; the classifier is not fitted again.

    A binary classifier's score x stands for the logits (0, x), so that T is 1 where the scores are right.

    Parameters
    ----------
    estimator : classifier
        Fitted. In a `FrozenEstimator` it stays so where scikit-learn clones: in cross-validation and grid search.
    method : str or Calibrator
        A key of `METHODS`, or a calibrator, which is cloned.
    response : "decision_function" or "predict_proba"
        What gives the logits: the scores as they are, or the logarithms of probabilities, for classifiers without
        scores.
    zero_labels : "raise" or "exclude"
        What a calibrator given by its key does with rows whose class has probability 0, as a forest may say.

    Attributes
    ----------
    calibrator_ : Calibrator
        With the temperature and its interval; `save` writes it to a file.
    classes_ : array
        Those of the estimator, in the order of the columns.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 20))
    >>> y = np.where(X[:, 0] + rng.logistic(size=1000) > 0, "yes", "no")
    >>> overfitted = LogisticRegression(C=1e3).fit(X[:100], y[:100])
    >>> calibrated = CalibratedClassifier(overfitted).fit(X[100:], y[100:])
    >>> calibrated.calibrator_.interval_[0] > 1
    True
    >>> calibrated.predict_proba(X[:5]).shape, calibrated.classes_.tolist()
    ((5, 2), ['no', 'yes'])
    """

    calibrator_: Calibrator
    classes_: np.ndarray

    def __init__(
        self,
        estimator: Any,
        method: str | Calibrator = "temperature",
        *,
        response: str = "decision_function",
        zero_labels: str = "raise",
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.response = response
        self.zero_labels = zero_labels

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CalibratedClassifier:
        """Fit the calibrator to rows that the classifier was not fitted to.

        Raises
        ------
        NotFittedError
            A classifier that is not fitted.
        ValueError
            Labels that the classifier does not know; what the calibrator refuses; an unknown method or response; a
            classifier without that response.
        """
        try:
            check_is_fitted(self.estimator)
        except NotFittedError as error:
            raise NotFittedError(
                f"estimator: must be fitted; got {describe(self.estimator)}; fit it first, and wrap it as "
                "FrozenEstimator(estimator) where it will be cloned"
            ) from error
        self.classes_ = np.asarray(self.estimator.classes_)
        calibrator = self._calibrator()
        self.calibrator_ = calibrator.fit(self._logits(X), self._numbers(y), sample_weight)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Calibrated probabilities, shape (n, classes)."""
        check_is_fitted(self)
        return np.asarray(self.calibrator_.predict_proba(self._logits(X)))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.calibrator_.predict(self._logits(X))])

    def _calibrator(self) -> Calibrator:
        if isinstance(self.method, Calibrator):
            if self.zero_labels != "raise":
                raise ValueError(
                    "zero_labels: must be left out where method is a calibrator, which has its own; got "
                    f"{self.zero_labels!r}; set it there"
                )
            return clone(self.method)
        if self.method not in METHODS:
            raise ValueError(
                f"method: must be a calibrator or one of {', '.join(METHODS)}; got {self.method!r}; 'temperature' is "
                "usual"
            )
        return METHODS[self.method](zero_labels=self.zero_labels)  # type: ignore[call-arg]

    def _logits(self, X: Any) -> np.ndarray:
        if self.response not in RESPONSES:
            raise ValueError(
                f"response: must be {' or '.join(RESPONSES)}; got {self.response!r}; give the one the estimator has"
            )
        if not hasattr(self.estimator, self.response):
            other = next(name for name in RESPONSES if name != self.response)
            raise ValueError(
                f"response: the estimator has no {self.response}; got {describe(self.estimator)}; pass {other!r}"
            )
        scores = np.asarray(getattr(self.estimator, self.response)(X))
        if self.response == "predict_proba":
            with np.errstate(divide="ignore"):
                return np.log(scores)
        z = binary_logits(scores) if scores.ndim == 1 else scores
        if z.shape[1] != len(self.classes_):
            raise ValueError(
                f"estimator: must score every class, got {z.shape[1]} scores for {len(self.classes_)} classes; "
                "pass decision_function_shape='ovr' to a support-vector classifier"
            )
        return z

    def _numbers(self, y: Any) -> np.ndarray:
        """The column of every label."""
        numbers = {label: number for number, label in enumerate(self.classes_.tolist())}
        found = [numbers.get(label, -1) for label in column_or_1d(y).tolist()]
        if -1 in found:
            row = found.index(-1)
            raise ValueError(
                f"y: must be classes of the estimator; {found.count(-1)} rows are not, first row {row} "
                f"({column_or_1d(y)[row]!r}); leave them out"
            )
        return np.array(found, dtype=np.int64)
