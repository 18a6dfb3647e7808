"""Teachers of whom little is kept for each token: the k largest logits and the mass of the others, or a few draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logitherm._array import as_logits, describe, require_rows
from logitherm.gibbs.sampling import sample
from logitherm.kernels import softmax
from logitherm.kernels.apart import set_apart

TEMPERATURES = (1.0, 2.0, 4.0)
HALF = math.log(0.5)
MOST = 1e-2  # that the log of a sum of rounded probabilities may lie above 0
ROUNDING = math.log(torch.finfo(torch.float32).eps)  # of a sum of probabilities near 1, as servers give them
DRAWN = 1 << 22  # logits from which is drawn at a time


@dataclass(frozen=True)
class SparseTeacher:
    """The k largest logits of every row, and for some temperatures how much the others weigh.

    With both the law of k tokens and of the tail, all other tokens together, is exact at these temperatures:
    log p_i = z_i / T - log_partition_T and log p_tail = log_rest_T - log_partition_T. Tempering log-probabilities and
    the mass of the tail at T = 1 is not: the tail is many tokens, each of which is tempered.

    The weight of the tail is kept as the logarithm of a sum, and not as the log-partition function, beside which a
    small tail is lost in rounding.

    Parameters
    ----------
    tokens : int64 tensor, shape (rows, k)
        States, in any order, no state twice in a row.
    logits : float32 or float64 tensor, shape (rows, k)
        Their logits; a constant may be added to a row, if it is to `log_rest` too, over T.
    log_rest : tensor like `logits`, shape (rows, len(temperatures))
        log sum exp(z_j / T) over the states that are not among `tokens`; -inf where there are none.
    temperatures : tuple of float
    states : int
        Size of the vocabulary.

    References
    ----------
    Hinton, Vinyals and Dean (2015), Distilling the knowledge in a neural network, section 2, for the law.

    Examples
    --------
    >>> import torch
    >>> teacher = SparseTeacher.from_logits(torch.tensor([[3.0, 1.0, 0.0, 0.0]]), k=2)
    >>> teacher.tokens.tolist(), teacher.logits.tolist()
    ([[0, 1]], [[0.0, -2.0]])
    >>> [round(p, 4) for p in teacher.log_law(2.0).exp()[0].tolist()]
    [0.5512, 0.2028, 0.246]
    """

    tokens: Tensor
    logits: Tensor
    log_rest: Tensor
    temperatures: tuple[float, ...]
    states: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperatures", as_temperatures(self.temperatures))
        require_tokens(self.tokens, self.states)
        if not isinstance(self.logits, Tensor) or self.logits.shape != self.tokens.shape:
            raise ValueError(f"logits: must have the shape of tokens; got {describe(self.logits)}; one for each token")
        shape = (len(self.tokens), len(self.temperatures))
        if not isinstance(self.log_rest, Tensor) or tuple(self.log_rest.shape) != shape:
            raise ValueError(f"log_rest: must have shape {shape}; got {describe(self.log_rest)}; one a temperature")

    @classmethod
    def from_logits(
        cls, logits: Tensor, *, k: int, temperatures: Sequence[float] = TEMPERATURES, check: bool | None = None
    ) -> SparseTeacher:
        """What to keep of whole logits (..., states), -inf for forbidden ones; logits are those minus the row's top."""
        z = flat_logits(logits, check)
        if not isinstance(k, (int, np.integer)) or not 1 <= k <= z.shape[-1]:
            raise ValueError(f"k: must be an integer from 1 to the {z.shape[-1]} states; got {k}; 16 to 128 is usual")
        known = as_temperatures(temperatures)
        tokens = z.topk(k, dim=-1).indices
        ts = [torch.full_like(z[:, 0], t) for t in known]
        z = z.clone()
        first = set_apart(z, tokens, ts[0])
        others = [set_apart(z, tokens[:, :0], t) for t in ts[1:]]  # the tokens are set apart already
        rests = [found.log_rest_below(first.top, t) for found, t in zip([first, *others], ts)]
        return cls(tokens, first.near - first.top[:, None], torch.stack(rests, -1), known, z.shape[-1])

    @classmethod
    def from_log_partition(
        cls,
        tokens: Tensor,
        logits: Tensor,
        log_partition: Tensor,
        *,
        states: int,
        temperatures: Sequence[float] = (1.0,),
    ) -> SparseTeacher:
        """Of logits (rows, k) and logsumexp(z / T) over all states (rows, temperatures).

        The tail is what the k leave of 1, so it is known to the rounding of 1 only. Log-probabilities are for
        `from_log_probabilities`.
        """
        known, z = as_temperatures(temperatures), as_logits(logits)
        require_tokens(tokens, states, once=True)
        of_all = log_partition.to(z)
        share = (z[..., None] / z.new_tensor(known)).logsumexp(-2) - of_all  # log of the mass of the k
        if bool((share > MOST).any()):
            row = int((share > MOST).any(-1).nonzero()[0])
            raise ValueError(
                f"log_partition: must be at least that of the k logits; row {row} has less; pass logsumexp(z / T) of "
                "all states"
            )
        # log(1 - exp(share)), by whichever of two ways does not cancel
        left = torch.where(share > HALF, torch.log(-torch.expm1(share)), torch.log1p(-torch.exp(share)))
        others = (share < 0) & (z.shape[-1] < states)
        return cls(tokens, z, torch.where(others, left, -math.inf) + of_all, known, states)

    @classmethod
    def from_log_probabilities(
        cls, tokens: Tensor, log_probabilities: Tensor, *, temperature: float, states: int
    ) -> SparseTeacher:
        """Of log p (rows, k), natural logarithms, at the one temperature T at which p = softmax(z / T).

        The logits are T log p, whose log-partition function at T is 0. `temperature` is that at which whoever gave the
        numbers computed them: 1 if raw, that of sampling if processed. No other T can be had, since the tail is many
        tokens, each of which would be tempered. With all states there is no tail: T log p are whole logits, for
        `from_logits` or `distillation_loss`, at every temperature.

        The mass of the tail is 1 minus a sum. What lies below the rounding of that sum is lost: a tail that seems
        smaller than the float32 rounding of 1, 1.2e-7, or below 0, counts as that.

        Examples
        --------
        >>> import torch
        >>> log_p = torch.log_softmax(torch.tensor([[3.0, 1.0, 0.0, 0.0]]) / 0.7, -1)
        >>> teacher = SparseTeacher.from_log_probabilities(
        ...     torch.tensor([[0, 1]]), log_p[:, :2], temperature=0.7, states=4
        ... )
        >>> [round(p, 4) for p in teacher.log_law(0.7).exp()[0].tolist()]
        [0.9217, 0.0529, 0.0254]
        """
        t = as_one_temperature(temperature)
        if not isinstance(log_probabilities, Tensor):
            raise TypeError(
                f"log_probabilities: must be a torch tensor; got {describe(log_probabilities)}; convert it with "
                "torch.as_tensor"
            )
        log_p = as_logits(log_probabilities, name="log_probabilities")
        total = log_p.logsumexp(-1)
        if not bool((total <= MOST).all()):
            row = int((~(total <= MOST)).reshape(-1).nonzero()[0])
            raise ValueError(
                f"log_probabilities: must be of at most 1 in all in a row; row {row} has "
                f"{float(total.reshape(-1)[row].exp()):g}; pass natural logarithms of probabilities, no token twice"
            )
        found = cls.from_log_partition(
            tokens, t * log_p, log_p.new_zeros(len(log_p), 1), states=states, temperatures=(t,)
        )
        least = found.log_rest.clamp_min(ROUNDING) if log_p.shape[-1] < states else found.log_rest
        return replace(found, log_rest=least)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def log_partition(self) -> Tensor:
        """logsumexp(z / T) over all states, shape (rows, temperatures)."""
        t = self.logits.new_tensor(self.temperatures)
        return torch.logaddexp((self.logits[..., None] / t).logsumexp(-2), self.log_rest)

    def coarse_logits(self, temperature: Tensor) -> Tensor:
        """Logits of the k tokens and of the tail as one state (rows, k + 1), for a T of every row that is known."""
        column = require_known(temperature, self.temperatures)
        rest = self.log_rest.to(temperature).gather(-1, column[:, None])
        return torch.cat([self.logits.to(temperature), temperature[:, None] * rest], -1)

    def log_law(self, temperature: float) -> Tensor:
        """log p of the k tokens, and of the tail in the last place: shape (rows, k + 1)."""
        t = torch.full_like(self.logits[:, 0], temperature)
        return softmax(self.coarse_logits(t), t, logarithm=True)


@dataclass(frozen=True)
class SampledTeacher:
    """A few tokens of every row drawn from the teacher: an estimate of p = softmax(z / T) without bias.

    Draws are from r, proportional to p^proposal_power, and the estimate is p_i / r_i / draws for every draw of i. It is
    not divided by its sum: that would bias it wherever r is not p. A token drawn n times stands there n times, so that
    for r = p nothing but tokens has to be kept.

    Parameters
    ----------
    tokens : int64 tensor, shape (rows, draws)
    temperature : float
    states : int
    weights : float32 or float64 tensor, shape (rows, draws), optional
        p / r at the tokens; None where r = p.
    proposal_power : float

    References
    ----------
    Anshumann et al. (2025), Sparse logit sampling: accelerating knowledge distillation in LLMs.

    Examples
    --------
    >>> import torch
    >>> teacher = SampledTeacher.from_logits(torch.tensor([[2.0, 1.0, -9.0]]), draws=4, generator=0)
    >>> teacher.tokens.tolist(), teacher.estimate().tolist()
    ([[0, 0, 0, 0]], [[1.0, 0.0, 0.0]])
    """

    tokens: Tensor
    temperature: float
    states: int
    weights: Tensor | None = None
    proposal_power: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", as_one_temperature(self.temperature))
        require_tokens(self.tokens, self.states)
        if (self.weights is None) != (self.proposal_power == 1):
            raise ValueError("weights: must be given if proposal_power is not 1, and only then; they are p / r")
        if self.weights is not None and self.weights.shape != self.tokens.shape:
            raise ValueError(f"weights: must have the shape of tokens; got {describe(self.weights)}; one for each draw")

    @classmethod
    def from_logits(
        cls,
        logits: Tensor,
        *,
        draws: int,
        temperature: float = 1.0,
        generator: Any,
        proposal_power: float = 1.0,
        check: bool | None = None,
    ) -> SampledTeacher:
        """Draw from whole logits (..., states), -inf for forbidden ones; `generator` is a seed or a generator."""
        z = flat_logits(logits, check)
        t = as_one_temperature(temperature)
        if not isinstance(draws, (int, np.integer)) or draws < 1:
            raise ValueError(f"draws: must be an integer from 1; got {draws}; 12 to 64 is usual")
        if not 0 <= proposal_power < math.inf:
            raise ValueError(f"proposal_power: must be finite and at least 0; got {proposal_power}; 1 needs no weights")
        t_r = t / proposal_power if proposal_power else math.inf
        if isinstance(generator, int):
            generator = np.random.default_rng(generator)
        blocks = z.split(max(DRAWN // z.shape[-1], 1))  # they are drawn in float64, which takes much more memory
        tokens = torch.cat([sample(block, t_r, generator=generator, size=draws) for block in blocks])
        tokens = tokens.sort(-1).values  # so that they compress
        weights = None
        if proposal_power != 1:
            log_p, log_r = (softmax(z, torch.full_like(z[:, 0], each), logarithm=True) for each in (t, t_r))
            weights = (log_p.gather(-1, tokens) - log_r.gather(-1, tokens)).exp()
        return cls(tokens, t, z.shape[-1], weights, proposal_power)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def temperatures(self) -> tuple[float, ...]:
        return (self.temperature,)

    @property
    def shares(self) -> Tensor:
        """What each draw adds to the estimate of its token, shape (rows, draws)."""
        draws = self.tokens.shape[-1]
        if self.weights is None:
            return torch.full(self.tokens.shape, 1 / draws, dtype=torch.float64, device=self.tokens.device)
        return self.weights / draws

    def estimate(self) -> Tensor:
        """The estimate of every probability, shape (rows, states)."""
        shares = self.shares
        return shares.new_zeros(len(self), self.states).scatter_add_(-1, self.tokens, shares)


def flat_logits(logits: Any, check: bool | None) -> Tensor:
    """A teacher's logits as rows; nothing is learned through them."""
    if not isinstance(logits, Tensor):
        raise TypeError(f"logits: must be a torch tensor; got {describe(logits)}; convert it with torch.as_tensor")
    z = as_logits(logits).detach()
    z = z.reshape(-1, z.shape[-1])
    if check is not False:
        require_rows(z.amax(-1))
    return z


def as_temperatures(values: Sequence[float]) -> tuple[float, ...]:
    if isinstance(values, (int, float)):
        raise TypeError(f"temperatures: must be a sequence of numbers; got {values}; write ({values},)")
    found = tuple(float(value) for value in values)
    if not found or any(not 0 < t < math.inf for t in found) or len(set(found)) < len(found):
        raise ValueError(f"temperatures: must be positive, finite and all different; got {found}; try 1, 2, 4")
    return found


def as_one_temperature(value: float) -> float:
    try:
        t = float(value)
    except (TypeError, ValueError):
        t = math.nan
    if not 0 < t < math.inf:
        raise ValueError(f"temperature: must be a number, positive and finite; got {describe(value)}; 1 to 8 is usual")
    return t


def require_tokens(tokens: Any, states: int, *, once: bool = False) -> None:
    """Token numbers (rows, k), `once` for each of them only once in a row."""
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64 or tokens.ndim != 2 or not tokens.shape[1]:
        raise TypeError(f"tokens: must be int64 of shape (rows, k); got {describe(tokens)}; reshape them")
    low, high = (int(end) for end in tokens.aminmax()) if tokens.numel() else (0, 0)
    if low < 0 or high >= states:
        raise ValueError(f"tokens: must lie in [0, {states}); got {low} to {high}; mend them")
    if once and bool((same := (tokens.sort(-1).values.diff() == 0).any(-1)).any()):
        raise ValueError(f"tokens: must differ in a row; row {int(same.nonzero()[0])} has one twice; drop the second")


def require_known(temperature: Tensor, known: tuple[float, ...]) -> Tensor:
    """Which of the known temperatures that of every row is, to the digits of float32; raises if it is none."""
    same = temperature[:, None].float() == torch.tensor(known, dtype=torch.float32, device=temperature.device)
    if not bool(same.any(-1).all()):
        bad = float(temperature[~same.any(-1)][0])
        stored = ", ".join(f"{t:g}" for t in known)
        raise ValueError(
            f"temperature: must be one that is stored of the teacher ({stored}); got {bad:g}; take one of these, or "
            "store the teacher again with this one"
        )
    return same.long().argmax(-1)
