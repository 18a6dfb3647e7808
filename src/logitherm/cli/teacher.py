"""`logitherm teacher`: what a language model says of a text, stored once for students."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitherm.cli import options
from logitherm.cli.language_model import load_causal_lm, read_documents, read_text
from logitherm.cli.output import STOPPED, console, print_json, progress, reports_errors

if TYPE_CHECKING:
    from rich.console import RenderableType

    from logitherm.distillation import TeacherStore

FOLDER = click.Path(path_type=Path)  # whether it is there is for the reader to say


@click.group("teacher", short_help="Store a teacher once, for students to learn from.", no_args_is_help=True)
def command() -> None:
    """Store what a language model says of a text, once, and train students from the file.

    Of every token the largest logits are kept, and for some temperatures the mass of all others, so that a loss at
    these is exact; or a few draws, which are without bias.
    """


@command.command(
    "cache",
    short_help="Store what a model says of a text.",
    epilog="Example: logitherm teacher cache ./model text.txt -o teacher --top-k 32",
)
@click.argument("model")
@click.argument("text", type=options.FILE)
@options.options(
    click.option("-o", "--output", type=FOLDER, metavar="FOLDER", required=True, help="Where the teacher is stored."),
    click.option("--top-k", type=click.IntRange(1), metavar="K", help="Logits kept of every token  [default: 64]."),
    click.option("--draws", type=click.IntRange(1), metavar="N", help="Keep N draws of every token instead."),
    click.option(
        "--temperatures",
        type=options.Grid(),
        metavar="T,T,...",
        help="The losses' temperatures; of --draws one  [default: 1,2,4; of --draws 1].",
    ),
    click.option("--tokens", type=click.IntRange(1), metavar="N", help="The first N of the text  [default: all]."),
    click.option(
        "--length",
        type=click.IntRange(1),
        metavar="N",
        default=256,
        show_default=True,
        help="Tokens that the model reads at once; of each block it sees the block alone.",
    ),
    click.option("--lines", is_flag=True, help="Each line is a document of its own, ended by the model's end token."),
    click.option("--column", metavar="NAME", help="Where a .jsonl has its texts  [default: text]."),
    click.option(
        "--dtype",
        type=click.Choice(["float16", "float32"]),
        default="float16",
        show_default=True,
        help="Of the stored logits.",
    ),
    click.option(
        "--shard-tokens", type=click.IntRange(1), metavar="N", help="Tokens of a file  [default: about 65536]."
    ),
    click.option(
        "--batch", type=click.IntRange(1), metavar="N", default=4, show_default=True, help="Blocks at a time."
    ),
    click.option("--device", metavar="NAME", default="cpu", show_default=True, help="Where the model runs: cuda, say."),
    options.seed,
    click.option("--force", is_flag=True, help="Replace the teacher in FOLDER."),
)
@functools.partial(reports_errors, stopped=f"{STOPPED}; the same command goes on from there")
def cache(
    model: str,
    text: Path,
    output: Path,
    top_k: int | None,
    draws: int | None,
    temperatures: tuple[float, ...] | None,
    tokens: int | None,
    length: int,
    lines: bool,
    column: str | None,
    dtype: str,
    shard_tokens: int | None,
    batch: int,
    device: str,
    seed: int,
    force: bool,
) -> None:
    """Store in FOLDER what MODEL says after every token of TEXT.

    MODEL is a causal language model for transformers, a folder or a name; TEXT is a text file, or a .jsonl with a
    document a row, each ended by the model's end token (of datasets: `dataset.to_json("text.jsonl")`). If it is
    stopped, the same command goes on after the last whole file.
    """
    if top_k is not None and draws is not None:
        raise click.UsageError("--top-k and --draws are two ways to store a teacher: give one.")
    if temperatures is None:
        temperatures = (1.0,) if draws is not None else (1.0, 2.0, 4.0)
    rows = text.suffix == ".jsonl"
    if column is not None and not rows:
        raise click.UsageError(f"--column is for a .jsonl; {text.name} has none.")
    written = read_documents(text, column) if rows else documents(read_text(text), lines)
    with progress() as tell:
        tell(f"loading {model}")
        tokenizer, network = load_causal_lm(model, device, "logitherm teacher cache")
        limit = getattr(network.config, "max_position_embeddings", None)
        if limit is not None and length > limit:
            raise ValueError(f"--length: must be at most the {limit} tokens that the model reads; got {length}")
        tell(f"reading {text.name}")
        ids = encode(tokenizer, written, ended=lines or rows)[:tokens]
        if not ids:
            raise ValueError(f"{text}: must have a token; got none; write some text")
        from logitherm.distillation.cache import cache_teacher

        store = cache_teacher(
            lambda blocks: network(blocks, use_cache=False),
            ids,
            output,
            top_k=top_k,
            draws=draws,
            temperatures=temperatures,
            length=length,
            batch=batch,
            dtype=dtype,
            shard_tokens=shard_tokens,
            seed=seed,
            device=device,
            provenance={"model": os.path.basename(os.path.normpath(model)) or model, "text": text.name, "lines": lines},
            force=force,
            tell=lambda share: tell("asking the teacher", share),
        )
    console().print(f"{output}: {summary(store)}", soft_wrap=True)


def documents(text: str, lines: bool) -> list[str]:
    return [line for line in text.splitlines() if line.strip()] if lines else [text]


def encode(tokenizer: Any, texts: list[str], *, ended: bool) -> list[int]:
    """All tokens in a row, those of every text with the end token after them if it is to be `ended`."""
    end = [tokenizer.eos_token_id] if ended and tokenizer.eos_token_id is not None else []
    return [i for text in texts for i in [*tokenizer(text)["input_ids"], *end]]


@command.command(
    "inspect",
    short_help="What is stored, and what fewer logits or draws would keep.",
    epilog="Example: logitherm teacher inspect teacher",
)
@click.argument("folder", type=FOLDER)
@options.options(
    click.option(
        "--rows",
        type=click.IntRange(1),
        metavar="N",
        default=100_000,
        show_default=True,
        help="Tokens that means are over, evenly spread.",
    ),
    options.as_json,
)
@reports_errors
def inspect(folder: Path, rows: int, as_json: bool) -> None:
    """Say what is stored in FOLDER, and what k is worth its bytes."""
    from logitherm.distillation import open_teacher
    from logitherm.distillation.inspection import sizes_of

    with progress() as tell:
        tell(f"reading {folder.name}")
        store = open_teacher(folder)
        sizes = sizes_of(store, rows)
    if as_json:
        layout = store.layout.to_dict()
        kept = {"tokens": len(store), "shards": len(store.shards), "bytes_per_token": store.layout.record.itemsize}
        about = {"provenance": store.provenance, "library": store.index["library"]}
        print_json({**kept, **layout, **about, "sizes": [size.to_dict() for size in sizes]})
        return
    out = console()
    out.print(f"{folder}: {summary(store)}", soft_wrap=True)
    out.print(f"  {origin(store)}", soft_wrap=True)
    if sizes:
        out.print(table(store, sizes))
        out.print("  " + "\n  ".join(words(store)))


@command.command(
    "verify",
    short_help="Whether every stored file is whole.",
    epilog="Example: logitherm teacher verify teacher",
)
@click.argument("folder", type=FOLDER)
@reports_errors
def verify(folder: Path) -> None:
    """Read every file in FOLDER against its checksum. Exit code 1 names the first that is damaged."""
    from logitherm.distillation import open_teacher

    with progress() as tell:
        tell(f"reading {folder.name}")
        store = open_teacher(folder)
        store.verify(lambda share: tell("reading", share))
    console().print(f"{folder}: whole; {summary(store)}", soft_wrap=True)


def summary(store: TeacherStore) -> str:
    layout = store.layout
    what = f"{layout.draws} draws" if layout.top_k is None else f"{layout.top_k} logits in {layout.dtype}"
    at = ", ".join(f"{t:g}" for t in layout.temperatures)
    size = layout.record.itemsize
    files = f"{len(store.shards)} file{'s' if len(store.shards) != 1 else ''}"
    return (
        f"{stored(store)} tokens, {what} of {layout.states} at T = {at}; {size} bytes a token, "
        f"{size * len(store) / 1e6:.3g} MB in {files}"
    )


def stored(store: TeacherStore) -> str:
    wanted = store.provenance.get("tokens", len(store))
    return str(len(store)) if wanted == len(store) else f"{len(store)} of {wanted}"


def origin(store: TeacherStore) -> str:
    told = {name: store.provenance.get(name) for name in ("model", "text", "length")}
    known = ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)
    return f"{known or 'of unknown origin'}; stored by logitherm {store.index['library']}"


def table(store: TeacherStore, sizes: list[Any]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from logitherm.cli.tables import number

    out = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=True, show_edge=False)
    temperatures = [] if store.layout.top_k is None else store.layout.temperatures[:4]  # more do not fit
    titles = [f"{name}\nT = {t:g}" for name in ("tail", "dropped") for t in temperatures] or ["noise"]
    for title in ("k" if temperatures else "draws", "bytes", *titles):
        out.add_column(title, justify="right", no_wrap=True)
    for each in sizes:
        cells = (*each.tail[:4], *each.dropped[:4]) if temperatures else (each.noise,)
        out.add_row(str(each.size), str(each.bytes), *map(number, cells))
    return out


def words(store: TeacherStore) -> list[str]:
    if store.layout.top_k is None:
        return [
            "noise: root mean square error of the slope of one token, whose mean is exact;",
            "it falls with the square root of draws, and with that of tokens in a batch.",
        ]
    return [
        "tail: mean probability of tokens that are not kept, one state in the loss;",
        "dropped: nats by which a loss that leaves them out is wrong, at its optimum.",
    ]
