"""A callback for the Hugging Face Trainer: T and overconfidence of training and held-out rows, each epoch."""

from __future__ import annotations

from typing import Any

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.transformers", "transformers", "transformers") from error

import torch

from logitherm.integrations.sampling import fixed_sample, readings


class TemperatureCallback(TrainerCallback):
    """Log the temperature and the overconfidence of training rows and of held-out rows at the end of every epoch.

    `temperature/train` and `temperature/held_out` are the T that the rows ask for. A model that learns by heart asks
    for ever lower T on training rows and ever higher T on held-out ones: the gap is overfitting that accuracy does not
    show.

    `overconfidence/train` and `overconfidence/held_out` are the means of E_p[z] - z_label, the slope of the loss in
    log(1/T) at T = 1: above 0 the model is overconfident on these rows. `..._low` and `..._high` are the ends of the
    95 % interval, for independent rows, which the tokens of a text are not.

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
        found: dict[str, float] = {}
        for name, dataset in (("train", self.trainer.train_dataset), ("held_out", self.trainer.eval_dataset)):
            if dataset is not None:
                found |= self._readings(name, dataset)
        self.trainer.log(found)

    def _readings(self, name: str, dataset: Any) -> dict[str, float]:
        model: Any = self.trainer.model
        device = next(model.parameters()).device

        def read(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
            batch = {key: value.to(device) for key, value in batch.items()}
            labels = batch.pop("labels")
            logits = model(**batch).logits
            return (logits[..., :-1, :], labels[..., 1:]) if self.shift else (logits, labels)

        batches = self.trainer.get_eval_dataloader(fixed_sample(dataset, self.rows))
        return readings(name, model, batches, read)
