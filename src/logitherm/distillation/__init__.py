"""Teacher to student: losses at a temperature. PyTorch only."""

from logitherm.distillation.loss import distillation_loss

__all__ = ["distillation_loss"]
