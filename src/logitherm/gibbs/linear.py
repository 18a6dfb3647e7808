"""The state of softmax(hidden weight^T / T), whose logits are never there as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import (
    Array,
    as_array,
    as_temperature,
    describe,
    is_array,
    is_torch,
    namespace,
    to_numpy,
)
from logitherm.kernels import linear, reference
from logitherm.kernels.linear import Head


@dataclass(frozen=True)
class LinearState:
    """State functions of every row at every temperature, and of its label.

    Attributes
    ----------
    temperature : array, shape of the others
    log_partition, mean_energy, entropy, heat_capacity : array
        log Z, E, S and C, shape of the batch, or with the axes of the temperatures before it.
    label_logits : array, batch shape, or None
        Logit of the label of every row.
    """

    temperature: Array
    log_partition: Array
    mean_energy: Array
    entropy: Array
    heat_capacity: Array
    label_logits: Array | None = None

    @property
    def nll(self) -> Array:
        """-log p of the label: log Z - z_label / T."""
        return self.log_partition - self._labelled / self.temperature

    @property
    def score(self) -> Array:
        """Derivative of `nll` in 1 / T: <z> - z_label, whose sum is 0 at the fitted temperature."""
        return -self.mean_energy - self._labelled

    @property
    def curvature(self) -> Array:
        """Second derivative of `nll` in 1 / T: the variance of the logits."""
        return self.heat_capacity * self.temperature**2

    @property
    def _labelled(self) -> Array:
        if self.label_logits is None:
            raise ValueError("labels: must be given to linear_state for the likelihood; got None; pass one a row")
        return self.label_logits


def linear_state(
    hidden: Array,
    weight: Array,
    bias: Array | None = None,
    labels: Array | None = None,
    temperature: Any = 1.0,
    softcap: float | None = None,
) -> LinearState:
    """log Z, E, S and C of softmax(hidden weight^T / T) at one or several temperatures, with its likelihood.

    The logits, cap(hidden weight^T + bias) with cap(z) = softcap tanh(z / softcap), are made in blocks that fit the
    cache, once for all temperatures, and merged. With PyTorch the derivatives in hidden, weight, bias and temperature
    make them once more. Half types are computed in float32.

    Parameters
    ----------
    hidden : floating array, shape (..., width)
        NumPy or PyTorch.
    weight : floating array, shape (states, width)
    bias : floating array, shape (states,), optional
    labels : integer array, batch shape, optional
        The state that was observed in every row.
    temperature : float or array that broadcasts against the batch
        0 < T < inf. Several at once have an axis before the batch: shape (temperatures, 1) for rows (n, width).
    softcap : float, optional
        As some language models have it.

    Returns
    -------
    LinearState

    Raises
    ------
    TypeError, ValueError
        Shapes that do not match, labels out of range, NaN, temperatures that are not positive and finite.

    References
    ----------
    Wijmans et al. (2024), Cut your losses in large-vocabulary language models, section 4, for log Z of a head in
    blocks; the state and its merge are those of `GibbsState`.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.normal(size=(4, 16)), rng.normal(size=(1000, 16))
    >>> state = linear_state(hidden, weight, labels=[1, 2, 3, 4], temperature=[[1.0], [2.0]])
    >>> state.entropy.shape, state.nll.shape
    ((2, 4), (2, 4))
    """
    h, w = as_array(hidden, "hidden"), as_array(weight, "weight")
    xp = namespace(h)
    if h.ndim < 1 or w.ndim != 2 or h.shape[-1] != w.shape[1] or w.shape[0] == 0:
        raise ValueError(
            f"weight: must have shape (states, {h.shape[-1] if h.ndim else 1}) for the width of hidden; got "
            f"{describe(w)}; transpose it, perhaps"
        )
    if softcap is not None and not 0 < softcap < math.inf:
        raise ValueError(f"softcap: must be finite and positive; got {softcap}; None is without")
    kind = xp.float64 if "float64" in (_kind(h), _kind(w)) else xp.float32
    batch = tuple(h.shape[:-1])
    rows = xp.astype(h, kind, copy=False).reshape(-1, h.shape[-1])
    head = Head(w, None if bias is None else as_array(bias, "bias"), softcap)
    if head.bias is not None and tuple(head.bias.shape) != (w.shape[0],):
        raise ValueError(f"bias: must have shape ({w.shape[0]},); got {describe(head.bias)}; one a state")
    t = _temperatures(temperature, rows, batch)
    several = t.reshape(-1, rows.shape[0])
    y = None if labels is None else _labels(labels, batch, w.shape[0], rows)
    if is_torch(rows):
        from logitherm.kernels.torch_linear import state_functions

        found = state_functions(rows, head, several)
    else:
        states = linear.moments(rows, head, list(several))
        names = ("log_partition", "mean_energy", "entropy", "heat_capacity")
        found = tuple(xp.stack([getattr(reference, n)(m, s) for m, s in zip(states, several)]) for n in names)
    observed = None if y is None else linear.label_logits(rows, head, y).reshape(batch)
    log_z, energy, entropy, heat = (value.reshape(t.shape) for value in found)
    return LinearState(t, log_z, energy, entropy, heat, observed)


def _kind(x: Array) -> str:
    name = str(x.dtype).removeprefix("torch.")
    if not name.startswith(("float", "bfloat")):
        raise TypeError(f"hidden: must be floating, and weight too; got {describe(x)}; convert it")
    return name


def _temperatures(temperature: Any, rows: Array, batch: tuple[int, ...]) -> Array:
    """In the shape (temperatures, batch) or of the batch."""
    if hasattr(temperature, "resolve"):
        raise TypeError(
            f"temperature: must be numbers, as no logits are there to resolve it from; got {describe(temperature)}; "
            "resolve it before"
        )
    shape = tuple(temperature.shape) if is_array(temperature) else tuple(np.shape(temperature))
    lead = shape[: max(0, len(shape) - len(batch))]
    like = namespace(rows).broadcast_to(
        linear.scratch(rows, 1, 1), (*lead, *batch, 1)
    )  # of that shape, dtype and device
    t = as_temperature(temperature, like)
    numbers = to_numpy(t)
    limits = (numbers == 0) | (numbers == math.inf)
    if limits.any():
        raise ValueError(f"temperature: must be positive and finite; got {numbers[limits][0]:g}; the limits have no Z")
    return t


def _labels(labels: Any, batch: tuple[int, ...], states: int, rows: Array) -> Array:
    y = to_numpy(labels) if is_array(labels) else np.asarray(labels)
    if y.dtype.kind not in "iu" or y.shape != batch:
        raise ValueError(f"labels: must be integers of the batch shape {batch}; got {describe(y)}; one a row")
    if y.size and not (y.min() >= 0 and y.max() < states):
        bad = int(y[(y < 0) | (y >= states)][0])
        raise ValueError(f"labels: must lie in [0, {states}); got {bad}; drop such rows")
    if is_torch(rows):
        import torch

        return torch.as_tensor(y.astype("int64"), device=rows.device).reshape(-1)
    return y.reshape(-1)
