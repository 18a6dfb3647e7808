"""`logitherm generate`: text of a language model, drawn by a pipeline of this library."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from logitherm.cli import options
from logitherm.cli.language_model import places_of
from logitherm.cli.output import console, print_json, progress, reports_errors
from logitherm.cli.sampling import PRESETS, Knobs, pipeline_of, written
from logitherm.cli.streaming import Screen, Token, Transcript

ENDED = {"end": "the model", "max_tokens": "--max-tokens", "stop": "a --stop string"}


SAVE = "name a folder with what model.save_pretrained and tokenizer.save_pretrained write"


class Numbers(click.ParamType):
    """Numbers with commas between them, whole ones as such; the last of them have defaults."""

    name = "numbers"

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            found = tuple(int(part) if part.strip().isdigit() else float(part) for part in value.split(","))
        except ValueError:
            found = ()
        if not self.least <= len(found) <= self.most:
            many = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
            self.fail(f"{value!r} must be {many} numbers with commas between them, like 1,0.5.", param, ctx)
        return found


def _number(name: str, text: str, kind: Any = float, metavar: str = "X") -> Any:
    return click.option(f"--{name}", type=kind, metavar=metavar, help=text)


@click.command(
    "generate",
    short_help="Text of a language model, at the temperature it should have.",
    epilog='Example: logitherm generate ./model "Once upon a time" --target-entropy 1.5 --color',
)
@click.argument("model")
@click.argument("prompt")
@options.options(
    _number("temperature", "T: 0 is greedy, inf draws evenly.  [default: 1, or the preset's]", metavar="T"),
    _number(
        "target-entropy", "In place of T: the T of every token at which the entropy is so many nats.", metavar="NATS"
    ),
    _number("surprise-rate", "In place of T: that at which a token surprises by so many nats.", metavar="NATS"),
    _number("edt", "In place of T: T0 * 0.8^(THETA / entropy), token by token.", Numbers(2, 2), "T0,THETA"),
    _number("dynamic-temperature", "In place of T: from LOW to HIGH with the entropy.", Numbers(2, 3), "LOW,HIGH"),
    click.option(
        "--calibrator",
        type=options.FILE,
        metavar="FILE",
        help="The base temperature, under all others: a calibrator of this model's tokens.",
    ),
    click.option("--preset", type=click.Choice(PRESETS), help="The order of steps, and the defaults, of this engine."),
    _number("top-k", "The k most probable tokens.", int, "K"),
    _number("top-p", "The most probable tokens of this mass.", metavar="P"),
    _number("min-p", "Tokens at least P times as probable as the first.", metavar="P"),
    _number("typical", "Tokens of typical surprise, of this mass.", metavar="P"),
    _number("top-n-sigma", "Logits within N deviations of the first.", metavar="N"),
    _number("epsilon", "Tokens of at least this probability.", metavar="P"),
    _number("eta", "The same, and fewer of them where the model is sure.", metavar="P"),
    _number("top-h", "The most probable tokens of this share of the entropy.", metavar="SHARE"),
    click.option(
        "--p-less",
        is_flag=True,
        callback=lambda context, option, asked: () if asked else None,  # a step without a number
        help="Tokens as probable as two draws are to agree.",
    ),
    _number("xtc", "With this probability exclude all above a threshold but the last.", Numbers(1, 2), "P[,THRESHOLD]"),
    _number("mirostat", "Mirostat 2, last: TAU bits of surprise a token, learning at ETA.", Numbers(1, 2), "TAU[,ETA]"),
    _number("repetition-penalty", "Of tokens so far, the prompt's too; 1 is none."),
    _number("presence-penalty", "Off the logits of tokens that were generated; 0 is none."),
    _number("frequency-penalty", "The same, for every time that they were."),
    _number("dry", "Do not repeat: off what would prolong a repetition.", Numbers(1, 3), "MULTIPLIER[,BASE[,ALLOWED]]"),
    options.seed,
    click.option(
        "--max-tokens", type=click.IntRange(min=1), metavar="N", default=100, show_default=True, help="At most so many."
    ),
    click.option("--stop", multiple=True, metavar="TEXT", help="Stop before this text; may be given several times."),
    click.option("--chat", is_flag=True, help="PROMPT is a message to the model, in its own chat format."),
    click.option("--color", is_flag=True, help="On a terminal, shade tokens by how much they surprise the model."),
    options.as_json,
)
@reports_errors
def command(
    model: str,
    prompt: str,
    seed: int,
    max_tokens: int,
    stop: tuple[str, ...],
    chat: bool,
    color: bool,
    as_json: bool,
    **knobs: Any,
) -> None:
    """Continue PROMPT with MODEL, a folder or a name that transformers knows; PROMPT may be - for standard input.

    Steps run in the order: penalties, --calibrator, temperature, truncations as listed below, top-n-sigma first; with
    --preset in the engine's. The same command draws the same text: another --seed draws another.
    """
    asked = Knobs(**knobs)
    if any(not each for each in stop):
        raise click.UsageError("--stop must not be empty.")
    prompt = sys.stdin.read() if prompt == "-" else prompt
    with progress() as tell, _quiet():
        tell(f"loading {model}")
        network, tokenizer = _load(model)
        pipeline = pipeline_of(asked, int(network.config.get_text_config().vocab_size))
        inputs = _inputs(tokenizer, prompt, network, max_tokens, chat)
    screen = None if as_json else Screen(console(), color=color)
    ends = _ends(network)
    transcript = Transcript(
        lambda tokens: tokenizer.decode(tokens, clean_up_tokenization_spaces=False),
        ends,
        stop,
        (lambda text, p: None) if screen is None else screen.piece,
    )
    if screen is not None:
        screen.prompt(prompt)
    try:
        with _quiet():
            _generate(network, inputs, pipeline, seed, max_tokens, transcript)
            transcript.finish()
    finally:
        if screen is not None and (transcript.tokens or screen.out.is_terminal):
            screen.newline()
    if screen is None:
        print_json(_as_json(model, prompt, seed, pipeline, transcript))
    elif screen.out.is_terminal:
        screen.out.print()
        screen.legend()
        screen.out.print(_summary(pipeline, transcript), style="dim", markup=False)


def _load(name: str) -> tuple[Any, Any]:
    """A causal language model and its tokenizer."""
    from logitherm.io import InputError, MissingExtra

    try:
        import transformers
    except ImportError as error:
        raise MissingExtra("logitherm generate", "transformers", "transformers") from error
    import torch

    missing = not Path(name).exists()
    if missing and not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name):  # not asked for on the network
        raise InputError(f"{name}: no such folder; {SAVE}")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        network = transformers.AutoModelForCausalLM.from_pretrained(name, dtype="auto").eval()
    except (OSError, ValueError, KeyError) as error:
        if missing:
            raise InputError(f"{name}: no such folder, and no model of this name could be loaded; {SAVE}") from error
        first = str(error).strip().split("\n")[0]
        raise InputError(f"{name}: is no causal language model with a tokenizer: {first}") from error
    return network.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def _inputs(tokenizer: Any, prompt: str, network: Any, max_tokens: int, chat: bool) -> dict[str, Any]:
    import torch

    from logitherm.io import InputError

    if chat and not tokenizer.chat_template:
        raise InputError("--chat: must be for a tokenizer with a chat template; got one without; leave it out")
    if chat:
        message = [{"role": "user", "content": prompt}]
        prompt = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    tokens = tokenizer(prompt, add_special_tokens=not chat)["input_ids"]  # which the template has
    if not tokens:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            raise InputError("PROMPT: must have at least one token for this model; got none; write something")
        tokens = [start]
    most = places_of(network)
    if most is not None and len(tokens) + max_tokens > most:
        raise InputError(
            f"--max-tokens: must be at most {most - len(tokens)}, as the model has {most} places and the prompt takes "
            f"{len(tokens)}; got {max_tokens}; ask for fewer, or shorten the prompt"
        )
    ids = torch.tensor([tokens], device=network.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _ends(network: Any) -> list[int]:
    found = network.generation_config.eos_token_id
    return [] if found is None else list(found) if isinstance(found, (list, tuple)) else [int(found)]


def _generate(
    network: Any, inputs: dict[str, Any], pipeline: Any, seed: int, max_tokens: int, transcript: Transcript
) -> None:
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    from logitherm.integrations.transformers_sampling import sample

    class Ended(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            return torch.tensor([transcript.ended is not None], device=input_ids.device)

    def take(draws: Any) -> None:
        values = (draws.log_probability, draws.raw_log_probability, draws.kept)
        log_p, raw, kept = (column[0] for column in values)
        transcript.add(Token(int(draws.token[0]), float(log_p), float(raw), int(kept)))

    pad = network.generation_config.pad_token_id
    network.generate(
        **inputs,
        custom_generate=sample,
        pipeline=pipeline,
        seed=seed,
        on_token=take,
        max_new_tokens=max_tokens,
        pad_token_id=pad if pad is not None else next(iter(_ends(network)), 0),
        stopping_criteria=StoppingCriteriaList([Ended()]),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers without its advice and its progress bars."""
    try:
        from transformers.utils import logging
    except ImportError:  # said where the model is loaded
        yield
        return
    from huggingface_hub.utils import logging as hub

    level, bars, hub_level = logging.get_verbosity(), logging.is_progress_bar_enabled(), hub.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub.set_verbosity(hub_level)
        if bars:
            logging.enable_progress_bar()


def _summary(pipeline: Any, transcript: Transcript) -> str:
    tokens = transcript.tokens
    raw = -math.fsum(token.raw_log_probability for token in tokens) / len(tokens)
    own = -math.fsum(token.log_probability for token in tokens) / len(tokens)
    kept = sorted(token.kept for token in tokens)[len(tokens) // 2]
    words = "1 token" if len(tokens) == 1 else f"{len(tokens)} tokens"
    return (
        f"{words}, ended by {ENDED[transcript.ended or 'max_tokens']}\n"
        f"surprise {raw:.2f} nats a token by the model, {own:.2f} as drawn, of {kept} tokens kept (median)\n"
        f"{written(pipeline) if pipeline.steps else 'no steps: the law of the model as it is'}"
    )


def _as_json(model: str, prompt: str, seed: int, pipeline: Any, transcript: Transcript) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": prompt,
        "seed": seed,
        "pipeline": written(pipeline),
        "text": transcript.text,
        "ended": transcript.ended,
        "tokens": [vars(token) for token in transcript.tokens],
    }
