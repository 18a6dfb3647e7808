"""GibbsState: everything that is to be known of softmax(logits / T), small enough to keep, send and merge."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm import kernels
from logitherm._array import (
    Array,
    as_log_prior,
    as_logits,
    as_temperature,
    describe,
    first_true,
    is_array,
    is_traced,
    namespace,
    require_temperature,
    to_numpy,
)
from logitherm.kernels import Moments, reference

FORMAT = "logitherm.GibbsState/1"


@dataclass(frozen=True)
class GibbsState:
    """The state of Gibbs distributions p_i ~ q_i exp(z_i / T), one for every entry of the batch, in logit units.

    States of disjoint sets of classes at one temperature merge, so chunks of a vocabulary, ranks and partitions are
    one operation: associative and commutative within rounding, with `GibbsState.empty` as identity.

    Attributes
    ----------
    temperature : array, batch shape
        T, 0 <= T <= inf.
    top : array, batch shape
        Logit z_a of the most probable state a (the first of them); -inf where there are no states.
    log_weight : array, batch shape
        log q_a; 0 for a uniform prior.
    rest : array, batch shape
        Total weight of all other states relative to that of a, so that Z = q_a exp(z_a / T) (1 + rest).
    gap : array, batch shape
        Mean of z_a - z, in logit units.
    spread : array, batch shape
        Sum over states of their relative weight times (z - <z>)^2 / T^2.

    References
    ----------
    Merging of centred moments: Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance, eq. 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([[2.0, 1.0, 0.5, -3.0]])
    >>> whole = GibbsState.from_logits(z, 0.7)
    >>> halves = GibbsState.from_logits(z[:, :2], 0.7).merge(GibbsState.from_logits(z[:, 2:], 0.7))
    >>> bool(np.allclose(whole.entropy(), halves.entropy()))
    True
    """

    temperature: Array
    top: Array
    log_weight: Array
    rest: Array
    gap: Array
    spread: Array

    @classmethod
    def from_logits(
        cls,
        logits: Array,
        temperature: Any = 1.0,
        *,
        axis: int = -1,
        log_prior: Array | None = None,
        check: bool | None = None,
    ) -> GibbsState:
        """The state of softmax(logits / temperature); parameters and errors are those of `logitherm.softmax`.

        But a row without an allowed state is the empty state, as the logits may be a chunk of a masked vocabulary:
        the error comes when a state that is still empty is asked for anything.
        """
        z = as_logits(logits, axis)
        q = as_log_prior(log_prior, z, check)
        t = as_temperature(temperature, z, check, log_prior=q)
        return cls(t, *kernels.moments(z, t, q, check, part=True))

    @classmethod
    def empty(cls, temperature: Array) -> GibbsState:
        """No states at all: the identity of `merge`."""
        if not is_traced(temperature):
            require_temperature(temperature)
        t = 1.0 * (temperature if is_array(temperature) else np.asarray(temperature))
        xp = namespace(t)
        nothing = xp.zeros_like(t)
        return cls(t, xp.full_like(t, -math.inf), nothing, nothing, nothing, nothing)

    def merge(self, other: GibbsState) -> GibbsState:
        """The state of both sets of states together.

        Raises
        ------
        TypeError
            Anything that is not a state.
        ValueError
            States of different temperature or batch shape.
        """
        if not isinstance(other, GibbsState):
            raise TypeError(f"other: must be a GibbsState; got {describe(other)}; build it with GibbsState.from_logits")
        if tuple(self.top.shape) != tuple(other.top.shape):
            raise ValueError(f"other: must have the batch shape {tuple(self.top.shape)}; got {tuple(other.top.shape)}")
        if not is_traced(self.temperature) and not is_traced(other.temperature):
            mine, theirs = to_numpy(self.temperature), to_numpy(other.temperature)
            common = min(mine.dtype, theirs.dtype)  # 0.7 in float64 is 0.7 in float32
            with np.errstate(over="ignore"):
                same = np.array_equal(mine.astype(common), theirs.astype(common))
            if not same:
                raise ValueError(
                    f"other: must have the same temperature; got {theirs.reshape(-1)[:1]} for {mine.reshape(-1)[:1]}; "
                    "build both states from logits at one temperature"
                )
        return GibbsState(self.temperature, *kernels.merge(self._moments, other._moments, self.temperature))

    @property
    def _moments(self) -> Moments:
        return Moments(self.top, self.log_weight, self.rest, self.gap, self.spread)

    @property
    def _answering(self) -> Moments:
        """The moments, of which something is asked: an empty state has no answer (NaN under a trace)."""
        xp = namespace(self.top)
        empty = self.top == -math.inf
        if not is_traced(self.top) and bool(xp.any(empty)):
            raise ValueError(
                f"state: must have an allowed state; row {first_true(empty)} of {tuple(self.top.shape)} is empty; "
                "merge it with one that is not"
            )
        nothing = xp.full_like(self.top, math.nan)
        return Moments(*(xp.where(empty, nothing, v) for v in self._moments))

    def log_partition(self) -> Array:
        """log Z, in nats."""
        return reference.log_partition(self._answering, self.temperature)

    def free_energy(self) -> Array:
        """F = -T log Z, in logit units."""
        return reference.free_energy(self._answering, self.temperature)

    def mean_energy(self) -> Array:
        """E = -<z>, in logit units."""
        return reference.mean_energy(self._answering, self.temperature)

    def entropy(self) -> Array:
        """S, in nats (relative to the prior where there is one)."""
        return reference.entropy(self._answering, self.temperature)

    def heat_capacity(self) -> Array:
        """C = Var(z) / T^2."""
        return reference.heat_capacity(self._answering, self.temperature)

    def top_probability(self) -> Array:
        """The largest probability."""
        return reference.top_probability(self._answering, self.temperature)

    def to_json(self) -> str:
        """The state as JSON; infinities are written as strings."""
        fields = {name: to_numpy(getattr(self, name)) for name in self.__dataclass_fields__}
        kind = fields["top"].dtype.name
        values = {name: _encode(value.tolist()) for name, value in fields.items()}
        return json.dumps({"format": FORMAT, "dtype": kind, **values}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> GibbsState:
        """The state that `to_json` wrote, as NumPy arrays.

        Raises
        ------
        ValueError
            Text of another format.
        """
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"text: must be JSON of format {FORMAT}; got {describe(text[:40])}")
        return cls(*(np.asarray(_decode(data[name]), dtype=data["dtype"]) for name in cls.__dataclass_fields__))


def _encode(value: Any) -> Any:
    if isinstance(value, list):
        return [_encode(v) for v in value]
    return value if math.isfinite(value) else str(value)


def _decode(value: Any) -> Any:
    return [_decode(v) for v in value] if isinstance(value, list) else float(value)
