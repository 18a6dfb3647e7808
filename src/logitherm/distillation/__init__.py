"""Teacher to student: losses at a temperature, and teachers kept on disk. PyTorch only."""

from logitherm.distillation.linear import linear_distillation_loss
from logitherm.distillation.linear_sparse import linear_sparse_distillation_loss
from logitherm.distillation.loss import distillation_loss
from logitherm.distillation.sparse import SampledTeacher, SparseTeacher
from logitherm.distillation.sparse_loss import sparse_distillation_loss
from logitherm.distillation.store import TeacherStore, TeacherWriter, open_teacher

__all__ = [
    "SampledTeacher",
    "SparseTeacher",
    "TeacherStore",
    "TeacherWriter",
    "distillation_loss",
    "linear_distillation_loss",
    "linear_sparse_distillation_loss",
    "open_teacher",
    "sparse_distillation_loss",
]
