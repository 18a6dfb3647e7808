"""Which kind of temperature is needed: families compared by cross-validation, and the simplest that is good enough."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from logitherm._array import Array, as_array, describe, to_numpy
from logitherm._json import plain
from logitherm._labels import as_labels
from logitherm.calibration.affine import (
    BiasCorrectedTemperatureScaling,
    DirichletCalibration,
    StructuredMatrixScaling,
    VectorScaling,
)
from logitherm.calibration.base import Calibrator, read_calibrator
from logitherm.calibration.binary import PlattScaling
from logitherm.calibration.ensemble import EnsembleTemperatureScaling
from logitherm.calibration.entropy import EntropyTemperatureScaling
from logitherm.calibration.group import GroupTemperatureScaling
from logitherm.calibration.parametric import ParametricTemperatureScaling
from logitherm.calibration.rows import possible
from logitherm.calibration.split import ScoreSplit, split_score
from logitherm.calibration.temperature_scaling import TemperatureScaling
from logitherm.calibration.truncated.scaling import TruncatedTemperatureScaling
from logitherm.gibbs import softmax
from logitherm.metrics import expected_calibration_error
from logitherm.metrics.rows import Rows, as_inputs, row_statistics

METHODS: dict[str, type[Calibrator]] = {  # simplest first
    "temperature": TemperatureScaling,
    "entropy": EntropyTemperatureScaling,
    "ensemble": EnsembleTemperatureScaling,
    "parametric": ParametricTemperatureScaling,
    "bias": BiasCorrectedTemperatureScaling,
    "vector": VectorScaling,
    "matrix": StructuredMatrixScaling,
    "dirichlet": DirichletCalibration,
}
WORDS = {
    "temperature": "one temperature",
    "entropy": "a temperature that depends on the entropy of the row",
    "ensemble": "a mixture of the model at a temperature of its own, the model as it is and indifference",
    "parametric": "a temperature that a small network reads off the largest logits",
    "bias": "one temperature and a bias for every class",
    "vector": "a temperature and a bias for every class",
    "matrix": "a matrix and a bias",
    "dirichlet": "a matrix and a bias on log-probabilities",
    "group": "a temperature for every group",
}
QUICK = ("temperature", "entropy", "ensemble", "bias", "vector")
CANDIDATES = (*QUICK, "parametric", "matrix")
BASELINES = ("sigmoid", "isotonic")  # scikit-learn's
AS_IT_IS = "as it is"


def load_calibrator(path: str | os.PathLike[str]) -> Calibrator | PlattScaling:
    """The calibrator in a file, of whatever method.

    Raises
    ------
    ValueError
        A file that is no calibrator, or holds impossible values.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> z = np.random.default_rng(0).normal(size=(100, 3))
    >>> fitted = VectorScaling().fit(z, (z + [0.5, 0, 0]).argmax(axis=1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fitted.save(pathlib.Path(folder, "calibrator.json"))
    ...     type(load_calibrator(pathlib.Path(folder, "calibrator.json"))).__name__
    'VectorScaling'
    """
    others = (GroupTemperatureScaling, PlattScaling, TruncatedTemperatureScaling)
    return read_calibrator(path, (*METHODS.values(), *others))


@dataclass(frozen=True)
class Candidate:
    """A method as it fared on rows that it was not fitted to.

    Attributes
    ----------
    method : str
        A key of `METHODS`, "as it is", or a baseline of scikit-learn.
    nll, brier, ece : float
        Cross-validated means over all rows; an NLL of inf means that some label was given probability 0.
    behind, error : float
        Mean NLL above the best eligible method's, and the standard error of that difference over rows.
    keeps_predictions : bool
    failure : str or None
        Why it could not be fitted.
    ineligible : str or None
        Why it is not chosen, however it fares.
    """

    method: str
    nll: float
    brier: float
    ece: float
    behind: float
    error: float
    keeps_predictions: bool
    failure: str | None = None
    ineligible: str | None = None


@dataclass(frozen=True)
class Selection:
    """What `select_method` found.

    Attributes
    ----------
    chosen : str
        The simplest method whose NLL is within one standard error of the best one's.
    best : str
        The eligible method of lowest NLL.
    candidates : tuple of Candidate
        Simplest first, after the logits as they are; the baselines last.
    splits : tuple of ScoreSplit
        Of the NLL and of the Brier score: what the best method mends, and what remains.
    folds, n : int
    """

    chosen: str
    best: str
    candidates: tuple[Candidate, ...]
    splits: tuple[ScoreSplit, ...]
    folds: int
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None where a number is not finite."""
        return dict(plain(asdict(self)))

    def of(self, method: str) -> Candidate:
        """The candidate of this name."""
        return next(each for each in self.candidates if each.method == method)


def select_method(
    logits: Array,
    labels: Array,
    *,
    methods: Sequence[str] = CANDIDATES,
    baselines: Sequence[str] = (),
    folds: int = 5,
    bins: int = 15,
    seed: int = 0,
    zero_labels: str = "raise",
    prior: tuple[float, float] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Selection:
    """Compare methods by cross-validated NLL and choose the simplest within one standard error of the best.

    Where a class has no rows, methods that may change predictions are compared but not eligible: they learn to rule the
    class out, and no row can tell that it was wrong. (If only such methods are given, one of them is chosen.)

    Parameters
    ----------
    logits : floating array, shape (n, classes)
    labels : integer array, shape (n,)
    methods : sequence of str
        Keys of `METHODS`, from which one is chosen.
    baselines : sequence of str
        "sigmoid" and "isotonic" of scikit-learn (one class against the others, renormalised), never chosen.
    folds, seed : int
        Parts of the rows, and the seed of the split.
    bins : int
        Bins of the ECE.
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.
    prior : (float, float), optional
        Of the method "temperature", as `TemperatureScaling` takes it.
    progress : callable, optional
        Called with a message and the share done.

    Returns
    -------
    Selection

    Raises
    ------
    ValueError
        A method that does not exist; fewer rows than folds.

    References
    ----------
    Breiman et al. (1984), Classification and regression trees, section 3.4.3, for the rule of one standard error; here
    the error is that of the difference to the best method on the same rows.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 2 * rng.normal(size=(2000, 3))
    >>> labels = (z + np.array([1.0, 0.0, -1.0]) + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> select_method(1.5 * z, labels, methods=["temperature", "bias", "vector"]).chosen
    'bias'
    """
    crossed = cross_validate(
        logits,
        labels,
        methods=methods,
        baselines=baselines,
        folds=folds,
        seed=seed,
        zero_labels=zero_labels,
        prior=prior,
        progress=progress,
    )
    return select(crossed, bins)


class Crossed(NamedTuple):
    """Rows with what every method makes of them when it is fitted to the other parts."""

    logits: Array
    labels: np.ndarray
    parts: list[tuple[np.ndarray, np.ndarray]]  # rows of the fit, rows held out
    names: list[str]  # simplest first, baselines last
    made: dict[str, Array | str]  # calibrated logits, or why there are none
    rows: dict[str, Rows]  # their scores

    def eligible(self, labels: np.ndarray) -> list[str]:
        """Methods that may be chosen on rows of these labels."""
        fitted = [name for name in self.names if name in self.rows and name in METHODS]
        if not fitted:
            raise ValueError(f"logits: no method could be fitted; {self.made[self.names[0]]}")
        if _absent(labels, self.logits.shape[1]) is None:
            return fitted
        return [name for name in fitted if METHODS[name].keeps_predictions] or fitted

    def behind(self, name: str, best: str, of: Any = slice(None)) -> tuple[float, float]:
        """Mean NLL above the best one's on some rows, and the standard error of that."""
        one, other = self.rows[name].nll[of], self.rows[best].nll[of]
        with np.errstate(invalid="ignore"):
            error = float((one - other).std() / math.sqrt(len(one)))
        mean, least = float(one.mean()), float(other.mean())
        return (0.0 if mean == least else mean - least), error  # both may be infinite

    def choice(self, of: Any = slice(None)) -> tuple[str, str]:
        """The simplest method within one standard error of the best, and the best, by some of the rows."""
        eligible = self.eligible(self.labels[of])
        best = min(eligible, key=lambda name: float(self.rows[name].nll[of].mean()))
        for name in eligible:
            behind, error = self.behind(name, best, of)
            if behind <= error:
                return name, best
        return best, best

    def by_choice(self) -> np.ndarray:
        """Calibrated logits of every row, by the method chosen by the rows of the other parts.

        A choice within these parts alone would fit all methods once more for every part of every part; what it would
        not see is that the fits behind these scores knew the labels of the part left out, which no score is taken of.
        """
        found = np.empty(self.logits.shape)
        for train, held in self.parts:
            chosen = self.made[self.choice(train)[0]]
            found[held] = chosen[held]  # type: ignore[index]
        return found


def cross_validate(
    logits: Array,
    labels: Array,
    *,
    methods: Sequence[str] = CANDIDATES,
    baselines: Sequence[str] = (),
    folds: int = 5,
    seed: int = 0,
    zero_labels: str = "raise",
    prior: tuple[float, float] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Crossed:
    """Every method on rows that it was not fitted to, as `select_method` says."""
    unknown = [m for m in methods if m not in METHODS] + [b for b in baselines if b not in BASELINES]
    if unknown or not methods:
        raise ValueError(
            f"methods: must be of {', '.join((*METHODS, *BASELINES))}; got {unknown or 'none'}; leave it out"
        )
    z = as_array(logits, "logits")
    if z.ndim != 2:
        raise ValueError(f"logits: must have shape (rows, classes); got {describe(z)}; reshape them")
    n, classes = z.shape
    y = as_labels(labels, (n,), classes)
    if not 2 <= folds <= n:
        raise ValueError(f"folds: must be 2 to {n}, the number of rows; got {folds}; give fewer folds, or more rows")
    if zero_labels == "exclude":
        keep = possible(z, y)
        z, y, n = z[keep], y[keep], len(keep)
    parts = list(parts_of(n, folds, seed))
    made: dict[str, Array | str] = {AS_IT_IS: to_numpy(z)}
    names = [*sorted(methods, key=list(METHODS).index), *baselines]
    for i, name in enumerate(names):
        if progress is not None:
            progress(f"cross-validating {name}", i / len(names))
        made[name] = _cross_fitted(name, z, y, parts, zero_labels, prior)
    rows = {name: row_statistics(as_inputs(u, y)) for name, u in made.items() if not isinstance(u, str)}
    return Crossed(z, y, parts, names, made, rows)


def select(crossed: Crossed, bins: int) -> Selection:
    """Compare and choose."""
    chosen, best = crossed.choice()
    eligible, reason = crossed.eligible(crossed.labels), _absent(crossed.labels, crossed.logits.shape[1])
    candidates = []
    for name, u in crossed.made.items():
        keeps = name == AS_IT_IS or (name in METHODS and METHODS[name].keeps_predictions)
        if isinstance(u, str):
            candidates.append(Candidate(name, math.nan, math.nan, math.nan, math.nan, math.nan, keeps, u))
            continue
        rows, why = crossed.rows[name], reason if name in METHODS and name not in eligible else None
        ece = float(expected_calibration_error(u, crossed.labels, bins=bins))
        scores = float(rows.nll.mean()), float(rows.brier.mean()), ece
        candidates.append(Candidate(name, *scores, *crossed.behind(name, best), keeps, ineligible=why))
    before, after = crossed.rows[AS_IT_IS], crossed.rows[best]
    splits = split_score("nll", before.nll, after.nll), split_score("brier", before.brier, after.brier)
    return Selection(chosen, best, tuple(candidates), splits, len(crossed.parts), len(crossed.labels))


def _absent(labels: np.ndarray, classes: int) -> str | None:
    """Why methods that may change predictions are not to be chosen."""
    absent = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if not len(absent) or classes < 2:
        return None
    which = f"class {absent[0]} has" if len(absent) == 1 else f"{len(absent)} of {classes} classes have"
    return f"{which} no rows, which this method would learn to rule out"


def calibrator_of(method: str, zero_labels: str, prior: tuple[float, float] | None = None) -> Calibrator:
    """An unfitted calibrator of this method; the prior is that of one temperature."""
    if method == "temperature":
        return TemperatureScaling(zero_labels=zero_labels, prior=prior)
    return METHODS[method](zero_labels=zero_labels)  # type: ignore[call-arg]


def parts_of(n: int, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit to and rows held out, for every part of a random split."""
    part = np.random.default_rng(seed).permutation(n) % folds
    for fold in range(folds):
        yield np.flatnonzero(part != fold), np.flatnonzero(part == fold)


def _cross_fitted(
    name: str,
    z: Array,
    y: np.ndarray,
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    zero_labels: str,
    prior: tuple[float, float] | None,
) -> Array | str:
    """Calibrated logits of every row; or what went wrong, if this method cannot be fitted to these rows."""
    calibrated = np.empty(tuple(z.shape), dtype=np.float64)
    try:
        for train, held in parts:
            if name in METHODS:
                fitted = calibrator_of(name, zero_labels, prior).fit(z[train], y[train])
                calibrated[held] = to_numpy(fitted.transform(z[held]))
            else:
                calibrated[held] = _baseline(name, to_numpy(z[train]), y[train], to_numpy(z[held]))
    except ValueError as error:
        return str(error)
    return calibrated


class _Softmax(ClassifierMixin, BaseEstimator):
    """A fitted classifier to scikit-learn: its inputs are logits, its answer their softmax, of some of the classes."""

    def __init__(self, seen: Sequence[int] = (0, 1)) -> None:
        self.seen = seen
        self.classes_ = np.arange(len(seen))

    def fit(self, z: np.ndarray, y: np.ndarray) -> _Softmax:
        return self

    def predict(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(z[:, self.seen].argmax(axis=1))

    def predict_proba(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(softmax(z.astype(np.float64)))[:, self.seen]


def _baseline(name: str, z: np.ndarray, y: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Log-probabilities by scikit-learn; -inf where it says 0, and for classes that it has not seen."""
    seen, index = np.unique(y, return_inverse=True)  # scikit-learn fails where a class of the model has no rows
    model = CalibratedClassifierCV(FrozenEstimator(_Softmax(seen.tolist())), method=name).fit(z, index)
    found = np.full(held.shape, -np.inf)
    with np.errstate(divide="ignore"):
        found[:, seen] = np.log(model.predict_proba(held))
    return found
