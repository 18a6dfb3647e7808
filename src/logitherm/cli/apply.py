"""`logitherm apply`: the probabilities a calibrator makes of logits."""

from __future__ import annotations

from pathlib import Path

import click

from logitherm.cli import options, truncated
from logitherm.cli.files import described, load, remark, remark_bound, require_classes, require_no_input
from logitherm.cli.output import console, progress, reports_errors


@click.command(
    "apply",
    short_help="Write the probabilities that a calibrator makes of logits.",
    epilog="Example: logitherm apply calibrator.json new.npz -o probs.npz",
)
@click.argument("calibrator", type=options.FILE)
@click.argument("logits", type=options.FILE)
@click.option("-o", "--output", type=options.FILE, metavar="PROBS.npz", required=True, help="Where to write them.")
@options.options(options.probabilities, options.force)
@reports_errors
def command(calibrator: Path, logits: Path, output: Path, probabilities: bool, force: bool) -> None:
    """Write what CALIBRATOR makes of LOGITS: a NumPy archive with the array `probabilities`.

    Labels are neither needed nor copied. The dtype is that of the logits. Of a .jsonl of answers, PROBS is a .jsonl
    too: for each answer its probabilities, and bounds on them for whatever is not listed.
    """
    if truncated.holds_answers(logits):
        return truncated.apply(calibrator, logits, output, force)
    from logitherm.io import check_target, read_logits, write_npz

    if output.suffix.lower() != ".npz":
        raise click.UsageError("-o must end in .npz: it is a NumPy archive.")
    require_no_input(output, [calibrator, logits])
    check_target(output, force=force)
    with progress() as tell:
        fitted = load(calibrator, tell)
        tell(f"reading {logits.name}")
        data = read_logits(logits, probabilities=probabilities, need_labels=False)
        require_classes(fitted, data.classes, logits)
        tell("applying")
        found = fitted.predict_proba(data.logits)
        tell(f"writing {output.name}")
        write_npz(output, {"probabilities": found}, force=force)
    remark(data)
    remark_bound(calibrator, getattr(fitted, "at_bound_", None))
    console(stderr=True).print(
        f"{output}: {data.n} rows of {data.classes} probabilities by {described(fitted)}",
        markup=False,
        soft_wrap=True,
    )
