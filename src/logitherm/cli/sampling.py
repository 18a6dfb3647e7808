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
# What an engine calls an option, where it is not its own name; each number of it where it has several.
ALIASES = {
    "typical": ("typical_p",),
    "epsilon": ("epsilon_cutoff",),
    "eta": ("eta_cutoff",),
    "repetition_penalty": ("repeat_penalty",),
    "dry": ("dry_multiplier", "dry_base", "dry_allowed_length"),
    "xtc": ("xtc_probability", "xtc_threshold"),
    "mirostat": ("mirostat_ent", "mirostat_lr"),
}
# In this order where there is no preset: the temperature before what is truncated.
PENALTIES = {
    "repetition_penalty": "RepetitionPenalty",
    "presence_penalty": "PresencePenalty",
    "frequency_penalty": "FrequencyPenalty",
    "dry": "DRY",
}
STEPS = {
    "top_n_sigma": "TopNSigma",
    "top_k": "TopK",
    "top_p": "TopP",
    "min_p": "MinP",
    "typical": "Typical",
    "epsilon": "Epsilon",
    "eta": "Eta",
    "top_h": "TopH",
    "p_less": "PLess",
    "xtc": "XTC",
    "mirostat": "Mirostat",
}
THERMOSTATS = {"edt": "EDT", "dynamic_temperature": "DynamicTemperature", "surprise_rate": "SurpriseRate"}


@dataclass(frozen=True)
class Knobs:
    """What may be asked for; None where nothing is."""

    temperature: float | None = None
    target_entropy: float | None = None
    edt: tuple[float, ...] | None = None
    dynamic_temperature: tuple[float, ...] | None = None
    surprise_rate: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical: float | None = None
    top_n_sigma: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry: tuple[float, ...] | None = None
    epsilon: float | None = None
    eta: float | None = None
    top_h: float | None = None
    p_less: tuple[()] | None = None
    xtc: tuple[float, ...] | None = None
    mirostat: tuple[float, ...] | None = None
    preset: str | None = None
    calibrator: Path | None = None


def pipeline_of(knobs: Knobs, vocabulary: int) -> Pipeline:
    """Penalties, the calibrator's temperature, and then the engine's own order, or temperature before truncation."""
    from logitherm import generation

    given = {name: getattr(knobs, name) for name in (*PENALTIES, *STEPS) if getattr(knobs, name) is not None}
    temperature = _temperature(knobs)
    if knobs.preset is not None:
        steps = list(_preset(knobs.preset, given, temperature).steps)
    else:
        asked = [(name, kind, given[name]) for name, kind in PENALTIES.items() if name in given]
        if temperature is not None:
            asked.append(("temperature", "Temperature", temperature))
        asked += [(name, kind, given[name]) for name, kind in STEPS.items() if name in given]
        steps = [_sound(name, kind, value, vocabulary) for name, kind, value in asked]
    if knobs.calibrator is not None:
        base = generation.Temperature(_base(knobs.calibrator, vocabulary))
        first = next((i for i, step in enumerate(steps) if not step.needs_history), len(steps))
        steps.insert(first, base)
    return _tried(steps, vocabulary)


def _tried(steps: list[Any], vocabulary: int) -> Pipeline:
    """The pipeline, after one draw: what is out of range shows before the first token."""
    import numpy as np

    from logitherm.generation import Pipeline

    pipeline = Pipeline(steps)
    pipeline.sample(np.zeros((1, vocabulary), dtype=np.float32), seed=0, position=0, history=[[0]])
    return pipeline


def _sound(option: str, kind: str, value: Any, vocabulary: int) -> Any:
    """A step whose errors name the option."""
    try:
        step = _made(kind, value)
        _tried([step], vocabulary)
    except ValueError as error:
        rest = str(error).partition(": ")[2].replace("request 0 has", "got").replace(", or clamp=True", "")
        raise ValueError(f"--{option.replace('_', '-')}: {rest}") from error
    return step


def _made(kind: str, value: Any) -> Any:
    """A step or a thermostat of one number, or of several."""
    from logitherm import generation

    return getattr(generation, kind)(*(value if isinstance(value, tuple) else (value,)))


def written(pipeline: Pipeline) -> str:
    """The pipeline as it is called in Python, without the remark on how it runs."""
    return repr(pipeline).split("  # CPU")[0]


def _temperature(knobs: Knobs) -> Any:
    """A number or a thermostat; None where nothing is said of it."""
    names = ("temperature", "target_entropy", *THERMOSTATS)
    given = [name for name in names if getattr(knobs, name) is not None]
    if len(given) > 1:
        raise click.UsageError(" and ".join(f"--{n.replace('_', '-')}" for n in given) + " exclude each other.")
    if knobs.target_entropy is not None:
        from logitherm.thermostat import SetPoint

        return SetPoint(entropy=knobs.target_entropy)
    for name, kind in THERMOSTATS.items():
        if getattr(knobs, name) is not None:
            return _made(kind, getattr(knobs, name))
    return knobs.temperature


def _preset(name: str, given: dict[str, Any], temperature: Any) -> Pipeline:
    from logitherm.generation.presets import PRESETS as MAKERS

    make = MAKERS[name]
    known = inspect.signature(make).parameters
    settings: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
    for option, value in given.items():
        theirs = [n for n in (*ALIASES.get(option, ()), option) if n in known]
        if not theirs:
            raise click.UsageError(
                f"--{option.replace('_', '-')} is not among what {name} has; leave it or --preset out."
            )
        settings |= zip(theirs, value if isinstance(value, tuple) else (value,))
        if option == "mirostat":
            settings["mirostat"] = 2
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
