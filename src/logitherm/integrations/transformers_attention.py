"""The attention of a Hugging Face model while it runs: what its layers are about to do, and the means to change it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

try:
    from transformers.modeling_utils import AttentionInterface
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.transformers_attention", "transformers", "transformers") from error

import torch
from torch import Tensor, nn

from logitherm.attention import AttentionState, attention_state

Run = Callable[..., Any]  # the attention function with its arguments; query=... and scaling=... may be others

_hooks: list[Callable[[Run], Run]] = []  # of the `attending` that last, in their order
_get_interface = AttentionInterface.get_interface


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer's attention function.

    Attributes
    ----------
    layer : int
        Its `layer_idx`, or else its number in the order of first calls.
    module : nn.Module
    query, key : tensor, shape (batch, heads, queries or keys, width)
        Rotated and scaled as the layer has them; key heads may be fewer.
    mask : tensor or None
        Boolean, True for keys that are seen, or to be added to scores; broadcasts to (batch, heads, queries, keys).
    scaling : float
        What scores are multiplied by: 1 / T.
    causal : bool
    softcap : float, tensor that broadcasts against (batch, heads, queries, 1), or None
    sink : tensor or None, shape (heads,)
    """

    layer: int
    module: nn.Module
    query: Tensor
    key: Tensor
    mask: Tensor | None
    scaling: float
    causal: bool
    softcap: float | Tensor | None
    sink: Tensor | None

    def inputs(self) -> dict[str, Any]:
        """What `attention_state` is to be given of it."""
        boolean = self.mask is not None and self.mask.dtype == torch.bool
        return {
            "q": self.query.detach(),
            "k": self.key.detach().to(self.query.dtype),
            "temperature": 1 / self.scaling,
            "mask": self.mask if boolean else None,
            "bias": None if self.mask is None or boolean else _with_infinities(self.mask),
            "causal": self.causal,
            "softcap": self.softcap.detach()[..., 0] if isinstance(self.softcap, Tensor) else self.softcap,
            "sink": None if self.sink is None else self.sink.detach()[:, None],
        }

    def state(self) -> AttentionState:
        """The state of its attention; NaN for queries that see no key, as those of padding."""
        return attention_state(**self.inputs(), empty="nan")


@contextmanager
def attending(model: nn.Module, around: Callable[[LayerCall, Run], Any]) -> Iterator[None]:
    """While it lasts, `around(call, run)` stands in place of the attention function of every layer of a model.

    It returns what `run()` returns, or `run(query=..., scaling=...)`, and `softcap=...` where there is one. Layers must
    ask transformers for their attention function, as most do; whichever of them the model uses (sdpa, eager, flash,
    flex) is the one that runs. Of several that are nested the inner one sees what those around it have changed.

    Raises
    ------
    TypeError
        For what is no model.
    ValueError
        At the end, if no layer asked for one.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50)).eval()
    >>> def look(call, run):
    ...     print(call.layer, tuple(call.query.shape), call.scaling)
    ...     return run()
    >>> with attending(model, look):
    ...     _ = model(torch.arange(5)[None])
    0 (1, 2, 5, 8) 0.3535533905932738
    1 (1, 2, 5, 8) 0.3535533905932738
    """
    require_model(model)
    mine = {id(module) for module in model.modules()}
    order: dict[int, int] = {}

    def hook(function: Run) -> Run:
        def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
            if id(module) not in mine:
                return function(module, query, key, value, mask, **options)
            number = order.setdefault(id(module), len(order))

            def run(query: Tensor = query, **changed: Any) -> Any:
                return function(module, query, key, value, mask, **options | changed)

            return around(_call(number, module, query, key, mask, options), run)

        return attend

    _hooks.append(hook)
    AttentionInterface.get_interface = _hooked  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        _hooks.remove(hook)
        if not _hooks:
            AttentionInterface.get_interface = _get_interface  # type: ignore[method-assign]
    if not order:
        raise ValueError(
            "model: must run within, and ask transformers for its attention function; no layer of "
            f"{type(model).__name__} did; take another"
        )


def _hooked(self: Any, implementation: str, default: Run) -> Run:
    """The attention function of transformers, within the hooks there are: the last to come is next to it."""
    function = _get_interface(self, implementation, default)
    for hook in reversed(_hooks):
        function = hook(function)
    return function


def require_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model: must be a loaded model; got {type(model).__name__}; "
            "transformers.AutoModelForCausalLM.from_pretrained loads one"
        )


def _call(number: int, module: nn.Module, query: Tensor, key: Tensor, mask: Any, options: dict[str, Any]) -> LayerCall:
    scaling = options.get("scaling")
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    bias = options.get("position_bias")
    layer = getattr(module, "layer_idx", None)
    return LayerCall(
        number if layer is None else int(layer),
        module,
        query,
        key,
        mask if bias is None else _with_bias(mask, bias),
        query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        bool(causal) and mask is None and query.shape[-2] > 1,
        options.get("softcap"),
        options.get("s_aux"),
    )


def _with_bias(mask: Tensor | None, bias: Tensor) -> Tensor:
    if mask is None:
        return bias
    return torch.where(mask, bias, -torch.inf) if mask.dtype == torch.bool else mask + bias


def _with_infinities(mask: Tensor) -> Tensor:
    """Masks that are added have the least number of their dtype where a key is not seen."""
    return torch.where(mask <= torch.finfo(mask.dtype).min / 2, -torch.inf, mask)
