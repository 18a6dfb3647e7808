"""Teacher to student: losses at a temperature. PyTorch only."""

from logitherm.distillation.linear import linear_distillation_loss
from logitherm.distillation.loss import distillation_loss

__all__ = ["distillation_loss", "linear_distillation_loss"]
