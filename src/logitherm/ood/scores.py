"""Out-of-distribution scores of a classifier's logits, all of them free energies F(T) = -T log sum_i exp(z_i / T).

Larger means more out-of-distribution (as in pytorch-ood; OpenOOD and the energy paper return the negative of it).
With F(0) = -max z, p the probabilities at T and K the number of allowed states:

    free energy     F(T)
    max logit       F(0)
    max softmax     -log max p = (F(0) - F(T)) / T
    entropy         S = -dF/dT
    GEN             sum_i (p_i (1 - p_i))^g, below sum_i p_i^g = exp(g (F(T) - F(T/g)) / T), a Renyi entropy of order g
    ODIN            F(0) - F(T) - T log K, which is mean z - max z at T = inf

At large T the free energy is -T log K less the mean logit: what tells one row from another there is the mean logit
alone.

The first two move with a number added to all logits of a row, which the probabilities cannot show. So they are refused
for `kind="log_probabilities"`, where log Z = 0 in every row; the others, made of differences of F, are the same for
both kinds.

Choose a temperature on in-distribution rows, never on the out-of-distribution rows that are to be told apart: a score
tuned on them is measured on its own training data. A temperature makes a model admit doubt; it adds no knowledge.

The parameters that all scores share: logits are floating, of any batch shape, with the states on `axis`; -inf forbids
a state, which then counts nowhere, not in K either. The temperature is a number, an array of the batch shape or
broadcastable to it, or a `Temperature`; 0 <= T <= inf. `check` decides whether bad rows raise, as in `logitherm.gibbs`.
Scores have the batch shape and the compute dtype: float16 and bfloat16 are computed in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitherm._array import (
    Array,
    as_logits,
    as_temperature,
    namespace,
    require_rows,
    should_check,
    silent,
    to_numpy,
)
from logitherm.gibbs import entropy, free_energy, log_partition, log_softmax
from logitherm.kernels import exponential
from logitherm.metrics.options import as_choice, as_count, as_share

KINDS = ("logits", "log_probabilities")
PROBABLE = 1e-3  # |sum - 1| of probabilities, at most
NORMALISED = 1e-5  # |log Z| of log probabilities in float32, at most
HOT = 1e7  # times the spread of a row: where the rounding of T log K passes what is left of the temperature


def free_energy_score(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, kind: str = "logits", check: bool | None = None
) -> Array:
    """Free energy F = -T log sum_i exp(z_i / T), the energy score; in logit units.

    Of probabilities it cannot be known: their logarithms are logits up to a number a row that nobody kept. Passed as
    logits they show by one thing, log Z = 0 at T = 1 in every row, and are refused for it.

    Limits: T -> 0 gives `max_logit_score`; T -> inf gives -inf for every row of more than one allowed state, and
    F + T log K the negative mean logit. A number added to a row's logits is taken from its score.

    Parameters
    ----------
    logits, temperature, axis, check
        See the module.
    kind : "logits" or "log_probabilities"
        What is given. Of log probabilities F is not known, and refused.

    Returns
    -------
    array, batch shape, compute dtype
        Larger is more out-of-distribution.

    Raises
    ------
    TypeError
        Integer logits.
    ValueError
        A row with NaN, +inf or no allowed state; a temperature that is negative, NaN or of the wrong shape; log
        probabilities, said to be such or seen to be (two rows or more, all with |log Z| < 1e-5; not with check=False).

    References
    ----------
    Liu, Wang, Owens & Li (2020), Energy-based out-of-distribution detection, eq. 4.

    Examples
    --------
    >>> import numpy as np
    >>> free_energy_score(np.array([[9.0, 0.0], [0.0, 0.0]])).round(3).tolist()
    [-9.0, -0.693]
    """
    _require_logits(kind, "free_energy_score")
    z = as_logits(logits, axis)
    if should_check(check, z):
        _require_unknown_sum(z)
    return free_energy(logits, temperature, axis=axis, check=check)


def max_logit_score(logits: Array, *, axis: int = -1, kind: str = "logits", check: bool | None = None) -> Array:
    """Negative largest logit, F(0): the free energy at T = 0; in logit units.

    A number added to a row's logits is taken from its score. Parameters and errors are those of `free_energy_score`.

    Returns
    -------
    array, batch shape, compute dtype

    References
    ----------
    Hendrycks et al. (2022), Scaling out-of-distribution detection for real-world settings.

    Examples
    --------
    >>> import numpy as np
    >>> max_logit_score(np.array([[9.0, 0.0], [1.0, -np.inf]])).tolist()
    [-9.0, -1.0]
    """
    _require_logits(kind, "max_logit_score")
    return -_largest(as_logits(logits, axis), check)


def max_softmax_score(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, kind: str = "logits", check: bool | None = None
) -> Array:
    """Negative log of the largest probability, -log max p = (F(0) - F(T)) / T; in nats.

    It ranks rows as 1 - max p does, also where that rounds to 0.

    Limits: T -> 0 gives the log of the number of largest logits; T -> inf gives log K: see `odin_score` for what is
    left then. Parameters and errors are those of `free_energy_score`, but that log probabilities do.

    Returns
    -------
    array, batch shape, compute dtype
        0 (certain) to log K.

    References
    ----------
    Hendrycks & Gimpel (2017), A baseline for detecting misclassified and out-of-distribution examples, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> max_softmax_score(np.array([[50.0, 0.0], [0.0, 0.0]])).tolist()
    [1.9287498479639178e-22, 0.6931471805599453]
    """
    as_choice(kind, "kind", KINDS)
    log_p = log_softmax(as_logits(logits, axis), temperature, check=check)
    return 0 - namespace(log_p).max(log_p, axis=-1)


def entropy_score(
    logits: Array, temperature: Any = 1.0, *, axis: int = -1, kind: str = "logits", check: bool | None = None
) -> Array:
    """Entropy S = -dF/dT of softmax(logits / temperature), in nats.

    Limits: T -> 0 gives the log of the number of largest logits; T -> inf gives log K. Parameters and errors are those
    of `max_softmax_score`.

    Returns
    -------
    array, batch shape, compute dtype
        0 (certain) to log K.

    References
    ----------
    Shannon (1948), A mathematical theory of communication, section 6.

    Examples
    --------
    >>> import numpy as np
    >>> entropy_score(np.array([[9.0, 0.0], [0.0, 0.0]])).round(4).tolist()
    [0.0012, 0.6931]
    """
    as_choice(kind, "kind", KINDS)
    return entropy(logits, temperature, axis=axis, check=check)


def generalized_entropy_score(
    logits: Array,
    temperature: Any = 1.0,
    *,
    gamma: float = 0.1,
    top: int = 100,
    axis: int = -1,
    kind: str = "logits",
    check: bool | None = None,
) -> Array:
    """Generalized entropy (GEN), sum of p^gamma (1 - p)^gamma over the largest probabilities; without unit.

    Computed from log p and log(1 - p), so that rows whose largest probability rounds to 1 keep their order.

    Limits: T -> 0 gives m (1/m (1 - 1/m))^gamma for m largest logits (0 for one); T -> inf the same for K allowed
    states, of which `top` are summed.

    Parameters
    ----------
    logits, temperature, axis, kind, check
        As for `max_softmax_score`.
    gamma : float
        Exponent in (0, 1]: small ones heed the small probabilities, as a temperature of T / gamma does.
    top : int
        How many of the largest probabilities count, at least 1.

    Returns
    -------
    array, batch shape, compute dtype

    Raises
    ------
    TypeError, ValueError
        As for `max_softmax_score`; `gamma` or `top` out of range.

    References
    ----------
    Liu, Lochman & Zach (2023), GEN: Pushing the limits of softmax-based out-of-distribution detection.

    Examples
    --------
    >>> import numpy as np
    >>> generalized_entropy_score(np.array([[9.0, 0.0], [0.0, 0.0]])).round(3).tolist()
    [0.813, 1.741]
    """
    as_choice(kind, "kind", KINDS)
    exponent, top = as_share(gamma, "gamma"), as_count(top, "top", 1)
    if exponent == 0:
        raise ValueError(f"gamma: must lie in (0, 1]; got {gamma}; give 0.1, say")
    log_p = log_softmax(as_logits(logits, axis), temperature, check=check)
    xp = namespace(log_p)
    log_p = xp.sort(log_p, axis=-1, descending=True)
    first, others = log_p[..., :1], log_p[..., 1:]
    if others.shape[-1] == 0:
        return 0 * first[..., 0]
    alone = others[..., :1] == -math.inf
    doubt = log_partition(xp.where(alone, xp.zeros_like(others), others), check=False)[..., None]  # log(1 - first)
    doubt = xp.where(alone, xp.full_like(doubt, -math.inf), doubt)
    others = others[..., : top - 1]  # at most 1/2 each, so that 1 - p loses nothing
    logs = xp.concat([first + doubt, others + xp.log1p(-exponential(others))], axis=-1)
    return xp.sum(exponential(exponent * logs), axis=-1)


@silent
def odin_score(
    logits: Array, temperature: Any = 1000.0, *, axis: int = -1, kind: str = "logits", check: bool | None = None
) -> Array:
    """ODIN without perturbation of the input, -T log(K max p) = F(0) - F(T) - T log K; in logit units.

    It ranks rows of equal K as the negative of max p at T does, which at T = 1000 is 1/K but for the last digits.
    Those are kept here: float64 inside, and beyond 1e7 times the spread of a row its limit, so that the error is
    below 1e-7 of the spread (or that of the dtype). At T below the spread sure rows tie at -T log K, where
    `max_softmax_score` tells them apart.

    Limits: T -> inf gives mean z - max z over allowed states, to which T = 1000 comes near (the difference is that
    mean's variance / 2T): ODIN is a centred max logit. T -> 0 gives 0 everywhere.

    Parameters and errors are those of `max_softmax_score`.

    Returns
    -------
    array, batch shape, compute dtype
        At most 0, which is for equal logits.

    References
    ----------
    Liang, Li & Srikant (2018), Enhancing the reliability of out-of-distribution image detection in neural networks,
    eq. 1.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([[9.0, 0.0, 0.0], [1.0, 0.0, -1.0]])
    >>> odin_score(z).round(3).tolist(), odin_score(z, np.inf).tolist()
    ([-5.991, -1.0], [-6.0, -1.0])
    """
    as_choice(kind, "kind", KINDS)
    z = as_logits(logits, axis)
    xp = namespace(z)
    t = xp.astype(as_temperature(temperature, z, check), xp.float64)
    top = xp.astype(_largest(z, check), xp.float64)
    exact, allowed = xp.astype(z, xp.float64), z > -math.inf
    count = xp.sum(xp.astype(allowed, xp.float64), axis=-1)
    mean = xp.sum(xp.where(allowed, exact, xp.zeros_like(exact)), axis=-1) / count
    spread = top - xp.min(xp.where(allowed, exact, xp.full_like(exact, math.inf)), axis=-1)
    hot = t > HOT * spread
    warm = xp.where(hot, xp.ones_like(t), t)
    score = xp.where(hot, mean, -free_energy(exact, warm, check=check) - warm * xp.log(count)) - top
    return xp.astype(score, z.dtype)


def _largest(z: Array, check: bool | None) -> Array:
    """The largest logit of every row; NaN for a bad row that is not to be refused."""
    xp = namespace(z)
    top = xp.max(z, axis=-1)
    if should_check(check, z):
        require_rows(top)
    return xp.where(xp.isfinite(top), top, xp.full_like(top, math.nan))


def _require_unknown_sum(z: Array) -> None:
    """Refuse rows that all have log Z = 0 at T = 1: F would be the same rounding in every one of them."""
    rows = namespace(z).reshape(z, (-1, z.shape[-1]))
    sums = to_numpy(rows).astype(np.float64).sum(-1) if bool((rows[:2, :] >= 0).all()) else np.zeros(1)
    if len(sums) > 1 and (abs(sums - 1) < PROBABLE).all() and bool((rows >= 0).all()):
        raise ValueError(
            f"logits: must not be probabilities, of which F is not identifiable; got {len(sums)} rows that sum to 1; "
            "pass the logits before softmax"
        )
    for part in (rows[:2, :], rows):  # two rows tell in nearly every case
        log_z = to_numpy(log_partition(part, check=False))
        if len(log_z) < 2 or not (abs(log_z) < NORMALISED).all():
            return
    raise ValueError(
        f"logits: must not be log probabilities, of which F is not identifiable; got log Z = 0 in all {len(log_z)} "
        "rows, as log_softmax gives; pass the logits before it, or use max_softmax_score or entropy_score"
    )


def _require_logits(kind: Any, name: str) -> None:
    if as_choice(kind, "kind", KINDS) != "logits":
        raise ValueError(
            f"kind: must be 'logits' for {name}; got {kind!r}, of which log Z is 0 in every row, so that F is unknown; "
            "use max_softmax_score, entropy_score, generalized_entropy_score or odin_score, which are differences of F"
        )
