"""The Gibbs distribution of logits at a temperature: probabilities, state functions, mergeable states, samples."""

from logitherm.gibbs.functions import (
    entropy,
    free_energy,
    heat_capacity,
    log_partition,
    log_softmax,
    mean_energy,
    softmax,
)
from logitherm.gibbs.linear import LinearState, linear_state
from logitherm.gibbs.sampling import sample
from logitherm.gibbs.state import GibbsState

__all__ = [
    "GibbsState",
    "LinearState",
    "entropy",
    "free_energy",
    "heat_capacity",
    "linear_state",
    "log_partition",
    "log_softmax",
    "mean_energy",
    "sample",
    "softmax",
]
