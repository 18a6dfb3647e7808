"""The temperature of data: classifiers whose temperature follows from the spread of the data itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from logitherm.prototypes.assumption import AssumptionCheck, check_assumption
from logitherm.prototypes.classifier import PrototypeClassifier

if TYPE_CHECKING:
    from logitherm.prototypes.episodes import Episode, episode
    from logitherm.prototypes.few_shot import (
        FewShotHead,
        prototype_logits,
        within_class_covariance,
        within_class_variance,
    )

__all__ = [
    "AssumptionCheck",
    "Episode",
    "FewShotHead",
    "PrototypeClassifier",
    "check_assumption",
    "episode",
    "prototype_logits",
    "within_class_covariance",
    "within_class_variance",
]


def __getattr__(name: str) -> Any:
    if name in ("Episode", "episode"):  # these need PyTorch, which the others do not
        from logitherm.prototypes import episodes

        return getattr(episodes, name)
    if name in __all__:
        from logitherm.prototypes import few_shot

        return getattr(few_shot, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
