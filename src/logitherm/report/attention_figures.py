"""The figures of a report on attention: a map of heads, and axes on which the page draws the one that is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped, unused-ignore]

from logitherm.report.figures import THEMES, Theme, ThemeName

LETTERS = 24  # heads of a layer up to which letters fit into the cells of the map
# cold is blue and hot is orange; a share goes from nothing to dark
SCALES: dict[ThemeName, dict[str, list[list[Any]]]] = {
    "light": {
        "heat": [[0, "#0a62a8"], [0.5, "#e9edf1"], [1, "#b8500a"]],
        "share": [[0, "#eef1f4"], [0.5, "#84b3da"], [1, "#0a4d86"]],
    },
    "dark": {
        "heat": [[0, "#6cb8f5"], [0.5, "#2a323c"], [1, "#f6a255"]],
        "share": [[0, "#232b35"], [0.5, "#3f78a8"], [1, "#9bd0fb"]],
    },
}


def head_map(
    values: Mapping[str, Any], marks: Sequence[Sequence[str]], *, title: str, theme: ThemeName = "light"
) -> go.Figure:
    """A quantity of every head as colour, layers downward.

    Parameters
    ----------
    values : mapping
        `z` by layer and head, None where there is none; `text` of each; `low`, `high` of the colours, `scale` "heat"
        or "share", and `ticks`, pairs of a value and its name.
    marks : sequence by layer of letters by head
        What stands in the cells, where there is room.
    title : str
        Of the colours.

    Returns
    -------
    plotly.graph_objects.Figure
        One trace with `meta` "heads".
    """
    look = THEMES[theme]
    layers, heads = len(values["z"]), max(map(len, values["z"]))
    trace = go.Heatmap(
        meta="heads",
        z=values["z"],
        x=list(range(heads)),
        y=list(range(layers)),
        text=marks,
        customdata=values["text"],
        texttemplate="%{text}" if heads <= LETTERS else None,
        textfont={"size": 11},
        colorscale=SCALES[theme][values["scale"]],
        zmin=values["low"],
        zmax=values["high"],
        xgap=1,
        ygap=1,
        hovertemplate="layer %{y}, head %{x}<br>%{customdata}<extra></extra>",
        colorbar={
            "orientation": "h",
            "thickness": 10,
            "len": 0.9,
            "x": 0.5,
            "y": 1.0,
            "yanchor": "bottom",
            "outlinewidth": 0,
            "tickvals": [value for value, _ in values["ticks"]],
            "ticktext": [name for _, name in values["ticks"]],
            "tickfont": {"size": 11, "color": look.muted},
            "title": {"text": title, "side": "top", "font": {"size": 12, "color": look.muted}},
        },
    )
    layout = look.layout(
        height=130 + max(190, min(layers * 28, 620)),
        margin={"l": 46, "r": 14, "t": 74, "b": 46, "autoexpand": False},
        xaxis=look.axis("head", dtick=_step(heads), showgrid=False, showline=False),
        yaxis=look.axis("layer", dtick=_step(layers), showgrid=False, showline=False, autorange="reversed"),
    )
    return go.Figure(data=[trace], layout=layout)


def along_positions(last: int, *, theme: ThemeName = "light") -> go.Figure:
    """Axes for a quantity against position, on which the page draws one head and, thin, its neighbours.

    Traces have `meta` "others" and "value".
    """
    look = THEMES[theme]
    traces = [
        _line(look, "others", width=1, color=look.muted, opacity=0.4, hoverinfo="skip"),
        _line(look, "value", hovertemplate="position %{x:.0f}<br>%{y:.3g}<extra></extra>"),
    ]
    top = math.log10(max(last, 2))
    ticks = [10**k for k in range(0, math.ceil(top) + 1)]
    layout = look.layout(
        height=300,
        xaxis=look.axis("position in the text (log scale)", type="log", range=[-0.03, top + 0.03], tickvals=ticks),
        yaxis=look.axis("", nticks=6),
    )
    return go.Figure(data=traces, layout=layout)


def against_relative_temperature(relative: Sequence[float], *, theme: ThemeName = "light") -> go.Figure:
    """Axes for support and top probability against T over the model's own.

    Traces have `meta` "entropy" and "top_probability".
    """
    look = THEMES[theme]
    traces = [
        _line(look, "entropy", x=list(relative), hovertemplate="T × %{x:.3g}<br>%{y:.3f} nats<extra></extra>"),
        _line(
            look,
            "top_probability",
            color=look.line["after"],
            x=list(relative),
            yaxis="y2",
            hovertemplate="T × %{x:.3g}<br>%{y:.1%}<extra></extra>",
        ),
    ]
    ticks = [t for t in (0.125, 0.25, 0.5, 1, 2, 4, 8) if relative[0] <= t <= relative[-1]]
    own = {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    layout = look.layout(
        height=400,
        shapes=[own | {"line": {"color": look.muted, "width": 1.5, "dash": "dot"}}],
        annotations=[look.note("its own T", x=0, xanchor="center", yref="paper", y=1.0, yanchor="bottom")],
        margin={"l": 56, "r": 24, "t": 24, "b": 46, "autoexpand": False},
        xaxis=look.axis(
            "T over its own (log scale)",
            type="log",
            anchor="y2",
            range=[math.log10(relative[0]) - 0.04, math.log10(relative[-1]) + 0.04],
            tickvals=ticks,
            ticktext=[f"{t:g}" for t in ticks],
        ),
        yaxis=look.axis("entropy, nats", domain=[0.55, 1], rangemode="tozero", nticks=5),
        yaxis2=look.axis("top probability", domain=[0, 0.45], range=[0, 1.03], tickformat=".0%", nticks=5),
    )
    return go.Figure(data=traces, layout=layout)


def _line(look: Theme, meta: str, *, width: float = 2.5, color: str | None = None, **more: Any) -> go.Scatter:
    line = {"color": color or look.line["live"], "width": width}
    return go.Scatter(**{"meta": meta, "x": [], "y": [], "mode": "lines", "cliponaxis": False, "line": line, **more})


def _step(count: int) -> int:
    return next(step for step in (1, 2, 4, 8, 16, 32, 64, 1 << 30) if count <= 16 * step)
