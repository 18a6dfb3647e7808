"""Answers of which only the largest log-probabilities are known, as interfaces to language models give them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_array, describe, dtype_name, to_numpy
from logitherm.calibration.truncated.fillings import Filling, Truncated, even, power_law
from logitherm.kernels import exponential
from logitherm.metrics.options import as_count

BEYOND = 1e-3  # by which the probabilities of a row may exceed 1


@dataclass(frozen=True)
class TopAnswers:
    """What is known of every row; made by `of_tokens` or `of_choices`.

    Attributes
    ----------
    rows : Truncated
        Log-probabilities of the listed states, and what bounds the others.
    """

    rows: Truncated

    def __len__(self) -> int:
        return len(self.rows.listed)

    @property
    def log_probabilities(self) -> np.ndarray:
        """Of the columns, at T = 1: shape (n, columns), -inf for what is not listed."""
        return self.rows.listed

    @classmethod
    def of_tokens(
        cls, log_probabilities: Array, *, states: int, occurred: Array | None = None, rounding: float = 1e-6
    ) -> TopAnswers:
        """The most probable tokens of a vocabulary.

        The others share what is left of 1, known up to the rounding, and none of them has more than the least of the
        listed ones.

        Parameters
        ----------
        log_probabilities : floating array, shape (n, k)
            Natural logarithms at T = 1, in any order; -inf for an empty column.
        states : int
            Size of the vocabulary.
        occurred : floating array, shape (n,), optional
            Log-probability of the token that occurred where it is not among the k but known all the same, -inf
            elsewhere. It becomes column k.
        rounding : float
            Absolute error of the log-probabilities: 1e-6 for those computed in float32, 5e-5 for four decimals. Where
            hardly anything is left of 1, it decides what the others may have, and heating magnifies that.

        Raises
        ------
        TypeError, ValueError
            Not log-probabilities: NaN, more than 1 together, or too little for so few states.
        """
        rounding = _as_rounding(rounding)
        known = listed = _as_log_probabilities(log_probabilities)
        if occurred is not None:
            extra = to_numpy(as_array(occurred, "occurred")).astype(np.float64)
            if extra.shape != (len(known),):
                raise ValueError(f"occurred: must have shape ({len(known)},); got {describe(extra)}; give one a row")
            listed = _as_log_probabilities(np.concatenate([known, extra[:, None]], axis=1))
        missing = as_count(states, "states", 1) - (listed > -math.inf).sum(axis=1)
        if missing.min() < 0:
            raise ValueError(
                f"states: must be at least as many as are listed; got {states} for {states - missing.min()}; give the "
                "size of the vocabulary"
            )
        left, cap = _left(listed), exponential(_least(known))
        short = np.flatnonzero(left - rounding > (1 + BEYOND) * missing * cap + BEYOND * (missing == 0))
        if len(short):
            row = int(short[0])
            raise ValueError(
                f"states: must be enough to share what is not listed; row {row} leaves {left[row]:.3g} to "
                f"{missing[row]} states of at most {cap[row]:.3g}; give the size of the vocabulary"
            )
        least = np.maximum(left - rounding, 0.0)
        guess = np.maximum(left, rounding / 2)
        return cls(_truncated(listed, guess, least, left + rounding, _least(known), missing, columns=False))

    @classmethod
    def of_choices(
        cls, answers: Iterable[Mapping[str, float]], choices: Sequence[str], *, rounding: float = 1e-6
    ) -> TopAnswers:
        """Multiple choice: only the choices are states.

        A choice that is not listed has no more than the least token that is, and all of these no more than what is
        left of 1. So an answer must list its most probable tokens and no other.

        Parameters
        ----------
        answers : iterable of mappings
            Of every row the listed tokens with their log-probabilities: `logitherm.integrations.logprobs` reads them
            from the answers of common interfaces.
        choices : sequence of str
            The tokens of the choices, in the order of the columns.
        rounding : float
            As in `of_tokens`.

        Raises
        ------
        ValueError
            A row in which no choice is listed; impossible probabilities.
        """
        if isinstance(choices, str) or len(choices) < 2 or len(set(choices)) < len(choices):
            raise ValueError(f"choices: must be two different tokens or more; got {choices!r}; give ['A', 'B'], say")
        known = [dict(answer) for answer in answers]
        width = max((len(answer) for answer in known), default=0)
        if not width:
            raise ValueError(f"answers: must list tokens; got {len(known)} answers that list none; add some")
        every = np.full((len(known), width), -math.inf)
        listed = np.full((len(known), len(choices)), -math.inf)
        for row, answer in enumerate(known):
            every[row, : len(answer)] = list(answer.values())
            listed[row] = [answer.get(choice, -math.inf) for choice in choices]
        every = _as_log_probabilities(every)
        none = np.flatnonzero((listed == -math.inf).all(axis=1))
        if len(none):
            raise ValueError(
                f"answers: must list one of the choices {list(choices)}; row {none[0]} lists "
                f"{list(known[none[0]])[:5]} ({len(none)} such in all); leave it out, or give the choices as they are "
                "listed, with a space before perhaps"
            )
        missing = (listed == -math.inf).sum(axis=1)
        most, none_left = _left(every) + _as_rounding(rounding), np.zeros(len(known))
        guess = np.minimum(most, missing * exponential(_least(every))) / 2
        return cls(_truncated(listed, guess, none_left, most, _least(every), missing, columns=True))

    def take(self, rows: np.ndarray) -> TopAnswers:
        """Some of the rows."""
        return TopAnswers(self.rows.take(rows))

    def filling(self) -> Filling:
        """A guess at what is missing, between the extremes."""
        return even(self.rows, self.rows.log_mass) if self.rows.columns else power_law(self.rows)


def _as_log_probabilities(values: Any) -> np.ndarray:
    given = as_array(values, "log_probabilities")
    if given.ndim != 2 or 0 in given.shape or "float" not in dtype_name(given):
        raise ValueError(
            f"log_probabilities: must be floating, of shape (rows, listed); got {describe(given)}; give natural "
            "logarithms"
        )
    found = to_numpy(given).astype(np.float64)
    largest, total = found.max(axis=1), exponential(np.minimum(found, 1.0)).sum(axis=1)
    bad = np.flatnonzero(~((largest > -math.inf) & (total <= 1 + BEYOND)))
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"log_probabilities: must be logarithms of at most 1 together; row {row} has {found[row, :5].tolist()} "
            f"({len(bad)} such in all); give natural logarithms of probabilities at temperature 1"
        )
    return found


def _as_rounding(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError(f"rounding: must be an error of log-probabilities in [0, 1); got {value!r}; 1e-6 is usual")
    return float(value)


def _left(listed: np.ndarray) -> np.ndarray:
    """What the listed states leave of 1."""
    return np.asarray(np.clip(1 - exponential(listed).sum(axis=1), 0.0, None))


def _least(listed: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(listed > -math.inf, listed, math.inf).min(axis=1))


def _truncated(
    listed: np.ndarray,
    guess: np.ndarray,
    least: np.ndarray,
    most: np.ndarray,
    log_cap: np.ndarray,
    missing: np.ndarray,
    *,
    columns: bool,
) -> Truncated:
    """Nothing where no state is missing; no state with more than all of them, nor these more than that many caps."""
    with np.errstate(divide="ignore"):
        room = log_cap + np.log(missing)
        log_guess, log_least, log_most = (np.minimum(np.log(mass), room) for mass in (guess, least, most))
    log_cap = np.where(log_most > -math.inf, np.minimum(log_cap, log_most), log_cap)
    return Truncated(listed, log_guess, log_least, log_most, log_cap, np.maximum(missing, 1.0), columns)
