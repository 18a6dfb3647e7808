"""`logitherm calibrate` and `apply` on answers of language models: only the top log-probabilities are known."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from logitherm.cli.output import Tell, console, note, print_json, progress, warn

if TYPE_CHECKING:
    import numpy as np
    from rich.console import RenderableType

    from logitherm.calibration import TopAnswers, TruncatedTemperatureScaling

SUFFIX = ".jsonl"  # of `logitherm.io`, which takes longer to import than --help may
# what `calibrate` takes with answers; all else is for rows of logits
TAKEN = {"val", "test", "save", "as_json", "force", "choices", "vocabulary", "top", "rounding"}


class Choices(click.ParamType):
    """Tokens with commas between them."""

    name = "choices"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> tuple[str, ...]:
        found = value if isinstance(value, tuple) else tuple(value.split(","))
        if len(found) < 2 or len(set(found)) < len(found) or "" in found:
            self.fail(
                f"{value!r}: give two different tokens or more, with commas between them: A,B,C,D", parameter, context
            )
        return found


OPTIONS = (
    click.option("--choices", type=Choices(), metavar="A,B,C", help="Answers (.jsonl) are multiple choice, of these."),
    click.option(
        "--vocabulary",
        type=click.IntRange(min=1),
        metavar="N",
        help="Answers (.jsonl) are tokens of a vocabulary of this size.",
    ),
    click.option(
        "--top",
        type=click.IntRange(min=1),
        metavar="K",
        help="Log-probabilities that were asked for; one listed beyond them is that of the answer.  [default: all]",
    ),
    click.option(
        "--rounding",
        type=click.FloatRange(0, 1, max_open=True),
        metavar="ERROR",
        help="Of the log-probabilities: 5e-5 for four decimals.  [default: 1e-6]",
    ),
)


@dataclass(frozen=True)
class Kind:
    """What the answers are: kept with the calibrator, so that `apply` need not be told again."""

    choices: tuple[str, ...] | None = None
    vocabulary: int | None = None
    top: int | None = None
    rounding: float | None = None


class Answers(NamedTuple):
    """Those of a file."""

    source: str
    tokens: list[list[str]]  # that the columns stand for, of every row
    answers: TopAnswers
    labels: np.ndarray | None


def holds_answers(path: Path) -> bool:
    return path.suffix.lower() == SUFFIX


def taken(options: dict[str, Any]) -> Kind:
    """The options of this page, taken out of those of `calibrate`; refused where there are no answers."""
    asked = Kind(**{option: options.pop(option) for option in ("choices", "vocabulary", "top", "rounding")})
    given = click.get_current_context().params
    if asked != Kind() and not holds_answers(given["val"]):
        raise click.UsageError(f"--choices, --vocabulary, --top and --rounding are for answers, a {SUFFIX} file.")
    return asked


def calibrate(val: Path, test: Path | None, asked: Kind, save: Path | None, force: bool, as_json: bool) -> None:
    """Fit one temperature to the answers of VAL, and say within which bounds it lies whatever is not listed."""
    from logitherm.calibration import TruncatedTemperatureScaling
    from logitherm.cli.files import remark_bound, require_writable
    from logitherm.io import write_whole

    _require_usage(asked, test)
    if save is not None:
        if save.suffix.lower() != ".json":
            raise click.UsageError("--save must name a .json file.")
        require_writable(save, [path for path in (val, test) if path is not None], force=force)
    with progress() as tell:
        data = _read(val, asked, tell)
        scored = data if test is None else _read(test, asked, tell)
        tell("fitting")
        fitted = TruncatedTemperatureScaling().fit(data.answers, data.labels)
        nll = [fitted.nll(scored.answers, scored.labels, t) for t in (1.0, fitted.temperature_)]
        if save is not None:
            fitted.provenance_ = _provenance(data, asked)
            write_whole(save, fitted.to_json().encode(), force=force)
    _remark(data, fitted)
    if save is not None:
        remark_bound(save, fitted.at_bound_)
    found = _summary(data, scored, asked, fitted, nll)
    if as_json:
        print_json(found)
        if save is not None:
            note(f"Calibrator: {save}")
        return
    from logitherm.cli import tables

    out = console()
    out.print(tables.sentences([finding(fitted)]))
    out.print()
    out.print(table(fitted, nll))
    rows = f"Fit: {data.source} ({fitted.n_} answers, {fitted.unlisted_} of them not listed)."
    on = "the same rows, which were fitted" if test is None else f"{scored.source} ({len(scored.answers)} answers)"
    out.print(tables.footnote(f"{rows} NLL: {on}.\nT is a guess within its bounds, which hold whatever is not listed."))
    if save is not None:
        out.print()
        out.print(f"  {'Calibrator':<12}{save}", markup=False, soft_wrap=True)


def apply(calibrator: Path, answers: Path, output: Path, force: bool) -> None:
    """Write for each answer its calibrated probabilities, and bounds on them for whatever is not listed."""
    from logitherm.calibration import TruncatedTemperatureScaling, load_calibrator
    from logitherm.cli.files import remark_bound, require_writable
    from logitherm.cli.tables import number
    from logitherm.io import InputError, require_file, write_whole

    if output.suffix.lower() != SUFFIX:
        raise click.UsageError(f"-o must end in {SUFFIX}, as the answers do.")
    require_writable(output, [calibrator, answers], force=force)
    with progress() as tell:
        tell(f"reading {calibrator.name}")
        require_file(calibrator, f"make one with `logitherm calibrate answers{SUFFIX} ... --save {calibrator.name}`")
        fitted = load_calibrator(calibrator)
        if not isinstance(fitted, TruncatedTemperatureScaling):
            raise InputError(
                f"{calibrator}: must be a calibrator of answers ({SUFFIX}); got {type(fitted).__name__}; fit one"
            )
        data = _read(answers, _kind_of(fitted, calibrator), tell, need_answer=False)
        tell("applying")
        p, (low, high) = fitted.predict_proba(data.answers), fitted.probability_bounds(data.answers)
        lines = [
            json.dumps(
                {
                    "probabilities": {token: float(p[row, k]) for k, token in enumerate(tokens)},
                    "bounds": {token: [float(low[row, k]), float(high[row, k])] for k, token in enumerate(tokens)},
                },
                ensure_ascii=False,
                allow_nan=False,
            )
            for row, tokens in enumerate(data.tokens)
        ]
        write_whole(output, ("\n".join(lines) + "\n").encode(), force=force)
    remark_bound(calibrator, fitted.at_bound_)
    console(stderr=True).print(
        f"{output}: {len(lines)} answers by T = {number(fitted.temperature_)}", markup=False, soft_wrap=True
    )


def _require_usage(asked: Kind, test: Path | None) -> None:
    """Only what is for answers, and which of the two kinds they are."""
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is click.core.ParameterSource.COMMANDLINE and parameter.name not in TAKEN:
            raise click.UsageError(f"{parameter.opts[0]} is for files of logits, not for answers ({SUFFIX}).")
    if (asked.choices is None) == (asked.vocabulary is None):
        raise click.UsageError(
            "answers need either --choices A,B,C,D, for multiple choice, or --vocabulary N, the number of tokens."
        )
    if test is not None and test.resolve() == context.params["val"].resolve():
        raise click.UsageError("TEST must be another file than VAL: what was fitted says nothing of new answers.")
    if test is not None and not holds_answers(test):
        raise click.UsageError(f"TEST must be answers too, a {SUFFIX} file.")


def _read(path: Path, asked: Kind, tell: Tell, *, need_answer: bool = True) -> Answers:
    import numpy as np

    from logitherm.calibration import TopAnswers
    from logitherm.integrations.logprobs import listed_tokens
    from logitherm.io import InputError, read_answers

    tell(f"reading {path.name}")
    most = asked.top or 1 << 30
    found = read_answers(
        path, lambda response: listed_tokens(response, most), need_answer=need_answer, choices=asked.choices
    )
    rounding = 1e-6 if asked.rounding is None else asked.rounding
    try:
        if asked.choices is not None:
            listed = [dict(_largest(each.listed, most)) for each in found]
            answers = TopAnswers.of_choices(listed, asked.choices, rounding=rounding)
            tokens = [list(asked.choices)] * len(found)
        else:
            top = [_largest(each.listed, most) for each in found]
            width = max(map(len, top))
            values = np.full((len(found), width), -math.inf)
            occurred = np.full(len(found), -math.inf)
            for row, each in enumerate(found):
                values[row, : len(top[row])] = [value for _, value in top[row]]
                if each.answer in each.listed and each.answer not in dict(top[row]):
                    occurred[row] = each.listed[each.answer]
            extra = occurred if (occurred > -math.inf).any() else None
            answers = TopAnswers.of_tokens(values, states=asked.vocabulary or 1, occurred=extra, rounding=rounding)
            tokens = [[token for token, _ in each] for each in top]
    except ValueError as error:  # of rows together; those of single lines are named by the reader
        raise InputError(f"{path}: {error}") from error
    labels = None
    if need_answer:
        labels = np.array([_place(each.answer, tokens[row], each.listed, answers) for row, each in enumerate(found)])
    return Answers(path.name, tokens, answers, labels)


def _largest(listed: dict[str, float], most: int) -> list[tuple[str, float]]:
    return sorted(listed.items(), key=lambda pair: -pair[1])[:most]


def _place(answer: str | None, tokens: list[str], listed: dict[str, float], answers: TopAnswers) -> int:
    """The column of an answer: the last for one listed beyond the top, -1 for one that is not listed."""
    if answer in tokens:
        return tokens.index(answer)
    return answers.log_probabilities.shape[1] - 1 if answer in listed else -1


def _provenance(data: Answers, asked: Kind) -> dict[str, Any]:
    from dataclasses import asdict

    from logitherm.calibration.provenance import data_hash

    return {
        "name": data.source,
        "method": "truncated",
        "answers": asdict(asked),
        "fitted_to": {"sha256": data_hash(data.answers.log_probabilities, data.labels), "rows": len(data.answers)},
    }


def _kind_of(fitted: TruncatedTemperatureScaling, path: Path) -> Kind:
    from logitherm.io import InputError

    try:
        kept = dict((fitted.provenance_ or {})["answers"])
        choices = kept.pop("choices")
        return Kind(choices=None if choices is None else tuple(choices), **kept)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: must say what its answers are, choices or tokens; it was not saved by `logitherm calibrate`; fit "
            "it again there, or use it in Python"
        ) from error


def _remark(data: Answers, fitted: TruncatedTemperatureScaling) -> None:
    from logitherm.calibration.verdict import FEW

    if fitted.n_ < FEW:
        warn(f"{data.source}: {fitted.n_} answers hardly tell how large their own error is; label at least {FEW}")
    if fitted.unlisted_ and fitted.temperature_bounds_[1] == math.inf and fitted.at_bound_ is None:
        warn(
            f"{data.source}: {fitted.unlisted_} right answers are not among those listed, which leaves T open to "
            "infinity; ask for more log-probabilities, or leave these lines out"
        )


def _summary(
    data: Answers, scored: Answers, asked: Kind, fitted: TruncatedTemperatureScaling, nll: list[float]
) -> dict[str, Any]:
    names = ("temperature", "temperature_bounds", "interval", "standard_error", "at_bound", "n", "unlisted")
    return {
        "file": data.source,
        "choices": asked.choices,
        "vocabulary": asked.vocabulary,
        **{name: getattr(fitted, f"{name}_") for name in names},
        "confidence": fitted.confidence,
        "nll_before": nll[0],
        "nll_after": nll[1],
        "scored_on": scored.source,
        "finding": finding(fitted),
    }


def finding(fitted: TruncatedTemperatureScaling) -> str:
    """The answer in one sentence, which claims no more than the interval allows."""
    from logitherm.cli.tables import number

    low, high = fitted.interval_
    t = f"T = {number(fitted.temperature_)}"
    if fitted.at_bound_ == "zero":
        return "Every answer is the most probable one: these cannot tell how sure the model should be (T = 0)."
    if fitted.at_bound_ == "infinite":
        return "The log-probabilities say nothing about these answers: check that the two belong together."
    if low > 1:
        return f"The model is overconfident: too cold, it needs heating to {t}."
    if high < 1:
        return f"The model is underconfident: too hot, it needs cooling to {t}."
    return f"The model's temperature cannot be told from 1 on {fitted.n_} answers ({t})."


def table(fitted: TruncatedTemperatureScaling, nll: list[float]) -> RenderableType:
    from rich.table import Table

    from logitherm.cli.tables import decimals_of, number

    decimals = decimals_of(*fitted.interval_)

    def ends(pair: tuple[float, float]) -> str:
        return " to ".join(number(end, decimals) for end in pair)

    grid = Table.grid(padding=(0, 3))
    grid.add_row("  Temperature", f"[bold]{number(fitted.temperature_, decimals)}[/]")
    grid.add_row("  Bounds", f"{ends(fitted.temperature_bounds_)}, for whatever is not listed")
    grid.add_row(f"  {100 * fitted.confidence:g} % interval", f"{ends(fitted.interval_)}, with the sampling error")
    grid.add_row("  Standard error", f"{number(fitted.standard_error_, decimals)} sandwich, of sampling alone")
    grid.add_row("  NLL, nats", f"{nll[0]:.4g} at T = 1, {nll[1]:.4g} at T = {number(fitted.temperature_, decimals)}")
    return grid
