"""Choose a temperature to sample at: by the entropy of the texts, by held-out text, or by what a scorer says."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from logitherm.generation.choice import TemperatureChoice, of_crossing, of_grid
from logitherm.generation.held_out import held_out
from logitherm.generation.runs import NextLogits, Runs, draw_texts
from logitherm.generation.sweep import Scored, of_known, score_parts

RULES = ("turning_point", "entropy", "perplexity", "best_of", "vote")
WHOLE, REAL = (int, np.integer), (int, float, np.integer, np.floating)
ROUNDING = 1e-12  # of sums over prompts, relative: means that differ by less are equal
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
        An unknown rule, or one without what it needs; before the model is called.

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
    _check(by, rule, temperatures, samples, score)
    if by == "perplexity":
        return held_out(next_logits, prompts, temperatures=temperatures, tokens=tokens, **rule)
    seed = {"seed": rule["seed"]} if "seed" in rule else {}
    runs = draw_texts(next_logits, prompts, temperatures, samples=samples, tokens=tokens, stop=stop, **seed)
    if by == "turning_point":
        return turning_point(runs, **rule)
    if by == "entropy":
        return at_entropy(runs, **rule)
    assert score is not None
    return (best_score if by == "best_of" else best_vote)(runs, score(runs), **rule)


# -- what rules need, said before anything is drawn ----------------------------------------------------------


def _check(by: str, rule: Mapping[str, Any], temperatures: Sequence[float], samples: int, score: object | None) -> None:
    rules: dict[str, Callable[..., Any]] = {
        "turning_point": turning_point,
        "entropy": at_entropy,
        "perplexity": held_out,
        "best_of": best_score,
        "vote": best_vote,
    }
    given = ("runs", "scored", "next_logits", "texts", "temperatures", "tokens")  # by choose_temperature itself
    known = [name for name in inspect.signature(rules[by]).parameters if name not in given]
    for name in rule:
        if name not in known:
            raise ValueError(
                f"{name}: must be an argument of by={by!r}, one of {', '.join(known)}; got {name!r}; mend its name"
            )
    if by in ("best_of", "vote") and score is None:
        raise ValueError(f"score: must be given with by={by!r}; got None; pass what makes a Scored of the runs")
    if by == "turning_point" and (why := unfit_for_turning(temperatures)):
        raise ValueError(f"temperatures: {why}; take 0.1, 0.2, ... 1.4")
    if by == "entropy":
        _check_entropy(rule.get("entropy"), temperatures)
    if by == "best_of":
        _check_k(rule.get("k", 1), samples)
    _check_resampling(rule.get("confidence", 0.95), rule.get("replicates", 1000), rule.get("seed", 0))


def unfit_for_turning(temperatures: Sequence[float] | np.ndarray) -> str | None:
    """Why a grid has no turning point: what it must be and what it is; None where it has one."""
    t = np.sort(np.asarray(temperatures, dtype=np.float64))
    if len(t) >= 5 and t[0] > 0 and math.isfinite(t[-1]):
        return None
    got = f"{len(t)}" if len(t) < 5 else "0 among them" if t[0] <= 0 else f"{t[-1]:g} among them"
    return f"must be five positive, finite temperatures or more; got {got}"


def _check_entropy(entropy: Any, temperatures: Sequence[float] | np.ndarray) -> None:
    if not isinstance(entropy, REAL) or not 0 < entropy < math.inf:
        raise ValueError(f"entropy: must be positive and finite, in nats per token; got {entropy}; give 1.0, say")
    if len(temperatures) < 2:
        raise ValueError(
            f"temperatures: must be two or more, between which the entropy is met; got {list(temperatures)}; give more"
        )


def _check_k(k: Any, samples: int) -> None:
    if not isinstance(k, WHOLE) or not 1 <= k <= samples:
        raise ValueError(f"k: must be a whole number from 1 to {samples}, the samples; got {k}; draw more, or lower k")


def _check_resampling(confidence: Any, replicates: Any, seed: Any) -> None:
    if not isinstance(confidence, REAL) or not 0 < confidence < 1:
        raise ValueError(f"confidence: must lie in (0, 1); got {confidence}; give 0.95, say")
    for name, value in (("replicates", replicates), ("seed", seed)):
        if not isinstance(value, WHOLE) or value < 0:
            raise ValueError(f"{name}: must be a whole number, 0 at least; got {value}; give 1000, say")


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
    if why := unfit_for_turning(t):
        raise ValueError(f"runs: {why}; take 0.1, 0.2, ... 1.4")
    _check_resampling(confidence, replicates, seed)
    of_texts = runs.sums["entropy"] / np.maximum(runs.counts, 1)

    def choose(entropy: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            bend = np.gradient(np.gradient(np.log(entropy), t, axis=-1), t, axis=-1)[..., 1:-1] > 0
        bend[..., -1] |= ~bend.any(axis=-1)
        return np.arange(len(t)) == bend.argmax(axis=-1)[..., None] + 1

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
    _check_entropy(entropy, runs.temperatures)
    _check_resampling(confidence, replicates, seed)
    part = runs.sums["entropy"].sum(axis=2), runs.counts.sum(axis=2).astype(float)
    return of_crossing(
        "entropy", "entropy", runs.temperatures, part, lambda h: h - entropy, confidence, replicates, seed
    )


# -- by a scorer -------------------------------------------------------------------------------------------


def best_score(
    runs: Runs, scored: Scored, *, k: int = 1, confidence: float = 0.95, replicates: int = 1000, seed: int = 0
) -> TemperatureChoice:
    """The temperature of the grid at which the best of k texts scores highest.

    Temperatures that are equal share a replicate, so that the interval spans them; of those that are equal in the
    whole sample (`tied`) the one with the larger share is taken, then the colder one; of None where all are equal.

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
    _check_k(k, np.shape(scored.scores)[2])
    _check_resampling(confidence, replicates, seed)
    part = score_parts(scored, k)["score" if k == 1 else f"best_of_{k}"]
    name = "score" if k == 1 else f"best of {k}"
    return of_grid("best_of", name, runs.temperatures, part, _largest, 0.0, confidence, replicates, seed)


def best_vote(
    runs: Runs, scored: Scored, *, confidence: float = 0.95, replicates: int = 1000, seed: int = 0
) -> TemperatureChoice:
    """The temperature of the grid at which a majority vote of all samples of a prompt scores highest.

    Ties are those of `best_score`.

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
    _check_resampling(confidence, replicates, seed)
    part = score_parts(scored, 1)["vote"]
    return of_grid("vote", "vote", runs.temperatures, part, _largest, 0.0, confidence, replicates, seed)


def _largest(values: np.ndarray) -> np.ndarray:
    """Which are the largest of each row, but for rounding; NaN is never."""
    known = np.where(np.isnan(values), -math.inf, values)
    size = np.abs(np.where(np.isfinite(known), known, 0.0)).max(axis=-1, keepdims=True)
    return np.asarray(known >= known.max(axis=-1, keepdims=True) - ROUNDING * size)
