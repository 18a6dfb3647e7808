"""The log-probabilities in the answers of OpenAI-style interfaces and of vLLM, for `TopAnswers`.

Reads objects as well as dicts from JSON; needs neither library. The interface must give log-probabilities at T = 1:
vLLM does by default (`logprobs_mode="raw_logprobs"`); others may give them after temperature and truncation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from logitherm._array import describe

KINDS = "an OpenAI chat completion or completion, or a vLLM RequestOutput, made with logprobs"


def listed_tokens(answer: Any, k: int, position: int = 0) -> dict[str, float]:
    """The k most probable tokens at one position of a generated answer, with log-probabilities, for `of_choices`.

    Of two tokens that read the same the less probable one has "#2" added, and so on. A token that was drawn from beyond
    the k largest, which interfaces list as well, is left out: it says nothing of the others.

    Parameters
    ----------
    answer : object or dict
        An OpenAI chat completion (`logprobs=True, top_logprobs=k`) or completion (`logprobs=k`), or a `RequestOutput`
        of vLLM (`SamplingParams(logprobs=k)`); its first choice is read.
    k : int
        How many were asked for.
    position : int
        Of the generated token.

    Raises
    ------
    ValueError
        Another kind of answer, one without log-probabilities, or a position beyond its end.

    Examples
    --------
    >>> answer = {"choices": [{"logprobs": {"content": [
    ...     {"token": "A", "logprob": -0.1, "top_logprobs": [
    ...         {"token": "A", "logprob": -0.1}, {"token": "B", "logprob": -2.6}]}]}}]}
    >>> listed_tokens(answer, 2)
    {'A': -0.1, 'B': -2.6}
    """
    positions = _generated(answer)
    if not 0 <= position < len(positions):
        raise ValueError(f"position: must be one of the {len(positions)} tokens of the answer; got {position}")
    found: dict[str, float] = {}
    for token, value in sorted(positions[position], key=lambda pair: -pair[1])[:k]:
        name, count = token, 1
        while name in found:
            count += 1
            name = f"{token}#{count}"
        found[name] = value
    return found


def scored_tokens(answer: Any, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k largest log-probabilities at every position of a scored text, that of its own token, and where it stands.

    For `TopAnswers.of_tokens(log_probabilities, states=..., occurred=occurred)` and the labels of its fit.

    Parameters
    ----------
    answer : object or dict
        A `RequestOutput` of vLLM (`SamplingParams(prompt_logprobs=k)`), or an OpenAI completion with the text echoed
        (`echo=True, logprobs=k`). The first token, which nothing predicts, is left out.
    k : int
        How many were asked for; a token of the text from beyond these is listed as well.

    Returns
    -------
    log_probabilities : array, shape (n, k)
        Largest first; -inf where fewer are listed.
    occurred : array, shape (n,)
        Log-probability of the token of the text where it is not among them, else -inf.
    labels : array of integers, shape (n,)
        Its column; k where it is not among them.

    Raises
    ------
    ValueError
        Another kind of answer; a position that does not list the token of the text.
    """
    positions, tokens = _prompt(answer)
    log_p, occurred = np.full((len(tokens), k), -math.inf), np.full(len(tokens), -math.inf)
    labels = np.full(len(tokens), k)
    for row, (listed, token) in enumerate(zip(positions, tokens, strict=True)):
        values = {key: _number(value) for key, value in listed.items()}
        if token not in values:
            raise ValueError(f"answer: must list the token of the text; position {row + 1} lists none such; ask for it")
        order = sorted(values, key=lambda key: -values[key])
        log_p[row, : len(order[:k])] = [values[key] for key in order[:k]]
        if token in order[:k]:
            labels[row] = order.index(token)
        else:
            occurred[row] = values[token]
    return log_p, occurred, labels


def _prompt(answer: Any) -> tuple[Sequence[Mapping[Any, Any]], Sequence[Any]]:
    """What is listed at every position of the text but the first, and the token there."""
    listed = _get(answer, "prompt_logprobs")
    if listed:
        return listed[1:], list(_get(answer, "prompt_token_ids"))[1:]
    choices = _get(answer, "choices")
    found = _get(choices[0], "logprobs") if choices else None
    if found is None or not _get(found, "top_logprobs"):
        raise ValueError(
            f"answer: must be {KINDS} of the text; got {describe(answer)}; ask for prompt_logprobs or echo"
        )
    return _get(found, "top_logprobs")[1:], _get(found, "tokens")[1:]


def _generated(answer: Any) -> list[list[tuple[str, float]]]:
    """Tokens and log-probabilities listed at every position."""
    outputs, choices = _get(answer, "outputs"), _get(answer, "choices")
    if outputs and _get(outputs[0], "logprobs"):
        return [_pairs(listed) for listed in _get(outputs[0], "logprobs")]
    found = _get(choices[0], "logprobs") if choices else None
    if found is not None and _get(found, "content"):
        listed = [_get(each, "top_logprobs") or [] for each in _get(found, "content")]
        if all(listed):
            return [[(_get(each, "token"), _get(each, "logprob")) for each in tokens] for tokens in listed]
    if found is not None and _get(found, "top_logprobs"):
        return [_pairs(listed or {}) for listed in _get(found, "top_logprobs")]
    raise ValueError(f"answer: must be {KINDS}; got {describe(answer)}; ask for logprobs, of the top tokens too")


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _number(value: Any) -> float:
    return float(value if isinstance(value, (int, float)) else _get(value, "logprob"))


def _pairs(listed: Mapping[Any, Any]) -> list[tuple[str, float]]:
    """Tokens and numbers of {token: number}, or of vLLM's {id: Logprob}."""
    return [(_get(value, "decoded_token") or str(key), _number(value)) for key, value in listed.items()]
