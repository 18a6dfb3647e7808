"""How much of what one model does to another is a temperature."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_logits, to_numpy
from logitherm._json import plain
from logitherm._labels import as_weights
from logitherm.gauge.comparing import angle
from logitherm.thermometer import effective_temperature


@dataclass(frozen=True)
class ThermalShare:
    """What of the difference between two models is a temperature, and what is not.

    Attributes
    ----------
    temperature : float
        At which the source comes closest to the target: above 1 the target is the hotter of the two.
    share : float
        Of KL(target || source), what that temperature removes, 0 to 1. NaN where the two do not differ. A target that
        is nearly uniform is close to whatever is hot: there it is near 1 at any angle, so read the two together.
    angle : float
        Between the logits of the two, centred in every row, in degrees: no temperature changes it. 0 where they differ
        by a temperature alone, 90 where they have nothing in common; sin^2 of it is the part of the squared centred
        logits that is not shared. NaN where the logits of one are constant.
    divergence_before, divergence_after : float
        Mean KL(target || softmax(source / T)) at T = 1 and at `temperature`, in nats.
    at_bound : "zero", "infinite" or None
        As in `EffectiveTemperature`.
    n, classes : int
        Rows and states.
    """

    temperature: float
    share: float
    angle: float
    divergence_before: float
    divergence_after: float
    at_bound: str | None
    n: int
    classes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None where a number is not finite."""
        return dict(plain(asdict(self)))


def thermal_share(source: Array, target: Array, *, weights: Any = None, axis: int = -1) -> ThermalShare:
    """The temperature that brings `source` closest to `target`, the share it explains, the angle that it does not.

    For one model at two strengths of regularisation, two epochs or two widths, on the same inputs. It is directional,
    as `effective_temperature` is; the angle is not.

    Limits: logits that differ by a factor c > 0 give T = 1/c, share 1 and angle 0.

    Parameters
    ----------
    source, target : floating arrays, shape (..., states)
        Logits of the two on the same inputs; -inf forbids a state, which the angle leaves out.
    weights : array, batch shape
        Nonnegative weights of the rows.
    axis : int
        The axis of the states.

    Returns
    -------
    ThermalShare

    Raises
    ------
    TypeError, ValueError
        As for `logitherm.effective_temperature`.

    References
    ----------
    Csiszar (1975) for the projection on an exponential family. Berta et al. (2025), Rethinking early stopping: refine,
    then calibrate, arXiv 2501.19195, for the parts of a loss that a temperature does and does not mend.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z, noise = rng.normal(size=(2, 500, 4))
    >>> found = thermal_share(z, z / 3.0)
    >>> round(found.temperature, 4), round(found.share, 4), round(found.angle, 4)
    (3.0, 1.0, 0.0)
    >>> found = thermal_share(z, (z + 0.2 * noise) / 3.0)
    >>> round(found.temperature, 1), round(found.share, 2), round(found.angle, 1)
    (3.0, 0.99, 11.5)
    """
    found = effective_temperature(source, target, weights=weights, axis=axis)
    both = [to_numpy(as_logits(z, axis)).astype(np.float64) for z in (source, target)]
    w = as_weights(weights, both[0].shape[:-1])
    both = [z.reshape(found.n, found.classes) for z in both]
    return ThermalShare(
        temperature=found.temperature,
        share=found.share,
        angle=_angle(both[0], both[1], w),
        divergence_before=found.divergence_before,
        divergence_after=found.divergence_after,
        at_bound=found.at_bound,
        n=found.n,
        classes=found.classes,
    )


def _angle(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None) -> float:
    """Of logits centred over the states that both allow."""
    both = np.isfinite(source) & np.isfinite(target)
    count = both.sum(axis=-1, keepdims=True)
    rows = 1.0 if weights is None else np.sqrt(weights / weights.max())[:, None]
    centred = []
    for z in (source, target):
        top = np.where(both, z, -np.inf).max(axis=-1, keepdims=True)
        depth = np.where(both, z - top, 0.0)  # first, so that equal logits give exactly 0
        centred.append(rows * np.where(both, depth - depth.sum(axis=-1, keepdims=True) / count, 0.0))
    return angle(*centred)
