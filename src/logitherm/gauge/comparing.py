"""Two linear heads once their gauge is fixed: what of their difference is a temperature, and what a direction."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from logitherm._array import to_numpy
from logitherm._json import plain
from logitherm.gauge.heads import Head, canonical_head

ROUNDING = 1e-5  # of weights in float32 after a few operations, relative to the largest


@dataclass(frozen=True)
class HeadDifference:
    """How two heads differ once their gauge is fixed.

    Attributes
    ----------
    temperature : float
        Norm of the first head's canonical weights over that of the second: how many times as hot the second is.
        Exchanging the two gives 1/T. NaN where both norms are 0.
    weight_angle, bias_angle : float
        Between the canonical weights, and the canonical biases, in degrees, 0 to 180: what no temperature explains.
        NaN where either is 0.
    largest : float
        The largest difference between an entry of W / T, or b / T, of the two, relative to the largest entry of either:
        0 for one and the same head.
    largest_at_norm : float
        The same in the form "norm", blind to temperature: 0 for heads that differ by a temperature alone. NaN where a
        head has no norm.
    """

    temperature: float
    weight_angle: float
    bias_angle: float
    largest: float
    largest_at_norm: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None where a number is not finite."""
        return dict(plain(asdict(self)))


def head_difference(first: Any, second: Any) -> HeadDifference:
    """How far two heads on the same features are apart, apart from their gauge: in temperature and in direction.

    It looks at the weights alone. What a direction is worth depends on the features: `thermal_share` of the logits on
    some inputs tells. A direction in which the features never vary is seen here and not there.

    Parameters
    ----------
    first, second : Head, linear layer or fitted linear classifier
        As `Head.of` reads them; of the same classes and features, in the same order.

    Returns
    -------
    HeadDifference

    Raises
    ------
    ValueError
        Shapes that differ.

    References
    ----------
    As for `canonical_head`.

    Examples
    --------
    >>> w, b = np.array([[4.0, 0.0], [0.0, 2.0]]), np.array([1.0, 3.0])
    >>> found = head_difference(Head(w, b), Head(w, b, temperature=2.0))
    >>> found.temperature, round(found.weight_angle, 3), found.largest_at_norm
    (2.0, 0.0, 0.0)
    """
    a, b = (_numbers(canonical_head(head)) for head in (first, second))
    if a[0].shape != b[0].shape:
        raise ValueError(
            f"second: must have the classes and features of first {a[0].shape}; got {b[0].shape}; give heads of one "
            "task"
        )
    norms = [np.float64(norm(w)) for w, _ in (a, b)]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        temperature = float(norms[0] / norms[1])
        scaled = [tuple(part / size for part in parts) for parts, size in zip((a, b), norms)]
    return HeadDifference(
        temperature=temperature,
        weight_angle=angle(a[0], b[0]),
        bias_angle=angle(a[1], b[1]),
        largest=_largest(a, b),
        largest_at_norm=_largest(*scaled) if min(norms) > 0 else math.nan,
    )


def same_head(first: Any, second: Any, *, up_to_temperature: bool = False, tolerance: float = ROUNDING) -> bool:
    """Whether two heads give the same probabilities for every input, whatever gauge their weights are written in.

    Parameters
    ----------
    first, second : Head, linear layer or fitted linear classifier
        As for `head_difference`.
    up_to_temperature : bool
        Whether heads that differ by a temperature alone count as the same.
    tolerance : float
        Largest difference of an entry relative to the largest entry. The default is the rounding of float32.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        As for `head_difference`; a negative tolerance.

    References
    ----------
    As for `canonical_head`.

    Examples
    --------
    >>> w, b = np.array([[4.0, 0.0], [0.0, 2.0]]), np.array([1.0, 3.0])
    >>> same_head(Head(w, b), Head(2 * w, 2 * b, temperature=2.0))
    True
    >>> same_head(Head(w, b), Head(2 * w, b, temperature=2.0))    # the bias has lost half its weight
    False
    >>> same_head(Head(w, b), Head(2 * w, 2 * b), up_to_temperature=True)
    True
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance: must be at least 0; got {tolerance}; {ROUNDING:g} is the rounding of float32")
    found = head_difference(first, second)
    return (found.largest_at_norm if up_to_temperature else found.largest) <= tolerance


def angle(first: np.ndarray, second: np.ndarray) -> float:
    """Between two arrays seen as vectors, in degrees; NaN where one is 0. Exact near 0 and 180 (Kahan's formula)."""
    sizes = norm(first), norm(second)
    if min(sizes) == 0:
        return math.nan
    u, v = first / sizes[0], second / sizes[1]
    return math.degrees(2 * math.atan2(norm(u - v), norm(u + v)))


def norm(x: np.ndarray) -> float:
    """Of an array seen as a vector, by squares that neither overflow nor vanish."""
    size = float(np.abs(x).max(initial=0.0))
    return size * float(np.linalg.norm(x / size)) if size > 0 else 0.0


def _numbers(head: Head) -> tuple[np.ndarray, np.ndarray]:
    w, b = (to_numpy(part).astype(np.float64) for part in (head.weight, head.bias))
    return w, b


def _largest(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> float:
    size = max(float(np.abs(part).max()) for part in (*a, *b))
    gap = max(float(np.abs(x - y).max()) for x, y in zip(a, b))
    return gap / size if size > 0 else 0.0
