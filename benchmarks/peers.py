"""Temperatures fitted by other libraries, the exact answer, and a problem to try them on.

Every `fit_*` takes logits (float32, n x K) and labels (int64, n) and returns the temperature T
of softmax(logits / T). Each is called as its documentation or source asks; whatever a peer needs
besides (probabilities, tensors) is made inside the function, so that its time counts. Peers are
imported where they are used: one that is missing does not stop the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]

# Rows are taken in blocks of about this many numbers (32 MiB of float64).
BLOCK = 1 << 22


def set_threads(threads: int) -> None:
    """Limit torch, and every BLAS and OpenMP pool that is loaded, to this many threads.

    scikit-learn's own loop takes one thread whatever is asked here.
    """
    import threadpoolctl
    import torch

    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads)


def fit_sklearn(logits: Floats, labels: Labels) -> float:
    """Fit scikit-learn's private `_TemperatureScaling`: bounded Brent on log(1/T).

    The public way to it, `CalibratedClassifierCV(method="temperature")`, wants an estimator
    around the logits. The class takes 2-D input as logits unless all of it looks like
    probabilities. It works in the dtype of its input.
    """
    from sklearn.calibration import _TemperatureScaling

    return 1.0 / float(_TemperatureScaling().fit(logits, labels).beta_)


def fit_netcal(logits: Floats, labels: Labels) -> float:
    """Fit netcal's `TemperatureScaling` on float64 probabilities, the only input it takes."""
    return _netcal(logits.astype(np.float64), labels)


def fit_netcal_float32(logits: Floats, labels: Labels) -> float:
    """Fit netcal on float32 probabilities, what a float32 network hands it.

    Its finite differences vanish in a float32 loss, so it stops at its start, T = 1
    (EFS-OpenSource/calibration-framework issue 61).
    """
    return _netcal(logits.astype(np.float32), labels)


def _netcal(logits: Floats, labels: Labels) -> float:
    from netcal.scaling import TemperatureScaling
    from scipy.special import softmax

    probabilities = softmax(logits, axis=1)
    scaling = TemperatureScaling().fit(probabilities, labels, tensorboard=False)
    # What netcal calls temperature multiplies the logits: it is 1/T.
    return 1.0 / float(np.ravel(scaling.temperature)[0])


def fit_probmetrics(logits: Floats, labels: Labels) -> float:
    """Fit probmetrics' `temp-scaling`: 30 bisections on the derivative in log(1/T)."""
    import torch
    from probmetrics.calibrators import get_calibrator
    from probmetrics.distributions import CategoricalLogits

    calibrator = get_calibrator("temp-scaling")
    calibrator.fit_torch(CategoricalLogits(torch.from_numpy(logits)), torch.from_numpy(labels))
    return 1.0 / float(calibrator.invtemp_)


def fit_torch_lbfgs(logits: Floats, labels: Labels, max_iter: int = 50) -> float:
    """Fit T with torch's LBFGS, the recipe published with Guo et al. (2017) and copied since.

    T itself is the parameter, starting at 1.5, with LBFGS at learning rate 0.01 on the mean
    cross-entropy. The repository gpleiss/temperature_scaling took 50 iterations until July 2025
    and takes 200 since (`fit_torch_lbfgs_200`).
    """
    import torch

    scores, targets = torch.from_numpy(logits), torch.from_numpy(labels)
    temperature = torch.nn.Parameter(torch.tensor([1.5]))
    optimizer = torch.optim.LBFGS([temperature], lr=0.01, max_iter=max_iter)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(scores / temperature, targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(temperature.detach())


def fit_torch_lbfgs_200(logits: Floats, labels: Labels) -> float:
    """Fit the same recipe with the 200 iterations its repository takes since July 2025."""
    return fit_torch_lbfgs(logits, labels, max_iter=200)


PEERS: dict[str, Callable[[Floats, Labels], float]] = {
    "scikit-learn": fit_sklearn,
    "probmetrics": fit_probmetrics,
    "netcal": fit_netcal,
    "netcal, float32": fit_netcal_float32,
    "torch LBFGS, 50 steps": fit_torch_lbfgs,
    "torch LBFGS, 200 steps": fit_torch_lbfgs_200,
}


def newton_float64(logits: Floats, labels: Labels) -> float:
    """Return the maximum-likelihood temperature to about 1e-14: the truth the others are held to.

    Safeguarded Newton in u = log(1/T) on the score, the mean of <z>_T - z_label, which rises
    with u. Float64 throughout and summed exactly over blocks of rows. Raises ValueError where
    no temperature between exp(-30) and exp(30) is a root.
    """
    low, high, u, last = -30.0, 30.0, 0.0, math.inf
    for _ in range(200):
        score, variance = _score(logits, labels, math.exp(u))
        if score > 0:
            high = u
        else:
            low = u
        slope = math.exp(u) * variance
        step = -score / slope if slope > 0 else math.inf
        inside = low < u + step < high
        # Rounding sets the floor: a step this small that no longer shrinks is noise.
        if abs(step) < 1e-15 or (abs(step) < 1e-13 and abs(step) >= abs(last)):
            return math.exp(-u)
        if high - low < 1e-13:
            break
        u, last = (u + step, step) if inside else (0.5 * (low + high), math.inf)
    if high == 30.0 or low == -30.0:
        raise ValueError("no temperature between exp(-30) and exp(30) maximises the likelihood")
    return math.exp(-u)


def _score(logits: Floats, labels: Labels, beta: float) -> tuple[float, float]:
    """Return the means over rows of <z> - z_label and of the variance of z, at beta = 1/T."""
    rows = max(1, BLOCK // logits.shape[1])
    scores, variances = [], []
    for start in range(0, len(logits), rows):
        block = logits[start : start + rows].astype(np.float64)
        # Only differences to the largest logit matter, and they cannot overflow.
        block -= block.max(axis=1, keepdims=True)
        chosen = block[np.arange(len(block)), labels[start : start + rows]]
        weights = np.exp(beta * block)
        weights /= weights.sum(axis=1, keepdims=True)
        mean = np.einsum("ij,ij->i", weights, block)
        block -= mean[:, None]
        scores.append(math.fsum(mean - chosen))
        variances.append(math.fsum(np.einsum("ij,ij,ij->i", weights, block, block)))
    return math.fsum(scores) / len(logits), math.fsum(variances) / len(logits)


def synthetic(n: int, classes: int, seed: int, sharpness: float = 1.6) -> tuple[Floats, Labels]:
    """Return overconfident logits and labels whose true temperature is `sharpness`.

    Latent logits g are Gaussian noise with one class lifted per row, by a random margin over
    log(classes - 1), so that accuracy stays near 75 % for any number of classes. Labels are
    DRAWN from softmax(g), so g is calibrated by construction; what comes back is
    sharpness * g, and the fitted temperature differs from `sharpness` by sampling error only.
    """
    rng = np.random.default_rng(seed)
    logits = np.empty((n, classes), np.float32)
    labels = np.empty(n, np.int64)
    rows = max(1, BLOCK // classes)
    for start in range(0, n, rows):
        block = logits[start : start + rows]
        rng.standard_normal(out=block, dtype=np.float32)
        size = len(block)
        lifted = rng.integers(classes, size=size)
        # exp of the noise has mean exp(1/2): the margin is then the log-odds of the lifted class.
        margin = math.log(max(classes - 1, 1)) + 0.5 + rng.normal(1.7, 1.8, size)
        block[np.arange(size), lifted] += margin
        # The class with the largest g + Gumbel noise is a draw from softmax(g).
        labels[start : start + size] = np.argmax(block + rng.gumbel(size=block.shape), axis=1)
        block *= sharpness
    return logits, labels
