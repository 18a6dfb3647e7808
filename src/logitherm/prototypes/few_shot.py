"""Episodes: classify queries by a few support rows a class, at the temperature that those rows call for. PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from logitherm._array import as_temperature, describe
from logitherm.prototypes.episodes import as_embeddings, episode


def prototype_logits(
    queries: Tensor,
    support: Tensor,
    temperature: Any = None,
    *,
    variance: Any = None,
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
        On squared distances. None is the rule of `episode`. A `LearnableTemperature` on Gaussian clusters comes to
        the rule; how far it ends from it elsewhere says how far they are from Gaussian.
    variance, estimate, check
        As in `episode`.
    step
        For temperatures with a schedule.

    Returns
    -------
    tensor, shape (..., queries, ways)

    Raises
    ------
    TypeError, ValueError
        As in `episode`; queries that do not fit the support; a temperature that is not positive.

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
    found = episode(support, variance=variance, estimate=estimate, check=check)
    x = as_embeddings(queries, "queries", "(..., queries, features)", 2)
    if x.shape[-1] != found.prototypes.shape[-1]:
        width = found.prototypes.shape[-1]
        raise ValueError(
            f"queries: must have {width} features like the support; got {describe(queries)}; embed both the same way"
        )
    dtype = torch.promote_types(x.dtype, found.prototypes.dtype)
    centre = found.prototypes.mean(-2, keepdim=True)
    x, p = (x - centre).to(dtype), (found.prototypes - centre).to(dtype)
    z = 2 * x @ p.mT - p.square().sum(-1)[..., None, :]
    if temperature is None:
        return z / found.temperature[..., None, None]
    return z / as_temperature(temperature, z, check, step, usual="2 sigma^2")[..., None]


class FewShotHead(torch.nn.Module):
    """`prototype_logits` as a module that can learn the spread of base classes, for episodes of one shot.

    Parameters
    ----------
    temperature : None, number, tensor or Temperature
        None is the rule; a `LearnableTemperature` is registered and learned.
    estimate : "empirical_bayes", "corrected" or "plug_in"
        As in `episode`.
    variance : float, optional
        sigma^2 of base classes, for every episode. Without it episodes have their own, but those of one shot, which
        take that of the rows that `observe` has seen.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> head = FewShotHead()
    >>> labels = torch.arange(10).repeat_interleave(50)
    >>> means = 3 * torch.randn(10, 64, generator=generator)
    >>> head.observe(means[labels] + 2 * torch.randn(500, 64, generator=generator), labels)
    >>> round(head.base_variance().item(), 2)
    4.0
    >>> one_shot = 3 * torch.randn(5, 1, 64, generator=generator)
    >>> head(one_shot.squeeze(1), one_shot).shape
    torch.Size([5, 5])
    """

    squares: Tensor
    degrees: Tensor

    def __init__(
        self, temperature: Any = None, *, estimate: str = "empirical_bayes", variance: float | None = None
    ) -> None:
        super().__init__()
        self.temperature, self.estimate, self.variance = temperature, estimate, variance
        self.register_buffer("squares", torch.zeros((), dtype=torch.float64))
        self.register_buffer("degrees", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def observe(self, features: Tensor, labels: Tensor) -> None:
        """Add rows of base classes, shape (rows, features), with integer labels; `forget` if the embedding changes."""
        squares, degrees = class_residuals(features, labels)
        self.squares += squares
        self.degrees += degrees

    def forget(self) -> None:
        """Drop what was observed."""
        self.squares.zero_()
        self.degrees.zero_()

    def base_variance(self) -> Tensor:
        """The unbiased sigma^2 of all rows observed so far."""
        if not bool(self.degrees > 0):
            raise ValueError(
                "variance: must be given, or rows of base classes observed, for one shot, which leaves no residual to "
                "take sigma^2 from; got neither; call observe(features, labels)"
            )
        return self.squares / self.degrees

    def forward(self, queries: Tensor, support: Tensor, step: Any = None) -> Tensor:
        variance: Any = self.variance
        if variance is None and support.ndim >= 2 and support.shape[-2] == 1:
            variance = self.base_variance()
        return prototype_logits(
            queries, support, self.temperature, variance=variance, estimate=self.estimate, step=step
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
    squares, degrees = class_residuals(features, labels)
    return squares / degrees


def class_residuals(features: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """Sum of squares about class means, and its degrees of freedom."""
    x = as_embeddings(features, "features", "(rows, features)", 2)
    if x.ndim != 2 or not isinstance(labels, Tensor) or labels.shape != x.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"labels: must be an integer tensor of shape (rows,) for features (rows, features); got {describe(labels)} "
            f"for {describe(features)}; one a row"
        )
    classes, which = labels.unique(return_inverse=True)
    degrees = (len(x) - len(classes)) * x.shape[1]
    if degrees <= 0:
        raise ValueError(
            f"labels: must name a class twice to tell sigma^2; got {len(x)} rows of {len(classes)} classes; add rows"
        )
    counts = torch.bincount(which, minlength=len(classes)).to(x.dtype)
    means = x.new_zeros(len(classes), x.shape[1]).index_add(0, which, x) / counts[:, None]
    return (x - means[which]).square().sum(dtype=torch.float64).to(x.dtype), degrees
