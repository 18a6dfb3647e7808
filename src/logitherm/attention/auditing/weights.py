"""What of the temperature was learned: scales, gains of the norms of q and k, sinks, read from a model's weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from logitherm.attention.auditing.caveats import caveats
from logitherm.attention.auditing.configuration import audit
from logitherm.attention.auditing.layers import AttentionAudit, Factor, LayerAudit

NORMS = (("q_norm", "k_norm"), ("q_layernorm", "k_layernorm"), ("query_layernorm", "key_layernorm"))


def audit_model(model: Any) -> AttentionAudit:
    """`audit` of a transformers model: its configuration, and what was learned, from its weights.

    Learned are the gains of norms of q and k, whose products multiply the scores (their mean over the width counts,
    exactly so where all are equal), the scales of cosines, exp(min(logit_scale, ln 100)), and sinks. Scales that the
    modules hold are compared with those of the audit, and differences are among the warnings.

    Parameters
    ----------
    model : torch.nn.Module
        With `config`, as models of transformers have it.

    Returns
    -------
    AttentionAudit

    Raises
    ------
    TypeError
        Something else.
    ValueError
        As `audit` does.

    References
    ----------
    Liu et al. (2022), Swin Transformer V2, equation 2; Dehghani et al. (2023), Scaling Vision Transformers to 22
    Billion Parameters, section 2, for norms of q and k.

    Examples
    --------
    >>> from transformers import Qwen3Config, Qwen3Model
    >>> from logitherm.attention import audit_model
    >>> sizes = dict(hidden_size=8, intermediate_size=8, num_attention_heads=2, num_key_value_heads=2, vocab_size=4)
    >>> model = Qwen3Model(Qwen3Config(num_hidden_layers=1, head_dim=4, **sizes))
    >>> model.layers[0].self_attn.q_norm.weight.data.fill_(3.0).shape
    torch.Size([4])
    >>> round(audit_model(model).inverse_temperature(0), 3)    # 3 × 1 / sqrt(4)
    1.5
    """
    if not hasattr(model, "named_modules") or not hasattr(model, "config"):
        raise TypeError(
            f"model: must be a model of transformers; got {type(model).__name__}; pass a configuration to audit"
        )
    found = audit(model.config)
    modules = _attentions(model, len(found.layers))
    general = [sentence for sentence in found.warnings if sentence not in caveats(list(found.layers))]
    if modules is None:
        said = "The attention modules were not recognised among the model's, so that no weights were read."
        return replace(found, warnings=(*found.warnings, said))
    layers = []
    for layer, module in zip(found.layers, modules):
        layers.append(_learned(layer, module))
        general += _compared(layers[-1], module)
    return replace(found, layers=tuple(layers), warnings=tuple(dict.fromkeys([*general, *caveats(layers)])))


def _attentions(model: Any, layers: int) -> list[Any] | None:
    """The modules of attention, one a layer; None where it cannot be told which they are."""
    marks = ("q_proj", "q_b_proj", "qkv_proj", "c_attn", "query_key_value", "logit_scale", "q_norm", "Wqkv")
    held = [m for _, m in model.named_modules() if any(hasattr(m, mark) for mark in marks)]
    numbered = {m.layer_idx: m for m in held if isinstance(getattr(m, "layer_idx", None), int)}
    if sorted(numbered) == list(range(layers)) and len(held) == layers:
        return [numbered[i] for i in range(layers)]
    return held if len(held) == layers else None


def _learned(layer: LayerAudit, module: Any) -> LayerAudit:
    if math.isnan(layer.base):
        return layer
    if layer.similarity == "cosine" and hasattr(module, "logit_scale"):
        scales = np.minimum(_numbers(module.logit_scale).reshape(-1), math.log(100))
        value = tuple(float(math.exp(s)) for s in scales)
        return replace(layer, factors=(Factor("logit scale", value, "exp(min(logit_scale, ln 100))", learned=True),))
    if layer.sink and getattr(module, "sinks", None) is not None:
        layer = replace(layer, sink=tuple(_numbers(module.sinks).reshape(-1).tolist()))
    if layer.qk_norm and "gains" in layer.qk_norm:
        names = next((pair for pair in NORMS if all(hasattr(module, name) for name in pair)), None)
        q, k = (None, None) if names is None else (_gains(getattr(module, name), layer.width) for name in names)
        if q is not None and k is not None:
            return _with_gains(layer, q, k)
    return layer


def _gains(norm: Any, width: int | None) -> np.ndarray | None:
    """Those of a norm, (heads or 1, width): what it makes of signs in turn, which have mean 0 and one size."""
    import torch

    weight = getattr(norm, "weight", None)
    if weight is None or width is None or weight.shape[-1] % 2:
        return None
    signs = torch.ones_like(weight.detach()).float()
    signs[..., 1::2] = -1
    kept = 64 * signs.to(weight.dtype)  # large against the small number that norms add
    with torch.no_grad():  # half the difference of both signs leaves out a bias, and 1 + weight is seen as what it is
        made = (norm(kept[None]) - norm(-kept[None]))[0].float() / 2 * signs
    return _numbers(made).reshape(-1, width)


def _with_gains(layer: LayerAudit, q: np.ndarray, k: np.ndarray) -> LayerAudit:
    heads = max(len(q), len(k))
    products = np.repeat(q, heads // len(q), axis=0) * np.repeat(k, heads // len(k), axis=0)
    means = products.mean(-1)
    value: Any = float(means[0]) if np.allclose(means, means[0], rtol=1e-6) else tuple(means.tolist())
    factor = Factor("QK-norm gains", value, "mean of q gain · k gain", learned=True)
    return replace(layer, factors=(*layer.factors, factor), gains=(float(products.min()), float(products.max())))


def _compared(layer: LayerAudit, module: Any) -> list[str]:
    """A sentence where the module holds another scale than the audit has."""
    held = next(
        (getattr(module, n) for n in ("scaling", "softmax_scale", "inv_norm_factor") if hasattr(module, n)), None
    )
    if not isinstance(held, float) or math.isnan(layer.base) or math.isclose(held, layer.base, rel_tol=1e-5):
        return []
    return [
        f"In layer {layer.index} the module {type(module).__name__} has a scale of {held:.6g}, and the configuration "
        f"says {layer.base:.6g}: trust the module."
    ]


def _numbers(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach().float().cpu().numpy(), dtype=np.float64)
