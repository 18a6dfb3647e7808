"""The temperatures of groups in the report: every group, or of many those farthest from what all have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any, Protocol

from logitherm.report.words import NBSP, as_number, as_power, as_temperature

MOST = 12  # groups that are shown


class Export(Protocol):
    """Makes the buttons of a table or figure."""

    def __call__(self, figure: str, *, image: bool = True) -> str: ...


def group_table(study: Mapping[str, Any], export: Export, most: int = MOST) -> str:
    """T of each group with its interval, sorted; nothing for another method, or where the fit is at a bound."""
    groups, common = study.get("groups"), study.get("common")
    if not groups or not common or study["fit"].get("at_bound"):
        return ""
    shown = sorted(farthest(groups, common["temperature"], most), key=lambda group: group["temperature"])
    head = '<tr><th scope="col">Group</th><th scope="col">T</th><th scope="col">95&nbsp;% interval</th></tr>'
    return (
        f'<div class="head groups"><h3>T of each group</h3>{export("group-temperatures", image=False)}</div>'
        f'<table class="small groups"><thead>{head}</thead><tbody>{"".join(map(_row, shown))}</tbody></table>'
        f'<p class="note">{_words(common, len(groups) - len(shown))}</p>'
    )


def farthest(groups: list[Mapping[str, Any]], common: float, most: int) -> list[Mapping[str, Any]]:
    """At most so many groups: those whose T is the farthest from the common one, as a ratio."""
    return sorted(groups, key=lambda group: -abs(math.log(group["temperature"] / common)))[:most]


def _row(group: Mapping[str, Any]) -> str:
    low, high = group["interval"]
    ends = [as_temperature(end, group) for end in (low, high)]
    name, value = escape(str(group["group"])), as_temperature(group["temperature"], group)
    return f'<tr><th scope="row">{name}</th><td class="after"><b>{value}</b></td><td>{ends[0]} to {ends[1]}</td></tr>'


def _words(common: Mapping[str, Any], left_out: int) -> str:
    p = common["p_value"]
    test = "" if p is None else f" ({_chance(p)})"
    more = f" {left_out} more groups are closer to the common T." if left_out > 1 else ""
    more = " One more group is closer to the common T." if left_out == 1 else more
    return (
        f"Common T{NBSP}={NBSP}{as_number(common['temperature'])}; log{NBSP}T differs by "
        f"{as_number(common['deviation'])} between groups{test}. A group of few rows is drawn to the common T.{more}"
    )


def _chance(p: float) -> str:
    return f"p{NBSP}&lt;{NBSP}{as_power(-300)}" if p < 1e-300 else f"p{NBSP}={NBSP}{as_number(p, digits=2)}"
