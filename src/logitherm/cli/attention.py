"""`logitherm attention`: the temperatures of attention."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from logitherm.cli import options
from logitherm.cli.output import console, print_json, reports_errors

if TYPE_CHECKING:
    from rich.console import RenderableType

    from logitherm.attention import AttentionAudit


@click.group("attention", short_help="How sharp attention is, and by which temperature.", no_args_is_help=True)
def command() -> None:
    """Say at which temperature the attention of a model runs."""


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
