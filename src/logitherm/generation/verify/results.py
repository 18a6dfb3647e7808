"""What a test says, and what all of them say together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 1e-6  # of all tests together


@dataclass(frozen=True)
class Check:
    """One test on one case.

    Attributes
    ----------
    name : str
        Of the test.
    case : str
        What it was run on.
    p_value : float
        Of these draws or worse, if the sampler is right. A plain fact has 1 where it holds and 0 where it does not; a
        test that could not be run has NaN.
    draws : int
        How many it saw.
    detail : str
        The numbers behind it.
    """

    name: str
    case: str
    p_value: float
    draws: int
    detail: str = ""

    @property
    def run(self) -> bool:
        """Whether it says anything."""
        return not math.isnan(self.p_value)

    def verdict(self, adjusted: float | None = None, level: float = LEVEL) -> str:
        """One line; with the p-value of a family of tests where that is given."""
        p = self.p_value if adjusted is None else adjusted
        word = "not run" if not self.run else "right" if p > level else "WRONG"
        number = "" if self.p_value in (0.0, 1.0) or not self.run else f"p = {self.p_value:.2g}; "
        return f"{word:8}{self.name}, {self.case}, {self.draws} draws: {number}{self.detail}"


@dataclass(frozen=True)
class Report:
    """All tests of one sampler.

    Attributes
    ----------
    checks : tuple of Check
    level : float
        Chance that a right sampler is called wrong by any of them, by Holm's method.
    """

    checks: tuple[Check, ...]
    level: float = LEVEL

    @property
    def adjusted(self) -> list[float]:
        """Holm's p-value of every check, NaN for those not run."""
        found = np.full(len(self.checks), math.nan)
        ran = [i for i, check in enumerate(self.checks) if check.run]
        found[ran] = holm([self.checks[i].p_value for i in ran])
        return found.tolist()

    @property
    def failures(self) -> list[Check]:
        """Checks that say the sampler is wrong."""
        return [check for check, p in zip(self.checks, self.adjusted) if p <= self.level]

    @property
    def passed(self) -> bool:
        """Whether none does."""
        return not self.failures

    def __str__(self) -> str:
        lines = [check.verdict(p, self.level) for check, p in zip(self.checks, self.adjusted)]
        run = sum(check.run for check in self.checks)
        last = f"{len(self.failures)} of {run} checks say WRONG" if self.failures else f"right by all {run} checks"
        return "\n".join([*lines, f"{last}, at a family-wise level of {self.level:g}"])

    def __add__(self, other: Report) -> Report:
        return Report(self.checks + other.checks, min(self.level, other.level))


def holm(p_values: Sequence[float] | Iterable[float]) -> list[float]:
    """p-values of tests as a family: those at most the level are of wrong hypotheses, but for that chance.

    Limits: one test keeps its p-value; 0 stays 0.

    Parameters
    ----------
    p_values : sequence of float

    Returns
    -------
    list of float
        In the same order.

    References
    ----------
    Holm (1979), A simple sequentially rejective multiple test procedure, section 2.

    Examples
    --------
    >>> holm([0.01, 0.5, 0.02])
    [0.03, 0.5, 0.04]
    """
    p = np.asarray(list(p_values), dtype=np.float64)
    order = np.argsort(p, kind="stable")
    factors = len(p) - np.arange(len(p))
    found = np.empty(len(p))
    found[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors)) if len(p) else []
    return found.tolist()
