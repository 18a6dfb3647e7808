"""Derivatives of every quantity in closed form, for all automatic differentiation.

With u_i = (z_i - <z>)/T, S the entropy, C = <u^2> the heat capacity and M = <u^3>:

    d log Z  = sum p_i dz_i / T                         - <z>/T^2 dT
    dF       = -sum p_i dz_i                            - S dT
    dE       = -sum p_i (1 + u_i) dz_i                  + C dT
    dS       = -sum p_i u_i / T dz_i                    + C/T dT
    dC       = sum p_i (u_i^2 + 2 u_i - C) / T dz_i     - (M + 2 C)/T dT
    dp_i     = p_i (dz_i - <dz>)/T                      - p_i u_i / T dT
    dlog p_i = (dz_i - <dz>)/T                          - u_i / T dT

They follow from dp_i above (Jaynes 1957; Gould et al. 1996, sections 4.4 and 4.6). Forbidden states and limits of T
need no special case: a state of probability 0 has derivative 0. The forms are themselves differentiable.
"""

from __future__ import annotations

import math

from logitherm._array import Array, namespace
from logitherm.kernels.reference import over, weighted


def deviations(z: Array, p: Array, temperature: Array) -> Array:
    """u_i = (z_i - <z>)/T for states of positive probability, 0 for the others."""
    xp = namespace(z)
    allowed = p > 0
    top = xp.max(xp.where(allowed, z, xp.full_like(z, -math.inf)), axis=-1, keepdims=True)
    fall = xp.where(allowed, z - top, xp.zeros_like(z))
    fall = fall - xp.sum(p * fall, axis=-1, keepdims=True)
    return over(xp.where(allowed, fall, xp.zeros_like(z)), temperature[..., None])


def slopes(name: str, z: Array, p: Array, temperature: Array, entropy: Array) -> tuple[Array, Array]:
    """Derivatives of a state function in the logits (shape of `z`) and in the temperature (batch shape)."""
    xp = namespace(z)
    t = temperature[..., None]
    if name == "log_partition":
        mean = xp.sum(weighted(p, z), axis=-1)
        return over(p, t), -over(over(mean, temperature), temperature)
    if name == "free_energy":
        return -p, -entropy
    u = deviations(z, p, temperature)
    heat = xp.sum(p * u**2, axis=-1)
    if name == "mean_energy":
        return -p * (1 + u), heat
    if name == "entropy":
        return -over(p * u, t), over(heat, temperature)
    if name == "heat_capacity":
        third = xp.sum(p * u**3, axis=-1)
        return over(p * (u**2 + 2 * u - heat[..., None]), t), -over(third + 2 * heat, temperature)
    raise AssertionError(name)


def softmax_forward(p: Array, u: Array, temperature: Array, dz: Array, dt: Array, logarithm: bool) -> Array:
    """Change of p (or of log p) for a change of logits and temperature: linear in both, 0 at T = 0."""
    xp = namespace(p)
    t = temperature[..., None]
    dz = xp.where(p > 0, dz, xp.zeros_like(dz))
    change = (dz - xp.sum(p * dz, axis=-1, keepdims=True) - u * dt[..., None]) / xp.where(t > 0, t, xp.ones_like(t))
    change = xp.where(t > 0, change, xp.zeros_like(change))
    return xp.where(p > 0, change, xp.zeros_like(change)) if logarithm else p * change


def softmax_backward(
    p: Array, u: Array | None, temperature: Array, grad: Array, logarithm: bool
) -> tuple[Array, Array | None]:
    """Gradients in the logits and, if `u` is given, the temperature from the gradient `grad` in p (or in log p)."""
    xp = namespace(p)
    allowed = p > 0
    grad = xp.where(allowed, grad, xp.zeros_like(grad))
    share = grad if logarithm else p * grad
    dz = over(share - p * xp.sum(share, axis=-1, keepdims=True), temperature[..., None])
    return dz, None if u is None else -over(xp.sum(share * u, axis=-1), temperature)
