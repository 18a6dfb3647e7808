"""A model's configuration as plain fields, whatever it comes as: object, dict, file, folder or name."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from logitherm.attention.auditing.families import SOFTMAX, Family

NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "width": ("head_dim", "attention_head_dim", "d_kv"),
}
# Fields that may touch the temperature of attention, and some that are known not to.
TELLING = re.compile(r"scal|softcap|temper|sink|qk_|_norm_qk|multiplier|logit_cap|attn_bias|alibi")
HARMLESS = re.compile(
    r"^(final_logit_softcapping|logits?_scal\w*|rope_\w+|scale_embedding|embedding_multiplier|scale_fmin)$"
)


def read(config: Any) -> dict[str, Any]:
    """The fields, as a dict of its own; those of the language model where it is a part."""
    if isinstance(config, (str, os.PathLike)):
        fields = _from_path(os.fspath(config))
    elif isinstance(config, Mapping):
        fields = dict(config)
    elif hasattr(config, "to_dict") and not isinstance(config, type):
        fields = dict(config.to_dict())
    else:
        raise TypeError(
            "config: must be a configuration of transformers, a dict of its fields, or the path or name of a model; "
            f"got {type(config).__name__}; pass model.config, say"
        )
    return fields


def language_part(fields: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration of the language model within a larger one; None where there is none."""
    inner = fields.get("text_config")
    if not isinstance(inner, Mapping):
        return None
    kind = fields.get("model_type", "")
    return {"model_type": f"{kind}_text" if kind in ("gemma3", "llama4") else "", **inner}


def _from_path(name: str) -> dict[str, Any]:
    path = Path(name)
    file = path / "config.json" if path.is_dir() else path
    if file.is_file():
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file}: must be JSON in UTF-8 ({error}); check the file") from error
        if not isinstance(fields, dict):
            raise ValueError(f"{file}: must hold a JSON object; got {type(fields).__name__}; check the file")
        return fields
    if path.is_dir() or path.suffix == ".json" or path.is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise ValueError(f"{file}: no such file; name a config.json, the folder that it is in, or a model of the hub")
    return _from_hub(name)


def _from_hub(name: str) -> dict[str, Any]:
    try:
        from transformers import PretrainedConfig
    except ImportError as error:
        raise ImportError(
            f"config: {name} is no file or folder, and names of the hub need the package transformers, which is not "
            "installed; run pip install 'logitherm[transformers]'"
        ) from error
    try:
        return dict(PretrainedConfig.get_config_dict(name)[0])
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"config: {name} is no file, folder or model that is found ({reason}); check its name"
        ) from error


def number(fields: Mapping[str, Any], what: str, *, needed: bool = True) -> Any:
    """A size by any of its names."""
    for name in NAMES[what]:
        if fields.get(name) is not None:
            value = fields[name]
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                raise ValueError(f"config: {name} must be a positive number; got {value!r}; mend it")
            return value
    if needed:
        raise ValueError(f"config: must have {NAMES[what][0]}, or {', '.join(NAMES[what][1:])}; got none; add it")
    return None


def head_width(fields: Mapping[str, Any]) -> int:
    width = number(fields, "width", needed=False)
    return int(width) if width is not None else int(number(fields, "hidden") // number(fields, "heads"))


def kinds_of(fields: Mapping[str, Any], family: Family, rotated: list[bool]) -> list[str]:
    """What kind of attention each layer has."""
    layers = len(rotated)
    given = fields.get("layer_types")
    if given is not None:
        if not isinstance(given, (list, tuple)) or len(given) != layers:
            raise ValueError(f"config: layer_types must be a list with one of {layers} layers; got {given!r}; mend it")
        return [str(kind) for kind in given]
    if family.windows == "local":
        spread = [kind for kinds, times in fields.get("attention_types") or () for kind in list(kinds) * times]
        return ["sliding_attention" if (spread[i:] or [""])[0] == "local" else "full_attention" for i in range(layers)]
    if family.windows == "chunks":
        return ["chunked_attention" if turned else "full_attention" for turned in rotated]
    used = fields.get("use_sliding_window", family.windows != "late")
    if fields.get("sliding_window") is None or not used:
        return ["full_attention"] * layers
    every = fields.get("sliding_window_pattern")
    late = fields.get("max_window_layers", 28)
    pattern = list(every) if isinstance(every, str) else None
    slides = {
        "all": lambda i: True,
        "late": lambda i: i >= late,
        "first": lambda i: i % 2 == 0,
        "pattern": lambda i: pattern[i % len(pattern)] == "L" and i < layers - 1 if pattern else (i + 1) % every != 0,
    }.get(family.windows, lambda i: False)
    return ["sliding_attention" if slides(i) else "full_attention" for i in range(layers)]


def window_of(fields: Mapping[str, Any], kind: str) -> int | None:
    name = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}.get(kind)
    value = None if name is None else fields.get(name, fields.get("window_size"))
    return None if value is None else int(value)


def rotation_by_field(fields: Mapping[str, Any], layers: int) -> list[bool]:
    """`no_rope_layers`, where 1 is a layer with rotary positions."""
    given = fields.get("no_rope_layers")
    if not given:
        every = fields.get("no_rope_layer_interval", 4)
        return [(i + 1) % every != 0 for i in range(layers)]
    if len(given) != layers:
        raise ValueError(f"config: no_rope_layers must have one of {layers} layers; got {len(given)}; mend it")
    return [bool(turned) for turned in given]


def untold(fields: Mapping[str, Any]) -> list[str]:
    """Fields of an unknown model type that may touch its temperature and that nothing here reads."""
    read = {"query_pre_attn_scalar", "attention_multiplier", "attn_logit_softcapping", "use_qk_norm", "qk_layernorm"}
    unset = (None, False, 0)
    return sorted(
        name
        for name, value in fields.items()
        if TELLING.search(name) and not HARMLESS.match(name) and name not in read and value not in unset
    )


def is_softmax(kind: str) -> bool:
    return kind in SOFTMAX
