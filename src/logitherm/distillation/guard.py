"""What losses are handed: logits, labels, weights and temperatures, looked at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logitherm._array import as_logits, as_temperature, describe, require_rows, should_check
from logitherm.distillation.objective import Objective

REDUCTIONS = ("mean", "sum", "none")
PADDING = 1024  # states by which two vocabularies of one tokenizer differ at most: engines pad to powers of two
PADDED = 16  # and one in so many: 10 classes are not 100 with padding


def tensor_of_logits(given: Any, name: str) -> Tensor:
    """Logits in the compute dtype."""
    return as_logits(require_tensor(given, name), name=name)  # type: ignore[no-any-return]


def require_tensor(given: Any, name: str) -> Tensor:
    if not isinstance(given, Tensor):
        raise TypeError(f"{name}: must be a torch tensor; got {described(given)}; convert it with torch.as_tensor")
    if not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(given):
        raise NotImplementedError(
            f"{name}: must not be under torch.func; got a tensor of grad, vmap or another; take loss.backward() or "
            'torch.autograd.grad, and reduction="none" for rows'
        )
    return given


def described(given: Any) -> str:
    """What came in place of a tensor: of arrays the kind too."""
    return f"{type(given).__module__}.{type(given).__name__}" if hasattr(given, "dtype") else describe(given)


def common_states(z_s: Tensor, z_t: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the states that both vocabularies have, in one dtype."""
    if z_s.shape[:-1] != z_t.shape[:-1]:
        raise ValueError(
            f"teacher: must have the batch {tuple(z_s.shape[:-1])} of the student; got {describe(z_t)}; align the rows"
        )
    states = require_one_vocabulary(z_s.shape[-1], z_t.shape[-1])
    dtype = torch.promote_types(z_s.dtype, z_t.dtype)
    return z_s[..., :states].to(dtype), z_t[..., :states].to(dtype)


def require_one_vocabulary(student: int, teacher: int) -> int:
    """The number of states that both have."""
    if abs(student - teacher) > min(PADDING, max(student, teacher) // PADDED):
        raise ValueError(
            f"teacher: must have the student's {student} states, up to padding; got {teacher}: state i is then another "
            "token or class; distil from a teacher that shares the student's"
        )
    return min(student, teacher)


def temperatures(
    student: Any, teacher: Any, z_s: Tensor, z_t: Tensor, step: Any, check: bool | None
) -> tuple[Tensor, Tensor]:
    """T of every row for both, in the batch shape."""
    if teacher is None:
        t = row_temperature(student, z_t, "temperature", check, step)
        return t, t
    return (
        row_temperature(student, z_s, "temperature", check, step),
        row_temperature(teacher, z_t, "teacher_temperature", check, step),
    )


def row_temperature(temperature: Any, z: Tensor, name: str, check: bool | None, step: Any = None) -> Tensor:
    """T of every row of logits, in the batch shape; the limits of T have no loss."""
    t: Tensor = as_temperature(temperature, z, check, step, name=name, usual="1 to 8")
    if should_check(check, t) and not bool((good := (t > 0) & (t < math.inf)).all()):  # it was solved for
        bad = t[~good].flatten()[0].item()
        raise ValueError(
            f"{name}: must be positive and finite for a loss; got {bad:g} from {describe(temperature)}; take one that "
            "every row can have"
        )
    return t


def as_labels(
    labels: Any, batch: tuple[int, ...], states: int, ignore: int, objective: Objective, hard: float, check: Any
) -> Tensor | None:
    if not 0 <= hard <= 1:
        raise ValueError(f"hard_weight: must lie in [0, 1]; got {hard}; 0.1 to 0.5 is usual")
    if labels is None:
        if hard or objective.needs_labels:
            what = "a hard_weight" if hard else "dkd"
            raise ValueError(f"labels: must be given with {what}; got None; pass the labels of the batch")
        return None
    whole = not (require_tensor(labels, "labels").dtype.is_floating_point or labels.dtype == torch.bool)
    if not whole or tuple(labels.shape) != batch:
        raise ValueError(f"labels: must be integers of the batch shape {batch}; got {describe(labels)}; mend them")
    if should_check(check, labels):
        wrong = (labels != ignore) & ((labels < 0) | (labels >= states))
        if bool(wrong.any()):
            bad = int(labels[wrong][0])
            raise ValueError(f"labels: must lie in [0, {states}) or be {ignore}; got {bad}; mend them")
    return labels.long()


def row_weights(labels: Tensor | None, given: Any, batch: tuple[int, ...], ignore: int, z: Tensor) -> Tensor | None:
    """The weight of every row; None where all count alike."""
    if given is None and labels is None:
        return None
    weights = torch.ones(batch, dtype=z.dtype, device=z.device)
    if given is not None:
        if tuple(require_tensor(given, "token_weights").shape) != batch:
            raise ValueError(f"token_weights: must have the batch shape {batch}; got {describe(given)}; one a row")
        weights = given.to(weights)
        if not bool(((weights >= 0) & (weights < math.inf)).all()):
            raise ValueError("token_weights: must be finite and at least 0; got others; 0 leaves a row out")
    return weights if labels is None else torch.where(labels == ignore, torch.zeros_like(weights), weights)


def require_sound(z: Tensor, name: str, check: bool | None, keep: Tensor | None = None, first: int = 0) -> None:
    """Raise for the first row that is no law; `keep` are the rows that these are out of."""
    if len(z) and should_check(check, z):
        numbers = np.arange(first, first + len(z)) if keep is None else np.flatnonzero(keep.cpu().numpy())
        require_rows(z.detach().amax(-1), name, numbers=numbers)


def kept_rows(weights: Tensor | None) -> Tensor | None:
    """Which rows count, of all of them in a line; None where all do."""
    if weights is None or bool((weights > 0).all()):
        return None
    return weights.reshape(-1) > 0


def require_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction: must be one of {', '.join(REDUCTIONS)}; got {reduction!r}; choose one")
