"""Attention: how sharp every head is, and the temperature that makes it so."""

from logitherm.attention.auditing import audit
from logitherm.attention.layers import AttentionAudit, LayerAudit
from logitherm.attention.state import AttentionState, attention_state
from logitherm.attention.weights import audit_model

__all__ = ["AttentionAudit", "AttentionState", "LayerAudit", "attention_state", "audit", "audit_model"]
