"""What trainers share when they distil: batches, teachers of any kind, and the loss that goes with the kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from logitherm._array import describe
from logitherm.distillation import (
    SampledTeacher,
    SparseTeacher,
    TeacherStore,
    distillation_loss,
    linear_distillation_loss,
    linear_sparse_distillation_loss,
    sparse_distillation_loss,
)

IGNORED = -100  # PyTorch's label of what does not count
ROWS = "teacher_rows"  # the column that says which row of a stored teacher belongs to a position

Teacher = nn.Module | TeacherStore | Callable[[Any], Any]


class Batch(NamedTuple):
    """What models see of a batch, and what they do not."""

    inputs: Any
    labels: Tensor
    rows: Tensor | None = None  # of a stored teacher, -1 where there is none


class Hidden(NamedTuple):
    """Logits that are not made yet: cap(head(states)), with cap(z) = softcap tanh(z / softcap)."""

    states: Tensor
    head: nn.Linear
    softcap: float | None = None

    def logits(self) -> Tensor:
        z: Tensor = self.head(self.states)
        return z if self.softcap is None else self.softcap * torch.tanh(z / self.softcap)


def read_batch(batch: Any) -> Batch:
    """(inputs, labels), (inputs, labels, rows), or a dict with "labels" and maybe "teacher_rows"."""
    if isinstance(batch, Mapping):
        labels = batch.get("labels")
        if labels is None:
            raise ValueError("inputs: must have labels, -100 where nothing is to be learned; got none; add the column")
        seen = {name: value for name, value in batch.items() if name not in ("labels", ROWS)}
        return Batch(seen, labels, batch.get(ROWS))
    if isinstance(batch, (tuple, list)) and len(batch) in (2, 3):
        return Batch(*batch)
    got = f"{len(batch)} things" if isinstance(batch, (tuple, list)) else describe(batch)
    raise ValueError(f"batch: must be (inputs, labels), (inputs, labels, rows) or a dict; got {got}; collate it so")


def frozen(teacher: Any, student: nn.Module) -> Any:
    """A teacher of a kind that there is; a model is in evaluation mode and learns nothing from now on."""
    if not isinstance(teacher, TeacherStore) and not callable(teacher):
        raise TypeError(f"teacher: must be a model, a TeacherStore or a function; got {describe(teacher)}")
    if not isinstance(teacher, nn.Module):
        return teacher
    theirs = {id(p) for p in teacher.parameters()}
    if any(id(p) in theirs for p in student.parameters()):
        raise ValueError(
            "teacher: must not share parameters with the student, which would be frozen; got some; use copy.deepcopy"
        )
    return teacher.eval().requires_grad_(False)


def called(model: Callable[..., Any], inputs: Any) -> Any:
    """What a model gives: dicts are its named arguments."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def logits_of(outputs: Any, whose: str = "model") -> Tensor:
    """The logits among what a model gives."""
    found = outputs
    if isinstance(outputs, Mapping):
        found = outputs.get("logits")
    elif isinstance(outputs, (tuple, list)) and outputs:
        found = outputs[0]
    if not isinstance(found, Tensor):
        raise TypeError(
            f'{whose}: must give logits as a torch tensor, alone, as "logits" or in the first place; got '
            f"{type(outputs).__name__}; return them"
        )
    return found


def seen(model: Callable[..., Any], inputs: Any) -> Tensor:
    """The logits that a model gives for inputs."""
    return logits_of(called(model, inputs))


def aligned(values: Tensor, labels: Tensor, shift: bool) -> tuple[Tensor, Tensor]:
    """Logits, or hidden states, and labels of the same positions; with `shift` logits are for the next label."""
    if shift and labels.ndim < 2:
        raise ValueError(
            f"shift: must be False where labels are no sequences; got labels of shape {tuple(labels.shape)}; pass "
            "shift=False"
        )
    return (values[..., :-1, :], labels[..., 1:]) if shift else (values, labels)


def teacher_loss(
    student: Tensor | Hidden,
    batch: Batch,
    teacher: Teacher,
    *,
    shift: bool,
    look: Callable[[Any, Any], Tensor | Hidden] = seen,
    teacher_temperature: Any = None,
    **options: Any,
) -> Tensor:
    """The loss of a student's logits against a teacher of any kind; options are those of `distillation_loss`.

    `look` gives the logits of a teacher that is a model, or those to be made.
    """
    options |= {"ignore_index": IGNORED}
    if isinstance(teacher, TeacherStore):
        require_one_temperature(teacher_temperature)
        return _stored(student, batch, teacher, shift, options)
    with torch.no_grad():
        found = look(teacher, batch.inputs) if isinstance(teacher, nn.Module) else teacher(batch.inputs)
    if isinstance(student, Hidden) and not isinstance(found, (Hidden, SparseTeacher, SampledTeacher)):
        student = student.logits()
    values, labels = aligned(student.states if isinstance(student, Hidden) else student, batch.labels, shift)
    options |= {"labels": labels}
    if isinstance(found, (SparseTeacher, SampledTeacher)):
        require_one_temperature(teacher_temperature)
        return _sparse(values, student, found, options)
    options |= {"teacher_temperature": teacher_temperature}
    if isinstance(student, Hidden):
        assert isinstance(found, Hidden)
        theirs, _ = aligned(found.states, batch.labels, shift)
        caps = {"student_softcap": student.softcap, "teacher_softcap": found.softcap}
        return linear_distillation_loss(values, student.head, theirs, found.head, **caps, **options)
    theirs, _ = aligned(logits_of(found, "teacher"), batch.labels, shift)
    return distillation_loss(values, theirs, **options)


def _stored(
    student: Tensor | Hidden, batch: Batch, teacher: TeacherStore, shift: bool, options: dict[str, Any]
) -> Tensor:
    """Only positions that have a row of the store count."""
    if batch.rows is None:
        raise ValueError(
            f"inputs: must have a column {ROWS!r} for a stored teacher; got none; add the rows' numbers (the "
            "Hugging Face Trainer also needs remove_unused_columns=False)"
        )
    values, labels = aligned(student.states if isinstance(student, Hidden) else student, batch.labels, shift)
    if batch.rows.shape != batch.labels.shape:
        raise ValueError(
            f"{ROWS}: must have the shape of the labels, {tuple(batch.labels.shape)}; got {describe(batch.rows)}; -1 "
            "where there is none"
        )
    rows = batch.rows[..., :-1] if shift else batch.rows
    known = (rows >= 0) & (labels != IGNORED)
    if not bool(known.any()):
        return 0.0 * values.sum()
    found = teacher[rows[known].cpu().numpy()]
    return _sparse(values[known], student, found, options | {"labels": labels[known]})


def _sparse(
    values: Tensor, student: Tensor | Hidden, teacher: SparseTeacher | SampledTeacher, options: dict[str, Any]
) -> Tensor:
    if isinstance(student, Hidden):
        return linear_sparse_distillation_loss(
            values, student.head, teacher, student_softcap=student.softcap, **options
        )
    return sparse_distillation_loss(values, teacher, **options)


def require_one_temperature(teacher_temperature: Any) -> None:
    """Of few tokens of a teacher the law is known at one T for both."""
    if teacher_temperature is not None:
        raise ValueError(
            "teacher_temperature: must be None where only some tokens of the teacher are known; got "
            f"{describe(teacher_temperature)}; temperature is that of both"
        )
