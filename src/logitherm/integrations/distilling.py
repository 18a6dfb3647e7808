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


def logits_of(outputs: Any) -> Tensor:
    """The logits among what a model gives."""
    if isinstance(outputs, Tensor):
        return outputs
    return outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]


def aligned(logits: Tensor, labels: Tensor, shift: bool) -> tuple[Tensor, Tensor]:
    """Logits and labels of the same positions; with `shift` logits are for the next label."""
    return (logits[..., :-1, :], labels[..., 1:]) if shift else (logits, labels)


def teacher_loss(
    logits: Tensor, batch: Batch, teacher: Teacher, *, shift: bool, teacher_temperature: Any = None, **options: Any
) -> Tensor:
    """The loss of a student's logits against a teacher of any kind; options are those of `distillation_loss`."""
    logits, labels = aligned(logits, batch.labels, shift)
    options |= {"labels": labels, "ignore_index": IGNORED}
    if isinstance(teacher, TeacherStore):
        require_one_temperature(teacher_temperature)
        return _stored(logits, batch.rows, teacher, shift, options)
    with torch.no_grad():
        found = called(teacher, batch.inputs) if isinstance(teacher, nn.Module) else teacher(batch.inputs)
    if isinstance(found, (SparseTeacher, SampledTeacher)):
        require_one_temperature(teacher_temperature)
        return sparse_distillation_loss(logits, found, **options)
    theirs = logits_of(found)
    if shift:
        theirs = theirs[..., :-1, :]
    return distillation_loss(logits, theirs, teacher_temperature=teacher_temperature, **options)


def _stored(logits: Tensor, rows: Tensor | None, teacher: TeacherStore, shift: bool, options: dict[str, Any]) -> Tensor:
    """Only positions that have a row of the store count."""
    if rows is None:
        raise ValueError(
            f"inputs: must have a column {ROWS!r} for a stored teacher; got none; add the rows' numbers (the "
            "Hugging Face Trainer also needs remove_unused_columns=False)"
        )
    rows = rows[..., :-1] if shift else rows
    known = (rows >= 0) & (options["labels"] != IGNORED)
    if not bool(known.any()):
        return 0.0 * logits.sum()
    found = teacher[rows[known].cpu().numpy()]
    return sparse_distillation_loss(logits[known], found, **options | {"labels": options["labels"][known]})


def require_one_temperature(teacher_temperature: Any) -> None:
    """Of few tokens of a teacher the law is known at one T for both."""
    if teacher_temperature is not None:
        raise ValueError(
            "teacher_temperature: must be None where only some tokens of the teacher are known; got "
            f"{describe(teacher_temperature)}; temperature is that of both"
        )
