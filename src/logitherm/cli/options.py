"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
# Whether a file is there and may be read is for the reader to say: bad input, not wrong usage.
FILE = click.Path(path_type=Path, readable=False)


class Prior(click.ParamType):
    """Centre and deviation of log T, as Python has them."""

    name = "prior"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        from logitherm.calibration.temperature_scaling import as_prior

        if isinstance(value, tuple):
            return value
        try:
            return as_prior(value.split(","))
        except ValueError:
            self.fail(f"{value!r} must be a centre and a deviation of log T, both positive, like 1,0.5.", param, ctx)


class Grid(click.ParamType):
    """0.1:1.5:0.1, first, last and step; or 0.2,0.7,1."""

    name = "grid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            if ":" in value:
                first, last, step = map(float, value.split(":"))
                if not (0 < step < float("inf") and 0 <= first <= last < float("inf") and (last - first) / step < 1000):
                    raise ValueError
                return tuple(round(first + i * step, 10) for i in range(int((last - first) / step + 1.5)))
            found = tuple(sorted(map(float, value.split(","))))
            if not (found[0] >= 0 and len(set(found)) == len(found)):
                raise ValueError
            return found
        except ValueError:
            self.fail(f"{value!r} must be first:last:step, like 0.1:1.5:0.1, or numbers like 0.2,0.7,1.", param, ctx)


labels = click.option("--labels", type=FILE, metavar="FILE", help="Labels, where the logits' own file has none.")
probabilities = click.option(
    "--probabilities", is_flag=True, help="The rows are probabilities, not logits (never guessed)."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, nothing else.")
force = click.option("--force", is_flag=True, help="Replace files that exist.")
groups = click.option(
    "--groups",
    type=FILE,
    metavar="FILE",
    help="The group of every row (.npy, or .txt with one a line), for a calibrator of --method group.",
)
# A thousand bins are finer than any sample; millions of them times the replicates would not fit in memory.
bins = click.option(
    "--bins", type=click.IntRange(1, 1000), metavar="N", default=15, show_default=True, help="Bins of the ECE."
)
seed = click.option(
    "--seed", type=click.IntRange(min=0), metavar="N", default=0, show_default=True, help="Of every random draw."
)
zero_labels = click.option(
    "--zero-labels",
    type=click.Choice(["raise", "exclude"]),
    default="raise",
    show_default=True,
    help="Rows whose label has probability zero: refuse them, or leave them out.",
)
report = click.option("--report", type=FILE, metavar="FILE.html", help="Write the report, one offline HTML file.")


def options(*all_of_them: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order of the help text."""

    def decorate(command: Command) -> Command:
        for option in reversed(all_of_them):
            command = option(command)
        return command

    return decorate
