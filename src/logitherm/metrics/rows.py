"""What every metric is made of: a few float64 numbers for each row, computed block by block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from logitherm import gibbs
from logitherm._array import (
    HALF_TYPES,
    Array,
    as_array,
    as_logits,
    as_temperature,
    describe,
    dtype_name,
    namespace,
    raise_bad_row,
    to_numpy,
)
from logitherm._labels import as_labels, as_weights
from logitherm.kernels.reference import over
from logitherm.kernels.threads import blocks

BLOCK_VALUES = 1 << 17  # one megabyte of float64 logits


class Inputs(NamedTuple):
    """Validated arguments with the batch flattened to n rows."""

    logits: Array  # (n, classes), the caller's memory and dtype
    labels: np.ndarray  # (n,) int64
    temperature: np.ndarray  # (n,) float64
    weights: np.ndarray  # (n,) float64, not all zero
    batch_shape: tuple[int, ...]


class Block(NamedTuple):
    """Some rows of the inputs, in float64 and known to be sound."""

    rows: slice
    logits: np.ndarray
    labels: np.ndarray
    temperature: np.ndarray
    predicted: np.ndarray  # the first largest logit: never read from rounded probabilities


class Rows(NamedTuple):
    """The statistics of rows; each field has one float64 number a row."""

    correct: np.ndarray  # 1 where the prediction is the label
    confidence: np.ndarray  # the largest probability
    nll: np.ndarray  # nats; inf where the label has probability 0
    brier: np.ndarray  # 0 to 2


def as_inputs(logits: Any, labels: Any, temperature: Any = 1.0, weights: Any = None) -> Inputs:
    """The arguments of a metric, validated but for the values of the logits, which `row_blocks` checks on its way."""
    z = as_array(logits, "logits")
    # as_logits copies half types as a whole, which is left to the blocks
    if dtype_name(z) not in HALF_TYPES or z.ndim == 0 or z.shape[-1] == 0:
        z = as_logits(z)
    if 0 in z.shape:
        raise ValueError(f"logits: must have at least one row; got {describe(z)}; give some rows")
    batch_shape = tuple(z.shape[:-1])
    flat_labels = as_labels(labels, batch_shape, z.shape[-1])
    flat_weights = as_weights(weights, batch_shape)
    flat = namespace(z).reshape(z, (-1, z.shape[-1]))
    return Inputs(
        flat,
        flat_labels,
        _row_temperatures(temperature, z),
        np.ones(len(flat_labels)) if flat_weights is None else flat_weights,
        batch_shape,
    )


def scaled_weights(inputs: Inputs) -> Inputs:
    """The same with a largest weight of 1, for scores of squared weights: those of tiny ones would vanish."""
    return inputs._replace(weights=inputs.weights / inputs.weights.max())


def _row_temperatures(temperature: Any, z: Array) -> np.ndarray:
    """A float64 temperature for every row, whatever the dtype of the logits."""
    if hasattr(temperature, "resolve"):
        temperature = temperature.resolve(as_logits(z), None)
    stand_in = np.broadcast_to(np.float64(0), tuple(z.shape))
    return np.asarray(as_temperature(temperature, stand_in)).reshape(-1)


def row_blocks(inputs: Inputs, width: int = 0, values: int = BLOCK_VALUES) -> Iterator[Block]:
    """The rows in blocks of about `values` values; `width` counts a row as that many where it exceeds the classes."""
    n, classes = inputs.logits.shape
    for rows in blocks(n, max(classes, width), values):
        z = to_numpy(inputs.logits[rows, :]).astype(np.float64, order="C")
        predicted = z.argmax(axis=-1)
        tops = z[np.arange(len(z)), predicted]
        bad = ~np.isfinite(tops)
        if bad.any():
            first = int(np.argmax(bad))
            raise_bad_row("logits", rows.start + first, float(tops[first]), inputs.batch_shape)
        yield Block(rows, z, inputs.labels[rows], inputs.temperature[rows], predicted)


def probabilities(block: Block) -> np.ndarray:
    """softmax(logits / temperature) of a block, float64 in C order; the caller may write into it."""
    with np.errstate(over="ignore"):  # a gap that overflows when divided by a tiny temperature is a probability of 0
        return np.ascontiguousarray(gibbs.softmax(block.logits, block.temperature, check=False))


def block_statistics(block: Block) -> Rows:
    p, rows = probabilities(block), np.arange(len(block.labels))
    top, at_label = (rows, block.predicted), (rows, block.labels)
    confidence = p[top]
    p[top] = 0
    rest = p.sum(axis=-1) / confidence  # not 1 / confidence - 1, which forgets probabilities below 1e-16
    p[top] = confidence
    with np.errstate(over="ignore"):
        nll = np.log1p(rest) - over(block.logits[at_label] - block.logits[top], block.temperature)
    p[at_label] -= 1
    brier = np.einsum("nk,nk->n", p, p)
    return Rows((block.predicted == block.labels).astype(np.float64), confidence, nll, brier)


def row_statistics(inputs: Inputs) -> Rows:
    """Statistics of all rows in one pass over the logits."""
    parts = [block_statistics(block) for block in row_blocks(inputs)]
    return Rows(*(np.concatenate(column) for column in zip(*parts)))


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """A weight of 0 leaves its row out, even where the value is infinite."""
    counted = np.where(weights > 0, values, 0.0)
    # summed in the same order as the weights, so that the mean of ones is 1
    return float(np.dot(weights, counted) / np.dot(weights, np.ones(len(weights))))
