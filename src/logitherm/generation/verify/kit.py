"""All tests on one sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from logitherm.generation.pipeline import Pipeline
from logitherm.generation.verify import laws
from logitherm.generation.verify.contract import Draw, batch_invariance, drawn, reproducibility
from logitherm.generation.verify.oracle import Law, law_of
from logitherm.generation.verify.results import LEVEL, Check, Report
from logitherm.generation.verify.statistics import chi_square, independence, pit, support, tails, uniformity

CHUNK = 1 << 21  # values of one call for many draws of one law
LARGE = 100_000  # states from which a ladder has room for all its gaps


def draws_of(pipeline: Pipeline | None = None, *, route: str = "auto", vary: str = "request") -> Draw:
    """A pipeline of this library as a sampler to verify.

    Many draws of one law are many equal rows, told apart by the part of the noise's key that `vary` names: each has to
    be as good as the others.

    Parameters
    ----------
    pipeline : Pipeline, optional
        Without it plain softmax.
    route : "auto", "kernels" or "reference"
        As for `Pipeline.sample`.
    vary : "request", "position" or "seed"

    Returns
    -------
    callable
        `draw(logits, n, seed)`.

    Examples
    --------
    >>> import numpy as np
    >>> draws_of()(np.array([0.0, 1.0]), 5, seed=0).tolist()
    [0, 1, 1, 1, 1]
    """
    own = Pipeline() if pipeline is None else pipeline

    def draw(logits: np.ndarray, n: int, seed: Any) -> np.ndarray:
        found = np.empty(n, np.int64)
        size = max(1, min(n, CHUNK // logits.shape[-1]))
        repeated = np.repeat(logits[None], size, axis=0) if logits.ndim == 1 else logits
        for start in range(0, n, size):
            part = slice(start, min(start + size, n))
            rows = repeated[: part.stop - start] if logits.ndim == 1 else logits[part]
            which = np.arange(part.start, part.stop)
            key: dict[str, Any] = {"seed": seed, "request": np.zeros_like(which), "position": 0}
            if np.ndim(seed):
                key["seed"] = np.asarray(seed)[part]
            else:
                key[vary] = which + (seed << 32 if vary == "seed" else 0)
            found[part] = own.sample(rows, route=route, **key).token
        return found

    return draw


def verify(
    draw: Draw,
    pipeline: Pipeline | Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    seeds: str = "request",
    ties: str = "together",
    draws: int = 100_000,
    states: int = 20_000,
    dtype: Any = np.float32,
    seed: int = 0,
    level: float = LEVEL,
) -> Report:
    """Every test of the kit on one sampler.

    Chi-square and support on laws of a few to a thousand states, some forbidden or equal; tails of a ladder of states;
    Kolmogorov-Smirnov and independence over rows with laws of their own; reproducibility; batch invariance. Seeds are
    fixed, so a sampler with seeds has the same report every time, and a right one is called wrong with a chance of
    `level` once for all.

    Limits: what is wrong by less than about 5 / sqrt(draws), relative to the mass of a bin or tail, is not seen. Tails
    of 16 to 20 nats need draws * states of some 10^10; the defaults see 8, 12 and 18 where they are wholly lost. Laws
    have from 2 to `states` states, so a pipeline with TopK needs clamp=True.

    Parameters
    ----------
    draw : callable
        `draw(logits, n, seed)` returns n integers: logits (states,) ask for n draws of one law, logits (n, states) for
        one a row.
    pipeline : Pipeline or callable, optional
        What the sampler's law should be: steps, or probabilities (rows, states) of float64 logits; without it plain
        softmax.
    seeds : "request" or "call"
        Whether `seed` may be an array with one a row, or is a number only, which leaves batch invariance out.
    ties : "together" or "any"
        Whether equal logits are kept or removed together, or the sampler may break ties as it likes: then no truncation
        is tried on them.
    draws : int
        Of each law; rows with laws of their own are a tenth.
    states : int
        Of the ladder; from 100 000 on it has all of 8, 12, 16, 18 and 20 nats.
    dtype : floating dtype
        Of the logits.
    seed : int
    level : float
        Of all tests together.

    Returns
    -------
    Report
        Its `passed` is the answer, `print` shows every check.

    Raises
    ------
    ValueError
        A sampler that returns something else than state numbers.

    References
    ----------
    Pearson (1900); Haldane (1937); Holm (1979); Czado, Gneiting and Held (2009), as at each test.

    Examples
    --------
    >>> from logitherm.generation import Temperature
    >>> pipeline = Pipeline([Temperature(0.7)])
    >>> report = verify(draws_of(pipeline), pipeline, draws=5000, states=2000)
    >>> report.passed
    True
    >>> verify(draws_of(pipeline), draws=5000, states=2000).passed
    False
    """
    if seeds not in ("request", "call") or ties not in ("together", "any"):
        raise ValueError(
            f'seeds: must be "request" or "call", and ties "together" or "any"; got {seeds!r} and {ties!r}; choose one'
        )
    cuts = pipeline is not None and _cuts(pipeline)
    checks: list[Check] = []
    for case, row, n in _cases(draws, dtype, equal=ties == "together" or not cuts):
        law = law_of(row, pipeline)
        tokens = drawn(draw, row, n, seed)
        checks += [support(tokens, law, case), *([chi_square(tokens, law, case)] if (law.p > 0).sum() > 1 else [])]
    checks += _ladder(draw, pipeline, states, draws, dtype, seed, cuts)
    checks += _rows(draw, pipeline, max(200, draws // 10), dtype, seed, seeds)
    return Report(tuple(checks), level)


def _cases(draws: int, dtype: Any, equal: bool) -> Iterator[tuple[str, np.ndarray, int]]:
    yield "counts of 1000 states", laws.zipf(1000, dtype), draws
    yield "1000 normal logits", np.random.default_rng(2).normal(0, 2, 1000).astype(dtype), draws
    yield "2 states", np.array([0.0, -1.0], dtype=dtype), draws
    for states in (257, 1025):  # one more than fills a block
        row = np.random.default_rng(states).normal(0, 1.5, states)
        row[::3] = -np.inf
        yield f"{states} states, a third forbidden", row.astype(dtype), draws // 2
    row = np.full(999, -np.inf)
    row[640] = -3.0
    yield "one state allowed of 999", row.astype(dtype), min(draws, 1000)
    if equal:
        yield "60 states, many equal", np.floor(np.random.default_rng(3).normal(0, 1.5, 60)).astype(dtype), draws // 2


def _cuts(pipeline: Pipeline | Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether it removes states."""
    return bool((law_of(laws.ladder(1000, (8, 18)), pipeline).p == 0).any())


def _ladder(draw: Draw, pipeline: Any, states: int, draws: int, dtype: Any, seed: int, cuts: bool) -> list[Check]:
    """Tails, at the gaps the law has them once the pipeline is done with the logits; what it cuts must not be drawn."""
    gaps = (8, 12, 16, 18, 20) if states >= LARGE else (8, 12, 18)
    row = laws.ladder(states, gaps, np.float64)
    case = f"ladder of {states} states"
    n = draws // 10 if cuts else draws
    if not cuts:
        values = law_of(row, pipeline).p
        gap = float(np.log(values.max() / values[row == -8][0]))
        row = row * 8 / gap if gap > 0 else row  # a temperature widens or narrows the gaps
    row = row.astype(dtype)
    law = law_of(row, pipeline)
    tokens = drawn(draw, row, n, seed + 1)
    return [support(tokens, law, case), *([] if cuts else tails(tokens, law, gaps, case))]


def _rows(draw: Draw, pipeline: Any, rows: int, dtype: Any, seed: int, seeds: str) -> list[Check]:
    """One draw of each of many laws."""
    per_chunk, states = 1000, 500
    streams = (seed + 2, seed + 3)
    where: list[dict[str, np.ndarray]] = []
    checks = []
    for start in range(0, rows, per_chunk):
        size = min(per_chunk, rows - start)
        z = laws.normal(size, states, 1000 + start, dtype)
        law = law_of(z, pipeline)
        keep = law.decided
        z, law = z[keep], Law(law.p[keep], law.undecided[keep])
        found = {}
        for number in streams:
            own: Any = number * 1_000_003 + start
            if seeds == "request":
                own = own + np.arange(len(z)) * 7919
            tokens = drawn(draw, z, len(z), own)
            for order in ("number", "probability"):
                found[f"{order} {number}"] = pit(tokens, law, own if np.ndim(own) == 0 else int(own[0]), order)
            found[f"support {number}"] = _of_support(tokens, law)
        where.append(found)
    u = {name: np.concatenate([found[name] for found in where]) for name in where[0]}
    first, second = streams
    wrong = int(u[f"support {first}"].sum() + u[f"support {second}"].sum())
    case = f"rows of {states} states"
    checks = [
        Check("support", case, float(wrong == 0), 2 * len(u[f"number {first}"]), f"{wrong} of states not in it"),
        *(uniformity(u[f"{order} {first}"], f"{case} in the order of {order}") for order in ("number", "probability")),
        independence(u[f"number {first}"][:-1:2], u[f"number {first}"][1::2], "neighbours in a batch"),
        independence(u[f"number {first}"], u[f"number {second}"], "two seeds"),
    ]
    z = np.random.default_rng(5).normal(0, 1.0, (64, 300)).astype(dtype)
    checks.append(reproducibility(draw, z, seed, "64 rows of 300 states", law_of(z, pipeline)))
    if seeds == "request":
        checks.append(batch_invariance(draw, z, np.arange(64) * 104729 + seed, "64 rows of 300 states"))
    else:
        checks.append(
            Check("batch invariance", "64 rows of 300 states", np.nan, 0, "one seed a call: nothing promised")
        )
    return checks


def _of_support(tokens: np.ndarray, law: Law) -> np.ndarray:
    return law.p[np.arange(len(tokens)), tokens] == 0
