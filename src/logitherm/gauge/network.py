"""The identity of `stationarity` for every layer of a PyTorch network, with the whole gradient beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from logitherm._array import describe
from logitherm._labels import as_labels, as_weights
from logitherm.gauge.stationarity import Rows, Stationarity, as_penalty, squared_norm
from logitherm.gibbs import log_softmax
from logitherm.metrics.options import as_count

PROBED = 64  # rows on which the growth of the logits is seen
EXACT = 1e-4  # relative to the largest logit: the rounding of float32 through some layers


def network_stationarity(
    network: torch.nn.Module,
    inputs: Tensor,
    labels: Any,
    *,
    penalty: float | None = None,
    weight_decay: float | None = None,
    reduction: str = "mean",
    weights: Any = None,
    batch_size: int = 1024,
) -> Stationarity:
    """Whether a network without biases, trained with L2, is at its optimum: E[z_y - E_p z] = 2 penalty ||W||^2.

    The left side is one number, the right side one a layer. That the logits grow as each layer does is seen on the
    first rows, with every weight doubled in turn; so any network of linear layers and convolutions, ReLU or leaky
    ReLU, pooling and scaling will do, and one with biases, GELU or normalisation is refused. Of such a network
    `stationarity` looks at the last layer.

    The network is called in evaluation mode and left as it was. With dropout, augmentation or label smoothing the
    minimum that training goes for is another one.

    Parameters
    ----------
    network : torch.nn.Module
        Maps a batch of inputs to logits (rows, classes). Parameters that need no gradient are taken as given.
    inputs : tensor, shape (n, ...)
        All training rows.
    labels : integer array, shape (n,)
        Of these rows.
    penalty, weight_decay, reduction
        As for `stationarity`: weight_decay as in torch.optim.SGD and Adam, for all parameters; not that of AdamW.
    weights : array, shape (n,)
        Nonnegative weights of the rows in the loss; the mean is weighted.
    batch_size : int
        Rows of a call of the network.

    Returns
    -------
    Stationarity
        With a layer for every parameter, and `gradient`.

    Raises
    ------
    TypeError
        Anything else than a module and a tensor.
    ValueError
        A network whose logits do not double with one of its weights, which is named; nothing to train; no rows; labels
        and penalty as for `stationarity`.

    References
    ----------
    As for `stationarity`.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> x = torch.randn(60, 5, dtype=torch.float64)
    >>> layers = torch.nn.Linear(5, 8, bias=False), torch.nn.ReLU(), torch.nn.Linear(8, 3, bias=False)
    >>> network, y = torch.nn.Sequential(*layers).double(), x[:, :3].argmax(dim=1)
    >>> optimizer = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9, weight_decay=0.02)
    >>> for _ in range(500):
    ...     optimizer.zero_grad()
    ...     torch.nn.functional.cross_entropy(network(x), y).backward()
    ...     optimizer.step()
    >>> found = network_stationarity(network, x, y, weight_decay=0.02)
    >>> round(found.score, 2), [round(layer.expected, 2) for layer in found.layers]
    (0.22, [0.22, 0.22])
    """
    if not isinstance(network, torch.nn.Module) or not isinstance(inputs, Tensor):
        wrong = inputs if isinstance(network, torch.nn.Module) else network
        raise TypeError(f"network, inputs: must be a torch module and a tensor; got {describe(wrong)}; convert it")
    if inputs.ndim == 0 or not len(inputs):
        raise ValueError(f"inputs: must have at least one row; got {describe(inputs)}; give the training rows")
    as_count(batch_size, "batch_size", 1)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError("network: must have parameters that need a gradient; got none; requires_grad_ sets them free")
    with evaluating(network):
        _require_growth(network, trained, inputs[:PROBED])
        with torch.no_grad():
            logits = torch.cat([network(batch) for batch in inputs.split(batch_size)])
        rows = Rows(logits, labels, weights)
        strength = as_penalty(penalty, weight_decay, reduction, rows.total)
        slopes = _slopes(network, list(trained.values()), inputs, logits.shape[-1], labels, weights, batch_size)
    pull = [2 * strength * p.detach().double() for p in trained.values()]
    size = math.sqrt(sum(float((p**2).sum()) for p in pull))
    left = math.sqrt(sum(float(((slope + p) ** 2).sum()) for slope, p in zip(slopes, pull)))
    gradient = left / size if size > 0 else math.inf if left > 0 else 0.0
    return rows.against({name: squared_norm(name, p) for name, p in trained.items()}, strength, gradient)


@contextmanager
def evaluating(network: torch.nn.Module) -> Iterator[None]:
    """In evaluation mode for a while, every module back in its own afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def _require_growth(network: torch.nn.Module, trained: Mapping[str, Tensor], inputs: Tensor) -> None:
    """Raise unless the logits double with every weight: a doubling is exact in floating point."""
    logits = network(inputs)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(inputs):
        raise ValueError(f"network: must give logits (rows, classes); got {describe(logits)} for {len(inputs)} rows")
    allowed = EXACT * 2 * float(logits.abs().max())
    for name, value in trained.items():
        doubled = functional_call(network, {name: 2 * value}, (inputs,))
        if float((doubled - 2 * logits).abs().max()) > allowed:
            raise ValueError(
                f"network: logits must double with every weight; got others when {name} doubles, so biases, "
                "normalisation or smooth activations are in it; give stationarity its logits and last layer instead"
            )


def _slopes(
    network: torch.nn.Module,
    parameters: list[Tensor],
    inputs: Tensor,
    classes: int,
    labels: Any,
    weights: Any,
    batch_size: int,
) -> list[Tensor]:
    """Of the mean cross-entropy in every parameter, batch by batch, in float64."""
    known = torch.from_numpy(as_labels(labels, (len(inputs),), classes)).to(inputs.device)
    flat = as_weights(weights, (len(inputs),))
    w = torch.ones(len(inputs), dtype=torch.float64) if flat is None else torch.from_numpy(flat)
    w = (w / w.sum()).to(inputs.device)
    total = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
    for x, y, share in zip(inputs.split(batch_size), known.split(batch_size), w.split(batch_size)):
        log_p = log_softmax(network(x)).gather(1, y[:, None])[:, 0]
        slopes = torch.autograd.grad(-(log_p * share.to(log_p.dtype)).sum(), parameters)
        total = [old + new for old, new in zip(total, slopes)]
    return total
