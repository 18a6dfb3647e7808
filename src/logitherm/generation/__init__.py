"""Sampling from language models."""

from logitherm.generation import presets
from logitherm.generation.draws import Draws
from logitherm.generation.pipeline import Pipeline
from logitherm.generation.presets import preset
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
    "Step",
    "Temperature",
    "TopH",
    "TopK",
    "TopNSigma",
    "TopP",
    "Typical",
    "preset",
    "presets",
]
