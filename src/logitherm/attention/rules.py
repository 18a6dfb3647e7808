"""Rules for the temperature of attention: from the number of keys, the position, or how sharp it is without them.

A rule is called with `Queries` and gives T, which broadcasts against (batch, heads, queries). Any function may be one.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from logitherm._array import describe
from logitherm.attention.state import AttentionState, attention_state
from logitherm.kernels.graphs import outside_graphs

POLYNOMIAL = (-0.037, 0.481, -2.3, 4.917, -1.791)  # of the entropy in nats, highest power first
FROM = 0.5  # nats, below which attention is sharp enough


class Queries(NamedTuple):
    """What a rule may look at."""

    q: Tensor  # (batch, heads, queries, width)
    k: Tensor  # (batch, key heads, keys, width)
    mask: Tensor | None  # boolean, broadcasts to (batch, heads, queries, keys)
    causal: bool

    @property
    def position(self) -> Tensor:
        """Place of every query among the keys, (queries,): the last one is at the last key."""
        queries, keys = self.q.shape[-2], self.k.shape[-2]
        return torch.arange(keys - queries, keys, device=self.q.device)

    @property
    def visible(self) -> Tensor:
        """The number of keys that each query sees, broadcasts against (batch, heads, queries)."""
        keys = self.k.shape[-2]
        if self.mask is None:
            return self.position + 1 if self.causal else torch.full_like(self.position, keys)
        seen = self.mask
        if self.causal:
            seen = seen & (torch.arange(keys, device=self.q.device) <= self.position[:, None])
        return seen.expand(*seen.shape[:-1], keys).sum(-1)

    @outside_graphs
    def state(self) -> AttentionState:
        """How sharp attention is at T = sqrt(width)."""
        return attention_state(self.q, self.k, mask=self.mask, causal=self.causal, empty="nan")


def _is_number(x: Any) -> bool:
    return isinstance(x, numbers.Real) and not isinstance(x, bool) and math.isfinite(x)


@dataclass(frozen=True)
class LogLength:
    """T = sqrt(width) / (scale log n) for n visible keys: scalable softmax (SSMax), which stays sharp as n grows.

    With a `length` it is sqrt(width) / (scale max(1, log n / log length)): the usual T up to the number of keys that a
    model was trained with, colder from there on.

    Parameters
    ----------
    scale : float or tensor
        Of a tensor one a head, (heads, 1), which may be learned.
    length : float, optional
        More than 1.

    References
    ----------
    Nakanishi (2025), Scalable-Softmax is superior for attention, eq. 2. With a length: Su (2021); `use_logn_attn` and
    `seq_length` of Qwen.

    Examples
    --------
    >>> q = torch.zeros(1, 1, 3, 4)
    >>> LogLength()(Queries(q, q, None, True)).round(decimals=3)    # for one key, where every T is the same, as for two
    tensor([2.8850, 2.8850, 1.8200])
    >>> LogLength(length=2)(Queries(q, q, None, True)).round(decimals=3)
    tensor([2.0000, 2.0000, 1.2620])
    """

    scale: Any = 1.0
    length: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.scale, Tensor):
            if self.scale.ndim == 1 and len(self.scale) > 1:
                raise ValueError(f"scale: must be one number, or (heads, 1); got {describe(self.scale)}; reshape it")
        elif not (_is_number(self.scale) and self.scale > 0):
            raise ValueError(f"scale: must be positive, or a tensor; got {describe(self.scale)}; 1 is usual")
        if self.length is not None and not (_is_number(self.length) and self.length > 1):
            raise ValueError(f"length: must be more than 1; got {self.length!r}; that of training")

    def __call__(self, seen: Queries) -> Tensor:
        sharper = seen.visible.clamp_min(2).log()
        if self.length is not None:
            sharper = (sharper / math.log(self.length)).clamp_min(1)
        return math.sqrt(seen.q.shape[-1]) / (self.scale * sharper)


@dataclass(frozen=True)
class ByPosition:
    """T = sqrt(width) / (1 + scale log(1 + floor((position + 1) / every))): as Llama 4 has it in layers without RoPE.

    References
    ----------
    `attn_scale` and `floor_scale` of Llama 4, in transformers' modeling_llama4.py.

    Examples
    --------
    >>> q = torch.zeros(1, 1, 4, 4)
    >>> ByPosition(scale=1.0, every=2)(Queries(q, q, None, True)).round(decimals=3)
    tensor([2.0000, 1.1810, 1.1810, 0.9530])
    """

    scale: float = 0.1
    every: int = 8192

    def __post_init__(self) -> None:
        if not (_is_number(self.scale) and self.scale >= 0):
            raise ValueError(f"scale: must be 0 or more; got {self.scale!r}; 0.1 is usual")
        if not (_is_number(self.every) and self.every >= 1):
            raise ValueError(f"every: must be at least 1; got {self.every!r}; it is a number of tokens")

    def __call__(self, seen: Queries) -> Tensor:
        steps = torch.div(seen.position + 1, self.every, rounding_mode="floor")
        return math.sqrt(seen.q.shape[-1]) / (1 + self.scale * torch.log1p(steps.float()))


@dataclass(frozen=True)
class Yarn:
    """T = sqrt(width) / (0.1 log(factor) + 1)^2 for a context `factor` times as long: YaRN, which scales q and k.

    References
    ----------
    Peng et al. (2023), YaRN, eq. 22: sqrt(1 / t) = 0.1 log(factor) + 1 on both, so scores have the square.

    Examples
    --------
    >>> q = torch.zeros(1, 1, 3, 4)
    >>> round(Yarn(8.0)(Queries(q, q, None, True)).item(), 4)
    1.3707
    """

    factor: float

    def __post_init__(self) -> None:
        if not (_is_number(self.factor) and self.factor >= 1):
            raise ValueError(f"factor: must be at least 1; got {self.factor!r}; it is the new length over the old")

    def __call__(self, seen: Queries) -> Tensor:
        return torch.tensor(math.sqrt(seen.q.shape[-1]) / (0.1 * math.log(self.factor) + 1) ** 2)


@dataclass(frozen=True)
class Adaptive:
    """T = sqrt(width) / max(1, polynomial(S)) where the entropy S exceeds half a nat, else sqrt(width).

    Nothing is learned through S.

    References
    ----------
    Veličković et al. (2024), softmax is not enough (for sharp size generalisation), section 4 and its code.

    Examples
    --------
    >>> q = torch.zeros(1, 1, 9, 4)
    >>> Adaptive()(Queries(q, q, None, False))[0, 0, 0].round(decimals=3)    # of nine keys alike
    tensor(0.9310)
    """

    def __call__(self, seen: Queries) -> Tensor:
        entropy = seen.state().entropy
        beta = torch.zeros_like(entropy)
        for coefficient in POLYNOMIAL:
            beta = beta * entropy + coefficient
        return math.sqrt(seen.q.shape[-1]) / torch.where(entropy > FROM, beta.clamp_min(1), 1.0)
