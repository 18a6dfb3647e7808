"""`logitherm evaluate`: how honest logits are, as they come or through a calibrator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from logitherm.cli import options
from logitherm.cli.files import (
    about,
    described,
    groups_for,
    load,
    read,
    remark,
    remark_bound,
    remark_groups,
    remark_own_rows,
    require_classes,
    through,
)
from logitherm.cli.output import console, print_json, progress, reports_errors


@click.command("evaluate", epilog="Example: logitherm evaluate test.npz --calibrator calibrator.json")
@click.argument("logits", type=options.FILE)
@options.options(
    options.labels,
    click.option("--calibrator", type=options.FILE, metavar="FILE", help="Score them through this calibrator too."),
    click.option(
        "--precision",
        type=click.FloatRange(0, 1),
        metavar="SHARE",
        help="Say below which confidence to defer so that this share of the accepted answers is right.",
    ),
    options.groups,
    options.probabilities,
    options.bins,
    options.seed,
    options.as_json,
)
@reports_errors
def command(
    logits: Path,
    labels: Path | None,
    calibrator: Path | None,
    precision: float | None,
    groups: Path | None,
    probabilities: bool,
    bins: int,
    seed: int,
    as_json: bool,
) -> None:
    """Score LOGITS against their labels, with intervals."""
    from logitherm.metrics import defer_below, risk_coverage
    from logitherm.metrics import evaluate as score

    if groups is not None and calibrator is None:
        raise click.UsageError("--groups needs --calibrator, the calibrator of --method group that they are for.")
    of_rows = None
    with progress() as tell:
        fitted = None if calibrator is None else load(calibrator, tell)
        data = read(logits, labels, probabilities, tell)
        tell("scoring")
        scored_logits = [data.logits]
        if fitted is not None:
            require_classes(fitted, data.classes, logits)
            of_rows = groups_for(fitted, groups, data.n)
            scored_logits.append(through(fitted.transform, data.logits, of_rows))
        scores = [score(z, data.labels, bins=bins, seed=seed) for z in scored_logits]
        rules = [] if precision is None else [defer_below(z, data.labels, precision=precision) for z in scored_logits]
        areas = [] if precision is None else [risk_coverage(z, data.labels, seed=seed).aurc for z in scored_logits]
    remark(data, "the NLL is infinite")
    if calibrator is not None and fitted is not None:
        remark_bound(calibrator, getattr(fitted, "at_bound_", None))
        remark_groups(calibrator, fitted, of_rows)
        remark_own_rows(calibrator, fitted, data)
    if as_json:
        print_json(
            {
                "file": data.source,
                "kind": data.kind,
                "n": data.n,
                "classes": data.classes,
                "zeros": data.zeros,
                "zero_labels": data.zero_labels,
                "calibrator": None if calibrator is None else calibrator.name,
                "temperature": 1.0 if fitted is None else fitted.temperature_,
                **scored(scores[-1]),
                "uncalibrated": scored(scores[0]) if fitted is not None else None,
                "deferral": rules[-1].to_dict() if rules else None,
                "aurc": areas[-1].to_dict() if areas else None,
            }
        )
        return
    from logitherm.cli import tables

    out = console()
    titles = ["as it is"] if fitted is None else ["as it is", described(fitted)]
    out.print(tables.score_table(list(zip(titles, scores, strict=True))))
    out.print(tables.footnote(f"Scores: {about(data, data.n)}, Wilson and bootstrap intervals."))
    for title, rule, area in zip(titles, rules, areas):
        out.print(tables.deferral_note(title, rule, precision, area))


def scored(evaluation: Any) -> dict[str, Any]:
    """Plain numbers under their names, their intervals under `intervals`."""
    from logitherm.cli.tables import SCORES

    each = {key: getattr(evaluation, key) for key, _, _ in SCORES}
    numbers: dict[str, Any] = {key: score.value for key, score in each.items()}
    return {**numbers, "intervals": {key: [score.low, score.high] for key, score in each.items()}}
