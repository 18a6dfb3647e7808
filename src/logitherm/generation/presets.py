"""The samplers of known engines as pipelines: their order of steps, their defaults, their clamping.

The same settings mean another law in every engine, so a setting that was tuned in one is not that of another. What
each does, as read in transformers 5.24, vLLM 0.33, SGLang 0.5.23 and llama.cpp as of 2026-11 (common/sampling.cpp):

| | `hf` | `vllm` | `sglang` | `llama_cpp` |
|---|---|---|---|---|
| 1. penalties | repetition | repetition, frequency, presence | frequency, presence, repetition | repetition, frequency, presence, DRY |
| tokens that count | all | all; frequency, presence: generated | generated | the last 64, prompt and generated |
| 2. then | T, top-H, k, p, min-p, typical, epsilon, eta | T, min-p, k, p | T, then k and p, both of the law at T; with min-p: k, p, min-p, one after the other | top-n-sigma, k, typical, p, min-p, XTC, T |
| truncated is | the law at T | the law at T | the law at T | the law at T = 1 |
| default T | 1 | 1 | 1 | 0.8 |
| default k, p, min-p | 50, 1, none | all, 1, 0 | all, 1, 0 | 40, 0.95, 0.05 |
| T = 0 | refused; here greedy, its limit | greedy below 1e-5 | greedy below 1e-6 | greedy, T < 0 too |
| other T | as it is | below 0.01 is 0.01; above 2 refused | as it is | as it is |
| k for all states | 0 or None | 0 or -1 | -1 | 0 or less |
| k beyond them | all | all | all | all |

Two things are not copied. Where logits tie at a threshold or at the top, an engine keeps or takes those that its sort
puts first; here they share one fate, kept or removed together and drawn with equal probability. And where an engine
stops at a number of candidates for speed, or rounds, here the law is that of the definition. Top-H is an exception:
what transformers does differs from the paper's rule (`TopH`) in more than rounding, so `hf` has a step of its own.

Numbers may be arrays with one entry a request, as engines that batch requests have it, and the temperature any
`Temperature` of this library, which is then not clamped.
"""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, is_array, namespace, to_numpy
from logitherm.generation.pipeline import Pipeline
from logitherm.generation.steps import (
    DRY,
    XTC,
    Context,
    Epsilon,
    Eta,
    FrequencyPenalty,
    MinP,
    Mirostat,
    PresencePenalty,
    RepetitionPenalty,
    Step,
    Temperature,
    TopK,
    TopNSigma,
    TopP,
    Truncation,
    Typical,
)
from logitherm.generation.steps.context import per_row, require
from logitherm.generation.steps.truncation import column, last_kept, sorted_law
from logitherm.generation.thermostats import DynamicTemperature

ALL = 2**31 - 1  # a number of states that no vocabulary has
NEARLY_ZERO = 5e-324  # a min-p that removes what float64 cannot tell from probability 0


def hf(
    temperature: Any = 1.0,
    *,
    top_k: Any = 50,
    top_p: Any = 1.0,
    min_p: Any = None,
    typical_p: Any = 1.0,
    epsilon_cutoff: Any = 0.0,
    eta_cutoff: Any = 0.0,
    top_h: Any = None,
    repetition_penalty: Any = 1.0,
) -> Pipeline:
    """What `generate(do_sample=True)` of transformers draws from, by the names of its `GenerationConfig`.

    Limits: T = 0, which transformers refuses, is greedy. A top_p of 0 keeps the most probable state, as there. Where
    logits tie at a threshold, which those of bfloat16 models often do, transformers keeps the ones that its sort has
    last, and here all are kept: a function of the law alone.

    Parameters
    ----------
    temperature : float, array of the batch shape, or Temperature
    top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, top_h, repetition_penalty : float or array
        None, or the value that keeps everything, leaves the step out. Mind the default top_k of 50.

    Returns
    -------
    Pipeline

    References
    ----------
    transformers 5.24, generation/utils.py: `_get_logits_processor`, and generation/logits_process.py.

    Examples
    --------
    >>> from logitherm.generation import presets
    >>> presets.hf(temperature=0.7, top_p=0.9)
    Pipeline([Temperature(0.7), TopK(50, clamp=True), TopP(0.9)])  # CPU: Temperature, TopK, TopP by threshold
    """
    steps: list[Step] = []
    _add(steps, repetition_penalty, 1.0, RepetitionPenalty)
    _add(steps, temperature, 1.0, Temperature)
    _add(steps, top_h, None, TopHOf100)
    _add_k(steps, top_k, least=0)
    if not _is(top_p, 1.0):
        steps.append(TopK(1) if _is(top_p, 0.0) else TopP(top_p))
    _add_min_p(steps, min_p)
    _add(steps, typical_p, 1.0, Typical)
    _add(steps, epsilon_cutoff, 0.0, Epsilon)
    _add(steps, eta_cutoff, 0.0, Eta)
    return Pipeline(steps)


def vllm(
    temperature: Any = 1.0,
    *,
    top_k: Any = 0,
    top_p: Any = 1.0,
    min_p: Any = 0.0,
    repetition_penalty: Any = 1.0,
    frequency_penalty: Any = 0.0,
    presence_penalty: Any = 0.0,
) -> Pipeline:
    """What vLLM draws from, by the names of its `SamplingParams`.

    Limits: T below 1e-5 is greedy, whatever the truncation; from there to 0.01 it is 0.01; above 2 it is refused, here
    as there.

    Parameters
    ----------
    temperature : float, array of the batch shape, or Temperature
    top_k, top_p, min_p, repetition_penalty, frequency_penalty, presence_penalty : float or array of the batch shape
        The values that keep everything leave the step out.

    Returns
    -------
    Pipeline

    References
    ----------
    vLLM 0.33, v1/sample/sampler.py and sampling_params.py.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation import presets
    >>> presets.vllm(0.001, top_p=0.9)
    Pipeline([Temperature(0.01), TopP(0.9)])  # CPU: Temperature, TopP by threshold
    >>> presets.vllm(np.array([0.0, 0.7]), top_k=np.array([-1, 20])).steps[1].k.tolist()
    [2147483647, 20]
    """
    steps: list[Step] = []
    _add(steps, repetition_penalty, 1.0, RepetitionPenalty)
    _add(steps, frequency_penalty, 0.0, FrequencyPenalty)
    _add(steps, presence_penalty, 0.0, PresencePenalty)
    if not hasattr(temperature, "resolve"):
        t = _numbers(temperature, "temperature", least=0.0)
        if np.any(t > 2):
            raise ValueError(
                f"temperature: must be at most 2 in vLLM; got {float(t.max()):g}; build the Pipeline of its steps"
            )
        temperature = _as_given(np.where(t < 1e-5, 0.0, np.maximum(t, 0.01)))
    _add(steps, temperature, 1.0, Temperature)
    _add_min_p(steps, min_p)
    _add_k(steps, top_k, least=-1)
    _add(steps, top_p, 1.0, TopP)
    return Pipeline(steps)


def sglang(
    temperature: Any = 1.0,
    *,
    top_k: Any = -1,
    top_p: Any = 1.0,
    min_p: Any = 0.0,
    repetition_penalty: Any = 1.0,
    frequency_penalty: Any = 0.0,
    presence_penalty: Any = 0.0,
) -> Pipeline:
    """What SGLang draws from, by the names of its `SamplingParams`.

    Both of top-k and top-p look at the whole law and a state has to pass both, which keeps more than one after the
    other does; unless any request of the batch has a min-p: then they go one after the other for all of them.

    Limits: T below 1e-6 is greedy.

    Parameters
    ----------
    temperature : float, array of the batch shape, or Temperature
    top_k, top_p, min_p, repetition_penalty, frequency_penalty, presence_penalty : float or array of the batch shape
        The values that keep everything leave the step out.

    Returns
    -------
    Pipeline

    References
    ----------
    SGLang 0.5.23, srt/layers/sampler.py and srt/sampling/sampling_params.py.

    Examples
    --------
    >>> from logitherm.generation import presets
    >>> [type(step).__name__ for step in presets.sglang(0.7, top_k=20, top_p=0.9).steps]
    ['Temperature', 'TopP', 'TopK']
    >>> [type(step).__name__ for step in presets.sglang(0.7, top_k=20, top_p=0.9, min_p=0.01).steps]
    ['Temperature', 'TopK', 'TopP', 'MinP']
    """
    steps: list[Step] = []
    _add(steps, frequency_penalty, 0.0, FrequencyPenalty)
    _add(steps, presence_penalty, 0.0, PresencePenalty)
    if not _is(repetition_penalty, 1.0):
        steps.append(RepetitionPenalty(repetition_penalty, scope="generated"))
    if not hasattr(temperature, "resolve"):
        t = _numbers(temperature, "temperature", least=0.0)
        temperature = _as_given(np.where(t < 1e-6, 0.0, t))
    _add(steps, temperature, 1.0, Temperature)
    if bool(np.all(np.asarray(min_p) == 0)):
        _add(steps, top_p, 1.0, TopP)
        _add_k(steps, top_k, least=-1)
    else:
        _add_k(steps, top_k, least=-1)
        _add(steps, top_p, 1.0, TopP)
        _add_min_p(steps, min_p)
    return Pipeline(steps)


def llama_cpp(
    temperature: Any = 0.8,
    *,
    top_k: Any = 40,
    top_p: Any = 0.95,
    min_p: Any = 0.05,
    typical_p: Any = 1.0,
    top_n_sigma: Any = -1.0,
    repeat_penalty: Any = 1.0,
    frequency_penalty: Any = 0.0,
    presence_penalty: Any = 0.0,
    repeat_last_n: int = 64,
    dry_multiplier: float = 0.0,
    dry_base: float = 1.75,
    dry_allowed_length: int = 2,
    dry_penalty_last_n: int = -1,
    dry_breakers: Collection[int] = (),
    xtc_probability: Any = 0.0,
    xtc_threshold: Any = 0.1,
    dynatemp_range: float = 0.0,
    dynatemp_exponent: float = 1.0,
    mirostat: int = 0,
    mirostat_ent: float = 5.0,
    mirostat_lr: float = 0.1,
) -> Pipeline:
    """What llama.cpp draws from with its default chain, by the names of its options.

    The temperature comes last, so that what is truncated is the law at T = 1.

    Limits: T <= 0 is greedy. With `mirostat` all steps but the temperature are left out, as there.

    Parameters
    ----------
    temperature : float, array of the batch shape, or Temperature
    top_k, top_p, min_p, typical_p, top_n_sigma : float or array of the batch shape
        The values that keep everything leave the step out.
    repeat_penalty, frequency_penalty, presence_penalty : float or array of the batch shape
    repeat_last_n, dry_penalty_last_n : int
        How many of the last tokens count; -1 for all, 0 for none.
    dry_multiplier, dry_base, dry_allowed_length, dry_breakers
        As in `DRY`; the breakers are tokens.
    xtc_probability, xtc_threshold : float or array of the batch shape
    dynatemp_range, dynatemp_exponent : float
        With a range T goes from temperature - range to temperature + range with the entropy (`DynamicTemperature`).
    mirostat : 0 or 2
        2 for Mirostat 2 of the surprise `mirostat_ent` in bits and the rate `mirostat_lr`.

    Returns
    -------
    Pipeline

    References
    ----------
    llama.cpp, common/common.h and src/llama-sampler.cpp.

    Examples
    --------
    >>> from logitherm.generation import presets
    >>> presets.llama_cpp()
    Pipeline([TopK(40, clamp=True), TopP(0.95), MinP(0.05), Temperature(0.8)])  # CPU: TopK, TopP, MinP, Temperature by threshold
    """  # noqa: E501
    if mirostat not in (0, 2):
        raise ValueError(
            f"mirostat: must be 0 or 2; got {mirostat}; version 1 needs an estimate of the vocabulary's law"
        )
    if dynatemp_range and not hasattr(temperature, "resolve"):
        middle = float(temperature)
        low, high = max(0.0, middle - dynatemp_range), middle + dynatemp_range
        temperature = DynamicTemperature(low, high, dynatemp_exponent)
    if mirostat:
        return Pipeline([Temperature(temperature), Mirostat(mirostat_ent, mirostat_lr)])
    steps: list[Step] = []
    if repeat_last_n != 0:
        scope: dict[str, Any] = {"scope": "all", "window": _window(repeat_last_n, "repeat_last_n")}
        _add(steps, repeat_penalty, 1.0, RepetitionPenalty, **scope)
        _add(steps, frequency_penalty, 0.0, FrequencyPenalty, **scope)
        _add(steps, presence_penalty, 0.0, PresencePenalty, **scope)
    if dry_multiplier and dry_penalty_last_n != 0:
        window = _window(dry_penalty_last_n, "dry_penalty_last_n")
        steps.append(DRY(dry_multiplier, dry_base, dry_allowed_length, window, tuple(dry_breakers)))
    if np.any(np.asarray(top_n_sigma) > 0):
        sigma = np.asarray(top_n_sigma, np.float64)
        steps.append(TopNSigma(_as_given(np.where(sigma > 0, sigma, np.finfo(np.float64).max))))
    k = np.asarray(top_k)
    _add_k(steps, _as_given(np.where(k <= 0, 0, k)), least=0)
    _add(steps, typical_p, 1.0, Typical)
    _add(steps, top_p, 1.0, TopP)
    _add_min_p(steps, min_p)
    if not _is(xtc_probability, 0.0):
        steps.append(XTC(xtc_probability, xtc_threshold))
    if not hasattr(temperature, "resolve"):
        t = _numbers(temperature, "temperature", least=-math.inf)
        temperature = _as_given(np.maximum(t, 0.0))
    _add(steps, temperature, 1.0, Temperature)
    return Pipeline(steps)


PRESETS: dict[str, Callable[..., Pipeline]] = {"hf": hf, "vllm": vllm, "sglang": sglang, "llama.cpp": llama_cpp}


def preset(name: str, **settings: Any) -> Pipeline:
    """The pipeline of an engine by its name: "hf", "vllm", "sglang" or "llama.cpp" (or "llama_cpp").

    Parameters
    ----------
    name : str
    **settings
        Those of the function of that name in this module.

    Returns
    -------
    Pipeline

    Raises
    ------
    ValueError
        An unknown name.

    References
    ----------
    The functions of this module name theirs.

    Examples
    --------
    >>> from logitherm.generation import preset
    >>> preset("vllm", temperature=0.6, top_k=20)
    Pipeline([Temperature(0.6), TopK(20, clamp=True)])  # CPU: Temperature, TopK by threshold
    """
    made = PRESETS.get(name.replace("_", "."))
    if made is None:
        raise ValueError(f"name: must be one of {', '.join(PRESETS)}; got {name!r}; or build a Pipeline of steps")
    return made(**settings)


# -- settings --------------------------------------------------------------------------------------------


def _is(value: Any, number: float | None) -> bool:
    """Whether a setting is this one number, or None."""
    return value is None or (np.ndim(value) == 0 and not is_array(value) and value == number)


def _add(steps: list[Step], value: Any, nothing: float | None, make: Callable[..., Step], **options: Any) -> None:
    if not _is(value, nothing):
        steps.append(make(value, **options))


def _add_k(steps: list[Step], k: Any, least: int) -> None:
    """Top-k where numbers from `least` to 0 keep all states, request by request."""
    if _is(k, None):
        return
    given = np.asarray(k)
    everything = (given >= least) & (given <= 0)
    if not everything.all():
        steps.append(TopK(_as_given(np.where(everything, ALL, given)), clamp=True))


def _add_min_p(steps: list[Step], p: Any) -> None:
    """Min-p where 0 keeps all states, request by request."""
    if _is(p, 0.0):
        return
    given = np.asarray(p, dtype=np.float64)
    if np.any(given != 0):
        steps.append(MinP(_as_given(np.where(given == 0, NEARLY_ZERO, given))))


def _numbers(value: Any, name: str, least: float) -> np.ndarray:
    found = np.asarray(to_numpy(value) if is_array(value) else value, dtype=np.float64)
    if not np.all(found >= least):  # False for NaN as well
        at = f" for request {int(np.argmin(found >= least))}" if found.ndim else ""
        bad = found.reshape(-1)[np.argmin(found >= least)]
        raise ValueError(f"{name}: must be a number of at least {least:g}; got {bad:g}{at}; 0 is greedy")
    return found


def _as_given(values: np.ndarray) -> Any:
    """A plain number of an array without axes, so that it reads as one."""
    return values.item() if values.ndim == 0 else values


def _window(last: int, name: str) -> int | None:
    if last < -1:
        raise ValueError(f"{name}: must be at least -1; got {last}; -1 counts all tokens, 0 none")
    return None if last == -1 else last


@dataclass(frozen=True)
class TopHOf100(Truncation):
    """Top-H of transformers: of the 100 most probable states, those up to which sum -p log p is at most alpha times
    that of all 100, p renormalised over the 100 only."""

    alpha: Any

    def threshold(self, logits: Array, context: Context) -> Array:
        xp = namespace(logits)
        alpha = per_row(self.alpha, logits.shape[0], "top_h")
        require((alpha > 0) & (alpha <= 1), alpha, "top_h", "in (0, 1]", "0.4 is usual")
        ordered, p = sorted_law(logits, 100)
        terms = -p * xp.log(xp.where(p > 0, p, xp.ones_like(p)))
        sums = xp.cumulative_sum(terms, axis=-1)
        return last_kept(ordered, (sums <= column(alpha, logits)[:, None] * sums[:, -1:]) & (p > 0))
