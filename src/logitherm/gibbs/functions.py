"""State functions of softmax(logits / temperature): F, E, S, C, log Z, and the probabilities themselves.

They share one set of parameters. Logits are floating, of any batch shape, with the states on `axis`; -inf forbids a
state.
The temperature is a number, an array of the batch shape or broadcastable to it, or a `Temperature`; 0 <= T <= inf.
`log_prior` holds log weights q that are not tempered, p_i ~ q_i exp(z_i / T), broadcastable against the logits
with the states last; it is taken as a constant by automatic differentiation. `check` decides
whether NaN, +inf and rows without an allowed state raise: yes unless False or under a trace (jit, compile, vmap), where
NaN comes out. float16 and bfloat16 are computed in float32.
"""

from __future__ import annotations

from typing import Any

from logitherm import kernels
from logitherm._array import (
    HALF_TYPES,
    Array,
    as_array,
    as_log_prior,
    as_logits,
    as_temperature,
    dtype_name,
    namespace,
)


def softmax(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, log_prior: Array | None = None, check: bool | None = None
) -> Array:
    """Probabilities p_i = q_i exp(z_i / T) / Z.

    Limits: T -> 0 shares the probability equally among the largest logits; T -> inf gives q, uniform over the
    allowed states.

    Parameters
    ----------
    logits : array, shape (..., states)
        Floating scores; -inf forbids a state, which then has probability exactly 0.
    temperature : float, array of the batch shape, or Temperature
        In the units of the logits, 0 <= T <= inf.
    axis : int
        The axis of the states.
    log_prior : array, optional
        Log weights that are not tempered, broadcastable against the logits with the states last.
    check : bool, optional
        Whether bad rows raise; see the module.

    Returns
    -------
    array, shape and dtype of `logits`
        Rows sum to 1 within rounding.

    Raises
    ------
    TypeError
        Integer logits.
    ValueError
        A row with NaN, +inf or no allowed state; a temperature that is negative, NaN or of the wrong shape.

    References
    ----------
    Gibbs (1902), Elementary Principles in Statistical Mechanics, ch. IV; Guo et al. (2017), eq. 9.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([2.0, 0.0]), temperature=2.0).round(4).tolist()
    [0.7311, 0.2689]
    >>> softmax(np.array([1.0, 1.0, 0.0]), temperature=0).tolist()
    [0.5, 0.5, 0.0]
    """
    return _probabilities(logits, temperature, axis, log_prior, check, logarithm=False)


def log_softmax(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, log_prior: Array | None = None, check: bool | None = None
) -> Array:
    """Log probabilities log p_i = z_i / T + log q_i - log Z, in nats.

    Limits: as for `softmax`; a state of probability 0 has -inf.

    Parameters, errors and source are those of `softmax`.

    Returns
    -------
    array, shape and dtype of `logits`

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([0.0, -1e4]), temperature=0.5).tolist()
    [0.0, -20000.0]
    """
    return _probabilities(logits, temperature, axis, log_prior, check, logarithm=True)


def log_partition(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, log_prior: Array | None = None, check: bool | None = None
) -> Array:
    """log Z = log sum_i q_i exp(z_i / T), in nats.

    Limits: T -> 0 diverges as max z / T; T -> inf gives log sum_i q_i, the log of the number of allowed states.

    Parameters and errors are those of `softmax`.

    Returns
    -------
    array, batch shape, compute dtype

    References
    ----------
    Gibbs (1902), ch. IV, eq. 91.

    Examples
    --------
    >>> import numpy as np
    >>> float(log_partition(np.array([0.0, 0.0]), temperature=3.0).round(4))
    0.6931
    """
    return _state_function("log_partition", logits, temperature, axis, log_prior, check)


def free_energy(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, log_prior: Array | None = None, check: bool | None = None
) -> Array:
    """Free energy F = -T log Z = E - T S, the minimum over p of sum_i p_i E_i - T S(p) with E_i = -z_i, in logit units.

    Limits: T -> 0 gives -max z; T -> inf gives -inf (with more than one allowed state), and E for one state or a
    prior that sums to 1. Slope: dF/dT = -S, dF/dz_i = -p_i.

    Parameters and errors are those of `softmax`.

    Returns
    -------
    array, batch shape, compute dtype

    References
    ----------
    Gibbs (1902), ch. XI, theorem II; Liu et al. (2020), Energy-based out-of-distribution detection, eq. 4.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([1.0, 0.0, -1.0])
    >>> bool(np.isclose(free_energy(z, 2.0), mean_energy(z, 2.0) - 2.0 * entropy(z, 2.0)))
    True
    """
    return _state_function("free_energy", logits, temperature, axis, log_prior, check)


def mean_energy(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, log_prior: Array | None = None, check: bool | None = None
) -> Array:
    """Mean energy E = -sum_i p_i z_i, in logit units.

    Limits: T -> 0 gives -max z; T -> inf gives minus the mean logit (under q). Slope: dE/dT = C >= 0.

    Parameters and errors are those of `softmax`.

    Returns
    -------
    array, batch shape, compute dtype

    References
    ----------
    Gibbs (1902), ch. IV.

    Examples
    --------
    >>> import numpy as np
    >>> float(mean_energy(np.array([1.0, 0.0]), temperature=np.inf))
    -0.5
    """
    return _state_function("mean_energy", logits, temperature, axis, log_prior, check)


def entropy(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, log_prior: Array | None = None, check: bool | None = None
) -> Array:
    """Entropy S = log Z + E/T of softmax(logits / temperature), in nats; relative to the prior where there is one.

    Limits: T -> 0 gives the log of the number of largest logits; T -> inf the log of the number of allowed states.
    Slope: dS/dT = C/T >= 0.

    Parameters and errors are those of `softmax`.

    Returns
    -------
    array, batch shape, compute dtype

    References
    ----------
    Shannon (1948), section 6; Jaynes (1957), Information theory and statistical mechanics, eq. 2-12.

    Examples
    --------
    >>> import numpy as np
    >>> float(entropy(np.array([3.0, 3.0, -np.inf])).round(4))
    0.6931
    """
    return _state_function("entropy", logits, temperature, axis, log_prior, check)


def heat_capacity(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, log_prior: Array | None = None, check: bool | None = None
) -> Array:
    """Heat capacity C = dE/dT = Var_p(z) / T^2, without unit: how much a change of temperature matters.

    Limits: 0 at both ends.

    Parameters and errors are those of `softmax`.

    Returns
    -------
    array, batch shape, compute dtype

    References
    ----------
    Gibbs (1902), ch. VII, eq. 205; Schottky (1922) for two states.

    Examples
    --------
    >>> import numpy as np
    >>> float(heat_capacity(np.array([0.0, 0.0])))
    0.0
    """
    return _state_function("heat_capacity", logits, temperature, axis, log_prior, check)


def _state_function(
    name: str, logits: Array, temperature: Any, axis: int, log_prior: Array | None, check: bool | None
) -> Array:
    z = as_logits(logits, axis)
    q = as_log_prior(log_prior, z, check)
    return kernels.state_function(name, z, as_temperature(temperature, z, check, log_prior=q), q, check)


def _probabilities(
    logits: Array, temperature: Any, axis: int, log_prior: Array | None, check: bool | None, *, logarithm: bool
) -> Array:
    logits = as_array(logits, "logits")
    z = as_logits(logits, axis)
    q = as_log_prior(log_prior, z, check)
    t = as_temperature(temperature, z, check, log_prior=q)
    p = kernels.softmax(z, t, q, logarithm=logarithm, check=check)
    xp = namespace(p)
    if axis not in (-1, p.ndim - 1):
        p = xp.moveaxis(p, -1, axis)
    return xp.astype(p, logits.dtype) if dtype_name(logits) in HALF_TYPES else p
