"""Hugging Face transformers: the classification head, or the head of a language model."""

from __future__ import annotations

from typing import Any

from torch import nn

from logitherm.integrations.baking.fold import fitted_to, is_temperature
from logitherm.integrations.baking.torch_linear import fold_linear, linear_of
from logitherm.kernels.affine import Affine


def fold_head(model: Any, head: str | None, mapped: Affine) -> None:
    """Fold a map into the layer that makes the logits, found by the kind of model unless it is named."""
    output = model.get_output_embeddings()
    if head is None:
        head = _name_of(model, output) if output is not None else _classification_head(model)
    linear = linear_of(model, head)
    if linear is output:
        _require_last(model, head)
        _require_untied(model, head, mapped)
    if linear.bias is None and fitted_to(mapped, linear.out_features, f"the layer {head!r}").bias.any():
        raise ValueError(
            f"calibrator: must have no bias for {head!r} of {type(model).__name__}, which has none: from_pretrained "
            "would drop a new one; use TemperatureScaling"
        )
    fold_linear(model, head, linear, mapped)


def _name_of(model: nn.Module, layer: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is layer)


def _classification_head(model: Any) -> str:
    """The one linear layer behind the body that has an output for every label."""
    body = f"{model.base_model_prefix}."
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == model.config.num_labels
        and not name.startswith(body)
    ]
    if len(found) != 1:
        raise ValueError(
            f"head: must be named for {type(model).__name__}, where {len(found)} linear layers behind the body have "
            f"{model.config.num_labels} outputs ({', '.join(found) or 'none'}); give head="
        )
    return found[0]


def _require_last(model: Any, head: str) -> None:
    """Raise where something that is not linear, or not scaled along, follows the layer."""
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if cap is not None:
        raise ValueError(
            f"model: must end in its linear layer; {type(model).__name__} bends the logits of {head!r} afterwards "
            f"(final_logit_softcapping = {cap}); set generation_config.temperature instead"
        )
    added = getattr(model, "final_logits_bias", None)
    if added is not None and bool(added.any()):
        raise ValueError(
            f"model: must end in its linear layer; {type(model).__name__} adds final_logits_bias to {head!r}; "
            "set generation_config.temperature instead"
        )


def _require_untied(model: Any, head: str, mapped: Affine) -> None:
    embeddings, linear = model.get_input_embeddings(), model.get_submodule(head)
    shared = getattr(embeddings, "weight", None) is linear.weight
    if not shared and not (model.config.tie_word_embeddings and getattr(model, "_tied_weights_keys", None)):
        return
    what = "shares its matrix with" if shared else "would be tied again when loaded to"
    number = f" to {1 / mapped.scale.mean():.4g}" if is_temperature(mapped) else ""
    raise ValueError(
        f"model: must have a head of its own; {head!r} {what} the input embeddings "
        f"{_name_of(model, embeddings)!r}, which would change too; untie first (copy {head}.weight, "
        f"config.tie_word_embeddings = False), or set generation_config.temperature{number} instead"
    )
