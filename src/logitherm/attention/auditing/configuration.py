"""Which temperature each layer of attention runs at, read from the configuration of its model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from logitherm.attention.auditing import fields as read_fields
from logitherm.attention.auditing import rope_scale
from logitherm.attention.auditing.caveats import assumed, caveats
from logitherm.attention.auditing.families import FAMILIES, LAYER_HEAD, Family
from logitherm.attention.auditing.layers import AttentionAudit, Factor, LayerAudit, PositionTuning


def audit(config: Any) -> AttentionAudit:
    """The inverse temperature of every attention layer, beta in softmax(beta q k), as a function of position.

    beta = base scale × (attention factor of the rotary positions)² × tuning by position, where q and k are what the
    learned projections give, normalised where the model normalises them, at gains of 1. Everything is read from the
    configuration; `audit_model` reads what was learned from the weights too.

    Parameters
    ----------
    config : transformers configuration, dict, or path or name
        A dict has the fields of `config.json`. A path is that of such a file or its folder; a name that of a model on
        the hub, of which the configuration alone is fetched, with transformers.

    Returns
    -------
    AttentionAudit
        `str()` of it is a table; `to_dict()` is fit for JSON. Of a model with a `text_config`, that part.

    Raises
    ------
    TypeError, ValueError
        Something else, a file that is not there, a size that is missing.

    References
    ----------
    The attention code of transformers 5.24. Peng et al. (2023), YaRN, section 3.4; Ding et al. (2024), LongRoPE;
    Nakanishi (2025), Scalable-Softmax, of which Llama 4 has its tuning by position; Liu et al. (2022), Swin
    Transformer V2, equation 2.

    Examples
    --------
    >>> from logitherm.attention import audit
    >>> found = audit({
    ...     "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
    ...     "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096},
    ... })
    >>> found.layers[0].words()
    '1/sqrt(16) × (0.1 ln 4 + 1)²'
    >>> round(found.inverse_temperature(0), 4), round(found.temperature(0), 4)
    (0.3241, 3.0853)
    """
    fields = read_fields.read(config)
    warnings = []
    part = read_fields.language_part(fields)
    if part is not None:
        warnings.append("Of this configuration the language model, text_config, is audited and no other part.")
        fields = part
    model_type = str(fields.get("model_type") or "unknown")
    family = FAMILIES.get(model_type)
    if family is None:
        family = _guess(fields)
        warnings += assumed(model_type, family, read_fields.untold(fields))
    else:
        missing = {name: value for name, value in family.defaults.items() if name not in fields}
        if "rope_scaling" in fields:
            missing.pop("rope_parameters", None)
        fields = {**fields, **missing}
        if missing:
            taken = ", ".join(f"{name} = {value}" for name, value in missing.items())
            warnings.append(f"The configuration leaves out fields, for which transformers takes {taken}.")
    if fields.get("is_encoder_decoder"):
        warnings.append("Of an encoder and a decoder, the layers of one are listed; cross-attention is not.")
    layers = _cosine(fields) if family.cosine else _layers(fields, family, warnings)
    warnings += caveats(layers)
    return AttentionAudit(model_type, tuple(layers), tuple(dict.fromkeys(warnings)))


def _guess(fields: Mapping[str, Any]) -> Family:
    """A family for a model type that is not known, by the fields that others have in common."""
    scale = next((name for name in ("query_pre_attn_scalar", "attention_multiplier") if fields.get(name)), "head")
    if fields.get("qk_rope_head_dim") and fields.get("qk_nope_head_dim"):
        scale = "mla"
    norm = next((name for name in ("use_qk_norm", "qk_layernorm", "qk_norm") if fields.get(name)), None)
    rotates = any(fields.get(name) for name in ("rope_parameters", "rope_scaling", "rope_theta"))
    return Family(
        scale=scale,
        norm=LAYER_HEAD.replace("LayerNorm", "Some norm") if norm else None,
        norm_field=norm,
        rope="no_rope_layers" if fields.get("no_rope_layers") else "all" if rotates else "none",
        softcap=fields.get("attn_logit_softcapping") is not None,
    )


def _layers(fields: Mapping[str, Any], family: Family, warnings: list[str]) -> list[LayerAudit]:
    count = int(read_fields.number(fields, "layers"))
    rotated = [family.rope != "none"] * count
    if family.rope == "no_rope_layers":
        rotated = read_fields.rotation_by_field(fields, count)
    kinds = read_fields.kinds_of(fields, family, rotated)
    if family.rope == "sliding" and fields.get("sliding_window") is not None:
        rotated = [kind == "sliding_attention" for kind in kinds]
    found = []
    for index, (kind, turned) in enumerate(zip(kinds, rotated)):
        if not read_fields.is_softmax(kind):
            warnings.append(f"Layers of kind {kind!r} are not known to have a softmax; nothing is said of them.")
            found.append(LayerAudit(index, kind, math.nan, "unknown"))
            continue
        found.append(_layer(fields, family, index, kind, turned, warnings))
    return found


def _layer(
    fields: Mapping[str, Any], family: Family, index: int, kind: str, turned: bool, warnings: list[str]
) -> LayerAudit:
    rope = rope_scale.parameters(fields, family, kind)
    base, source, width = _base(fields, family, rope, index)
    normed = family.norm is not None and (family.norm_field is None or bool(fields.get(family.norm_field)))
    if family.tuning == "llama4" and not turned:
        normed = False
    factors = []
    if turned:
        value, formula, doubt = rope_scale.attention_factor(fields, rope)
        if doubt:
            warnings.append(doubt)
        if value != 1 and normed and family.norm_last:
            warnings.append("The attention factor of the rotary positions is undone by the norm of q and k after it.")
        elif value != 1:
            factors.append(Factor("rotary attention factor, squared", value**2, f"({formula})²", "rotary"))
    cap = fields.get("attn_logit_softcapping") if family.softcap else None
    return LayerAudit(
        index=index,
        kind=kind,
        base=base,
        base_source=source,
        factors=tuple(factors),
        tuning=_tuning(fields, family, rope, turned),
        width=width,
        rotary=rope_scale.rotary_share(fields, rope, family) if turned else 0.0,
        window=read_fields.window_of(fields, kind),
        softcap=None if cap is None else float(cap),
        sink=family.sink,
        qk_norm=family.norm if normed else None,
    )


def _base(fields: Mapping[str, Any], family: Family, rope: Mapping[str, Any], index: int) -> tuple[float, str, int]:
    """The scale of all scores, its formula, and the width of what is multiplied."""
    if family.scale == "mla":
        width = int(fields["qk_nope_head_dim"] + fields["qk_rope_head_dim"])
        base, source = width**-0.5, f"1/sqrt({width})"
        weight = rope.get("mscale_all_dim")
        if rope["rope_type"] != "default" and weight:
            factor = rope_scale.needed(rope.get("factor"), "factor", rope["rope_type"])
            base *= rope_scale.mscale(factor, weight) ** 2
            source += f" × (0.1 · {weight:g} ln {factor:g} + 1)²"
        return base, source, width
    width = read_fields.head_width(fields)
    if family.scale == "gpt2":
        scaled = fields.get("scale_attn_weights", True)
        base, source = (width**-0.5, f"1/sqrt({width})") if scaled else (1.0, "1 (scale_attn_weights is off)")
        if fields.get("scale_attn_by_inverse_layer_idx", False):
            base, source = base / (index + 1), f"{source} / {index + 1} (number of the layer)"
        return base, source, width
    if family.scale == "one":
        return 1.0, "1 (scores are not scaled)", width
    if family.scale == "head":
        return width**-0.5, f"1/sqrt({width})", width
    value = fields[family.scale]
    if family.scale == "attention_multiplier":
        return float(value), f"{value:g} (attention_multiplier)", width
    return value**-0.5, f"1/sqrt({value:g}) ({family.scale})", width


def _tuning(fields: Mapping[str, Any], family: Family, rope: Mapping[str, Any], turned: bool) -> PositionTuning | None:
    if family.tuning == "llama4" and fields.get("attn_temperature_tuning") and not turned:
        return PositionTuning(float(fields["attn_scale"]), float(fields["floor_scale"]), 1)
    slope = rope.get("llama_4_scaling_beta")
    if family.tuning == "ministral" and slope:
        return PositionTuning(float(slope), float(rope["original_max_position_embeddings"]), 0)
    return None


def _cosine(fields: Mapping[str, Any]) -> list[LayerAudit]:
    """Swin v2: cosines times exp(min(logit_scale, ln 100)), learned for every head from ln 10 on."""
    depths, heads = fields.get("depths"), fields.get("num_heads")
    if not isinstance(depths, (list, tuple)) or not isinstance(heads, (list, tuple)) or len(depths) != len(heads):
        raise ValueError(
            f"config: depths and num_heads must be lists of one length; got {depths!r}, {heads!r}; mend them"
        )
    scale = Factor("logit scale", 10.0, "exp(min(logit_scale, ln 100)), initially 10", learned=True)
    width = fields.get("embed_dim")
    found: list[LayerAudit] = []
    for stage, (depth, count) in enumerate(zip(depths, heads)):
        size = None if width is None else int(width * 2**stage // count)
        for _ in range(depth):
            one = LayerAudit(len(found), "full_attention", 1.0, "1", (scale,), similarity="cosine", width=size)
            found.append(one)
    return found
