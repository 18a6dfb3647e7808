"""One offline HTML file about the attention heads of a model: a map, the heads that stand out, and their temperature.

The page is made as that of a calibration study is: nothing is loaded, everything is escaped, and no number is computed.
attention.html, attention.css and attention.js beside this file are the page, with page.css.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from logitherm._words import counted
from logitherm.report.attention_tables import KINDS, QUANTITIES, attention_tables
from logitherm.report.figures import ThemeName
from logitherm.report.frame import export_buttons, page
from logitherm.report.words import NBSP, as_number

NAMED = 14  # heads by name, of a finding


def render_attention(contents: Mapping[str, Any], *, title: str | None = None) -> str:
    """A report on attention as one HTML file that needs nothing else.

    Parameters
    ----------
    contents : mapping
        `AttentionReport.to_dict()` with `model`, and `file` where the inputs are of one. Without other temperatures
        the page has no slider.
    title : str, optional
        The heading; by default it names the model. It is escaped.

    Returns
    -------
    str
        The page; write it as UTF-8.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.attention.findings import AttentionReport
    >>> from logitherm.attention.heads import HeadSums
    >>> from logitherm.attention.state import attention_state
    >>> limits = {"collapsed": 1.5, "uniform": 0.95, "sink": 0.5, "nearly": 0.9, "drift": 0.03, "least_keys": 8}
    >>> layer, x = HeadSums("h.0", limits), np.zeros((1, 2, 9, 4))
    >>> layer.add(attention_state(x, x), {"q": x, "k": x, "temperature": 2.0})
    >>> report = AttentionReport((layer,), limits, 1, (9, 9))
    >>> render_attention(report.to_dict() | {"model": "m"}).startswith("<!DOCTYPE html>")
    True
    """
    start = _start(contents)
    data = {
        "study": contents,
        "stem": re.sub(r"[^A-Za-z0-9_-]+", "-", str(contents["model"])).strip("-") or "attention",
        "tables": attention_tables(contents),
        "figures": _figures(contents),
        "quantities": {key: {"name": look[0], "form": look[2]} for key, look in QUANTITIES.items()},
        "readings": _readings(contents),
        "about": _about_heads(contents),
        "places": _places(contents["positions"]),
        "start": start,
    }
    relative = contents["temperatures"]["relative"]
    parts = {
        "verdict": _verdict(contents),
        "quantities": "".join(
            f'<option value="{key}">{look[0]}</option>' for key, look in QUANTITIES.items() if _known(contents, key)
        ),
        "layers": "".join(
            f'<option value="{i}">{i}: {escape(layer["name"])}</option>' for i, layer in enumerate(contents["layers"])
        ),
        "turning": "" if relative else "hidden",
        "slider_max": max(len(relative) - 1, 0),
        "slider_start": _own(relative),
        "map_export": export_buttons("heads"),
        "positions_export": export_buttons("positions", image=False),
        "turn_export": export_buttons("temperatures", image=False) if relative else "",
        "layers_export": export_buttons("layers", image=False),
        "numbers": _layers(contents),
        "limits": _limits(contents),
        "sampled": _sampled(contents),
    }
    return page(
        "attention",
        parts,
        kicker="Attention report",
        title=title if title is not None else f"How sharp are the heads of {contents['model']}?",
        about=_about(contents),
        data=data,
        styles=("page.css", "attention.css"),
    )


def _known(contents: Mapping[str, Any], name: str) -> bool:
    return any(value is not None for row in contents["heads"][name] for value in row)


def _form(value: float | None, form: str) -> str:
    if value is None:
        return "not known"
    return as_percent(value) if form == ".0%" else as_number(value, 2 if form == ".2f" else None)


def as_percent(value: float) -> str:
    return f"{100 * value:.0f}{NBSP}%"


# -- figures -----------------------------------------------------------------------------------------------


def _figures(contents: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    from logitherm.report.attention_figures import against_relative_temperature, along_positions, head_map

    themes: tuple[ThemeName, ...] = ("light", "dark")
    marks = _marks(contents)
    relative = contents["temperatures"]["relative"]
    found: dict[str, dict[str, Any]] = {"positions": {}, "temperatures": {}}
    for theme in themes:
        found["positions"][theme] = along_positions(contents["positions"]["last"][-1], theme=theme).to_plotly_json()
        if relative:
            found["temperatures"][theme] = against_relative_temperature(relative, theme=theme).to_plotly_json()
        for name, look in QUANTITIES.items():
            if _known(contents, name):
                figure = head_map(_coloured(contents, name), marks, title=look[1], theme=theme)
                found.setdefault(f"map-{name}", {})[theme] = figure.to_plotly_json()
    if not relative:
        del found["temperatures"]
    return found


def _coloured(contents: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values of a map, with the range of its colours and their ticks."""
    title, _, form, scale, log = QUANTITIES[name]
    rows = contents["heads"][name]
    text = [[f"{title.lower()}: {_form(value, form)}" for value in row] for row in rows]
    known = [value for row in rows for value in row if value is not None]
    if form == ".0%" or name == "normalised_entropy":
        names = [(v, f"{v:.0%}" if form == ".0%" else f"{v:g}") for v in (0, 0.25, 0.5, 0.75, 1)]
        return {"z": rows, "text": text, "low": 0, "high": 1, "scale": scale, "ticks": names}
    if log:
        top = max(math.log10(max(max(known), 1.0)), 0.3)
        ticks = [(math.log10(v), f"{v:g}") for k in range(6) for v in (10**k, 2 * 10**k, 5 * 10**k)]
        logs = [[None if v is None else math.log10(max(v, 1.0)) for v in row] for row in rows]
        most = [(v, n) for v, n in ticks if v <= top * 1.001]
        return {"z": logs, "text": text, "low": 0, "high": top, "scale": scale, "ticks": most[:: 1 + len(most) // 8]}
    high = max(max(known), 1e-6)
    step = 10 ** math.floor(math.log10(high))
    step *= next(m for m in (0.2, 0.25, 0.5, 1, 2) if m * step * 6 >= high)
    ticks = [(i * step, f"{i * step:.6g}") for i in range(int(high / step * 1.001) + 1)]
    return {"z": rows, "text": text, "low": 0, "high": high, "scale": scale, "ticks": ticks}


def _marks(contents: Mapping[str, Any]) -> list[list[str]]:
    """The letters of the findings of each head."""
    marks = [[""] * layer["heads"] for layer in contents["layers"]]
    for kind, (letter, _, _) in KINDS.items():
        for i, j in contents["findings"][kind]:
            marks[i][j] += letter
    return marks


def _places(positions: Mapping[str, Any]) -> list[float]:
    """Where on the axis each bin of positions stands."""
    return [math.sqrt(first * last) for first, last in zip(positions["first"], positions["last"])]


# -- words -------------------------------------------------------------------------------------------------


def _own(relative: Sequence[float]) -> int:
    return min(range(len(relative)), key=lambda i: abs(math.log(relative[i])), default=0)


def _start(contents: Mapping[str, Any]) -> list[int]:
    """The head that the page begins with: the first that stands out."""
    for kind in ("collapsed", "sinks", "melting", "freezing", "uniform"):
        if contents["findings"][kind]:
            return list(contents["findings"][kind][0])
    return [0, 0]


def _about(contents: Mapping[str, Any]) -> str:
    low, high = contents["lengths"]
    heads = sum(layer["heads"] for layer in contents["layers"])
    what = f" of {escape(str(contents['file']))}" if contents.get("file") else ""
    long = f"{high} tokens" if low == high else f"{low} to {high} tokens"
    return (
        f"{counted(heads, 'head')} in {counted(len(contents['layers']), 'layer')}, over "
        f"{counted(contents['sequences'], 'sequence')}{what}, of {long}"
    )


def headline(contents: Mapping[str, Any]) -> str:
    """What stands out, in a sentence."""
    heads = sum(layer["heads"] for layer in contents["layers"])
    count = {kind: len(contents["findings"][kind]) for kind in KINDS}
    words = {
        "collapsed": "collapsed onto one key",
        "uniform": "spread over all keys alike",
        "sinks": "mostly on the first key",
    }
    said = [f"{count[kind]} {text}" for kind, text in words.items() if count[kind]]
    if not said:
        return f"None of {counted(heads, 'head')} is collapsed, uniform or a sink."
    number, _, what = said[0].partition(" ")
    said[0] = f"{number} {'is' if number == '1' else 'are'} {what}"
    return f"Of {counted(heads, 'head')} {', '.join(said[:-1])}{' and ' if len(said) > 1 else ''}{said[-1]}."


def named(pairs: Sequence[Sequence[int]], most: int = NAMED) -> str:
    """Heads as layer.head."""
    shown = ", ".join(f"{i}.{j}" for i, j in pairs[:most])
    return shown + (f" and {len(pairs) - most} more" if len(pairs) > most else "")


def _verdict(contents: Mapping[str, Any]) -> str:
    rows = []
    for kind, (letter, name, words) in KINDS.items():
        pairs = contents["findings"][kind]
        mark = f' <span class="mark">{letter}</span>' if letter else ""
        turns = _turns(contents, pairs) if kind in ("melting", "freezing") else ""
        listed = f"<small>{named(pairs)}{turns}</small>" if pairs else ""
        rows.append(
            f"<tr><th><b>{name}</b>{mark}<small>{words.format(**contents['limits'])}</small></th>"
            f"<td><b>{len(pairs) or 'none'}</b>{listed}</td></tr>"
        )
    return f'<p class="first">{headline(contents)}</p><table><tbody>{"".join(rows)}</tbody></table>'


def _turns(contents: Mapping[str, Any], pairs: Sequence[Sequence[int]]) -> str:
    at = [(i, j, contents["trends"][i][j]["turns_at"]) for i, j in pairs]
    said = [f"{i}.{j} at {t:.0f}" for i, j, t in at if t is not None][:5]
    return f"; half way between the two states: {', '.join(said)} keys" if said else ""


def _about_heads(contents: Mapping[str, Any]) -> list[list[str]]:
    """Of every head a sentence."""
    found = [["" for _ in range(layer["heads"])] for layer in contents["layers"]]
    kinds = {kind: {tuple(pair) for pair in contents["findings"][kind]} for kind in KINDS}
    for i, row in enumerate(found):
        for j in range(len(row)):
            names = [KINDS[kind][1].lower() for kind in KINDS if (i, j) in kinds[kind]]
            trend = contents["trends"][i][j]
            slope = "" if trend is None else (
                f" Where the length doubles, entropy over log n changes by {round(trend['slope'], 3) + 0.0:+.3f}."
            )  # fmt: skip
            t = contents["layers"][i]["temperature"]
            row[j] = f"{' and '.join(names).capitalize() or 'Nothing stands out'}. Own T = {t:.4g}.{slope}".replace(
                "-0.", "\u22120."
            )
    return found


def _readings(contents: Mapping[str, Any]) -> list[list[list[dict[str, str]]]]:
    """What the slider says at each temperature, by layer and head."""
    other = contents["temperatures"]
    return [
        [
            [
                {
                    "relative": f"{r:.3g}",
                    "temperature": f"{r * layer['temperature']:.3g}",
                    "entropy": _form(other["entropy"][i][j][n], ".2f"),
                    "support": _form(other["support"][i][j][n], ".3g"),
                    "top_probability": _form(other["top_probability"][i][j][n], ".0%"),
                }
                for n, r in enumerate(other["relative"])
            ]
            for j in range(layer["heads"])
        ]
        for i, layer in enumerate(contents["layers"])
    ]


def _layers(contents: Mapping[str, Any]) -> str:
    """A table of layers that reads without JavaScript."""
    names = [name for name in QUANTITIES if _known(contents, name)]
    head = "".join(f"<th>{QUANTITIES[name][0]}</th>" for name in names)
    rows = "".join(
        f"<tr><th>{i}</th><td>{layer['temperature']:.4g}</td>"
        + "".join(f"<td>{_form(layer[name], QUANTITIES[name][2])}</td>" for name in names)
        + "</tr>"
        for i, layer in enumerate(contents["layers"])
    )
    return f"<table class='small'><thead><tr><th>Layer</th><th>T</th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _sampled(contents: Mapping[str, Any]) -> str:
    most = contents["queries"]
    if most is None or most >= contents["lengths"][1]:
        return "all queries"
    return f"{most} queries of every longer sequence, evenly spread"


def _limits(contents: Mapping[str, Any]) -> str:
    return f"Queries that see fewer than {contents['limits']['least_keys']:g} keys do not count for findings."
