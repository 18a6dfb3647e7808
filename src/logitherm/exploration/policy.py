"""A policy that draws actions with probability proportional to prior times exp(Q / T)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from logitherm._array import Array, as_log_prior, as_temperature, forbid, namespace, should_check
from logitherm.exploration.guard import as_actions, as_values, require_action
from logitherm.gibbs import entropy, log_softmax, sample, softmax
from logitherm.kernels.chosen import take


@dataclass(frozen=True)
class BoltzmannPolicy:
    """pi(a) = pi0(a) exp(Q(a) / T) / Z: the policy of largest E[Q] - T KL(pi || pi0).

    Values are of shape (..., actions), NumPy or PyTorch (derivatives included). A boolean `mask` of a shape that
    broadcasts allows actions where it is True; others have probability exactly 0. A `step` is for temperatures that are
    schedules. Limits: T = 0 is greedy, with ties sharing equally; T = inf is the prior.

    Attributes
    ----------
    temperature : float, array of the batch shape, or Temperature
        In units of the values: a number; a schedule by `step`; `SetPoint(entropy=...)` for an entropy that is held in
        every state; or without units `EntropyFraction`, `RelativeToGap` and, against the prior, `KLBudget`.
    log_prior : array, optional
        log pi0, broadcastable against the values; uniform without.

    Raises
    ------
    TypeError, ValueError
        Of its methods: values that are integers, NaN or +inf; a row without an allowed action; a mask that is not
        boolean.

    References
    ----------
    Sutton and Barto (2018), section 2.8; Ziebart (2010), for the prior and the objective.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.thermostat import EntropyFraction
    >>> q = np.array([[1.0, 0.5, -0.2], [9.0, 5.0, -7.0]])
    >>> BoltzmannPolicy(0.5).probabilities(q).round(3).tolist()
    [[0.686, 0.252, 0.062], [1.0, 0.0, 0.0]]
    >>> policy = BoltzmannPolicy(EntropyFraction(0.5))
    >>> policy.probabilities(q, mask=[True, True, False]).round(3).tolist()
    [[0.89, 0.11, 0.0], [0.89, 0.11, 0.0]]
    >>> policy.sample(q, generator=0).tolist(), policy.greedy(q).tolist()
    ([0, 0], [0, 0])
    """

    temperature: Any
    log_prior: Any = None

    def resolve(self, values: Array, *, mask: Any = None, step: Any = None) -> Array:
        """T of every row, of the batch shape."""
        return self._prepare(values, mask, step)[1]

    def probabilities(self, values: Array, *, mask: Any = None, step: Any = None) -> Array:
        """pi(a | state), of the shape of the values."""
        z, t, q = self._prepare(values, mask, step)
        return softmax(z, t, log_prior=q)

    def log_probabilities(self, values: Array, *, mask: Any = None, step: Any = None) -> Array:
        """log pi(a | state) in nats; -inf for actions that are not allowed."""
        z, t, q = self._prepare(values, mask, step)
        return log_softmax(z, t, log_prior=q)

    def log_prob(self, values: Array, actions: Array, *, mask: Any = None, step: Any = None) -> Array:
        """log pi of one action a row, of the batch shape; -inf for one that is not allowed. For large vocabularies
        without a prior `logprob_at` takes less memory."""
        z, t, q = self._prepare(values, mask, step)
        return take(log_softmax(z, t, log_prior=q), as_actions(actions, z))

    def entropy(self, values: Array, *, mask: Any = None, step: Any = None) -> Array:
        """Entropy of the policy in nats, of the batch shape; with a prior -KL(pi || pi0)."""
        z, t, q = self._prepare(values, mask, step)
        return entropy(z, t, log_prior=q)

    def soft_value(self, values: Array, *, mask: Any = None, step: Any = None) -> Array:
        """T log sum pi0 exp(Q / T) = E[Q] + T entropy, of the batch shape; see `soft_value`."""
        from logitherm.exploration.mellowmax import soft_value

        z, t, q = self._prepare(values, mask, step)
        return soft_value(z, t, log_prior=q)

    def sample(self, values: Array, *, generator: Any, mask: Any = None, step: Any = None) -> Array:
        """One action a row, int64 of the batch shape; `generator` is a generator, NumPy's or of the library in use.

        A seed will do for one call: every call with it draws the same numbers, so a loop needs one generator.
        """
        z, t, q = self._prepare(values, mask, step)
        return sample(z, t, generator=generator, log_prior=q)

    def greedy(self, values: Array, *, mask: Any = None) -> Array:
        """The first of the best allowed actions, int64 of the batch shape."""
        z, _ = self._allowed(values, mask)
        return namespace(z).argmax(z, axis=-1)

    def _prepare(self, values: Array, mask: Any, step: Any) -> tuple[Array, Array, Array | None]:
        z, q = self._allowed(values, mask)
        return z, as_temperature(self.temperature, z, step=step, log_prior=q), q

    def _allowed(self, values: Array, mask: Any) -> tuple[Array, Array | None]:
        """Values, -inf where the mask or the prior forbids an action, and the prior."""
        z = as_values(values, mask)
        q = as_log_prior(self.log_prior, z)
        if q is None:
            return z, None
        z = forbid(z, q)
        if should_check(None, z):
            require_action(z, "log_prior")
        return z, q
