"""Results as people read them, within 80 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

# attribute of an Evaluation, its name, and the unit it is shown in
SCORES = (
    ("accuracy", "Accuracy", "%"),
    ("nll", "NLL, nats", ""),
    ("brier", "Brier score", ""),
    ("ece", "ECE", "%"),
    ("ece_equal_mass", "ECE, equal mass", "%"),
    ("classwise_ece", "ECE, class-wise", "%"),
    ("smooth_ece", "Smooth ECE", "%"),
    ("mce", "Max. error (MCE)", "%"),
)
MOST_DECIMALS = 6
SCORE_DECIMALS = {"": 4, "%": 3}  # at most, by unit
WIDTH = 80  # columns that no row of a table exceeds


def number(value: float | None, decimals: int | None = None) -> str:
    """Fixed decimals, or three significant digits, also of what is tiny or huge; a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size == 0 and decimals in (None, MOST_DECIMALS):
        return "0"
    if size >= 1e5 or 0 < size < 1e-3:
        return f"{value:.3g}"
    if decimals is None:
        return f"{value:.0f}" if size >= 1e3 else f"{value:.3g}"
    return f"{value:.{decimals}f}"


def decimals_of(low: float | None, high: float | None) -> int | None:
    """The decimals that show the width of an interval to two digits."""
    if low is None or high is None or not 0 < high - low < math.inf:
        return None
    return min(max(1 - math.floor(math.log10(high - low)), 0), MOST_DECIMALS)


def fixed(value: float | None, decimals: int) -> str:
    """So many decimals however small the value, so that numbers of one cell agree; what would be 0 then says so."""
    if value is None or not math.isfinite(value) or abs(value) >= 1e5:
        return number(value)
    least = 10.0**-decimals
    if value != 0 and abs(value) < least / 2:
        return f"<{least:.{decimals}f}" if value > 0 else f">-{least:.{decimals}f}"
    return f"{value:.{decimals}f}"


def chance(p_value: float) -> str:
    """A p-value, also one that no float64 holds."""
    return "p < 1e-300" if p_value < 1e-300 else f"p = {p_value:.2g}"


def temperature_text(fit: Any) -> str:
    return number(fit.temperature, decimals_of(*(fit.interval or (None, None))))


def temperature_table(fit: Any, prior: tuple[float, float] | None = None) -> RenderableType:
    """T with its interval, and both standard errors; or the error under a prior."""
    from rich.table import Table

    from logitherm.calibration.trusted import trusted_p_value

    decimals = decimals_of(*(fit.interval or (None, None)))
    finer = None if decimals is None else decimals + 1
    table = Table.grid(padding=(0, 3))
    value = number(fit.temperature, decimals)
    if fit.interval is not None:
        low, high = (number(end, decimals) for end in fit.interval)
        value = f"[bold]{value}[/]   {100 * fit.confidence:g} % interval {low} to {high}"
    table.add_row("  Temperature", value)
    if prior is not None:
        table.add_row("  Prior", f"centre {number(prior[0])}, deviation {number(prior[1])} of log T")
        table.add_row("  Standard error", f"{number(fit.standard_error, finer)} under the prior")
    elif fit.standard_error is not None or fit.sandwich_error is not None:
        errors = f"{number(fit.standard_error, finer)} model-based, {number(fit.sandwich_error, finer)} sandwich"
        table.add_row("  Standard error", errors)
    p_value, robust = trusted_p_value(fit)
    if fit.sandwich_interval is not None and robust:
        low, high = (number(end, decimals) for end in fit.sandwich_interval)
        table.add_row("  Robust interval", f"{low} to {high}, by the sandwich error: trust this one")
    if p_value is not None:
        by = "robust, by the sandwich error" if robust else "likelihood ratio"
        table.add_row("  Against T = 1", f"{chance(p_value)} ({by})")
    if not fit.converged:
        table.add_row("  Solver", "[bold]did not converge[/]")
    return table


def group_table(scaling: Any, most: int = 20) -> RenderableType:
    """T of every group with its interval; of many groups those farthest from the common T."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 2), pad_edge=False, show_edge=False)
    table.add_column("Group", overflow="fold")
    for title in ("T", "95 % interval"):
        table.add_column(title, justify="right", no_wrap=True)
    rows = list(zip(scaling.groups_.tolist(), scaling.temperatures_.tolist(), scaling.intervals_.tolist()))
    farthest = sorted(rows, key=lambda row: -abs(math.log(row[1] / scaling.temperature_))) if len(rows) > most else rows
    for group, t, (low, high) in sorted(farthest[:most], key=lambda row: row[1]):
        decimals = decimals_of(low, high)
        table.add_row(
            str(group), f"[bold]{number(t, decimals)}[/]", f"{number(low, decimals)} to {number(high, decimals)}"
        )
    more = f", and {len(rows) - most} more that are closer to it" if len(rows) > most else ""
    common = f"Common T = {number(scaling.temperature_)}; log T differs by {number(scaling.deviation_)} between groups"
    return Group(Padding(table, (0, 0, 0, 2)), footnote(f"{common}{more}. The temperature above is one for all rows."))


def score_table(columns: Sequence[tuple[str, Any]]) -> RenderableType:
    """Evaluations side by side, each value with its interval, in at most 80 columns and one line a row."""
    from rich.box import SIMPLE_HEAD
    from rich.padding import Padding
    from rich.table import Table

    rows = [_score_row(name, unit, [getattr(each, key) for _, each in columns]) for key, name, unit in SCORES]
    titles = [" ", *(text for title, _ in columns for text in (title, "95 % interval"))]
    longest = [max(len(line) for text in column for line in text.split("\n")) for column in zip(titles, *rows)]
    room = 1 if 2 + sum(longest) + 3 * len(titles) <= WIDTH else 0  # one space remains between columns
    table = Table(box=SIMPLE_HEAD, padding=(0, room), pad_edge=True, show_edge=False)
    table.add_column(" ", no_wrap=True)
    for title, _ in columns:
        table.add_column(title, justify="right", no_wrap=True, style="bold", header_style="not bold")
        table.add_column("95 % interval", justify="left", no_wrap=True, style="dim", vertical="bottom")
    for row in rows:
        table.add_row(*row)
    return Padding(table, (0, 0, 0, 2 - room))


def _score_row(name: str, unit: str, scores: Sequence[Any]) -> list[str]:
    """A score under every column, with the decimals of the widest of its intervals and one more at most."""
    scale = 100.0 if unit else 1.0
    ends = [(_scaled(score.low, scale), _scaled(score.high, scale)) for score in scores]
    known = [decimals for low, high in ends if (decimals := decimals_of(low, high)) is not None]
    fewest, most = (min(known), max(known)) if known else (2, 2) if unit else (4, 4)
    decimals = min(most, fewest + 1, SCORE_DECIMALS[unit])
    cells = [name]
    for score, (low, high) in zip(scores, ends, strict=True):
        value = fixed(_scaled(score.value, scale), decimals)
        cells += [f"{value} %" if unit else value]
        cells += [f"{fixed(low, decimals)} to {fixed(high, decimals)}" if _known(low, high) else ""]
    return cells


def plan_table(plan: Any) -> RenderableType:
    """Errors against the number of labels, the row that reaches the target in bold."""
    from rich.box import SIMPLE_HEAD
    from rich.padding import Padding
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 2), pad_edge=False, show_edge=False)
    for title in ("Labels", "Standard error\nof T", "Standard error\nof ECE", "ECE too high by,\non average"):
        table.add_column(title, justify="right", no_wrap=True)
    decimals = min(max(1 - math.floor(math.log10(min(size.standard_error for size in plan.sizes))), 0), MOST_DECIMALS)
    for size in plan.sizes:
        ece = (f"{100 * value:.2f} %" for value in (size.ece_error, max(size.ece_bias, 0.0)))
        bold = "bold" if size.n == plan.needed else None
        table.add_row(str(size.n), number(size.standard_error, decimals), *ece, style=bold)
    return Padding(table, (0, 0, 0, 2))


def _known(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and not math.isnan(low) and not math.isnan(high)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def footnote(text: str) -> RenderableType:
    from rich.padding import Padding
    from rich.text import Text

    return Padding(Text(text, style="dim"), (1, 2, 0, 2))


def sentences(verdict: Sequence[str]) -> RenderableType:
    """The first sentence in bold, the others after it."""
    from rich.text import Text

    first, rest = verdict[0], verdict[1:]
    return Text.assemble((first, "bold"), *(f"\n{sentence}" for sentence in rest))


def selection_table(selection: Any) -> RenderableType:
    """Methods as they fared in cross-validation, the chosen one marked."""
    from rich.box import SIMPLE_HEAD
    from rich.padding import Padding
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=True, show_edge=False)
    table.add_column("cross-validated")
    for title in ("NLL", "behind the best", "ECE"):
        table.add_column(title, justify="right")
    table.add_column("predictions")
    for each in selection.candidates:
        name = f"[bold]{each.method}, chosen[/]" if each.method == selection.chosen else each.method
        if each.failure:
            table.add_row(name, "-", "-", "-", "could not be fitted")
            continue
        behind = "best" if each.method == selection.best else f"{fixed(each.behind, 4)} ± {fixed(each.error, 4)}"
        kept = "kept" if each.keeps_predictions else "not eligible" if each.ineligible else "may change"
        table.add_row(name, fixed(each.nll, 4), behind, f"{fixed(100 * each.ece, 2)} %", kept)
    reason = next((each.ineligible for each in selection.candidates if each.ineligible), None)
    if reason is None:
        return Padding(table, (0, 0, 0, 1))
    from rich.console import Group

    return Group(Padding(table, (0, 0, 0, 1)), footnote(f"Not eligible: {reason}."))


def split_note(selection: Any, *, grouped: bool = False) -> RenderableType:
    """What recalibration mends of the NLL and the Brier score as they are; the methods compared know no groups."""
    names = {"nll": "NLL", "brier": "Brier score"}
    best = selection.best + (", without groups" if grouped else "")
    found = [
        f"{names[split.score]} {fixed(split.total, 4)} = {fixed(split.calibration, 4)} ± {fixed(split.error, 4)} "
        f"that recalibration mends ({best}) + {fixed(split.refinement, 4)} that it cannot."
        for split in selection.splits
        if math.isfinite(split.total) and math.isfinite(split.refinement)
    ]
    return footnote("\n".join([f"On the rows of the fit, {selection.folds}-fold cross-validated:", *found]))


def deferral_note(title: str, rule: Any, precision: float | None, area: Any) -> RenderableType:
    """Below which confidence to defer, and how well confidences order right and wrong answers at all."""
    aurc = f"AURC {number(area.value, 4)} ({number(area.low, 4)} to {number(area.high, 4)}): lower is a better order."
    wanted = f"{100 * (precision or 0):g} %"
    if not math.isfinite(rule.threshold):
        more = "no number of rows can" if precision == 1 else "more rows may"
        return footnote(
            f"{title}: no confidence is known from these rows above which {wanted} of the answers are right; {more} "
            f"tell, or ask for less. {aurc}"
        )
    return footnote(
        f"{title}: defer below a confidence of {rule.threshold:.6g}, and {wanted} of the accepted answers are "
        f"right, guaranteed at 95 %: here {100 * rule.precision.value:.4g} % "
        f"({100 * rule.precision.low:.4g} to {100 * rule.precision.high:.4g}) of the {100 * rule.coverage.value:.3g} % "
        f"accepted. {aurc}"
    )
