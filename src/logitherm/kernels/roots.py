"""The way to the CPU kernel of the thermostat: rows of NumPy arrays or CPU tensors that have a temperature each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from logitherm._array import Array, dtype_name, is_torch, is_traced, like, read_only, rows_of, to_numpy
from logitherm.kernels.threads import map_blocks
from logitherm.kernels.values import cpu, ran

NUMBERS = {("entropy", None): 0, ("mean_energy", None): 1, ("top_probability", None): 2, ("kl", "hot"): 3}
NUMBERS[("kl", "cold")] = 4

NO_PRIOR, ONE, EPS = read_only(np.empty((1, 0))), read_only(np.ones(1)), float(np.finfo(np.float64).eps)


def on_cpu(*arrays: Array | None) -> bool:
    """Whether the kernel can have these arrays."""
    known = [x for x in arrays if x is not None]
    if any(is_traced(x) for x in known):
        return False
    return all(x.device.type == "cpu" if is_torch(x) else isinstance(x, (np.ndarray, np.generic)) for x in known)


def roots(
    name: str, side: str | None, z: Array, log_prior: Array | None, reference_temperature: Array, goal: Array
) -> tuple[Array, Array, Array, Array]:
    """Temperature, whether the goal is in the open range, and the quantity at both ends; each of the batch shape."""
    cpu()  # says so if something is to be compiled
    from logitherm.kernels import cpu_thermostat

    batch = tuple(z.shape[:-1])
    rows, n = rows_of(z), math.prod(batch)
    goals, references = (np.asarray(to_numpy(x), dtype=np.float64) for x in (goal, reference_temperature))
    goals, references = (np.ascontiguousarray(np.broadcast_to(x, batch)).reshape(-1) for x in (goals, references))
    prior = None
    if log_prior is not None:
        prior = np.broadcast_to(to_numpy(log_prior), (*batch, rows.shape[1])).reshape(rows.shape)
    out = np.empty((n, 4))
    eps = float(np.finfo(dtype_name(z)).eps)

    def work(block: slice) -> None:
        part = np.ascontiguousarray(rows[block], dtype=np.float64)
        weights = np.empty((len(part), 0)) if prior is None else np.ascontiguousarray(prior[block], dtype=np.float64)
        given = [read_only(x) for x in (part, weights, goals[block], references[block])]  # one kind of input to compile
        cpu_thermostat.roots(*given, NUMBERS[name, side], eps, out[block])

    map_blocks(work, *rows.shape)
    ran["roots"] += 1
    t, inside, low, high = out.T
    answer = (t.astype(dtype_name(z)), inside == 1, low.astype(dtype_name(z)), high.astype(dtype_name(z)))
    return tuple(like(v.reshape(batch), z) for v in answer)  # type: ignore[return-value]


def temperature_of_entropy(values: Sequence[float], entropy: float) -> float:
    """T at which one row of values has an entropy; 0 or inf where it is out of range. No guard, for agents that ask at
    every step: at least one value is finite and none is NaN or +inf; -inf forbids."""
    cpu()
    from logitherm.kernels import cpu_thermostat

    z, out = read_only(np.array([values], dtype=np.float64)), np.empty((1, 4))
    cpu_thermostat.roots(z, NO_PRIOR, read_only(np.array([entropy])), ONE, NUMBERS["entropy", None], EPS, out)
    return float(out[0, 0])
