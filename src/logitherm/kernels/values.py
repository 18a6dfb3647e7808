"""Values without derivatives: the CPU kernel where it applies, else the reference.

The CPU kernel takes NumPy arrays and eager CPU tensors (the same memory) with a uniform prior, temperatures that are
neither zero, infinite nor near the limits of float32, and enough values to be worth loading Numba for.
"""

from __future__ import annotations

import logging
import math
import sys
from collections import Counter
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

from logitherm._array import (
    Array,
    dtype_name,
    is_torch,
    is_traced,
    like,
    raise_bad_row,
    read_only,
    require_rows,
    rows_of,
    should_check,
    to_numpy,
)
from logitherm.kernels import reference
from logitherm.kernels.reference import Moments
from logitherm.kernels.threads import blocks, map_blocks

SMALLEST = 1 << 14  # values below which the reference serves: it takes less time than loading Numba
COLDEST, HOTTEST = 1e-30, 1e30

ran: Counter[str] = Counter()  # calls of each CPU kernel, so that tests can prove which route was taken

log = logging.getLogger("logitherm")
_loading = Lock()


def cpu() -> Any:
    """The compiled kernels, loaded by one thread while others wait: two that import Numba at once can deadlock."""
    with _loading:
        return _load()


@cache
def _load() -> Any:
    """The compiled kernels; says so when some are compiled, for every kind of input once."""
    from numba.core import event

    class Announce(event.Listener):  # type: ignore[misc]
        said = False

        def on_start(self, event: Any) -> None:
            ours = event.data["dispatcher"].py_func.__module__.startswith("logitherm.")
            if ours and not self.said:
                self.said = True
                log.warning("logitherm: compiling the CPU kernels for this kind of input (some seconds, then kept) ...")

        def on_end(self, event: Any) -> None:
            pass

    from logitherm.kernels import cpu as kernels

    event.register("numba:compile", Announce())
    return kernels


def _on_cpu(z: Array, temperature: Array, log_prior: Array | None) -> bool:
    if log_prior is not None or is_traced(z) or is_traced(temperature):
        return False
    if is_torch(z):
        if z.device.type != "cpu":
            return False
    elif not isinstance(z, np.ndarray):
        return False
    if math.prod(z.shape) < SMALLEST:
        return False
    t = to_numpy(temperature)
    return bool(np.all((t >= COLDEST) & (t <= HOTTEST)))


def _differentiated(*arrays: Array) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.is_grad_enabled() and any(is_torch(x) and x.requires_grad for x in arrays)


def _run(kernel: Any, z: Array, temperature: Array, out: np.ndarray, axis: int, check: bool | None) -> bool:
    """Fill `out` block by block; False if a bad row was met and is not to be refused."""
    rows = rows_of(z)
    t = np.ascontiguousarray(to_numpy(temperature).reshape(-1), dtype=np.float64)

    def work(block: slice) -> int:
        part = out[block] if axis == 0 else out[:, block]
        bad = kernel(read_only(rows[block]), t[block], part)
        return -1 if bad < 0 else block.start + bad

    bad = [row for row in map_blocks(work, *rows.shape) if row >= 0]
    if bad and check is not False:
        with np.errstate(invalid="ignore"):
            raise_bad_row("logits", bad[0], float(np.max(rows[bad[0]])), tuple(z.shape[:-1]))
    ran[kernel.__name__] += 1
    return not bad


def moments(
    z: Array, temperature: Array, log_prior: Array | None = None, check: bool | None = None, *, part: bool = False
) -> Moments:
    """The state of softmax(z / temperature + log_prior).

    As `part` of a larger one: a row without an allowed state is the empty state, and PyTorch's derivatives pass
    through.
    """
    if _on_cpu(z, temperature, log_prior) and not (part and _differentiated(z, temperature)):
        batch, dtype = tuple(z.shape[:-1]), dtype_name(z)
        out = np.empty((4, math.prod(batch)))
        if _run(cpu().moments, z, temperature, out, 1, False if part else check):
            top, rest, gap, spread = (like(v.astype(dtype).reshape(batch), z) for v in out)
            return Moments(top, like(np.zeros(batch, dtype), z), rest, gap, spread)
    m = (reference.moments_or_empty if part else reference.moments)(z, temperature, log_prior)
    if should_check(check, z, temperature):
        require_rows(m.top, empty=part)
    return m


def row_moments(z: np.ndarray, temperatures: np.ndarray) -> Moments:
    """The state of every row of `z` (n, states) at its own temperature, in float64: what a fit calls pass after pass.

    Only the sums over states within a tile are in the dtype of the logits, which are not copied.
    """
    out = np.empty((4, len(z)))
    if _on_cpu(z, temperatures, None):
        _run(cpu().moments, z, temperatures, out, 1, True)
    else:
        for rows in blocks(*z.shape):
            m = reference.moments(z[rows].astype(np.float64), temperatures[rows])
            require_rows(m.top, numbers=np.arange(rows.start, rows.stop))
            out[:, rows] = m.top, m.rest, m.gap, m.spread
    top, rest, gap, spread = out
    return Moments(top, np.zeros(len(z)), rest, gap, spread)


def state_function(name: str, z: Array, temperature: Array, log_prior: Array | None, check: bool | None) -> Array:
    """One of log_partition, free_energy, mean_energy, entropy, heat_capacity and top_probability."""
    return getattr(reference, name)(moments(z, temperature, log_prior, check), temperature)


def softmax(z: Array, temperature: Array, log_prior: Array | None, logarithm: bool, check: bool | None) -> Array:
    """Probabilities or their logarithms."""
    if _on_cpu(z, temperature, log_prior):
        out = np.empty((math.prod(z.shape[:-1]), z.shape[-1]), dtype_name(z))
        kernel = cpu().log_softmax if logarithm else cpu().softmax
        if _run(kernel, z, temperature, out, 0, check):
            return like(out.reshape(tuple(z.shape)), z)
    if should_check(check, z, temperature):
        require_rows(reference.allowed(z, log_prior)[1][..., 0])
    return (reference.log_softmax if logarithm else reference.softmax)(z, temperature, log_prior)
