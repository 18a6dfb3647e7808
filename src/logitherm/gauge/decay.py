"""Weight decay and a free temperature on the same weights: a gauge that nothing holds."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from logitherm._array import describe
from logitherm.gauge.network import evaluating
from logitherm.thermostat import LearnableTemperature

NAMES = ("temperature", "logit_scale")  # in the name of a parameter that is a temperature, or one over it
EXACT = 1e-4  # relative: the rounding of float32


class GaugeWarning(UserWarning):
    """Weights are decayed, and a free temperature makes up for it."""


def check_gauge(
    optimizer: torch.optim.Optimizer, model: torch.nn.Module, *, inputs: Any = None, temperature: Any = None
) -> list[str]:
    """Warn where weight decay falls on weights whose scale a learned temperature makes up for.

    The logits are W h / T: decay makes W smaller, and the fit makes T smaller with it, without end. Nothing is
    regularised: the penalty has its minimum at W = 0, T = 0, and steps turn W the more the smaller it is. A lower bound
    of T stops it there, and T is then that bound and not learned. Mend it in one of three ways: hold T as a number, do
    not decay these weights, or decay the logarithm of T too, which draws T to 1.

    A cosine similarity has no such freedom, as the scale of its features is lost: CLIP may decay its weights and learn
    its scale. With `inputs` this is seen, without it is not.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Decoupled decay (AdamW) counts as well.
    model : torch.nn.Module
        Whose parameters it holds, temperature included where the model has one.
    inputs : tensor or tuple of arguments, optional
        Of the model, which then must return logits: a layer is named only if the logits are multiplied by a number as
        its weight and bias double. Else every decayed weight matrix is named.
    temperature : LearnableTemperature or parameter, optional
        One outside of the model, or whose name does not show what it is. Others are found by "temperature" or
        "logit_scale" in the name of a parameter, as in `LearnableTemperature`.

    Returns
    -------
    list of str
        Names of the weights of which the gauge is free; empty where nothing is amiss.

    Warns
    -----
    GaugeWarning
        One line, if there are any.

    Raises
    ------
    TypeError
        Anything else than an optimizer, a module, a temperature.

    References
    ----------
    Van Laarhoven (2017), L2 regularization versus batch and weight normalization, for decay of weights whose
    scale is free; Radford et al. (2021), section 2.5, for a learned logit scale on normalised features.

    Examples
    --------
    >>> head, temperature = torch.nn.Linear(8, 3), LearnableTemperature(1.0)
    >>> groups = [{"params": head.parameters(), "weight_decay": 0.01}, {"params": temperature.parameters()}]
    >>> optimizer = torch.optim.SGD(groups, lr=0.1)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     check_gauge(optimizer, head, inputs=torch.randn(4, 8), temperature=temperature)
    ['weight']
    >>> str(caught[0].message)[:77]
    'weight_decay: weight is decayed while a temperature is free to make up for it'
    """
    for value, kind in ((optimizer, torch.optim.Optimizer), (model, torch.nn.Module)):
        if not isinstance(value, kind):
            raise TypeError(f"optimizer, model: must be a torch optimizer and a module; got {describe(value)}")
    decay = {id(p): float(group.get("weight_decay", 0.0)) for group in optimizer.param_groups for p in group["params"]}
    scales = _temperatures(model, temperature)
    # decay of a logarithm draws T to 1, decay of T itself draws it to 0 with the weights
    if not any(scale in decay and not (logarithm and decay[scale] > 0) for scale, logarithm in scales.items()):
        return []
    names = {id(p): name for name, p in model.named_parameters()}
    found = []
    for module in model.modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in scales]
        decayed = [p for p in own if p.ndim >= 2 and decay.get(id(p), 0.0) > 0]
        if decayed and (inputs is None or _scales_logits(model, {names[id(p)]: p for p in own}, inputs)):
            found += [names[id(p)] for p in decayed]
    if found:
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        verb = "is" if len(found) == 1 else "are"
        doubt = "" if inputs is not None else "; give inputs to see whether normalisation makes it harmless"
        warnings.warn(
            f"weight_decay: {shown} {verb} decayed while a temperature is free to make up for it, so both fall without "
            f"end; hold the temperature, or put these weights in a group with weight_decay=0{doubt}",
            GaugeWarning,
            stacklevel=2,
        )
    return found


def _temperatures(model: torch.nn.Module, temperature: Any) -> dict[int, bool]:
    """Which parameters are temperatures, by identity, and whether they are the logarithm of one."""
    found = {}
    for name, p in model.named_parameters():
        last = name.rpartition(".")[2]
        if any(known in last for known in NAMES):
            found[id(p)] = "log" in last
    if isinstance(temperature, LearnableTemperature):
        found[id(temperature.log_temperature)] = True
    elif isinstance(temperature, Tensor):
        found[id(temperature)] = False
    elif temperature is not None:
        raise TypeError(
            f"temperature: must be a LearnableTemperature or a parameter; got {describe(temperature)}; a number is held"
        )
    return found


@torch.no_grad()
def _scales_logits(model: torch.nn.Module, parameters: dict[str, Tensor], inputs: Any) -> bool:
    """Whether the logits are multiplied by a number other than 1 as these parameters double."""
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    with evaluating(model):
        before = functional_call(model, {}, arguments)
        after = functional_call(model, {name: 2 * p for name, p in parameters.items()}, arguments)
    if not isinstance(before, Tensor):
        raise TypeError(f"model: must return logits for inputs; got {describe(before)}; leave inputs out")
    square = float((before * before).sum())
    factor = float((before * after).sum()) / square if square > 0 else 1.0
    apart = float((after - factor * before).abs().max())
    return apart <= EXACT * float(after.abs().max()) and abs(factor - 1) > EXACT
