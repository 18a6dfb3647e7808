"""The temperature that the attention of a loaded Hugging Face model should have: by its loss, or by its sharpness."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from logitherm._array import describe
from logitherm.attention import attention_state
from logitherm.integrations.transformers_attention import LayerCall, Run, attending
from logitherm.integrations.transformers_tempering import tempered
from logitherm.thermostat import LearnableTemperature

PER = ("model", "layer", "head")


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
    batches : iterable of dicts, or one
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
    _require_passes(passes, 20)
    if not 0 < low <= 1 <= high < math.inf:
        raise ValueError(f"low, high: must have 1, the model's own, between them; got {low} and {high}; 0.2 and 5 do")
    if not 0 < rate < math.inf:
        raise ValueError(f"rate: must be positive and finite; got {rate}; 0.1 is usual")
    if hasattr(batches, "keys"):  # one batch
        batches = [batches]  # type: ignore[list-item]
    batches = list(batches) if isinstance(batches, Iterator) else batches
    learned = LearnableTemperature(_ones(model, batches, per), low=low, high=high)
    frozen = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned.parameters(), rate)
    best, before = (math.inf, torch.ones(1, 1)), math.nan
    for p in frozen:
        p.requires_grad_(False)
    try:
        for number in range(passes + 1):
            optimizer.zero_grad()
            last = number == passes
            with torch.set_grad_enabled(not last), _still(model):
                nll = _mean_loss(model, batches, learned, backward=not last)
            before = nll if number == 0 else before
            if nll < best[0]:
                best = nll, learned.resolve().detach().clone()
            if not last:
                optimizer.step()
    finally:
        for p in frozen:
            p.requires_grad_(True)
    return AttentionFit(best[1], before, best[0])


def match_attention_entropy(
    model: nn.Module, short: Mapping[str, Tensor], long: Mapping[str, Tensor], *, passes: int = 6
) -> AttentionFit:
    """The temperature of every head at which it is as sharp on long texts as on those of its trained length.

    Where keys are many, softmax spreads over them. Matched is the mean entropy of a head: that of the last quarter of
    the queries of `short`, by those queries of `long` that are further on than any of `short`. A pass runs the model on
    `long` and moves the logarithm of every T by Newton's step, since dS / d log T is the heat capacity; a layer sees
    what the layers before it have become. The loss on `long` is measured before and after.

    Parameters
    ----------
    model : nn.Module
        A causal language model; stays as it is.
    short, long : dicts
        Inputs of the trained length, and longer ones, with labels if others than the tokens.
    passes : int

    Returns
    -------
    AttentionFit
        Its temperature (layers, heads) is for texts as long as `long`; T = 1 for heads that are sharp on their own.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=64)).eval()
    >>> short, long = ({"input_ids": torch.arange(n)[None] % 50} for n in (16, 64))
    >>> bool((match_attention_entropy(model, short, long).temperature < 1).all())    # of random weights all are too hot
    True
    """
    short, long = (_with_labels(inputs, name) for inputs, name in ((short, "short"), (long, "long")))
    trained = short["input_ids"].shape[-1]
    if trained < 2:
        raise ValueError(f"short: must have 2 tokens or more; got {trained}; pass texts of the trained length")
    if long["input_ids"].shape[-1] <= trained:
        raise ValueError(
            f"long: must be longer than short, {trained} tokens; got {long['input_ids'].shape[-1]}; pass longer texts"
        )
    _require_passes(passes, 6)
    with torch.no_grad(), _still(model):
        wanted, _ = _means(model, short, trained - max(trained // 4, 1), None)
        t = torch.ones_like(wanted)
        before = _loss(model, long).item()
        for _ in range(passes):
            entropy, heat = _means(model, long, trained, t)
            t = t * ((wanted - entropy) / heat.clamp_min(1e-3)).clamp(-0.5, 0.5).exp()
        with tempered(model, t.float()):
            after = _loss(model, long).item()
    return AttentionFit(t.float(), before, after)


def _require_passes(passes: int, usual: int) -> None:
    if not isinstance(passes, numbers.Integral) or passes < 1:
        raise ValueError(f"passes: must be an integer, at least 1; got {passes!r}; {usual} is usual")


def _means(model: nn.Module, inputs: Mapping[str, Tensor], first: int, t: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean entropy and heat capacity of every head (layers, heads) over the queries from `first` on, at T."""
    found: dict[int, tuple[Tensor, Tensor]] = {}

    def look(call: LayerCall, run: Run) -> Any:
        state = attention_state(**call.inputs(), method="online", empty="nan")  # fused kernels have no heat capacity
        assert state.heat_capacity is not None
        found[call.layer] = tuple(  # type: ignore[assignment]
            value[:, :, first:].double().nanmean((0, 2)) for value in (state.entropy, state.heat_capacity)
        )
        return run()

    with tempered(model, 1.0 if t is None else t.float()), attending(model, look):
        model(**inputs)
    layers = [found[layer] for layer in sorted(found)]
    entropy, heat = (torch.stack([layer[i] for layer in layers]) for i in range(2))
    return entropy, heat


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


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
        _loss(model, _with_labels(first))
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
        if not tokens:
            continue
        with tempered(model, learned):
            loss = _loss(model, inputs)
            if backward:
                (loss * (tokens / unit)).backward()
        total, count = total + loss.item() * tokens, count + tokens
    if not count:
        raise ValueError("batches: must have tokens to predict; got none; pass texts of 2 tokens or more")
    return total / count


def _loss(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    loss = getattr(model(**inputs), "loss", None)
    if loss is None:
        raise TypeError(
            f"model: must give a loss for inputs with labels; {type(model).__name__} does not; take one for causal "
            "language modelling, AutoModelForCausalLM"
        )
    return loss  # type: ignore[no-any-return]


def _with_labels(batch: Mapping[str, Tensor], name: str = "batches") -> dict[str, Tensor]:
    if not hasattr(batch, "keys") or "input_ids" not in batch:
        raise TypeError(
            f"{name}: must be inputs of the model by name, with input_ids; got {describe(batch)}; "
            "a tensor of tokens is {'input_ids': tokens}"
        )
    tokens = batch["input_ids"]
    if not isinstance(tokens, Tensor) or tokens.ndim != 2:
        raise TypeError(
            f"{name}: must have input_ids that are a tensor (texts, tokens); got {describe(tokens)}; pad texts and "
            "take torch.as_tensor"
        )
    inputs = dict(batch)
    if "labels" not in inputs:
        labels = inputs["input_ids"]
        mask = inputs.get("attention_mask")
        inputs["labels"] = labels if mask is None else labels.masked_fill(mask == 0, -100)
    return inputs
