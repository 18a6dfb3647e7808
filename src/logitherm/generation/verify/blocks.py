"""The joint law of two tokens of speculative sampling, against all that it can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from logitherm._array import to_numpy
from logitherm.generation.pipeline import Pipeline
from logitherm.generation.speculative import draft, speculate
from logitherm.generation.verify.oracle import Law
from logitherm.generation.verify.results import LEVEL, Check, Report
from logitherm.generation.verify.statistics import chi_square

STATES = 8


def verify_speculation(
    sampler: Callable[..., Any] = speculate,
    target: Pipeline | None = None,
    drafts: Pipeline | None = None,
    *,
    draws: int = 100_000,
    seed: int = 0,
    level: float = LEVEL,
) -> Report:
    """Whether two tokens drawn speculatively have the joint law of two of the target, and drafts are made use of.

    Two models of 8 states in which a token depends on the one before stand for the draft and the target. Rounds of two
    drafts go on until every request has two tokens; the 64 pairs are counted against p(first) p(second | first).

    Limits: a sampler that never accepts can be exact, so drafts accepted are counted too, against sum min(p, q).

    Parameters
    ----------
    sampler : callable
        Called as `speculate` is; returns tokens (requests, drafts + 1), -1 after the last, or something with `tokens`.
    target, drafts : Pipeline, optional
        What is done to the logits of each, such as different temperatures.
    draws : int
        Pairs.
    seed : int
    level : float
        Of the tests together.

    Returns
    -------
    Report

    References
    ----------
    Leviathan, Kalman and Matias (2023), Fast inference from transformers via speculative decoding, appendix A.1 (the
    law) and theorem 3.5 (acceptance).

    Examples
    --------
    >>> verify_speculation(draws=5000).passed
    True
    """
    rng = np.random.default_rng(11)
    tables = []
    for pipeline in (target or Pipeline(), drafts or Pipeline()):
        z = np.concatenate([rng.normal(size=(1, STATES)), rng.normal(size=(STATES, STATES))])
        tables.append(
            (pipeline, z, pipeline.process(z, seed=0, position=0), pipeline.probabilities(z, seed=0, position=0))
        )
    (_, _, target_logits, p), (drafting, raw, _, q) = tables

    requests = np.arange(draws)
    length = np.zeros(draws, np.int64)
    pairs = np.full((draws, 2), -1, np.int64)
    accepted = -1  # of the first drafts
    while (going := requests[length < 2]).size:
        before = np.where(length[going] == 0, 0, pairs[going, 0] + 1)  # row of the tables: the start, or a token
        token, q_logits, p_logits = [], [], [target_logits[before]]
        for ahead in range(2):
            place = length[going] + ahead
            one, law = draft(drafting, raw[before], seed=seed, position=place, request=going)
            before = one + 1
            token.append(one)
            q_logits.append(law)
            p_logits.append(target_logits[before])
        stacked = np.stack(token, 1), np.stack(q_logits, 1), np.stack(p_logits, 1)
        done = sampler(*stacked, seed=seed, position=length[going], request=going)
        new = to_numpy(getattr(done, "tokens", done))
        if accepted < 0:
            accepted = int((new[:, 1] >= 0).sum())
        for i in range(new.shape[1]):
            room = (new[:, i] >= 0) & (length[going] < 2)
            pairs[going[room], length[going[room]]] = new[room, i]
            length[going[room]] += 1

    joint = (p[0][:, None] * p[1:]).reshape(-1)
    cells = pairs[:, 0] * STATES + pairs[:, 1]
    none = np.zeros(joint.size, dtype=bool)
    wrong = int((joint[cells] == 0).sum())
    overlap = float(np.minimum(p[0], q[0]).sum())
    case = f"pairs of {STATES} states"
    return Report(
        (
            Check("support", case, float(wrong == 0), draws, f"{wrong} pairs that are not in it"),
            chi_square(cells, Law(joint, none), case),
            _acceptance(accepted, draws, overlap),
        ),
        level,
    )


def _acceptance(accepted: int, draws: int, overlap: float) -> Check:
    from scipy.stats import binomtest

    p_value = float(binomtest(accepted, draws, min(1.0, overlap)).pvalue)
    return Check("acceptance", "first draft", p_value, draws, f"{accepted / draws:.4f}, sum min(p, q) = {overlap:.4f}")
