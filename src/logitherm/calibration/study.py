"""The main job: how far a classifier is from honest, what a temperature does about it, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from logitherm._array import Array, as_array, describe, to_numpy
from logitherm._json import plain as plain_json
from logitherm._labels import as_labels
from logitherm._words import counted as in_words
from logitherm.calibration.association import Association, association
from logitherm.calibration.base import Calibrator
from logitherm.calibration.goodness import GoodnessOfFit, goodness_of_fit
from logitherm.calibration.group import GroupTemperatureScaling
from logitherm.calibration.provenance import provenance
from logitherm.calibration.rows import as_groups, possible
from logitherm.calibration.selection import (
    BASELINES,
    CANDIDATES,
    METHODS,
    QUICK,
    WORDS,
    Crossed,
    Selection,
    calibrator_of,
    cross_validate,
    parts_of,
    select,
)
from logitherm.calibration.temperature_scaling import TemperatureScaling, as_prior
from logitherm.calibration.trusted import trusted_p_value
from logitherm.calibration.verdict import FEW, absent_classes, is_wrong_tool, state_of, verdict
from logitherm.metrics import Evaluation, evaluate, reliability, reliability_grid
from logitherm.metrics.comparison import Comparison, compare
from logitherm.metrics.selective import RankingChange, compare_ranking
from logitherm.thermometer import TemperatureFit, fit_temperature
from logitherm.thermometer.sources import make_source

GRID = 41  # temperatures of the slider
CURVE = 61  # temperatures of the likelihood curve
FEW_VALUES = 1 << 20  # values up to which other methods are compared without being asked for
AUTO, GROUP = "auto", "group"

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class CalibrationStudy:
    """Everything a report shows; numbers only.

    Attributes
    ----------
    name, method, scored_on : str
        What was studied, how, and on which rows the scores were taken.
    fit : TemperatureFit
        The single temperature fitted to all rows of the first set, whatever the method; with a prior the one under it.
    alone : TemperatureFit
        The same by likelihood alone.
    prior : (float, float) or None
        Centre, and deviation of log T, that the temperature was drawn to.
    before, after : Evaluation
        Scores of the logits as they are and calibrated, with bootstrap intervals, on rows that were not fitted.
    confidence : float
        Mean confidence before, of the rows that are scored.
    association : Association
        Whether labels and logits of the first set belong together.
    changes : Comparison
        After minus before on the same rows, with intervals of the differences.
    selective : RankingChange
        Risk-coverage curves of the rows that are scored, before and after, and how far the rows are in another order.
    nll_curve : dict
        Mean NLL of the fitted rows against temperature.
    reliability : dict
        Diagrams before and after, and over a grid of temperatures.
    calibrator : Calibrator
        Of the method, fitted to all rows of the first set; its `provenance_` goes into its file.
    goodness : GoodnessOfFit or None
        Whether one temperature is enough; None where that was not asked.
    selection : Selection or None
        Methods compared by cross-validation on the first set; None where that was not asked.
    verdict : list of str
        The finding in words.
    """

    name: str
    method: str
    scored_on: str
    n_scored: int
    fit: TemperatureFit
    alone: TemperatureFit
    prior: tuple[float, float] | None
    before: Evaluation
    after: Evaluation
    confidence: float
    association: Association
    changes: Comparison
    selective: RankingChange
    nll_curve: dict[str, list[float]]
    reliability: dict[str, Any]
    calibrator: Calibrator = field(repr=False)
    goodness: GoodnessOfFit | None
    selection: Selection | None
    verdict: list[str]

    def summary(self) -> dict[str, Any]:
        """The numbers of the command line's JSON."""
        found = self.fit.to_dict()
        plain: dict[str, Any] = {"method": self.method, "name": self.name, "scored_on": self.scored_on}
        plain |= {k: v for k, v in found.items() if k not in ("nll_before", "nll_after")}
        plain["n_scored"] = self.n_scored
        plain["association"] = self.association.to_dict()
        plain["prior"] = self._prior()
        plain["groups"] = self._groups()
        for side in ("before", "after"):
            scores = getattr(self, side).to_dict()
            named = {k: v for k, v in scores.items() if isinstance(v, dict)}
            plain[side] = {k: v["value"] for k, v in named.items()}
            plain[f"{side}_intervals"] = {k: [v["low"], v["high"]] for k, v in named.items()}
        plain["changes"] = self.changes.to_dict()
        return plain | self._enough() | {"verdict": self.verdict}

    def _prior(self) -> dict[str, Any] | None:
        if self.prior is None:
            return None
        alone = self.alone.to_dict()
        values = {"centre": self.prior[0], "deviation": self.prior[1]}
        return values | {"without": {name: alone[name] for name in ("temperature", "interval", "at_bound")}}

    def _groups(self) -> list[dict[str, Any]] | None:
        if not isinstance(self.calibrator, GroupTemperatureScaling):
            return None
        fitted = self.calibrator
        found = zip(fitted.groups_.tolist(), fitted.temperatures_.tolist(), fitted.intervals_.tolist())
        return [{"group": group, "temperature": t, "interval": ends} for group, t, ends in found]

    def _common(self) -> dict[str, Any] | None:
        """What the groups have in common."""
        if not isinstance(self.calibrator, GroupTemperatureScaling):
            return None
        fitted = self.calibrator
        return {"temperature": fitted.temperature_, "deviation": fitted.deviation_, "p_value": fitted.p_value_}

    def _state(self) -> dict[str, Any]:
        """What the model is, with the interval and p-value of T = 1 that are to be trusted."""
        p_value, _ = trusted_p_value(self.fit)
        return state_of(self.fit, self.before, self.confidence)._asdict() | {"p_value": p_value}

    def _enough(self) -> dict[str, Any]:
        return {
            "goodness": None if self.goodness is None else self.goodness.to_dict(),
            "selection": None if self.selection is None else self.selection.to_dict(),
        }

    def to_dict(self) -> dict[str, Any]:
        """All numbers, ready for JSON."""
        return {
            "name": self.name,
            "method": self.method,
            "scored_on": self.scored_on,
            "classes": self.fit.classes,
            "n_fit": self.fit.n,
            "n_scored": self.n_scored,
            "verdict": self.verdict,
            "fit": self.fit.to_dict(),
            "prior": self._prior(),
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "changes": self.changes.to_dict(),
            "association": self.association.to_dict(),
            "state": plain_json(self._state()),
            "groups": plain_json(self._groups()),
            "common": plain_json(self._common()),
            "selective": self.selective.to_dict(),
            "words": WORDS[self.method],
            "wrong_tool": is_wrong_tool(self.changes),
            "nll_curve": self.nll_curve,
            "reliability": self.reliability,
        } | self._enough()


def calibrate(
    logits: Array,
    labels: Array,
    test_logits: Array | None = None,
    test_labels: Array | None = None,
    *,
    method: str = "temperature",
    bins: int = 15,
    folds: int = 5,
    seed: int = 0,
    bootstrap: int = 1000,
    zero_labels: str = "raise",
    prior: tuple[float, float] | None = None,
    compare_methods: bool | None = None,
    groups: Any = None,
    test_groups: Any = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> CalibrationStudy:
    """Fit a temperature, or another calibrator, and measure on rows that were not fitted what it does.

    Without test rows the scores are cross-fitted: the rows are split in `folds` parts, and every part is scored by the
    calibrator fitted to the others (with "auto", chosen by their scores too). The calibrator that comes back
    is fitted to all rows of the first set.

    Parameters
    ----------
    logits : floating array, shape (n, classes)
        Held-out logits.
    labels : integer array, shape (n,)
    test_logits, test_labels : arrays, optional
        Rows to score on.
    method : str
        A key of `METHODS`: "temperature", "entropy", "ensemble", "parametric", "bias", "vector", "matrix", "dirichlet";
        "auto" for the simplest whose cross-validated NLL is within one standard error of the best; or "group", a
        temperature for each of `groups`.
    bins : int
        Bins of the calibration errors.
    folds : int
        Parts of the cross-fitting, at least 2.
    seed : int
        Of the split and of the bootstrap.
    bootstrap : int
        Replicates of the intervals.
    zero_labels : "raise" or "exclude"
        What to do with labels of probability zero; excluded rows are not scored either.
    prior : (float, float), optional
        With the method "temperature": centre, and standard deviation of log T, of a log-normal prior of T,
        as in `TemperatureScaling`; for few rows, where some of them alone would ask for T = 0.
    compare_methods : bool, optional
        Whether to test if one temperature is enough, and to compare methods by cross-validation on the first set (those
        without a matrix unless "auto"); by default with "auto", and for up to a million logits.
    groups : array, shape (n,), optional
        Integers or strings, a group for every row of the first set, whose temperatures are then compared too.
    test_groups : array, shape (test rows,), optional
        With the method "group": the groups of the test rows.
    name : str, optional
        What is studied, for the report.
    progress : callable, optional
        Called with a message and the share done.

    Returns
    -------
    CalibrationStudy

    Raises
    ------
    TypeError, ValueError
        As `logitherm.fit_temperature` and `logitherm.evaluate`.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(1000, 5))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> study = calibrate(2.0 * z, labels, bootstrap=100)
    >>> study.after.nll.value < study.before.nll.value
    True
    """
    known = (AUTO, *METHODS, GROUP)
    if method not in known:
        raise ValueError(f"method: must be one of {', '.join(known)}; got {method!r}; 'temperature' is usual")
    if (test_logits is None) != (test_labels is None):
        raise ValueError("test_labels: must be given exactly if test_logits are; got one of them; give both or neither")
    if method == GROUP and groups is None:
        raise ValueError("groups: must be given for the method 'group'; got None; give one a row")
    if (test_groups is not None) != (method == GROUP and test_logits is not None):
        raise ValueError(
            "test_groups: must be given exactly if test_logits are and the method is 'group'; give one a test row, or "
            "drop them"
        )
    if prior is not None:
        if method != "temperature":
            raise ValueError(
                f"prior: must be None unless method is 'temperature'; got {prior} with {method!r}; drop one"
            )
        prior = as_prior(prior)
    say = progress or (lambda message, share: None)
    logits = as_array(logits, "logits")
    if logits.ndim != 2:
        raise ValueError(f"logits: must have shape (rows, classes); got {describe(logits)}; reshape them")
    groups = None if groups is None else as_groups(groups, logits.shape[0])
    say("fitting the temperature", 0.0)
    found = fit_temperature(logits, labels, zero_labels=zero_labels)
    if test_logits is not None:
        test_logits = _as_test(test_logits, logits, found.classes)
    goodness = selection = crossed = None
    if _may_compare(found, folds) and (
        method == AUTO or groups is not None or (compare_methods is None and _is_quick(found)) or compare_methods
    ):
        goodness = goodness_of_fit(logits, labels, groups=groups, zero_labels=zero_labels)
        split: dict[str, Any] = {"folds": folds, "seed": seed, "zero_labels": zero_labels, "prior": prior}
        split |= {"methods": CANDIDATES, "baselines": BASELINES} if method == AUTO else {"methods": QUICK}
        crossed = cross_validate(logits, labels, progress=lambda message, share: say(message, 0.5 * share), **split)
        selection = select(crossed, bins)
    chosen = method if method != AUTO else "temperature" if selection is None else selection.chosen
    say(f"fitting {chosen}", 0.5)
    calibrator: Calibrator = TemperatureScaling(zero_labels=zero_labels)._adopt(found)
    if chosen != "temperature" or prior is not None:
        calibrator = _fitted(chosen, logits, labels, groups, zero_labels, prior)
    alone = found
    if prior is not None:
        found = _under_prior(alone, calibrator, logits, labels)

    if test_logits is None:
        if method == AUTO and crossed is not None:
            scored = _by_choice(crossed)
        else:
            scored = _cross_fitted(chosen, logits, labels, folds, seed, zero_labels, prior, groups)
        scored_on = f"{folds}-fold cross-fitting on the same {{}}"
    else:
        scored = _applied(calibrator, test_logits, test_labels, test_groups)
        scored_on = "{}"
    if zero_labels == "exclude":
        scored = scored.possible()

    options: dict[str, Any] = {"bins": bins, "bootstrap": bootstrap, "seed": seed}
    say("scoring the logits as they are", 0.6)
    before = evaluate(scored.logits, scored.labels, 1.0, **options)
    say("scoring them calibrated", 0.7)
    after = evaluate(scored.calibrated, scored.labels, scored.temperature, **options)
    changes = compare(scored.logits, scored.calibrated, scored.labels, temperature_after=scored.temperature, **options)
    selective = _ranking(scored, chosen, found, bootstrap, seed)
    say("drawing the diagrams", 0.85)
    diagrams = {
        "before": reliability(scored.logits, scored.labels, 1.0, **options).to_dict(),
        "after": reliability(scored.calibrated, scored.labels, scored.temperature, **options).to_dict(),
        "grid": _grid(scored.logits, scored.labels, found, bins),
    }
    curve = _nll_curve(logits, labels, found)
    y = as_labels(labels, (logits.shape[0],), alone.classes)
    belong = association(logits, y, alone.temperature)
    counted = np.asarray(diagrams["before"]["count"], dtype=np.float64)
    said = np.array([0.0 if c is None else c for c in diagrams["before"]["confidence"]])
    confidence = float(counted @ said / counted.sum())
    rows = in_words(before.n, "row" if test_logits is None else "test row")
    name, scored_on = name or "logits", scored_on.format(rows)
    calibrator.provenance_ = provenance(
        logits, labels, name=name, method=chosen, scored_on=scored_on, before=before, after=after
    )
    words = verdict(
        found,
        before,
        after,
        changes,
        bins,
        method=chosen,
        selection=selection,
        goodness=goodness,
        confidence=confidence,
        alone=alone,
        prior=prior,
        labels=belong,
    )
    if found.n >= FEW:
        words += absent_classes(y, found.classes)
    say("done", 1.0)
    return CalibrationStudy(
        name=name,
        method=chosen,
        scored_on=scored_on,
        n_scored=before.n,
        fit=found,
        alone=alone,
        prior=prior,
        before=before,
        after=after,
        confidence=confidence,
        association=belong,
        changes=changes,
        selective=selective,
        nll_curve=curve,
        reliability=diagrams,
        calibrator=calibrator,
        goodness=goodness,
        selection=selection,
        verdict=words,
    )


def _under_prior(alone: TemperatureFit, calibrator: Any, logits: Array, labels: Array) -> TemperatureFit:
    """The fit with the T, error and interval under the prior; the tests of the likelihood do not apply to it."""
    total = make_source(logits, labels).totals(np.array([1 / calibrator.temperature_]))
    return replace(
        alone,
        temperature=calibrator.temperature_,
        standard_error=calibrator.standard_error_,
        interval=calibrator.interval_,
        nll_after=float(total.nll[0]) / total.weight,
        sandwich_error=None,
        sandwich_interval=None,
        likelihood_ratio=None,
        p_value=None,
        at_bound=None,
    )


def _may_compare(fit: TemperatureFit, folds: int) -> bool:
    return fit.classes > 1 and fit.n >= max(FEW, folds)


def _is_quick(fit: TemperatureFit) -> bool:
    return fit.n * fit.classes <= FEW_VALUES


def _as_test(test_logits: Array, logits: Array, classes: int) -> Array:
    """Test rows of the same model, which are not those of the fit."""
    test = as_array(test_logits, "test_logits")
    if test.ndim != 2 or test.shape[1] != classes:
        raise ValueError(
            f"test_logits: must have shape (rows, {classes}) like logits; got {describe(test)}; give logits of the "
            "same model"
        )
    if tuple(test.shape) == tuple(logits.shape) and np.array_equal(to_numpy(test), to_numpy(logits)):
        raise ValueError(
            "test_logits: must be other rows than those of the fit; got the same; leave them out to cross-fit"
        )
    return test


class Scored(NamedTuple):
    """Rows to score: as they are, and through a calibrator that was not fitted to them."""

    logits: Array
    labels: Array
    calibrated: Array
    temperature: np.ndarray  # (n,), of `calibrated`: exact at the limits, unlike logits divided by it

    def possible(self) -> Scored:
        """Those whose label is an allowed state."""
        flat = as_labels(self.labels, (self.logits.shape[0],), self.logits.shape[1])
        keep = possible(self.logits, flat)
        return Scored(self.logits[keep], flat[keep], self.calibrated[keep], self.temperature[keep])


def _fitted(
    method: str, logits: Array, labels: Array, groups: Any, zero_labels: str, prior: tuple[float, float] | None
) -> Calibrator:
    if method == GROUP:
        return GroupTemperatureScaling(zero_labels=zero_labels).fit(logits, labels, groups=groups)
    return calibrator_of(method, zero_labels, prior).fit(logits, labels)


def _transformed(calibrator: Calibrator, logits: Array, groups: Any) -> Array:
    if isinstance(calibrator, GroupTemperatureScaling):
        return calibrator.transform(logits, groups)
    return calibrator.transform(logits)


def _applied(calibrator: Calibrator, logits: Array, labels: Array, groups: Any = None) -> Scored:
    if isinstance(calibrator, TemperatureScaling):
        return Scored(logits, labels, logits, np.full(logits.shape[0], calibrator.temperature_))
    return Scored(logits, labels, _transformed(calibrator, logits, groups), np.ones(logits.shape[0]))


def _by_choice(crossed: Crossed) -> Scored:
    """Every row through the calibrator chosen by, and fitted to, the rows of the other parts."""
    return Scored(crossed.logits, crossed.labels, crossed.by_choice(), np.ones(len(crossed.labels)))


def _cross_fitted(
    method: str,
    logits: Array,
    labels: Array,
    folds: int,
    seed: int,
    zero_labels: str,
    prior: tuple[float, float] | None = None,
    groups: Any = None,
) -> Scored:
    """Every row through the calibrator fitted to the rows of the other parts."""
    n, classes = logits.shape
    if folds < 2:
        raise ValueError(f"folds: must be at least 2; got {folds}; give 5, say")
    if n < 2:
        raise ValueError(f"logits: must have at least 2 rows to cross-fit; got {n}; give test rows")
    y = as_labels(labels, (n,), classes)
    calibrated, temperature = logits, np.ones(n)
    if method != "temperature":
        calibrated = np.empty((n, classes))
    for train, held in parts_of(n, min(folds, n), seed):
        parts_groups = [None if groups is None else groups[part] for part in (train, held)]
        fitted = _fitted(method, logits[train], y[train], parts_groups[0], zero_labels, prior)
        if isinstance(fitted, TemperatureScaling) and method == "temperature":
            temperature[held] = fitted.temperature_
        else:
            calibrated[held] = to_numpy(_transformed(fitted, logits[held], parts_groups[1]))
    return Scored(logits, y, calibrated, temperature)


def _ranking(scored: Scored, method: str, fit: TemperatureFit, bootstrap: int, seed: int) -> RankingChange:
    """How the rows are ordered by confidence. A single temperature is that of all rows even where the scores are
    cross-fitted: those of the folds differ a little, which would order the rows of one against those of another."""
    temperature = fit.temperature if method == "temperature" else scored.temperature
    return compare_ranking(
        scored.logits,
        scored.calibrated,
        scored.labels,
        temperature_after=temperature,
        bootstrap=bootstrap,
        seed=seed,
    )


def _temperatures(fit: TemperatureFit, count: int) -> np.ndarray:
    """Temperatures evenly spaced in log T around 1, the fitted one and its interval, with 1 and the fitted one among
    them; wide enough at a bound to show which way the likelihood rises."""
    known = [t for t in (fit.temperature, *(fit.interval or ())) if 0 < t < np.inf]
    wide = 2.5 if known else 20.0
    spaced = np.geomspace(min([1.0, *known]) / wide, max([1.0, *known]) * wide, count - 1 - len(known[:1]))
    return np.unique(np.concatenate([spaced, [1.0], known[:1]]))


def _grid(logits: Array, labels: Array, fit: TemperatureFit, bins: int) -> dict[str, Any]:
    """Reliability at every temperature of a slider."""
    grid = reliability_grid(logits, labels, _temperatures(fit, GRID), bins=bins).to_dict()
    names = ("count", "confidence", "accuracy")
    count = len(grid["temperatures"])
    diagrams = [{"edges": grid["edges"]} | {k: grid[k][i] for k in names} for i in range(count)]
    scores = {k: grid[k] for k in ("nll", "ece", "brier")}
    return {"temperature": grid["temperatures"], "diagrams": diagrams} | scores


def _nll_curve(logits: Array, labels: Array, fit: TemperatureFit) -> dict[str, list[float]]:
    """Mean NLL of the fitted rows over temperature, from one pass."""
    source = make_source(logits, labels)
    temperatures = _temperatures(fit, CURVE)
    total = source.totals(1 / temperatures)
    return {"temperature": temperatures.tolist(), "nll": (total.nll / total.weight).tolist()}
