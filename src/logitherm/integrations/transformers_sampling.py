"""Pipelines of this library in `generate` of Hugging Face models: as a logits processor, and as the whole sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import count
from typing import Any

try:
    import transformers
    from transformers import LogitsProcessor, LogitsProcessorList
    from transformers.utils import ModelOutput
except ImportError as error:
    from logitherm.io import MissingExtra

    raise MissingExtra("logitherm.integrations.transformers_sampling", "transformers", "transformers") from error

import numpy as np
import torch

from logitherm._array import describe, to_numpy
from logitherm.generation import Draws, Mirostat, Pipeline, Step
from logitherm.generation.noise import as_words

# What transformers makes of temperature, top_k, top_p and so on: a pipeline has its own.
REPLACED = tuple(
    getattr(transformers, name)
    for name in (
        "TemperatureLogitsWarper",
        "TopHLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "MinPLogitsWarper",
        "TypicalLogitsWarper",
        "EpsilonLogitsWarper",
        "EtaLogitsWarper",
        "LogitNormalization",
    )
    if hasattr(transformers, name)
)


class PipelineLogitsProcessor(LogitsProcessor):
    """A step or a whole pipeline as a logits processor: the scores after it, -inf for what it removes.

    `generate(do_sample=True)` draws from softmax of what its processors leave, and runs its own temperature and
    truncation after those that it is given: pass `top_k=0`, for 50 is its default, and nothing else of the kind.

    The first call tells where the prompt ends. A call that does not go on from the one before starts anew, so that one
    processor serves many calls of `generate`. Continuous batching packs requests into a batch without telling a
    processor which is which, so it is not supported (transformers then says so and leaves the processor out).

    Parameters
    ----------
    pipeline : Pipeline, Step or iterable of steps
        Without Mirostat, which has to know what is drawn: see `sample`.
    attention_mask : integer tensor, shape (prompts, length), optional
        That of the prompts: where it is 0, tokens are padding and no history.
    pad_token_id : int, optional
        In its place: tokens of this number at the start of a prompt are padding.
    prompt_length : int, optional
        Padding included; by default what the first call has.
    seed : int or integer array
        Of steps that toss coins (XTC).

    Examples
    --------
    >>> import torch
    >>> from logitherm.generation import Temperature, TopK
    >>> processor = PipelineLogitsProcessor([Temperature(2), TopK(2)])
    >>> processor(torch.tensor([[5]]), torch.tensor([[1.0, 4.0, 2.0]])).tolist()
    [[-inf, 0.0, -1.0]]
    """

    supports_continuous_batching = False

    def __init__(
        self,
        pipeline: Pipeline | Step | Iterable[Step],
        *,
        attention_mask: Any = None,
        pad_token_id: int | None = None,
        prompt_length: int | None = None,
        seed: Any = 0,
    ) -> None:
        self.pipeline = as_pipeline(pipeline)
        if any(isinstance(step, Mirostat) for step in self.pipeline.steps):
            raise ValueError(
                "pipeline: must be without Mirostat, which has to know the tokens that are drawn; got "
                f"{self.pipeline!r}; pass it to generate(custom_generate=sample, pipeline=...)"
            )
        self.attention_mask = attention_mask
        self.pad_token_id = pad_token_id
        self.prompt_length = prompt_length
        self.seed = seed
        self._prompt: torch.Tensor | None = None
        self._length = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if not self._goes_on(input_ids):
            length = input_ids.shape[1] if self.prompt_length is None else self.prompt_length
            self._prompt = input_ids[:, :length].clone()
        self._length = input_ids.shape[1]
        assert self._prompt is not None
        history: Any = None
        lengths: Any = 0
        if any(step.needs_history for step in self.pipeline.steps):
            mask = self._mask(self._prompt)
            history, lengths = histories(input_ids, mask), mask.sum(axis=1)
        position = max(0, self._length - self._prompt.shape[1])
        processed = self.pipeline.process(
            scores, seed=self.seed, position=position, step=position, history=history, prompt_lengths=lengths
        )
        return processed.to(scores.dtype)

    def _goes_on(self, input_ids: torch.Tensor) -> bool:
        prompt = self._prompt
        if prompt is None or input_ids.shape[0] != prompt.shape[0] or input_ids.shape[1] != self._length + 1:
            return False
        return bool((input_ids[:, : prompt.shape[1]] == prompt.to(input_ids.device)).all())

    def _mask(self, prompt: torch.Tensor) -> np.ndarray:
        """What of the prompts is not padding."""
        if self.attention_mask is not None:
            mask = to_numpy(torch.as_tensor(self.attention_mask)) != 0
            if mask.ndim != 2 or mask.shape[1] != prompt.shape[1] or prompt.shape[0] % max(1, len(mask)):
                raise ValueError(
                    f"attention_mask: must be that of the prompts, {tuple(prompt.shape)}; got {mask.shape}; pass the "
                    "tokenizer's"
                )
            return np.repeat(mask, prompt.shape[0] // len(mask), axis=0)
        if self.pad_token_id is not None:
            return np.logical_or.accumulate(to_numpy(prompt) != self.pad_token_id, axis=1)
        return np.ones(tuple(prompt.shape), dtype=bool)


@dataclass
class Sampled(ModelOutput):
    """What `sample` returns with `return_dict_in_generate=True`; one row a sequence, one column a token after the
    prompt.

    Attributes
    ----------
    sequences : tensor, shape (sequences, length)
        Tokens, the prompt first; padding after the end.
    log_probabilities : float64 tensor, shape (sequences, tokens)
        log p of every token in the law it was drawn from: after temperature, truncation and everything else. NaN after
        the end.
    raw_log_probabilities : float64 tensor, shape (sequences, tokens)
        log p of the same token by the model's own logits, at T = 1.
    kept : int64 tensor, shape (sequences, tokens)
        How many tokens could have been drawn; 0 after the end.
    logits : tuple of tensors, optional
        With `output_logits=True`: the model's own, one (sequences, vocabulary) a token.
    """

    sequences: torch.Tensor | None = None
    log_probabilities: torch.Tensor | None = None
    raw_log_probabilities: torch.Tensor | None = None
    kept: torch.Tensor | None = None
    logits: tuple[torch.Tensor, ...] | None = None


def sample(
    model: Any,
    input_ids: torch.LongTensor,
    logits_processor: Any,
    stopping_criteria: Any,
    generation_config: Any,
    pipeline: Pipeline | Step | Iterable[Any] = (),
    seed: Any = 0,
    request: Any = None,
    on_token: Callable[[Draws], None] | None = None,
    token_streamer: Any = None,
    **model_kwargs: Any,
) -> torch.LongTensor | Sampled:
    """Sample with a pipeline: `model.generate(**inputs, custom_generate=sample, pipeline=pipeline, seed=7)`.

    `generate` prepares the inputs, the cache and the criteria by which to stop, and hands them over; what is left to
    pass is `pipeline`, `seed`, `request`, `on_token` and `token_streamer`. The tokens of a request are a function of
    its prompt, its seed and its number alone: the same by itself as in any batch, as far as the model's logits are.

    The model's own processors (penalties, minimal lengths, forbidden words) run before the pipeline. Those of its
    temperature and truncation do not run, for the pipeline stands for them, and `do_sample` has no say (but `generate`
    asks for it with `num_return_sequences`): many models come with a `generation_config.json` that would quietly add a
    temperature and a top-k. Greedy is `Temperature(0)`. Without steps the model's own law is drawn from.

    Parameters
    ----------
    model, input_ids, logits_processor, stopping_criteria, generation_config, **model_kwargs
        From `generate`.
    pipeline : Pipeline, Step, iterable of steps, or a sequence of pipelines
        One for all, whose parameters may be arrays with an entry a prompt, or one a prompt.
    seed : int or integer array, shape (prompts,)
        0 <= seed < 2^64.
    request : integer array, shape (prompts,), optional
        What tells prompts with the same seed apart: the row where there is one seed for all, else 0. With
        `num_return_sequences=n` the n sequences of request r have the numbers n r, n r + 1, ...
    on_token : callable, optional
        Called with the `Draws` of every step as it comes, one row a sequence, ended ones included.
    token_streamer : transformers streamer, optional
        `TextStreamer`, `TextIteratorStreamer` and the like. Under the name `streamer` it would not arrive: `generate`
        hands that to no `custom_generate`.

    Returns
    -------
    tensor, shape (sequences, length), or Sampled
        As `return_dict_in_generate` has it.

    Raises
    ------
    ValueError
        Beams; `output_scores`, which are not kept (`Pipeline.process` has them); another number of pipelines or seeds
        than prompts; what a pipeline refuses.

    Examples
    --------
    >>> import torch, transformers
    >>> from logitherm.generation import Temperature, TopP
    >>> config = transformers.GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    >>> model = transformers.GPT2LMHeadModel(config).eval()
    >>> tokens = model.generate(
    ...     torch.tensor([[1, 2, 3]]), custom_generate=sample, pipeline=[Temperature(0.7), TopP(0.9)], seed=7,
    ...     max_new_tokens=4, eos_token_id=None,
    ... )
    >>> tokens.shape
    torch.Size([1, 7])
    """
    if (beams := generation_config.num_beams or 1) > 1:
        raise ValueError(f"num_beams: must be 1 where tokens are drawn; got {beams}; leave it out")
    if generation_config.output_scores:
        raise ValueError(
            "output_scores: are not kept; got True; take log_probabilities of what is drawn, or output_logits and "
            "Pipeline.process"
        )
    rows = input_ids.shape[0]
    batch = _Batch(pipeline, seed, request, rows, generation_config.num_return_sequences or 1)
    mask = model_kwargs.get("decoder_attention_mask" if model.config.is_encoder_decoder else "attention_mask")
    prompt = (
        np.ones((rows, input_ids.shape[1]), dtype=bool) if mask is None else to_numpy(mask[:, -input_ids.shape[1] :])
    )
    processors = LogitsProcessorList(p for p in logits_processor if not isinstance(p, REPLACED))
    pad = generation_config._pad_token_tensor
    wanted = bool(generation_config.return_dict_in_generate)
    found: list[tuple[np.ndarray, ...]] = []
    kept_logits: list[torch.Tensor] = []
    unfinished = torch.ones(rows, dtype=torch.bool, device=input_ids.device)
    loop = _Loop(model, generation_config, model_kwargs)
    if token_streamer is not None:
        token_streamer.put(input_ids.cpu())
    for position in count():
        z = loop.logits(input_ids)
        draws = batch.draw(processors(input_ids, z.clone()) if processors else z, position, input_ids, prompt)
        tokens = torch.as_tensor(draws.token, device=input_ids.device)
        if wanted:
            raw = replace(draws, _logits=z).raw_log_probability
            alive = to_numpy(unfinished)
            ended = np.where(alive, 0.0, np.nan)
            found.append((draws.log_probability + ended, raw + ended, draws.kept * alive))
            if generation_config.output_logits:
                kept_logits.append(z)
        if pad is not None:
            tokens = torch.where(unfinished, tokens, pad.to(tokens))
        input_ids = torch.cat([input_ids, tokens[:, None]], dim=-1)  # type: ignore[assignment]
        if token_streamer is not None:
            token_streamer.put(tokens.cpu())
        if on_token is not None:
            on_token(replace(draws, token=tokens, _logits=z))
        unfinished = unfinished & ~stopping_criteria(input_ids, None)
        if not unfinished.any():
            break
    if token_streamer is not None:
        token_streamer.end()
    if not wanted:
        return input_ids
    columns = [torch.as_tensor(np.stack(column, axis=1)) for column in zip(*found)]
    return Sampled(input_ids, columns[0], columns[1], columns[2], tuple(kept_logits) or None)


def as_pipeline(given: Pipeline | Step | Iterable[Step]) -> Pipeline:
    """A pipeline of a pipeline, a step, or steps."""
    if isinstance(given, Pipeline):
        return given
    if isinstance(given, Step):
        return Pipeline([given])
    if not isinstance(given, Iterable):
        raise TypeError(f"pipeline: must be a Pipeline, a step, or steps; got {describe(given)}; give Pipeline([...])")
    return Pipeline(given)


def histories(input_ids: torch.Tensor, prompt: np.ndarray) -> np.ndarray:
    """Tokens of every request, -1 where the mask of its prompt is 0."""
    tokens = to_numpy(input_ids).copy()
    tokens[:, : prompt.shape[1]][prompt == 0] = -1
    return tokens


class _Batch:
    """The requests of a batch: their pipelines, seeds and numbers, and what steps remember of them."""

    def __init__(self, pipeline: Any, seed: Any, request: Any, rows: int, copies: int) -> None:
        prompts = rows // copies
        self.groups: list[tuple[Pipeline, np.ndarray]]
        if isinstance(pipeline, Sequence) and pipeline and all(isinstance(each, Pipeline) for each in pipeline):
            if len(pipeline) != prompts:
                raise ValueError(
                    f"pipeline: must be one, or one a prompt, {prompts}; got {len(pipeline)}; mend the list"
                )
            distinct = {id(each): each for each in pipeline}
            members = np.repeat([id(each) for each in pipeline], copies)
            self.groups = [(each, np.flatnonzero(members == key)) for key, each in distinct.items()]
        else:
            self.groups = [(_repeated(as_pipeline(pipeline), copies), np.arange(rows))]
        seeds = as_words(seed, "seed")
        if request is None:
            request = np.arange(prompts) if seeds.ndim == 0 else 0
        numbers = as_words(request, "request")
        for words, name in ((seeds, "seed"), (numbers, "request")):
            if words.shape not in ((), (prompts,)):
                raise ValueError(f"{name}: must be one number or one a prompt, {prompts}; got {words.shape}; mend it")
        self.seeds = np.repeat(np.broadcast_to(seeds, prompts), copies)
        own = np.tile(np.arange(copies, dtype=np.uint64), prompts)
        self.requests = np.repeat(np.broadcast_to(numbers, prompts), copies) * np.uint64(copies) + own
        self.memory: list[dict[str, np.ndarray]] = [{} for _ in self.groups]

    def draw(self, z: torch.Tensor, position: int, input_ids: torch.Tensor, prompt: np.ndarray) -> Draws:
        """One token a row."""
        parts: list[Draws] = []
        looked_at = any(step.needs_history for pipeline, _ in self.groups for step in pipeline.steps)
        history = histories(input_ids, prompt) if looked_at else None
        lengths = prompt.sum(axis=1)
        for number, (pipeline, rows) in enumerate(self.groups):
            own = z if len(rows) == len(z) else z[torch.as_tensor(rows, device=z.device)]
            drawn = pipeline.sample(
                own,
                seed=self.seeds[rows],
                request=self.requests[rows],
                position=position,
                step=position,
                history=None if history is None else history[rows],
                prompt_lengths=lengths[rows],
                memory=self.memory[number],
            )
            self.memory[number] = drawn.memory
            parts.append(drawn)
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.concatenate([rows for _, rows in self.groups]))
        token, log_p, kept = (
            np.concatenate([to_numpy(getattr(part, name)) for part in parts])[order]
            for name in ("token", "log_probability", "kept")
        )
        return Draws(torch.as_tensor(token, device=z.device), log_p, kept, route=parts[0].route, _logits=z)


class _Loop:
    """The forward passes of transformers around its cache."""

    def __init__(self, model: Any, config: Any, model_kwargs: dict[str, Any]) -> None:
        if not hasattr(model, "_prefill"):
            raise ValueError(
                f"transformers: must be 5 or newer for custom_generate=sample; got {transformers.__version__}; pip "
                "install -U transformers"
            )
        self.model, self.config, self.model_kwargs = model, config, model_kwargs
        self.started = False

    def logits(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Those of the next token, float32."""
        model, kwargs = self.model, self.model_kwargs
        if self.started:
            only = 1 if kwargs["use_cache"] else None
            inputs = model.prepare_inputs_for_generation(input_ids, next_sequence_length=only, **kwargs)
            outputs = model(**inputs, return_dict=True)
        else:
            outputs = model._prefill(input_ids, self.config, kwargs, is_first_iteration=not self.config.is_assistant)
            self.started = True
        self.model_kwargs = model._update_model_kwargs_for_generation(
            outputs, kwargs, is_encoder_decoder=model.config.is_encoder_decoder
        )
        return outputs.logits[:, -1].to(copy=True, dtype=torch.float32, device=input_ids.device)


def _repeated(pipeline: Pipeline, copies: int) -> Pipeline:
    """Parameters with an entry a prompt, for several sequences of each."""
    if copies == 1:
        return pipeline
    steps: list[Any] = []
    for step in pipeline.steps:
        arrays: dict[str, Any] = {f.name: getattr(step, f.name) for f in fields(step)} if is_dataclass(step) else {}
        many = {name: np.repeat(v, copies) for name, v in arrays.items() if np.ndim(v) == 1 and name != "breakers"}
        steps.append(replace(step, **many) if many else step)  # type: ignore[type-var]
    return Pipeline(steps)
