"""The numbers behind the report as tables: plain columns, ready for CSV. Nothing is computed, only laid out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from logitherm.report.enough import parted

SCORE_NAMES = ("accuracy", "nll", "brier", "ece", "ece_equal_mass", "classwise_ece", "smooth_ece", "mce")


def _diagram_table(diagram: Mapping[str, Any]) -> dict[str, list[Any]]:
    table = {
        "bin_low": list(diagram["edges"][:-1]),
        "bin_high": list(diagram["edges"][1:]),
        "rows": list(diagram["count"]),
        "confidence": list(diagram["confidence"]),
        "accuracy": list(diagram["accuracy"]),
    }
    if "low" in diagram:
        table |= {"accuracy_low": list(diagram["low"]), "accuracy_high": list(diagram["high"])}
    return table


def _grid_table(grid: Mapping[str, Any]) -> dict[str, list[Any]]:
    """One line for each temperature and bin."""
    table: dict[str, list[Any]] = {}
    for i, diagram in enumerate(grid["diagrams"]):
        part = _diagram_table(diagram)
        bins = len(part["rows"])
        heads = {name: [grid[name][i]] * bins for name in ("temperature", "nll", "ece", "brier")}
        for name, values in (heads | part).items():
            table.setdefault(name, []).extend(values)
    return table


def _group_tables(study: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """The temperatures of all groups of the method "group", also those that the page leaves out."""
    groups = study.get("groups") or []
    if not groups:
        return {}
    ends = [group["interval"] or (None, None) for group in groups]
    names, temperatures = ([group[key] for group in groups] for key in ("group", "temperature"))
    low, high = (list(column) for column in zip(*ends, strict=True))
    return {"group-temperatures": {"group": names, "temperature": temperatures, "low": low, "high": high}}


def _selective_table(study: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """The risk-coverage curves, one below the other."""
    selective = study.get("selective")
    if not selective:
        return {}
    sides = {side: selective[side] for side in ("before", "after")}
    table: dict[str, list[Any]] = {"side": [side for side, curve in sides.items() for _ in curve["risk"]]}
    for name in ("threshold", "coverage", "risk"):
        table[name] = [value for curve in sides.values() for value in curve[name]]
    return {"risk-coverage": table}


def export_tables(study: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """The numbers of the table and of every figure, each as named columns of one length: what the buttons export.

    Parameters
    ----------
    study : mapping
        A calibration study as JSON-ready types.

    Returns
    -------
    dict
        Name of the figure to its columns; None where a number is undefined.
    """
    reliability, fit = study["reliability"], study["fit"]
    before, after = reliability["before"], reliability["after"]
    keys = [key for key in SCORE_NAMES if key in study["before"] and key in study["after"]]
    scores: dict[str, list[Any]] = {"score": keys}
    for when in ("before", "after"):
        for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            scores[when + suffix] = [study[when][key].get(part) for key in keys]
    robust = (study.get("state") or {}).get("robust")
    low, high = fit.get("sandwich_interval" if robust else "interval") or (None, None)
    curve = study["nll_curve"]
    marks = [("curve", t, v) for t, v in zip(curve["temperature"], curve["nll"], strict=True)]
    marks += [
        ("unscaled", 1.0, fit.get("nll_before")),
        ("fitted", fit["temperature"], fit.get("nll_after")),
        ("interval_low", low, None),
        ("interval_high", high, None),
    ]
    point, temperature, nll = (list(column) for column in zip(*marks, strict=True))
    columns = ("name", "n", "temperature", "low", "high")
    by_part = {
        name: {key: [part[key] for part in parts] for key in columns}
        for name, (parts, _) in parted(study.get("goodness")).items()
    }
    return (
        by_part
        | _group_tables(study)
        | _selective_table(study)
        | {
            "scores": scores,
            "reliability-before": _diagram_table(before),
            "reliability-after": _diagram_table(after),
            "slider-diagram": _grid_table(reliability["grid"]),
            "confidence-histogram": {
                "bin_low": list(before["edges"][:-1]),
                "bin_high": list(before["edges"][1:]),
                "rows_before": list(before["count"]),
                "rows_after": list(after["count"]),
            },
            "nll-curve": {"point": point, "temperature": temperature, "nll": nll},
        }
    )
