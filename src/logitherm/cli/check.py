"""`logitherm check`: whether a saved calibrator still fits new rows."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitherm._words import counted
from logitherm.cli import options
from logitherm.cli.files import (
    about,
    groups_for,
    load,
    read,
    remark,
    remark_groups,
    remark_own_rows,
    require_classes,
    require_possible,
)
from logitherm.cli.output import console, print_json, progress, reports_errors, warn

if TYPE_CHECKING:
    from rich.console import RenderableType

DISPERSED = 1.5  # from which the rate of the alarm is no longer exact to speak of
DRIFTED = 3  # exit code, where it is asked for


@click.command(
    "check",
    short_help="Whether a calibrator still fits new rows.",
    epilog="Example: logitherm check calibrator.json today.npz --fail-on-drift",
)
@click.argument("calibrator", type=options.FILE)
@click.argument("new_logits", type=options.FILE)
@options.options(
    options.labels,
    options.groups,
    options.probabilities,
    options.zero_labels,
    click.option(
        "--tolerance",
        type=click.FloatRange(min=0, max=10),
        metavar="SHARE",
        default=0.05,
        show_default=True,
        help="Relative change of T that does not matter.",
    ),
    click.option(
        "--run-length",
        type=click.FloatRange(min=1),
        metavar="ROWS",
        show_default="40 times the rows there are",
        help="Rows to a false alarm, on average at least.",
    ),
    click.option("--fail-on-drift", is_flag=True, help=f"Exit with code {DRIFTED} if the calibrator has drifted."),
    options.as_json,
)
@reports_errors
def command(
    calibrator: Path,
    new_logits: Path,
    labels: Path | None,
    groups: Path | None,
    probabilities: bool,
    zero_labels: str,
    tolerance: float,
    run_length: float | None,
    fail_on_drift: bool,
    as_json: bool,
) -> None:
    """Compare the temperature that NEW_LOGITS need with the one that CALIBRATOR gives them.

    The rows are labelled and in the order of time: an alarm says after how many of them a change was plain. Of a
    calibrator that fits, 5 % at most are called drifted. Exit code 0, whatever is found, unless --fail-on-drift.
    """
    from logitherm.calibration import TemperatureScaling
    from logitherm.calibration.stream.drift import check_drift
    from logitherm.calibration.verdict import FEW

    with progress() as tell:
        fitted = load(calibrator, tell)
        data = read(new_logits, labels, probabilities, tell)
        require_classes(fitted, data.classes, new_logits)
        if zero_labels == "raise":
            require_possible([data])
        of_rows = groups_for(fitted, groups, data.n)
        tell("checking")
        found = check_drift(
            fitted,
            data.logits,
            data.labels,
            groups=of_rows,
            tolerance=tolerance,
            run_length=run_length,
            zero_labels=zero_labels,
        )
    remark(data, "those rows are left out")
    remark_groups(calibrator, fitted, of_rows)
    remark_own_rows(calibrator, fitted, data)
    if found.n < FEW:
        warn(f"{data.source}: {found.n} rows hardly tell how large their own error is; label at least {FEW}")
    if as_json:
        print_json({"calibrator": calibrator.name, "file": data.source, "kind": data.kind, **found.to_dict()})
    else:
        from logitherm.cli import tables

        out = console()
        out.print(tables.sentences(finding(found)))
        out.print()
        out.print(table(found))
        single = isinstance(fitted, TemperatureScaling)
        out.print(tables.footnote(f"New rows: {about(data, found.n)}.\n{basis(found, single)}"))
    if fail_on_drift and found.verdict == "drifted":
        sys.stdout.flush()
        raise click.exceptions.Exit(DRIFTED)


def finding(found: Any) -> list[str]:
    """The verdict in a sentence, and what else should be known."""
    if found.at_bound == "zero":
        first = "Every new label is the model's first choice: these rows cannot tell how low T should be (T = 0)."
        return [first, *drift(found)]
    if found.at_bound == "infinite":
        return [
            "The logits say nothing about the new labels that an infinite temperature would not say as well.",
            *drift(found),
            "Check that labels and logits belong together, and that the columns are those of the calibrator.",
        ]
    if found.verdict == "holds":
        return [f"The calibrator still fits: the new rows need its temperature, within {100 * found.tolerance:g} %."]
    too_few = f"Too few rows to tell whether the calibrator still fits within {100 * found.tolerance:g} %."
    return drift(found) or [too_few]


def drift(found: Any) -> list[str]:
    """What it drifted to, if it did: the words of the exit code."""
    if found.verdict != "drifted":
        return []
    if found.changed or found.at_bound:
        side = "over" if found.change > 1 else "under"
        again = "Fit it again on more rows." if found.at_bound else "Fit it again."
        return [f"The calibrator has drifted: it leaves the new rows {side}confident. {again}"]
    side = "over" if found.needs == "heating" else "under"
    return [
        f"The calibrator did not fit at all times: for a while it left the rows {side}confident.",
        "Over all of them the change cannot be told from chance; look at the rows before the alarm.",
    ]


def table(found: Any) -> RenderableType:
    """The two temperatures with their intervals, and how sure the change is."""
    from rich.table import Table

    from logitherm.cli.tables import chance, decimals_of, number

    decimals = decimals_of(*(found.interval or found.reference_interval))

    def row(temperature: float, ends: tuple[float, float] | None) -> str:
        low, high = (number(end, decimals) for end in ends or (math.nan, math.nan))
        return f"[bold]{number(temperature, decimals)}[/]" + (f"   95 % interval {low} to {high}" if ends else "")

    grid = Table.grid(padding=(0, 3))
    grid.add_row("  Temperature given", row(found.reference_temperature, found.reference_interval))
    grid.add_row("  Temperature needed", row(found.temperature, found.interval))
    if found.p_value is not None:
        low, high = map(_percent, found.change_interval)
        grid.add_row("  Change", f"[bold]{_percent(found.change)} %[/]   95 % interval {low} to {high} %")
        grid.add_row(f"  Beyond {100 * found.tolerance:g} %", chance(found.p_value))
    kind, side = ("over", "higher") if found.needs == "heating" else ("under", "lower")
    raised = f"after {counted(found.rows_to_alarm or 0, 'row')}: {kind}confident, needs {found.needs} to a {side} T"
    grid.add_row("  Alarm", raised if found.rows_to_alarm else "none")
    grid.add_row("  NLL", f"{found.nll_before:.4g} as calibrated, {found.nll_after:.4g} at the T needed")
    return grid


def basis(found: Any, single: bool) -> str:
    """What the numbers stand on."""
    rate = f"A false alarm in these rows: {100 * found.false_alarm:.2g} % at most"
    rate += ", roughly: the model errs in more than T." if found.dispersion > DISPERSED else "."
    return rate if single else f"{rate}\nT is that of the calibrated logits."


def _percent(ratio: float) -> str:
    """A ratio as a change, never -0.0."""
    return f"{round(100 * (ratio - 1), 1) + 0.0:+.1f}"
