"""A temperature that a small network reads off the largest logits of every row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from sklearn.utils.validation import check_is_fitted

from logitherm._array import Array, as_logits, is_torch, like, namespace, to_numpy
from logitherm.calibration.base import Calibrator, number, numbers, temperature_and_bound, whole_number
from logitherm.calibration.rows import Labelled, labelled, likelihoods, row_blocks
from logitherm.calibration.temperature_scaling import heated
from logitherm.kernels import exponential
from logitherm.thermometer import fit_temperature

LARGEST = 10  # logits of a row that the network sees
UNITS = 5  # of each hidden layer
PRECISION = 10.0  # of the normal prior of every weight
RANGE = 5.0  # of every weight, which keeps T finite on the way
FAR = 1e3  # a gap beyond this many T, or to a forbidden class, counts as this many
BLOCK_ROWS = 1024  # of products too small for threads of a linear algebra library: twice as slow on busy cores
LEAST_SPREAD = 1e-2  # of an input: what varies less is not blown up to variance 1


class Network(NamedTuple):
    """f(x) = w_3 tanh(W_2 tanh(W_1 x + b_1) + b_2) + b_3; tanh bounds f where rows are unlike any of the fit."""

    weights: tuple[np.ndarray, ...]  # (inputs, UNITS), (UNITS, UNITS), (UNITS,)
    biases: tuple[np.ndarray, ...]  # (UNITS,), (UNITS,), ()

    def layers(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first = np.tanh(x @ self.weights[0] + self.biases[0])
        second = np.tanh(first @ self.weights[1] + self.biases[1])
        return first, second, second @ self.weights[2] + self.biases[2]


class ParametricTemperatureScaling(Calibrator):
    """T = T_0 exp f(gaps), f a network of 2 x 5 units that sees how far the 10 largest logits are apart.

    For models whose overconfidence depends on the margins of the row in a way that no formula is known for; keeps
    predictions. A constant added to a row changes nothing. The prior draws every weight to 0, that is T to T_0: on
    rows of one temperature the network loses about 1 / n nats at most, and where it gains less likelihood than its
    prior costs, it is left out altogether. Where a few confident blunders make up most of the NLL, it learns these
    few: compare on held-out rows, and see `EnsembleTemperatureScaling`.

    T_0 is the best single temperature, gaps are log(1 + (z_1 - z_j) / T_0) for the sorted logits z_1 >= z_2 >= ....
    Fitted by maximum a posteriori likelihood (not by the squared error of the paper, which is less efficient) with
    L-BFGS on all rows at once, some 50 to 200 passes: some seconds for 50 000 rows of 1000 classes.

    Parameters
    ----------
    strength : float
        Of the normal prior, of variance 1 / (10 strength) for every weight at inputs of variance 1.
    seed : int
        Of the start of the search; with the prior nearly all starts end in the same place.
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.

    Attributes
    ----------
    temperature_ : float
        T_0, in the units of the logits.
    network_ : Network or None
        The weights and biases of f; None for one temperature.
    at_bound_ : "zero", "infinite" or None
        As in `TemperatureScaling`.
    n_ : int
        Rows of the fit.

    References
    ----------
    Tomani, Cremers and Buettner (2022), Parameterized temperature scaling for boosting the expressive power in
    post-hoc uncertainty calibration, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.choice([1.0, 6.0], size=(3000, 1)) * rng.normal(size=(3000, 4))
    >>> top = np.sort(z, axis=1)
    >>> temperature = 1 + (top[:, 3:] - top[:, 2:3]) / 2
    >>> labels = (z / temperature + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> scaling = ParametricTemperatureScaling().fit(z, labels)
    >>> float(np.corrcoef(scaling.resolve(z), temperature[:, 0])[0, 1].round(1))
    1.0
    """

    keeps_predictions = True

    def __init__(self, *, strength: float = 1.0, seed: int = 0, zero_labels: str = "raise") -> None:
        self.strength = strength
        self.seed = seed
        self.zero_labels = zero_labels

    def _fit(self, z: Array, labels: np.ndarray, weights: Any) -> None:
        if not 0 < self.strength < math.inf:
            raise ValueError(f"strength: must be finite and positive; got {self.strength}; 1 is the default")
        single = fit_temperature(z, labels, weights=weights, zero_labels=self.zero_labels)
        self.temperature_, self.network_ = single.temperature, None
        self.at_bound_, self.n_ = single.at_bound, single.n
        if single.at_bound:
            return
        data = labelled(z, labels, weights, exclude=single.excluded > 0)
        self.network_ = _search(data, single.temperature, PRECISION * self.strength, self.seed)

    def resolve(self, logits: Array, step: Any = None) -> Array:
        """The temperature of every row: the calibrator goes wherever a temperature does."""
        check_is_fitted(self)
        z = as_logits(logits)
        flat = self._temperatures(z.reshape(-1, z.shape[-1]))
        return namespace(z).astype(like(flat, z), z.dtype).reshape(tuple(z.shape[:-1]))

    def _temperatures(self, z: Array) -> np.ndarray:
        if self.network_ is None:
            return np.full(z.shape[0], self.temperature_)
        f = self.network_.layers(_gaps(z, self.temperature_))[2]
        return np.asarray(self.temperature_ * exponential(f))

    def _calibrated(self, z: Array) -> Array:
        if self.network_ is None:
            return heated(z, self.temperature_)
        return z / namespace(z).astype(like(self._temperatures(z), z), z.dtype)[:, None]

    def _values(self) -> dict[str, Any]:
        network = self.network_ or Network((), ())
        return {
            "temperature": self.temperature_,
            "weights": [w.tolist() for w in network.weights],
            "biases": [b.tolist() for b in network.biases],
            "at_bound": self.at_bound_,
            "n": self.n_,
            "strength": self.strength,
        }

    def _set(self, values: dict[str, Any]) -> None:
        self.temperature_, self.at_bound_ = temperature_and_bound(values)
        self.n_ = whole_number(values["n"])
        self.strength = number(values["strength"], 0)
        weights, biases = values["weights"], values["biases"]
        self.network_ = None
        if weights or biases:
            inputs = min(LARGEST, self.n_features_in_) - 1
            (first, second, last), (first_bias, second_bias, last_bias) = weights, biases
            if len(first) != inputs or len(second) != UNITS:
                raise ValueError(f"a network of {len(first)} inputs and {len(second)} units")
            self.network_ = Network(
                (*(np.array([numbers(row, UNITS) for row in w]) for w in (first, second)), numbers(last, UNITS)),
                (numbers(first_bias, UNITS), numbers(second_bias, UNITS), np.array(number(last_bias))),
            )


def _gaps(z: Array, temperature: float) -> np.ndarray:
    """log(1 + gap / T) of the largest logits below the top one, float64."""
    count = min(LARGEST, z.shape[1])
    if is_torch(z):  # so that only these leave the device
        largest = to_numpy(z.topk(count, dim=1).values)
    else:
        z = to_numpy(z)
        largest = np.empty((len(z), count), dtype=z.dtype)
        for block in row_blocks(z):
            largest[block] = np.partition(z[block], z.shape[1] - count, axis=1)[:, -count:]
        largest = np.sort(largest, axis=1)[:, ::-1]
    below = largest[:, :1].astype(np.float64) - largest[:, 1:]
    return np.log1p(np.minimum(below / temperature, FAR))


def _search(data: Labelled, temperature: float, precision: float, seed: int) -> Network | None:
    """The most probable network, or None where one temperature is at least as probable."""
    x = _gaps(data.logits, temperature)
    inputs = x.shape[1]
    if not inputs:
        return None
    mean = np.average(x, axis=0, weights=data.weights)
    spread = np.maximum(np.sqrt(np.average((x - mean) ** 2, axis=0, weights=data.weights)), LEAST_SPREAD)
    x = (x - mean) / spread
    rng = np.random.default_rng(seed)
    nothing = np.zeros(_count(inputs))
    start = _pack(  # f = 0, but not a stationary point
        Network(
            (
                rng.normal(size=(inputs, UNITS)) / math.sqrt(inputs),
                rng.normal(size=(UNITS,) * 2) / math.sqrt(UNITS),
                nothing[:UNITS],
            ),
            (nothing[:UNITS], nothing[:UNITS], nothing[0]),
        )
    )
    objective = _objective(data, x, temperature, precision)
    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(-RANGE, RANGE)] * len(start),
        options={"maxiter": 200, "maxcor": 20, "ftol": 1e-8, "gtol": 1e-6},
    )
    if found.fun >= objective(nothing)[0]:
        return None
    (first, *others), (bias, *biases) = _unpack(found.x, inputs)
    return Network((first / spread[:, None], *others), (bias - mean / spread @ first, *biases))


def _objective(
    data: Labelled, x: np.ndarray, temperature: float, precision: float
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Mean NLL with the cost of the prior, and its slopes, from the parameters of a network."""
    total = data.weights.sum()
    penalty = np.full(_count(x.shape[1]), precision)
    penalty[-1] = 0.0  # b_3 only corrects T_0
    places = np.arange(BLOCK_ROWS, len(x), BLOCK_ROWS)
    parts = np.split(x, places)

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        network = _unpack(parameters, x.shape[1])
        layers = [network.layers(part) for part in parts]
        t = temperature * exponential(np.concatenate([f for _, _, f in layers]))
        nll, score, _ = likelihoods(data, t)
        slope = np.split(-data.weights * score / t, places)
        slopes = sum(_pack(_slopes(network, *of_part)) for of_part in zip(parts, layers, slope))
        value = float(data.weights @ nll) + 0.5 * float(penalty @ parameters**2)
        return value / total, (slopes + penalty * parameters) / total

    return objective


def _count(inputs: int) -> int:
    """Parameters of a network."""
    return (inputs + 1) * UNITS + (UNITS + 1) * UNITS + UNITS + 1


def _slopes(network: Network, x: np.ndarray, layers: tuple[np.ndarray, ...], slope: np.ndarray) -> Network:
    """Of a sum over rows in every weight and bias, from its slope in the f of every row."""
    first, second, _ = layers
    at_second = slope[:, None] * network.weights[2] * (1 - second**2)
    at_first = at_second @ network.weights[1].T * (1 - first**2)
    weights = x.T @ at_first, first.T @ at_second, second.T @ slope
    return Network(weights, (at_first.sum(axis=0), at_second.sum(axis=0), slope.sum()))


def _pack(network: Network) -> np.ndarray:
    return np.concatenate([np.ravel(part) for pair in zip(*network, strict=True) for part in pair])


def _unpack(parameters: np.ndarray, inputs: int) -> Network:
    sizes = (inputs * UNITS, UNITS, UNITS * UNITS, UNITS, UNITS)
    w1, b1, w2, b2, w3, b3 = np.split(parameters, np.cumsum(sizes))
    return Network((w1.reshape(inputs, UNITS), w2.reshape(UNITS, UNITS), w3), (b1, b2, b3[0]))
