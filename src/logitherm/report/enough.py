"""The section of the report that says whether one temperature is enough, and what would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from logitherm.report.words import DASH, NBSP, as_number, as_power

FAMILIES = {
    "confidence": "T by confidence",
    "entropy": "T by entropy",
    "bias": "a bias per class",
    "class": "T and bias per class",
    "matrix": "a matrix",
    "group": "T by group",
    "ensemble": "a mixture",
}
PARTS = {  # of the rows: the figure's name, and what its axis says
    "by_confidence": ("temperature-by-confidence", "confidence of the rows, calibrated"),
    "by_group": ("temperature-by-group", "group"),
    "by_class": ("temperature-by-class", "predicted class"),
}


def parted(goodness: Mapping[str, Any] | None) -> dict[str, tuple[Any, str]]:
    """The figures of temperatures of parts: those with two at least."""
    if not goodness:
        return {}
    return {
        name: (goodness[key], axis)
        for key, (name, axis) in PARTS.items()
        if sum(bool(part["temperature"]) for part in goodness[key]) > 1
    }


def enough(study: Mapping[str, Any], export: Callable[[str], str]) -> str:
    """The whole section, or nothing where it was not asked."""
    goodness, selection = study.get("goodness"), study.get("selection")
    if not goodness or not goodness["by_confidence"]:
        return ""
    figures = {name: _figure(name, axis, export(name)) for name, (_, axis) in parted(goodness).items()}
    confidence, group, predicted = (figures.get(name, "") for name, _ in PARTS.values())
    methods = _methods(selection, study["method"]) if selection else ""
    splits, tests = _splits(selection) if selection else "", _tests(goodness)
    if group and predicted:  # side by side below the rest, so that neither column is left half empty
        pairs = [(confidence + splits, methods + tests), (group, predicted)]
    else:
        pairs = [(confidence + tests + splits, methods + group + predicted)]
    rows = "".join(f'<div class="pair"><div>{left}</div><div>{right}</div></div>' for left, right in pairs)
    return (
        '<section id="enough" aria-labelledby="enough-heading">'
        '<div class="head"><h2 id="enough-heading">Is one temperature enough?</h2></div>'
        "<p>If it is, rows of any confidence need the same T: the dots lie on the line within their intervals, the "
        "tests find nothing, and no other method does better on rows it was not fitted to.</p>"
        f"{rows}</section>"
    )


def _figure(name: str, axis: str, export: str) -> str:
    return (
        f'<figure><div class="head"><h3>T by {axis.split(" of")[0]}</h3>{export}</div><div class="chart" id="{name}" '
        f'role="img" aria-label="Fitted T by {axis}; its numbers are behind the CSV button"></div></figure>'
    )


def _tests(goodness: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{FAMILIES[test["family"]]}</th><td>{_p_value(_trusted(test))}</td>'
        f"<td>{as_number(test['gain'], 4)}</td></tr>"
        for test in goodness["tests"]
    )
    head = (
        '<tr><th scope="col">One T against &hellip;</th><th scope="col">p<small>robust</small></th>'
        '<th scope="col">gain<small>nats per row</small></th></tr>'
    )
    return f'<table class="small"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _trusted(test: Mapping[str, Any]) -> float:
    """As `FitTest.trusted_p_value`."""
    robust = test["robust_p_value"]
    return float(test["p_value"] if robust is None else robust)


def _p_value(p: float) -> str:
    return f"&lt;{NBSP}{as_power(-300)}" if p < 1e-300 else as_number(p, digits=2)


def _methods(selection: Mapping[str, Any], used: str) -> str:
    rows = []
    for each in selection["candidates"]:
        name = escape(each["method"])
        name = f"<b>{name}</b>" if each["method"] == used else name
        keeps = "" if each["keeps_predictions"] else "<small>may change predictions</small>"
        if each.get("ineligible"):
            keeps = f"<small>not eligible: {escape(each['ineligible'])}</small>"
        if each["failure"]:
            values = f"<td>{DASH}</td><td>{DASH}</td>"
        else:
            nll = as_number(each["nll"], 4) if each["nll"] is not None else "\u221e"
            behind = each["behind"]
            side = "behind" if (behind or 0) > 0 else "ahead"
            more = (
                f"<small>{as_number(abs(behind), 4)} ± {as_number(each['error'], 4)} {side}</small>" if behind else ""
            )
            values = f"<td>{nll}{more}</td><td>{as_number(100 * each['ece'], 2)}{NBSP}%</td>"
        rows.append(f'<tr><th scope="row">{name}{keeps}</th>{values}</tr>')
    head = (
        f'<tr><th scope="col">Method<small>{selection["folds"]}-fold cross-validation</small></th>'
        '<th scope="col">NLL</th><th scope="col">ECE</th></tr>'
    )
    return f'<table class="small"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def _splits(selection: Mapping[str, Any]) -> str:
    """What recalibration mends of the scores, and what it cannot."""
    nll, brier = selection["splits"]
    if nll["total"] is None or nll["refinement"] is None:
        return ""
    best = escape(selection["best"])
    rows = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(f"<td>{as_number(split[part], 4)}{_error(split, part)}</td>" for split in (nll, brier))
        + "</tr>"
        for name, part in (
            ("as it is", "total"),
            (f"recalibration mends<small>{best}</small>", "calibration"),
            ("a better model would", "refinement"),
        )
    )
    head = (
        f'<tr><th scope="col">Of the score<small>{selection["folds"]}-fold cross-validation</small></th>'
        '<th scope="col">NLL</th><th scope="col">Brier</th></tr>'
    )
    return f'<table class="small"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def _error(split: Mapping[str, Any], part: str) -> str:
    return f"<small>± {as_number(split['error'], 4)}</small>" if part == "calibration" else ""
