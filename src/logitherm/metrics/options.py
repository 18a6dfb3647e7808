"""The guard of the options that several metrics share."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

BINNINGS = ("equal_width", "equal_mass")
KINDS = ("top_label", "class_wise", "marginal")
INTERVALS = ("bootstrap", "analytic")
MOST_BINS = 1000  # sums of every bin are held for every replicate
MOST_REPLICATES = 100_000


def as_bins(bins: Any) -> int:
    return as_count(bins, "bins", 1, MOST_BINS)


def as_replicates(bootstrap: Any) -> int:
    return as_count(bootstrap, "bootstrap", 0, MOST_REPLICATES)


def as_count(value: Any, name: str, least: int, most: int | None = None) -> int:
    """A whole number of at least `least` and at most `most`."""
    try:
        count = operator.index(value)
    except TypeError:
        count = None
    if count is None or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: must be an integer; got {type(value).__name__} {value!r}; give {least} or more")
    if count < least:
        raise ValueError(f"{name}: must be at least {least}; got {count}; give {least} or more")
    if most is not None and count > most:
        raise ValueError(f"{name}: must be at most {most}; got {count}; give {most} or fewer")
    return count


def as_level(confidence: Any) -> float:
    """The share of the bootstrap distribution that an interval holds, strictly between 0 and 1."""
    try:
        level = float(confidence)
    except (TypeError, ValueError):
        raise TypeError(
            f"confidence: must be a number; got {type(confidence).__name__} {confidence!r}; give 0.95, say"
        ) from None
    if not 0 < level < 1:
        raise ValueError(f"confidence: must lie between 0 and 1; got {level}; give 0.95, say")
    return level


def as_bandwidth(bandwidth: Any, most: float = math.inf) -> float | None:
    """Of a kernel, above 0 and at most `most`, or finite; None stays None."""
    if bandwidth is None:
        return None
    try:
        width = float(bandwidth)
    except (TypeError, ValueError):
        kind = type(bandwidth).__name__
        raise TypeError(f"bandwidth: must be a number; got {kind} {bandwidth!r}; give 0.1, say") from None
    if not 0 < width <= most or math.isinf(width):
        rule = "be positive and finite" if math.isinf(most) else f"lie in (0, {most:g}]"
        raise ValueError(f"bandwidth: must {rule}; got {width}; give 0.1, say")
    return width


def as_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ValueError(f"{name}: must be one of {choices}; got {value!r}; give one of them")
    return str(value)


def as_binning(binning: Any) -> str:
    return as_choice(binning, "binning", BINNINGS)


def as_kind(kind: Any) -> str:
    """Whose calibration: the prediction's, or every class's as a yes-or-no forecast of its own."""
    return as_choice(kind, "kind", KINDS)


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def to_lists(values: np.ndarray) -> Any:
    """An array as nested lists of numbers and None."""
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()


def as_share(value: Any, name: str) -> float:
    """A number in [0, 1]."""
    try:
        share = float(value)
    except (TypeError, ValueError):
        kind = type(value).__name__
        raise TypeError(f"{name}: must be a number; got {kind} {value!r}; give 0.99, say") from None
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: must lie in [0, 1]; got {share}; give 0.99, say")
    return share
