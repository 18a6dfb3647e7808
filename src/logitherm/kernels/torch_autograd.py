"""PyTorch: the closed-form derivatives as autograd functions that also know `torch.func.vmap`.

Derivatives are reverse mode, of any order: `torch.compile` refuses functions that define a forward mode.
"""

from __future__ import annotations

from typing import Any

import torch

from logitherm._array import should_check
from logitherm.kernels import gradients
from logitherm.kernels import values as compute


def _batched(arguments: tuple[Any, ...], in_dims: tuple[Any, ...], size: int) -> list[Any]:
    """Arguments of a vmapped call with the new batch axis first everywhere: our functions are batched anyway."""
    moved = []
    for value, dim in zip(arguments, in_dims):
        if isinstance(value, torch.Tensor):
            value = value.movedim(dim, 0) if dim is not None else value.expand(size, *value.shape)
        moved.append(value)
    return moved


def _save(ctx, z, temperature, log_prior):
    tensors = (z, temperature) if log_prior is None else (z, temperature, log_prior)
    ctx.save_for_backward(*tensors)


class _StateFunction(torch.autograd.Function):
    """(logits, temperature, log prior) -> one of the state functions, batch shape."""

    @staticmethod
    def forward(z, temperature, log_prior, name, check):
        return compute.state_function(name, z, temperature, log_prior, check)

    @staticmethod
    def setup_context(ctx, inputs, output):
        z, temperature, log_prior, name, _ = inputs
        ctx.name, ctx.has_prior = name, log_prior is not None
        _save(ctx, z, temperature, log_prior)

    @staticmethod
    def backward(ctx, grad):
        z, temperature, *prior = ctx.saved_tensors
        log_prior = prior[0] if ctx.has_prior else None
        p = softmax(z, temperature, log_prior, False)
        entropy = temperature
        if ctx.name == "free_energy" and ctx.needs_input_grad[1]:
            entropy = state_function("entropy", z, temperature, log_prior, False)
        dz, dt = gradients.slopes(ctx.name, z, p, temperature, entropy)
        return grad[..., None] * dz, grad * dt, None, None, None

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _StateFunction.apply(*_batched(arguments, in_dims, info.batch_size)), 0


class _Softmax(torch.autograd.Function):
    """(logits, temperature, log prior) -> probabilities or their logarithms, shape of the logits."""

    @staticmethod
    def forward(z, temperature, log_prior, logarithm, check):
        return compute.softmax(z, temperature, log_prior, logarithm, check)

    @staticmethod
    def setup_context(ctx, inputs, output):
        z, temperature, log_prior, ctx.logarithm, _ = inputs
        ctx.has_prior = log_prior is not None
        _save(ctx, z, temperature, log_prior)

    @staticmethod
    def backward(ctx, grad):
        z, temperature, *prior = ctx.saved_tensors
        p = softmax(z, temperature, prior[0] if ctx.has_prior else None, False)
        u = gradients.deviations(z, p, temperature) if ctx.needs_input_grad[1] else None
        return *gradients.softmax_backward(p, u, temperature, grad, ctx.logarithm), None, None, None

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _Softmax.apply(*_batched(arguments, in_dims, info.batch_size)), 0


def state_function(name, z, temperature, log_prior, check):
    return _StateFunction.apply(z, temperature, log_prior, name, should_check(check, z, temperature))


def softmax(z, temperature, log_prior, logarithm, check=False):
    return _Softmax.apply(z, temperature, log_prior, logarithm, should_check(check, z, temperature))
