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
    support: Tensor, *, variance: Any = None, estimate: str = "empirical_bayes", check: bool | None = None
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
        sigma^2 from base classes, in place of that of the episode: `within_class_variance`. One shot needs it.
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
    means = support.mean(-2)
    s = within(support, means, estimate, check) if variance is None else given(variance, means, check)
    centre = means.mean(-2, keepdim=True)
    moved = means - centre
    kept = _reliability(moved.square().sum((-2, -1)) * shots / s, float(features * (ways - 1)))
    if estimate == "plug_in":
        return Episode(means, 2 * s, s, torch.ones_like(kept))
    if estimate == "corrected":
        return Episode(means, 2 * s / kept, s, kept)
    noise = s / shots * (kept + (1 - kept) / ways)
    return Episode(centre + kept[..., None, None] * moved, 2 * (s + noise), s, kept)


def within(support: Tensor, means: Tensor, estimate: str, check: bool | None) -> Tensor:
    """sigma^2 of an episode: S / nu, or S / (nu - 2), whose inverse is unbiased."""
    ways, shots, features = support.shape[-3:]
    degrees = ways * (shots - 1) * features
    if shots == 1:
        raise ValueError(
            f"support: one shot a class leaves no residual to take sigma^2 from; got {describe(support)}; pass "
            "variance= of base classes (within_class_variance)"
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


def given(variance: Any, means: Tensor, check: bool | None) -> Tensor:
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
