"""The steps of which pipelines are made."""

from logitherm.generation.steps.chance import XTC, Mirostat
from logitherm.generation.steps.context import Context, Step
from logitherm.generation.steps.penalties import DRY, FrequencyPenalty, PresencePenalty, RepetitionPenalty
from logitherm.generation.steps.temperature import Temperature
from logitherm.generation.steps.truncation import (
    Epsilon,
    Eta,
    MinP,
    PLess,
    TopH,
    TopK,
    TopNSigma,
    TopP,
    Truncation,
    Typical,
)

__all__ = [
    "DRY",
    "XTC",
    "Context",
    "Epsilon",
    "Eta",
    "FrequencyPenalty",
    "MinP",
    "Mirostat",
    "PLess",
    "PresencePenalty",
    "RepetitionPenalty",
    "Step",
    "Temperature",
    "TopH",
    "TopK",
    "TopNSigma",
    "TopP",
    "Truncation",
    "Typical",
]
