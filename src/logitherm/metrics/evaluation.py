"""All scores of a classifier at once, each with a bootstrap interval."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from logitherm._array import Array
from logitherm.metrics.binning import bin_edges, bin_index, bin_sums, expected_error, largest_error
from logitherm.metrics.bootstrap import draw_counts, interval, resampled_sums
from logitherm.metrics.classwise import classwise_errors
from logitherm.metrics.options import as_count, as_level
from logitherm.metrics.rows import Inputs, Rows, as_inputs, row_statistics, weighted_mean
from logitherm.metrics.score import Score

CLASSWISE_WORK = 10**10  # multiplications: about half a second
CLASSWISE_DRAW = 200  # what drawing a weight costs, in multiplications
CLASSWISE_LEAST = 100  # replicates
CLASSWISE_HELD = 1 << 22  # sums held at a time: 32 MB


@dataclass(frozen=True)
class Evaluation:
    """The scores of `evaluate`."""

    n: int
    classes: int
    accuracy: Score
    nll: Score
    brier: Score
    ece: Score
    ece_equal_mass: Score
    classwise_ece: Score
    mce: Score

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.to_dict() if isinstance(value, Score) else value for name, value in values.items()}


def evaluate(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    bins: int = 15,
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
    weights: Array | None = None,
) -> Evaluation:
    """Accuracy, NLL, Brier score and calibration errors of softmax(logits / temperature), each with an interval.

    The values are those of the functions of the same names. The intervals come from the Poisson bootstrap over rows,
    which must be independent of each other. Accuracy, NLL and Brier score have the percentile interval; without a
    single error (or hit) that of the accuracy has no width. The calibration errors (ece, ece_equal_mass,
    classwise_ece, mce) have the percentile interval moved to have the value as its mean, within [0, 1], because a
    replicate adds its own noise to absolute gaps and lies too high. It covers the expectation of the estimate *for
    this number of rows and these bins*, which exceeds the calibration error of endless data: even of a perfectly
    calibrated model it does not hold 0. Bins stay as they are in the sample. In a simulation (10 classes, 300 and
    2000 rows, overconfident by T = 1 to 2.5) intervals of 95 % held the expected ECE in 94 to 98 % of the samples
    moved, in 81 to 97 % not moved, and in 61 to 97 % mirrored at the value (the "basic" interval).

    Parameters
    ----------
    logits : array, shape (..., classes)
        Floating scores, NumPy or torch; -inf forbids a class.
    labels : array of integers, shape (...)
        Each in [0, classes).
    temperature : float, array of the batch shape, or Temperature
        In the units of the logits, 0 <= T <= inf.
    bins : int
        Bins of the calibration errors, at least 1.
    bootstrap : int
        Replicates; 0 leaves the intervals NaN. The class-wise error takes fewer, though not below 100, where
        replicates * rows * (classes + 200) exceeds 1e10.
    confidence : float
        Coverage aimed at, between 0 and 1.
    seed : int or numpy.random.Generator
        Of the bootstrap; nothing touches the global state.
    weights : array, shape (...), optional
        Nonnegative weight of each row; 1 unless given. They scale what a row adds and are not frequencies to the
        bootstrap, which resamples the rows that are there.

    Returns
    -------
    Evaluation
        Attributes n, classes and a `Score` for each name; `to_dict()` for JSON.

    Raises
    ------
    TypeError, ValueError
        As for `accuracy`; `bins` below 1, `bootstrap` below 0, `confidence` outside (0, 1).

    References
    ----------
    Efron & Tibshirani (1993), An introduction to the bootstrap, ch. 13; Hanley & MacGibbon (2006), Creating
    non-parametric bootstrap samples using Poisson frequencies. Scores: see their functions.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> logits = rng.normal(size=(500, 3))
    >>> scores = evaluate(3 * logits, (logits + rng.gumbel(size=(500, 3))).argmax(axis=1))
    >>> scores.n, scores.classes, scores.ece.low < scores.ece.value < scores.ece.high
    (500, 3, True)
    >>> sorted(scores.to_dict()["nll"])
    ['high', 'low', 'value']
    """
    bins, replicates = as_count(bins, "bins", 1), as_count(bootstrap, "bootstrap", 0)
    level, rng = as_level(confidence), np.random.default_rng(seed)
    inputs = as_inputs(logits, labels, temperature, weights)
    n, classes = inputs.logits.shape
    rows = row_statistics(inputs)
    scores = _top_label_scores(rows, inputs.weights, bins, replicates, level, rng)
    classwise = float(classwise_errors(inputs, bins, 1, lambda part: inputs.weights[part, None])[0])
    resampled = _classwise_replicates(inputs, bins, replicates, rng)
    scores["classwise_ece"] = Score(classwise, *interval(classwise, resampled, level, recentre=True))
    return Evaluation(int(n), int(classes), **scores)


def _top_label_scores(
    rows: Rows, weights: np.ndarray, bins: int, replicates: int, level: float, rng: np.random.Generator
) -> dict[str, Score]:
    """Every score that needs no more of a row than its statistics.

    Both kinds of bins are intervals of confidence. In its order they are runs of rows, and one pass of resampled sums
    over the runs that both share gives all scores.
    """
    gap = rows.confidence - rows.correct
    edges = [bin_edges(rows.confidence, weights, bins, kind) for kind in ("equal_width", "equal_mass")]
    wide, even = (bin_index(rows.confidence, e) for e in edges)
    # apart and in the order given, so that its interval is the same at every temperature
    hits = weights[:, None] * np.stack([np.ones(len(weights)), rows.correct], axis=1)
    drawn, right = resampled_sums(hits, np.zeros(1, dtype=np.intp), replicates, rng)[0]
    accuracy = right[drawn > 0] / drawn[drawn > 0]

    order = np.argsort(rows.confidence, kind="stable")
    starts = np.flatnonzero(np.append(True, (np.diff(wide[order]) > 0) | (np.diff(even[order]) > 0)))
    first = order[starts]  # a row of each run

    impossible = np.isinf(rows.nll)  # a replicate that draws one has an infinite NLL
    columns = [1 - rows.correct, rows.correct, np.where(impossible, 0.0, rows.nll), rows.brier, gap]
    sums = resampled_sums((weights * columns).T[order], starts, replicates, rng)
    run_mass = sums[:, 0] + sums[:, 1]
    said = run_mass.sum(axis=0) > 0  # a replicate without rows says nothing
    sums, run_mass = sums[:, :, said], run_mass[:, said]
    mass, (_, _, nll, brier, _) = run_mass.sum(axis=0), sums.sum(axis=0)
    met = rng.poisson(np.count_nonzero(impossible & (weights > 0)), len(mass)) > 0

    def plain(values: np.ndarray, replicated: np.ndarray) -> Score:
        value = weighted_mean(values, weights)
        return Score(value, *interval(value, replicated, level))

    def binned(error: Any, index: np.ndarray, count: int) -> Score:
        value = float(error(*bin_sums(index, count, weights, weights * gap)))
        members = (np.arange(count)[:, None] == index[first]).astype(np.float64)  # runs of each bin
        replicated = error((members @ run_mass).T, (members @ sums[:, 4]).T)
        return Score(value, *interval(value, replicated, level, recentre=True))

    return {
        "accuracy": plain(rows.correct, accuracy),
        "nll": plain(rows.nll, np.where(met, math.inf, nll / mass)),
        "brier": plain(rows.brier, brier / mass),
        "ece": binned(expected_error, wide, len(edges[0]) - 1),
        "ece_equal_mass": binned(expected_error, even, len(edges[1]) - 1),
        "mce": binned(largest_error, wide, len(edges[0]) - 1),
    }


def _classwise_replicates(inputs: Inputs, bins: int, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Class-wise errors of resampled rows, as many at a time as memory allows."""
    n, classes = inputs.logits.shape
    replicates = min(replicates, max(CLASSWISE_LEAST, CLASSWISE_WORK // (n * (classes + CLASSWISE_DRAW))))
    sums = classes + min(classes * (bins - 1), 2 * n)  # of a replicate, about: few rows have more above the lowest bin
    step = max(1, CLASSWISE_HELD // sums)
    errors = [np.empty(0)]
    for first in range(0, replicates, step):
        sets = min(step, replicates - first)

        def resampled(rows: slice, sets: int = sets) -> np.ndarray:
            counts = draw_counts(rng, rows.stop - rows.start, sets)
            return np.multiply(counts, inputs.weights[rows, None], out=counts)

        errors.append(classwise_errors(inputs, bins, sets, resampled))
    values = np.concatenate(errors)
    return np.asarray(values[~np.isnan(values)])
