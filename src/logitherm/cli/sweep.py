"""`logitherm sweep`: what texts of a language model become at a grid of temperatures."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitherm.cli import options
from logitherm.cli.files import require_writable
from logitherm.cli.language_model import load_causal_lm, places_of, read_text
from logitherm.cli.output import Tell, console, print_json, progress, reports_errors, warn

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from logitherm.generation.runs import Runs
    from logitherm.generation.sweep import Scored

FEW = 8  # prompts, below which intervals are too narrow
SCORES = (("score", "score", 2), ("vote", "vote", 2), ("best_of_{best_of}", "best of {best_of}", 2))
COLUMNS = (  # of the table, the first first: curve, heading, decimals; None is three significant digits
    ("entropy", "entropy", 2),
    ("excess", "excess", 2),
    ("perplexity", "perplexity", None),
    ("loop_rate", "loops", 2),
    ("distinct_2", "distinct-2", 2),
    ("compression_ratio", "gzip", 1),
    ("self_bleu", "self-BLEU", 2),
)
NAMES = {
    "turning_point": "Entropy turns at",
    "score": "Best mean score at",
    "best_of": "Best of {best_of} highest at",
    "vote": "Vote scores highest at",
}


@dataclass(frozen=True)
class Model:
    """A language model and what belongs to it."""

    next_logits: Callable[..., Any]
    encode: Callable[[str], list[int]]
    decode: Callable[..., str]
    stop: tuple[int, ...]
    places: int | None = None  # tokens that it can read, where it says


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
        contents = run(loaded, asked, temperatures, samples, tokens, score, scorer, k, batch, seed, tell)
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
    shown, left_out = table(contents, out)
    out.print(shown)
    for line in words(contents, left_out):
        out.print(textwrap.fill(line, out.width, initial_indent="  ", subsequent_indent=" " * 27), markup=False)
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
    except Exception as error:  # the module is not ours: whatever it raises
        raise ValueError(f"--scorer: {module} raised {type(error).__name__}: {error}; mend it") from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise ValueError(f"--scorer: must be a function; got {found!r:.60} as {name}; name another")
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

    return Model(CausalLM(model), encode, decode, stop, places_of(model))


def encoded(model: Model, asked: list[str], tokens: int) -> list[list[int]]:
    """The prompts as tokens, each with room for its text."""
    from logitherm.io import InputError

    found = [model.encode(prompt) for prompt in asked]
    longest = max(range(len(found)), key=lambda i: len(found[i]))
    takes = len(found[longest])
    if model.places is not None and takes + tokens > model.places:
        most = model.places - takes
        rest = f"ask for {most} at most, or shorten it" if most > 0 else "shorten it"
        raise InputError(
            f"--tokens: must fit with every prompt into the {model.places} places of the model; got {tokens}, and "
            f"prompt {longest + 1}, the longest, takes {takes}; {rest}"
        )
    return found


def run(
    model: Model,
    asked: list[str],
    temperatures: tuple[float, ...],
    samples: int,
    tokens: int,
    score: Callable[[str, str], Any] | None,
    scorer: str | None,
    k: int | None,
    batch: int,
    seed: int,
    tell: Tell,
) -> dict[str, Any]:
    """Everything that is printed, as plain values."""
    from logitherm.generation.choose import unfit_for_turning
    from logitherm.generation.runs import draw_texts
    from logitherm.generation.sweep import measure, score_runs

    prompts = encoded(model, asked, tokens)
    if score is not None:  # on one text, since a mistake in it should not be found after all are drawn
        tell("trying the scorer")
        first = draw_texts(
            model.next_logits, prompts[:1], temperatures[:1], samples=1, tokens=tokens, stop=model.stop, seed=seed
        )
        score_runs(first, score, asked, model.decode, name=scorer)
    runs = draw_texts(
        model.next_logits,
        prompts,
        temperatures,
        samples=samples,
        tokens=tokens,
        stop=model.stop,
        seed=seed,
        batch=batch,
        tell=lambda share: tell("sampling", share),
    )
    tell("counting")
    scored = None if score is None else score_runs(runs, score, asked, model.decode, name=scorer)
    k = min(8, samples) if k is None else k
    found = measure(runs, decode=model.decode, scored=scored, k=k, seed=seed)
    unfit = unfit_for_turning(temperatures)
    texts = [[[model.decode(text) for text in of_prompt] for of_prompt in at] for at in runs.texts]
    return {
        **found.to_dict(),
        "tokens": tokens,
        "seed": seed,
        "best_of": k,
        "choices": choices_of(runs, scored, k, seed, turns=unfit is None),
        "no_turning_point": None if unfit is None else f"the grid {unfit}",
        "asked": asked,
        "texts": texts,
    }


def choices_of(runs: Runs, scored: Scored | None, k: int, seed: int, *, turns: bool) -> dict[str, Any]:
    """What can be chosen from these texts, as plain values."""
    from logitherm.generation.choose import best_score, best_vote, turning_point

    found = {}
    if turns:
        found["turning_point"] = turning_point(runs, seed=seed)
    if scored is not None:
        found["score"] = best_score(runs, scored, seed=seed)
        if k > 1:
            found["best_of"] = best_score(runs, scored, k=k, seed=seed)
        if scored.answers is not None:
            found["vote"] = best_vote(runs, scored, seed=seed)
    return {name: choice.to_dict() for name, choice in found.items()}


def table(contents: dict[str, Any], out: Console) -> tuple[RenderableType, int]:
    """As many columns as fit the terminal whole, scores first; and how many do not."""
    best_of = contents["best_of"]
    scores = [(name.format(best_of=best_of), title.format(best_of=best_of), n) for name, title, n in SCORES]
    columns = [column for column in [*scores, *COLUMNS] if column[0] in contents["curves"]]
    least = 1 + sum(name in ("score", "vote") for name, _, _ in columns)
    for shown in range(len(columns), 0, -1):
        made = _table(contents, columns[:shown])
        wide = out.measure(made, options=out.options.update(width=10_000)).maximum
        if wide <= out.width or shown < least:
            break
    return made, len(columns) - shown


def _table(contents: dict[str, Any], columns: list[tuple[str, str, int | None]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from logitherm.cli.tables import number

    out = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=True, show_edge=False)
    for title in ("T", *(title for _, title, _ in columns)):
        out.add_column(title, justify="right", overflow="fold")
    for i, temperature in enumerate(contents["temperatures"]):
        cells = [_cell(contents["curves"][name]["value"][i], decimals) for name, _, decimals in columns]
        out.add_row(number(temperature), *cells)
    return out


def _cell(value: float | None, decimals: int | None) -> str:
    from logitherm.cli.tables import number

    if decimals is None and value is not None:
        value = float(f"{value:.3g}")  # more of them would not be known
    return number(value, decimals)


def words(contents: dict[str, Any], left_out: int = 0) -> list[str]:
    """The choices in a line each, and what the columns are."""
    found = []
    for name, choice in contents["choices"].items():
        found += _said(NAMES[name].format(best_of=contents["best_of"]), choice)
    if why := contents["no_turning_point"]:
        found.append(f"{NAMES['turning_point']:<24} no T: {why}")
    more = f" and {left_out} more columns" if left_out > 1 else " and one more column" if left_out else ""
    found += [
        f"Means over {contents['prompts']} prompts of {contents['samples']} texts;",
        "entropy and excess surprise in nats a token; excess: 0 at T = 1, below it the",
        "text is too predictable, above it too strange for the model itself.",
        f"--json and --report have intervals{more}.",
    ]
    return found


def _said(name: str, choice: dict[str, Any]) -> list[str]:
    from logitherm.cli.tables import number

    if choice["temperature"] is None:
        return [f"{name:<24} no T: all temperatures tie, there is no choice"]
    ends = choice["interval"]
    within = f"   {100 * choice['confidence']:g} % interval {number(ends[0])} to {number(ends[1])}" if ends else ""
    lines = [f"{name:<24} T = {number(choice['temperature'])}{within}"]
    if choice["tied"]:
        lines.append(f"{'':<24} tied with T = {', '.join(map(number, choice['tied']))}")
    return lines
