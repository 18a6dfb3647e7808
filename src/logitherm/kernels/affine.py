"""The likelihood of affine maps of logits, u_k = a_k z_k + sum_j M_kj z_j + b_k, with its slopes: one pass over the
rows, nothing of their size kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

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
            u = z * self.scale
            u += self.bias
            if self.matrix is not None:
                return u + z @ self.matrix.T
        forbidden = z == -np.inf
        if forbidden.any():
            u[forbidden] = -np.inf
        return u


def cross_entropy(z: Array, labels: np.ndarray, weights: np.ndarray, mapped: Affine) -> tuple[float, Affine]:
    """Sum of w (log Z(u) - u_label) over the rows of z (n, states), and its slopes in the parameters of the map."""

    def work(rows: slice) -> tuple[float, Affine]:
        part, w = to_numpy(z[rows]).astype(np.float64), weights[rows]
        u = mapped(part)
        residual = np.empty_like(u)
        bad, nll = values.cpu().residuals(read_only(u), read_only(labels[rows]), read_only(w), residual)
        if bad >= 0:
            raise_bad_row("logits", rows.start + bad, float(np.max(part[bad])), ())
        allowed = _allowed(part)
        values.ran["residuals"] += 1
        return nll, Affine(
            np.einsum("nk,nk->k", residual, allowed),
            residual.sum(axis=0),
            None if mapped.matrix is None else residual.T @ part,
        )

    parts = map_blocks(work, z.shape[0], z.shape[1], BLOCK_VALUES if mapped.matrix is None else PRODUCT_VALUES)
    return sum(nll for nll, _ in parts), _summed([slopes for _, slopes in parts])


class Curvature(NamedTuple):
    """Sums over rows of w f z_j^q for the powers q = 0, 1, 2, f of every state k: shape (states,) with j = k, or
    (states, states) for all pairs k, j where there is a matrix.

    With f = p (1 - p), these are the diagonal of the second derivatives of `cross_entropy`, and what it takes to have
    it about any pivot; with f = (p - y)^2, the squares of the rows' own slopes.
    """

    zeroth: np.ndarray  # always (states,)
    first: np.ndarray
    second: np.ndarray

    def about(self, pivot: np.ndarray) -> np.ndarray:
        """Sum of w f (z_j - pivot)^2."""
        zeroth = self.zeroth if self.first.ndim == 1 else self.zeroth[:, None]
        return self.second - 2 * pivot * self.first + pivot**2 * zeroth


def curvatures(z: Array, labels: np.ndarray, weights: np.ndarray, mapped: Affine) -> tuple[Curvature, Curvature]:
    """The second derivatives of `cross_entropy`, and the squared slopes of the rows, which have the same mean where
    labels are drawn from the model."""

    def work(rows: slice) -> tuple[Curvature, Curvature]:
        part = to_numpy(z[rows]).astype(np.float64)
        u, w = mapped(part), weights[rows, None]
        p = values.softmax(u, np.ones(len(u)), None, False, True)
        part = _allowed(part)
        spread = w * p * (1 - p)
        p[np.arange(len(p)), labels[rows]] -= 1
        return moments(spread, part), moments(w * p**2, part)

    def moments(f: np.ndarray, part: np.ndarray) -> Curvature:
        if mapped.matrix is None:
            return Curvature(f.sum(axis=0), np.einsum("nk,nk->k", f, part), np.einsum("nk,nk,nk->k", f, part, part))
        return Curvature(f.sum(axis=0), f.T @ part, f.T @ part**2)

    parts = map_blocks(work, z.shape[0], z.shape[1], BLOCK_VALUES if mapped.matrix is None else PRODUCT_VALUES)
    return _summed([model for model, _ in parts]), _summed([rows for _, rows in parts])


def _allowed(z: np.ndarray) -> np.ndarray:
    """z with 0 for what is forbidden, which no slope depends on."""
    forbidden = z == -np.inf
    return np.where(forbidden, 0, z) if forbidden.any() else z


def _summed(parts: Sequence[Any]) -> Any:
    """The sum of named tuples of arrays, None where they have none."""
    columns = zip(*parts)
    return type(parts[0])(*(None if column[0] is None else reduce(np.add, column) for column in columns))
