"""The thermometer on the next tokens of held-out text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from logitherm._array import to_numpy
from logitherm.generation.choice import TemperatureChoice, crossing, ends_of
from logitherm.generation.resampling import interval, prompt_weights, ratio
from logitherm.generation.runs import NextLogits, text_logits
from logitherm.gibbs import log_softmax, mean_energy
from logitherm.thermometer import fit_temperature

GRID = tuple(round(0.1 * i, 1) for i in range(1, 16))
BLOCK = 1 << 22  # logits that are computed with at a time
REACH, STEPS = 4.0, 97  # the grid of a replicate's fit: T / 4 to 4 T, steps of 3 %


def held_out(
    next_logits: NextLogits,
    texts: Sequence[Sequence[int]],
    *,
    temperatures: Sequence[float] = GRID,
    tokens: int | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> TemperatureChoice:
    """The temperature that makes held-out text most likely: the thermometer on next-token logits.

    T is the maximum of the likelihood of `fit_temperature`. Its interval resamples whole texts, since tokens of one
    text are not independent: in every replicate the slope of the likelihood, the sum of <z>_T - z of the token that
    came, is solved for its zero between T / 4 and 4 T on a grid of 3 %. All logits are kept while it runs.

    Limits: a text that is always the largest logit gives T = 0, logits without signal T = inf (`at_bound`).

    Parameters
    ----------
    next_logits : callable
    texts : sequence of token sequences
        Two tokens each or more; the first is given.
    temperatures : sequence of floats
        Of the curve, mean surprise per token in nats; the choice does not depend on it.
    tokens : int, optional
        How many tokens of each text to read.
    confidence, replicates, seed
        Of the bootstrap over texts.

    Returns
    -------
    TemperatureChoice

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 2 * rng.normal(size=(40, 40))
    >>> texts = [[0] for _ in range(20)]
    >>> for text in texts:
    ...     for _ in range(50):
    ...         text.append(int((z[text[-1]] + rng.gumbel(size=40)).argmax()))
    >>> choice = held_out(lambda s: 1.5 * z[[x[-1] for x in s]], texts)      # too cold by 1.5
    >>> choice.interval[0] < 1.5 < choice.interval[1]
    True
    """
    parts = list(
        _blocks((text, to_numpy(z), token) for text, z, token in text_logits(next_logits, texts, tokens=tokens))
    )
    if not parts:
        raise ValueError("texts: must hold two tokens or more, of which the first is given; got none; give longer ones")
    fit = fit_temperature([(z, token) for _, z, token in parts])
    grid = np.unique(np.asarray(temperatures, dtype=np.float64))
    surprise = np.zeros((len(grid), len(texts)))
    slopes = np.zeros((STEPS, len(texts)))
    near = np.geomspace(fit.temperature / REACH, fit.temperature * REACH, STEPS) if fit.at_bound is None else None
    counts = np.zeros(len(texts))
    for text, z, token in parts:
        at = np.take_along_axis(z, token[:, None], axis=1)[:, 0].astype(np.float64)
        np.add.at(counts, text, 1)
        for i, t in enumerate(grid):
            own = np.take_along_axis(log_softmax(z, t), token[:, None], axis=1)[:, 0]
            np.add.at(surprise[i], text, -own.astype(np.float64))
        for i, t in enumerate(() if near is None else near):
            np.add.at(slopes[i], text, -mean_energy(z, t) - at)
    weights = prompt_weights(len(texts), replicates, seed)
    value = ratio(surprise, np.broadcast_to(counts, surprise.shape), np.ones((1, len(texts))))[0]
    drawn = ratio(surprise, np.broadcast_to(counts, surprise.shape), weights)
    low, high = interval(value, drawn, confidence, len(texts))
    ends = None
    if near is not None and len(texts) > 1:
        found = np.exp(crossing(np.log(near), -(weights @ slopes.T)))
        ends = ends_of(fit.temperature, found, confidence, len(texts))
    return TemperatureChoice(
        rule="perplexity",
        temperature=fit.temperature,
        interval=ends,
        confidence=confidence,
        temperatures=grid.tolist(),
        value=value.tolist(),
        low=low.tolist(),
        high=high.tolist(),
        quantity="surprise of held-out text",
        shares=None,
        prompts=len(texts),
        replicates=replicates,
        at_bound=fit.at_bound,
    )


Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # texts, logits, tokens


def _blocks(parts: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows in fewer parts."""
    held: list[Rows] = []
    for part in parts:
        held.append(part)
        if sum(z.size for _, z, _ in held) >= BLOCK:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(held: list[Rows]) -> Rows:
    text, logits, token = (np.concatenate(each) for each in zip(*held))
    return text, logits, token
