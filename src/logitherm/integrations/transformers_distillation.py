"""Distillation in the Hugging Face Trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

try:
    from transformers import Trainer  # noqa: F401  (whether it is there)
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.transformers_distillation", "transformers", "transformers") from error

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

IGNORED = -100
ROWS = "teacher_rows"  # the column that says which row of a stored teacher belongs to a position


class DistillationMixin:
    """What a Trainer needs to learn from a teacher: `class Mine(DistillationMixin, Trainer): ...`.

    The loss is the sum over the labelled tokens of the whole batch, all steps of gradient accumulation and all
    processes, over their number, as the Trainer has it for its own losses: accumulating does not change it.

    Parameters
    ----------
    teacher : nn.Module, TeacherStore, or callable
        A model, that is called with the inputs but the labels, in evaluation mode and without gradients; what
        `open_teacher` gives, for batches with a column "teacher_rows" of the shape of the labels: the row of the store
        that belongs to every position, -1 where there is none (and `remove_unused_columns=False`); or a function from
        the inputs to logits, a `SparseTeacher` or a `SampledTeacher` (of a server's log-probabilities with
        `SparseTeacher.from_log_partition`).
    temperature, teacher_temperature, divergence, mixture, scale, hard_weight
        As in `logitherm.distillation.distillation_loss`; schedules see the global step.
    shift : bool
        Whether a position's logits are for the next label, as in causal language models.
    *args, **kwargs
        Those of the Trainer.

    Examples
    --------
    >>> from transformers import Trainer
    >>> from logitherm.integrations.transformers_distillation import DistillationMixin
    >>> class Distiller(DistillationMixin, Trainer):
    ...     pass
    >>> # Distiller(student, arguments, train_dataset=data, teacher=teacher, temperature=2.0, hard_weight=0.1).train()
    """

    def __init__(
        self,
        *args: Any,
        teacher: nn.Module | TeacherStore | Callable[[Mapping[str, Any]], Any],
        temperature: Any = 1.0,
        teacher_temperature: Any = None,
        divergence: str = "forward_kl",
        mixture: float | None = None,
        scale: str | float = "T2",
        hard_weight: float = 0.0,
        shift: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(teacher, TeacherStore) and not callable(teacher):
            raise TypeError(f"teacher: must be a model, a TeacherStore or a function; got {describe(teacher)}")
        me: Any = self
        if isinstance(teacher, nn.Module):
            teacher = teacher.to(me.args.device).eval().requires_grad_(False)
        self.teacher, self.shift = teacher, shift
        self.options: dict[str, Any] = {
            "temperature": temperature,
            "divergence": divergence,
            "mixture": mixture,
            "scale": scale,
            "hard_weight": hard_weight,
        }
        self.teacher_temperature = teacher_temperature
        me.model_accepts_loss_kwargs = True  # so that the Trainer counts the tokens of the whole batch
        me._loss_shifts_labels = shift

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The Trainer's hook: the loss, or (loss, outputs)."""
        me: Any = self
        labels = inputs.get("labels")
        if labels is None:
            raise ValueError("inputs: must have labels, -100 where nothing is to be learned; got none; add the column")
        seen = {name: value for name, value in inputs.items() if name not in ("labels", ROWS)}
        outputs = model(**seen)
        logits, known = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0], labels
        places = slice(None, -1) if self.shift else slice(None)
        if self.shift:
            logits, known = logits[..., :-1, :], labels[..., 1:]
        options = self.options | {"labels": known, "ignore_index": IGNORED, "step": me.state.global_step}
        if num_items_in_batch is not None:
            options["reduction"] = "sum"
        loss = self._loss(logits, seen, inputs.get(ROWS), places, options)
        if num_items_in_batch is not None:
            loss = loss / num_items_in_batch
            if me.args.average_tokens_across_devices:  # the gradients of processes are averaged, not added
                loss = loss * (me.accelerator.num_processes if me.args.n_gpu <= 1 else me.args.n_gpu)
        return (loss, outputs) if return_outputs else loss

    def _loss(self, logits: Tensor, seen: dict[str, Any], rows: Any, places: slice, options: dict[str, Any]) -> Tensor:
        if isinstance(self.teacher, TeacherStore):
            return self._stored(logits, rows, places, options)
        with torch.no_grad():
            found: Any = self.teacher(**seen) if isinstance(self.teacher, nn.Module) else self.teacher(seen)
        if isinstance(found, (SparseTeacher, SampledTeacher)):
            return sparse_distillation_loss(logits, found, **options)
        theirs: Tensor = found if isinstance(found, Tensor) else found["logits"]
        if self.shift:
            theirs = theirs[..., :-1, :]
        return distillation_loss(logits, theirs, teacher_temperature=self.teacher_temperature, **options)

    def _stored(self, logits: Tensor, rows: Any, places: slice, options: dict[str, Any]) -> Tensor:
        """Only positions that have a row of the store count."""
        assert isinstance(self.teacher, TeacherStore)
        if rows is None:
            raise ValueError(
                f"inputs: must have a column {ROWS!r} for a stored teacher; got none; add the rows' numbers, and set "
                "remove_unused_columns=False"
            )
        rows = rows[..., places] if self.shift else rows
        known = (rows >= 0) & (options["labels"] != IGNORED)
        if not bool(known.any()):
            return 0.0 * logits.sum()
        teacher = self.teacher[rows[known].cpu().numpy()]
        return sparse_distillation_loss(logits[known], teacher, **options | {"labels": options["labels"][known]})
