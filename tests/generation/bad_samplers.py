"""Samplers that are wrong in ways that were met in the wild, for the kit to find."""

import numpy as np
import torch

from logitherm import softmax
from logitherm.generation.noise import uniforms


def gumbel_of_groups(largest):
    """Gumbel-max where `largest(rng, m, n)` is the largest of m numbers of noise, n times.

    States of equal logits are one group, of which only the largest noise can win: the law of one number a state, at the
    price of one a group.
    """

    def draw(logits, n, seed):
        rng = np.random.default_rng(seed)
        values, which, counts = np.unique(logits, return_inverse=True, return_counts=True)
        scores = np.stack(
            [np.float32(v) + largest(rng, m, n).astype(np.float32) for v, m in zip(values, counts)], axis=1
        )
        group = scores.argmax(axis=1)
        members, starts = np.argsort(which, kind="stable"), np.cumsum(counts) - counts
        return members[starts[group] + (rng.random(n) * counts[group]).astype(np.int64)]

    return draw


def double_log_float32(rng, m, n):
    """-log(-log(u)), u a multiple of 2^-24 in float32, as torch.rand has it."""
    k = np.ceil(2.0**24 * rng.random(n) ** (1 / m)) - 1
    with np.errstate(divide="ignore"):
        return -np.log(-np.log((k * 2.0**-24).astype(np.float32)))


def capped(rng, m, n):
    """Exact noise but for a cap of 15.9."""
    return np.minimum(-np.log(rng.exponential(size=n) / m), 15.9)


def exact(rng, m, n):
    """A right one, to tell the noise from the way of drawing."""
    return -np.log(rng.exponential(size=n) / m)


def bfloat16_cumsum(logits, n, seed):
    """Inverse of a cumulative distribution kept in bfloat16."""
    p = torch.softmax(torch.as_tensor(np.atleast_2d(logits)), dim=-1)
    height = torch.cumsum(p.to(torch.bfloat16), dim=-1).float()
    u = torch.rand((n, 1), generator=torch.Generator().manual_seed(int(seed))) * height[:, -1:]
    if logits.ndim == 1:
        found = torch.searchsorted(height[0].cummax(0).values, u[:, 0], right=True)
    else:
        found = torch.searchsorted(height.cummax(1).values, u, right=True)[:, 0]
    return found.clamp(max=logits.shape[-1] - 1).numpy()


def without_tail(logits, n, seed):
    """The least likely states that make up 10 % are never drawn."""
    p = softmax(np.atleast_2d(logits).astype(np.float64))
    order = np.argsort(-p, axis=1)
    ordered = np.take_along_axis(p, order, axis=1)
    ordered[np.cumsum(ordered, axis=1) - ordered >= 0.9] = 0
    height = np.cumsum(ordered, axis=1)
    u = np.random.default_rng(seed).random((n, 1)) * height[:, -1:]
    if logits.ndim == 1:
        return order[0, np.searchsorted(height[0], u[:, 0], side="right")]
    return np.take_along_axis(order, (height > u).argmax(axis=1)[:, None], axis=1)[:, 0]


def float16_multinomial(logits, n, seed):
    """torch.multinomial of probabilities in float16."""
    p = torch.softmax(torch.as_tensor(logits), dim=-1).to(torch.float16)
    generator = torch.Generator().manual_seed(int(seed))
    if logits.ndim == 1:
        return torch.multinomial(p, n, replacement=True, generator=generator).numpy()
    return torch.multinomial(p, 1, generator=generator)[:, 0].numpy()


def of_the_row(logits, n, seed):
    """Right in law, but the noise is that of the row of the batch."""
    u = uniforms(seed, np.arange(n), 0, 0)
    height = np.cumsum(softmax(np.atleast_2d(logits).astype(np.float64)), axis=1)
    if logits.ndim == 1:
        return np.searchsorted(height[0], u * height[0, -1], side="right")
    return (height > (u * height[:, -1])[:, None]).argmax(axis=1)


def same_for_neighbours(logits, n, seed):
    """Right in every row, but two rows share their noise."""
    u = uniforms(seed if np.ndim(seed) == 0 else np.asarray(seed)[0], np.arange(n) // 2, 0, 0)
    height = np.cumsum(softmax(np.atleast_2d(logits).astype(np.float64)), axis=1)
    return (height > (u * height[:, -1])[:, None]).argmax(axis=1)
