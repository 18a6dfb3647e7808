"""InfoNCE, CLIP and SigLIP: which of the others is mine?

Parameters that all losses of this package share:

temperature : float, tensor (n,), or Temperature
    T of the similarities, one or one a sample, 0 < T < inf; a tensor that requires a gradient gets one. A
    `LearnableTemperature`, a schedule (with `step`), a table of groups, or a set point, which is solved for the law of
    every sample's negatives, softmax(s / T) without the positive, and is a constant to differentiation. An object of
    your own sees the shape of the similarities, and NaN for their values. A "logit scale" is 1/T: 20 is T = 0.05.
normalize : bool
    Whether features are divided by their norms, so that similarities are cosines.
group : ProcessGroup, optional
    Of torch.distributed: features of all its ranks are candidates, with gradient; none without it. The loss is that of
    the samples of this rank, so that its mean over ranks, and that of parameters' gradients, which
    `DistributedDataParallel` takes, are those of the one batch.
block : int
    Rows and columns that are computed together; the result does not depend on it.
step : any
    Handed to temperatures that are schedules.
check : bool, optional
    Whether values are looked at, as everywhere in the library.

Memory is O(block^2) beyond a few copies of the features: the matrix of similarities is made a block at a time, and
again for the gradients, which are closed forms. float16 and bfloat16 are computed in float32, under autocast too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from logitherm._array import describe, should_check
from logitherm.contrastive.inputs import (
    as_features,
    reduced,
    require_block,
    require_negatives,
    require_pairs,
    require_reduction,
    row_temperature,
)
from logitherm.contrastive.ranks import gathered
from logitherm.kernels.torch_pairs import BLOCK, full_precision, log_partition, log_partitions, softplus_sum
from logitherm.thermostat import SetPoint


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    temperature: Any,
    negatives: Tensor | None = None,
    normalize: bool = True,
    reduction: str = "mean",
    group: Any = None,
    step: Any = None,
    block: int = BLOCK,
    check: bool | None = None,
) -> Tensor:
    """-log of the probability of the positive among all candidates: L_i = -log softmax(s_i / T)_i, s_ij = q_i . k_j.

    Computed as softplus(log sum_(j != i) exp(s_ij / T) - s_ii / T), which is at least 0 and exact where it is small.
    The slope in s_ij of a negative is P_ij / T: relative to their sum the negatives have the law softmax(s_i / T) among
    themselves.

    Limits: for T -> inf all negatives are pushed alike, (1 / N) / T each, and L -> log N; for T -> 0 only the hardest
    one is, and T L -> max(0, max_(j != i) s_ij - s_ii).

    Parameters
    ----------
    queries : floating tensor, shape (n, d)
    keys : floating tensor, shape (m, d), m >= n
        Key i is the positive of query i, all others are its negatives.
    negatives : floating tensor, shape (k, d), optional
        The negatives of every query, in place of the other keys, as those of a queue; keys are n then.
    reduction : "mean", "sum" or "none"
        Over queries.
    temperature, normalize, group, step, block, check
        See the module. With a group keys are those of all ranks; `negatives` are not gathered.

    Returns
    -------
    tensor, float32 or float64
        A number, or shape (n,) with "none".

    Raises
    ------
    TypeError, ValueError
        Features that are not finite, or of norm 0; no negatives; T that is not positive; shapes that do not match.

    References
    ----------
    van den Oord et al. (2018), Representation learning with contrastive predictive coding, eq. 4; Wang and Liu (2021),
    Understanding the behaviour of contrastive loss, eq. 4 to 8; He et al. (2020), Momentum contrast, eq. 1.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> round(info_nce(x, x, temperature=0.5).item(), 4)  # log(1 + exp(-1 / 0.5))
    0.1269
    """
    require_reduction(reduction)
    block = require_block(block)
    with full_precision(queries):
        q = as_features(queries, "queries", normalize, check)
        k = as_features(keys, "keys", normalize, check, like=q)
        q = q.to(k.dtype)
        require_pairs(q, k, "keys", exact=negatives is not None)
        others, skip = k, None
        if negatives is None:
            others, skip = gathered(k, group, "keys")
            require_negatives(len(others) - 1, "keys")
        else:
            others = as_features(negatives, "negatives", normalize, check, like=q)
            q, k = q.to(others.dtype), k.to(others.dtype)
        t = row_temperature(temperature, q, others, skip, step, check)
        cold = q / t[:, None]
        rows = _rows(cold, k[: len(q)], log_partition(cold, others, skip=skip, block=block))
    return reduced(rows, reduction)


def clip_loss(
    images: Tensor,
    texts: Tensor,
    *,
    temperature: Any,
    normalize: bool = True,
    reduction: str = "mean",
    group: Any = None,
    step: Any = None,
    block: int = BLOCK,
    check: bool | None = None,
) -> Tensor:
    """InfoNCE both ways: the mean of `info_nce(images, texts)` and `info_nce(texts, images)`.

    Parameters
    ----------
    images, texts : floating tensor, shape (n, d)
        Row i of one belongs to row i of the other.
    temperature
        See the module; one a pair is that of its image among texts and of its text among images. CLIP has a learnable
        one that begins at 0.07 and stays above 0.01: `LearnableTemperature(0.07, low=0.01, high=1.0)`.
    reduction : "mean", "sum" or "none"
        Over pairs.
    normalize, group, step, block, check
        See the module.

    Returns
    -------
    tensor, float32 or float64
        A number, or shape (n,) with "none".

    Raises
    ------
    TypeError, ValueError
        As for `info_nce`.

    References
    ----------
    Radford et al. (2021), Learning transferable visual models from natural language supervision, figure 3.

    Examples
    --------
    >>> import torch
    >>> images = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    >>> loss = clip_loss(images, torch.tensor([[1.0, 0.2], [0.1, 1.0]]), temperature=0.07)
    >>> loss.backward()
    >>> loss.item() < 1e-4
    True
    """
    require_reduction(reduction)
    block = require_block(block)
    with full_precision(images):
        a = as_features(images, "images", normalize, check)
        b = as_features(texts, "texts", normalize, check, like=a)
        a = a.to(b.dtype)
        require_pairs(a, b, "texts")
        all_a, start = gathered(a, group, "images")
        all_b, _ = gathered(b, group, "texts")
        require_negatives(len(all_b) - 1, "texts")
        t_a = row_temperature(temperature, a, all_b, start, step, check)
        if group is None and t_a.stride(0) == 0 and not isinstance(temperature, SetPoint):
            cold = a / t_a[:, None]  # one T: similarities both ways are the same
            by_row, by_column = log_partitions(cold, b, block=block)
            rows = 0.5 * (_rows(cold, b, by_row) + _rows(cold, b, by_column))
        else:
            solved = isinstance(temperature, SetPoint)
            t_b = row_temperature(temperature, b, all_a, start, step, check) if solved else t_a
            cold_a, cold_b = a / t_a[:, None], b / t_b[:, None]
            by_image = _rows(cold_a, b, log_partition(cold_a, all_b, skip=start, block=block))
            by_text = _rows(cold_b, a, log_partition(cold_b, all_a, skip=start, block=block))
            rows = 0.5 * (by_image + by_text)
    return reduced(rows, reduction)


def _rows(cold: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """-log of the probability of the positive against the log of the weight of the negatives."""
    return -logsigmoid((cold * positives).sum(-1) - negatives)


def siglip_loss(
    images: Tensor,
    texts: Tensor,
    *,
    temperature: Any,
    bias: Any,
    normalize: bool = True,
    reduction: str = "mean",
    group: Any = None,
    step: Any = None,
    block: int = BLOCK,
    check: bool | None = None,
) -> Tensor:
    """Every pair a yes or no: L_i = softplus(-(s_ii / T + b)) + sum_(j != i) softplus(s_ij / T + b).

    The sum over pairs is divided by the number of images, not of pairs, as in the paper. SigLIP begins with T = 0.1 and
    b = -10, both learnable: `LearnableTemperature(0.1)`, without bounds, as published models end at 1/T = 112. b =
    log(1 / (n - 1)) is where pairs of similarity 0 have the frequency of true ones.

    Limits: for T -> inf every pair has softplus(b), true ones softplus(-b).

    Parameters
    ----------
    images, texts : floating tensor, shape (n, d)
        Row i of one belongs to row i of the other.
    temperature
        See the module; one a sample is that of its image. Not a set point: pairs do not share a law.
    bias : float or tensor, a number or shape (n,)
        b, in units of s / T; one a sample is that of its image.
    reduction : "mean", "sum" or "none"
        Over images.
    normalize, group, step, block, check
        See the module.

    Returns
    -------
    tensor, float32 or float64
        A number, or shape (n,) with "none".

    Raises
    ------
    TypeError, ValueError
        As for `info_nce`, but one pair is enough; a bias that is not finite or of another shape.

    References
    ----------
    Zhai et al. (2023), Sigmoid loss for language image pre-training, section 3.2.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> round(siglip_loss(x, x, temperature=0.1, bias=-5.0).item(), 4)  # softplus(-5) twice
    0.0134
    """
    require_reduction(reduction)
    block = require_block(block)
    if isinstance(temperature, SetPoint):
        raise TypeError("temperature: must not be a set point for siglip_loss; got one; pairs share no law, give a T")
    with full_precision(images):
        a = as_features(images, "images", normalize, check)
        b = as_features(texts, "texts", normalize, check, like=a)
        a = a.to(b.dtype)
        require_pairs(a, b, "texts")
        all_b, start = gathered(b, group, "texts")
        cold = a / row_temperature(temperature, a, all_b, start, step, check)[:, None]
        shift = _as_bias(bias, a, check)
        true = -logsigmoid((cold * b).sum(-1) + shift)
        rows = true + softplus_sum(cold, all_b, shift, skip=start, block=block)
    return reduced(rows, reduction)


def _as_bias(bias: Any, a: Tensor, check: bool | None) -> Tensor:
    """The bias of every row."""
    try:
        b = bias.to(a) if isinstance(bias, Tensor) else torch.as_tensor(bias, dtype=a.dtype, device=a.device)
        b = b.broadcast_to((len(a),))
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"bias: must be a number or one a row, {len(a)}; got {describe(bias)}; -10 is usual"
        ) from error
    if should_check(check, b) and not bool((b.abs() < math.inf).all()):
        raise ValueError(f"bias: must be finite; got {describe(bias)}; -10 is usual")
    return b
