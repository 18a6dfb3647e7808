"""Choose a temperature to sample at: by the entropy of the texts, by held-out text, or by what a scorer says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from logitherm.generation.choice import TemperatureChoice, of_crossing, of_grid
from logitherm.generation.held_out import held_out
from logitherm.generation.runs import NextLogits, Runs, draw_texts
from logitherm.generation.sweep import Scored, of_known, score_parts

RULES = ("turning_point", "entropy", "perplexity", "best_of", "vote")
TURNING_GRID = tuple(round(0.1 * i, 1) for i in range(1, 15))  # of the paper's program: 0.1, 0.2, ... below 1.5


def choose_temperature(
    next_logits: NextLogits,
    prompts: Sequence[Sequence[int]],
    *,
    by: str = "turning_point",
    temperatures: Sequence[float] = TURNING_GRID,
    samples: int = 8,
    tokens: int = 64,
    stop: int | Sequence[int] = (),
    score: Callable[[Runs], Scored] | None = None,
    **rule: Any,
) -> TemperatureChoice:
    """Sample at a grid of temperatures and choose one; or fit one to held-out texts.

    Parameters
    ----------
    next_logits : callable
        Of a list of token sequences, the logits of the next token of each; see `logitherm.generation.runs.draw_texts`.
    prompts : sequence of token sequences
        With `by="perplexity"`, whole texts that the model has not seen.
    by : str
        "turning_point": `turning_point`, needs no more than prompts. "entropy": `at_entropy`, with `entropy=`.
        "perplexity": `held_out`, the thermometer. "best_of" and "vote": `best_score` and `best_vote`, with `score=`.
    temperatures : sequence of floats
        The grid.
    samples, tokens, stop
        As in `draw_texts`; `tokens` of a held-out text are those that are read of it.
    score : callable, optional
        Of the `Runs`, their `Scored`.
    **rule
        Further arguments of the rule, `confidence`, `replicates` and `seed` among them.

    Returns
    -------
    TemperatureChoice

    Raises
    ------
    ValueError
        An unknown rule, or one without what it needs.

    References
    ----------
    Du, Yang and Welleck (2025), Optimizing temperature for language models with multi-sample inference, for the turning
    point; Guo et al. (2017), On calibration of modern neural networks, section 4.2, for the held-out fit.

    Examples
    --------
    >>> import numpy as np
    >>> words = np.random.default_rng(0).normal(size=(40, 40))
    >>> def next_logits(sequences):
    ...     return 6 * words[[s[-1] for s in sequences]]
    >>> choice = choose_temperature(next_logits, [[i] for i in range(12)], by="entropy", entropy=1.0)
    >>> low, high = choice.interval
    >>> low < choice.temperature < high
    True
    """
    if by not in RULES:
        raise ValueError(f"by: must be one of {', '.join(RULES)}; got {by!r}; give one of them")
    if by == "perplexity":
        return held_out(next_logits, prompts, temperatures=temperatures, tokens=tokens, **rule)
    if by in ("best_of", "vote") and score is None:
        raise ValueError(f"score: must be given with by={by!r}; got None; pass what makes a Scored of the runs")
    seed = {"seed": rule["seed"]} if "seed" in rule else {}
    runs = draw_texts(next_logits, prompts, temperatures, samples=samples, tokens=tokens, stop=stop, **seed)
    if by == "turning_point":
        return turning_point(runs, **rule)
    if by == "entropy":
        return at_entropy(runs, **rule)
    assert score is not None
    return (best_score if by == "best_of" else best_vote)(runs, score(runs), **rule)


# -- by entropy --------------------------------------------------------------------------------------------


def turning_point(
    runs: Runs, *, shift: float = 0.0, confidence: float = 0.95, replicates: int = 1000, seed: int = 0
) -> TemperatureChoice:
    """The first temperature at which log entropy against T bends upward, TURN: beyond it, mass goes to tokens that
    make no sense.

    The entropy is that of the tempered law, exact over the vocabulary, mean over tokens, texts and prompts. Its
    logarithm is differentiated twice in T by central differences, as the paper's program does; the choice is the first
    point of the grid, ends left out, where the second derivative is positive, or the last but one where it nowhere is.

    Parameters
    ----------
    runs : Runs
        At five temperatures or more, all positive and finite; the paper's are 0.1, 0.2, ... 1.4.
    shift : float
        Added to the choice: the paper has 0 for majority votes and 0.1 for best-of-n.
    confidence, replicates, seed
        Of the bootstrap over prompts.

    Returns
    -------
    TemperatureChoice

    References
    ----------
    Du, Yang and Welleck (2025), Optimizing temperature for language models with multi-sample inference.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.runs import draw_texts
    >>> words = np.random.default_rng(0).normal(size=(40, 40))
    >>> runs = draw_texts(lambda s: 6 * words[[x[-1] for x in s]], [[i] for i in range(12)], TURNING_GRID)
    >>> turning_point(runs).quantity
    'entropy'
    """
    t = runs.temperatures
    if len(t) < 5 or t[0] <= 0 or math.isinf(t[-1]):
        raise ValueError(
            f"runs: must be at five positive, finite temperatures or more; got {t.tolist()}; take 0.1, 0.2, ... 1.4"
        )
    of_texts = runs.sums["entropy"] / np.maximum(runs.counts, 1)

    def choose(entropy: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            bend = np.gradient(np.gradient(np.log(entropy), t, axis=-1), t, axis=-1)[..., 1:-1] > 0
        bend[..., -1] |= ~bend.any(axis=-1)
        return bend.argmax(axis=-1) + 1

    part = of_known(of_texts.mean(axis=2))
    return of_grid("turning_point", "entropy", t, part, choose, shift, confidence, replicates, seed)


def at_entropy(
    runs: Runs, entropy: float, *, confidence: float = 0.95, replicates: int = 1000, seed: int = 0
) -> TemperatureChoice:
    """The temperature at which the texts that a model writes have a mean entropy per token.

    The curve is that of texts written at each temperature, between which it is taken as straight; where it meets the
    target more than once, the coldest counts. For contexts that are given, `solve_temperature(entropy=, pooled=True)`
    is exact.

    Parameters
    ----------
    runs : Runs
    entropy : float
        In nats per token, positive.
    confidence, replicates, seed
        Of the bootstrap over prompts.

    Returns
    -------
    TemperatureChoice
        Of None where the grid does not reach the target.

    References
    ----------
    Basu et al. (2021), Mirostat, for text of a given surprise; here by one temperature.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.runs import draw_texts
    >>> words = np.random.default_rng(0).normal(size=(40, 40))
    >>> runs = draw_texts(lambda s: 6 * words[[x[-1] for x in s]], [[i] for i in range(12)], [1.0, 2.0, 4.0])
    >>> 1.0 < at_entropy(runs, 1.0).temperature < 4.0
    True
    """
    if not 0 < entropy < math.inf:
        raise ValueError(f"entropy: must be positive and finite, in nats per token; got {entropy}; give 1.0, say")
    part = runs.sums["entropy"].sum(axis=2), runs.counts.sum(axis=2).astype(float)
    return of_crossing(
        "entropy", "entropy", runs.temperatures, part, lambda h: h - entropy, confidence, replicates, seed
    )


# -- by a scorer -------------------------------------------------------------------------------------------


def best_score(
    runs: Runs, scored: Scored, *, k: int = 1, confidence: float = 0.95, replicates: int = 1000, seed: int = 0
) -> TemperatureChoice:
    """The temperature of the grid at which the best of k texts scores highest; the colder one where two are equal.

    Of many temperatures the best one has been lucky too, so its own score is not what to expect: score it on other
    prompts. `shares` says how often each one would have won.

    Parameters
    ----------
    runs : Runs
    scored : Scored
    k : int
        Texts to choose from; 1 is the mean score, and pass@k for scores of 0 and 1.
    confidence, replicates, seed
        Of the bootstrap over prompts.

    Returns
    -------
    TemperatureChoice

    References
    ----------
    Chen et al. (2021), Evaluating large language models trained on code, figure 5: the best T rises with k.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.runs import draw_texts
    >>> runs = draw_texts(lambda s: np.zeros((len(s), 2)), [[0], [1]], [0.5, 1.0], samples=2, tokens=1)
    >>> scores = np.array([[[0, 0], [0, 0]], [[0, 1], [1, 0]]])
    >>> best_score(runs, Scored(scores), k=2).temperature
    1.0
    """
    part = score_parts(scored, k)["score" if k == 1 else f"best_of_{k}"]
    name = "score" if k == 1 else f"best of {k}"
    return of_grid("best_of", name, runs.temperatures, part, _largest, 0.0, confidence, replicates, seed)


def best_vote(
    runs: Runs, scored: Scored, *, confidence: float = 0.95, replicates: int = 1000, seed: int = 0
) -> TemperatureChoice:
    """The temperature of the grid at which a majority vote of all samples of a prompt scores highest.

    Parameters
    ----------
    runs : Runs
    scored : Scored
        With answers.
    confidence, replicates, seed
        Of the bootstrap over prompts.

    Returns
    -------
    TemperatureChoice

    References
    ----------
    Wang et al. (2023), Self-consistency improves chain of thought reasoning in language models, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.runs import draw_texts
    >>> runs = draw_texts(lambda s: np.zeros((len(s), 2)), [[0]], [0.5, 1.0], samples=3, tokens=1)
    >>> scored = Scored(np.array([[[1, 0, 0]], [[1, 1, 0]]]), answers=[[["4", "5", "5"]], [["4", "4", "5"]]])
    >>> best_vote(runs, scored).temperature
    1.0
    """
    if scored.answers is None:
        raise ValueError("scored: must have answers, by which votes are counted; got scores alone; return pairs")
    part = score_parts(scored, 1)["vote"]
    return of_grid("vote", "vote", runs.temperatures, part, _largest, 0.0, confidence, replicates, seed)


def _largest(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.nanargmax(np.where(np.isnan(values), -math.inf, values), axis=-1))
