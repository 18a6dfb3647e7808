"""`logitherm calibrate`: the temperature a classifier's held-out logits need, and what it mends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from logitherm._words import counted
from logitherm.cli import options, truncated
from logitherm.cli.files import about, read, remark, remark_bound, require_possible, require_writable
from logitherm.cli.output import Tell, console, note, print_json, progress, reports_errors, warn

if TYPE_CHECKING:
    import numpy as np

    from logitherm.io import LogitData


# of `logitherm.calibration.calibrate`, which takes longer to import than --help may
METHODS = ("temperature", "entropy", "ensemble", "parametric", "bias", "vector", "matrix", "dirichlet", "group", "auto")


@dataclass(frozen=True)
class Choices:
    """How to calibrate and what to write."""

    method: str = "temperature"
    bins: int = 15
    seed: int = 0
    zero_labels: str = "raise"
    report: Path | None = None
    save: Path | None = None
    force: bool = False
    as_json: bool = False
    name: str | None = None
    groups: np.ndarray | None = None
    test_groups: np.ndarray | None = None
    prior: tuple[float, float] | None = None


@click.command(
    "calibrate",
    short_help="Fit a temperature, and say what it mends.",
    epilog="Example: logitherm calibrate val.npz test.npz --save calibrator.json",
)
@click.argument("val", type=options.FILE)
@click.argument("test", type=options.FILE, required=False)
@options.options(
    click.option(
        "--method",
        type=click.Choice(METHODS),
        default="temperature",
        metavar="METHOD",
        show_default=True,
        help=f"The calibrator: {', '.join(METHODS[:-1])}; or auto, which compares them and takes the simplest that is "
        "good enough.",
    ),
    options.labels,
    click.option("--test-labels", type=options.FILE, metavar="FILE", help="Labels of TEST, where its file has none."),
    click.option(
        "--groups",
        type=options.FILE,
        metavar="FILE",
        help="A group for every row of VAL (.npy, or .txt with one a line), whose temperatures are compared; with "
        "--method group each gets its own.",
    ),
    click.option("--test-groups", type=options.FILE, metavar="FILE", help="With --method group: those of TEST."),
    click.option(
        "--prior",
        type=options.Prior(),
        metavar="CENTRE,DEVIATION",
        help="Draw T to CENTRE, with a standard DEVIATION of log T: for few rows. Try 1,0.5.  [default: none]",
    ),
    options.probabilities,
    options.zero_labels,
    options.bins,
    options.seed,
    options.report,
    click.option("--save", type=options.FILE, metavar="FILE.json", help="Write the calibrator, for `logitherm apply`."),
    options.as_json,
    options.force,
    *truncated.OPTIONS,
)
@reports_errors
def command(
    val: Path,
    test: Path | None,
    labels: Path | None,
    test_labels: Path | None,
    groups: Path | None,
    test_groups: Path | None,
    probabilities: bool,
    **chosen: Any,
) -> None:
    """Fit a temperature on VAL and say what it mends, and whether one is enough.

    Scores are taken on TEST; without TEST by 5-fold cross-fitting on VAL, so never on what was fitted (but for answers,
    below, where it says so).

    Answers of a language model, of which only the top log-probabilities are known, come as .jsonl files with --choices
    or --vocabulary: one object a line, {"logprobs": {"A": -0.1, "B": -2.5}, "answer": "A"}.
    """
    asked = truncated.taken(chosen)
    if truncated.holds_answers(val):
        return truncated.calibrate(val, test, asked, chosen["save"], chosen["force"], chosen["as_json"])
    if test is None and test_labels is not None:
        raise click.UsageError("--test-labels needs TEST, the file of logits they belong to.")
    choices = Choices(**chosen)
    if choices.method == "group" and groups is None:
        raise click.UsageError("--method group needs --groups, the group of every row of VAL.")
    if (test_groups is not None) != (choices.method == "group" and test is not None):
        raise click.UsageError("--test-groups and TEST belong together with --method group: give both, or neither.")
    if choices.prior is not None and choices.method != "temperature":
        raise click.UsageError("--prior is for --method temperature, the default.")
    check_outputs(
        choices, inputs=[path for path in (val, test, labels, test_labels, groups, test_groups) if path is not None]
    )
    with progress() as tell:
        data = [read(val, labels, probabilities, tell)]
        if test is not None:
            data.append(read(test, test_labels, probabilities, tell, labels_option="--test-labels"))
            require_same_classes(val, test, data)
        if choices.zero_labels == "raise":
            require_possible(data)
        if groups is not None:
            from logitherm.io import read_groups

            choices = replace(choices, groups=read_groups(groups, data[0].n))
            if test_groups is not None:
                choices = replace(choices, test_groups=read_groups(test_groups, data[1].n))
        study = run(data, choices, tell)
        written = write(study, choices, tell)
    from logitherm.calibration.verdict import is_wrong_tool

    for each in data:
        remark(each, "those rows are left out")
    if choices.save is not None:
        remark_bound(choices.save, study.fit.at_bound)
        if is_wrong_tool(study.changes):
            warn(f"{choices.save}: the calibrator makes the calibration error worse, so it is not one to ship")
    show(study, data, choices, written)


def check_outputs(choices: Choices, inputs: list[Path]) -> None:
    """Whether the files could be written, before any work is done."""
    outputs = [path for path in (choices.report, choices.save) if path is not None]
    if len({path.resolve() for path in outputs}) < len(outputs):
        raise click.UsageError("--report and --save must be two files.")
    for path in outputs:
        require_writable(path, inputs, force=choices.force)
    for option, target, suffix in (("--report", choices.report, ".html"), ("--save", choices.save, ".json")):
        if target is not None and target.suffix.lower() != suffix:
            raise click.UsageError(f"{option} must name a {suffix} file.")


def require_same_classes(val: Path, test: Path, data: list[LogitData]) -> None:
    from logitherm.io import InputError

    known, came = (each.classes for each in data)
    if known != came:
        raise InputError(
            f"{test}: must have the {counted(known, 'class')} of {val}; got {came}; pass two files of logits "
            "of the same model"
        )


def run(data: list[LogitData], choices: Choices, tell: Tell) -> Any:
    from logitherm.calibration import calibrate as fit_and_score

    tell("fitting")
    val, *rest = data
    return fit_and_score(
        val.logits,
        val.labels,
        *((rest[0].logits, rest[0].labels) if rest else ()),
        method=choices.method,
        bins=choices.bins,
        seed=choices.seed,
        zero_labels=choices.zero_labels,
        prior=choices.prior,
        groups=choices.groups,
        test_groups=choices.test_groups,
        name=choices.name or val.source,
        progress=tell,
    )


def write(study: Any, choices: Choices, tell: Tell) -> list[tuple[str, Path]]:
    """The files asked for, all made before the first is written."""
    from logitherm.io import write_whole

    contents: list[tuple[str, Path, str]] = []
    if choices.report is not None:
        from logitherm.report import render_report

        tell("drawing the report", 1.0)
        contents.append(("Report", choices.report, render_report(study)))
    if choices.save is not None:
        contents.append(("Calibrator", choices.save, study.calibrator.to_json()))
    for _, path, text in contents:
        write_whole(path, text.encode(), force=choices.force)
    return [(what, path) for what, path, _ in contents]


def show(study: Any, data: list[LogitData], choices: Choices, written: list[tuple[str, Path]]) -> None:
    """The study for a person or, with --json, for a program."""
    if choices.as_json:
        print_json(as_object(study, data))
        for what, path in written:
            note(f"{what}: {path}")
        return
    from logitherm.cli import tables

    out = console()
    out.print(tables.sentences(study.verdict))
    out.print()
    out.print(tables.temperature_table(study.fit, study.prior))
    out.print()
    single = study.method == "temperature"
    after = f"after\nT = {tables.temperature_text(study.fit)}" if single else f"after\n{study.method}"
    out.print(tables.score_table([("before\nT = 1", study.before), (after, study.after)]))
    scored_on = about(data[1], study.before.n) if len(data) > 1 else study.scored_on
    out.print(
        tables.footnote(f"Fit: {about(data[0], study.fit.n)}. Scores: {scored_on}, Wilson and bootstrap intervals.")
    )
    if study.method == "group" and study.fit.at_bound is None:
        out.print()
        out.print(tables.group_table(study.calibrator))
    if study.selection is not None and choices.method == "auto":
        out.print()
        out.print(tables.selection_table(study.selection))
    if study.selection is not None:
        out.print(tables.split_note(study.selection, grouped=choices.groups is not None))
    if written:
        out.print()
    for what, path in written:
        out.print(f"  {what:<12}{path}", markup=False, soft_wrap=True)


def as_object(study: Any, data: list[LogitData]) -> dict[str, Any]:
    """`study.summary()` with what is known of the files."""
    files = [
        {"file": each.source, "kind": each.kind, "n": each.n, "zeros": each.zeros, "zero_labels": each.zero_labels}
        for each in data
    ]
    return {**study.summary(), "val": files[0], "test": files[1] if len(files) > 1 else None}
