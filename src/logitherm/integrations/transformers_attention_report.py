"""How sharp the attention heads of a Hugging Face model are, over some inputs, by the hook in its attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

try:
    import transformers  # noqa: F401 - so that what is missing has one name
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra(
        "logitherm.integrations.transformers_attention_report", "transformers", "transformers"
    ) from error

import numpy as np
from torch import Tensor, nn

from logitherm._array import describe
from logitherm.attention import attention_state
from logitherm.attention.findings import AttentionReport
from logitherm.attention.heads import HeadSums, at_temperatures, of_queries, positions_of
from logitherm.integrations.sampling import evaluating
from logitherm.integrations.transformers_attention import LayerCall, attending, require_model


def attention_report(
    model: nn.Module,
    inputs: Any,
    *,
    relative: Sequence[float] = (),
    collapsed: float = 1.5,
    uniform: float = 0.95,
    sink: float = 0.5,
    nearly: float = 0.9,
    drift: float = 0.03,
    least_keys: int = 8,
    queries: int | None = 256,
    tell: Callable[[int], None] | None = None,
) -> AttentionReport:
    """Entropy, support, top probability, heat capacity and first-key share of every head, and the heads that stand out.

    The model runs once a batch, with whichever attention it uses; no matrix of weights is made. Queries of padding are
    left out, by `attention_mask`; positions count from the first token that is none. Within `tempered` the heads are
    those of the tempered model, T the one that it had. What a query weighs are the keys
    that it sees, n in number; a sink, as in gpt-oss, counts as one more.

    Four things are found of heads, over the queries with n >= `least_keys`:

    * **collapsed**: the support e^H is at most `collapsed` for a share `nearly` of the queries or more;
    * **uniform**: the normalised entropy H / log n is at least `uniform` for a share `nearly` or more;
    * **sink**: the mean weight on the first key is at least `sink`; the first that any query of the sequence sees;
    * **melting** or **freezing**: H / log n rises or falls by `drift` or more each time that n doubles (least squares
      over bins of log n, of sequences of all lengths); `Trend.turns_at` is the n at which that line passes 1/2.

    Parameters
    ----------
    model : nn.Module
        A model of transformers that asks it for its attention function, as most do; on any device.
    inputs : tensor of token ids (batch, tokens), mapping of tensors, or iterable of these
        What the model is called with, batch by batch; lengths may differ between batches.
    relative : sequence of float
        Temperatures relative to the model's own at which to say what some 64 queries of the first batch would be.
    collapsed, uniform, sink, nearly, drift, least_keys : float
        The thresholds above.
    queries : int or None
        Of a longer sequence so many, evenly spread, are looked at, which costs in proportion; None is all.
    tell : callable, optional
        Called with the number of batches done.

    Returns
    -------
    AttentionReport
        Numbers are means over queries; NaN for top probability and heat capacity where a fused kernel had no such.
        `logitherm.report.attention.render_attention(report.to_dict() | {"model": "its name"})` is the page that the
        command line writes.

    Raises
    ------
    ValueError
        Thresholds out of range; no inputs, or none long enough; a model that asks transformers for nothing.

    References
    ----------
    Zhai et al. (2023), Stabilizing Transformer training by preventing attention entropy collapse; Xiao et al. (2024),
    Efficient streaming language models with attention sinks; Nakanishi (2025), Scalable-Softmax.

    Examples
    --------
    >>> import torch
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50))
    >>> report = attention_report(model, torch.arange(32)[None])
    >>> report.uniform    # of random weights all heads
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    >>> [value.round(2).tolist() for value in report.values("normalised_entropy")]
    [[1.0, 1.0], [1.0, 1.0]]
    """
    limits = {
        "collapsed": float(collapsed), "uniform": float(uniform), "sink": float(sink), "nearly": float(nearly),
        "drift": float(drift), "least_keys": float(least_keys),
    }  # fmt: skip
    require_model(model)
    relative = tuple(np.atleast_1d(np.asarray(relative, dtype=np.float64)).tolist())
    _require(limits, relative)
    if queries is not None and queries < 1:
        raise ValueError(f"queries: must be at least 1; got {queries}; None is all")
    names = {id(module): name for name, module in model.named_modules()}
    sums: dict[int, HeadSums] = {}
    other: dict[int, Mapping[str, np.ndarray]] = {}
    ids: dict[int, int] = {}
    lengths: list[list[int]] = []  # of the sequences of each batch
    masks: dict[str, np.ndarray] = {}
    plain = relative

    def look(call: LayerCall, run: Callable[..., Any]) -> Any:
        number = ids.setdefault(id(call.module), len(ids))
        given = call.inputs()
        name = names[id(call.module)]
        places = _places(masks, name, call.query)
        if not lengths[-1]:  # the first call of this batch
            lengths[-1] = (places >= 0).sum(1).tolist()
        if queries is not None and call.query.shape[2] > queries:
            rows = np.linspace(0, call.query.shape[2] - 1, queries).astype(int)
            given, places = of_queries(given, rows), places[:, rows]
        layer = sums.setdefault(number, HeadSums(name, limits))
        layer.add(attention_state(**given, empty="nan"), given, places)
        if plain and number not in other:
            other[number] = at_temperatures(given, np.asarray(plain), places, least_keys=int(least_keys))
        return run()

    accepted = inspect.signature(model.forward).parameters
    options = {name: value for name, value in (("use_cache", False), ("logits_to_keep", 1)) if name in accepted}
    device = next(model.parameters()).device
    with evaluating(model):
        for done, batch in enumerate(_batches(inputs)):
            batch = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in batch.items()}
            masks = {
                name: x.cpu().numpy() > 0
                for name, x in batch.items()
                if name in ("attention_mask", "decoder_attention_mask") and x is not None and x.ndim == 2
            }
            lengths.append([])
            with attending(model, look):
                model(**batch, **{name: value for name, value in options.items() if name not in batch})
            if tell is not None:
                tell(done + 1)
    if not lengths:
        raise ValueError("inputs: must have a batch; got none; pass token ids (batch, tokens), or an iterable of them")
    all_lengths = [n for of_batch in lengths for n in of_batch]
    if not any(layer.counted["queries"].any() for layer in sums.values()):
        raise ValueError(
            f"inputs: must have queries that see {least_keys} keys or more; the longest sequence has "
            f"{max(all_lengths)} tokens, and windows may be shorter; pass longer ones, or a lower least_keys"
        )
    return AttentionReport(
        tuple(sums[i] for i in range(len(sums))),
        limits,
        len(all_lengths),
        (min(all_lengths), max(all_lengths)),
        plain,
        tuple(other[i] for i in range(len(other))),
        queries,
    )


def _batches(inputs: Any) -> Iterator[dict[str, Any]]:
    """Each as the keyword arguments of a call."""
    if isinstance(inputs, (Tensor, Mapping)) or hasattr(inputs, "keys"):
        inputs = [inputs]
    if not isinstance(inputs, Iterable):
        raise TypeError(f"inputs: must be token ids, a mapping or an iterable of these; got {type(inputs).__name__}")
    for batch in inputs:
        given = describe(batch)
        hint = "a text alone is tokens[None]" if isinstance(batch, Tensor) else "take torch.as_tensor"
        if isinstance(batch, Tensor):
            batch = {"input_ids": batch}
        if not hasattr(batch, "keys") or not any(
            isinstance(batch[name], Tensor) and batch[name].ndim > 1 for name in batch
        ):
            raise TypeError(
                f"inputs: must be tensors of token ids (batch, tokens), or mappings with such; got {given}; {hint}"
            )
        yield {name: batch[name] for name in batch.keys()}  # noqa: SIM118 - some have no items


def _places(masks: Mapping[str, np.ndarray], name: str, query: Tensor) -> np.ndarray:
    """The positions of queries, -1 for padding; those of a decoder have a mask of their own."""
    decoder = "decoder" in name.split(".")
    real = masks.get("decoder_attention_mask" if decoder else "attention_mask")
    shape = (query.shape[0], query.shape[2])
    return positions_of(np.ones(shape, dtype=bool) if real is None or real.shape != shape else real)


def _require(limits: Mapping[str, float], relative: Sequence[float]) -> None:
    for name in ("uniform", "sink", "nearly"):
        if not 0 < limits[name] <= 1:
            raise ValueError(f"{name}: must be above 0 and at most 1; got {limits[name]:g}; it is a share")
    if not limits["collapsed"] >= 1:
        raise ValueError(f"collapsed: must be at least 1, one key; got {limits['collapsed']:g}")
    if not limits["drift"] > 0:
        raise ValueError(f"drift: must be positive; got {limits['drift']:g}")
    if not limits["least_keys"] >= 2:
        raise ValueError(f"least_keys: must be at least 2; got {limits['least_keys']:g}; one key leaves no choice")
    if not all(0 < t < float("inf") for t in relative):
        raise ValueError(f"relative: must be positive and finite; got {list(relative)}")
