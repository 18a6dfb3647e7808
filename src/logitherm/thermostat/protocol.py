"""The one protocol of everything that can be a temperature."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

from logitherm._array import (
    Array,
    as_array,
    describe,
    dtype_name,
    is_torch,
    is_traced,
    like,
    namespace,
    require_temperature,
    to_numpy,
)
from logitherm._labels import place
from logitherm.thermostat.setpoint import require_one_target, solve_temperature


@runtime_checkable
class Temperature(Protocol):
    """Anything that says which temperature a batch of logits shall have.

    Every `temperature=` of the library takes a number, an array that broadcasts against the batch (a learned
    parameter, for instance), or an object with this one method: a schedule, a set point, a table of groups, or one of
    your own.

    Examples
    --------
    >>> import numpy as np
    >>> import logitherm
    >>> class Hot:
    ...     def resolve(self, logits, step=None):
    ...         return np.full(logits.shape[:-1], 100.0)
    >>> isinstance(Hot(), Temperature)
    True
    >>> logitherm.softmax(np.array([[1.0, 0.0]]), Hot()).round(2).tolist()
    [[0.5, 0.5]]
    """

    def resolve(self, logits: Array, step: Any = None) -> Array:
        """Temperature that broadcasts against the batch of `logits` (states last), at a step of training or
        generation."""
        ...


@dataclass(frozen=True)
class SetPoint:
    """The temperature that holds a set point: `solve_temperature` as a `Temperature`. Give exactly one target.

    Attributes
    ----------
    entropy, mean_energy, top_probability, kl : float or array of the batch shape
        The target; see `solve_temperature`.
    side, pooled, reference_temperature, out_of_range, log_prior
        As in `solve_temperature`; targets out of range take the limit by default, and the prior is that of the
        function that asks.

    Examples
    --------
    >>> import numpy as np
    >>> import logitherm
    >>> p = logitherm.softmax(np.array([5.0, 1.0, 0.0]), SetPoint(top_probability=0.5))
    >>> p.round(3).tolist()
    [0.5, 0.269, 0.231]
    """

    entropy: Any = None
    mean_energy: Any = None
    top_probability: Any = None
    kl: Any = None
    side: str | None = None
    pooled: bool = False
    reference_temperature: Any = 1.0
    out_of_range: str = "limit"
    log_prior: Any = None

    def __post_init__(self) -> None:
        targets = {name: getattr(self, name) for name in ("entropy", "mean_energy", "top_probability", "kl")}
        require_one_target(targets, self.side, self.out_of_range)

    def __repr__(self) -> str:
        own = [f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) is not f.default]
        return f"SetPoint({', '.join(own)})"

    def under(self, log_prior: Array) -> SetPoint:
        """The same set point relative to a prior."""
        return replace(self, log_prior=log_prior)

    def resolve(self, logits: Array, step: Any = None) -> Array:
        return solve_temperature(logits, **vars(self))


@dataclass(frozen=True)
class PerGroup:
    """One temperature for every group of rows.

    Attributes
    ----------
    temperatures : array, shape (groups,)
        Temperature of every group, 0 <= T <= inf.
    groups : integer array, batch shape
        Group of every row.

    Examples
    --------
    >>> import numpy as np
    >>> PerGroup(np.array([1.0, 2.5]), np.array([0, 1, 1])).resolve(np.zeros((3, 2))).tolist()
    [1.0, 2.5, 2.5]
    """

    temperatures: Array
    groups: Array

    def resolve(self, logits: Array, step: Any = None) -> Array:
        table, groups = as_array(self.temperatures, "temperatures"), as_array(self.groups, "groups")
        if "int" not in dtype_name(groups):
            raise TypeError(f"groups: must be integers; got {dtype_name(groups)}")
        if len(table.shape) != 1:
            raise ValueError(f"temperatures: must have one axis, one entry a group; got {describe(table)}")
        if not is_traced(table):
            require_temperature(table)
        xp = namespace(table)
        if not is_traced(groups):
            flat = to_numpy(groups).reshape(-1)
            bad = (flat < 0) | (flat >= len(table))
            if bad.any():
                raise ValueError(
                    f"groups: must lie in [0, {len(table)}); {place(int(bad.argmax()), tuple(groups.shape))} has "
                    f"{int(flat[bad.argmax()])}"
                )
        groups = groups if namespace(groups) is xp else like(to_numpy(groups), table)
        groups = groups.long() if is_torch(groups) else groups
        return xp.take(table, groups.reshape(-1), axis=0).reshape(tuple(groups.shape))
