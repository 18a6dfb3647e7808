"""The law at some point of a pipeline. Which code computes it depends on the number of states alone, never on that of
the requests: a request has the same law, to the last bit, in any batch."""

from __future__ import annotations

from logitherm import gibbs
from logitherm._array import Array, namespace
from logitherm.kernels import reference
from logitherm.kernels.values import SMALLEST


def softmax(logits: Array) -> Array:
    """p of every state."""
    if logits.shape[-1] >= SMALLEST:
        return gibbs.softmax(logits)
    return reference.softmax(logits, _ones(logits), None)


def log_softmax(logits: Array) -> Array:
    """log p of every state."""
    if logits.shape[-1] >= SMALLEST:
        return gibbs.log_softmax(logits)
    return reference.log_softmax(logits, _ones(logits), None)


def entropy(logits: Array) -> Array:
    """S of every row."""
    if logits.shape[-1] >= SMALLEST:
        return gibbs.entropy(logits)
    ones = _ones(logits)
    return reference.entropy(reference.moments(logits, ones), ones)


def _ones(logits: Array) -> Array:
    xp = namespace(logits)
    return xp.ones_like(xp.max(logits, axis=-1))
