"""Sampling from language models."""

from logitherm.generation import presets
from logitherm.generation.draws import Draws
from logitherm.generation.pipeline import Pipeline
from logitherm.generation.presets import preset
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
from logitherm.generation.thermostats import EDT, DynamicTemperature, SurpriseRate, equal_entropy_temperature

__all__ = [
    "DRY",
    "EDT",
    "XTC",
    "Context",
    "Draws",
    "DynamicTemperature",
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
    "SurpriseRate",
    "Temperature",
    "TopH",
    "TopK",
    "TopNSigma",
    "TopP",
    "Typical",
    "draft",
    "equal_entropy_temperature",
    "preset",
    "presets",
    "speculate",
]
