"""Every exponential of logits: the reference, its fast CPU twin, their derivatives, and the choice between them."""

from __future__ import annotations

from logitherm._array import Array, is_jax, is_torch
from logitherm.kernels import values
from logitherm.kernels.reference import Moments, exponential, merge
from logitherm.kernels.values import moments, ran, row_moments

__all__ = ["Moments", "exponential", "merge", "moments", "ran", "row_moments", "softmax", "state_function"]


def state_function(
    name: str, z: Array, temperature: Array, log_prior: Array | None = None, check: bool | None = None
) -> Array:
    """A state function by name, with derivatives where the library has them."""
    if is_torch(z):
        from logitherm.kernels import torch_autograd

        return torch_autograd.state_function(name, z, temperature, log_prior, check)
    if is_jax(z):
        from logitherm.kernels import jax_autograd

        return jax_autograd.state_function(name, z, temperature, log_prior, check)
    return values.state_function(name, z, temperature, log_prior, check)


def softmax(
    z: Array,
    temperature: Array,
    log_prior: Array | None = None,
    *,
    logarithm: bool = False,
    check: bool | None = None,
) -> Array:
    """Probabilities or their logarithms, with derivatives where the library has them."""
    if is_torch(z):
        from logitherm.kernels import torch_autograd

        return torch_autograd.softmax(z, temperature, log_prior, logarithm, check)
    if is_jax(z):
        from logitherm.kernels import jax_autograd

        return jax_autograd.softmax(z, temperature, log_prior, logarithm, check)
    return values.softmax(z, temperature, log_prior, logarithm, check)
