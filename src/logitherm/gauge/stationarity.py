"""Is a network with weight decay at its optimum? The temperature its training rows ask for must balance its weights.

Let J = mean cross-entropy + penalty ||W||^2, with logits that grow with W as c W does: z(c W) = c z(W). Along that
direction the slope of J is 2 penalty ||W||^2 - E[z_y - E_p z], so that where J is stationary

    E[z_y - E_p z] = 2 penalty ||W||^2

at T = 1, with the mean over the training rows. It holds for every layer of a network of L layers without biases whose
activations are homogeneous (ReLU), all with the same left side; so all layers have one norm, and the right side is
(2 penalty / L) ||theta||^2. It holds for the last linear layer of any network: a bias that is not penalised adds
nothing, one that is penalised counts among the weights.

The left side is minus the slope of the cross-entropy in log(1/T) at T = 1. So a penalty above 0 leaves the training
rows underconfident (they ask for T < 1), and none at all asks for T = 1 exactly.

`penalty` is that of the mean loss. torch.optim.SGD and Adam add weight_decay W to the gradient: weight_decay is twice
the penalty. AdamW does not minimise J, and no such identity holds for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_logits, describe, is_array, namespace, to_numpy
from logitherm._json import plain
from logitherm.gibbs import mean_energy
from logitherm.metrics.options import as_choice
from logitherm.metrics.rows import as_inputs, row_blocks, weighted_mean

CLOSE = 0.01  # relative residual below which a layer is said to be at its optimum


@dataclass(frozen=True)
class LayerBalance:
    """One layer's side of the identity.

    Attributes
    ----------
    name : str
    squared_norm : float
        ||W||^2.
    expected : float
        2 penalty ||W||^2, in logit units: what `Stationarity.score` is at a stationary point.
    residual : float
        (score - expected) / max(|score|, expected): 0 at a stationary point. Above 0 the weights still grow, below 0
        they still shrink: under gradient flow the slope of ||W||^2 in time is 2 (score - expected). NaN for 0 of 0.
    """

    name: str
    squared_norm: float
    expected: float
    residual: float


@dataclass(frozen=True)
class Stationarity:
    """The two sides of the identity, layer by layer.

    Attributes
    ----------
    score : float
        E[z_y - E_p z] over the training rows at T = 1, in logit units.
    standard_error : float
        Of `score` as an estimate from rows drawn at random, as for a sample of the training rows; the identity itself
        is exact on the rows that were trained on. NaN for a single row.
    penalty : float
        Of J = mean cross-entropy + penalty ||W||^2.
    layers : tuple of LayerBalance
    imbalance : float
        Largest over smallest squared norm of the layers, less 1: 0 where they balance.
    gradient : float or None
        ||gradient of J|| / ||2 penalty W|| over all layers, which sees every direction and not only that of growth.
        On a kink of ReLU, where an optimum may lie, the identity holds and this gradient need not be 0. None where it
        was not computed, inf without penalty.
    n : int
        Rows.
    """

    score: float
    standard_error: float
    penalty: float
    layers: tuple[LayerBalance, ...]
    imbalance: float
    gradient: float | None
    n: int

    @property
    def expected(self) -> float:
        """The mean over the layers of 2 penalty ||W||^2, which is (2 penalty / L) ||theta||^2."""
        return sum(layer.expected for layer in self.layers) / len(self.layers)

    @property
    def residual(self) -> float:
        """(score - expected) / max(|score|, expected), of the whole network."""
        return relative(self.score, self.expected)

    @property
    def worst(self) -> LayerBalance:
        """The layer that is farthest from stationary."""
        return max(self.layers, key=lambda layer: abs(layer.residual) if layer.residual == layer.residual else 0.0)

    @property
    def verdict(self) -> str:
        """How far from stationary, in one line that claims no more than the identity shows."""
        sides = f"training rows ask for {self.score:.4g}, weight decay gives {self.expected:.4g}"
        if max(layer.squared_norm for layer in self.layers) == 0:
            return "Nothing can be told: the weights are 0."
        if self.penalty == 0:
            way = "larger" if self.score > 0 else "smaller"
            return (
                f"Not penalised: training rows ask for {way} logits still (score {self.score:.4g}, and 0 at the end)."
            )
        at = self.worst
        if abs(at.residual) <= CLOSE:
            return f"At its scale to {abs(at.residual):.1g}: {sides}."
        way = "grows" if at.residual > 0 else "shrinks"
        return f"Not stationary: {at.name} still {way}, by {100 * abs(at.residual):.3g} % of the balance; {sides}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None where a number is not finite."""
        more = {"expected": self.expected, "residual": self.residual, "verdict": self.verdict}
        return dict(plain(asdict(self) | more))


def stationarity(
    logits: Array,
    labels: Array,
    layers: Mapping[str, Any],
    *,
    penalty: float | None = None,
    weight_decay: float | None = None,
    reduction: str = "mean",
    weights: Any = None,
) -> Stationarity:
    """Whether weights under L2 are at their optimum: E[z_y - E_p z] against 2 penalty ||W||^2 for every layer.

    It looks along one direction for each layer, that of its own growth: 0 is necessary for a stationary point and not
    sufficient. `network_stationarity` looks everywhere.

    Limits: without penalty the score is 0 at a stationary point, where the rows ask for T = 1; rows that are separable
    have none, and the score goes to 0 from above as the weights grow without end.

    Parameters
    ----------
    logits : array, shape (..., classes)
        Of all training rows, from the network as it was trained: dropout and augmentation change the left side.
    labels : integer array, batch shape
        Of these rows.
    layers : mapping of names to arrays
        Weights that are penalised and in which the logits are linear: the last linear layer of any network, or every
        layer of one without biases. A tuple of arrays is taken together, as weight and penalised bias of the last
        layer: ``{"head": (weight, bias)}``.
    penalty, weight_decay : float
        One of them, at least 0. Of mean cross-entropy + penalty ||W||^2; weight_decay is twice that, as in
        torch.optim.SGD and Adam. Not that of AdamW.
    reduction : "mean" or "sum"
        Of the cross-entropy that was minimised.
    weights : array, batch shape
        Nonnegative weights of the rows in the loss; the mean is weighted.

    Returns
    -------
    Stationarity

    Raises
    ------
    TypeError, ValueError
        Logits and labels as for `logitherm.metrics.accuracy`; a label of logit -inf; no layers, or weights that are not
        finite; a penalty that is negative or missing, or both.

    References
    ----------
    Lyu and Li (2020), Gradient descent maximizes the margin of homogeneous neural networks, for Euler's theorem on
    the growth of homogeneous networks; Du, Hu and Lee (2018), Algorithmic regularization in learning deep
    homogeneous models, section 2, for the balance of the layers.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 4))
    >>> y = (x @ rng.normal(size=(4, 3)) + rng.gumbel(size=(300, 3))).argmax(axis=1)
    >>> model = LogisticRegression(C=0.1, tol=1e-10).fit(x, y)    # minimises the sum + ||W||^2 / (2 C)
    >>> found = stationarity(model.decision_function(x), y, {"head": model.coef_}, penalty=5.0, reduction="sum")
    >>> round(found.score, 4), round(found.expected, 4)
    (0.0967, 0.0967)
    """
    rows = Rows(logits, labels, weights)
    strength = as_penalty(penalty, weight_decay, reduction, rows.total)
    if not isinstance(layers, Mapping) or not layers:
        raise ValueError(f"layers: must name at least one array of weights; got {describe(layers)}; give {{'head': W}}")
    return rows.against({name: squared_norm(name, value) for name, value in layers.items()}, strength)


class Rows:
    """The left side: the mean score of the rows, and how many they are."""

    def __init__(self, logits: Any, labels: Any, weights: Any = None) -> None:
        inputs = as_inputs(logits, labels, 1.0, weights)
        scores = np.empty(len(inputs.labels))
        for block in row_blocks(inputs):
            rows = np.arange(len(block.labels))
            depth = (
                block.logits - block.logits[rows, block.predicted][:, None]
            )  # first, so that large logits lose nothing
            scores[block.rows] = depth[rows, block.labels] + mean_energy(depth, check=False)
        if not np.isfinite(scores).all():
            raise ValueError(
                f"labels: must be possible; {int((~np.isfinite(scores)).sum())} of {len(scores)} rows have a label of "
                "logit -inf; the loss there is infinite: mend them"
            )
        self.total, self.n = float(inputs.weights.sum()), len(scores)
        self.score = weighted_mean(scores, inputs.weights)
        squares = weighted_mean((scores - self.score) ** 2, inputs.weights)
        effective = self.total**2 / float((inputs.weights**2).sum())
        self.error = math.sqrt(squares / (effective - 1)) if effective > 1 else math.nan

    def against(self, norms: dict[str, float], penalty: float, gradient: float | None = None) -> Stationarity:
        """The identity with the squared norms of the layers on its right."""
        layers = []
        for name, norm in norms.items():
            expected = 2 * penalty * norm
            layers.append(LayerBalance(name, norm, expected, relative(self.score, expected)))
        low, high = min(norms.values()), max(norms.values())
        imbalance = high / low - 1 if low > 0 else 0.0 if high == 0 else math.inf
        return Stationarity(self.score, self.error, penalty, tuple(layers), imbalance, gradient, self.n)


def as_penalty(penalty: Any, weight_decay: Any, reduction: str, rows: float) -> float:
    """The penalty of the mean loss."""
    as_choice(reduction, "reduction", ("mean", "sum"))
    if (penalty is None) == (weight_decay is None):
        raise ValueError("penalty, weight_decay: must be one of the two; got both or neither; weight_decay = 2 penalty")
    name, given = ("penalty", penalty) if weight_decay is None else ("weight_decay", weight_decay)
    try:
        value = float(given)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: must be a number; got {describe(given)}; 0 is none") from None
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}: must be finite and at least 0; got {value}; 0 is none")
    return value / (1 if weight_decay is None else 2) / (rows if reduction == "sum" else 1)


def squared_norm(name: str, value: Any) -> float:
    """||W||^2 of an array, or of several together."""
    total = 0.0
    for part in value if isinstance(value, (tuple, list)) and any(map(is_array, value)) else (value,):
        w = as_logits(part, name=f"layers[{name!r}]")
        if not bool(namespace(w).all(namespace(w).isfinite(w))):
            raise ValueError(f"layers[{name!r}]: must be finite; got {describe(w)} with some that are not; mend them")
        total += float((to_numpy(w).astype(np.float64) ** 2).sum())
    return total


def relative(score: float, expected: float) -> float:
    size = max(abs(score), expected)
    return (score - expected) / size if size > 0 else math.nan
