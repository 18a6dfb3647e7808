"""The pipeline that the options of `logitherm generate` ask for."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from logitherm.generation import Pipeline

PRESETS = ("hf", "vllm", "sglang", "llama.cpp")
# What an engine calls an option, where it is not its own name.
ALIASES = {"typical": ("typical_p",), "repetition_penalty": ("repeat_penalty",)}
# In this order where there is no preset: the temperature before what is truncated.
STEPS = {
    "top_n_sigma": "TopNSigma",
    "top_k": "TopK",
    "top_p": "TopP",
    "min_p": "MinP",
    "typical": "Typical",
}
PENALTIES = {
    "repetition_penalty": "RepetitionPenalty",
    "presence_penalty": "PresencePenalty",
    "frequency_penalty": "FrequencyPenalty",
}


@dataclass(frozen=True)
class Knobs:
    """What may be asked for; None where nothing is."""

    temperature: float | None = None
    target_entropy: float | None = None
    edt: tuple[float, float] | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical: float | None = None
    top_n_sigma: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    preset: str | None = None
    calibrator: Path | None = None


def pipeline_of(knobs: Knobs, vocabulary: int) -> Pipeline:
    """Penalties, the calibrator's temperature, and then the engine's own order, or temperature before truncation."""
    import numpy as np

    from logitherm import generation
    from logitherm.generation import Pipeline

    given = {name: getattr(knobs, name) for name in (*PENALTIES, *STEPS) if getattr(knobs, name) is not None}
    temperature = _temperature(knobs)
    if knobs.preset is not None:
        steps = list(_preset(knobs.preset, given, temperature).steps)
    else:
        steps = [getattr(generation, kind)(given[name]) for name, kind in PENALTIES.items() if name in given]
        if temperature is not None:
            steps.append(generation.Temperature(temperature))
        steps += [getattr(generation, kind)(given[name]) for name, kind in STEPS.items() if name in given]
    if knobs.calibrator is not None:
        base = generation.Temperature(_base(knobs.calibrator, vocabulary))
        first = next((i for i, step in enumerate(steps) if not step.needs_history), len(steps))
        steps.insert(first, base)
    pipeline = Pipeline(steps)
    nothing = np.zeros((1, vocabulary), dtype=np.float32)
    pipeline.sample(nothing, seed=0, position=0, history=[[0]])  # what is out of range shows before the first token
    return pipeline


def written(pipeline: Pipeline) -> str:
    """The pipeline as it is called in Python, without the remark on how it runs."""
    return repr(pipeline).split("  # CPU")[0]


def _temperature(knobs: Knobs) -> Any:
    """A number or a thermostat; None where nothing is said of it."""
    names = ("temperature", "target_entropy", "edt")
    given = [name for name in names if getattr(knobs, name) is not None]
    if len(given) > 1:
        raise click.UsageError(" and ".join(f"--{n.replace('_', '-')}" for n in given) + " exclude each other.")
    if knobs.target_entropy is not None:
        from logitherm.thermostat import SetPoint

        return SetPoint(entropy=knobs.target_entropy)
    if knobs.edt is not None:
        from logitherm.generation import EDT

        return EDT(*knobs.edt)
    return knobs.temperature


def _preset(name: str, given: dict[str, Any], temperature: Any) -> Pipeline:
    from logitherm.generation.presets import PRESETS as MAKERS

    make = MAKERS[name]
    known = inspect.signature(make).parameters
    settings: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
    for option, value in given.items():
        theirs = next((n for n in (option, *ALIASES.get(option, ())) if n in known), None)
        if theirs is None:
            raise click.UsageError(f"--{option.replace('_', '-')} is not among what {name} has; leave one of them out.")
        settings[theirs] = value
    made: Pipeline = make(**settings)
    return made


def _base(path: Path, vocabulary: int) -> Any:
    """The temperature of a saved calibrator of this model's tokens."""
    from logitherm.calibration import TruncatedTemperatureScaling, load_calibrator
    from logitherm.io import InputError, require_file

    require_file(path, f"make one with `logitherm calibrate ... --save {path.name}`")
    fitted: Any = load_calibrator(path)
    if isinstance(fitted, TruncatedTemperatureScaling):
        return float(fitted.temperature_)
    if not hasattr(fitted, "resolve"):
        raise InputError(
            f"{path}: must be a calibrator that is a temperature (--method temperature or parametric); got "
            f"{type(fitted).__name__}; fit one of these"
        )
    if fitted.n_features_in_ != vocabulary:
        raise InputError(
            f"{path}: must be fitted to the {vocabulary} tokens of the model; got {fitted.n_features_in_} classes; fit "
            "it to logits of tokens"
        )
    return fitted
