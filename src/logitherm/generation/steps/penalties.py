"""Steps that look at the tokens so far."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitherm._array import Array, is_torch, like, namespace
from logitherm.generation.steps.context import Context, per_row, require

SCOPES = ("all", "generated")


def _seen(context: Context, scope: str, window: int | None, states: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, token and count of every token that occurred."""
    rows, tokens, counts = [], [], []
    for row, history in enumerate(context.history):
        part = history if scope == "all" else history[int(context.prompt_lengths[row]) :]
        part = part if window is None else part[max(0, len(part) - window) :]
        found, count = np.unique(part[(part >= 0) & (part < states)], return_counts=True)
        rows.append(np.full(len(found), row))
        tokens.append(found)
        counts.append(count)
    return np.concatenate(rows), np.concatenate(tokens), np.concatenate(counts)


def _changed(logits: Array, rows: np.ndarray, tokens: np.ndarray, values: Array) -> Array:
    """A copy with new values at these places."""
    z = logits.clone() if is_torch(logits) else logits.copy()
    z[like(rows, z), like(tokens, z)] = values
    return z


def _require_scope(scope: str, window: int | None) -> None:
    if scope not in SCOPES:
        raise ValueError(f"scope: must be one of {', '.join(SCOPES)}; got {scope!r}; 'all' counts the prompt too")
    if window is not None and window < 1:
        raise ValueError(f"window: must be at least 1; got {window}; leave it out for all tokens")


@dataclass(frozen=True)
class RepetitionPenalty:
    """Logits of tokens that occurred are divided by the penalty where positive and multiplied by it where negative.

    It depends on where the logits have their zero: give them as the model has them, before any temperature.

    Attributes
    ----------
    penalty : float or array of the batch shape
        > 0; 1 for none.
    scope : "all" or "generated"
        Whether the prompt counts.
    window : int, optional
        Only so many of the last tokens.

    References
    ----------
    Keskar, McCann, Varshney, Xiong and Socher (2019), CTRL, section 4.1.
    """

    kind: ClassVar[str] = "logits"
    needs_history: ClassVar[bool] = True
    penalty: Any
    scope: str = "all"
    window: int | None = None

    def __post_init__(self) -> None:
        _require_scope(self.scope, self.window)

    def __call__(self, logits: Array, context: Context) -> Array:
        penalty = per_row(self.penalty, logits.shape[0], "penalty")
        require((penalty > 0) & (penalty < math.inf), penalty, "penalty", "finite and positive", "1 is none")
        rows, tokens, _ = _seen(context, self.scope, self.window, logits.shape[1])
        if not len(rows):
            return logits
        xp = namespace(logits)
        old = logits[like(rows, logits), like(tokens, logits)]
        by = xp.astype(like(penalty[rows], logits), logits.dtype)
        return _changed(logits, rows, tokens, xp.where(old > 0, old / by, old * by))


@dataclass(frozen=True)
class PresencePenalty:
    """What is taken, once, from the logit of every token that occurred.

    Attributes
    ----------
    penalty : float or array of the batch shape
        In nats before the temperature; negative to encourage.
    scope, window
        As in `RepetitionPenalty`; by default the prompt does not count.

    References
    ----------
    OpenAI, API reference: presence and frequency penalties.
    """

    kind: ClassVar[str] = "logits"
    needs_history: ClassVar[bool] = True
    penalty: Any
    scope: str = "generated"
    window: int | None = None

    def __post_init__(self) -> None:
        _require_scope(self.scope, self.window)

    def _times(self, counts: np.ndarray) -> np.ndarray:
        return np.ones(len(counts))

    def __call__(self, logits: Array, context: Context) -> Array:
        penalty = per_row(self.penalty, logits.shape[0], "penalty")
        require(np.isfinite(penalty), penalty, "penalty", "finite", "0 is none")
        rows, tokens, counts = _seen(context, self.scope, self.window, logits.shape[1])
        if not len(rows):
            return logits
        xp = namespace(logits)
        less = xp.astype(like(penalty[rows] * self._times(counts), logits), logits.dtype)
        return _changed(logits, rows, tokens, logits[like(rows, logits), like(tokens, logits)] - less)


@dataclass(frozen=True)
class FrequencyPenalty(PresencePenalty):
    """What is taken from the logit of a token for every time that it occurred; otherwise as `PresencePenalty`."""

    def _times(self, counts: np.ndarray) -> np.ndarray:
        return counts.astype(np.float64)


@dataclass(frozen=True)
class DRY:
    """Do not repeat yourself: a token that would continue a repetition loses multiplier * base^(n - allowed), with n
    the number of last tokens that stood before it already.

    Attributes
    ----------
    multiplier : float
        In nats; 0 for none.
    base : float
        >= 1.
    allowed : int
        Repetitions shorter than this are free.
    window : int, optional
        Only so many of the last tokens.
    breakers : collection of int
        Tokens that no repetition is followed across: line breaks, quotation marks.

    References
    ----------
    p-e-w (2024), DRY: a modern repetition penalty, text-generation-webui pull request 5677.
    """

    kind: ClassVar[str] = "logits"
    needs_history: ClassVar[bool] = True
    multiplier: float
    base: float = 1.75
    allowed: int = 2
    window: int | None = None
    breakers: Collection[int] = ()

    def __post_init__(self) -> None:
        _require_scope("all", self.window)
        if not (0 <= self.multiplier < math.inf and 1 <= self.base < math.inf and self.allowed >= 1):
            raise ValueError(
                "multiplier: must be finite and at least 0, base finite and at least 1, allowed at least 1; got "
                f"{self.multiplier}, {self.base}, {self.allowed}; 0.8, 1.75 and 2 are usual"
            )

    def __call__(self, logits: Array, context: Context) -> Array:
        z, xp = logits, namespace(logits)
        for row, history in enumerate(context.history):
            part = history if self.window is None else history[max(0, len(history) - self.window) :]
            lengths = _continued(part, frozenset(self.breakers))
            tokens = np.array([t for t, n in lengths.items() if n >= self.allowed and 0 <= t < z.shape[1]], np.int64)
            if len(tokens):
                power = np.array([lengths[int(t)] - self.allowed for t in tokens], np.float64)
                less = xp.astype(like(self.multiplier * self.base**power, z), z.dtype)
                at = np.full(len(tokens), row)
                z = _changed(z, at, tokens, z[like(at, z), like(tokens, z)] - less)
        return z


def _continued(tokens: np.ndarray, breakers: frozenset[int]) -> dict[int, int]:
    """For every token that followed an earlier copy of the last tokens: the longest such copy (the Z algorithm on the
    reversed tokens, linear in their number)."""
    last = tokens[::-1].tolist()
    end = next((i for i, t in enumerate(last) if t in breakers), len(last))  # the repetition may not cross a breaker
    n = len(last)
    matched = [0] * n  # length of the common prefix of `last` and `last` from i on
    left = right = 0
    found: dict[int, int] = {}
    for i in range(1, n):
        if i < right:
            matched[i] = min(right - i, matched[i - left])
        while i + matched[i] < n and last[matched[i]] == last[i + matched[i]]:
            matched[i] += 1
        if i + matched[i] > right:
            left, right = i, i + matched[i]
        length = min(matched[i], end)
        if length > 0:
            follower = int(last[i - 1])
            if follower not in breakers:
                found[follower] = max(found.get(follower, 0), length)
    return found
