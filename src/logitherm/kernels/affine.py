"""The likelihood of affine maps of logits, u_k = a_k z_k + sum_j M_kj z_j + b_k, with its slopes: one pass over the
rows, nothing of their size kept."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import numpy as np

from logitherm._array import Array, raise_bad_row, read_only, to_numpy
from logitherm.kernels import values
from logitherm.kernels.threads import map_blocks

BLOCK_VALUES = 1 << 17  # mapped logits and residuals of a block stay in the second-level cache
PRODUCT_VALUES = 1 << 21  # rows enough for a matrix product, of which every block keeps one


class Affine(NamedTuple):
    """A map of logits, or the slopes of a sum in its parameters."""

    scale: np.ndarray  # (states,)
    bias: np.ndarray  # (states,)
    matrix: np.ndarray | None = None  # (states, states), added to diag(scale)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Mapped logits; a forbidden state stays one (with a matrix every logit must be finite)."""
        with np.errstate(invalid="ignore"):  # of bad rows, and of forbidden states, which stay what they are
            u = z * self.scale + self.bias
            return np.where(z == -np.inf, z, u) if self.matrix is None else u + z @ self.matrix.T


def cross_entropy(z: Array, labels: np.ndarray, weights: np.ndarray, mapped: Affine) -> tuple[float, Affine]:
    """Sum of w (log Z(u) - u_label) over the rows of z (n, states), and its slopes in the parameters of the map."""

    def work(rows: slice) -> tuple[float, Affine]:
        part, w = to_numpy(z[rows]).astype(np.float64), weights[rows]
        u = mapped(part)
        residual = np.empty_like(u)
        bad, nll = values.cpu().residuals(read_only(u), read_only(labels[rows]), read_only(w), residual)
        if bad >= 0:
            raise_bad_row("logits", rows.start + bad, float(np.max(part[bad])), ())
        allowed = np.where(part == -np.inf, 0, part)
        values.ran["residuals"] += 1
        return nll, Affine(
            np.einsum("nk,nk->k", residual, allowed),
            residual.sum(axis=0),
            None if mapped.matrix is None else residual.T @ part,
        )

    parts = map_blocks(work, z.shape[0], z.shape[1], BLOCK_VALUES if mapped.matrix is None else PRODUCT_VALUES)
    return sum(nll for nll, _ in parts), _summed([slopes for _, slopes in parts])


def curvatures(z: Array, weights: np.ndarray, mapped: Affine) -> Affine:
    """The diagonal of the second derivatives of `cross_entropy`: sums of w p (1 - p) z^2, w p (1 - p), and w p_k
    (1 - p_k) z_j^2."""

    def work(rows: slice) -> Affine:
        part = to_numpy(z[rows]).astype(np.float64)
        u = mapped(part)
        p = values.softmax(u, np.ones(len(u)), None, False, True)
        p *= (1 - p) * weights[rows, None]
        squares = np.where(part == -np.inf, 0, part) ** 2
        return Affine(
            np.einsum("nk,nk->k", p, squares),
            p.sum(axis=0),
            None if mapped.matrix is None else p.T @ squares,
        )

    parts = map_blocks(work, z.shape[0], z.shape[1], BLOCK_VALUES if mapped.matrix is None else PRODUCT_VALUES)
    return _summed(parts)


def _summed(parts: list[Affine]) -> Affine:
    scale, bias, matrix = (None if column[0] is None else reduce(np.add, column) for column in zip(*parts))
    return Affine(scale, bias, matrix)  # type: ignore[arg-type]
