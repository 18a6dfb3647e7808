"""Thermostats in vLLM, chosen request by request: a logits processor for both of its model runners.

vLLM finds it by its entry point (group `vllm.logits_processors`) wherever logitherm is installed; a request that asks
for nothing is not touched. What a request may ask for, one of these in `SamplingParams(extra_args={...})`, or in
`"vllm_xargs"` of a request to its server:

| argument | T of every token |
|---|---|
| `logitherm_target_entropy: h` | that at which the entropy is h nats |
| `logitherm_target_top_probability: p` | that at which the most probable token has probability p |
| `logitherm_edt: [T0, ...]` | `EDT`: colder where the model is sure |
| `logitherm_dynamic_temperature: [low, high, ...]` | `DynamicTemperature`: hotter where the model is unsure |
| `logitherm_surprise_rate: nats` | `SurpriseRate`: that at which the mean surprise of what is drawn is so many nats |
| `logitherm_temperature: T` | T, without vLLM's bounds of 0.01 and 2 |

Lists are the arguments of the class, in order. The request's own temperature must be 1 (the default): one of vLLM's
runners divides by it before a processor runs, the other after. Penalties act before the thermostat, top-k and top-p
after it, so that a target holds for the law before these. min-p comes before it in the older runner, after it in the
newer. vLLM's log-probabilities are those of its own mode, by default of the raw logits.

**Not run in an engine.** It is written to the interfaces of vLLM 0.33 (v1/sample/logits_processor/interface.py for the
V1 runner, v1/worker/gpu/sample/logits_processor/interface.py for Model Runner V2); both loaders of its Python package
take the class, and updates of batches built as these document drive it on the CPU. No engine has run it, and no test of
this library needs vLLM. Where vLLM speculates, its V1 runner leaves custom processors out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

try:
    from vllm.v1.sample.logits_processor import LogitsProcessor, MoveDirectionality
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.vllm", "vllm", "vllm") from error

import numpy as np
import torch

from logitherm.generation import EDT, DynamicTemperature, Pipeline, SurpriseRate, Temperature
from logitherm.thermostat import SetPoint

if TYPE_CHECKING:
    BASES: Any = object
else:
    try:  # the second runner refuses processors that are not of its own kind
        from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as NewerLogitsProcessor

        BASES = type("BASES", (NewerLogitsProcessor, LogitsProcessor), {})
    except ImportError:
        BASES = LogitsProcessor

Wish = tuple[str, tuple[float, ...]]  # an argument's name, and its numbers


THERMOSTATS: dict[str, Callable[..., Any]] = {
    "logitherm_target_entropy": lambda entropy: SetPoint(entropy=entropy),
    "logitherm_target_top_probability": lambda p: SetPoint(top_probability=p),
    "logitherm_edt": EDT,
    "logitherm_dynamic_temperature": DynamicTemperature,
    "logitherm_surprise_rate": SurpriseRate,
    "logitherm_temperature": lambda temperature: temperature,
}


class ThermostatLogitsProcessor(BASES):
    """The temperature that a request's thermostat asks for, token by token; see the module for the arguments.

    Limits: a target that no temperature reaches takes the nearest limit, T = 0 (which of equal logits is drawn is up to
    vLLM) or T = inf. Logits with NaN are left as they are.

    Examples
    --------
    >>> from vllm import LLM, SamplingParams                              # doctest: +SKIP
    >>> llm = LLM("Qwen/Qwen3-0.6B")                                      # doctest: +SKIP
    >>> wish = SamplingParams(extra_args={"logitherm_target_entropy": 1.5})   # doctest: +SKIP
    >>> llm.generate("Once upon a time", wish)                            # doctest: +SKIP
    """

    def __init__(self, vllm_config: Any, *others: Any) -> None:
        # V1 hands (vllm_config, device, is_pin_memory), V2 (vllm_config, req_states); none of it is needed.
        self.requests: dict[int, Wish] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse arguments that no thermostat takes, before the request is admitted."""
        wish = wish_of(sampling_params)
        if wish is None:
            return
        temperature = getattr(sampling_params, "temperature", 1.0)
        if temperature not in (None, 1.0):
            raise ValueError(
                f"temperature: must be 1 where {wish[0]} sets it; got {temperature}; leave it out (0 is greedy: leave "
                "the thermostat out)"
            )
        try:
            _heated(torch.zeros((1, 2)), wish)
        except TypeError as error:
            raise ValueError(
                f"{wish[0]}: must have as many numbers as it takes; got {list(wish[1])}; mend it"
            ) from error
        except ValueError as error:
            raise ValueError(f"{wish[0]}: {error}") from error

    def is_argmax_invariant(self) -> bool:
        """A temperature does not change which token is the most probable."""
        return True

    # -- the V1 runner: rows of the batch are moved about -------------------------------------------------

    def update_state(self, batch_update: Any) -> None:
        """Follow requests that left, came, and moved to other rows, in this order."""
        if batch_update is None:
            return
        for row in batch_update.removed:
            self.requests.pop(row, None)
        for row, params, *_ in batch_update.added:
            self._put(row, wish_of(params))
        for source, target, direction in batch_update.moved:
            here, there = self.requests.pop(source, None), self.requests.pop(target, None)
            self._put(target, here)
            if direction == MoveDirectionality.SWAP:
                self._put(source, there)

    # -- Model Runner V2: a request keeps its slot --------------------------------------------------------

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Take a slot, whatever was in it; whether the request asks for anything."""
        wish = wish_of(sampling_params)
        self._put(req_idx, wish)
        return wish is not None

    # -- both ----------------------------------------------------------------------------------------------

    def apply(self, logits: torch.Tensor, ctx: Any = None) -> torch.Tensor:
        """Logits over the temperature of every row that has a thermostat, in place."""
        if not self.requests:
            return logits
        slots: Iterable[int] = range(len(logits)) if ctx is None else ctx.expanded_idx_mapping.tolist()
        rows_of: dict[Wish, list[int]] = {}
        for row, slot in enumerate(slots):
            if slot in self.requests:
                rows_of.setdefault(self.requests[slot], []).append(row)
        for wish, numbers in rows_of.items():
            rows = torch.tensor(numbers, device=logits.device)
            z = logits[rows]
            sound = torch.isfinite(z.amax(dim=-1))
            if bool(sound.any()):
                logits[rows[sound]] = _heated(z[sound], wish).to(logits.dtype)
        return logits

    def _put(self, place: int, wish: Wish | None) -> None:
        if wish is None:
            self.requests.pop(place, None)
        else:
            self.requests[place] = wish


def wish_of(sampling_params: Any) -> Wish | None:
    """The one thermostat that a request asks for.

    Raises
    ------
    ValueError
        Several; an unknown argument of ours; something other than numbers.
    """
    given = getattr(sampling_params, "extra_args", None) or {}
    ours = [name for name in given if name.startswith("logitherm_")]
    if not ours:
        return None
    if len(ours) > 1 or ours[0] not in THERMOSTATS:
        raise ValueError(f"extra_args: must have one of {', '.join(THERMOSTATS)}; got {', '.join(ours)}; mend the name")
    value = given[ours[0]]
    try:
        numbers = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{ours[0]}: must be a number or a list of numbers; got {value!r:.60}; mend it") from error
    return ours[0], tuple(numbers.tolist())


def _heated(z: torch.Tensor, wish: Wish) -> torch.Tensor:
    name, numbers = wish
    return Pipeline([Temperature(THERMOSTATS[name](*numbers))]).process(z)
