"""`logitherm plan`: how many labels to buy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from logitherm.cli import options
from logitherm.cli.files import about, remark, require_possible
from logitherm.cli.output import console, print_json, progress, reports_errors, warn


class Sizes(click.ParamType):
    """Whole numbers with commas between them."""

    name = "sizes"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            sizes = tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r}: give whole numbers with commas between them: 500,1000,2000", parameter, context)
        if min(sizes) < 1:
            self.fail(f"{value!r}: every number of labels must be at least 1", parameter, context)
        return sizes


class Positive(click.ParamType):
    """A number in (0, inf)."""

    name = "number"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            self.fail(f"{value!r}: give a positive number, 0.05 say", parameter, context)
        return number


@click.command(
    "plan",
    short_help="How many labels to buy, from a pilot.",
    epilog="Example: logitherm plan pilot.npz --target-error 0.05",
)
@click.argument("pilot", type=options.FILE)
@options.options(
    click.option(
        "--sizes", type=Sizes(), metavar="N,N,...", help="Numbers of labels to look at.  [default: 100..10000]"
    ),
    click.option("--target-error", type=Positive(), metavar="SE", help="Standard error of T that is wanted."),
    options.labels,
    click.option("--unlabelled", is_flag=True, help="No labels yet: imagine them drawn from the model itself."),
    click.option(
        "--temperature",
        type=Positive(),
        metavar="T",
        default=1.0,
        show_default=True,
        help="Where the ECE is taken; with --unlabelled the one imagined true.",
    ),
    options.probabilities,
    options.zero_labels,
    options.bins,
    options.seed,
    options.as_json,
)
@reports_errors
def command(
    pilot: Path,
    sizes: tuple[int, ...] | None,
    target_error: float | None,
    labels: Path | None,
    unlabelled: bool,
    temperature: float,
    probabilities: bool,
    zero_labels: str,
    bins: int,
    seed: int,
    as_json: bool,
) -> None:
    """How well more labels would tell the temperature and the calibration error of the model behind PILOT.

    PILOT is a file of logits, with the few labels there are, or with none (--unlabelled).
    """
    if unlabelled and labels is not None:
        raise click.UsageError("--unlabelled and --labels exclude each other.")
    from logitherm.calibration.plan import SIZES, plan_sample_size
    from logitherm.calibration.verdict import FEW
    from logitherm.io import read_logits

    with progress() as tell:
        tell(f"reading {pilot.name}")
        data = read_logits(
            pilot,
            labels=labels,
            probabilities=probabilities,
            need_labels=not unlabelled,
            labels_option="--unlabelled, or --labels",
        )
        if zero_labels == "raise":
            require_possible([data])
        tell("planning")
        plan = plan_sample_size(
            data.logits,
            data.labels,
            temperature,
            sizes=SIZES if sizes is None else sizes,
            target_error=target_error,
            bins=bins,
            zero_labels=zero_labels,
            seed=seed,
        )
    remark(data, "the temperature is fitted without them")
    if plan.fit is not None and plan.n < FEW:
        warn(f"{data.source}: {plan.n} rows hardly tell how large their own error is; label at least {FEW}")
    if as_json:
        print_json({"file": data.source, "kind": data.kind, **plan.to_dict()})
        return
    from logitherm.cli import tables

    out = console()
    if plan.needed is not None:
        out.print(tables.sentences([finding(plan)]))
        out.print()
    out.print(tables.plan_table(plan))
    t = f"T = {tables.number(plan.temperature)}"
    basis = f"labels imagined drawn at {t}" if plan.fit is None else f"fitted {t}"
    lines = f"Pilot: {about(data, data.n)}, {basis}.", f"ECE: {bins} bins, at T = {temperature:g}."
    out.print(tables.footnote("\n".join(lines)))


def finding(plan: Any) -> str:
    """The answer to the question that --target-error asks."""
    labels = f"{plan.needed} label{'s' if plan.needed > 1 else ''}"
    if plan.fit is None:
        return f"At least {labels}, more if the model errs: standard error of T {plan.target_error:g}."
    enough = ": the pilot's own are enough" if plan.needed <= plan.n else ""
    return f"{labels} tell T to a standard error of {plan.target_error:g}{enough}."
