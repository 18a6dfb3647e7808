"""Linear heads up to their gauge: weights and a temperature that give the same softmax for every input.

softmax((W x + b) / T) knows W / T and b / T, and of each class only what differs from the mean of all. So (W, b, T),
(c W, c b, c T) and (W + 1 u', b + v, T) are one head for any c > 0, any vector u and any number v. Doubling W and T
alone is the same head only where b is zero or doubled too.

Weight scales hide in many places: a logit scale, the gains of queries and keys, the temperature of a distillation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_logits, describe, is_array, is_torch, namespace, require_temperature, to_numpy
from logitherm.metrics.options import as_choice

FORMS = ("temperature", "norm")


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
        if hasattr(self.temperature, "resolve"):
            raise TypeError(f"temperature: must be a number for a head; got {describe(self.temperature)}")
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


def as_head(head: Any) -> Head:
    return head if isinstance(head, Head) else Head.of(head)


def _finite(x: Any, name: str) -> Array:
    """A floating array without NaN or infinities; half types become float32."""
    values = as_logits(x, name=name)
    bad = ~namespace(values).isfinite(values)
    if bool(namespace(values).any(bad)):
        count = int(to_numpy(bad).sum())
        raise ValueError(f"{name}: must be finite; {count} of {bad.shape} entries are not; mend them")
    return values
