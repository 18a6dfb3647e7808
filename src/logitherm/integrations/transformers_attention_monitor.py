"""A callback for the Hugging Face Trainer: the entropy of every attention head, and an alarm where one collapses."""

from __future__ import annotations

import logging
import numbers
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra(
        "logitherm.integrations.transformers_attention_monitor", "transformers", "transformers"
    ) from error

import numpy as np

from logitherm.integrations.transformers_attention_report import attention_report

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Collapse:
    """An alarm: at which step, of which layer and head, and its normalised entropy then."""

    step: int
    layer: int
    head: int
    normalised_entropy: float


class AttentionMonitor(TrainerCallback):
    """Every few steps the entropy of all heads on one batch, and an alarm where the attention of one collapses.

    `attention/layer_0/entropy` is the mean over the heads of layer 0, `..._min` that of its sharpest head;
    `attention/layer_0/normalised` and `..._min` are the same of H / log n, n being the keys that a query sees.

    A head has collapsed once its normalised entropy was below a threshold in so many measurements in a row. That is a
    warning of Python's logging, an entry of `alarms`, a call of `on_collapse`, and the end of training with `stop`. It
    is given once a head, and again only after the head has recovered. The measurement is in evaluation mode, without
    gradients, and changes nothing in the training: no random number is drawn.

    Parameters
    ----------
    trainer : transformers.Trainer
        The trainer it is added to: `trainer.add_callback(AttentionMonitor(trainer, batch))`.
    batch : tensor of token ids, mapping of tensors, or a list of these
        The same at every measurement.
    every : int
        Steps from one measurement to the next; there is one before the first step too.
    threshold : float
        Of normalised entropy, between 0 and 1. Heads that look at the token before them are near 0 for good reason:
        with such heads set it lower than they are.
    patience : int
        Measurements in a row.
    on_collapse : callable, optional
        Called with each `Collapse`.
    stop : bool
        Whether training ends.

    Attributes
    ----------
    history : list of dict
        At each measurement `step`, and by layer the arrays `entropy` and `normalised` of its heads.
    alarms : list of Collapse

    References
    ----------
    Zhai et al. (2023), Stabilizing Transformer training by preventing attention entropy collapse.

    Examples
    --------
    >>> import torch, transformers
    >>> model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=50))
    >>> trainer = transformers.Trainer(model, transformers.TrainingArguments(report_to=[]))
    >>> monitor = AttentionMonitor(trainer, torch.arange(32)[None], every=10)
    >>> monitor.measure(0)["normalised"][0].round(2).tolist()
    [1.0, 1.0]
    """

    def __init__(
        self,
        trainer: Trainer,
        batch: Any,
        *,
        every: int = 100,
        threshold: float = 0.02,
        patience: int = 3,
        on_collapse: Callable[[Collapse], Any] | None = None,
        stop: bool = False,
    ) -> None:
        for name, number in (("every", every), ("patience", patience)):
            if not isinstance(number, numbers.Integral) or number < 1:
                raise ValueError(f"{name}: must be an integer, at least 1; got {number!r}; it is a number of times")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold: must be between 0 and 1; got {threshold:g}; it is of normalised entropy")
        if not isinstance(trainer, Trainer):
            raise TypeError(f"trainer: must be a Trainer of transformers; got {type(trainer).__name__}; pass it first")
        self.trainer = trainer
        self.batch = batch
        self.every = every
        self.threshold = threshold
        self.patience = patience
        self.on_collapse = on_collapse
        self.stop = stop
        self.history: list[dict[str, Any]] = []
        self.alarms: list[Collapse] = []
        self._below: list[np.ndarray] = []  # by layer, measurements in a row below the threshold

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._look(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every == 0:
            self._look(state, control)

    def measure(self, step: int) -> dict[str, Any]:
        """The heads of the trainer's model as they are, kept in `history`."""
        report = attention_report(self.trainer.model, self.batch, least_keys=2)  # type: ignore[arg-type]
        found = {
            "step": step,
            "entropy": report.values("entropy"),
            "normalised": report.values("normalised_entropy"),
        }
        self.history.append(found)
        return found

    def _look(self, state: Any, control: Any) -> None:
        found = self.measure(state.global_step)
        told = {}
        for name in ("entropy", "normalised"):
            for i, values in enumerate(found[name]):
                told[f"attention/layer_{i}/{name}"] = float(values.mean())
                told[f"attention/layer_{i}/{name}_min"] = float(values.min())
        self.trainer.log(told)
        for collapse in self._collapses(state.global_step, found["normalised"]):
            self.alarms.append(collapse)
            log.warning(
                "layer %d, head %d: its attention has collapsed, entropy over log n is %.3g (below %g in %d "
                "measurements in a row); lower the learning rate, or normalise queries and keys",
                collapse.layer,
                collapse.head,
                collapse.normalised_entropy,
                self.threshold,
                self.patience,
            )
            if self.on_collapse is not None:
                self.on_collapse(collapse)
            if self.stop:
                control.should_training_stop = True

    def _collapses(self, step: int, normalised: list[np.ndarray]) -> list[Collapse]:
        """Heads that have been below for so long as of this measurement."""
        if not self._below:
            self._below = [np.zeros(len(values), dtype=int) for values in normalised]
        found = []
        for i, (count, values) in enumerate(zip(self._below, normalised, strict=True)):
            count[:] = np.where(values < self.threshold, count + 1, 0)
            found += [Collapse(step, i, int(j), float(values[j])) for j in np.flatnonzero(count == self.patience)]
        return found
