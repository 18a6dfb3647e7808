"""Episodes: classify queries by a few support rows a class, at the temperature that those rows call for. PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitherm._array import as_temperature, describe, should_check
from logitherm.prototypes.episodes import as_embeddings, episode, require_estimate, require_finite, require_spread


def prototype_logits(
    queries: Tensor,
    support: Tensor,
    temperature: Any = None,
    *,
    variance: Any = None,
    covariance: Tensor | None = None,
    spread: str = "pooled",
    estimate: str = "empirical_bayes",
    step: Any = None,
    check: bool | None = None,
) -> Tensor:
    """Logits -|x - mu_k|^2 / T of queries, but for a term common to a row; their softmax at T = 1 are probabilities.

    Parameters
    ----------
    queries : floating tensor, shape (..., queries, features)
    support : floating tensor, shape (..., ways, shots, features)
    temperature : None, number, tensor that broadcasts against (..., queries), or Temperature
        On squared distances; that of an `episode` as `temperature[..., None]`. None is the rule of `episode`. A
        `LearnableTemperature` on Gaussian clusters comes to the rule; how far it ends from it elsewhere says how far
        they are from Gaussian.
    variance, covariance, spread, estimate, check
        As in `episode`.
    step
        For temperatures with a schedule.

    Returns
    -------
    tensor, shape (..., queries, ways)

    Raises
    ------
    TypeError, ValueError
        As in `episode`; queries that do not fit the support, or are not finite; a temperature that is not positive.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> means = torch.randn(5, 1, 64, generator=generator)
    >>> draw = lambda shots: means + 2 * torch.randn(5, shots, 64, generator=generator)
    >>> z = prototype_logits(draw(20).flatten(0, 1), draw(5))
    >>> z.shape
    torch.Size([100, 5])
    >>> labels = torch.arange(5).repeat_interleave(20)
    >>> torch.nn.functional.cross_entropy(z, labels).item() < 1
    True
    """
    found = episode(support, variance=variance, covariance=covariance, spread=spread, estimate=estimate, check=check)
    x = as_embeddings(queries, "queries", "(..., queries, features)", 2)
    if x.shape[-1] != found.prototypes.shape[-1]:
        width = found.prototypes.shape[-1]
        raise ValueError(
            f"queries: must have {width} features like the support; got {describe(queries)}; embed both the same way"
        )
    dtype = torch.promote_types(x.dtype, found.prototypes.dtype)
    centre = found.prototypes.mean(-2, keepdim=True)
    try:
        x, p = (x - centre).to(dtype), (found.prototypes - centre).to(dtype)
    except RuntimeError as error:
        raise ValueError(
            f"queries: must broadcast against the episodes {tuple(support.shape[:-3])}; got {describe(queries)}; "
            "(..., queries, features)"
        ) from error
    with torch.autocast(x.device.type, enabled=False):
        z = 2 * x @ p.mT - p.square().sum(-1)[..., None, :]
    if should_check(check, z):
        require_finite(z.sum(-1), "queries", "row")
    if temperature is None:
        return z / found.temperature[..., None, None]
    return z / as_temperature(temperature, z, check, step, usual="2 sigma^2")[..., None]


class FewShotHead(torch.nn.Module):
    """`prototype_logits` as a module; what is known of base classes is part of its state.

    As buffers do, it loads into a head that was made with one of the same shape: `FewShotHead(variance=1.0)`.

    Parameters
    ----------
    temperature : None, number, tensor or Temperature
        None is the rule; a `LearnableTemperature` is registered and learned.
    variance, covariance, spread, estimate
        As in `episode`. Variance or covariance of base classes serve every episode; one shot needs one of them.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> labels = torch.arange(10).repeat_interleave(50)
    >>> means = 3 * torch.randn(10, 64, generator=generator)
    >>> base = means[labels] + 2 * torch.randn(500, 64, generator=generator)
    >>> head = FewShotHead(variance=within_class_variance(base, labels))
    >>> round(head.variance.item(), 2)
    4.0
    >>> one_shot = 3 * torch.randn(5, 1, 64, generator=generator)
    >>> head(one_shot.squeeze(1), one_shot).shape
    torch.Size([5, 5])
    """

    variance: Tensor | None
    covariance: Tensor | None

    def __init__(
        self,
        temperature: Any = None,
        *,
        variance: float | Tensor | None = None,
        covariance: Tensor | None = None,
        spread: str = "pooled",
        estimate: str = "empirical_bayes",
    ) -> None:
        super().__init__()
        require_estimate(estimate, spread)
        covariance = None if covariance is None else torch.as_tensor(covariance)
        require_spread(spread, variance, covariance, 0 if covariance is None else covariance.shape[-1])
        self.temperature, self.spread, self.estimate = temperature, spread, estimate
        self.register_buffer("variance", None if variance is None else torch.as_tensor(variance).detach())
        self.register_buffer("covariance", None if covariance is None else covariance.detach())

    def forward(self, queries: Tensor, support: Tensor, step: Any = None) -> Tensor:
        return prototype_logits(
            queries,
            support,
            self.temperature,
            variance=self.variance,
            covariance=self.covariance,
            spread=self.spread,
            estimate=self.estimate,
            step=step,
        )


def within_class_variance(features: Tensor, labels: Tensor) -> Tensor:
    """sigma^2 of one feature about class means, unbiased: S / (features (rows - classes)); with gradient.

    Parameters
    ----------
    features : floating tensor, shape (rows, features)
    labels : integer tensor, shape (rows,)

    Raises
    ------
    ValueError
        No class with two rows.

    Examples
    --------
    >>> features = torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 5.0]])
    >>> within_class_variance(features, torch.tensor([0, 0, 1])).item()    # 2 over two features and 3 - 2 rows
    1.0
    """
    residuals, degrees = class_residuals(features, labels)
    return residuals.square().sum() / (degrees * residuals.shape[1])


def within_class_covariance(features: Tensor, labels: Tensor) -> Tensor:
    """Covariance about class means, unbiased, (features, features); with gradient. Its mean diagonal is the variance.

    Parameters and errors are those of `within_class_variance`. To take distances in its units, whiten embeddings by
    the inverse of its Cholesky factor and pass variance=1.

    Examples
    --------
    >>> features = torch.tensor([[0.0, 1.0], [2.0, 1.0], [5.0, 5.0]])
    >>> within_class_covariance(features, torch.tensor([0, 0, 1])).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    residuals, degrees = class_residuals(features, labels)
    with torch.autocast(residuals.device.type, enabled=False):
        return residuals.mT @ residuals / degrees


def class_residuals(features: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Rows less the mean of their class, and how many rows there are more than classes."""
    x = as_embeddings(features, "features", "(rows, features)", 2)
    if x.ndim != 2 or not isinstance(labels, Tensor) or labels.shape != x.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"labels: must be an integer tensor of shape (rows,) for features (rows, features); got {describe(labels)} "
            f"for {describe(features)}; one a row"
        )
    classes, which = labels.unique(return_inverse=True)
    degrees = len(x) - len(classes)
    if degrees <= 0:
        raise ValueError(
            f"labels: must name a class twice to tell sigma^2; got {len(x)} rows of {len(classes)} classes; add rows"
        )
    counts = torch.bincount(which, minlength=len(classes)).to(x.dtype)
    means = x.new_zeros(len(classes), x.shape[1]).index_add(0, which, x) / counts[:, None]
    return x - means[which], degrees
