"""`logitherm attention`: how sharp the attention heads of a language model are, and by which temperature."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitherm.cli import options
from logitherm.cli.files import require_writable
from logitherm.cli.language_model import load_causal_lm, places_of, read_text
from logitherm.cli.output import console, print_json, progress, reports_errors

if TYPE_CHECKING:
    from rich.console import RenderableType

    from logitherm.attention import AttentionAudit

LEAST = 8  # keys, from which on a query says something of its head


class WithDefault(click.Group):
    """A group that takes what is no command of its own for the arguments of `report`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return super().parse_args(ctx, args if own else ["report", *args])


@click.group(
    "attention", cls=WithDefault, short_help="How sharp attention is, and by which temperature.", no_args_is_help=True
)
def command() -> None:
    """How sharp the attention heads of a language model are.

    `logitherm attention MODEL TEXT` is `logitherm attention report MODEL TEXT`.
    """


@command.command(
    "report",
    short_help="Entropy of every head over a text, and the heads that stand out.",
    epilog="Example: logitherm attention report ./model text.txt --report heads.html",
)
@click.argument("model")
@click.argument("text", type=options.FILE)
@options.options(
    click.option(
        "--length",
        type=click.IntRange(LEAST),
        metavar="N",
        help="Tokens that the model reads at once  [default: 1024, or what it can read].",
    ),
    click.option(
        "--tokens",
        type=click.IntRange(LEAST),
        metavar="N",
        default=8192,
        show_default=True,
        help="The first N of the text.",
    ),
    click.option(
        "--queries",
        type=click.IntRange(1),
        metavar="N",
        default=256,
        show_default=True,
        help="Of longer blocks so many tokens, evenly spread, are looked at.",
    ),
    click.option(
        "--batch", type=click.IntRange(1), metavar="N", default=1, show_default=True, help="Blocks at a time."
    ),
    click.option("--device", metavar="NAME", default="cpu", show_default=True, help="Where the model runs: cuda, say."),
    options.report,
    options.as_json,
    options.force,
)
@reports_errors
def report_command(
    model: str,
    text: Path,
    length: int | None,
    tokens: int,
    queries: int,
    batch: int,
    device: str,
    report: Path | None,
    as_json: bool,
    force: bool,
) -> None:
    """Say how sharp every attention head of MODEL is over TEXT: collapsed, uniform, a sink, melting or freezing.

    MODEL is a causal language model for transformers, a folder or a name; TEXT is a text file, read in blocks that are
    independent of each other.
    """
    if report is not None:
        require_writable(report, [text], force=force)
    written = read_text(text)
    with progress() as tell:
        tell(f"loading {model}")
        tokenizer, network = load_causal_lm(model, device, "logitherm attention")
        places = places_of(network)
        if length is not None and places is not None and length > places:
            raise ValueError(f"--length: must be at most the {places} tokens that the model reads; got {length}")
        length = min(1024, places or 1024) if length is None else length
        batches = blocks_of(tokenizer, written, text, tokens, length, batch)
        from logitherm.attention.findings import RELATIVE
        from logitherm.integrations.transformers_attention_report import attention_report

        found = attention_report(
            network,
            batches,
            queries=queries,
            relative=() if report is None and not as_json else RELATIVE,
            tell=lambda done: tell("reading", done / len(batches)),
        )
    name = os.path.basename(os.path.normpath(model)) or model
    contents = {"model": name, "file": text.name, **found.to_dict()}
    if report is not None:
        from logitherm.io import write_whole
        from logitherm.report.attention import render_attention

        write_whole(report, render_attention(contents).encode(), force=force)
    if as_json:
        print_json(contents)
        return
    from logitherm.cli.attention_words import head_map, words

    out = console()
    for line in [*words(contents, out.width), "", *head_map(contents, out.width)]:
        out.print(line, soft_wrap=True)
    if report is not None:
        out.print(f"\n  Report: {report}", soft_wrap=True)


def blocks_of(tokenizer: Any, written: str, text: Path, tokens: int, length: int, batch: int) -> list[Any]:
    """The text as tensors of token ids, blocks of one length together; a rest that is short is a block of its own."""
    import torch

    ids = torch.tensor(tokenizer(written)["input_ids"][:tokens])
    if len(ids) < LEAST:
        raise ValueError(f"{text}: must have {LEAST} tokens or more; got {len(ids)}; write some text")
    whole = ids[: len(ids) // length * length].reshape(-1, length)
    rest = ids[whole.numel() :]
    return [*(whole.split(batch) if len(whole) else ()), *([rest[None]] if len(rest) > 1 else [])]


@command.command(
    "audit",
    short_help="The temperature of every layer, from a configuration.",
    epilog="Example: logitherm attention audit ./model",
)
@click.argument("model")
@options.options(
    click.option(
        "--position",
        type=click.IntRange(0),
        metavar="N",
        default=0,
        show_default=True,
        help="Of the query, from 0: some models tune the temperature by it.",
    ),
    options.as_json,
)
@reports_errors
def audit(model: str, position: int, as_json: bool) -> None:
    """Say by which inverse temperature every layer of MODEL multiplies q k, and where implementations differ.

    MODEL is a config.json, the folder that it is in, or the name of a model of the hub. No weights are read.
    """
    from logitherm.attention import audit as audit_configuration

    found = audit_configuration(model)
    if as_json:
        print_json(found.to_dict(position))
        return
    out = console()
    name = os.path.basename(os.path.normpath(model))
    out.print(f"{name}: {found.model_type}, {len(found.layers)} layers; position {position}", soft_wrap=True)
    out.print(audit_table(found, position))
    if found.warnings:
        out.print(remarks(found.warnings))


def audit_table(found: AttentionAudit, position: int) -> RenderableType:
    """Layers that are alike in one row, in 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from logitherm.attention.auditing.layers import ends
    from logitherm.cli.tables import number

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=True, show_edge=False, width=80)
    table.add_column("layers", overflow="fold", max_width=14)
    for title in ("inverse\ntemperature", "temperature"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("is, with", overflow="fold", ratio=1)
    for name, each in found.groups():
        values = ends(each.inverse_temperature(position))
        cells = [" to ".join(map(number, kind)) for kind in (values, [1 / v for v in reversed(values)])]
        table.add_row(name, *cells, "\n".join([each.words(), *each.traits()]))
    return table


def remarks(warnings: Sequence[str]) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    return Group("", *(Padding(Text(sentence), (0, 2, 0, 2)) for sentence in warnings))
