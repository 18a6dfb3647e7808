"""Log-probabilities at the temperature they were sampled at, and the importance ratio that needs them to be."""

from __future__ import annotations

import math
from typing import Any

from logitherm._array import (
    Array,
    as_array,
    as_temperature,
    describe,
    first_true,
    is_torch,
    is_traced,
    like,
    namespace,
    to_numpy,
)
from logitherm._labels import place
from logitherm.exploration.guard import as_actions, as_values
from logitherm.kernels.chosen import log_probability, take


def logprob_at(
    logits: Array,
    actions: Array,
    temperature: Any = 1.0,
    *,
    mask: Any = None,
    step: Any = None,
    ignore_index: int | None = None,
) -> Array:
    """log softmax(z / T) of one action or token a row, without the other probabilities.

    A policy gradient is one of the policy that acted. If tokens were drawn at T, then T belongs into the
    log-probabilities of the policy, of the old policy and of the reference alike.

    With PyTorch one array of the size of the logits is made: their gradient.

    Parameters
    ----------
    logits : array, shape (..., actions)
        NumPy or PyTorch, with derivatives in logits and temperature. Those of a language model are for the next token:
        ``logits[:, :-1]`` goes with ``tokens[:, 1:]``.
    actions : integer array, batch shape
        Tokens or actions that were drawn.
    temperature : float, array of the batch shape, or Temperature
        The one they were drawn at; 0 <= T <= inf.
    mask : boolean array, optional
        True for allowed actions. Rows are left out by `ignore_index`.
    step : optional
        For temperatures that are schedules.
    ignore_index : int, optional
        Rows whose action is this number, as -100 of padding, are left out: their log-probability is 0, without
        gradient.

    Returns
    -------
    array, batch shape
        In nats, in the compute dtype.

    Raises
    ------
    ValueError
        An action that is not allowed, or outside of [0, actions); bad rows.

    Examples
    --------
    >>> import numpy as np
    >>> logprob_at(np.array([[2.0, 0.0], [2.0, 0.0]]), np.array([0, 1]), 0.5).round(4).tolist()
    [-0.0181, -4.0181]
    """
    z = as_values(logits, mask, "logits")
    chosen, kept = some_actions(actions, z, ignore_index)
    own = take(z, chosen)
    if not (is_traced(own) or is_traced(chosen)):
        bad = own == -math.inf if kept is None else (own == -math.inf) & kept
        if bool(bad.any()):
            row = place(first_true(bad), tuple(own.shape))
            raise ValueError(
                f"actions: must be allowed; that of {row} is masked or has -inf; mend the mask or the actions"
            )
    log_prob = log_probability(z, as_temperature(temperature, z, step=step), chosen)
    return log_prob if kept is None else namespace(z).where(kept, log_prob, namespace(z).zeros_like(log_prob))


def importance_ratio(
    logits: Array,
    actions: Array,
    old_log_prob: Array,
    temperature: Any = 1.0,
    *,
    mask: Any = None,
    step: Any = None,
    ignore_index: int | None = None,
) -> Array:
    """pi(a) / pi_old(a) with the numerator at the temperature of sampling: PPO's and GRPO's ratio.

    The old log-probabilities must be at the same temperature; `check_log_prob` tells whether they are.

    Parameters
    ----------
    logits : array, shape (..., actions)
        Of the policy that is trained.
    actions : integer array, batch shape
    old_log_prob : array, batch shape
        Log-probabilities of the actions under the policy that drew them, taken as constants; at most 0, in nats.
    temperature, mask, step, ignore_index
        As in `logprob_at`. A row that is left out has the ratio 1, whatever its old log-probability.

    Returns
    -------
    array, batch shape
        1 everywhere as long as the policy is the old one.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([[2.0, 0.0, 1.0]])
    >>> old = logprob_at(z, np.array([0]), 0.6)
    >>> importance_ratio(z, np.array([0]), old, 0.6).tolist(), importance_ratio(z, np.array([0]), old).round(2).tolist()
    ([1.0], [0.81])
    """
    new = logprob_at(logits, actions, temperature, mask=mask, step=step, ignore_index=ignore_index)
    old = as_log_prob(old_log_prob, new, _kept(actions, new, ignore_index))
    return namespace(new).exp(new - (old.detach() if is_torch(old) else old))


def some_actions(actions: Any, z: Array, ignore_index: int | None) -> tuple[Array, Array | None]:
    """Actions, 0 in the rows that are left out, and which rows are kept; None for all."""
    kept = _kept(actions, z[..., 0], ignore_index)
    if kept is None:
        return as_actions(actions, z), None
    given = as_array(actions, "actions")
    xp = namespace(given)
    counted = xp.where(given != ignore_index, given, xp.zeros_like(given))
    return as_actions(counted, z), kept


def _kept(actions: Any, batch: Array, ignore_index: int | None) -> Array | None:
    """Which rows are not left out, in the library of `batch`; None for all."""
    if ignore_index is None:
        return None
    kept = as_array(actions, "actions") != ignore_index
    return kept if namespace(kept) is namespace(batch) else like(to_numpy(kept), batch)


def as_log_prob(log_prob: Array, batch: Array, kept: Array | None = None) -> Array:
    """Log-probabilities of the batch shape in the library of `batch`: at most 0, and 0 where not kept."""
    given = as_array(log_prob, "log_prob")
    given = given if namespace(given) is namespace(batch) else like(to_numpy(given), batch)
    xp = namespace(given)
    if tuple(given.shape) != tuple(batch.shape):
        raise ValueError(
            f"log_prob: must have the batch shape {tuple(batch.shape)}; got {describe(log_prob)}; one number an action"
        )
    if kept is not None:
        given = xp.where(kept, given, xp.zeros_like(given))
    bad = ~(given <= 1e-3)  # rounding of a probability of 1; False for NaN
    if not is_traced(bad) and bool(bad.any()):
        row = first_true(bad)
        value = float(to_numpy(given).reshape(-1)[row])
        raise ValueError(
            f"log_prob: must be logarithms of probabilities; {place(row, tuple(given.shape))} has {value:g}; "
            "take the logarithm first"
        )
    return given
