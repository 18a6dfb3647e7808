"""Distillation in the Hugging Face Trainer."""

from __future__ import annotations

from typing import Any

try:
    from transformers import Trainer  # noqa: F401  (whether it is there)
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.transformers_distillation", "transformers", "transformers") from error

import torch
from torch import Tensor, nn

from logitherm._array import describe
from logitherm.integrations.distilling import Hidden, Teacher, frozen, logits_of, read_batch, teacher_loss


class DistillationMixin:
    """What a Trainer needs to learn from a teacher: `class Mine(DistillationMixin, Trainer): ...`.

    The loss is the sum over the labelled tokens of the whole batch, all steps of gradient accumulation and all
    processes, over their number, as the Trainer has it for its own losses: accumulating does not change it.

    Parameters
    ----------
    teacher : nn.Module, TeacherStore, or callable
        A model, that is called with the inputs but the labels, in evaluation mode and without gradients; what
        `open_teacher` gives, for batches with a column "teacher_rows" of the shape of the labels: the row of the store
        that belongs to every position, -1 where there is none (and `remove_unused_columns=False`), as the data set
        `store.texts()` has them; or a function from
        the inputs to logits, a `SparseTeacher` or a `SampledTeacher`. To learn from a server, let it ask for the
        log-probabilities of the inputs and pass them on with `SparseTeacher.from_log_probabilities`, or those of vLLM
        with `logitherm.integrations.logprobs.teacher_of_prompts`; a row for every position that has a next label.
    temperature, teacher_temperature, divergence, mixture, scale, hard_weight
        As in `logitherm.distillation.distillation_loss`; schedules see the global step. The Trainer trains, saves and
        loads what is a part of the model: a learned temperature must be one (`student.temperature = temperature`).
    shift : bool
        Whether a position's logits are for the next label, as in causal language models.
    blockwise : bool
        Whether logits are made block by block from the last hidden states and are never there as a whole, of a teacher
        that is a model neither; for causal language models, but not for parameters that are sharded. That head times
        hidden states, capped as the configuration has it, are the logits is checked in every batch at one position, the
        only one at which the model gives logits then.
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
        teacher: Teacher,
        temperature: Any = 1.0,
        teacher_temperature: Any = None,
        divergence: str = "forward_kl",
        mixture: float | None = None,
        scale: str | float = "T2",
        hard_weight: float = 0.0,
        shift: bool = True,
        blockwise: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        me: Any = self
        for name, given in (("temperature", temperature), ("teacher_temperature", teacher_temperature)):
            require_part_of(me.model, name, given)
        teacher = frozen(teacher, me.model)
        self.teacher = teacher.to(me.args.device) if isinstance(teacher, nn.Module) else teacher
        self.shift, self.blockwise = shift, blockwise
        self.options: dict[str, Any] = {
            "temperature": temperature,
            "teacher_temperature": teacher_temperature,
            "divergence": divergence,
            "mixture": mixture,
            "scale": scale,
            "hard_weight": hard_weight,
        }
        me.model_accepts_loss_kwargs = True  # so that the Trainer counts the tokens of the whole batch
        me._loss_shifts_labels = shift

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The Trainer's hook: the loss, or (loss, outputs)."""
        me: Any = self
        batch = read_batch(inputs)
        options = self.options | {"shift": self.shift, "step": me.state.global_step}
        student: Tensor | Hidden
        if self.blockwise:
            outputs, student = hidden_of(model, batch.inputs, me.accelerator.unwrap_model(model))
            options["look"] = lambda teacher, inputs: hidden_of(teacher, inputs, teacher)[1]
        else:
            outputs = model(**batch.inputs)
            student = logits_of(outputs)
        if num_items_in_batch is not None:
            options["reduction"] = "sum"
        loss = teacher_loss(student, batch, self.teacher, **options)
        if num_items_in_batch is not None:
            loss = loss / num_items_in_batch
            if me.args.average_tokens_across_devices:  # the gradients of processes are averaged, not added
                loss = loss * (me.accelerator.num_processes if me.args.n_gpu <= 1 else me.args.n_gpu)
        return (loss, outputs) if return_outputs else loss


def require_part_of(model: nn.Module, name: str, temperature: Any) -> None:
    """Raise where a temperature is to be learned that no optimizer would see."""
    own = temperature.parameters() if isinstance(temperature, nn.Module) else [temperature]
    theirs = {id(p) for p in model.parameters()}
    if any(isinstance(p, Tensor) and p.requires_grad and id(p) not in theirs for p in own):
        raise ValueError(
            f"{name}: must be a part of the model if it is learned, or the Trainer does not train it; got "
            f"{describe(temperature)}; write student.{name} = it first, or detach it"
        )


def hidden_of(model: Any, inputs: Any, bare: Any) -> tuple[dict[str, Tensor], Hidden]:
    """What a causal language model gives without its logits but one, and its logits to be made; `bare` is unwrapped."""
    if bare.get_output_embeddings() is None:
        raise ValueError(
            f"blockwise: must be for causal language models; got {type(bare).__name__}, without output embeddings; "
            "take blockwise=False"
        )
    outputs = model(**inputs, output_hidden_states=True, logits_to_keep=1)
    config = bare.config.get_text_config()
    found = Hidden(
        outputs.hidden_states[-1], bare.get_output_embeddings(), getattr(config, "final_logit_softcapping", None)
    )
    with torch.no_grad():
        last = found._replace(states=found.states[:, -1:]).logits()
    if not torch.allclose(last, outputs.logits.to(last.dtype), rtol=1e-2, atol=1e-2 * float(last.abs().max())):
        raise ValueError(
            f"blockwise: must be for models whose logits are output embeddings times hidden states; those of "
            f"{type(bare).__name__} are not; take blockwise=False"
        )
    return {"logits": outputs.logits}, found  # the Trainer would keep the hidden states of a whole evaluation
