"""The factor by which extended rotary positions scale queries and keys, and so its square the scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from logitherm.attention.auditing.families import Family

WITHOUT = ("default", "linear", "dynamic", "llama3", "proportional", "axial", "mrope")


def parameters(fields: Mapping[str, Any], family: Family, kind: str) -> dict[str, Any]:
    """Those of one kind of layers, under today's names."""
    older = fields.get("rope_scaling")
    rope = older or fields.get("rope_parameters") or {}
    if any(isinstance(value, Mapping) for value in rope.values()):
        rope = rope.get(kind) or {}
    elif family.scaled == "full" and kind != "full_attention":
        rope = {}
    rope = dict(rope)
    rope["rope_type"] = rope.get("rope_type") or rope.get("type") or "default"
    if fields.get("model_type") == "phi3" and rope["rope_type"] in ("su", "yarn"):
        rope["rope_type"] = "longrope"
    if fields.get("original_max_position_embeddings") is not None:
        rope["original_max_position_embeddings"] = fields["original_max_position_embeddings"]
    elif rope.get("original_max_position_embeddings") is None:
        rope["original_max_position_embeddings"] = fields.get("max_position_embeddings")
    return rope


def mscale(factor: float, weight: float = 1.0) -> float:
    """0.1 weight ln(factor) + 1, of YaRN (Peng et al. 2023, equation 15)."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1


def attention_factor(fields: Mapping[str, Any], rope: Mapping[str, Any]) -> tuple[float, str, str | None]:
    """What multiplies q and k alike: its value and formula, and a doubt where there is one."""
    kind = rope["rope_type"]
    if "short_mscale" in rope:
        doubt = (
            f"Rotary positions have a factor of their own beyond {rope['original_max_position_embeddings']} tokens, "
            f"long_mscale = {rope.get('long_mscale')}; that of shorter texts, short_mscale, is what is counted here."
        )
        return float(rope["short_mscale"]), "short_mscale", doubt
    if kind in WITHOUT:
        return 1.0, "1", None
    if kind not in ("yarn", "longrope"):
        return 1.0, "1", f"The rotary type {kind!r} is not known; it is assumed not to scale queries and keys."
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"]), "attention_factor", None
    factor = rope.get("factor")
    if factor is None:
        factor = needed(fields.get("max_position_embeddings"), "max_position_embeddings", kind) / needed(
            rope["original_max_position_embeddings"], "original_max_position_embeddings", kind
        )
    if kind == "longrope":
        length = needed(rope["original_max_position_embeddings"], "original_max_position_embeddings", kind)
        value = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(length))
        return value, f"sqrt(1 + ln {factor:g} / ln {length:g})", None
    one, other = rope.get("mscale"), rope.get("mscale_all_dim")
    if one and other:
        return (
            mscale(factor, one) / mscale(factor, other),
            f"m({one:g}) / m({other:g}), m(x) = 0.1 x ln {factor:g} + 1",
            None,
        )
    return mscale(factor), f"0.1 ln {factor:g} + 1", None


def needed(value: Any, name: str, kind: str) -> float:
    if value is None:
        raise ValueError(f"config: rotary positions of type {kind} need {name}; got none; add it")
    return float(value)


def rotary_share(fields: Mapping[str, Any], rope: Mapping[str, Any], family: Family) -> float:
    """Of the width of a head, how much is rotated."""
    if family.scale == "mla":
        turned, still = fields["qk_rope_head_dim"], fields["qk_nope_head_dim"]
        return turned / (turned + still)
    for name in ("partial_rotary_factor", "rotary_pct", "rope_pct"):
        value = rope.get(name, fields.get(name))
        if value is not None:
            return float(value)
    return family.rotary
