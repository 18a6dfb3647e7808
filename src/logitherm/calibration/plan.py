"""How many labels to buy: the errors of a temperature and of a calibration error against the number of labels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from logitherm._array import Array, as_array, to_numpy
from logitherm.gibbs import heat_capacity
from logitherm.metrics.binning import bin_edges, bin_index
from logitherm.metrics.options import as_count, finite_or_none
from logitherm.metrics.rows import as_inputs, row_statistics
from logitherm.thermometer import TemperatureFit, fit_temperature

SIZES = (100, 200, 500, 1000, 2000, 5000, 10000)
FEWEST = 20  # rows of a pilot, whose own error is else anyone's guess
MOST = 10**15  # labels; beyond this the counts of bins are no longer whole numbers in float64


@dataclass(frozen=True)
class PlannedSize:
    """What `n` labels are expected to tell.

    Attributes
    ----------
    n : int
        Labels.
    standard_error : float
        Of the fitted temperature, in its units.
    ece_error : float
        Standard error of the ECE, 0 to 1.
    ece_bias : float
        How far the mean ECE of n rows lies above that of endless rows: absolute gaps add up their own noise.
    """

    n: int
    standard_error: float
    ece_error: float
    ece_bias: float


@dataclass(frozen=True)
class SampleSizePlan:
    """The plan of `plan_sample_size`.

    Attributes
    ----------
    temperature : float
        Fitted to the labels of the pilot; without labels, the one imagined to be true.
    fit : TemperatureFit or None
        The fit itself; None without labels.
    n, classes : int
        Rows of the pilot and classes.
    bins : int
        Of the ECE.
    ece : float
        ECE of endless rows like those of the pilot, whose own noise is taken off each gap; 0 without labels.
    sizes : tuple of PlannedSize
        By n; with a target, also that of `needed`.
    target_error : float or None
        The standard error asked for.
    needed : int or None
        Fewest labels that reach it.
    """

    temperature: float
    fit: TemperatureFit | None
    n: int
    classes: int
    bins: int
    ece: float
    sizes: tuple[PlannedSize, ...]
    target_error: float | None
    needed: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `labelled` says what the plan rests on."""
        return {
            "labelled": self.fit is not None,
            "temperature": finite_or_none(self.temperature),
            "fit": None if self.fit is None else self.fit.to_dict(),
            "n": self.n,
            "classes": self.classes,
            "bins": self.bins,
            "ece": self.ece,
            "target_error": self.target_error,
            "needed": self.needed,
            "sizes": [asdict(size) for size in self.sizes],
        }


def plan_sample_size(
    logits: Array,
    labels: Array | None = None,
    temperature: float = 1.0,
    *,
    sizes: Iterable[int] = SIZES,
    target_error: float | None = None,
    bins: int = 15,
    replicates: int = 2000,
    zero_labels: str = "raise",
    seed: int | np.random.Generator = 0,
) -> SampleSizePlan:
    """How well n labels would tell the temperature and the ECE, for several n, from a pilot of few rows.

    The standard error of T is c / sqrt(n). With labels, c comes from the sandwich error of the fit to the pilot, which
    holds for a model that is wrong in more than its temperature too. Without, labels are imagined drawn from
    softmax(logits / temperature), and c = T / sqrt(C) with C the mean heat capacity of the rows: the error if the model
    is wrong in its temperature alone, as a rule the least there can be.

    The ECE of softmax(logits / temperature) is drawn anew `replicates` times from resampled rows: how many fall into
    each bin, right and wrong, is multinomial, and the sum of their confidences normal about its mean. The noise of the
    pilot itself is first taken off the gap of each bin (squared gap less its squared standard error, at least 0), or
    an honest model would look like one that is a little dishonest, and the bias come out too small. In a simulation
    (10 classes, an honest model, pilots of 1000 rows) the bias at 1000 labels was 0.033; it was planned as 0.028, as
    0.015 with the noise left in, and as 0.038 without labels. Where the gaps are wide, the plan overstates the
    small bias that remains, by up to a quarter of the standard error.

    Limits: both errors fall as 1/sqrt(n). The bias does so where the model is honest, and vanishes sooner where its
    gaps are wide. The plan is a statement about rows like those of the pilot. A pilot of few errors is no better
    than they are.

    Parameters
    ----------
    logits : array, shape (..., classes)
        Floating scores of the pilot; -inf forbids a class.
    labels : integer array, batch shape, optional
        What occurred there.
    temperature : float, 0 < T < inf
        Where the ECE is taken; without labels it is also the temperature imagined to be the true one.
    sizes : integers
        Numbers of labels to look at, each at least 1.
    target_error : float, optional
        A standard error of T, in its units: the fewest labels that reach it are found and added to `sizes`.
    bins : int
        Of the ECE, of equal width.
    replicates : int
        Draws of the ECE for every size, at least 2: of 2000, its standard error is known to 1.6 %.
    zero_labels : "raise" or "exclude"
        As for `fit_temperature`; excluded from the fit, such rows still count in the ECE.
    seed : int or numpy.random.Generator
        Of the draws; nothing touches the global state.

    Returns
    -------
    SampleSizePlan

    Raises
    ------
    TypeError, ValueError
        As for `fit_temperature`; a temperature that is no number in (0, inf), no sizes, a target that is not positive,
        or a pilot whose T is 0, infinite or known to no finite error.

    References
    ----------
    White (1982) for the sandwich error; Broecker (2012), Estimating reliability and resolution of probability forecasts
    through decomposition of the empirical score, and Kumar et al. (2019), Verified uncertainty calibration, section 4,
    for taking the noise off a gap.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(400, 5))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> plan = plan_sample_size(2 * z, labels, sizes=[400, 1600], target_error=0.1)
    >>> [round(size.standard_error, 3) for size in plan.sizes]
    [0.135, 0.1, 0.067]
    >>> plan.needed
    728
    """
    true = _as_positive(temperature, "temperature")
    wanted = {as_count(size, "sizes", 1) for size in sizes}
    bins, replicates = as_count(bins, "bins", 1), as_count(replicates, "replicates", 2)
    rng = np.random.default_rng(seed)
    pilot = as_array(logits, "logits")
    fit = None if labels is None else fit_temperature(pilot, labels, zero_labels=zero_labels)
    scale = _error_of_one(pilot, true) if fit is None else _scaled_error(fit)
    needed = None if target_error is None else _needed(scale, target_error)
    wanted |= set() if needed is None else {needed}
    if not wanted:
        raise ValueError("sizes: must name at least one number of labels; got none; give [500, 1000], say")
    if max(wanted) > MOST:
        raise ValueError(f"sizes: must be at most {MOST:.0e}; got {max(wanted):.3g}; ask for a larger target_error")
    cells = _cells(pilot, labels, true, bins)
    planned = []
    for n in sorted(wanted):
        drawn = _draws(cells, n, replicates, rng)
        planned.append(PlannedSize(n, scale / math.sqrt(n), float(drawn.std(ddof=1)), float(drawn.mean()) - cells.ece))
    return SampleSizePlan(
        temperature=true if fit is None else fit.temperature,
        fit=fit,
        n=math.prod(pilot.shape[:-1]),
        classes=int(pilot.shape[-1]),
        bins=bins,
        ece=cells.ece,
        sizes=tuple(planned),
        target_error=None if target_error is None else float(target_error),
        needed=needed,
    )


# -- the temperature -------------------------------------------------------------------------------------


def _scaled_error(fit: TemperatureFit) -> float:
    """c of the standard error c / sqrt(n), from the sandwich error of a pilot."""
    if fit.n < FEWEST or (fit.sandwich_error or 0.0) > fit.temperature:
        known = "" if fit.sandwich_error is None else f" within {100 * fit.sandwich_error / fit.temperature:.0f} %"
        raise ValueError(
            f"labels: must tell the pilot's temperature at least roughly; got T = {fit.temperature:.3g}{known} from "
            f"{fit.n} rows; label {FEWEST} or more, or plan without labels"
        )
    if fit.sandwich_error is None or not 0 < fit.sandwich_error < math.inf:
        state = {"zero": "T = 0", "infinite": "T = inf"}.get(fit.at_bound or "", f"T = {fit.temperature:.3g}")
        raise ValueError(
            f"labels: must give the pilot a temperature with a standard error; got {state} from {fit.n} rows; "
            "label more rows, or plan without labels"
        )
    return fit.sandwich_error * math.sqrt(fit.n)


def _error_of_one(logits: Array, temperature: float) -> float:
    """The same from the information of labels that are yet to be drawn: T / sqrt(mean heat capacity)."""
    capacity = to_numpy(heat_capacity(logits, temperature)).mean(dtype=np.float64)
    if not 0 < capacity < math.inf:
        raise ValueError(
            f"logits: must vary within rows for a temperature to be told; got a mean heat capacity of {capacity:.3g} "
            f"at T = {temperature:g}; choose another temperature or other rows"
        )
    return temperature / math.sqrt(capacity)


def _needed(scale: float, target_error: Any) -> int:
    target = _as_positive(target_error, "target_error")
    count = (scale / target) ** 2
    if count > MOST:
        raise ValueError(
            f"target_error: must be reached by fewer than {MOST:.0e} labels; got {target:g} for a standard error of "
            f"{scale:.3g} with one label; ask for a larger one"
        )
    return max(1, math.ceil(count))


def _as_positive(value: Any, name: str) -> float:
    """A number in (0, inf)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: must be a number; got {type(value).__name__} {value!r}; give one") from None
    if not 0 < number < math.inf:
        raise ValueError(f"{name}: must be positive and finite; got {number:g}; give 0.05, say")
    return number


# -- the calibration error -------------------------------------------------------------------------------


class Cells(NamedTuple):
    """Rows of the pilot by bin of confidence and by whether they are right; cells without rows are left out."""

    share: np.ndarray  # (cells,), sum 1
    gap: np.ndarray  # (cells,), mean of confidence - correct, less the noise of the pilot
    spread: np.ndarray  # (cells,), standard deviation of the confidence
    of_bin: np.ndarray  # (cells, bins), 1 where a cell belongs to the bin
    ece: float


def _cells(logits: Array, labels: Array | None, temperature: float, bins: int) -> Cells:
    known = np.zeros(logits.shape[:-1], dtype=np.int64) if labels is None else labels
    rows = row_statistics(as_inputs(logits, known, temperature))
    confidence = rows.confidence
    right = confidence if labels is None else rows.correct  # the share of each row that is right
    edges = bin_edges(confidence, np.ones(len(confidence)), bins, "equal_width")
    cell = np.concatenate([2 * bin_index(confidence, edges), 2 * bin_index(confidence, edges) + 1])
    weight, value = np.concatenate([1 - right, right]), np.concatenate([confidence, confidence])
    mass = np.bincount(cell, weight, minlength=2 * bins)
    filled = mass > 0
    each = np.where(filled, mass, 1.0)
    mean = np.bincount(cell, weight * value, minlength=2 * bins) / each
    variance = np.bincount(cell, weight * (value - mean[cell]) ** 2, minlength=2 * bins) / each
    gap = mean - np.arange(2 * bins) % 2
    of_bin = np.repeat(np.eye(bins), 2, axis=0)

    count = of_bin.T @ mass
    found = of_bin.T @ (mass * gap) / np.maximum(count, 1)
    squares = of_bin.T @ (mass * (variance + (gap - of_bin @ found) ** 2))
    noise = squares / np.maximum(count * (count - 1), 1)
    # a gap of one row alone is all noise, and so is one between confidences and their own mean
    known_gap = (count > 1) & (labels is not None)
    true = np.where(known_gap, np.sign(found) * np.sqrt(np.maximum(found**2 - noise, 0)), 0.0)
    gap = gap - of_bin @ (found - true)
    ece = float((count / count.sum()) @ np.abs(true))
    return Cells(mass[filled] / mass.sum(), gap[filled], np.sqrt(variance[filled]), of_bin[filled], ece)


def _draws(cells: Cells, n: int, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """ECE of n rows, drawn again and again."""
    counts = rng.multinomial(n, cells.share, size=replicates)
    noise = rng.standard_normal(counts.shape)
    sums = counts * cells.gap + np.sqrt(counts) * cells.spread * noise
    return np.abs(sums @ cells.of_bin).sum(axis=1) / n
