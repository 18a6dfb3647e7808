"""Answers of which only the largest log-probabilities are known, as interfaces to language models give them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_array, describe, dtype_name, to_numpy
from logitherm.calibration.truncated.fillings import Filling, Truncated, half_of_most, power_law
from logitherm.kernels import exponential

ROUNDING = 1e-3  # by which the probabilities of a row may exceed 1


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
    def of_tokens(cls, log_probabilities: Array, *, states: int, occurred: Array | None = None) -> TopAnswers:
        """The most probable tokens of a vocabulary.

        The others share exactly what is left of 1, and none of them has more than the least of the listed ones.

        Parameters
        ----------
        log_probabilities : floating array, shape (n, k)
            Natural logarithms at T = 1, in any order; -inf for an empty column.
        states : int
            Size of the vocabulary.
        occurred : floating array, shape (n,), optional
            Log-probability of the token that occurred where it is not among the k but known all the same, -inf
            elsewhere. It becomes column k.

        Raises
        ------
        ValueError
            Not log-probabilities: NaN, more than 1 together, or too little for so few states.
        """
        known = listed = _as_log_probabilities(log_probabilities)
        if occurred is not None:
            extra = to_numpy(as_array(occurred, "occurred")).astype(np.float64)
            if extra.shape != (len(known),):
                raise ValueError(f"occurred: must have shape ({len(known)},); got {describe(extra)}; give one a row")
            listed = _as_log_probabilities(np.concatenate([known, extra[:, None]], axis=1))
        missing = states - (listed > -math.inf).sum(axis=1)
        if missing.min() < 0:
            raise ValueError(
                f"states: must be at least as many as are listed; got {states} for {states - missing.min()}; give the "
                "size of the vocabulary"
            )
        log_mass, log_cap = _left(listed), _least(known)
        with np.errstate(divide="ignore"):
            most = log_cap + np.log(missing)
        short = np.flatnonzero((log_mass > most + ROUNDING) & (log_mass > math.log(ROUNDING)))
        if len(short):
            row = int(short[0])
            raise ValueError(
                f"states: must be enough to share what is not listed; row {row} leaves "
                f"{exponential(log_mass[row]):.3g} to {missing[row]} states of at most "
                f"{exponential(log_cap[row]):.3g}; give the size of the vocabulary"
            )
        return cls(_sound(listed, np.minimum(log_mass, most), log_cap, missing, True))

    @classmethod
    def of_choices(cls, answers: Iterable[Mapping[str, float]], choices: Sequence[str]) -> TopAnswers:
        """Multiple choice: only the choices are states.

        A choice that is not listed has no more than the least token that is, and all of these no more than what is
        left of 1.

        Parameters
        ----------
        answers : iterable of mappings
            Of every row the listed tokens with their log-probabilities: `logitherm.integrations.logprobs` reads them
            from the answers of common interfaces.
        choices : sequence of str
            The tokens of the choices, in the order of the columns.

        Raises
        ------
        ValueError
            A row in which no choice is listed; impossible probabilities.
        """
        if isinstance(choices, str) or len(choices) < 2 or len(set(choices)) < len(choices):
            raise ValueError(f"choices: must be two different tokens or more; got {choices!r}; give ['A', 'B'], say")
        known = [dict(answer) for answer in answers]
        width = max((len(answer) for answer in known), default=0)
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
        return cls(_sound(listed, _left(every), _least(every), missing, False))

    def take(self, rows: np.ndarray) -> TopAnswers:
        """Some of the rows."""
        return TopAnswers(self.rows.take(rows))

    def filling(self) -> Filling:
        """A guess at what is missing, between the extremes."""
        return power_law(self.rows) if self.rows.all_spent else half_of_most(self.rows)


def _as_log_probabilities(values: Any) -> np.ndarray:
    given = as_array(values, "log_probabilities")
    if given.ndim != 2 or 0 in given.shape or "float" not in dtype_name(given):
        raise ValueError(
            f"log_probabilities: must be floating, of shape (rows, listed); got {describe(given)}; give natural "
            "logarithms"
        )
    found = to_numpy(given).astype(np.float64)
    largest, total = found.max(axis=1), exponential(np.minimum(found, 1.0)).sum(axis=1)
    bad = np.flatnonzero(~((largest > -math.inf) & (total <= 1 + ROUNDING)))
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"log_probabilities: must be logarithms of at most 1 together; row {row} has {found[row, :5].tolist()} "
            f"({len(bad)} such in all); give natural logarithms of probabilities at temperature 1"
        )
    return found


def _left(listed: np.ndarray) -> np.ndarray:
    """Logarithm of what the listed states leave of 1."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.clip(1 - exponential(listed).sum(axis=1), 0.0, None)))


def _least(listed: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(listed > -math.inf, listed, math.inf).min(axis=1))


def _sound(
    listed: np.ndarray, log_mass: np.ndarray, log_cap: np.ndarray, missing: np.ndarray, all_spent: bool
) -> Truncated:
    """Nothing where no state is missing; no state with more than all of them."""
    log_mass = np.where(missing > 0, log_mass, -math.inf)
    log_cap = np.where(log_mass > -math.inf, np.minimum(log_cap, log_mass), log_cap)
    return Truncated(listed, log_mass, log_cap, np.maximum(missing, 1.0), all_spent)
