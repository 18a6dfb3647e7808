"""Where a contrastive loss has put the features: partners close to each other, everything else far apart?"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from logitherm.contrastive.inputs import as_features, require_block, require_negatives, require_pairs, row_temperature
from logitherm.kernels.torch_pairs import BLOCK, full_precision, log_partition


def alignment(queries: Tensor, keys: Tensor, *, check: bool | None = None) -> Tensor:
    """Mean squared distance of partners on the unit sphere: mean_i |q_i - k_i|^2 = 2 - 2 mean_i s_ii.

    Limits: 0 where partners coincide, 4 where they are opposite; 2 of independent directions.

    Parameters
    ----------
    queries, keys : floating tensors, shape (n, d)
        Key i is the partner of query i. Features are divided by their norms.
    check : bool, optional
        Whether values are looked at.

    Returns
    -------
    tensor, float32 or float64
        A number, with gradient.

    Raises
    ------
    TypeError, ValueError
        Features that are not finite, or of norm 0; shapes that do not match.

    References
    ----------
    Wang and Isola (2020), Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere, section 4.1.2, with alpha = 2.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> alignment(x, x).item(), alignment(x, x.flip(0)).item()
    (0.0, 2.0)
    """
    q = as_features(queries, "queries", True, check)
    k = as_features(keys, "keys", True, check, like=q)
    require_pairs(q, k, "keys")
    return (q.to(k.dtype) - k).square().sum(1).mean()


def uniformity(
    features: Tensor, temperature: Any = 0.25, *, step: Any = None, block: int = BLOCK, check: bool | None = None
) -> Tensor:
    """How far apart features are on the unit sphere: log mean_(i != j) exp(-|x_i - x_j|^2 / (2 T)), lower is further.

    As |x_i - x_j|^2 = 2 - 2 s_ij it is log mean exp((s_ij - 1) / T), the log Z of all pairs. The t of the paper is
    1 / (2 T): its 2 is T = 0.25, where directions without structure have about -4 if they are many-dimensional.
    InfoNCE at T, less the log of the number of negatives, tends for many of them to alignment / (2 T) plus this, but
    for the mean over i, which it takes outside the log (theorem 1).

    Limits: 0 where all features coincide and for T -> inf; T -> 0 looks at the closest pair only.

    Parameters
    ----------
    features : floating tensor, shape (n, d), n >= 2
        Divided by their norms.
    temperature
        One, or one a row i; see `logitherm.contrastive.losses`.
    step, block, check
        See `logitherm.contrastive.losses`. Memory is O(block^2).

    Returns
    -------
    tensor, float32 or float64
        A number, with gradient.

    Raises
    ------
    TypeError, ValueError
        Features that are not finite, or of norm 0; fewer than two; T that is not positive.

    References
    ----------
    Wang and Isola (2020), section 4.1.2 and theorem 1.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> uniformity(x).item(), uniformity(x, 1.0).item()  # opposite: -4 / (2 T)
    (-8.0, -2.0)
    """
    block = require_block(block)
    with full_precision(features):
        x = as_features(features, "features", True, check)
        require_negatives(len(x) - 1, "features")
        t = row_temperature(temperature, x, x, 0, step, check)
        rows = log_partition(x / t[:, None], x, skip=0, block=block) - 1 / t
        return torch.logsumexp(rows, 0) - math.log(len(x) * (len(x) - 1))
