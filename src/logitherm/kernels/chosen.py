"""The log-probability of one state a row, without an array of the size of the logits.

log p_a = -log1p(rest) - (top - z_a) / T is a sum of terms of one sign, so that nothing cancels.
"""

from __future__ import annotations

from logitherm import kernels
from logitherm._array import Array, is_jax, is_torch, is_traced, namespace, silent
from logitherm.kernels import values
from logitherm.kernels.reference import Moments, over


def log_probability(z: Array, temperature: Array, chosen: Array) -> Array:
    """log softmax(z / T) of the `chosen` state of every row, batch shape; rows are taken as they are."""
    own = take(z, chosen)
    if is_jax(z) or is_traced(z) or is_traced(temperature) or is_traced(chosen):
        return -kernels.state_function("log_partition", z - own[..., None], temperature, check=False)
    if is_torch(z):
        from logitherm.kernels import torch_chosen

        return torch_chosen.log_probability(z, temperature, chosen)
    return of_moments(values.moments(z, temperature, check=False), own, temperature)


@silent
def of_moments(m: Moments, own: Array, temperature: Array) -> Array:
    """log p of the state with the logit `own`."""
    return -(namespace(m.top).log1p(m.rest) + over(m.top - own, temperature))


def take(values: Array, chosen: Array) -> Array:
    """The entry of the `chosen` state of every row, batch shape."""
    index = chosen[..., None]
    if is_torch(values):
        return values.gather(-1, index)[..., 0]
    return namespace(values).take_along_axis(values, index, axis=-1)[..., 0]
