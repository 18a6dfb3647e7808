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
from logitherm.integrations.transformers_attention import LayerCall, Run, attending
from logitherm.thermostat import SetPoint


@contextmanager
def tempered(model: nn.Module, temperature: Any, *, step: Any = None) -> Iterator[None]:
    """While it lasts, scores of every layer are divided by `temperature` beyond what the model does: 1 changes nothing.

    Queries are divided, so whatever attention function the model uses serves; not with a softcap, before which it would
    come. The model is as before afterwards. Derivatives are in the temperature, so it may be learned; with gradient
    checkpointing, which runs layers again, `backward` is to be called within.

    Parameters
    ----------
    model : nn.Module
        As `attending` has it.
    temperature : float, tensor, Temperature or rule
        T > 0, for all; or of a tensor one for each layer (layers, 1) or head (layers, heads). A schedule or a learned
        temperature gives one of these. A rule of `logitherm.attention.rules`, or a function of `Queries`, gives T over
        sqrt(width) for every layer, which broadcasts against (batch, heads, queries). With `SetPoint(entropy=...)`
        every query has that entropy, whatever the model does, over its keys without sinks and biases.
    step : any
        Handed to temperatures that are schedules.

    Raises
    ------
    ValueError
        Temperatures that are not positive, or for another number of layers; a model with a softcap.

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

    def around(call: LayerCall, run: Run) -> Any:
        if call.softcap is not None:
            raise ValueError(
                f"model: must have no softcap, which comes after the scores; got {call.softcap}; take another"
            )
        t = _by_rule(temperature, call) if rule else _of_layer(given, call)
        return run(query=(call.query / t[..., None]).to(call.query.dtype))

    with attending(model, around):
        yield


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
