"""torch: a linear layer, alone or by its name in a module."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from logitherm._array import describe
from logitherm.integrations.baking.fold import fold
from logitherm.kernels.affine import Affine


def fold_module(model: nn.Module, head: str | None, mapped: Affine) -> None:
    """Fold a map into the layer of this name, or the model itself."""
    fold_linear(model, head or "", linear_of(model, head), mapped)


def linear_of(model: nn.Module, head: str | None) -> nn.Linear:
    """The linear layer of this name, or the model itself."""
    names = [name for name, module in model.named_modules() if name and type(module) is nn.Linear]
    known = ", ".join(names[-4:]) or "none"
    if head is None and not isinstance(model, nn.Linear):
        raise ValueError(
            f"head: must name the linear layer that makes the logits of a {type(model).__name__}; got None; "
            f"its last linear layers: {known}"
        )
    try:
        linear = model.get_submodule(head or "")
    except AttributeError as error:
        raise ValueError(
            f"head: must name a layer of the model; got {head!r}; its last linear layers: {known}"
        ) from error
    if not isinstance(linear, nn.Linear):
        raise ValueError(
            f"head: must be a torch.nn.Linear; got {type(linear).__name__} at {head!r}; merge adapters first, or name "
            f"another (last linear layers: {known})"
        )
    return linear


def fold_linear(model: nn.Module, name: str, linear: nn.Linear, mapped: Affine) -> None:
    """Change weights and bias where they are, both or, where it cannot be, neither."""
    where = f"the layer {name!r}" if name else "the layer"
    weight = linear._parameters.get("weight")
    if weight is None:
        raise ValueError(
            f"head: must own its weight; {where} computes it from others (weight norm, parametrization); "
            "torch.nn.utils.parametrize.remove_parametrizations first"
        )
    if weight.device.type == "meta" or not weight.is_floating_point() or weight.element_size() < 2:
        raise ValueError(
            f"head: must have loaded weights of float16, bfloat16, float32 or float64; {where} has {describe(weight)} "
            f"on {weight.device.type}; load it as such"
        )
    _require_unshared(model, linear, where)
    bias = linear.bias
    new_weight, new_bias = fold(
        mapped,
        _numbers(weight),
        None if bias is None else _numbers(bias),
        largest=torch.finfo(weight.dtype).max,
        where=where,
    )
    with torch.no_grad():
        weight.copy_(torch.from_numpy(new_weight).to(weight.dtype))
        if bias is not None:
            bias.copy_(torch.from_numpy(new_bias).to(bias.dtype))
        elif new_bias is not None:
            made = torch.from_numpy(new_bias).to(weight.dtype).to(weight.device)
            linear.bias = nn.Parameter(made, requires_grad=weight.requires_grad)


def _numbers(parameter: torch.Tensor) -> np.ndarray:
    """float64, made on the CPU: some devices have no such type."""
    values: np.ndarray = parameter.detach().cpu().double().numpy()
    return values


def _require_unshared(model: nn.Module, linear: nn.Linear, where: str) -> None:
    """Raise where another layer would change too."""
    mine = {_storage(p) for p in linear.parameters(recurse=False)}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            if module is not linear and parameter is not None and _storage(parameter) in mine:
                raise ValueError(
                    f"head: must have parameters of its own; {where} shares them with {name!r}, which would change "
                    "too; give it a copy first (layer.weight = torch.nn.Parameter(layer.weight.clone()))"
                )


def _storage(parameter: torch.Tensor) -> tuple[str, int]:
    if parameter.device.type == "meta":  # has no memory to share
        return "meta", id(parameter)
    return str(parameter.device), parameter.untyped_storage().data_ptr()
