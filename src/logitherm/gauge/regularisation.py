"""A model along a path of regularisation: what of each step is a temperature, and what that temperature mends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, describe
from logitherm._json import plain
from logitherm.gauge.shares import ThermalShare, thermal_share
from logitherm.metrics import nll
from logitherm.thermometer import TemperatureFit, fit_temperature


@dataclass(frozen=True)
class PathPoint:
    """One model of a path.

    Attributes
    ----------
    strength : float
        As it was given: of the regularisation, or an epoch, or a width.
    thermal : ThermalShare
        Of this model as seen from the reference: `temperature` above 1 says that it is the hotter of the two.
    fit : TemperatureFit
        Temperature scaling of this model.
    nll_before, nll_after : float
        Of the rows, in nats, at T = 1 and at `fit.temperature`.
    """

    strength: float
    thermal: ThermalShare
    fit: TemperatureFit
    nll_before: float
    nll_after: float


@dataclass(frozen=True)
class RegularisationPath:
    """The models of `regularisation_path`, in the order in which they were given.

    Attributes
    ----------
    points : tuple of PathPoint
    reference : int
        Of the point that the others are seen from.
    """

    points: tuple[PathPoint, ...]
    reference: int

    @property
    def best_before(self) -> PathPoint:
        """The point of the lowest NLL at T = 1."""
        return min(self.points, key=lambda point: point.nll_before)

    @property
    def best_after(self) -> PathPoint:
        """The point of the lowest NLL once each has its temperature: the best direction, whatever its scale."""
        return min(self.points, key=lambda point: point.nll_after)

    @property
    def removable(self) -> tuple[float, ...]:
        """Of each point's NLL above the lowest one after scaling, the share that its temperature takes away, at most 1.

        NaN where there is none to take away; below 0 where the temperature was fitted on other rows and does harm here.
        """
        floor = self.best_after.nll_after
        return tuple(
            (p.nll_before - p.nll_after) / (p.nll_before - floor) if p.nll_before > floor else float("nan")
            for p in self.points
        )

    @property
    def verdict(self) -> str:
        """What a temperature does for the path, in one line."""
        before, after = self.best_before, self.best_after
        spread = [max(values) - min(values) for values in zip(*((p.nll_before, p.nll_after) for p in self.points))]
        return (
            f"Best at {before.strength:g} as they are (NLL {before.nll_before:.3f}), at {after.strength:g} with a "
            f"temperature each ({after.nll_after:.3f}); from best to worst {spread[0]:.3f} nats before, "
            f"{spread[1]:.3f} after."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None where a number is not finite."""
        return dict(plain(asdict(self) | {"removable": self.removable, "verdict": self.verdict}))


def regularisation_path(
    logits: Sequence[Array],
    labels: Any,
    strengths: Sequence[float],
    *,
    fit_logits: Sequence[Array] | None = None,
    fit_labels: Any = None,
    reference: int | None = None,
) -> RegularisationPath:
    """How much of regularisation is a temperature: every model of a path against one of them, and scaled by its own T.

    Weight decay makes logits smaller, which is a temperature, and turns them, which is not. Temperature scaling takes
    the first part away for nothing, so strengths should be compared after it: the last column of the path.

    Parameters
    ----------
    logits : sequence of arrays, each (..., classes)
        Of every model on the same held-out rows; -inf forbids a class.
    labels : integer array, batch shape
        Of these rows.
    strengths : sequence of numbers
        One for every model: of the penalty, its inverse C, epochs, widths.
    fit_logits, fit_labels : optional
        Of rows to fit the temperatures on, as `logits` and `labels`. Else they are fitted on the rows themselves, and
        `nll_after` is what the best T can do: too low by some half a nat over all rows together.
    reference : int, optional
        Of the model that the others are seen from; that of the lowest NLL at T = 1 unless given.

    Returns
    -------
    RegularisationPath

    Raises
    ------
    TypeError, ValueError
        As for `fit_temperature` and `thermal_share`, with the number of the model; numbers of models that differ.

    References
    ----------
    Berta et al. (2025), Rethinking early stopping: refine, then calibrate, arXiv 2501.19195.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(2000, 5))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> path = regularisation_path([0.25 * z, z, 4.0 * z], labels, [1.0, 0.1, 0.01])
    >>> [round(point.thermal.temperature, 3) for point in path.points], path.reference
    ([4.0, 1.0, 0.25], 1)
    >>> [round(share, 3) for share in path.removable]    # all of it: they differ by a temperature alone
    [1.0, 1.0, 1.0]
    """
    models = list(logits)
    _require_number(strengths, "strengths", len(models))
    strengths = [_as_number(strength, i) for i, strength in enumerate(strengths)]
    if not models:
        raise ValueError("logits: must hold the logits of at least one model; got none; give one array a model")
    if (fit_logits is None) != (fit_labels is None):
        raise ValueError("fit_logits, fit_labels: must come together; got one of them; give both or neither")
    to_fit = models if fit_logits is None else list(fit_logits)
    _require_number(to_fit, "fit_logits", len(models))
    known = labels if fit_labels is None else fit_labels
    before = [_of_model(i, nll, z, labels) for i, z in enumerate(models)]
    chosen = int(np.argmin(before)) if reference is None else reference
    if chosen not in range(-len(models), len(models)):
        raise ValueError(f"reference: must be the number of a model; got {chosen} for {len(models)}; the first is 0")
    points = []
    for i, (z, fit_z, strength) in enumerate(zip(models, to_fit, strengths)):
        fit = _of_model(i, fit_temperature, fit_z, known)
        thermal = _of_model(i, thermal_share, models[chosen], z)
        points.append(PathPoint(strength, thermal, fit, before[i], nll(z, labels, fit)))
    return RegularisationPath(tuple(points), range(len(models))[chosen])


def _require_number(values: Sequence[Any], name: str, models: int) -> None:
    if len(values) != models:
        raise ValueError(f"{name}: must be one for each of the {models} models in logits; got {len(values)}")


def _as_number(strength: Any, i: int) -> float:
    try:
        return float(strength)
    except (TypeError, ValueError):
        raise TypeError(f"strengths: must be numbers; got {describe(strength)} for model {i}; 0, 1, 2, say") from None


def _of_model(number: int, function: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise type(error)(f"model {number}: {error}") from error
