"""The only guard: namespace, axis, dtype and validation of what callers hand in.

Everything behind this file may assume: floating logits in the compute dtype, states on the last axis, a
temperature in [0, inf] that broadcasts against the batch, and no array that is silently of the wrong kind.
Libraries are recognised without importing them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import array_api_compat.numpy
import numpy as np

Result = TypeVar("Result")
Array = Any  # an array of NumPy, PyTorch, JAX or any library that follows the array API standard

HALF_TYPES = ("float16", "bfloat16")
FLOAT_TYPES = ("float32", "float64")


# -- which library, and may its values be looked at ------------------------------------------------------


def is_torch(x: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def is_jax(x: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(x, jax.Array)


def is_array(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.generic)) or is_torch(x) or hasattr(x, "__array_namespace__")


def is_traced(x: Any) -> bool:
    """True where values cannot be read: under jit, compile, vmap and other function transforms."""
    if is_torch(x):
        torch = sys.modules["torch"]
        functorch = torch._C._functorch
        return torch.compiler.is_compiling() or (
            functorch.maybe_current_level() is not None and functorch.is_functorch_wrapped_tensor(x)
        )
    return is_jax(x) and isinstance(x, sys.modules["jax"].core.Tracer)


def namespace(*arrays: Any) -> Any:
    """The array API namespace of the first argument that is an array; NumPy where none is."""
    for x in arrays:
        if is_torch(x):
            import array_api_compat.torch as xp

            return xp
        if is_jax(x):
            return sys.modules["jax"].numpy
        if is_array(x) and not isinstance(x, (np.ndarray, np.generic)):
            return x.__array_namespace__()
    return array_api_compat.numpy


def silent(function: Callable[..., Result]) -> Callable[..., Result]:
    """Overflow and 0/0 on the way to a limit are meant where this is used: NumPy need not warn of them."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Result:
        firsts = (a[0] if isinstance(a, tuple) else a for a in args)
        if any(is_array(a) and not is_torch(a) and not is_jax(a) for a in firsts):
            with np.errstate(all="ignore"):
                return function(*args, **kwargs)
        return function(*args, **kwargs)

    return wrapped


def dtype_name(x: Any) -> str:
    return str(x.dtype).removeprefix("torch.").rpartition(".")[2]


def describe(x: Any) -> str:
    """Shape and dtype of an argument, for error messages."""
    if is_array(x):
        return f"shape {tuple(x.shape)}, {dtype_name(x)}"
    kind, shown = type(x).__name__, " ".join(repr(x).split())
    return (shown if shown.startswith(kind) else f"{kind} {shown}")[:80]


def to_numpy(x: Any) -> np.ndarray:
    """The same memory as a NumPy array where that is possible (never for bfloat16, which NumPy lacks)."""
    if is_torch(x):
        x = x.detach()
        torch = sys.modules["torch"]
        return (x.float() if x.dtype == torch.bfloat16 else x).cpu().numpy()
    x = np.asarray(x)
    return x.astype(np.float32) if x.dtype.kind == "V" and x.dtype.name == "bfloat16" else x


def like(values: Any, x: Any) -> Any:
    """NumPy `values` as the kind of array that `x` is, on its device."""
    if is_torch(x):
        torch = sys.modules["torch"]
        return torch.as_tensor(np.require(values, requirements="W"), device=x.device)  # it has no read-only tensors
    return values if isinstance(x, (np.ndarray, np.generic)) else namespace(x).asarray(values)


def state_index(z: Array) -> Array:
    """0, 1, 2, ... along the last axis, on the device of `z`."""
    xp = namespace(z)
    return xp.arange(z.shape[-1], device=z.device) if is_torch(z) else xp.arange(z.shape[-1])


# -- logits ----------------------------------------------------------------------------------------------


def as_array(x: Any, name: str) -> Array:
    """`x` itself if it is an array, else a NumPy array of it (a list of rows, say)."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name}: masked arrays are not read; fill with -inf, or drop rows")
    if isinstance(x, np.ndarray) and not x.dtype.isnative:
        return x.astype(x.dtype.newbyteorder("="))
    if is_array(x):
        return x
    try:
        values = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name}: rows must have the same length; got {type(x).__name__}; pad with -inf") from error
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name}: must be an array of numbers; got {describe(x)}; convert it to one")
    return values


def as_logits(logits: Any, axis: int = -1, name: str = "logits") -> Array:
    """Floating logits in the compute dtype (half types become float32) with the states on the last axis."""
    z = as_array(logits, name)
    xp = namespace(z)
    kind = dtype_name(z)
    if kind not in FLOAT_TYPES + HALF_TYPES:
        hint = " (are these labels?)" if "int" in kind or kind == "bool" else ""
        raise TypeError(f"{name}: must be floating point{hint}; got {describe(z)}; convert with float32")
    if z.ndim == 0:
        raise ValueError(f"{name}: must have an axis of states; got {describe(z)}; reshape to (1, states)")
    if not -z.ndim <= axis < z.ndim:
        raise ValueError(
            f"axis: must name an axis of {name}; got {axis} for {describe(z)}; give one of -{z.ndim} to {z.ndim - 1}"
        )
    if z.shape[axis] == 0:
        raise ValueError(f"{name}: must have at least one state; got {describe(z)}; axis names that of the states")
    if axis not in (-1, z.ndim - 1):
        z = xp.moveaxis(z, axis, -1)
    return xp.astype(z, xp.float32) if kind in HALF_TYPES else z


def should_check(check: bool | None, *arrays: Any) -> bool:
    """Whether values may and shall be looked at: never under a trace, else as asked, else yes."""
    return False if any(is_traced(x) for x in arrays) else check is not False


def first_true(mask: Any) -> int:
    """Index of the first True in row-major order."""
    return int(np.argmax(np.asarray(to_numpy(mask)).reshape(-1)))


def require_rows(top: Array, name: str = "logits", *, numbers: np.ndarray | None = None, empty: bool = False) -> None:
    """Raise unless the maximum of every row is finite: NaN, +inf and rows of only -inf (unless `empty`) show there.

    `numbers` are what the caller knows the rows by.
    """
    xp = namespace(top)
    finite = xp.isfinite(top) | (top == -math.inf) if empty else xp.isfinite(top)
    if bool(xp.all(finite)):
        return
    row = first_true(~finite)
    value = float(to_numpy(top).reshape(-1)[row])
    place, shape = (row, tuple(top.shape)) if numbers is None else (int(numbers[row]), ())
    raise_bad_row(name, place, value, shape)


def raise_bad_row(name: str, row: int, top: float, shape: tuple[int, ...]) -> None:
    """The error for a row whose maximum `top` is not finite."""
    what = "NaN" if math.isnan(top) else "+inf" if top > 0 else "no allowed state (all -inf)"
    place = row if len(shape) < 2 else tuple(int(i) for i in np.unravel_index(row, shape))
    total = f" of {shape if len(shape) > 1 else shape[0]}" if shape else ""
    raise ValueError(
        f"{name}: rows must be finite or -inf with at least one finite value; row {place}{total} has {what}; "
        "drop or mend it"
    )


# -- temperature, weights, priors ------------------------------------------------------------------------


def as_temperature(
    temperature: Any,
    z: Array,
    check: bool | None = None,
    step: Any = None,
    *,
    name: str = "temperature",
    usual: str = "",
    log_prior: Array | None = None,
    each: str = "one a row",
) -> Array:
    """A temperature for every row of `z` (states last), in its dtype; objects with `resolve` are asked.

    A prior is told to those that have a method `under`, because what they hold is relative to it; to all others the
    states that it forbids are forbidden. `usual` is for what has no limits of T, and says which T is; what an object
    gives is for the caller to look at. `each` says what may be given instead of one number.
    """
    asked = hasattr(temperature, "resolve")
    if asked:
        if log_prior is not None and hasattr(temperature, "under"):
            temperature = temperature.under(log_prior)
        temperature = temperature.resolve(z if log_prior is None else forbid(z, log_prior), step)
    xp = namespace(z)
    if is_traced(temperature) and namespace(temperature) is not xp:
        raise TypeError("logits: must be of the same library as the traced temperature; got " + describe(z))
    if should_check(check, z, temperature):
        require_temperature(temperature, name, "" if asked else usual)
        t = in_dtype_of(z, temperature)
    else:
        t = in_dtype_of(z, temperature)
        t = xp.where(t >= 0, t, xp.full_like(t, math.nan))
    batch = tuple(z.shape[:-1])
    if tuple(t.shape) == batch:
        return t
    try:
        return xp.broadcast_to(t, batch)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{name}: must broadcast against the batch {batch}; got shape {tuple(t.shape)}; give one number or {each}"
        ) from error


def in_dtype_of(z: Array, values: Any) -> Array:
    """Numbers in the library, dtype and device of `z`; what is too large for the dtype is inf."""
    xp = namespace(z)
    same = is_array(values) and namespace(values) is xp
    if is_array(values) and not same:
        values = to_numpy(values)
    if is_torch(z):
        return values.to(z.device, z.dtype) if same else xp.asarray(values, dtype=z.dtype, device=z.device)
    with np.errstate(over="ignore"):
        return xp.astype(values, z.dtype) if same else xp.asarray(values, dtype=z.dtype)


def require_temperature(temperature: Any, name: str = "temperature", usual: str = "") -> None:
    """Raise unless every temperature is a number in [0, inf], or in (0, inf) if it is said what is usual there."""
    t = to_numpy(temperature) if is_array(temperature) else np.asarray(temperature)
    if t.dtype.kind not in "iuf":
        raise TypeError(f"{name}: must be a number, an array or a Temperature; got {describe(temperature)}")
    good = (t > 0) & (t < math.inf) if usual else t >= 0  # False for NaN as well
    if not np.all(good):
        i = int(np.argmin(good))
        got = f"got {float(t.reshape(-1)[i])}" + (f" at index {i}" if t.size > 1 else "")
        if usual:
            raise ValueError(f"{name}: must be positive and finite for a loss; {got}; {usual} is usual")
        raise ValueError(f"{name}: must lie in [0, inf]; {got}")


def as_log_prior(log_prior: Any, z: Array, check: bool | None = None) -> Array | None:
    """Log weights q of the states, broadcast against the logits; -inf forbids a state."""
    if log_prior is None:
        return None
    xp = namespace(z)
    q = in_dtype_of(z, as_array(log_prior, "log_prior"))
    try:
        q = xp.broadcast_to(q, tuple(z.shape))
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"log_prior: must broadcast against the logits {tuple(z.shape)}; got {describe(log_prior)}; "
            "give one log weight a state"
        ) from error
    if should_check(check, z, q):
        bad = xp.isnan(q) | (q == xp.inf)
        if bool(xp.any(bad)):
            raise ValueError(f"log_prior: must be finite or -inf; got NaN or +inf at index {first_true(bad)}; mend it")
    return q


def forbid(z: Array, log_prior: Array) -> Array:
    """Logits that are -inf where the prior is."""
    xp = namespace(z)
    return xp.where(log_prior == -math.inf, xp.full_like(z, -math.inf), z)


def rows_of(z: Array) -> np.ndarray:
    """CPU logits as a read-only (rows, states) NumPy view; copies only what cannot be viewed."""
    flat = to_numpy(z).reshape(-1, z.shape[-1]).view()
    flat.flags.writeable = False
    return flat


def read_only(x: np.ndarray) -> np.ndarray:
    """A contiguous view of one kind, so that a kernel is compiled once for writable and read-only input."""
    view = np.ascontiguousarray(x).view()
    view.flags.writeable = False
    return view
