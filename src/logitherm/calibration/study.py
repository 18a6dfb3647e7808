"""The main job: how far a classifier is from honest, what one temperature does about it, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from logitherm._array import Array, as_array, describe, to_numpy
from logitherm._labels import as_labels
from logitherm.calibration.temperature_scaling import TemperatureScaling
from logitherm.calibration.verdict import is_wrong_tool, verdict
from logitherm.kernels.likelihood import Observed
from logitherm.metrics import Evaluation, evaluate, reliability, reliability_grid
from logitherm.metrics.comparison import Comparison, compare
from logitherm.thermometer import TemperatureFit, fit_temperature
from logitherm.thermometer.sources import make_source

GRID = 41  # temperatures of the slider
CURVE = 61  # temperatures of the likelihood curve

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class CalibrationStudy:
    """Everything a report shows; numbers only.

    Attributes
    ----------
    name, method, scored_on : str
        What was studied, how, and on which rows the scores were taken.
    fit : TemperatureFit
        The temperature fitted to all rows of the first set.
    before, after : Evaluation
        Scores at T = 1 and at the fitted temperature, with bootstrap intervals, on rows that were not fitted.
    changes : Comparison
        After minus before on the same rows, with intervals of the differences.
    nll_curve : dict
        Mean NLL of the fitted rows against temperature.
    reliability : dict
        Diagrams before and after, and over a grid of temperatures.
    calibrator : TemperatureScaling
    verdict : list of str
        The finding in words.
    """

    name: str
    method: str
    scored_on: str
    n_scored: int
    fit: TemperatureFit
    before: Evaluation
    after: Evaluation
    changes: Comparison
    nll_curve: dict[str, list[float]]
    reliability: dict[str, Any]
    calibrator: TemperatureScaling = field(repr=False)
    verdict: list[str]

    def summary(self) -> dict[str, Any]:
        """The numbers of the command line's JSON."""
        found = self.fit.to_dict()
        plain: dict[str, Any] = {"method": self.method, "name": self.name, "scored_on": self.scored_on}
        plain |= {k: v for k, v in found.items() if k not in ("nll_before", "nll_after")}
        plain["n_scored"] = self.n_scored
        for side in ("before", "after"):
            scores = getattr(self, side).to_dict()
            named = {k: v for k, v in scores.items() if isinstance(v, dict)}
            plain[side] = {k: v["value"] for k, v in named.items()}
            plain[f"{side}_intervals"] = {k: [v["low"], v["high"]] for k, v in named.items()}
        plain["changes"] = self.changes.to_dict()
        return plain | {"verdict": self.verdict}

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
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "changes": self.changes.to_dict(),
            "wrong_tool": is_wrong_tool(self.changes),
            "nll_curve": self.nll_curve,
            "reliability": self.reliability,
        }


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
    name: str | None = None,
    progress: Progress | None = None,
) -> CalibrationStudy:
    """Fit a temperature and measure, on rows that were not fitted, what it does.

    Without test rows the scores are cross-fitted: the rows are split in `folds` parts, and every part is scored at the
    temperature fitted to the others. The calibrator that comes back is fitted to all rows of the first set.

    Parameters
    ----------
    logits : floating array, shape (n, classes)
        Held-out logits.
    labels : integer array, shape (n,)
    test_logits, test_labels : arrays, optional
        Rows to score on.
    method : "temperature"
        The only method so far.
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
    if method != "temperature":
        raise ValueError(f"method: must be 'temperature'; got {method!r}; leave it out")
    if (test_logits is None) != (test_labels is None):
        raise ValueError("test_labels: must be given exactly if test_logits are; got one of them; give both or neither")
    say = progress or (lambda message, share: None)
    logits = as_array(logits, "logits")
    if logits.ndim != 2:
        raise ValueError(f"logits: must have shape (rows, classes); got {describe(logits)}; reshape them")
    say("fitting the temperature", 0.0)
    found = fit_temperature(logits, labels, zero_labels=zero_labels)
    calibrator = TemperatureScaling(zero_labels=zero_labels)._adopt(found)

    if test_logits is None:
        temperatures = _cross_fitted(logits, labels, folds, seed, zero_labels)
        scored, scored_labels, scored_on = logits, labels, f"{folds}-fold cross-fitting on the same {{}} rows"
    else:
        scored, scored_labels = as_array(test_logits, "test_logits"), test_labels
        if scored.ndim != 2 or scored.shape[1] != found.classes:
            raise ValueError(
                f"test_logits: must have shape (rows, {found.classes}) like logits; got {describe(scored)}; give "
                "logits of the same model"
            )
        if tuple(scored.shape) == tuple(logits.shape) and np.array_equal(to_numpy(scored), to_numpy(logits)):
            raise ValueError(
                "test_logits: must be other rows than those of the fit; got the same; leave them out to cross-fit"
            )
        temperatures = np.full(scored.shape[0], found.temperature)
        scored_on = "{} test rows"
    if zero_labels == "exclude":
        scored, scored_labels, temperatures = _possible(scored, scored_labels, temperatures)

    options: dict[str, Any] = {"bins": bins, "bootstrap": bootstrap, "seed": seed}
    say("scoring at T = 1", 0.15)
    before = evaluate(scored, scored_labels, 1.0, **options)
    say("scoring at the fitted temperature", 0.45)
    after = evaluate(scored, scored_labels, temperatures, **options)
    changes = compare(scored, scored, scored_labels, temperature_after=temperatures, **options)
    say("drawing the diagrams", 0.75)
    diagrams = {
        "before": reliability(scored, scored_labels, 1.0, **options).to_dict(),
        "after": reliability(scored, scored_labels, temperatures, **options).to_dict(),
        "grid": _grid(scored, scored_labels, found, bins),
    }
    curve = _nll_curve(logits, labels, found)
    say("done", 1.0)
    return CalibrationStudy(
        name=name or "logits",
        method=method,
        scored_on=scored_on.format(before.n),
        n_scored=before.n,
        fit=found,
        before=before,
        after=after,
        changes=changes,
        nll_curve=curve,
        reliability=diagrams,
        calibrator=calibrator,
        verdict=verdict(found, before, after, changes, bins),
    )


def _cross_fitted(logits: Array, labels: Array, folds: int, seed: int, zero_labels: str) -> np.ndarray:
    """Temperature of every row, fitted to the rows of the other parts."""
    n = logits.shape[0]
    if folds < 2:
        raise ValueError(f"folds: must be at least 2; got {folds}; give 5, say")
    if n < 2:
        raise ValueError(f"logits: must have at least 2 rows to cross-fit; got {n}; give test rows")
    folds = min(folds, n)
    part = np.random.default_rng(seed).permutation(n) % folds
    temperatures = np.empty(n)
    for fold in range(folds):
        fit = fit_temperature(logits, labels, mask=part != fold, zero_labels=zero_labels)
        temperatures[part == fold] = fit.temperature
    return temperatures


def _possible(logits: Array, labels: Array, temperatures: np.ndarray) -> tuple[Array, np.ndarray, np.ndarray]:
    """Rows whose label is an allowed state."""
    flat = as_labels(labels, (logits.shape[0],), logits.shape[1])
    keep = np.flatnonzero(Observed(labels=flat).logits(to_numpy(logits)) > -np.inf)
    return logits[keep], flat[keep], temperatures[keep]


def _temperatures(fit: TemperatureFit, count: int) -> np.ndarray:
    """Temperatures evenly spaced in log T around 1, the fitted one and its interval, with 1 and the fitted one among
    them; wide enough at a bound to show which way the likelihood rises."""
    known = [t for t in (fit.temperature, *(fit.interval or ())) if 0 < t < np.inf]
    wide = 2.5 if known else 20.0
    spaced = np.geomspace(min(1.0, *known, 1.0) / wide, max(1.0, *known, 1.0) * wide, count - 1 - len(known[:1]))
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
