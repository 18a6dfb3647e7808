"""Sampling from language models."""

from logitherm.generation.draws import Draws
from logitherm.generation.pipeline import Pipeline
from logitherm.generation.speculative import Speculated, draft, speculate
from logitherm.generation.steps import (
    DRY,
    XTC,
    Context,
    Epsilon,
    Eta,
    FrequencyPenalty,
    MinP,
    Mirostat,
    PLess,
    PresencePenalty,
    RepetitionPenalty,
    Step,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    TopP,
    Typical,
)

__all__ = [
    "DRY",
    "XTC",
    "Context",
    "Draws",
    "Epsilon",
    "Eta",
    "FrequencyPenalty",
    "MinP",
    "Mirostat",
    "PLess",
    "Pipeline",
    "PresencePenalty",
    "RepetitionPenalty",
    "Speculated",
    "Step",
    "Temperature",
    "TopH",
    "TopK",
    "TopNSigma",
    "TopP",
    "Typical",
    "draft",
    "speculate",
]
