"""What to know of an audit: what was assumed, what only weights tell, and where implementations differ."""

from __future__ import annotations

import math

from logitherm.attention.auditing.families import Family
from logitherm.attention.auditing.layers import LayerAudit


def assumed(model_type: str, family: Family, untold: list[str]) -> list[str]:
    """Of a model type that is not known."""
    scales = {"head": "1/sqrt(head width)", "mla": "1/sqrt(plain + rotary width), with the square of mscale"}
    said = [
        f"The model type {model_type!r} is not known. Assumed are a scale of {scales.get(family.scale, family.scale)}, "
        "softmax in every layer, and no learned scale, norm of q and k, sink or tuning by position but what its fields "
        "name: compare with its code."
    ]
    if untold:
        said.append(f"Fields that may touch the temperature and are not read: {', '.join(untold)}.")
    return said


def caveats(layers: list[LayerAudit]) -> list[str]:
    """What the traits of layers are known to come with, a sentence or two each."""
    soft = [each for each in layers if not math.isnan(each.base)]
    return [*_rotary(soft), *_scale(soft), *_position(soft), *_softmax(soft), *_learned(soft)]


def _rotary(layers: list[LayerAudit]) -> list[str]:
    values = sorted(
        {f.value for each in layers for f in each.factors if f.part == "rotary" and isinstance(f.value, float)}
    )
    said = [
        f"Rotary positions scale q and k, each by {math.sqrt(value):.4g}, and so scores by {value:.4g}: engines that "
        "leave the factor out, or apply it once, write fluent text at another temperature."
        for value in values
    ]
    share = next((each.rotary for each in layers if each.parts_differ), None)
    if share is not None:
        said.append(
            f"Only {100 * share:.3g} % of the width is rotated and scaled by that; the inverse temperature of the rest "
            'is that of part="plain".'
        )
    return said


def _scale(layers: list[LayerAudit]) -> list[str]:
    odd = [
        each
        for each in layers
        if each.similarity == "dot product" and each.width and not math.isclose(each.base, each.width**-0.5)
    ]
    if not odd:
        return []
    low, high = min(each.base for each in odd), max(each.base for each in odd)
    usual = f"1/sqrt(width) = {(odd[0].width or 1) ** -0.5:.4g}"
    scale = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    said = [
        f"The scale is {scale}, not {usual}, which kernels take unless told: scale= of torch and "
        "softmax_scale= of flash-attn multiply by what they are given, attn_scale of TransformerLens divides."
    ]
    if any("number of the layer" in each.base_source for each in odd):
        said.append("Not every engine divides by the number of the layer (scale_attn_by_inverse_layer_idx).")
    return said


def _position(layers: list[LayerAudit]) -> list[str]:
    if any(each.tuning is not None and each.tuning.offset for each in layers):
        return [
            "The tuning by position is on at every length in transformers, which counts places in a row of the batch, "
            "padding included; vLLM has it on only for texts beyond 32k tokens."
        ]
    if any(each.tuning is not None for each in layers):
        return ["Queries are multiplied by a number that grows with position; an engine without it is too hot far on."]
    return []


def _softmax(layers: list[LayerAudit]) -> list[str]:
    said = []
    if any(each.softcap for each in layers):
        said.append(
            "The softcap makes the inverse temperature depend on the score s, by 1 - tanh(s / c)²; what is listed is "
            "that at s = 0. torch's scaled_dot_product_attention has no softcap, nor have all flash kernels: the sdpa "
            "of transformers refuses it, or in older releases leaves it out."
        )
    if any(each.sink for each in layers):
        said.append(
            "The sink, a learned score without a key, takes its share of every row's weight and leaves ratios of the "
            "others as they are. torch's scaled_dot_product_attention has none: the sdpa of transformers leaves it out."
        )
    return said


def _learned(layers: list[LayerAudit]) -> list[str]:
    said = []
    if any("logit scale" in each.unread for each in layers):
        said.append(
            "The scale is learned, which a configuration cannot tell: listed is that of a new model, 10; at most it is "
            "100. audit_model reads it."
        )
    if any("QK-norm gains" in each.unread for each in layers):
        said.append(
            "q and k are normalised, and their learned gains set the temperature, which a configuration cannot tell: "
            "listed is that of normalised q and k at gains of 1. audit_model reads them."
        )
    if any(each.gains is not None and not math.isclose(*each.gains, rel_tol=1e-4) for each in layers):
        said.append(
            "The gains of q and k differ over the width, and so does the inverse temperature: listed is that of their "
            "mean product in each head."
        )
    return said
