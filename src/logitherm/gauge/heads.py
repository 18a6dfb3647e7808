"""Linear heads up to their gauge: weights and a temperature that give the same softmax for every input.

softmax((W x + b) / T) knows W / T and b / T, and of each class only what differs from the mean of all. So (W, b, T),
(c W, c b, c T) and (W + 1 u', b + v, T) are one head for any c > 0, any vector u and any number v. Doubling W and T
alone is the same head only where b is zero or doubled too.

Weight scales hide in many places: a logit scale, the gains of queries and keys, the temperature of a distillation.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_logits, describe, is_array, is_torch, namespace, require_temperature, to_numpy
from logitherm._json import plain
from logitherm.metrics.options import as_choice

FORMS = ("temperature", "norm")
ROUNDING = 1e-5  # of weights in float32 after a few operations, relative to the largest


@dataclass(frozen=True, eq=False)
class Head:
    """A linear head: p = softmax((W x + b) / T).

    Parameters
    ----------
    weight : floating array, shape (classes, features)
        At least two classes: a single score x stands for the logits (0, x), see `Head.of`.
    bias : floating array, shape (classes,), optional
        Zero unless given.
    temperature : float
        0 < T < inf: no finite weights are those of T = 0, none at all those of T = inf.

    Raises
    ------
    TypeError, ValueError
        Arrays that are not floating, not finite or do not fit; a temperature out of range.

    Examples
    --------
    >>> Head(np.ones((3, 2)), temperature=2.0)
    Head(3 classes, 2 features, T=2)
    """

    weight: Array
    bias: Array = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        w = _finite(self.weight, "weight")
        if w.ndim != 2 or w.shape[0] < 2:
            raise ValueError(
                f"weight: must be (classes, features) of at least 2 classes; got {describe(w)}; a single score x "
                "stands for the logits (0, x): put a row of zeros before it"
            )
        xp = namespace(w)
        b = xp.zeros_like(w[:, 0]) if self.bias is None else _finite(self.bias, "bias")
        if namespace(b) is not xp or tuple(b.shape) != (w.shape[0],):
            raise ValueError(f"bias: must hold one number a class, as weight {describe(w)} has; got {describe(b)}")
        require_temperature(self.temperature)
        t = float(self.temperature)
        if not 0 < t < math.inf:
            raise ValueError(f"temperature: must be positive and finite for a head; got {t}; weights have no limit")
        for name, value in (("weight", w), ("bias", b), ("temperature", t)):
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, model: Any, temperature: float = 1.0) -> Head:
        """The head of a linear layer or a fitted linear classifier: anything with `weight` and `bias`, as
        torch.nn.Linear, or `coef_` and `intercept_`, as scikit-learn's.

        One row of `coef_` is that of the logits (0, x).

        Raises
        ------
        TypeError
            Anything else.

        Examples
        --------
        >>> import torch
        >>> Head.of(torch.nn.Linear(5, 3), temperature=0.5)
        Head(3 classes, 5 features, T=0.5)
        """
        if hasattr(model, "coef_"):
            w, b = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
            if len(w) == 1:
                w, b = np.concatenate([np.zeros_like(w), w]), np.concatenate([np.zeros_like(b), b])
            return cls(w, np.broadcast_to(b, len(w)).astype(w.dtype), temperature)
        if not is_array(getattr(model, "weight", None)):
            raise TypeError(
                f"model: must have weight and bias, or coef_ and intercept_ once fitted; got {type(model).__name__}; "
                "give Head(weight, bias)"
            )
        parts: list[Any] = [model.weight, getattr(model, "bias", None)]
        w, b = (part.detach() if is_torch(part) else part for part in parts)
        return cls(w, b, temperature)

    def __repr__(self) -> str:
        classes, features = self.weight.shape
        return f"Head({classes} classes, {features} features, T={self.temperature:g})"


def canonical_head(head: Any, *, form: str = "temperature") -> Head:
    """The one head among all equal ones whose classes have mean 0 and whose temperature, or norm of weights, is 1.

    Two heads give the same probabilities for every input if and only if their canonical forms agree.

    Parameters
    ----------
    head : Head, linear layer or fitted linear classifier
        As `Head.of` reads it.
    form : "temperature" or "norm"
        "temperature": T = 1, and the weights carry the scale. "norm": the weights have Frobenius norm 1, and T carries
        it: how cold the head is, apart from where it points.

    Returns
    -------
    Head
        Of the library of the weights, in their dtype (float32 for half types).

    Raises
    ------
    ValueError
        "norm" of weights that are the same for every class; another form.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2, divides logits by T: the gauge follows.

    Examples
    --------
    >>> head = Head(np.array([[4.0, 0.0], [0.0, 2.0]]), np.array([1.0, 3.0]), temperature=2.0)
    >>> canonical_head(head).weight.tolist(), canonical_head(head).bias.tolist()
    ([[1.0, -0.5], [-1.0, 0.5]], [-0.5, 0.5])
    >>> fixed = canonical_head(head, form="norm")
    >>> round(fixed.temperature, 4), round(float(np.linalg.norm(fixed.weight)), 4)
    (0.6325, 1.0)
    """
    as_choice(form, "form", FORMS)
    given = as_head(head)
    xp = namespace(given.weight)
    w, b = given.weight - given.weight[:1, :], given.bias - given.bias[:1]  # first, so that equal ones give exactly 0
    w, b = w - xp.mean(w, axis=0, keepdims=True), b - xp.mean(b)
    t = given.temperature
    if form == "temperature":
        return Head(w / t, b / t)
    largest = float(xp.max(xp.abs(w)))
    if largest == 0:
        raise ValueError(
            "weight: must differ between classes to have a norm; got the same for all; take form='temperature'"
        )
    norm = largest * float(xp.sum((w / largest) ** 2)) ** 0.5  # of squares that neither overflow nor vanish
    return Head(w / norm, b / norm, t / norm)


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
    norms = [np.linalg.norm(w) for w, _ in (a, b)]
    with np.errstate(divide="ignore", invalid="ignore"):
        temperature = float(norms[0] / norms[1])
        scaled = [tuple(part / norm for part in parts) for parts, norm in zip((a, b), norms)]
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


def as_head(head: Any) -> Head:
    return head if isinstance(head, Head) else Head.of(head)


def angle(first: np.ndarray, second: np.ndarray) -> float:
    """Between two arrays seen as vectors, in degrees; NaN where one is 0. Exact near 0 and 180 (Kahan's formula)."""
    sizes = [float(np.abs(x).max(initial=0.0)) for x in (first, second)]
    if min(sizes) == 0:
        return math.nan
    u, v = (x / size for x, size in zip((first, second), sizes))  # whose squares neither overflow nor vanish
    u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
    return math.degrees(2 * math.atan2(float(np.linalg.norm(u - v)), float(np.linalg.norm(u + v))))


def _finite(x: Any, name: str) -> Array:
    """A floating array without NaN or infinities; half types become float32."""
    values = as_logits(x, name=name)
    bad = ~namespace(values).isfinite(values)
    if bool(namespace(values).any(bad)):
        count = int(to_numpy(bad).sum())
        raise ValueError(f"{name}: must be finite; {count} of {bad.shape} entries are not; mend them")
    return values


def _numbers(head: Head) -> tuple[np.ndarray, np.ndarray]:
    w, b = (to_numpy(part).astype(np.float64) for part in (head.weight, head.bias))
    return w, b


def _largest(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> float:
    size = max(float(np.abs(part).max()) for part in (*a, *b))
    gap = max(float(np.abs(x - y).max()) for x, y in zip(a, b))
    return gap / size if size > 0 else 0.0
