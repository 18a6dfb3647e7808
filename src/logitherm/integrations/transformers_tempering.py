"""A temperature for the attention of a loaded Hugging Face model, for a while."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from logitherm._array import describe
from logitherm.attention import resolve_temperature
from logitherm.attention.rules import Queries
from logitherm.integrations.transformers_attention import LayerCall, Run, attending, require_model
from logitherm.thermostat import SetPoint

HOTTEST = 1e30


@contextmanager
def tempered(model: nn.Module, temperature: Any, *, step: Any = None) -> Iterator[None]:
    """While it lasts, scores of every layer are divided by `temperature` beyond what the model does: 1 changes nothing.

    Queries are divided, so whatever attention function the model uses serves. What is added to scores, as biases of
    position and sinks, stays as it is. A softcap c is divided too, so that it is the capped score which is:
    c tanh(s / c) / T. The model is as before afterwards. Derivatives are in the temperature, so it may be learned; with
    gradient checkpointing, which runs layers again, `backward` is to be called within.

    Parameters
    ----------
    model : nn.Module
        As `attending` has it.
    temperature : float, tensor, Temperature or rule
        T > 0, for all; or of a tensor one for each layer (layers, 1) or head (layers, heads). A schedule or a learned
        temperature gives one of these. A rule of `logitherm.attention.rules`, or a function of `Queries`, gives T over
        sqrt(width) for every layer, which broadcasts against (batch, heads, queries). With `SetPoint(entropy=...)`
        every query has that entropy, whatever the model does, over its keys without sinks and biases. With a softcap
        there is no set point, rules see scores before it, and a T that is learned, or not the same for all of a layer,
        must have eager attention.
    step : any
        Handed to temperatures that are schedules.

    Raises
    ------
    ValueError
        Temperatures that are not positive, or for another number of layers; those that a softcap does not allow.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50)).eval()
    >>> tokens = torch.arange(9)[None]
    >>> with torch.no_grad(), tempered(model, torch.tensor([[1.0], [0.5]])):    # the second layer is colder
    ...     cold = model(tokens).logits
    >>> torch.equal(cold, model(tokens).logits)
    False
    """
    if isinstance(temperature, type):
        raise TypeError(f"temperature: must be a rule itself; got the class {temperature.__name__}; call it")
    by_query = isinstance(temperature, SetPoint)
    rule = by_query or (callable(temperature) and not hasattr(temperature, "resolve"))
    given = None if rule else as_table(temperature, step)
    require_model(model)
    layers = _layers_of(model)
    if given is not None and layers is not None and len(given) > max(layers, 1):
        raise ValueError(
            f"temperature: must have one entry a layer, {layers}; got {describe(temperature)}; leave out rows"
        )

    def around(call: LayerCall, run: Run) -> Any:
        if by_query and call.softcap is not None:
            raise ValueError(
                f"temperature: must be no SetPoint where scores are capped; got a softcap of {describe(call.softcap)}; "
                "give T, or a rule"
            )
        t = (_by_rule(temperature, call) if rule else _of_layer(given, call)).to(call.query.device)
        query = (call.query / t[..., None]).to(call.query.dtype)
        return run(query=query) if call.softcap is None else run(query=query, softcap=_capped(call, t))

    with attending(model, around):
        yield


def _capped(call: LayerCall, t: Tensor) -> Any:
    """c / T: c tanh(s / c) / T is s / T, capped there."""
    assert call.softcap is not None
    t = t.clamp_max(HOTTEST)  # where s / T is 0, and 0 / 0 would be none
    config: Any = call.module.config
    if config._attn_implementation == "eager":  # broadcasts, and has derivatives
        return call.softcap / t[..., None]
    if t.numel() > 1 or t.requires_grad:
        raise ValueError(
            f"temperature: must be one number a layer, not learned, where a kernel has the softcap; got "
            f"{describe(t)}; model.set_attn_implementation('eager') takes any"
        )
    return float(call.softcap / t)


def _layers_of(model: nn.Module) -> int | None:
    """How many layers a temperature may have, where a configuration says."""
    config = getattr(model, "config", None)
    if config is None or getattr(config, "is_encoder_decoder", False) or not hasattr(config, "get_text_config"):
        return None
    return getattr(config.get_text_config(), "num_hidden_layers", None)


def as_table(temperature: Any, step: Any) -> Tensor:
    """T of every layer and head, each axis of one entry or all."""
    if hasattr(temperature, "resolve"):
        temperature = temperature.resolve(None, step)
    if temperature is None or isinstance(temperature, (str, bool)):
        raise TypeError(
            f"temperature: must be a number, tensor, Temperature or rule; got {describe(temperature)}; 1 is as is"
        )
    t = torch.as_tensor(temperature, dtype=None if isinstance(temperature, Tensor) else torch.float32)
    if t.ndim not in (0, 2) or not bool((t > 0).all()):
        raise ValueError(
            f"temperature: must be positive, one number or (layers, 1) or (layers, heads); got "
            f"{describe(temperature)}; mend it"
        )
    return t.reshape(1, 1) if t.ndim == 0 else t


def _of_layer(table: Tensor | None, call: LayerCall) -> Tensor:
    assert table is not None
    layer, heads = call.layer, call.query.shape[1]
    if len(table) > 1 and layer >= len(table):
        raise ValueError(f"temperature: must have one entry a layer; got {len(table)} and a layer {layer}; add rows")
    if table.shape[1] not in (1, heads):
        raise ValueError(
            f"temperature: must have one entry, or {heads}, for the heads of layer {layer}; got "
            f"{describe(table)}; mend it"
        )
    return table[layer if len(table) > 1 else 0][None, :, None]


def _by_rule(rule: Callable[[Queries], Any] | SetPoint, call: LayerCall) -> Tensor:
    mask = call.mask
    if mask is not None and mask.dtype != torch.bool:
        mask = mask > torch.finfo(mask.dtype).min / 2
    t = resolve_temperature(rule, call.query, call.key.to(call.query.dtype), mask=mask, causal=call.causal)
    usual = 1 / call.scaling if isinstance(rule, SetPoint) else math.sqrt(call.query.shape[-1])
    return torch.as_tensor(t).broadcast_to(call.query.shape[:-1]) / usual
