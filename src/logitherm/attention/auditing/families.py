"""What the attention of each model type does beyond its configuration, as the transformers library (5.24) has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """How the code of a model type reads its configuration.

    Attributes
    ----------
    scale : str
        "head": 1 / sqrt(width of a head); "mla": 1 / sqrt(plain + rotary width), times the square of YaRN's mscale for
        `mscale_all_dim`; "one": no scale; "gpt2"; "query_pre_attn_scalar" or "attention_multiplier", the field.
    norm : str or None
        How q and k are normalised, and `norm_field`, which switches that on.
    norm_last : bool
        Whether after the rotation, whose factor it then removes.
    rope : str
        Which layers rotate: "all", "none", "no_rope_layers" (the field), "sliding" (where some layers are).
    scaled : str
        To which layers an older, flat `rope_scaling` applies: "all" or "full".
    tuning : str or None
        By position: "llama4" or "ministral".
    windows : str
        Where `layer_types` is missing: "none", "all", "late" (from `max_window_layers`, if used), "first" (every
        second, from the first), "pattern" (all but every n-th), "chunks" (where rotated), "local" (as
        `attention_types` has it).
    rotary : float
        The share of the width that is rotated, where no field says it.
    defaults : mapping
        What transformers takes where a file leaves a field out.
    """

    scale: str = "head"
    norm: str | None = None
    norm_field: str | None = None
    norm_last: bool = False
    rope: str = "all"
    scaled: str = "all"
    softcap: bool = False
    sink: bool = False
    cosine: bool = False
    tuning: str | None = None
    windows: str = "none"
    rotary: float = 1.0
    defaults: Mapping[str, Any] = field(default_factory=dict)


RMS_HEAD = "RMS over each head, with gains"
RMS_ALL = "RMS over all heads together, with gains"
LAYER_HEAD = "LayerNorm over each head, with gains"
MLA = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64}

FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("llama", "olmo"), Family()),
    **dict.fromkeys(("opt", "bert", "roberta", "distilbert", "bloom"), Family(rope="none")),
    **dict.fromkeys(("glm", "glm4"), Family(rotary=0.5, defaults={"head_dim": 128})),
    "gemma": Family(defaults={"head_dim": 256}),
    "gpt_neox": Family(rotary=0.25),
    **dict.fromkeys(("mixtral", "phi3", "starcoder2"), Family(windows="all")),
    "mistral": Family(windows="all", defaults={"sliding_window": 4096}),
    "qwen2": Family(windows="late"),
    "gpt_neo": Family(scale="one", rope="none", windows="local", defaults={"window_size": 256}),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), Family(scale="gpt2", rope="none")),
    "qwen3": Family(norm=RMS_HEAD, windows="late", defaults={"head_dim": 128}),
    "qwen3_moe": Family(norm=RMS_HEAD, windows="all"),
    "olmo2": Family(norm=RMS_ALL),
    "olmoe": Family(norm=RMS_ALL),
    "olmo3": Family(
        norm=RMS_ALL,
        windows="pattern",
        scaled="full",
        defaults={"sliding_window": 4096, "sliding_window_pattern": 4},
    ),
    "phi": Family(norm=LAYER_HEAD, norm_field="qk_layernorm", rotary=0.5),
    "stablelm": Family(norm=LAYER_HEAD, norm_field="qk_layernorm", rotary=0.25),
    "cohere": Family(norm=LAYER_HEAD, norm_field="use_qk_norm"),
    "cohere2": Family(
        rope="sliding",
        windows="pattern",
        defaults={"sliding_window": 4096, "sliding_window_pattern": 4},
    ),
    "exaone4": Family(
        norm=RMS_HEAD,
        rope="sliding",
        windows="pattern",
        defaults={"sliding_window": 4096, "sliding_window_pattern": 4},
    ),
    "hunyuan_v1_dense": Family(norm=RMS_HEAD, norm_last=True),
    "gemma2": Family(
        scale="query_pre_attn_scalar",
        softcap=True,
        windows="first",
        defaults={
            "query_pre_attn_scalar": 256,
            "head_dim": 256,
            "attn_logit_softcapping": 50.0,
            "sliding_window": 4096,
        },
    ),
    "gemma3_text": Family(
        scale="query_pre_attn_scalar",
        norm=RMS_HEAD,
        softcap=True,
        windows="pattern",
        scaled="full",
        defaults={"query_pre_attn_scalar": 256, "head_dim": 256, "sliding_window": 4096, "sliding_window_pattern": 6},
    ),
    **dict.fromkeys(
        ("granite", "granitemoe"), Family(scale="attention_multiplier", defaults={"attention_multiplier": 1.0})
    ),
    "smollm3": Family(rope="no_rope_layers", defaults={"no_rope_layer_interval": 4}),
    "llama4_text": Family(
        norm="RMS over each head",
        norm_field="use_qk_norm",
        norm_last=True,
        rope="no_rope_layers",
        windows="chunks",
        tuning="llama4",
        defaults={
            "head_dim": 128,
            "use_qk_norm": True,
            "no_rope_layer_interval": 4,
            "attention_chunk_size": 8192,
            "attn_temperature_tuning": True,
            "floor_scale": 8192,
            "attn_scale": 0.1,
        },
    ),
    "ministral3": Family(
        tuning="ministral",
        windows="all",
        defaults={
            "head_dim": 128,
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 16.0,
                "original_max_position_embeddings": 16384,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
        },
    ),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3"), Family(scale="mla", defaults=MLA)),
    "gpt_oss": Family(
        sink=True,
        windows="first",
        defaults={
            "head_dim": 64,
            "sliding_window": 128,
            "rope_parameters": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096},
        },
    ),
    "swinv2": Family(cosine=True, rope="none"),
}

# Kinds of layers, as `layer_types` has them, that end in a softmax of products of queries and keys.
SOFTMAX = ("full_attention", "sliding_attention", "chunked_attention", "attention")
