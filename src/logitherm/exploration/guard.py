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
    is_torch,
    is_traced,
    like,
    namespace,
    require_rows,
    should_check,
    to_numpy,
)
from logitherm._labels import as_labels, place


def as_values(values: Any, mask: Any = None, name: str = "values") -> Array:
    """Action values (..., actions) as logits, -inf where the mask has False."""
    z = as_logits(values, name=name)
    xp = namespace(z)
    if mask is not None:
        allowed = as_array(mask, "mask")
        kind = dtype_name(allowed)
        if "int" in kind and (is_traced(allowed) or not bool(((allowed != 0) & (allowed != 1)).any())):
            allowed = allowed != 0  # Gymnasium's action masks are int8
        elif kind != "bool":
            raise TypeError(f"mask: must be boolean, True for allowed actions; got {describe(mask)}; compare it first")
        allowed = allowed if namespace(allowed) is xp else like(to_numpy(allowed), z)
        try:
            z = xp.where(allowed, z, xp.full_like(z, -math.inf))
        except (ValueError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"mask: must broadcast against the {name} {tuple(z.shape)}; got {describe(mask)}; one entry an action"
            ) from error
        if should_check(None, z):
            require_action(z, "mask")
    if should_check(None, z):
        require_rows(xp.max(z, axis=-1), name)
    return z


def require_action(z: Array, name: str) -> None:
    """Raise unless every row has an action that is not forbidden."""
    xp = namespace(z)
    none = xp.all(z == -math.inf, axis=-1)
    if bool(xp.any(none)):
        row = place(first_true(none), tuple(z.shape[:-1]))
        raise ValueError(f"{name}: must allow an action in every row; {row} has none; mend the {name} or end there")


def as_actions(actions: Any, z: Array) -> Array:
    """Integer actions of the batch shape, each in [0, actions), in the library of the values."""
    given = as_array(actions, "actions")
    if not is_traced(given):  # else their values cannot be looked at
        try:
            as_labels(given, tuple(z.shape[:-1]), z.shape[-1])
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("label", "action")) from None
    chosen = given if namespace(given) is namespace(z) else like(to_numpy(given), z)
    return chosen.to(z.device).long() if is_torch(chosen) else chosen
