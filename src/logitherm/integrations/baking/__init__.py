"""Fitted calibrators folded into the models they belong to, so that inference costs nothing."""

from logitherm.integrations.baking.dispatch import bake
from logitherm.integrations.baking.fold import Baked
from logitherm.integrations.baking.onnx_file import bake_onnx
from logitherm.integrations.baking.safetensors_file import bake_safetensors

__all__ = ["Baked", "bake", "bake_onnx", "bake_safetensors"]
