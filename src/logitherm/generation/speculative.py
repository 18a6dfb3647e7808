"""Exact speculative sampling: tokens drafted by a cheap law, and none the wiser in the law that comes out.

The draft and the target each have a pipeline of their own, so their temperatures and truncations may differ; what is
handed in are logits after it. Noise is that of `logitherm.generation.noise`, keyed by (seed, request, position): the
stream DRAFT for a drafted token, ACCEPT for whether it is accepted, RESIDUAL for the token in its place, DRAW for the
token after the last draft. What is drafted after the first rejection is thrown away and nothing that is kept depended
on it, so the next call starts at the position after the last token kept, and the noise of the positions thrown away may
be used again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_logits, is_array, like, namespace, require_rows, to_numpy
from logitherm.generation.noise import ACCEPT, DRAFT, DRAW, RESIDUAL, as_words, uniforms
from logitherm.generation.pipeline import Pipeline
from logitherm.generation.steps import Mirostat
from logitherm.gibbs import log_softmax
from logitherm.kernels.sampling import inverse_cdf
from logitherm.kernels.speculative import accept_probability, log_residual


@dataclass
class Speculated:
    """The tokens of one round.

    Attributes
    ----------
    tokens : int64 array, shape (requests, drafts + 1)
        Of the kind of the target's logits; accepted drafts, then one token of the target, then -1.
    accepted : int64 array, shape (requests,)
        Number of drafts accepted; a request has one token more than that.
    log_probability : float64 array, shape (requests, drafts + 1)
        log p of every token in the target's law; NaN after the last.
    """

    tokens: Array
    accepted: np.ndarray
    log_probability: np.ndarray


def draft(pipeline: Pipeline, logits: Array, *, seed: Any, position: Any, **options: Any) -> tuple[Array, Array]:
    """One drafted token a request, and the logits of the law it was drawn from: two things that go together.

    Limits: those of the pipeline's steps. The draw is by inverse of the cumulative distribution in float64, with the
    noise of the stream DRAFT at (seed, request, position), so that it is independent of the target's.

    Parameters
    ----------
    pipeline : Pipeline
        Of the draft; without mirostat, which has to learn from what is kept.
    logits : floating array, shape (requests, states)
        Of the draft model.
    seed, position, options
        As for `Pipeline.sample`.

    Returns
    -------
    tokens : int64 array, shape (requests,)
    processed : floating array, shape (requests, states)
        For `speculate`.

    Raises
    ------
    ValueError
        As for `Pipeline.sample`; a pipeline with mirostat.

    References
    ----------
    Leviathan, Kalman and Matias (2023), Fast inference from transformers via speculative decoding, section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> tokens, processed = draft(Pipeline(), np.array([[0.0, 2.0, 0.0]]), seed=3, position=0)
    >>> tokens.tolist()
    [1]
    """
    if any(isinstance(step, Mirostat) for step in pipeline.steps):
        raise ValueError("pipeline: a draft must be without mirostat, which learns from what is kept; take it out")
    z = pipeline.process(logits, seed=seed, position=position, **options)
    uniform = _uniform(seed, options.get("request"), position, z.shape[0])(DRAFT, 0)
    chosen, _ = inverse_cdf(_wide(z), _like_wide(uniform, z))
    return chosen, z


def speculate(
    draft_tokens: Array, draft_logits: Array, target_logits: Array, *, seed: Any, position: Any, request: Any = None
) -> Speculated:
    """Accept drafted tokens, or draw others, so that every token has exactly the target's law.

    A draft is accepted with probability min(1, p / q), p and q its probabilities in the target's and the draft's law.
    At the first that is not, the token is drawn from max(p - q, 0), renormalised; after the last, from the target.

    Limits: p = q accepts every draft; laws without a common state accept none. At T = 0 of both, drafts are accepted as
    long as they are the target's largest logit (where it is unique). Without drafts the token is that of
    `Pipeline.sample`.

    Parameters
    ----------
    draft_tokens : integer array, shape (requests, drafts)
        What was drawn from the draft; -1 after the last of a request that has fewer.
    draft_logits : floating array, shape (requests, drafts, states)
        The law each was drawn from: logits after the draft's pipeline. Rows without a draft may be anything.
    target_logits : floating array, shape (requests, drafts + 1, states)
        The target's logits at the same places, and at the one after, after its pipeline. float32 and float64 stay, half
        types become float32; probabilities are float64 in any case.
    seed, request : int or integer array, shape (requests,)
        As for `Pipeline.sample`.
    position : int or integer array, shape (requests,)
        Of the first drafted token; the next ones follow.

    Returns
    -------
    Speculated

    Raises
    ------
    ValueError
        Shapes that do not agree; a draft that its own law does not allow; a row that is no law.

    References
    ----------
    Leviathan, Kalman and Matias (2023), Fast inference from transformers via speculative decoding, algorithm 1; Chen et
    al. (2023), Accelerating large language model decoding with speculative sampling, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation import Temperature
    >>> drafts, target = Pipeline([Temperature(2.0)]), Pipeline([Temperature(0.5)])
    >>> z = np.array([[2.0, 1.0, 0.0]])
    >>> token, q = draft(drafts, z, seed=0, position=0)
    >>> p = target.process(z, seed=0, position=0)
    >>> done = speculate(token[:, None], q[:, None], np.stack([p, p], axis=1), seed=0, position=0)
    >>> done.accepted.tolist(), done.tokens.tolist()
    ([1], [[0, 0]])
    """
    tokens, q, p = _checked(draft_tokens, draft_logits, target_logits)
    rows, drafts = tokens.shape
    uniform = _uniform(seed, request, position, rows)
    every = np.arange(rows)
    count = (tokens >= 0).sum(axis=1)

    # one draft after the other, for the requests that still go on: rows after a rejection are never read
    accepted = np.zeros(rows, np.int64)
    emitted = np.full((rows, drafts + 1), -1, np.int64)
    log_probability = np.full((rows, drafts + 1), np.nan)
    going = every[count > 0]
    for i in range(drafts):
        if not len(going):
            break
        token = tokens[going, i]
        log_q, log_p = (_at(_law(z, going, i, name), token) for z, name in ((q, "draft_logits"), (p, "target_logits")))
        if (log_q == -math.inf).any():
            row = int(going[np.argmax(log_q == -math.inf)])
            raise ValueError(
                f"draft_tokens: must be tokens that draft_logits allow; draft {i} of request {row} has probability 0; "
                "give the logits it was drawn from, after the draft's pipeline"
            )
        yes = uniform(ACCEPT, i)[going] < accept_probability(log_p, log_q)
        emitted[going[yes], i], log_probability[going[yes], i] = token[yes], log_p[yes]
        accepted[going[yes]] += 1
        going = going[yes & (count[going] > i + 1)]

    for stream, chosen in ((RESIDUAL, accepted < count), (DRAW, accepted == count)):
        for i in np.unique(accepted[chosen]):
            here = every[chosen & (accepted == i)]
            law = x = _law(p, here, i, "target_logits")
            if stream == RESIDUAL:
                x = log_residual(law, _law(q, here, i, "draft_logits"))
            token, _ = inverse_cdf(x, _like_wide(uniform(stream, i)[here], p))
            emitted[here, i] = to_numpy(token)
            log_probability[here, i] = _at(law, emitted[here, i])
    given = target_logits if is_array(target_logits) else p
    return Speculated(like(emitted, given), accepted, log_probability)


def _checked(draft_tokens: Array, draft_logits: Array, target_logits: Array) -> tuple[np.ndarray, Array, Array]:
    tokens = to_numpy(draft_tokens)
    q, p = as_logits(draft_logits, name="draft_logits"), as_logits(target_logits, name="target_logits")
    if tokens.ndim != 2 or (tokens.size and tokens.dtype.kind not in "iu"):
        raise ValueError(
            f"draft_tokens: must be integers of shape (requests, drafts); got {tokens.dtype} {tokens.shape}; reshape"
        )
    rows, drafts = tokens.shape
    states = p.shape[-1]
    for z, name, places in ((q, "draft_logits", drafts), (p, "target_logits", drafts + 1)):
        if tuple(z.shape) != (rows, places, states):
            raise ValueError(
                f"{name}: must have shape (requests, {'drafts' if z is q else 'drafts + 1'}, states), "
                f"{(rows, places, states)} here; got {tuple(z.shape)}; reshape, or cut"
            )
    tokens = tokens.astype(np.int64)
    if (tokens >= states).any():
        raise ValueError(f"draft_tokens: must be below the {states} states; got {tokens.max()}; give token numbers")
    if ((tokens[:, 1:] >= 0) & (tokens[:, :-1] < 0)).any():
        raise ValueError("draft_tokens: -1 must come after the last draft of a request; got a draft after it; move it")
    return tokens, q, p


def _uniform(seed: Any, request: Any, position: Any, rows: int) -> Any:
    """Numbers of a stream, some positions ahead: one a request, which are told apart as in `Pipeline.sample`."""
    seeds, first = as_words(seed, "seed"), as_words(position, "position")
    if request is None:
        request = np.arange(rows) if seeds.ndim == 0 else 0
    requests = as_words(request, "request")
    for word, name in ((seeds, "seed"), (first, "position"), (requests, "request")):
        if word.shape not in ((), (rows,)):
            raise ValueError(f"{name}: must be one number or one a request, shape ({rows},); got {word.shape}")

    def numbers(stream: int, ahead: int) -> np.ndarray:
        return np.array(np.broadcast_to(uniforms(seeds, requests, first + np.uint64(ahead), stream), (rows,)))

    return numbers


def _wide(z: Array) -> Array:
    xp = namespace(z)
    return xp.astype(z, xp.float64)


def _like_wide(values: np.ndarray, z: Array) -> Array:
    return _wide(like(values, z))


def _law(z: Array, rows: np.ndarray, place: int, name: str) -> Array:
    """log p of some requests at one place, float64, of the kind of z."""
    part = z[:, int(place)]
    if len(rows) < part.shape[0]:
        part = part[like(rows, z)]
    require_rows(namespace(part).max(part, axis=-1), name, numbers=rows)
    return log_softmax(_wide(part), check=False)


def _at(log_p: Array, tokens: np.ndarray) -> np.ndarray:
    return to_numpy(namespace(log_p).take_along_axis(log_p, like(tokens[:, None], log_p), axis=-1))[:, 0]
