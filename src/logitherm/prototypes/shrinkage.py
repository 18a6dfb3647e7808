"""How far to trust class means, and class variances, given how far they differ: empirical Bayes.

The variance between class means has a flat prior; its posterior is a law over a grid, with all else in closed form for
every point of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import digamma, polygamma

from logitherm._solve import find_root
from logitherm.gibbs import softmax
from logitherm.kernels import exponential

POINTS, ZOOMS, REACH = 256, 3, 40.0  # of the grid; what is exp(-REACH) below the mode is left out
RATIOS = 16.0  # log of (variance between over noise of a mean), either way


class ShrunkMeans(NamedTuple):
    prototypes: np.ndarray  # (classes, dims), posterior means of the class means
    reliability: np.ndarray  # (classes,), the share of a mean's deviation that is kept
    variance: np.ndarray  # (classes,), posterior variance of the class means, in each dimension


def shrink_means(means: np.ndarray, noise: np.ndarray, dims: int) -> ShrunkMeans:
    """Posterior of class means mu_k ~ N(m, t I), observed with variance noise_k; m and t have flat priors.

    For equal noise e and q = dims (classes - 1) this is Stein's harmonic prior: reliability 1 - (q - 2) e / sum of
    squares about the mean, kept above 0 smoothly. With q <= 2 a flat prior on t leaves nothing to shrink by.
    """
    centre = means.mean(axis=0)
    x = means - centre
    if dims * (len(means) - 1) <= 2:
        return ShrunkMeans(means, np.ones(len(means)), noise)
    unit = noise[0] if (noise == noise[0]).all() else noise.mean()
    squares = np.einsum("ij,ij->i", x, x)

    def log_likelihood(ratio: np.ndarray) -> np.ndarray:
        w = 1 / (ratio[:, None] + noise / unit)
        total = w.sum(axis=1)
        between = w @ squares - ((w @ x) ** 2).sum(axis=1) / total
        return 0.5 * dims * (np.log(w).sum(axis=1) - np.log(total)) - 0.5 * between / unit

    ratio, weight = posterior(log_likelihood)
    w = 1 / (ratio[:, None] + noise / unit)
    total = w.sum(axis=1, keepdims=True)
    kept = ratio[:, None] * w
    grand = (w @ x) / total
    prototypes = (weight @ kept)[:, None] * x + (weight[:, None] * (1 - kept)).T @ grand
    share, variance = weight @ kept, weight @ (kept * noise + unit * (1 - kept) ** 2 / total)
    if (noise == unit).all():  # alike to the last bit, which the order of a sum is not
        share[:], variance[:] = share[0], variance[0]
    return ShrunkMeans(prototypes + centre, share, variance)


def reliability(squares: np.ndarray, degrees: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """The reliability of means with equal noise, and its slope in `squares`; of any number of episodes at once.

    `squares` is the sum of squares of the means about their mean, over the noise of one mean in one dimension;
    degrees = dims (classes - 1), one number or one an episode.
    """
    a = np.asarray(squares, dtype=np.float64)
    q = np.broadcast_to(np.asarray(degrees, dtype=np.float64), a.shape)

    def log_likelihood(ratio: np.ndarray) -> np.ndarray:
        return -0.5 * q[..., None] * np.log1p(ratio) - 0.5 * a[..., None] / (1 + ratio)

    ratio, weight = posterior(log_likelihood, a.shape)
    noise = 1 / (1 + ratio)  # its share in a deviation: an exponential family in squares / 2
    kept = (weight * ratio * noise).sum(-1)
    slope = 0.5 * (weight * (noise - (1 - kept)[..., None]) ** 2).sum(-1)
    return np.where(q <= 2, 1.0, kept), np.where(q <= 2, 0.0, slope)


def posterior(
    log_likelihood: Callable[[np.ndarray], np.ndarray], batch: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of the posterior of a ratio in (0, inf) under a flat prior, on a grid that closes in on it."""
    low, high = np.full((*batch, 1), -RATIOS), np.full((*batch, 1), RATIOS)
    fractions = np.linspace(0, 1, POINTS)
    for zoom in range(ZOOMS):
        x = low + (high - low) * fractions
        ratio = np.asarray(exponential(x))
        log_density = log_likelihood(ratio) + x
        if zoom < ZOOMS - 1:
            near = log_density > log_density.max(axis=-1, keepdims=True) - REACH
            step = (high - low) / (POINTS - 1)
            first, last = near.argmax(-1)[..., None], POINTS - 1 - near[..., ::-1].argmax(-1)[..., None]
            low, high = low + step * (first - 1), low + step * (last + 1)
    return ratio, softmax(log_density)


def shrink_variances(squares: np.ndarray, degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances of classes and their degrees of freedom, drawn together as far as they agree.

    sigma_k^2 ~ s0^2 d0 / chi^2(d0); d0 and s0 are matched to mean and variance of the logarithms of the estimates. A
    class without a residual gets s0^2; d0 is infinite where the estimates differ by no more than chance.

    References
    ----------
    Smyth (2004), Linear models and empirical Bayes methods, section 6.2: closed forms and an inverse of trigamma.
    """
    some = (degrees > 0) & (squares > 0)
    half = degrees[some] / 2
    e = np.log(squares[some] / degrees[some]) - digamma(half) + np.log(half)
    pooled = squares.sum() / degrees.sum()
    excess = e.var(ddof=1) - polygamma(1, half).mean() if some.sum() > 1 else 0.0
    if excess <= 0:
        return np.full(len(squares), pooled), np.full(len(squares), math.inf)
    prior = 2 * inverse_trigamma(float(excess))
    spread = math.exp(e.mean() + digamma(prior / 2) - math.log(prior / 2))
    return (prior * spread + squares) / (prior + degrees), prior + degrees


def inverse_trigamma(value: float) -> float:
    """x > 0 with trigamma(x) = value; 1/trigamma increases and is nearly straight."""

    def difference(x: np.floating) -> tuple[np.floating, np.floating]:
        found = polygamma(1, x)
        return 1 / found - 1 / value, -polygamma(2, x) / found**2

    start = np.float64(0.5 + 1 / value)
    root = find_root(difference, start, np.float64(0.0), 2 * start, step_tolerance=1e-12 * float(start))
    return float(root.x)
