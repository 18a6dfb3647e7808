"""The guard of action values: floating, finite where an action is allowed, and an action in every row."""

from __future__ import annotations

import math
from typing import Any

from logitherm._array import (
    Array,
    as_array,
    as_logits,
    describe,
    dtype_name,
    first_true,
    like,
    namespace,
    require_rows,
    should_check,
    to_numpy,
)
from logitherm._labels import as_labels, place


def as_values(values: Any, mask: Any = None, check: bool | None = None) -> Array:
    """Action values (..., actions) as logits, -inf where the mask has False."""
    z = as_logits(values, name="values")
    xp = namespace(z)
    if mask is not None:
        allowed = as_array(mask, "mask")
        kind = dtype_name(allowed)
        if "int" in kind and not bool(((allowed != 0) & (allowed != 1)).any()):
            allowed = allowed != 0  # Gymnasium's action masks are int8
        elif kind != "bool":
            raise TypeError(f"mask: must be boolean, True for allowed actions; got {describe(mask)}; compare it first")
        allowed = allowed if namespace(allowed) is xp else like(to_numpy(allowed), z)
        try:
            z = xp.where(allowed, z, xp.full_like(z, -math.inf))
        except (ValueError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"mask: must broadcast against the values {tuple(z.shape)}; got {describe(mask)}; one entry an action"
            ) from error
        if should_check(check, z):
            none = xp.all(z == -math.inf, axis=-1)
            if bool(xp.any(none)):
                row = place(first_true(none), tuple(z.shape[:-1]))
                raise ValueError(f"mask: must allow an action in every row; {row} has none; mend the mask or end there")
    if should_check(check, z):
        require_rows(xp.max(z, axis=-1), "values")
    return z


def as_actions(actions: Any, z: Array) -> Array:
    """Integer actions of the batch shape, each in [0, actions), in the library of the values."""
    try:
        chosen = as_labels(actions, tuple(z.shape[:-1]), z.shape[-1])
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("labels", "actions", 1)) from None
    return like(chosen.reshape(tuple(z.shape[:-1])), z)
