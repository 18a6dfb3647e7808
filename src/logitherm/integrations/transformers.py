"""A callback for the Hugging Face Trainer: the temperature of training rows and of held-out rows, each epoch."""

from __future__ import annotations

from typing import Any

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.transformers", "transformers", "transformers") from error

import torch

from logitherm.integrations.sampling import fixed_sample, temperature_of


class TemperatureCallback(TrainerCallback):
    """Log `temperature/train` and `temperature/held_out` at the end of every epoch.

    A model that learns by heart asks for ever colder training rows and ever hotter held-out ones: the gap is
    overfitting that accuracy does not show.

    Parameters
    ----------
    trainer : transformers.Trainer
        The trainer it is added to: `trainer.add_callback(TemperatureCallback(trainer))`.
    rows : int
        Rows of each data set, evenly spaced and the same in every epoch. Labels of -100 do not count.
    shift : bool
        Whether a position's logits are for the next label, as in causal language models.
    """

    def __init__(self, trainer: Trainer, *, rows: int = 2000, shift: bool = False) -> None:
        self.trainer = trainer
        self.rows = rows
        self.shift = shift

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        found = {}
        for name, dataset in (("train", self.trainer.train_dataset), ("held_out", self.trainer.eval_dataset)):
            if dataset is not None:
                found[f"temperature/{name}"] = self._temperature(dataset)
        self.trainer.log(found)

    def _temperature(self, dataset: Any) -> float:
        model: Any = self.trainer.model
        device = next(model.parameters()).device

        def read(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
            batch = {name: value.to(device) for name, value in batch.items()}
            labels = batch.pop("labels")
            logits = model(**batch).logits
            return (logits[..., :-1, :], labels[..., 1:]) if self.shift else (logits, labels)

        batches = self.trainer.get_eval_dataloader(fixed_sample(dataset, self.rows))
        return temperature_of(model, batches, read)
