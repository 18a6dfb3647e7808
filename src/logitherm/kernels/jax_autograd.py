"""JAX: the closed-form derivatives as custom JVPs, so that jit, grad, jvp, vmap and hessian compose."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from logitherm.kernels import gradients
from logitherm.kernels import values as compute


@partial(jax.custom_jvp, nondiff_argnums=(0, 4))
def state_function(name, z, temperature, log_prior, check):
    return compute.state_function(name, z, temperature, log_prior, check)


@state_function.defjvp
def _state_function_jvp(name, check, primals, tangents):
    z, temperature, log_prior = primals
    dz, dt, _ = tangents
    p = softmax(z, temperature, log_prior, False)
    entropy = state_function("entropy", z, temperature, log_prior, False) if name == "free_energy" else temperature
    by_logits, by_temperature = gradients.slopes(name, z, p, temperature, entropy)
    change = jnp.sum(by_logits * dz, axis=-1) + by_temperature * dt
    return state_function(name, z, temperature, log_prior, check), change


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def softmax(z, temperature, log_prior, logarithm, check=False):
    return compute.softmax(z, temperature, log_prior, logarithm, check)


@softmax.defjvp
def _softmax_jvp(logarithm, check, primals, tangents):
    z, temperature, log_prior = primals
    dz, dt, _ = tangents
    p = softmax(z, temperature, log_prior, False)
    u = gradients.deviations(z, p, temperature)
    change = gradients.softmax_forward(p, u, temperature, dz, dt, logarithm)
    return softmax(z, temperature, log_prior, logarithm, check), change
