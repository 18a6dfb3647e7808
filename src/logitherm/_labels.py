"""The guard of what goes with the rows of the logits: one integer label and one weight a row, as flat NumPy arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitherm._array import as_array, describe, dtype_name, to_numpy


def as_labels(labels: Any, batch_shape: tuple[int, ...], classes: int) -> np.ndarray:
    """Labels of a batch as a flat int64 array, each in [0, classes)."""
    given = as_array(labels, "labels")
    kind = dtype_name(given)
    one_hot = bool(batch_shape) and tuple(given.shape) == (*batch_shape, classes)
    if "int" not in kind and math.prod(given.shape):  # an empty list is a float array to NumPy
        mend = "convert with int64" if "float" in kind else "encode them as 0, 1, ... in the order of the columns"
        mend = "take the argmax of one-hot rows; soft labels are another argument" if one_hot else mend
        raise TypeError(f"labels: must be integers; got {describe(given)}; {mend}")
    if tuple(given.shape) != tuple(batch_shape):
        mend = "take the argmax of one-hot rows" if one_hot else "give one label a row"
        raise ValueError(f"labels: must have the batch shape {tuple(batch_shape)}; got {describe(given)}; {mend}")
    flat = to_numpy(given).reshape(-1)
    bad = (flat < 0) | (flat >= classes)
    if bad.any():
        row = int(np.argmax(bad))
        mend = "mend them, or leave them out by a mask or ignore_index where there is one"
        if classes == 1:
            mend = "a single score x stands for the logits (0, x)"
        elif flat.min() >= 1 and flat.max() == classes:
            mend = "subtract 1 if they count from 1"
        raise ValueError(
            f"labels: must lie in [0, {classes}); {place(row, batch_shape)} has {int(flat[row])}"
            f" ({int(bad.sum())} such in all); {mend}"
        )
    return flat.astype(np.int64, copy=False)


def as_weights(weights: Any, batch_shape: tuple[int, ...]) -> np.ndarray | None:
    """Weights of a batch as a flat float64 array, finite, nonnegative and not all zero; None stays None."""
    if weights is None:
        return None
    given = as_array(weights, "weights")
    if not any(kind in dtype_name(given) for kind in ("float", "int", "bool")):
        raise TypeError(f"weights: must be real numbers; got {describe(given)}; convert with float64")
    if tuple(given.shape) != tuple(batch_shape):
        raise ValueError(
            f"weights: must have the batch shape {tuple(batch_shape)}; got {describe(given)}; give one weight a row"
        )
    flat = to_numpy(given).reshape(-1).astype(np.float64, copy=False)
    bad = ~((flat >= 0) & (flat < math.inf))  # True for NaN as well
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(
            f"weights: must be finite and not negative; {place(row, batch_shape)} has {float(flat[row])};"
            " drop or mend it"
        )
    with np.errstate(over="ignore"):
        total = float(flat.sum()) if flat.size else 1.0
    if not 0 < total < math.inf:
        raise ValueError(
            f"weights: must not all be zero and must have a finite sum; got the sum {total}; mend or rescale them"
        )
    return flat


def rows_kept(labels: Any, mask: Any, ignore_index: int | None, batch_shape: tuple[int, ...]) -> np.ndarray | None:
    """Rows that count, bool of the batch shape: True in the mask, and not labelled `ignore_index`; None for all."""
    keep = None
    if mask is not None:
        keep = to_numpy(as_array(mask, "mask"))
        if keep.dtype != np.bool_ or keep.shape != tuple(batch_shape):
            raise ValueError(
                f"mask: must be bool of the batch shape {tuple(batch_shape)}; got {describe(keep)}; True keeps a row"
            )
    if ignore_index is not None:
        counted = to_numpy(as_array(labels, "labels")) != ignore_index
        keep = counted if keep is None or counted.shape != tuple(batch_shape) else keep & counted
    return keep


def place(row: int, batch_shape: tuple[int, ...]) -> str:
    """A row of a flattened batch in the words of the caller's own shape."""
    if len(batch_shape) < 2:
        return f"row {row}"
    return f"row {tuple(int(i) for i in np.unravel_index(row, batch_shape))}"
