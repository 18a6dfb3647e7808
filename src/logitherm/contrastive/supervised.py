"""Supervised contrastive learning: all samples of one class are positives of each other."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from logitherm._array import describe
from logitherm.contrastive.inputs import as_features, require_block, require_reduction, row_temperature
from logitherm.contrastive.ranks import gathered, number_of_ranks, total
from logitherm.kernels.torch_pairs import BLOCK, full_precision, log_partition


def supcon_loss(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: Any,
    base_temperature: float | None = None,
    normalize: bool = True,
    reduction: str = "mean",
    group: Any = None,
    step: Any = None,
    block: int = BLOCK,
    check: bool | None = None,
) -> Tensor:
    """The mean over the positives of an anchor of -log softmax(s_i / T) among all others; the sum is outside the log.

    L_i = log sum_(a != i) exp(s_ia / T) - mean_(p in P(i)) s_ip / T, with P(i) the others of the same label. Anchors
    without a positive do not count; where there is no other, the loss is 0, with a gradient of 0. With `labels` that
    name the sample of every view it is the loss of SimCLR.

    The gradient of the features is of the order of 1 / T, so that a change of T also changes the step of training.
    `base_temperature` multiplies the loss by T / base_temperature, which takes that away; the paper's code has 0.07, as
    its T usually is. Through the factor a learnable T is drawn to 0: leave it out there.

    Limits: T -> inf gives log(n - 1).

    Parameters
    ----------
    features : floating tensor, shape (n, d), or (n, views, d)
        All views of a sample are anchors, and have its label.
    labels : integer tensor, shape (n,)
    temperature
        One, or one an anchor (sample by sample, its views together); see `logitherm.contrastive.losses`.
    base_temperature : float, optional
        T_base; the factor is 1 without it.
    reduction : "mean", "sum" or "none"
        "mean" is over the anchors that count, those of all ranks where there is a group; the others have 0 with "none".
    normalize, group, step, block, check
        See `logitherm.contrastive.losses`.

    Returns
    -------
    tensor, float32 or float64
        A number, or shape (n,) or (n views,) with "none".

    Raises
    ------
    TypeError, ValueError
        Features that are not finite, or of norm 0; labels that are not integers; T that is not positive.

    References
    ----------
    Khosla et al. (2020), Supervised contrastive learning, eq. 2, and its code for the factor; Chen et al. (2020), A
    simple framework for contrastive learning, eq. 1.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> round(supcon_loss(x, torch.tensor([0, 0, 1]), temperature=0.5).item(), 4)  # log(1 + exp(-1 / 0.5))
    0.1269
    """
    require_reduction(reduction)
    block = require_block(block)
    if base_temperature is not None and not 0 < base_temperature < math.inf:
        raise ValueError(f"base_temperature: must be positive and finite; got {base_temperature}; 0.07 is usual")
    with full_precision(features):
        f, y = _anchors(features, labels, normalize, check)
        everyone, start = gathered(f, group, "features")
        if len(everyone) == 1:
            return 0 * f.sum() if reduction != "none" else 0 * f.sum(1)
        t = row_temperature(temperature, f, everyone, start, step, check)
        positives, count = _positives(f, y, everyone, gathered(y, group, "labels")[0])
        cold = f / t[:, None]
        rows = log_partition(cold, everyone, skip=start, block=block) - (cold * positives).sum(1)
        if base_temperature is not None:
            rows = rows * (t / base_temperature)
        rows = torch.where(count > 0, rows, 0.0)
        if reduction == "none":
            return rows
        if reduction == "sum":
            return rows.sum()
        counted = total((count > 0).sum(), group).clamp_min(1)
        return rows.sum() * number_of_ranks(group) / counted


def _anchors(features: Any, labels: Any, normalize: bool, check: bool | None) -> tuple[Tensor, Tensor]:
    """Features and label of every view."""
    views = 1
    if isinstance(features, Tensor) and features.ndim == 3:
        views, features = features.shape[1], features.flatten(0, 1)
    f = as_features(features, "features", normalize, check)
    samples = len(f) // views
    if not isinstance(labels, Tensor) or labels.is_floating_point() or tuple(labels.shape) != (samples,):
        raise ValueError(f"labels: must be integers of shape ({samples},); got {describe(labels)}; one a sample")
    return f, labels.long().repeat_interleave(views)


def _positives(f: Tensor, y: Tensor, everyone: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the positives of every anchor, and their number: similarities are linear, so that of sums will do."""
    classes, number = torch.unique(labels, return_inverse=True)
    sums = everyone.new_zeros(len(classes), f.shape[1]).index_add(0, number, everyone)
    mine = torch.searchsorted(classes, y)
    count = torch.bincount(number, minlength=len(classes))[mine] - 1
    return (sums[mine] - f) / count.clamp_min(1)[:, None], count
