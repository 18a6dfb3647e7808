"""Distillation in Lightning: a module that learns from a teacher."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

try:
    from lightning.pytorch import LightningModule
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.lightning_distillation", "lightning", "lightning") from error

import torch
from torch import Tensor, nn

from logitherm._array import as_logits
from logitherm.integrations.distilling import (
    IGNORED,
    Batch,
    Teacher,
    aligned,
    called,
    frozen,
    logits_of,
    read_batch,
    teacher_loss,
)
from logitherm.thermostat import LearnableTemperature
from logitherm.thermostat.schedules import Schedule


class DistillationModule(LightningModule):
    """A student that learns from a teacher: `Trainer(...).fit(DistillationModule(student, teacher=...), loader)`.

    Batches are (inputs, labels), or dicts with "labels" whose other entries are the models' arguments; labels of -100
    do not count. The loss is the mean over the labels of a batch that count. Lightning averages over batches that are
    accumulated and over processes, each batch alike, however many of its labels count.

    Logged are `train_loss`; of the student itself, at T = 1, `val_nll` and `val_accuracy`; and the temperature of every
    step, `temperature` and `teacher_temperature`, where it is learned (the mean, if it is many) or a schedule.

    The teacher is no part of the module: not of its parameters, its modes or its checkpoints. A model is frozen and
    follows the module to its device; its dtype stays. After training, `module.student` is the student; a checkpoint is
    read with `DistillationModule.load_from_checkpoint(path, student=..., teacher=...)`.

    Parameters
    ----------
    student : nn.Module
        Gives logits, alone, as "logits" or in the first place.
    teacher : nn.Module, TeacherStore, or callable
        A model, called as the student is, without gradients; what `open_teacher` gives, for batches that say which row
        of the store belongs to every label, -1 where there is none: (inputs, labels, rows), or dicts with
        "teacher_rows", as `store.texts()` gives them for texts (with `shift=True`); or a function from the inputs to
        logits, a `SparseTeacher` or a `SampledTeacher`. To learn from a server see
        `SparseTeacher.from_log_probabilities` and `logitherm.integrations.logprobs.teacher_of_prompts`.
    temperature, teacher_temperature, divergence, mixture, scale, hard_weight
        As in `logitherm.distillation.distillation_loss`. Schedules see the number of optimizer steps. A
        `LearnableTemperature` is part of the module, trained with the student and saved; it needs a teacher of whole
        logits.
    shift : bool, optional
        Whether a position's logits are for the next label, as in causal language models. Must be said where labels are
        sequences.
    optimizer : callable, optional
        From parameter groups, as optimizers take them, to what Lightning's `configure_optimizers` may return: an
        optimizer, or {"optimizer": ..., "lr_scheduler": ...}. The groups are that of the student, and that of a learned
        temperature, without weight decay. Instead `configure_optimizers` may be overridden.

    Raises
    ------
    TypeError, ValueError
        A teacher of no such kind, or that shares parameters with the student; batches of another form; no optimizer.

    Examples
    --------
    >>> import torch
    >>> student, teacher = torch.nn.Linear(8, 3), torch.nn.Linear(8, 3)
    >>> module = DistillationModule(
    ...     student, teacher=teacher, temperature=4.0, hard_weight=0.1, optimizer=lambda p: torch.optim.Adam(p, 1e-3)
    ... )
    >>> sorted(module.state_dict())    # Trainer(max_epochs=10).fit(module, train_loader, validation_loader)
    ['student.bias', 'student.weight']
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        teacher: Teacher,
        temperature: Any = 1.0,
        teacher_temperature: Any = None,
        divergence: str = "forward_kl",
        mixture: float | None = None,
        scale: str | float = "T2",
        hard_weight: float = 0.0,
        shift: bool | None = None,
        optimizer: Callable[[list[dict[str, Any]]], Any] | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self._held = (frozen(teacher, student),)  # in a tuple, where PyTorch does not take it for a part
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.options: dict[str, Any] = {
            "divergence": divergence,
            "mixture": mixture,
            "scale": scale,
            "hard_weight": hard_weight,
        }
        self.given_shift = shift
        self.make_optimizer = optimizer

    @property
    def teacher(self) -> Teacher:
        """The teacher, where the module is."""
        (teacher,) = self._held
        if isinstance(teacher, nn.Module):
            tensor = next(chain(teacher.parameters(), teacher.buffers()), None)
            if tensor is not None and tensor.device != self.device:
                teacher.to(self.device)
        return teacher

    def forward(self, inputs: Any) -> Any:
        """What the student gives; a dict is its named arguments."""
        return called(self.student, inputs)

    def read_batch(self, batch: Any) -> Batch:
        """The inputs, labels and rows of a batch; override it for batches of another form."""
        return read_batch(batch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        read = self.read_batch(batch)
        self._log_temperatures()
        loss = teacher_loss(
            logits_of(self(read.inputs)),
            read,
            self.teacher,
            shift=self._shift(read),
            temperature=self.temperature,
            teacher_temperature=self.teacher_temperature,
            step=self.global_step,
            **self.options,
        )
        self.log("train_loss", loss, prog_bar=True, batch_size=self._counted(read))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        read = self.read_batch(batch)
        logits, labels = aligned(as_logits(logits_of(self(read.inputs))), read.labels, self._shift(read))
        known = labels != IGNORED
        z, y, count = logits[known], labels[known], self._counted(read)
        found = {
            "val_nll": nn.functional.cross_entropy(z, y, reduction="sum") / max(count, 1),
            "val_accuracy": (z.argmax(-1) == y).float().sum() / max(count, 1),
        }
        self.log_dict(found, prog_bar=True, batch_size=count, sync_dist=True)

    def configure_optimizers(self) -> Any:
        if self.make_optimizer is None:
            raise ValueError(
                "optimizer: must be a function from parameter groups to an optimizer; got None; pass "
                "optimizer=lambda p: torch.optim.AdamW(p, 1e-3), or override configure_optimizers"
            )
        return self.make_optimizer(self.parameter_groups())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is to be trained: the student, and a learned temperature, which weight decay would draw to 1."""
        own = [p for p in self.student.parameters() if p.requires_grad]
        theirs = {id(p) for p in self.student.parameters()}
        others = [p for p in self.parameters() if p.requires_grad and id(p) not in theirs]
        return [{"params": own}, *([{"params": others, "weight_decay": 0.0}] if others else [])]

    def _shift(self, read: Batch) -> bool:
        if self.given_shift is None and read.labels.ndim > 1:
            raise ValueError(
                f"shift: must be said where labels are sequences; got None, and labels of shape "
                f"{tuple(read.labels.shape)}; True is for causal language models, False for labels in place"
            )
        return bool(self.given_shift)

    def _counted(self, read: Batch) -> int:
        """How many labels count."""
        labels = read.labels[..., 1:] if self._shift(read) else read.labels
        return int((labels != IGNORED).sum())

    def _log_temperatures(self) -> None:
        """Those that change from step to step whatever the batch."""
        for name in ("temperature", "teacher_temperature"):
            temperature = getattr(self, name)
            if isinstance(temperature, (LearnableTemperature, Schedule)):
                t = torch.as_tensor(temperature.resolve(None, self.global_step))
                self.log(name, t.detach().float().mean(), batch_size=1)
