"""The log-probabilities in the answers of OpenAI-style interfaces and of vLLM, for `TopAnswers` and for distillation.

Reads objects as well as dicts from JSON; needs neither library. For `TopAnswers` the interface must give
log-probabilities at T = 1: vLLM does by default (`logprobs_mode="raw_logprobs"`); others may give them after
temperature and truncation. For distillation they may have any temperature that is known, and it must be said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from logitherm._array import describe

if TYPE_CHECKING:
    from logitherm.distillation import SparseTeacher

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


def teacher_of_prompts(
    prompts: Iterable[Any], *, k: int, states: int, temperature: float, length: int | None = None
) -> SparseTeacher:
    """A `SparseTeacher` of what vLLM says of given texts: of each one its `prompt_logprobs`.

    Entry i of `prompt_logprobs` is the law of token i, so that of the logits at position i - 1; the first is None. So
    there is a row for every token of a text but the first, one text after the other: those of `logits[:, :-1]` and of
    the labels `tokens[:, 1:]`. Every row keeps the k most probable tokens. The text's own token, which vLLM lists from
    beyond these too, is then part of the tail: rows have equally many tokens, and the law of k and the tail is exact.

    Parameters
    ----------
    prompts : iterable
        Of every text of a batch the list of {token: log-probability} that vLLM gives for `prompt_logprobs=k`: its
        objects, or what its server sends, tokens as strings.
    k : int
        How many were asked for.
    states : int
        Size of the vocabulary.
    temperature : float
        T at which the log-probabilities were computed, as `SparseTeacher.from_log_probabilities` has it. vLLM leaves
        the temperature of a request out of those of its prompt, whose T is 1; with `logprobs_mode="raw_logits"` or
        `"processed_logits"` they are logits, and of no use here. Of a patched or another server ask.
    length : int, optional
        Tokens of a text with its padding on the right, if others are longer than all of these. Rows of the padding say
        nothing (the uniform law); their labels must be -100.

    Raises
    ------
    ValueError
        What is no such list; a position that lists fewer than k tokens; a text longer than `length`; log-probabilities
        that are none.

    Examples
    --------
    >>> listed = [None, {"7": {"logprob": -0.3, "rank": 1}, "2": {"logprob": -2.0, "rank": 2}}]
    >>> teacher = teacher_of_prompts([listed], k=2, states=50, temperature=1.0)
    >>> teacher.tokens.tolist(), [round(p, 3) for p in teacher.log_law(1.0).exp()[0].tolist()]
    ([[7, 2]], [0.741, 0.135, 0.124])
    """
    try:
        import torch
    except ImportError as error:
        from logitherm.io import MissingExtra

        raise MissingExtra("teacher_of_prompts", "torch", "torch") from error

    from logitherm.distillation import SparseTeacher

    if not 1 <= k <= states:
        raise ValueError(f"k: must lie between 1 and the {states} states; got {k}; it is how many were asked for")
    prompts = list(prompts)
    for text, listed in enumerate(prompts):
        if not isinstance(listed, Sequence) or isinstance(listed, str) or not len(listed) or listed[0]:
            raise ValueError(
                f"prompts: must each be a list that begins with None; text {text} is {describe(listed)}; pass the "
                "prompt_logprobs of every text"
            )
    longest = max((len(listed) for listed in prompts), default=1)
    length = longest if length is None else length
    if longest > length:
        raise ValueError(f"length: must be at least that of the longest text, {longest}; got {length}; ask for less")
    tokens = np.tile(np.arange(k), (len(prompts), length - 1, 1))
    log_p = np.full(tokens.shape, -math.log(states), dtype=np.float32)
    for text, listed in enumerate(prompts):
        for i in range(1, len(listed)):
            tokens[text, i - 1], log_p[text, i - 1] = _largest(listed[i], k, text, i)
    return SparseTeacher.from_log_probabilities(
        torch.from_numpy(tokens.reshape(-1, k)),
        torch.from_numpy(log_p.reshape(-1, k)),
        temperature=temperature,
        states=states,
    )


def _largest(listed: Any, k: int, text: int, position: int) -> tuple[list[int], list[float]]:
    """The k most probable of the tokens listed at a position of a text."""
    try:
        values = {int(token): _number(value) for token, value in listed.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            f"prompts: must list token numbers and log-probabilities; position {position} of text {text} has "
            f"{describe(listed)}; pass vLLM's prompt_logprobs"
        ) from None
    order = sorted(values, key=lambda token: -values[token])[:k]
    if len(order) < k:
        raise ValueError(
            f"prompts: must list {k} tokens everywhere; position {position} of text {text} lists {len(order)}; ask for "
            f"prompt_logprobs={k}"
        )
    return order, [values[token] for token in order]


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
