"""What the support of an episode says: prototypes and temperature. PyTorch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from logitherm._array import FLOAT_TYPES, HALF_TYPES, describe, dtype_name, first_true, should_check
from logitherm.kernels.graphs import outside_graphs
from logitherm.prototypes.shrinkage import reliability

ESTIMATES = ("empirical_bayes", "corrected", "plug_in")
SPREADS = ("pooled", "between")


class Episode(NamedTuple):
    """What the support of an episode says.

    Attributes
    ----------
    prototypes : tensor, shape (..., ways, features)
    temperature : tensor, shape (...)
        T on squared distances to the prototypes.
    variance : tensor, shape (...)
        sigma^2 of one feature within classes.
    reliability : tensor, shape (...)
        The share of the differences between class means that is no noise.
    """

    prototypes: Tensor
    temperature: Tensor
    variance: Tensor
    reliability: Tensor


def episode(
    support: Tensor,
    *,
    variance: Any = None,
    covariance: Tensor | None = None,
    spread: str = "pooled",
    estimate: str = "empirical_bayes",
    check: bool | None = None,
) -> Episode:
    """Prototypes and temperature from the support of one episode, or of a batch of them.

    The rule is that of `PrototypeClassifier`: sigma^2 from the residuals of this episode, pooled over its classes;
    class means drawn together as far as their differences are noise; T = 2 (sigma^2 + what is left of that noise).
    Gradients reach the support through all of it.

    Parameters
    ----------
    support : floating tensor, shape (..., ways, shots, features)
        Half types are computed in float32.
    variance : float or tensor of shape (...), optional
        sigma^2 from base classes, in place of that of the episode: `within_class_variance`. One shot needs it, or:
    covariance : tensor, shape (features, features), optional
        Of base classes: `within_class_covariance`. It gives sigma^2 = trace / features, and the spread in directions.
    spread : "pooled" or "between"
        The temperature from the variance in all directions, or along those in which prototypes differ, which is right
        for embeddings that are not isotropic, within 15 % in simulations. By `covariance`, or the episode's residuals.
    estimate : "empirical_bayes", "corrected" or "plug_in"
        "corrected": plain class means, T = 2 sigma^2 / reliability; "plug_in": plain class means, T = 2 sigma^2.
    check : bool, optional
        Whether values are looked at: yes unless False or under a trace.

    Returns
    -------
    Episode

    Raises
    ------
    TypeError, ValueError
        Shapes that are no episodes; one shot without a variance; support rows that do not differ.

    References
    ----------
    Snell, Swersky and Zemel (2017), Prototypical networks for few-shot learning, section 2.3, for the logits; Efron
    and Morris (1973), Stein (1981) for the shrinkage.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> means = torch.randn(5, 1, 64, generator=generator)
    >>> found = episode(means + 2 * torch.randn(5, 5, 64, generator=generator))
    >>> round(found.variance.item(), 2), round(found.reliability.item(), 2), round(found.temperature.item(), 2)
    (4.41, 0.54, 9.94)
    """
    if estimate not in ESTIMATES:
        raise ValueError(f"estimate: must be one of {', '.join(ESTIMATES)}; got {estimate!r}; choose one")
    support = as_embeddings(support, "support", "(..., ways, shots, features)", 3)
    ways, shots, features = support.shape[-3:]
    if ways < 2:
        raise ValueError(f"support: must have at least two classes; got {describe(support)}; (ways, shots, features)")
    require_spread(spread, variance, covariance, features)
    means = support.mean(-2)
    given = variance if covariance is None else covariance.diagonal().mean()
    s = within(support, means, estimate, check) if given is None else elsewhere(given, means, check)
    centre = means.mean(-2, keepdim=True)
    moved = means - centre
    kept = _reliability(moved.square().sum((-2, -1)) * shots / s, float(features * (ways - 1)))
    prototypes, t, kept = by_estimate(estimate, centre, moved, s, kept, shots)
    if spread == "between":
        d = prototypes - centre
        if covariance is None:
            r = support - means[..., None, :]
            along = (r @ d[..., None, :, :].mT).square().sum((-3, -2, -1)) / (ways * (shots - 1))
        else:
            along = ((d @ covariance.to(d)) * d).sum((-2, -1))
        t = t * along / (d.square().sum((-2, -1)) * s)
    return Episode(prototypes, t, s, kept)


def by_estimate(
    estimate: str, centre: Tensor, moved: Tensor, s: Tensor, kept: Tensor, shots: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Prototypes, temperature and reliability, for means that are `moved` from their centre."""
    if estimate == "plug_in":
        return centre + moved, 2 * s, torch.ones_like(kept)
    if estimate == "corrected":
        return centre + moved, 2 * s / kept, kept
    noise = s / shots * (kept + (1 - kept) / moved.shape[-2])
    return centre + kept[..., None, None] * moved, 2 * (s + noise), kept


def require_spread(spread: str, variance: Any, covariance: Tensor | None, features: int) -> None:
    if spread not in SPREADS:
        raise ValueError(f"spread: must be one of {', '.join(SPREADS)}; got {spread!r}; choose one")
    if variance is not None and (covariance is not None or spread == "between"):
        raise ValueError(
            "variance: goes with spread='pooled' and no covariance, as it says nothing of directions; got it as well; "
            "leave it out"
        )
    if covariance is not None and tuple(covariance.shape) != (features, features):
        raise ValueError(
            f"covariance: must have shape ({features}, {features}); got {describe(covariance)}; take "
            "within_class_covariance of base classes"
        )


def within(support: Tensor, means: Tensor, estimate: str, check: bool | None) -> Tensor:
    """sigma^2 of an episode: S / nu, or S / (nu - 2), whose inverse is unbiased."""
    ways, shots, features = support.shape[-3:]
    degrees = ways * (shots - 1) * features
    if shots == 1:
        raise ValueError(
            f"support: one shot a class leaves no residual to take sigma^2 from; got {describe(support)}; pass "
            "variance= or covariance= of base classes (within_class_variance)"
        )
    if degrees <= 2:
        raise ValueError(
            f"support: must leave 3 degrees of freedom for sigma^2; got {describe(support)}; add shots, or variance="
        )
    s = (support - means[..., None, :]).square().sum((-3, -2, -1)) / (degrees - 2 * (estimate != "plug_in"))
    if should_check(check, s):
        rounding = (2 * torch.finfo(s.dtype).eps * support.detach().abs().amax((-3, -2, -1))) ** 2
        good = (s > rounding) & torch.isfinite(s)
        if not bool(good.all()):
            bad = first_true(~good)
            what = "zero variance within classes" if math.isfinite(float(s.reshape(-1)[bad])) else "NaN or inf"
            raise ValueError(f"support: rows of a class must be finite and differ; episode {bad} has {what}; mend it")
    return s


def elsewhere(variance: Any, means: Tensor, check: bool | None) -> Tensor:
    """sigma^2 from elsewhere, one an episode."""
    s = torch.as_tensor(variance, dtype=means.dtype, device=means.device)
    if should_check(check, s) and not bool(((s > 0) & torch.isfinite(s)).all()):
        raise ValueError(f"variance: must be positive and finite; got {describe(variance)}; it is sigma^2 of a feature")
    try:
        return s.expand(means.shape[:-2])
    except RuntimeError as error:
        raise ValueError(
            f"variance: must broadcast against the episodes {tuple(means.shape[:-2])}; got {describe(s)}; one is usual"
        ) from error


def as_embeddings(x: Any, name: str, shape: str, least: int) -> Tensor:
    if not isinstance(x, Tensor) or dtype_name(x) not in FLOAT_TYPES + HALF_TYPES:
        raise TypeError(f"{name}: must be a floating tensor; got {describe(x)}; shape {shape}")
    if x.ndim < least or 0 in x.shape:
        raise ValueError(f"{name}: must have shape {shape}; got {describe(x)}; reshape it")
    return x.float() if dtype_name(x) in HALF_TYPES else x


def _reliability(squares: Tensor, degrees: float) -> Tensor:
    """The posterior mean, with its first derivative."""
    value, slope = _posterior(squares.detach(), degrees)
    return value + slope * (squares - squares.detach())


@outside_graphs
def _posterior(squares: Tensor, degrees: float) -> tuple[Tensor, Tensor]:
    found = reliability(squares.double().cpu().numpy(), degrees)
    value, slope = (torch.as_tensor(v, dtype=squares.dtype, device=squares.device) for v in found)
    return value, slope
