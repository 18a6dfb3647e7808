"""Attention: how sharp every head is, and the temperature that makes it so.

`attention_state` is for NumPy and PyTorch; all else is PyTorch's, and loaded when it is used.
"""

from __future__ import annotations

from typing import Any

from logitherm.attention.auditing.configuration import audit
from logitherm.attention.auditing.layers import AttentionAudit, LayerAudit
from logitherm.attention.auditing.weights import audit_model
from logitherm.attention.state import AttentionState, attention_state

_LATE = {
    "TemperedAttention": "module",
    "resolve_temperature": "tempered",
    "tempered_attention": "tempered",
}

__all__ = ["AttentionAudit", "AttentionState", "LayerAudit", "attention_state", "audit", "audit_model", *_LATE]


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATE[name]}"), name)
