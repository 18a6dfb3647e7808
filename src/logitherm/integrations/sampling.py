"""What the callbacks of PyTorch frameworks log: the temperature and the overconfidence of a fixed sample of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Subset

from logitherm.calibration.overfitting import mean_overconfidence
from logitherm.thermometer import fit_temperature

IGNORED = -100  # PyTorch's label of what does not count


def fixed_sample(dataset: Any, rows: int) -> Subset:
    """At most so many rows of a map-style data set, evenly spaced: the same in every epoch."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise TypeError(
            f"dataset: must have a length and rows by number; got {type(dataset).__name__}; pass a map-style data set"
        )
    return Subset(dataset, np.unique(np.linspace(0, len(dataset) - 1, min(rows, len(dataset))).astype(int)).tolist())


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module and the random numbers as they were before at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # a loader draws a seed even where it does not shuffle
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def readings(
    name: str,
    model: torch.nn.Module,
    batches: Iterable[Any],
    read: Callable[[Any], tuple[torch.Tensor, torch.Tensor]],
) -> dict[str, float]:
    """What is logged under the name of these rows; `read` makes (logits, labels) of a batch.

    Of all rows that count: the temperature that fits them, and the mean of E_p[z] - z_label, the slope of their loss in
    log(1/T) at T = 1, with the ends of its 95 % interval.
    """
    logits, labels = [], []
    with evaluating(model):
        for batch in batches:
            z, y = read(batch)
            counted = y != IGNORED
            logits.append(z[counted].float().cpu().numpy())
            labels.append(y[counted].cpu().numpy())
    rows = np.concatenate(logits), np.concatenate(labels)
    score = mean_overconfidence(*rows, zero_labels="exclude")
    return {
        f"temperature/{name}": fit_temperature(*rows, zero_labels="exclude").temperature,
        f"overconfidence/{name}": score.value,
        f"overconfidence/{name}_low": score.low,
        f"overconfidence/{name}_high": score.high,
    }
