"""Divergences between the laws of two blocks of logits, on the CPU."""

from __future__ import annotations

import numpy as np

from logitherm._array import raise_bad_row
from logitherm.kernels import values
from logitherm.kernels.threads import map_blocks

KINDS = {"forward_kl": 0, "reverse_kl": 1}
BLOCK_VALUES = 1 << 18


def divergence(
    name: str,
    student: np.ndarray,
    teacher: np.ndarray,
    t_s: np.ndarray,
    t_t: np.ndarray,
    factor: np.ndarray,
    *,
    slopes: bool,
    first_row: int = 0,
) -> np.ndarray:
    """KL of every row, float64; with `slopes` the student's logits are overwritten by factor times those in them.

    For logits (rows, states) of one dtype, float32 or float64, contiguous, 0 < T < inf.
    """
    from logitherm.kernels import cpu_divergence

    values.cpu()
    out = np.empty(len(student))

    def work(rows: slice) -> None:
        bad = cpu_divergence.divergence(
            KINDS[name], student[rows], teacher[rows], t_s[rows], t_t[rows], factor[rows], slopes, out[rows]
        )
        for side, z, row in zip(("student", "teacher"), (student, teacher), bad):
            if row >= 0:
                raise_bad_row(side, first_row + rows.start + row, float(np.max(z[rows.start + row])), ())

    map_blocks(work, len(student), student.shape[1], BLOCK_VALUES)
    values.ran["divergence"] += 1
    return out
