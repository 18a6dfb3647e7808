"""What the laws of the next token say of a text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_logits, as_temperature, like, namespace, to_numpy
from logitherm.gibbs import GibbsState
from logitherm.kernels.reference import over


@dataclass(frozen=True)
class TokenNumbers:
    """Numbers of every token of a text, float64, in nats; of the sampling law at T, and of the model's own at T = 1.

    Attributes
    ----------
    entropy, model_entropy : array
        S = -sum p log p of the law of this token: the surprise that it expects.
    surprise, model_surprise : array
        -log p of the token that came.
    heat_capacity : array
        C = Var_p(z) / T^2 of the law at T: how fast its entropy grows, dS = C dT / T.
    """

    entropy: np.ndarray
    model_entropy: np.ndarray
    surprise: np.ndarray
    model_surprise: np.ndarray
    heat_capacity: np.ndarray


def token_numbers(logits: Array, tokens: Array, temperature: Any = 1.0) -> TokenNumbers:
    """Entropy, surprise and heat capacity of next-token laws at T, and entropy and surprise at T = 1.

    Exact over the whole vocabulary, in two passes over the logits. At T the mean surprise of text that was drawn at T
    is its mean entropy, up to chance; text whose `model_surprise` is larger than its `model_entropy` is stranger than
    the model would write by itself, one where it is smaller is more predictable.

    Parameters
    ----------
    logits : floating array, shape (..., states)
        For every position, of the token there.
    tokens : integer array, batch shape
    temperature : float, array of the batch shape, or Temperature
        0 <= T <= inf.

    Returns
    -------
    TokenNumbers
        Arrays of the batch shape.

    References
    ----------
    Shannon (1948), section 6, for the entropy; Meister et al. (2023), Locally typical sampling, for surprise against
    entropy in texts; dS/dT = C/T is that of statistical mechanics.

    Examples
    --------
    >>> import numpy as np
    >>> found = token_numbers(np.log([[0.5, 0.25, 0.25]]), np.array([1]), temperature=0.5)   # at T: 4/6, 1/6, 1/6
    >>> found.surprise.round(3).tolist(), found.model_surprise.round(3).tolist()
    ([1.792], [1.386])
    >>> found.entropy.round(3).tolist(), found.model_entropy.round(3).tolist()
    ([0.868], [1.04])
    """
    z = as_logits(logits)
    t = as_temperature(temperature, z)
    at = namespace(z).take_along_axis(z, like(to_numpy(tokens)[..., None], z), axis=-1)[..., 0]
    sampling = GibbsState.from_logits(z, t)
    own = GibbsState.from_logits(z, 1.0)
    ones = namespace(z).ones_like(own.top)
    return TokenNumbers(
        entropy=_plain(sampling.entropy()),
        model_entropy=_plain(own.entropy()),
        surprise=_surprise(sampling, at, t),
        model_surprise=_surprise(own, at, ones),
        heat_capacity=_plain(sampling.heat_capacity()),
    )


def _plain(values: Array) -> np.ndarray:
    return to_numpy(values).astype(np.float64)


def _surprise(state: GibbsState, at: Array, temperature: Array) -> np.ndarray:
    """-log p of the states with these logits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log1p(_plain(state.rest)) - _plain(over(at - state.top, temperature))


def perplexity(surprise: np.ndarray) -> float:
    """exp of the mean surprise: of how many equally likely tokens the next one would be as hard to guess.

    Limits: 1 for text that is certain; infinite for text that is impossible; NaN for none.

    Parameters
    ----------
    surprise : array
        -log p of every token, in nats, such as `TokenNumbers.model_surprise`.

    Returns
    -------
    float

    References
    ----------
    Jelinek et al. (1977), Perplexity: a measure of the difficulty of speech recognition tasks.

    Examples
    --------
    >>> import numpy as np
    >>> round(perplexity(-np.log([0.5, 0.125])), 6)
    4.0
    """
    values = np.asarray(surprise, dtype=np.float64)
    if not values.size:
        return math.nan
    mean = float(values.mean())
    return math.exp(mean) if mean < 700 else math.inf
