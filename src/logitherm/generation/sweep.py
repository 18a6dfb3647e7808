"""The numbers of texts against temperature, with intervals over prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from logitherm._json import plain
from logitherm.generation import texts as of
from logitherm.generation.resampling import interval, prompt_weights, ratio
from logitherm.generation.runs import Runs
from logitherm.generation.texts.diversity import first_tokens
from logitherm.metrics.analytic import wilson


@dataclass(frozen=True)
class Curve:
    """A number at every temperature with its interval; NaN where there is none."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Scored:
    """What a scorer said of the texts of a `Runs`.

    Attributes
    ----------
    scores : float64 array, shape (temperatures, prompts, samples)
    answers : nested lists of that shape, or None
        What votes are counted by.
    """

    scores: np.ndarray
    answers: list[list[list[Hashable]]] | None = None


@dataclass(frozen=True)
class Sweep:
    """Numbers against temperature.

    Attributes
    ----------
    temperatures : array
    curves : dict of str to Curve
        `entropy`, `model_entropy`, `surprise`, `model_surprise`, `heat_capacity`: means over tokens, of `TokenNumbers`;
        `excess`: model_surprise - model_entropy, above 0 for text stranger than the model would write at T = 1, below
        it for text that is more predictable; `perplexity`: exp of model_surprise; `loop_rate`: share of texts that end
        in a loop; `repeated_4`: mean of `repeated_n` of texts; `distinct_2`, `compression_ratio`, `self_bleu`: of the
        texts of a prompt, mean over prompts; `length`: mean tokens of texts. With scores: `score`, their mean;
        `best_of_K`, for scores of 0 and 1 pass@K; with answers `vote`.
    prompts, samples, replicates : int
    confidence : float
    counted : list of int
        Tokens of every prompt that `distinct_2` and `compression_ratio` read at each temperature: what all have.
    """

    temperatures: np.ndarray
    curves: dict[str, Curve]
    prompts: int
    samples: int
    confidence: float
    replicates: int
    counted: list[int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for what is not finite."""
        return dict(plain(asdict(self)))


Decode = Callable[[Sequence[int]], str]


def measure(
    runs: Runs,
    *,
    decode: Decode | None = None,
    scored: Scored | None = None,
    k: int | None = None,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Sweep:
    """All numbers about the texts of a `Runs` that need no choice, with bootstrap intervals over prompts.

    Prompts are resampled whole, the same ones at all temperatures, and the ends of the intervals are moved out for few
    prompts. One prompt has no intervals. That of the loop rate is at least as wide as Wilson's for independent texts.

    Parameters
    ----------
    runs : Runs
    decode : callable, optional
        Text of tokens, for the compression ratio; without it that is of the tokens as four bytes each.
    scored : Scored, optional
    k : int, optional
        Of `best_of`; by default the number of samples, or 8 of more.
    confidence : float
    replicates : int
    seed : int
        Of the resampling.

    Returns
    -------
    Sweep

    References
    ----------
    Those of `logitherm.generation.texts`; Hesterberg (2015) for the intervals.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.runs import draw_texts
    >>> def next_logits(sequences):
    ...     return np.array([[4.0 * (word == (s[-1] + 1) % 3) for word in range(3)] for s in sequences])
    >>> runs = draw_texts(next_logits, [[0], [1], [2]], [0.1, 1.0, 5.0], samples=2, tokens=12)
    >>> found = measure(runs)
    >>> found.curves["loop_rate"].value.tolist()
    [1.0, 0.3333333333333333, 0.0]
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: must lie in (0, 1); got {confidence}; give 0.95, say")
    prompts = len(runs.prompts)
    weights = prompt_weights(prompts, replicates, seed)
    parts, counted = _parts(runs, decode)
    if scored is not None:
        parts |= score_parts(scored, k)
    curves = {name: _curve(*part, weights, confidence) for name, part in parts.items()}
    curves["loop_rate"] = _at_least_wilson(curves["loop_rate"], prompts * runs.samples, confidence)
    surprise = curves["model_surprise"]
    with np.errstate(over="ignore"):
        curves["perplexity"] = Curve(*(np.exp(v) for v in (surprise.value, surprise.low, surprise.high)))
    return Sweep(runs.temperatures, curves, prompts, runs.samples, confidence, replicates, counted)


Part = tuple[np.ndarray, np.ndarray]  # numerators and denominators, (temperatures, prompts)


def _curve(numerator: np.ndarray, denominator: np.ndarray, weights: np.ndarray, confidence: float) -> Curve:
    prompts = numerator.shape[1]
    value = ratio(numerator, denominator, np.ones((1, prompts)))[0]
    low, high = interval(value, ratio(numerator, denominator, weights), confidence, prompts)
    return Curve(value, low, high)


def _at_least_wilson(curve: Curve, texts: int, confidence: float) -> Curve:
    """The interval of a share, no narrower than that of independent texts: of none, resampling has no doubt."""
    ends = np.array([wilson(float(v), texts, confidence) if np.isfinite(v) else (v, v) for v in curve.value])
    return Curve(curve.value, np.minimum(curve.low, ends[:, 0]), np.maximum(curve.high, ends[:, 1]))


def of_known(values: np.ndarray) -> Part:
    """A mean over prompts as a ratio of sums, in which NaN does not count."""
    known = ~np.isnan(values)
    return np.where(known, values, 0.0), known.astype(float)


def _parts(runs: Runs, decode: Decode | None) -> tuple[dict[str, Part], list[int]]:
    counts = runs.counts.sum(axis=2).astype(float)
    sums = {name: values.sum(axis=2) for name, values in runs.sums.items()}
    sums["excess"] = sums["model_surprise"] - sums["model_entropy"]
    parts = {name: (values, counts) for name, values in sums.items()}
    lengths = np.array([[[len(text) for text in of_prompt] for of_prompt in at] for at in runs.texts])
    counted = lengths.sum(axis=2).min(axis=0)

    def spell(tokens: Any) -> bytes:
        return np.asarray(tokens, dtype="<u4").tobytes() if decode is None else decode(tokens).encode()

    def each(number: Callable[[list[list[int]], int], float]) -> Part:
        found = [[number(texts, int(counted[p])) for p, texts in enumerate(at)] for at in runs.texts]
        return of_known(np.array(found, dtype=np.float64))

    def compression(texts: list[list[int]], count: int) -> float:
        return of.compression_ratio([spell(text) for text in first_tokens(texts, count)])

    parts["loop_rate"] = each(lambda texts, count: of.loop_rate(texts))
    parts["repeated_4"] = each(lambda texts, count: _mean([of.repeated_n(text, 4) for text in texts]))
    parts["distinct_2"] = each(lambda texts, count: of.distinct_n(texts, 2, tokens=count))
    parts["compression_ratio"] = each(compression)
    parts["self_bleu"] = each(lambda texts, count: of.self_bleu(texts))
    parts["length"] = of_known(lengths.mean(axis=2))
    return parts, [int(count) for count in counted]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def score_parts(scored: Scored, k: int | None = None) -> dict[str, Part]:
    """Mean score, best of k and vote, of every prompt at every temperature."""
    scores = np.asarray(scored.scores, dtype=np.float64)
    k = min(8, scores.shape[2]) if k is None else k
    parts = {"score": of_known(scores.mean(axis=2))}
    if k > 1:
        best = [[of.best_of(each, k) for each in at] for at in scores]
        parts[f"best_of_{k}"] = of_known(np.array(best))
    if scored.answers is not None:
        votes = [
            [of.majority_vote(a, s) for a, s in zip(answers, each)] for answers, each in zip(scored.answers, scores)
        ]
        parts["vote"] = of_known(np.array(votes))
    return parts


Scorer = Callable[[str, str], Any]


def score_runs(
    runs: Runs, scorer: Scorer, prompts: Sequence[str], decode: Decode, *, name: str | None = None
) -> Scored:
    """Apply a scorer to every text.

    Parameters
    ----------
    runs : Runs
    scorer : callable
        Of the prompt and the text that follows it: a number, the higher the better, 1 for right and 0 for wrong say; or
        a pair of an answer, by which votes are counted (None for no answer), and its number. The same kind always.
    prompts : sequence of str
    decode : callable
    name : str, optional
        Of the scorer, for messages.

    Returns
    -------
    Scored

    Raises
    ------
    ValueError
        What a scorer returns is neither, is not finite, or changes its kind; or it raises, as the cause then says.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.runs import draw_texts
    >>> runs = draw_texts(lambda s: np.zeros((len(s), 2)), [[0]], [1.0], samples=2, tokens=3)
    >>> found = score_runs(runs, lambda prompt, text: len(text), ["?"], lambda tokens: "a" * len(tokens))
    >>> found.scores.tolist()
    [[[3.0, 3.0]]]
    """
    name = name or str(getattr(scorer, "__name__", type(scorer).__name__))
    scores = np.zeros(runs.counts.shape)
    answers: list[list[list[Hashable]]] = []
    kinds: set[bool] = set()
    for t, at in enumerate(runs.texts):
        answers.append([])
        for p, of_prompt in enumerate(at):
            answers[-1].append([])
            for s, tokens in enumerate(of_prompt):
                where = f"prompt {p + 1} ({_shortened(prompts[p])!r})"
                said = _say(scorer, prompts[p], decode(tokens), name, where)
                answer, scores[t, p, s] = _pair(said, kinds, name, where)
                answers[-1][-1].append(answer)
    return Scored(scores, answers if kinds == {True} else None)


def _say(scorer: Scorer, prompt: str, text: str, name: str, where: str) -> Any:
    try:
        return scorer(prompt, text)
    except Exception as error:  # it is not ours: whatever it raises
        reason = _shortened(" ".join(str(error).split()), 200) or "no message"
        raise ValueError(f"scorer: {name} raised {type(error).__name__} for {where}: {reason}; mend it") from error


def _pair(said: Any, kinds: set[bool], name: str, where: str) -> tuple[Hashable, float]:
    pair = isinstance(said, tuple) and len(said) == 2
    kinds.add(pair)
    answer, score = said if pair else (None, said)
    known = isinstance(score, (bool, int, float, np.number)) and math.isfinite(score)
    if not known or len(kinds) > 1 or not isinstance(answer, Hashable):
        raise ValueError(
            "scorer: must return a finite number, or always (answer, number), the answer hashable; "
            f"{name} returned {said!r:.60} for {where}; mend it"
        )
    return answer, float(score)


def _shortened(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
