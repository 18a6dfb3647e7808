"""Bins of confidence, and the calibration errors of sums over bins.

Both kinds of bins are right-closed intervals given by their edges, so that rows of equal confidence never part.
"""

from __future__ import annotations

import numpy as np


def bin_edges(confidence: np.ndarray, weights: np.ndarray, bins: int, binning: str) -> np.ndarray:
    """Edges from 0 to 1: `bins` of equal width, or at most `bins` that hold equal weight."""
    if binning == "equal_width":
        return np.linspace(0.0, 1.0, bins + 1)
    counted = weights > 0
    values, group = np.unique(confidence[counted], return_inverse=True)
    mass = np.bincount(group, weights[counted])
    running = np.cumsum(mass)
    # equal confidences share the bin of the middle of their mass: no order among them can matter
    part = np.floor(bins * ((running - mass / 2) / running[-1]))
    return np.concatenate([[0.0], values[:-1][np.diff(part) > 0], [1.0]])


def bin_index(confidence: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each confidence: (edge, next edge], with exactly 0 in the first."""
    return np.asarray(np.searchsorted(edges[1:-1], confidence, side="left"))


def bin_sums(index: np.ndarray, bins: int, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(np.bincount(index, column, minlength=bins) for column in columns)


def expected_error(mass: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """ECE from the weight and the weighted sum of (confidence - correct) of each bin (last axis)."""
    return np.asarray(np.abs(gap).sum(axis=-1) / mass.sum(axis=-1))


def largest_error(mass: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """MCE from the same sums; empty bins do not count."""
    return np.asarray(per_mass(np.abs(gap), mass, empty=0.0).max(axis=-1))


def per_mass(sums: np.ndarray, mass: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """Mean of each bin; `empty` where a bin has no weight."""
    filled = mass > 0
    return np.where(filled, sums / np.where(filled, mass, 1.0), empty)
