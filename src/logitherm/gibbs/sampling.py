"""Exact draws from softmax(logits / T)."""

from __future__ import annotations

from typing import Any

from logitherm import kernels
from logitherm._array import Array, as_log_prior, as_logits, as_temperature, is_jax, is_torch, like, to_numpy


def sample(
    logits: Array,
    temperature: Any = 1.0,
    *,
    generator: Any,
    size: int | None = None,
    axis: int = -1,
    log_prior: Array | None = None,
) -> Array:
    """Draw states from softmax(logits / temperature) by inverting its cumulative distribution in float64.

    Limits: T = 0 draws among the largest logits with equal probability; T = inf uniformly among the allowed states. A
    state of probability 0 is never drawn. One uniform number of 53 bits is used for each draw, so a state of
    probability below 1e-16 is not drawn at its true rate.

    Parameters
    ----------
    logits : array, shape (..., states)
        Floating scores; -inf forbids a state.
    temperature : float, array of the batch shape, or Temperature
        0 <= T <= inf.
    generator : int, numpy.random.Generator, torch.Generator or JAX key
        The seed or source of randomness; nothing global is read or changed. A torch.Generator goes with torch
        logits, a JAX key with JAX logits.
    size : int, optional
        Draws for every row; without it one, and no axis for it.
    axis : int
        The axis of the states.
    log_prior : array, optional
        Log weights that are not tempered.

    Returns
    -------
    integer array, batch shape, or batch shape + (size,)
        Indices of states, int64 (int32 for JAX without 64-bit types).

    Raises
    ------
    TypeError
        A generator of another library.
    ValueError
        As for `softmax`; a negative size.

    References
    ----------
    Devroye (1986), Non-Uniform Random Variate Generation, section III.2.

    Examples
    --------
    >>> import numpy as np
    >>> sample(np.array([0.0, -np.inf, 0.0]), generator=0, size=5).tolist()
    [2, 0, 0, 0, 2]
    """
    import numpy as np

    if size is not None and size < 0:
        raise ValueError(f"size: must be at least 0; got {size}")
    z = as_logits(logits, axis)
    prior = as_log_prior(log_prior, z, True)
    t = as_temperature(temperature, z, True, log_prior=prior)
    wide = (None if v is None else to_numpy(v).astype(np.float64) for v in (z, t, prior))
    p = kernels.softmax(*wide, check=True).reshape(-1, z.shape[-1])
    draws = 1 if size is None else size
    uniform = _uniform(generator, (p.shape[0], draws), logits)
    cumulative = np.cumsum(p, axis=-1)
    total = cumulative[:, -1:]
    height = np.minimum(uniform * total, np.nextafter(total, 0))  # rounding must not reach past the last state
    if draws == 1:
        chosen = (cumulative > height).argmax(axis=-1)[:, None]
    else:
        found = [np.searchsorted(c, h, side="right") for c, h in zip(cumulative, height)]
        chosen = np.array(found, dtype=np.int64).reshape(p.shape[0], draws)
    batch = tuple(z.shape[:-1])
    return like(chosen.reshape(batch if size is None else (*batch, size)), z)


def _uniform(generator: Any, shape: tuple[int, int], logits: Array) -> Any:
    """Uniform float64 numbers in [0, 1) from whatever source the caller has."""
    import numpy as np

    if isinstance(generator, np.random.Generator):
        return generator.random(shape)
    if isinstance(generator, (int, np.integer)) and not isinstance(generator, bool):
        return np.random.default_rng(int(generator)).random(shape)
    if is_torch(logits):
        import torch

        if isinstance(generator, torch.Generator):
            return torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device).cpu().numpy()
    if is_jax(logits) and is_jax(generator):
        import jax

        bits = np.asarray(jax.random.bits(generator, (2, *shape), "uint32")).astype(np.uint64)
        return ((bits[0] << np.uint64(21)) ^ (bits[1] >> np.uint64(11))).astype(np.float64) / 2.0**53
    raise TypeError(
        "generator: must be a seed, a numpy.random.Generator, or the generator of the logits' library; "
        f"got {type(generator).__name__}"
    )
