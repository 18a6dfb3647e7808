"""Proper scores split into what recalibration can mend and what it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from logitherm._array import Array
from logitherm.metrics.bootstrap import interval, resampled_masses
from logitherm.metrics.options import as_choice, as_level, as_replicates
from logitherm.metrics.rows import Inputs, as_inputs, probabilities, row_blocks
from logitherm.metrics.score import Score

SCORES = ("brier", "nll")
GROUPS = 512  # of neighbouring confidences, in the bootstrap


@dataclass(frozen=True)
class Decomposition:
    """total = miscalibration - discrimination + uncertainty; the last three are never negative."""

    score: str  # "brier" or "nll"
    method: str  # how the recalibrated forecast was made, and on which rows
    total: Score
    miscalibration: Score  # what recalibration mends
    discrimination: Score  # what the recalibrated confidence is better than the base rate
    uncertainty: Score  # the score of the base rate

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words for JSON; None for infinity and NaN."""
        return {name: value.to_dict() if isinstance(value, Score) else value for name, value in vars(self).items()}


def decompose_score(
    logits: Array,
    labels: Array,
    temperature: Any = 1.0,
    *,
    score: str = "nll",
    bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int | np.random.Generator = 0,
    weights: Array | None = None,
) -> Decomposition:
    """CORP decomposition of the score of the top label's confidence as a forecast of being correct.

    total = miscalibration - discrimination + uncertainty. Recalibrated is the isotonic regression of correct on
    confidence (the best increasing map), the base rate is the accuracy: miscalibration is what the map mends,
    uncertainty minus discrimination what no increasing map of the confidence can. Scores are binary:
    (confidence - correct)^2 in [0, 1], or the log loss of correct in nats; not the multiclass `brier` and `nll`.

    The map is fitted on the rows it is scored on: miscalibration and discrimination are in-sample and too large. For a
    calibrated binary forecast, uniform on (0.5, 1), of 1000 rows miscalibration is 0.0040 (brier) and 0.0131 nats on
    average where the truth is 0. The intervals are percentile intervals of the Poisson bootstrap; those of
    miscalibration and discrimination are moved to have the value as their mean, for a replicate adds its own excess:
    they cover the expectation for this number of rows. Beyond 512 distinct confidences, neighbours are grouped for
    the intervals (not for the values), and unequal weights in a group count as equal ones of the same variance.

    Limits: T = 0 and T = inf tie all confidences where no logits tie and all are allowed: discrimination 0. A wrong row
    of confidence exactly 1 makes the log loss and its miscalibration inf; nothing is clipped.

    Parameters
    ----------
    logits, labels, temperature, bootstrap, confidence, seed, weights
        As for `evaluate`.
    score : {"nll", "brier"}
        Log loss or squared error.

    Returns
    -------
    Decomposition
        `total`, `miscalibration`, `discrimination`, `uncertainty`, a `Score` each; `to_dict()` for JSON.

    Raises
    ------
    TypeError, ValueError
        As for `evaluate`; another `score`.

    References
    ----------
    Dimitriadis, Gneiting & Jordan (2021), Stable reliability diagrams for probabilistic classifiers, PNAS 118 (CORP);
    Murphy (1973), A new vector partition of the probability score.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.log([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    >>> parts = decompose_score(z, [0, 0, 0, 1], score="brier", bootstrap=0)
    >>> [round(p.value, 4) for p in (parts.total, parts.miscalibration, parts.discrimination, parts.uncertainty)]
    [0.135, 0.01, 0.0625, 0.1875]
    """
    score = as_choice(score, "score", SCORES)
    replicates, level = as_replicates(bootstrap), as_level(confidence)
    rng = np.random.default_rng(seed)
    inputs = as_inputs(logits, labels, temperature, weights)
    confident, correct, loss = _top_label_losses(inputs, score)
    counted = inputs.weights > 0
    weight = inputs.weights[counted] / inputs.weights[counted].sum()
    _, group = np.unique(confident[counted], return_inverse=True)
    cells = _cells(group, correct[counted], loss[counted], weight)
    value = _parts(cells, cells.mass, score)
    distinct = int(group.max()) + 1
    coarse = (
        cells if distinct <= GROUPS else _cells(group * GROUPS // distinct, correct[counted], loss[counted], weight)
    )
    drawn = [_parts(coarse, mass, score) for mass in _resampled(coarse, replicates, rng)]
    found = np.array(drawn).reshape(-1, 4)
    if distinct > GROUPS:
        found += np.nan_to_num(value - _parts(coarse, coarse.mass, score), nan=0.0, posinf=0.0)

    def part(i: int, *, recentre: bool) -> Score:
        column = found[:, i]
        if recentre and len(column) and np.isfinite(value[i]):
            column = column + (value[i] - column.mean())
        return Score(float(value[i]), *interval(float(value[i]), np.maximum(column, 0.0), level))

    return Decomposition(
        score,
        "isotonic regression of the top label, in-sample",
        part(0, recentre=False),
        part(1, recentre=True),
        part(2, recentre=True),
        part(3, recentre=False),
    )


class _Cells(NamedTuple):
    """Rows of one group of confidences that are all right or all wrong; groups ascend in confidence."""

    group: np.ndarray
    correct: np.ndarray
    mass: np.ndarray
    squares: np.ndarray  # of the weights
    loss: np.ndarray  # mean, may be inf


def _cells(group: np.ndarray, correct: np.ndarray, loss: np.ndarray, weight: np.ndarray) -> _Cells:
    # impossible rows apart, so that a group has an infinite loss in just the replicates that draw one
    key = 4 * group + 2 * np.isinf(loss) + (correct > 0)
    met, place = np.unique(key, return_inverse=True)
    mass = np.bincount(place, weight)
    mean = np.bincount(place, weight * loss) / mass
    return _Cells(met // 4, (met % 2).astype(np.float64), mass, np.bincount(place, weight * weight), mean)


def _top_label_losses(inputs: Inputs, score: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, correct and the binary loss of each row."""
    parts = []
    for block in row_blocks(inputs):
        p, rows = probabilities(block), np.arange(len(block.labels))
        confident = p[rows, block.predicted]
        p[rows, block.predicted] = 0.0
        rest = p.sum(axis=1)  # not 1 - confidence, which forgets what is below 1e-16
        correct = block.predicted == block.labels
        if score == "brier":
            loss = np.where(correct, rest, confident) ** 2
        else:
            with np.errstate(divide="ignore"):
                loss = np.where(correct, np.log1p(rest / confident), -np.log(rest))
        parts.append((confident, correct.astype(np.float64), loss))
    confident, correct, loss = (np.concatenate(column) for column in zip(*parts))
    return confident, correct, loss


def _resampled(cells: _Cells, replicates: int, rng: np.random.Generator) -> np.ndarray:
    masses = resampled_masses(cells.mass, cells.squares, replicates, rng)
    return np.asarray(masses[masses.sum(axis=1) > 0])  # a replicate without rows says nothing


def _parts(cells: _Cells, mass: np.ndarray, score: str) -> np.ndarray:
    """Total, miscalibration, discrimination and uncertainty under these weights of the cells."""
    from scipy.optimize import isotonic_regression

    drawn = mass > 0
    group, correct, mass, loss = cells.group[drawn], cells.correct[drawn], mass[drawn], cells.loss[drawn]
    first = np.flatnonzero(np.append(True, np.diff(group) > 0))
    weight, right = np.add.reduceat(mass, first), np.add.reduceat(mass * correct, first)
    whole = weight.sum()
    fitted = np.clip(isotonic_regression(right / weight, weights=weight).x, 0.0, 1.0)
    entropy = _gini if score == "brier" else _shannon
    # a block of the regression predicts its own rate of hits, so its mean loss is the entropy of that rate
    mended, blind = float(weight @ entropy(fitted)) / whole, float(entropy(right.sum() / whole))
    total = float(mass @ loss) / whole
    return np.array([total, max(total - mended, 0.0), max(blind - mended, 0.0), blind])


def _gini(p: Any) -> Any:
    return p * (1 - p)


def _shannon(p: Any) -> Any:
    from scipy.special import xlog1py, xlogy

    return -xlogy(p, p) - xlog1py(1 - p, -p)
