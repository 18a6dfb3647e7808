"""What the support of an episode says: prototypes and temperature. PyTorch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from logitherm._array import FLOAT_TYPES, HALF_TYPES, describe, dtype_name, first_true, is_traced, should_check
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
        sigma^2 of one feature within classes; features that are the same in a whole episode are none of it.
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
        It does not mend rows that are far from Gaussian: with nine values in ten 0, as a rectifier leaves them, queries
        wanted 0.5 to 1.3 times this T with 5 or 20 shots, 1.2 to 3.1 times by `covariance`, and 3.5 to 126 times with
        one shot. `fit_temperature` on episodes of base classes tells.
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
        Shapes that are no episodes; one shot without a variance; support rows that do not differ; NaN or inf;
        a call inside `torch.func`.

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
    require_estimate(estimate, spread)
    support = as_embeddings(support, "support", "(..., ways, shots, features)", 3)
    ways, shots, features = support.shape[-3:]
    if ways < 2:
        raise ValueError(f"support: must have at least two classes; got {describe(support)}; (ways, shots, features)")
    covariance = None if covariance is None else torch.as_tensor(covariance).to(support)
    require_spread(spread, variance, covariance, features)
    means = support.mean(-2)
    centre = means.mean(-2, keepdim=True)
    moved = means - centre
    squares = moved.square().sum((-2, -1))
    if should_check(check, support):
        require_finite(squares, "support", "episode")
        if covariance is not None:
            require_finite(covariance.sum(-1), "covariance", "row")
    dims: Tensor | int = features
    if variance is None and covariance is None:
        dims = (
            (support != support[..., :1, :1, :]).any(-2).any(-2).sum(-1)
        )  # a constant one does not make rows narrower
        s = within(support, means, dims, estimate, check)
    elif covariance is None:
        s = elsewhere(variance, means, "variance", check)
    else:
        s = elsewhere(covariance.diagonal().mean(), means, "covariance", check)
    kept = _reliability(squares * shots / s, dims * (ways - 1))
    prototypes, t, kept = by_estimate(estimate, centre, moved, s, kept, shots)
    if spread == "between":
        d = prototypes - centre
        with torch.autocast(d.device.type, enabled=False):
            if covariance is None:
                r = support - means[..., None, :]
                along = (r @ d[..., None, :, :].mT).square().sum((-3, -2, -1)) / (ways * (shots - 1))
            else:
                along = ((d @ covariance) * d).sum((-2, -1))
        apart = d.square().sum((-2, -1)) * s
        t = t * torch.where(
            apart > 0, along / torch.where(apart > 0, apart, 1), 1
        )  # equal prototypes have no direction
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


def require_estimate(estimate: str, spread: str) -> None:
    for name, value, known in (("estimate", estimate, ESTIMATES), ("spread", spread, SPREADS)):
        if value not in known:
            raise ValueError(f"{name}: must be one of {', '.join(known)}; got {value!r}; choose one")


def require_spread(spread: str, variance: Any, covariance: Tensor | None, features: int) -> None:
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


def within(support: Tensor, means: Tensor, dims: Tensor, estimate: str, check: bool | None) -> Tensor:
    """sigma^2 of an episode: S / nu, or S / (nu - 2), whose inverse is unbiased."""
    ways, shots, features = support.shape[-3:]
    if shots == 1:
        raise ValueError(
            f"support: one shot a class leaves no residual to take sigma^2 from; got {describe(support)}; pass "
            "variance= or covariance= of base classes (within_class_variance)"
        )
    if ways * (shots - 1) * features <= 2:
        raise ValueError(
            f"support: must leave 3 degrees of freedom for sigma^2; got {describe(support)}; add shots, or variance="
        )
    degrees = dims * (ways * (shots - 1))
    s = (support - means[..., None, :]).square().sum((-3, -2, -1))
    s = s / (degrees - 2 * (estimate != "plug_in")).clamp(min=1)
    if should_check(check, s):
        require_finite(s, "support", "episode")
        rounding = (2 * torch.finfo(s.dtype).eps * support.detach().abs().amax((-3, -2, -1))) ** 2
        flat = (s <= rounding) | (degrees <= 2)
        if bool(flat.any()):
            raise ValueError(
                f"support: rows of a class must be finite and differ; episode {first_true(flat)} has zero variance "
                "within classes, or one in too few features; mend it"
            )
    return s


def require_finite(values: Tensor, name: str, part: str) -> None:
    bad = ~torch.isfinite(values.detach())
    if bool(bad.any()):
        raise ValueError(f"{name}: must be finite; {part} {first_true(bad)} has NaN, inf or too large values; mend it")


def elsewhere(variance: Any, means: Tensor, name: str, check: bool | None) -> Tensor:
    """sigma^2 from elsewhere, one an episode."""
    try:
        s = torch.as_tensor(variance, dtype=means.dtype, device=means.device)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name}: must be a number or a tensor; got {describe(variance)}; sigma^2 of a feature"
        ) from error
    if should_check(check, s):
        bad = ~((s > 0) & torch.isfinite(s))
        if bool(bad.any()):
            what = float(s.detach().reshape(-1)[first_true(bad)])
            raise ValueError(f"{name}: must be positive and finite; got {what:g} as sigma^2 of a feature; mend it")
    try:
        return s.expand(means.shape[:-2])
    except RuntimeError as error:
        raise ValueError(
            f"variance: must broadcast against the episodes {tuple(means.shape[:-2])}; got {describe(s)}; one is usual"
        ) from error


def as_embeddings(x: Any, name: str, shape: str, least: int) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: must be a floating tensor; got a {type(x).__name__}; take torch.as_tensor of it")
    if dtype_name(x) not in FLOAT_TYPES + HALF_TYPES:
        raise TypeError(f"{name}: must be a floating tensor; got {describe(x)}; shape {shape}")
    if x.ndim < least or 0 in x.shape:
        raise ValueError(f"{name}: must have shape {shape}; got {describe(x)}; reshape it")
    return x.float() if dtype_name(x) in HALF_TYPES else x


def _reliability(squares: Tensor, degrees: Tensor | int) -> Tensor:
    """The posterior mean, with its first derivative."""
    value, slope = _posterior(squares.detach(), degrees)
    return value + slope * (squares - squares.detach())


@outside_graphs
def _posterior(squares: Tensor, degrees: Tensor | int) -> tuple[Tensor, Tensor]:
    if is_traced(squares):
        raise TypeError(
            "support: cannot be a tensor of torch.func; got one inside vmap or grad; give episodes as batch axes"
        )
    found = reliability(
        squares.double().cpu().numpy(), degrees.cpu().numpy() if isinstance(degrees, Tensor) else degrees
    )
    value, slope = (torch.as_tensor(v, dtype=squares.dtype, device=squares.device) for v in found)
    return value, slope
