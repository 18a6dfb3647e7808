"""Steps with noise or memory of their own: XTC and mirostat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from logitherm._array import Array, like, namespace
from logitherm.generation.noise import XTC_STRIKES
from logitherm.generation.steps.context import Context, ShapeError, per_row, require
from logitherm.generation.steps.laws import log_softmax

NATS_A_BIT = math.log(2)


@dataclass(frozen=True)
class XTC:
    """Exclude top choices: with some probability all states of at least the threshold but the least probable of them.

    Attributes
    ----------
    probability : float or array of the batch shape
        In [0, 1], of striking at a token.
    threshold : float or array of the batch shape
        In (0, 1]; above 0.5 it never strikes.

    References
    ----------
    p-e-w (2024), XTC: exclude top choices, text-generation-webui pull request 6335.
    """

    kind: ClassVar[str] = "support"
    needs_history: ClassVar[bool] = False
    probability: Any
    threshold: Any = 0.1

    def __call__(self, logits: Array, context: Context) -> Array:
        xp, rows = namespace(logits), logits.shape[0]
        chance = per_row(self.probability, rows, "probability")
        require((chance >= 0) & (chance <= 1), chance, "probability", "in [0, 1]", "0.5 is usual")
        least = per_row(self.threshold, rows, "threshold")
        require((least > 0) & (least <= 1), least, "threshold", "in (0, 1]", "0.1 is usual")
        strikes = like(context.uniform(XTC_STRIKES) < chance, logits)[:, None]
        log_least = xp.astype(like(np.log(least), logits), logits.dtype)[:, None]
        above = log_softmax(logits) >= log_least
        smallest = xp.min(xp.where(above, logits, xp.full_like(logits, math.inf)), axis=-1, keepdims=True)
        return xp.where(strikes & above & (logits > smallest), xp.full_like(logits, -math.inf), logits)


@dataclass(frozen=True)
class Mirostat:
    """Mirostat 2: states of a surprise of at most mu bits, and after every token mu moves so that the mean surprise
    becomes tau.

    mu starts at 2 tau, for which NaN stands in the memory; what is kept of it comes back in `Draws.memory` and goes
    into the next call.

    Attributes
    ----------
    tau : float
        Target surprise in bits, > 0.
    eta : float
        Learning rate, > 0.

    References
    ----------
    Basu, Ramachandran, Keskar and Varshney (2021), Mirostat: a neural text decoding algorithm that directly controls
    perplexity, algorithm 2 as llama.cpp has it.
    """

    kind: ClassVar[str] = "support"
    needs_history: ClassVar[bool] = False
    tau: float = 5.0
    eta: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.tau < math.inf and 0 < self.eta < math.inf):
            raise ValueError(
                f"tau: must be finite and positive, and eta too; got {self.tau}, {self.eta}; try 5 and 0.1"
            )

    def __call__(self, logits: Array, context: Context) -> Array:
        xp = namespace(logits)
        mu = context.memory.get("mirostat", np.full(logits.shape[0], math.nan))
        if mu.shape != (logits.shape[0],):
            raise ShapeError(f"memory: must be of the {logits.shape[0]} requests; got {len(mu)}; keep theirs")
        mu = context.memory["mirostat"] = np.where(np.isnan(mu), 2 * self.tau, mu)
        bits = -log_softmax(logits) / NATS_A_BIT
        most = xp.maximum(xp.astype(like(mu, logits), logits.dtype), xp.min(bits, axis=-1))
        return xp.where(bits <= most[:, None], logits, xp.full_like(logits, -math.inf))

    def update(self, log_probability: np.ndarray, context: Context) -> None:
        """Move mu by the surprise of the tokens drawn, after truncation."""
        surprise = -log_probability / NATS_A_BIT
        context.memory["mirostat"] = context.memory["mirostat"] - self.eta * (surprise - self.tau)
