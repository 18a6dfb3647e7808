"""Answers of language models, one JSON object a line: the listed log-probabilities, and what was right or occurred."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from logitherm.io.errors import InputError, listing, require_file
from logitherm.kernels import exponential

BEYOND = 1e-3  # by which rounded probabilities may exceed 1 together
SHAPE = '{"logprobs": {"A": -0.1, "B": -2.5}, "answer": "A"}'

Response = Callable[[Any], Mapping[str, float]]


class Answer(NamedTuple):
    """One line."""

    line: int  # in the file, from 1
    listed: dict[str, float]  # natural logarithms, at least one
    answer: str | None


def read_answers(
    path: Path, response: Response, *, need_answer: bool = True, choices: Collection[str] | None = None
) -> list[Answer]:
    """The answers of a file; blank lines are passed over.

    Each line has the tokens with their log-probabilities in `logprobs`; or, in `response` or in the line itself, what
    an interface answered, which `response` makes such a mapping of.

    Parameters
    ----------
    path : Path
    response : callable
        `logitherm.integrations.logprobs.listed_tokens`, with what it needs.
    need_answer : bool
        Whether each line must have an `answer`.
    choices : collection of str, optional
        One of them must be listed, and the answer must be one of them.

    Raises
    ------
    InputError
        Anything wrong with a line: one line with the file, the number of the line, the rule, what came, what to do.
    """
    require_file(path)
    found = []
    for line, text in _lines(path):
        place = f"{path}, line {line}"
        values = _parsed(text, place)
        listed, answer = _listed(values, response, place), values.get("answer")
        if choices is not None and not any(choice in listed for choice in choices):
            raise InputError(
                f"{place}: must list one of the choices {_quoted(choices)}; lists {_quoted(listed)}; leave "
                "the line out, or give the choices as they are listed, with a space before perhaps"
            )
        if need_answer:
            _require_answer(answer, choices, place)
        found.append(Answer(line, listed, answer))
    if not found:
        raise InputError(f"{path}: must have a line for every answer; it has none; write lines like {SHAPE}")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Those that are not blank, with their numbers."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if text.strip():
                    yield line, text
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: must be text in UTF-8; cannot be read as such ({error.reason}); convert it"
        ) from error


def _parsed(text: str, place: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{place}: must be a JSON object; cannot be read ({error}); write lines like {SHAPE}"
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"{place}: must be a JSON object; got a {type(values).__name__}; write lines like {SHAPE}")
    return values


def _listed(values: dict[str, Any], response: Response, place: str) -> dict[str, float]:
    listed = values.get("logprobs")
    if not isinstance(listed, Mapping):
        answer = values.get("response", values)
        answer = answer["body"] if isinstance(answer, Mapping) and "body" in answer else answer  # of a batch
        try:
            listed = response(answer)
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise InputError(
                f"{place}: must have `logprobs`, or the response of an interface that has them; got "
                f"{listing(list(values))} ({error}); write lines like {SHAPE}"
            ) from error
    if not listed:
        raise InputError(f"{place}: logprobs must list tokens; lists none; leave the line out")
    for token, value in listed.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -math.inf < value <= BEYOND:
            raise InputError(
                f"{place}: logprobs must be natural logarithms of probabilities; {token!r} has {value!r}; mend the line"
            )
    total = sum(float(exponential(float(value))) for value in listed.values())
    if total > 1 + BEYOND:
        raise InputError(
            f"{place}: probabilities must be at most 1 together; these are {total:.4g}; give natural logarithms at "
            "temperature 1"
        )
    return {str(token): float(value) for token, value in listed.items()}


def _quoted(tokens: Collection[str]) -> str:
    """Tokens as they differ: a space before one is part of it."""
    return listing([repr(token) for token in tokens])


def _require_answer(answer: Any, choices: Collection[str] | None, place: str) -> None:
    if not isinstance(answer, str):
        raise InputError(f"{place}: must have an `answer`, a token; got {answer!r}; write lines like {SHAPE}")
    if choices is not None and answer not in choices:
        raise InputError(
            f"{place}: the answer must be one of the choices {_quoted(choices)}; got {answer!r}; mend the line"
        )
