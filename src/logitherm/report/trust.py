"""The section of the report on selective prediction: answer where the model is sure, defer where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from logitherm.report.words import BOUNDS, DASH, NBSP, as_number

FIGURE = "risk-coverage"
HARDLY = 1e-4  # share of pairs in another order below which it is not worth a number
OFF = 0.005  # by which the coverage of tied rows may miss a half without a word


def trust(study: Mapping[str, Any], export: Callable[[str], str]) -> str:
    """The whole section, or nothing where the study has no curves."""
    selective = study.get("selective")
    if not selective:
        return ""
    return (
        '<section id="trust" aria-labelledby="trust-heading">'
        f'<div class="head"><h2 id="trust-heading">Which answers to trust</h2>{export(FIGURE)}</div>'
        "<p>Answer where the model is sure and leave the rest to somebody else: the curve says how many of the answers "
        "given are wrong. Its mean over all coverages is the AURC; the lower it is, the better the confidences tell "
        "right from wrong.</p>"
        f'<div class="pair"><figure><div class="chart" id="{FIGURE}" role="img" aria-label="Share of wrong answers '
        'against the share of rows answered, before and after; its numbers are behind the CSV button"></div></figure>'
        f'<div>{_table(selective)}<p class="note">{_order(study)}</p></div></div></section>'
    )


def _table(selective: Mapping[str, Any]) -> str:
    sides = ("before", "after")
    rows = [
        ("AURC", "mean of the curve", [_score(selective[side]["aurc"]) for side in sides]),
        ("Excess AURC", "over a perfect order", [_score(selective[side]["excess_aurc"]) for side in sides]),
        ("Wrong, surest half", "", [_half(selective[side]["half"]) for side in sides]),
        ("Wrong, all rows", "", [f"<b>{_share(selective[side]['risk'][-1])}</b>" for side in sides]),
    ]
    body = "".join(
        f'<tr><th scope="row">{name}<small>{words}</small></th>'
        + "".join(f'<td class="{side}">{cell}</td>' for side, cell in zip(sides, cells, strict=True))
        + "</tr>"
        for name, words, cells in rows
    )
    head = '<tr><th scope="col"></th><th scope="col">Before</th><th scope="col">After</th></tr>'
    return f'<table class="small"><thead>{head}</thead><tbody>{body}</tbody></table>'


def _score(score: Mapping[str, float | None]) -> str:
    known = score["low"] is not None and score["high"] is not None
    interval = f"{as_number(score['low'], 4)}{DASH}{as_number(score['high'], 4)}" if known else "no interval"
    return f"<b>{as_number(score['value'], 4)}</b><small>{interval}</small>"


def _half(half: Mapping[str, float]) -> str:
    tied = f"<small>ties: {_share(half['coverage'])} of the rows</small>" if half["coverage"] > 0.5 + OFF else ""
    return f"<b>{_share(half['risk'])}</b>{tied}"


def _share(value: float) -> str:
    return f"{as_number(100 * value, 2)}{NBSP}%"


def _order(study: Mapping[str, Any]) -> str:
    """Whether rows changed places, and what that does to the AURC."""
    selective, single = study["selective"], study["method"] == "temperature"
    what, bound = "The temperature" if single else "The calibrator", study["fit"].get("at_bound")
    if single and bound:
        return (
            f"At T{NBSP}={NBSP}{BOUNDS[bound]} all confidences are alike: they no longer tell which answers to trust."
        )
    share = selective["discordant"]
    if not share:
        why = " (with two classes it cannot do otherwise)" if single and study["classes"] == 2 else ""
        return f"{what} leaves the rows in their order of confidence{why}, so it changes nothing here."
    pairs = f"less than {_share(HARDLY)}" if share < HARDLY else f"{as_number(100 * share, digits=2)}{NBSP}%"
    can = ", which it can with more than two classes" if single else ""
    return (
        f"{what} puts {pairs} of all pairs of rows in another order of confidence{can}; the AURC {_change(selective)}."
    )


def _change(selective: Mapping[str, Any]) -> str:
    before, after = (selective[side]["aurc"]["value"] for side in ("before", "after"))
    if abs(after - before) < 5e-5:
        return "stays the same to four decimals"
    share = f" ({as_number(100 * abs(after / before - 1), digits=2)}{NBSP}%)" if before else ""
    return f"{'falls' if after < before else 'rises'} by {as_number(abs(after - before), 4)}{share}"
