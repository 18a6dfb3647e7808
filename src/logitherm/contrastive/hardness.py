"""What a temperature does to the difficulty of a contrastive task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logitherm._array import describe, to_numpy
from logitherm._json import plain
from logitherm.contrastive.inputs import as_features, require_negatives, require_pairs, require_positive, similarities
from logitherm.gibbs import GibbsState
from logitherm.kernels.torch_pairs import full_precision
from logitherm.thermostat import LearnableTemperature

QUANTILES = {"low": 0.05, "median": 0.5, "high": 0.95}


@dataclass(frozen=True)
class Hardness:
    """The law of the negatives of every anchor at several temperatures.

    Attributes
    ----------
    negatives : int
        Negatives of every anchor.
    temperature : array, shape (temperatures,)
    entropy : array, shape (temperatures, anchors)
        S of softmax(s_ij / T) over the negatives j, in nats: log(negatives) where all are pushed away alike, 0 where
        only the hardest one is.
    positive_probability : array, shape (temperatures, anchors)
        Of the positive among all candidates: exp(-loss).
    """

    negatives: int
    temperature: np.ndarray
    entropy: np.ndarray
    positive_probability: np.ndarray

    @property
    def effective_negatives(self) -> np.ndarray:
        """exp(S), from 1 to the number of negatives: how many of them an anchor learns from."""
        return np.exp(self.entropy)

    def to_dict(self) -> dict[str, Any]:
        """Mean and 5, 50 and 95 % quantiles over anchors at every temperature, as JSON has them."""
        rows = []
        for i, temperature in enumerate(self.temperature):
            row = {"temperature": temperature}
            for name in ("entropy", "effective_negatives", "positive_probability"):
                values = getattr(self, name)[i]
                row[name] = {"mean": values.mean(), **{k: np.quantile(values, q) for k, q in QUANTILES.items()}}
            rows.append(row)
        return plain({"negatives": self.negatives, "anchors": self.entropy.shape[1], "temperatures": rows})


def hardness(
    queries: Tensor,
    keys: Tensor,
    temperature: float | Sequence[float] | Tensor | LearnableTemperature,
    *,
    negatives: Tensor | None = None,
    normalize: bool = True,
    check: bool | None = None,
) -> Hardness:
    """How many negatives every anchor learns from, and how sure it is of its positive, at one or several temperatures.

    The slope of `info_nce` in the similarity of a negative is its probability in softmax(s_ij / T) over the negatives,
    times what all of them have: the entropy S of that law says on how many the loss works, exp(S) of them.

    Limits: T -> 0 gives 1 effective negative (as many as are equally hard), T -> inf all of them.

    Parameters
    ----------
    queries, keys, negatives, normalize, check
        As for `info_nce`. Memory is O(keys) for every block of queries, of 4 MB or one row.
    temperature : float, or several, or a LearnableTemperature
        0 < T < inf.

    Returns
    -------
    Hardness
        Arrays (temperatures, anchors); `to_dict()` has their means and quantiles.

    Raises
    ------
    TypeError, ValueError
        As for `info_nce`.

    References
    ----------
    Wang and Liu (2021), Understanding the behaviour of contrastive loss, eq. 8 (the relative penalty).

    Examples
    --------
    >>> import torch
    >>> x = torch.eye(5)
    >>> found = hardness(x, x, [0.1, 1.0])
    >>> found.effective_negatives[:, 0].round(3).tolist()  # all negatives are equally far
    [4.0, 4.0]
    >>> round(found.to_dict()["temperatures"][1]["positive_probability"]["mean"], 4)  # e / (e + 4)
    0.4046
    """
    with torch.no_grad(), full_precision(queries):
        q = as_features(queries, "queries", normalize, check)
        k = as_features(keys, "keys", normalize, check, like=q)
        q, others = q.to(k.dtype), k
        require_pairs(q, k, "keys", exact=negatives is not None)
        if negatives is not None:
            others = as_features(negatives, "negatives", normalize, check, like=q)
        count = len(others) - (negatives is None)
        require_negatives(count, "keys")
        t = require_positive(_numbers(temperature), check)
        entropy, probability = (np.empty((len(t), len(q)), to_numpy(q).dtype) for _ in range(2))
        positives = (q * k[: len(q)]).sum(1)
        for rows, x in similarities(q.to(others.dtype), others, 0 if negatives is None else None):
            for i, one in enumerate(t.tolist()):
                state = GibbsState.from_logits(x, one, check=False)
                entropy[i, rows] = to_numpy(state.entropy())
                probability[i, rows] = to_numpy(torch.sigmoid(positives[rows] / one - state.log_partition()))
    return Hardness(count, to_numpy(t), entropy, probability)


def _numbers(temperature: Any) -> Tensor:
    """Temperatures in a line."""
    given = temperature.resolve() if isinstance(temperature, LearnableTemperature) else temperature
    try:
        t = torch.as_tensor(given, dtype=torch.float64).detach().reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        t = torch.empty(0)
    if not len(t):
        raise TypeError(
            f"temperature: must be a number or several; got {describe(temperature)}; pass [0.05, 0.5], say, or "
            "schedule.at(step)"
        )
    return t
