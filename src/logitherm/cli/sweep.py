"""`logitherm sweep`: what texts of a language model become at a grid of temperatures."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitherm.cli import options
from logitherm.cli.files import require_writable
from logitherm.cli.language_model import load_causal_lm, read_text
from logitherm.cli.output import Tell, console, print_json, progress, reports_errors, warn

if TYPE_CHECKING:
    from rich.console import RenderableType

FEW = 8  # prompts, below which intervals are too narrow
COLUMNS = (  # of the table: curve, heading, decimals
    ("entropy", "entropy", 2),
    ("excess", "excess", 2),
    ("perplexity", "perplexity", 1),
    ("loop_rate", "loops", 2),
    ("distinct_2", "distinct-2", 2),
    ("compression_ratio", "gzip", 1),
    ("self_bleu", "self-BLEU", 2),
)


@dataclass(frozen=True)
class Model:
    """A language model and what belongs to it."""

    next_logits: Callable[..., Any]
    encode: Callable[[str], list[int]]
    decode: Callable[..., str]
    stop: tuple[int, ...]


@click.command(
    "sweep",
    short_help="Texts of a language model against temperature.",
    epilog="Example: logitherm sweep ./model prompts.txt --report sweep.html",
)
@click.argument("model")
@click.argument("prompts", type=options.FILE)
@options.options(
    click.option(
        "--temperatures",
        type=options.Grid(),
        default="0.1:1.5:0.1",
        show_default=True,
        help="Grid, or a list with commas.",
    ),
    click.option(
        "--samples", type=click.IntRange(1), metavar="N", default=8, show_default=True, help="Texts a prompt."
    ),
    click.option("--tokens", type=click.IntRange(1), metavar="N", default=64, show_default=True, help="Longest text."),
    click.option(
        "--scorer",
        metavar="MODULE:FUNCTION",
        help="Scores a text: of (prompt, text) a number, or (answer, number) for majority votes.",
    ),
    click.option(
        "--best-of", "k", type=click.IntRange(2), metavar="K", help="Texts to choose from [default: 8 at most]."
    ),
    click.option(
        "--batch", type=click.IntRange(1), metavar="N", default=64, show_default=True, help="Texts at a time."
    ),
    click.option("--device", metavar="NAME", default="cpu", show_default=True, help="Where the model runs: cuda, say."),
    options.seed,
    options.report,
    options.as_json,
    options.force,
)
@reports_errors
def command(
    model: str,
    prompts: Path,
    temperatures: tuple[float, ...],
    samples: int,
    tokens: int,
    scorer: str | None,
    k: int | None,
    batch: int,
    device: str,
    seed: int,
    report: Path | None,
    as_json: bool,
    force: bool,
) -> None:
    """Draw texts at a grid of temperatures: where they loop, where they are gibberish, and what lies between.

    MODEL is a causal language model for transformers, a folder or a name; PROMPTS is a text file with one prompt a
    line.
    """
    if report is not None:
        require_writable(report, [prompts], force=force)
    if k is not None and k > samples:
        raise ValueError(f"--best-of: must be at most the {samples} texts of a prompt; got {k}; ask for more --samples")
    asked = read_prompts(prompts)
    score = load_scorer(scorer) if scorer else None
    with progress() as tell:
        tell(f"loading {model}")
        loaded = load_model(model, device)
        contents = run(loaded, asked, temperatures, samples, tokens, score, k, batch, seed, tell)
    contents = {"model": os.path.basename(os.path.normpath(model)) or model, "file": prompts.name, **contents}
    if len(asked) < FEW:
        warn(f"{prompts}: with {len(asked)} prompts intervals are too narrow, or missing for one; give {FEW} or more")
    if report is not None:
        from logitherm.io import write_whole
        from logitherm.report.sweep import render_sweep

        write_whole(report, render_sweep(contents).encode(), force=force)
    if as_json:
        print_json(contents)
        return
    out = console()
    out.print(table(contents))
    for line in words(contents):
        out.print("  " + line)
    if report is not None:
        out.print(f"\n  Report: {report}")


def read_prompts(path: Path) -> list[str]:
    from logitherm.io import InputError

    found = [line for line in read_text(path).splitlines() if line.strip()]
    if not found:
        raise InputError(f"{path}: must have a prompt a line; got none; write some")
    return found


def load_scorer(name: str) -> Callable[[str, str], Any]:
    """A function by its module and name; modules of the working folder are found too."""
    module, _, function = name.partition(":")
    if not module or not function:
        raise ValueError(f"--scorer: must be MODULE:FUNCTION; got {name!r}; give mine:score, say")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--scorer: {error}; check the name and where the module is") from error
    finally:
        sys.path.remove(os.getcwd())
    return found  # type: ignore[no-any-return]


def load_model(name: str, device: str) -> Model:
    tokenizer, model = load_causal_lm(name, device, "logitherm sweep")
    from logitherm.integrations.causal_lm import CausalLM

    ends = model.generation_config.eos_token_id
    stop = () if ends is None else tuple(ends) if isinstance(ends, (list, tuple)) else (ends,)

    def decode(tokens: Any) -> str:
        return str(tokenizer.decode(tokens, skip_special_tokens=True))

    def encode(text: str) -> list[int]:
        return list(tokenizer(text)["input_ids"])

    return Model(CausalLM(model), encode, decode, stop)


def run(
    model: Model,
    asked: list[str],
    temperatures: tuple[float, ...],
    samples: int,
    tokens: int,
    score: Callable[[str, str], Any] | None,
    k: int | None,
    batch: int,
    seed: int,
    tell: Tell,
) -> dict[str, Any]:
    """Everything that is printed, as plain values."""
    from logitherm.generation.choose import best_score, best_vote, turning_point
    from logitherm.generation.runs import draw_texts
    from logitherm.generation.sweep import measure, score_runs

    runs = draw_texts(
        model.next_logits,
        [model.encode(prompt) for prompt in asked],
        temperatures,
        samples=samples,
        tokens=tokens,
        stop=model.stop,
        seed=seed,
        batch=batch,
        tell=lambda share: tell("sampling", share),
    )
    tell("counting")
    scored = None if score is None else score_runs(runs, score, asked, model.decode)
    k = min(8, samples) if k is None else k
    found = measure(runs, decode=model.decode, scored=scored, k=k, seed=seed)
    choices = {}
    if len(temperatures) >= 5 and temperatures[0] > 0 and temperatures[-1] < float("inf"):
        choices["turning_point"] = turning_point(runs, seed=seed)
    if scored is not None:
        choices["score"] = best_score(runs, scored, seed=seed)
        if k > 1:
            choices["best_of"] = best_score(runs, scored, k=k, seed=seed)
        if scored.answers is not None:
            choices["vote"] = best_vote(runs, scored, seed=seed)
    texts = [[[model.decode(text) for text in of_prompt] for of_prompt in at] for at in runs.texts]
    return {
        **found.to_dict(),
        "tokens": tokens,
        "seed": seed,
        "best_of": k,
        "choices": {name: choice.to_dict() for name, choice in choices.items()},
        "asked": asked,
        "texts": texts,
    }


def table(contents: dict[str, Any]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from logitherm.cli.tables import number

    score = [(name, name.replace("_", "-"), 2) for name in contents["curves"] if name in ("score", "vote")]
    out = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=True, show_edge=False)
    out.add_column("T", justify="right", no_wrap=True)
    columns = [*COLUMNS, *score]
    for _, title, _ in columns:
        out.add_column(title, justify="right", no_wrap=True)
    for i, temperature in enumerate(contents["temperatures"]):
        cells = [number(contents["curves"][name]["value"][i], decimals) for name, _, decimals in columns]
        out.add_row(number(temperature), *cells)
    return out


def words(contents: dict[str, Any]) -> list[str]:
    """The choices in a line each, and what the columns are."""
    from logitherm.cli.tables import number

    names = {
        "turning_point": "Entropy turns at",
        "score": "Best mean score at",
        "best_of": f"Best of {contents['best_of']} highest at",
        "vote": "Vote scores highest at",
    }
    found = []
    for name, choice in contents["choices"].items():
        ends = choice["interval"]
        within = f"   95 % interval {number(ends[0])} to {number(ends[1])}" if ends else ""
        found.append(f"{names[name]:<24} T = {number(choice['temperature'])}{within}")
    found.append(
        f"Means over {contents['prompts']} prompts of {contents['samples']} texts; entropy and excess surprise in nats "
        "a token;"
    )
    found.append("excess: 0 at T = 1, below it the text is too predictable, above it too strange for the model itself.")
    return found
