"""Attention: how sharp every head is, and the temperature that makes it so."""

from logitherm.attention.state import AttentionState, attention_state

__all__ = ["AttentionState", "attention_state"]
