"""`logitherm apply`: the probabilities a calibrator makes of logits."""

from __future__ import annotations

from pathlib import Path

import click

from logitherm._words import counted
from logitherm.cli import options, truncated
from logitherm.cli.files import (
    described,
    groups_for,
    load,
    remark,
    remark_bound,
    remark_groups,
    require_classes,
    require_writable,
    through,
)
from logitherm.cli.output import console, progress, reports_errors


@click.command(
    "apply",
    short_help="Write the probabilities that a calibrator makes of logits.",
    epilog="Example: logitherm apply calibrator.json new.npz -o probs.npz",
)
@click.argument("calibrator", type=options.FILE)
@click.argument("logits", type=options.FILE)
@click.option("-o", "--output", type=options.FILE, metavar="PROBS.npz", required=True, help="Where to write them.")
@options.options(
    options.groups,
    options.probabilities,
    options.force,
)
@reports_errors
def command(
    calibrator: Path, logits: Path, output: Path, groups: Path | None, probabilities: bool, force: bool
) -> None:
    """Write what CALIBRATOR makes of LOGITS: a NumPy archive with the array `probabilities`.

    Labels are neither needed nor copied. The dtype is that of the logits. With a saved PlattScaling the columns are
    scores, one a label. Of a .jsonl of answers, PROBS is a .jsonl
    too: for each answer its probabilities, and bounds on them for whatever is not listed.
    """
    if truncated.holds_answers(logits):
        if groups is not None:
            raise click.UsageError("--groups is for logits; answers of a .jsonl have none.")
        return truncated.apply(calibrator, logits, output, force)
    from logitherm.io import read_logits, write_npz

    if output.suffix.lower() != ".npz":
        raise click.UsageError("-o must end in .npz: it is a NumPy archive.")
    require_writable(output, [calibrator, logits, *([] if groups is None else [groups])], force=force)
    with progress() as tell:
        fitted = load(calibrator, tell, scores=True)
        tell(f"reading {logits.name}")
        data = read_logits(logits, probabilities=probabilities, need_labels=False)
        require_classes(fitted, data.classes, logits)
        of_rows = groups_for(fitted, groups, data.n)
        tell("applying")
        found = through(fitted.predict_proba, data.logits, of_rows)
        tell(f"writing {output.name}")
        write_npz(output, {"probabilities": found}, force=force)
    remark(data)
    remark_bound(calibrator, getattr(fitted, "at_bound_", None))
    remark_groups(calibrator, fitted, of_rows)
    console(stderr=True).print(
        f"{output}: {counted(data.n, 'row')} of {data.classes} probabilities by {described(fitted)}",
        markup=False,
        soft_wrap=True,
    )
