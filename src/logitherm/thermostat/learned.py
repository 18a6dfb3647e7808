"""A temperature that is learned with the model, for losses of PyTorch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from logitherm._array import describe
from logitherm.thermostat.schedules import Schedule


class LearnableTemperature(torch.nn.Module):
    """exp of a parameter, within bounds; a `Temperature`.

    The parameter is `log_temperature`. Before every use it is put back between the bounds, in place: the gradient at a
    bound is that of the loss, so that it can leave, as it could not if the bound were part of the graph. Exclude it
    from weight decay, which would draw T to 1.

    CLIP and its kin name a logit scale, 1/T, and learn its logarithm, -log T. Their values here:

    - CLIP begins with a log scale of log(1 / 0.07) = 2.659 and keeps it in [0, log 100] (a scale of 100 is T = 0.01):
      `LearnableTemperature(0.07, low=0.01, high=1.0)`.
    - SigLIP begins with log 10, and a bias of -10, without bounds: `LearnableTemperature(0.1)`. Published models end at
      a scale of exp(4.7215) = 112: with low=0.01 they would no longer be themselves.
    - From a checkpoint: `LearnableTemperature(math.exp(-logit_scale))`.

    Parameters
    ----------
    initial : float or tensor
        T > 0 to begin with; of a tensor one for every entry, which must broadcast against the batch.
    low, high : float
        Bounds of T, 0 <= low <= initial <= high <= inf; none unless given.
    adversarial : bool, float or Schedule
        Whether the loss is maximised in T while the model minimises it: the gradient is reversed, and multiplied by the
        number or that of the schedule at `step`.

    Raises
    ------
    ValueError
        Values that are not in order.

    References
    ----------
    Radford et al. (2021), section 2.5; Zhai et al. (2023), section 3.2; Li et al. (2023), Curriculum temperature for
    knowledge distillation, eq. 5 (the reversal).

    Examples
    --------
    >>> temperature = LearnableTemperature(0.07, low=0.01, high=1.0)
    >>> temperature
    LearnableTemperature(0.07, low=0.01, high=1)
    >>> round(temperature.resolve().item(), 4)
    0.07
    >>> round(temperature.log_temperature.item(), 3)
    -2.659
    """

    def __init__(
        self,
        initial: float | Tensor,
        *,
        low: float = 0.0,
        high: float = math.inf,
        adversarial: bool | float | Schedule = False,
    ) -> None:
        super().__init__()
        if not 0 <= low <= high:
            raise ValueError(f"low, high: must have 0 <= low <= high; got {low}, {high}; 0.01 and 1 are CLIP's")
        value = torch.as_tensor(initial, dtype=None if isinstance(initial, Tensor) else torch.float64).detach()
        if not bool(((value > 0) & (value >= low) & (value <= high) & (value < math.inf)).all()):
            got = describe(initial) if value.ndim else f"{value.item():g}"
            raise ValueError(f"initial: must be positive, from {low} to {high}; got {got}; change it or the bounds")
        if not isinstance(adversarial, Schedule) and not 0 <= adversarial < math.inf:
            raise ValueError(f"adversarial: must be finite and at least 0; got {adversarial}; True is 1")
        self.low, self.high, self.adversarial = float(low), float(high), adversarial
        dtype = value.dtype if isinstance(initial, Tensor) else torch.get_default_dtype()
        self.log_temperature = torch.nn.Parameter(value.log().to(dtype))

    def resolve(self, logits: Any = None, step: Any = None) -> Tensor:
        """T, with gradient; logits are not looked at, the step is for the schedule of `adversarial`."""
        with torch.no_grad():
            self.log_temperature.clamp_(math.log(self.low) if self.low else -math.inf, math.log(self.high))
        t = self.log_temperature.exp()
        if self.adversarial is False:
            return t
        strength = self.adversarial.at(step) if isinstance(self.adversarial, Schedule) else float(self.adversarial)
        return _Reversed.apply(t, strength)

    def forward(self, logits: Any = None, step: Any = None) -> Tensor:
        return self.resolve(logits, step)

    def __repr__(self) -> str:
        t = self.log_temperature.detach().exp()
        shown = f"{t.item():.4g}" if t.ndim == 0 else f"shape {tuple(t.shape)}"
        bounds = [
            f"{name}={value:g}" for name, value in (("low", self.low), ("high", self.high)) if 0 < value < math.inf
        ]
        more = [] if self.adversarial is False else [f"adversarial={self.adversarial}"]
        return f"LearnableTemperature({', '.join([shown, *bounds, *more])})"


class _Reversed(torch.autograd.Function):
    """The same value, with the gradient turned round."""

    @staticmethod
    def forward(ctx, t, strength):  # type: ignore[override]
        ctx.strength = strength
        return t.view_as(t)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[override]
        return -ctx.strength * grad, None
