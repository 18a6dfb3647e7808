"""Teacher to student: losses at a temperature, and teachers kept on disk. PyTorch only.

A loop of your own needs one line of this. For trainers there are `logitherm.integrations.transformers_distillation` and
`lightning_distillation`.

Examples
--------
>>> import torch
>>> inputs, labels = torch.randn(256, 20), torch.randint(3, (256,))
>>> teacher, student = torch.nn.Linear(20, 3).requires_grad_(False).eval(), torch.nn.Linear(20, 3)
>>> optimizer = torch.optim.Adam(student.parameters(), lr=0.02)
>>> for x, y in zip(inputs.repeat(9, 1).split(32), labels.repeat(9).split(32)):
...     loss = distillation_loss(student(x), teacher(x), temperature=4.0, labels=y, hard_weight=0.1)
...     optimizer.zero_grad()
...     loss.backward()
...     optimizer.step()
>>> before = distillation_loss(torch.zeros(256, 3), teacher(inputs), temperature=4.0)
>>> (distillation_loss(student(inputs), teacher(inputs), temperature=4.0) < before).item()
True
"""

from logitherm.distillation.linear import linear_distillation_loss
from logitherm.distillation.linear_sparse import linear_sparse_distillation_loss
from logitherm.distillation.loss import distillation_loss
from logitherm.distillation.records import Layout
from logitherm.distillation.sparse import SampledTeacher, SparseTeacher
from logitherm.distillation.sparse_loss import sparse_distillation_loss
from logitherm.distillation.store import TeacherStore, TeacherWriter, open_teacher

__all__ = [
    "Layout",
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
