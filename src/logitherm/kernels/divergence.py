"""Losses between the laws of two blocks of logits, on the CPU: a divergence, and labels where they have a weight."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from logitherm._array import raise_bad_row
from logitherm.kernels import values
from logitherm.kernels.threads import map_blocks

KINDS = {"forward_kl": 0, "reverse_kl": 1}
BLOCK_VALUES = 1 << 18


class Loss(NamedTuple):
    """factor KL + hard (-log softmax(z)_label) for every row; all arrays are (rows,), float64, 0 < T < inf."""

    divergence: str
    t_s: np.ndarray
    t_t: np.ndarray
    factor: np.ndarray
    labels: np.ndarray  # int64; anything where hard is 0
    hard: np.ndarray
    softcap: float = math.inf  # of the student's logits, which are capped already

    def take(self, rows: slice) -> Loss:
        one = (value[rows] if isinstance(value, np.ndarray) else value for value in self)
        return Loss(*one)  # type: ignore[arg-type]


def whole(loss: Loss, student: np.ndarray, teacher: np.ndarray, *, slopes: bool, first_row: int = 0) -> np.ndarray:
    """The loss of every row, float64; with `slopes` the student's logits are overwritten by its slopes in them.

    For logits (rows, states) of one dtype, float32 or float64, contiguous.
    """
    kernels = _kernels()
    out = np.zeros(len(student))

    def work(rows: slice) -> None:
        kind, t_s, t_t, factor, labels, hard, softcap = loss.take(rows)
        bad = kernels.divergence(
            KINDS[kind], student[rows], teacher[rows], t_s, t_t, factor, labels, hard, softcap, slopes, out[rows]
        )
        for side, z, row in zip(("student", "teacher"), (student, teacher), bad):
            if row >= 0:
                raise_bad_row(side, first_row + rows.start + row, float(np.max(z[rows.start + row])), ())

    map_blocks(work, len(student), student.shape[1], BLOCK_VALUES)
    values.ran["divergence"] += 1
    return out


def empty_state(rows: int) -> np.ndarray:
    """What is known of rows before any of their states are seen."""
    state = np.zeros((rows, 6))
    state[:, [0, 2]] = -math.inf
    return state


def collect(loss: Loss, student: np.ndarray, teacher: np.ndarray, state: np.ndarray) -> None:
    """Add a block of the vocabulary to what is known of the rows."""
    kernels = _kernels()

    def work(rows: slice) -> None:
        kind, t_s, t_t, _, _, hard, _ = loss.take(rows)
        kernels.collect(KINDS[kind], student[rows], teacher[rows], t_s, t_t, hard, state[rows])

    map_blocks(work, len(student), student.shape[1], BLOCK_VALUES)


def require_sound(state: np.ndarray, first_row: int = 0) -> None:
    """Raise for the first row that is no law, once all of its states are seen."""
    for side, column in (("student", 0), ("teacher", 2)):
        bad = np.flatnonzero(~np.isfinite(state[:, column]))
        if len(bad):
            raise_bad_row(side, first_row + int(bad[0]), float(state[bad[0], column]), ())


def finish(
    loss: Loss,
    student: np.ndarray,
    teacher: np.ndarray,
    state: np.ndarray,
    value: np.ndarray,
    *,
    first_state: int,
    slopes: bool,
) -> None:
    """Add a block's part to the loss of every row, once all states are collected; slopes as in `whole`."""
    kernels = _kernels()

    def work(rows: slice) -> None:
        kind, t_s, t_t, factor, labels, hard, softcap = loss.take(rows)
        kernels.finish(
            KINDS[kind], student[rows], teacher[rows], t_s, t_t, state[rows], factor, labels, first_state, hard,
            softcap, slopes, value[rows], np.empty((2, kernels.BLOCK), student.dtype),
        )  # fmt: skip

    map_blocks(work, len(student), student.shape[1], BLOCK_VALUES)
    values.ran["divergence, by vocabulary"] += 1


def _kernels() -> Any:
    values.cpu()
    from logitherm.kernels import cpu_divergence

    return cpu_divergence
