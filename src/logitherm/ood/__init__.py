"""Out-of-distribution scores, all of them free energies, and how well they tell rows apart."""

from logitherm.ood.evaluation import Detection, detection
from logitherm.ood.scores import (
    entropy_score,
    free_energy_score,
    generalized_entropy_score,
    max_logit_score,
    max_softmax_score,
    odin_score,
)

__all__ = [
    "Detection",
    "detection",
    "entropy_score",
    "free_energy_score",
    "generalized_entropy_score",
    "max_logit_score",
    "max_softmax_score",
    "odin_score",
]
