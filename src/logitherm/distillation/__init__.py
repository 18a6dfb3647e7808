"""Teacher to student: losses at a temperature. PyTorch only."""

from logitherm.distillation.loss import distillation_loss
from logitherm.distillation.sparse import SampledTeacher, SparseTeacher
from logitherm.distillation.sparse_loss import sparse_distillation_loss

__all__ = [
    "SampledTeacher",
    "SparseTeacher",
    "distillation_loss",
    "sparse_distillation_loss",
]
