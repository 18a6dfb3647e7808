"""A callback for Lightning: the temperature and overconfidence of training and held-out rows, each epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.lightning", "lightning", "lightning") from error

import torch
from torch.utils.data import DataLoader

from logitherm.integrations.sampling import fixed_sample, readings

Read = Callable[[LightningModule, Any], tuple[torch.Tensor, torch.Tensor]]


def _inputs_and_labels(module: LightningModule, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, labels = batch
    return module(inputs), labels


class TemperatureCallback(Callback):
    """Log the temperature and the overconfidence of training rows and of held-out rows at the end of every epoch.

    `temperature/train` and `temperature/held_out` are the T that the rows ask for. A model that learns by heart asks
    for ever lower T on training rows and ever higher T on held-out ones: the gap is overfitting that accuracy does not
    show.

    `overconfidence/train` and `overconfidence/held_out` are the means of E_p[z] - z_label, the slope of the loss in
    log(1/T) at T = 1: above 0 the model is overconfident on these rows. `..._low` and `..._high` are the ends of the
    95 % interval, for independent rows.

    Parameters
    ----------
    rows : int
        Rows of each, evenly spaced in the data set and the same in every epoch.
    read : callable, optional
        Makes (logits, labels) of the module and a batch; by default batches are (inputs, labels), and the module's
        forward pass gives logits.

    Examples
    --------
    >>> TemperatureCallback(rows=500).rows    # Trainer(callbacks=[TemperatureCallback()])
    500
    """

    def __init__(self, *, rows: int = 2000, read: Read = _inputs_and_labels) -> None:
        self.rows = rows
        self.read = read

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "train", trainer.train_dataloader)
        self._log(trainer, pl_module, "held_out", trainer.val_dataloaders)

    def _log(self, trainer: Trainer, module: LightningModule, name: str, loader: Any) -> None:
        loader = loader[0] if isinstance(loader, (list, tuple)) and loader else loader
        if not isinstance(loader, DataLoader):
            return
        sample = fixed_sample(loader.dataset, self.rows)
        batches = DataLoader(sample, loader.batch_size or 1, collate_fn=loader.collate_fn)

        def read(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
            return self.read(module, trainer.strategy.batch_to_device(batch))

        module.log_dict(readings(name, module, batches, read))
