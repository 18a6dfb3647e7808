"""A temperature for the attention of a loaded Hugging Face model, for a while; and the one that it should have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from logitherm._array import describe
from logitherm.attention.rules import Queries
from logitherm.integrations.transformers_attention import LayerCall, Run, attending
from logitherm.thermostat import LearnableTemperature

PER = ("model", "layer", "head")


@contextmanager
def tempered(model: nn.Module, temperature: Any, *, step: Any = None) -> Iterator[None]:
    """While it lasts, scores of every layer are divided by `temperature` beyond what the model does: 1 changes nothing.

    Queries are divided, so whatever attention function the model uses serves; not with a softcap, before which it would
    come. The model is as before afterwards. Derivatives are in the temperature, so it may be learned.

    Parameters
    ----------
    model : nn.Module
        As `attending` has it.
    temperature : float, tensor, Temperature or rule
        T > 0, for all; or of a tensor one for each layer (layers, 1) or head (layers, heads). A schedule or a learned
        temperature gives one of these. A rule of `logitherm.attention.rules`, or a function of `Queries`, gives T over
        sqrt(width) for every layer, which broadcasts against (batch, heads, queries).
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
    rule = None if hasattr(temperature, "resolve") or not callable(temperature) else temperature
    given = None if rule else as_table(temperature, step)

    def around(call: LayerCall, run: Run) -> Any:
        if call.softcap is not None:
            raise ValueError(
                f"model: must have no softcap, which comes after the scores; got {call.softcap}; take another"
            )
        t = _by_rule(rule, call) if rule else _of_layer(given, call.layer)
        return run(query=(call.query / t[..., None]).to(call.query.dtype))

    with attending(model, around):
        yield


def as_table(temperature: Any, step: Any) -> Tensor:
    """T of every layer and head, each axis of one entry or all."""
    if hasattr(temperature, "resolve"):
        temperature = temperature.resolve(None, step)
    t = torch.as_tensor(temperature, dtype=None if isinstance(temperature, Tensor) else torch.float32)
    if t.ndim not in (0, 2) or not bool((t > 0).all()):
        raise ValueError(
            f"temperature: must be positive, one number or (layers, 1) or (layers, heads); got {describe(temperature)}"
        )
    return t.reshape(1, 1) if t.ndim == 0 else t


def _of_layer(table: Tensor | None, layer: int) -> Tensor:
    assert table is not None
    if len(table) > 1 and layer >= len(table):
        raise ValueError(f"temperature: must have one entry a layer; got {len(table)} and a layer {layer}; add rows")
    return table[layer if len(table) > 1 else 0][None, :, None]


def _by_rule(rule: Callable[[Queries], Any], call: LayerCall) -> Tensor:
    mask = call.mask
    if mask is not None and mask.dtype != torch.bool:
        mask = mask > torch.finfo(mask.dtype).min / 2
    t = torch.as_tensor(rule(Queries(call.query, call.key, mask, call.causal)))
    return t.broadcast_to(call.query.shape[:-1]) / math.sqrt(call.query.shape[-1])


@dataclass(frozen=True)
class AttentionFit:
    """Temperatures that were fitted, and what they gain.

    Attributes
    ----------
    temperature : tensor, (1, 1), (layers, 1) or (layers, heads)
        Relative to the model's own, for `tempered`.
    nll_before, nll_after : float
        Nats a token on the batches, before and with it.
    """

    temperature: Tensor
    nll_before: float
    nll_after: float

    @property
    def perplexity_before(self) -> float:
        return math.exp(self.nll_before)

    @property
    def perplexity_after(self) -> float:
        return math.exp(self.nll_after)


def fit_attention_temperature(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    per: str = "model",
    passes: int = 20,
    rate: float = 0.1,
    low: float = 0.2,
    high: float = 5.0,
) -> AttentionFit:
    """The temperature of attention at which a frozen causal language model says its batches best.

    The mean loss over the tokens of all batches is minimised in log T, by Adam; a pass goes through the batches once,
    one at a time, and takes one step. The best of all passes is kept.

    Parameters
    ----------
    model : nn.Module
        Gives a loss for inputs with labels; its parameters stay as they are.
    batches : iterable of dicts
        Gone through in every pass, so a list or a loader. Without "labels" these are the "input_ids", -100 where the
        "attention_mask" is 0.
    per : "model", "layer" or "head"
        Whether there is one T, or one a layer or head.
    passes : int
    rate : float
        Of Adam, in log T.
    low, high : float
        Bounds of T.

    Returns
    -------
    AttentionFit

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50)).eval()
    >>> fit = fit_attention_temperature(model, [{"input_ids": torch.arange(20).reshape(2, 10)}], per="layer", passes=2)
    >>> fit.temperature.shape, fit.nll_after <= fit.nll_before
    (torch.Size([2, 1]), True)
    """
    if per not in PER:
        raise ValueError(f"per: must be one of {', '.join(PER)}; got {per!r}; choose one")
    if passes < 1:
        raise ValueError(f"passes: must be at least 1; got {passes}; 20 is usual")
    batches = list(batches) if isinstance(batches, Iterator) else batches
    learned = LearnableTemperature(_ones(model, batches, per), low=low, high=high)
    frozen = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned.parameters(), rate)
    best, before = (math.inf, torch.ones(1, 1)), math.nan
    training = model.training
    model.eval()
    for p in frozen:
        p.requires_grad_(False)
    try:
        for number in range(passes + 1):
            optimizer.zero_grad()
            last = number == passes
            with torch.set_grad_enabled(not last):
                nll = _mean_loss(model, batches, learned, backward=not last)
            before = nll if number == 0 else before
            if nll < best[0]:
                best = nll, learned.resolve().detach().clone()
            if not last:
                optimizer.step()
    finally:
        for p in frozen:
            p.requires_grad_(True)
        model.train(training)
    return AttentionFit(best[1], before, best[0])


def _ones(model: nn.Module, batches: Iterable[Mapping[str, Tensor]], per: str) -> Tensor:
    """T = 1 for everything that has a T of its own."""
    heads: dict[int, int] = {}

    def look(call: LayerCall, run: Run) -> Any:
        heads[call.layer] = call.query.shape[1]
        return run()

    first = next(iter(batches), None)
    if first is None:
        raise ValueError("batches: must have at least one; got none; pass a list or a loader")
    with torch.no_grad(), attending(model, look):
        model(**_with_labels(first))
    if per == "head" and len(set(heads.values())) > 1:
        raise ValueError(f"per: must be model or layer where layers differ in heads; got {sorted(set(heads.values()))}")
    layers = max(heads) + 1
    return torch.ones(1 if per == "model" else layers, heads[0] if per == "head" else 1)


def _mean_loss(
    model: nn.Module, batches: Iterable[Mapping[str, Tensor]], learned: LearnableTemperature, backward: bool
) -> float:
    """Nats a token; the gradient of their sum, over the number of tokens of the first batch, is left in `learned`."""
    total, count, unit = 0.0, 0, 0
    for batch in batches:
        inputs = _with_labels(batch)
        tokens = int((inputs["labels"][:, 1:] != -100).sum())
        unit = unit or tokens
        with tempered(model, learned):
            loss = model(**inputs).loss
        if backward:
            (loss * (tokens / unit)).backward()
        total, count = total + loss.item() * tokens, count + tokens
    return total / count


def _with_labels(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    inputs = dict(batch)
    if "labels" not in inputs:
        labels = inputs["input_ids"]
        mask = inputs.get("attention_mask")
        inputs["labels"] = labels if mask is None else labels.masked_fill(mask == 0, -100)
    return inputs
