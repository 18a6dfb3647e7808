"""The figures of a temperature sweep: numbers in, Plotly figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped, unused-ignore]

from logitherm.report.figures import THEMES, Role, ThemeName


def against_temperature(
    temperatures: Sequence[float],
    curve: Mapping[str, Sequence[float | None]],
    *,
    title: str,
    role: Role = "live",
    chosen: Mapping[str, Any] | None = None,
    form: str = ".2f",
    log: bool = False,
    limits: tuple[float, float] | None = None,
    level: float | None = None,
    theme: ThemeName = "light",
) -> go.Figure:
    """A number against temperature with the band of its intervals.

    Limits: None is a break in the line, and no band is drawn where an end is None.

    Parameters
    ----------
    temperatures : sequence of floats
    curve : mapping
        `value`, `low`, `high`, each of that length.
    title : str
        Of the vertical axis.
    role : {"before", "after", "live"}
        Which colour it wears.
    chosen : mapping, optional
        `temperature` and `interval` of a choice, marked by a line and a shade.
    form : str
        How numbers read, as d3 has it.
    log : bool
        Whether the vertical axis is logarithmic.
    limits : (float, float), optional
        Of the vertical axis.
    level : float, optional
        Where a dashed line runs across.
    theme : {"light", "dark"}
        Its colours.

    Returns
    -------
    plotly.graph_objects.Figure
        Traces with `meta` "band" (where there is one) and "value".
    """
    look = THEMES[theme]
    known = [
        (t, low, high)
        for t, low, high in zip(temperatures, curve["low"], curve["high"], strict=True)
        if low is not None and high is not None
    ]
    traces = []
    if known:
        x = [t for t, _, _ in known]
        traces.append(
            go.Scatter(
                meta="band",
                x=x + x[::-1],
                y=[high for _, _, high in known] + [low for _, low, _ in known][::-1],
                fill="toself",
                fillcolor=look.soft[role],
                mode="lines",
                line={"width": 0},
                hoverinfo="skip",
            )
        )
    ends = list(zip(curve["low"], curve["high"], strict=True))
    told = "<br>95 % interval %{customdata[0]:" + form + "} to %{customdata[1]:" + form + "}"
    traces.append(
        go.Scatter(
            meta="value",
            x=list(temperatures),
            y=list(curve["value"]),
            customdata=[[low, high] for low, high in ends],
            mode="lines+markers",
            cliponaxis=False,
            line={"color": look.line[role], "width": 2.5},
            marker={"color": look.line[role], "size": 6},
            hovertemplate=[
                "T = %{x:.3g}<br>%{y:" + form + "}" + (told if None not in pair else "") + "<extra></extra>"
                for pair in ends
            ],
        )
    )
    shapes, notes = _marks(chosen, temperatures[0], temperatures[-1], look)
    if level is not None:
        shapes.append(
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": level,
                "y1": level,
                "line": {"color": look.muted, "width": 1.5, "dash": "dash"},
                "layer": "below",
            }
        )
    pad = 0.03 * (temperatures[-1] - temperatures[0] or 1.0)
    scale = {"type": "log", "dtick": "D1" if _decades(curve) < 1.5 else 1} if log else {"nticks": 6}
    layout = look.layout(
        height=320,
        shapes=shapes,
        annotations=notes,
        xaxis=look.axis("temperature T", range=[temperatures[0] - pad, temperatures[-1] + pad], nticks=9),
        yaxis=look.axis(title, tickformat="~s" if log else None, range=limits, **scale),
    )
    return go.Figure(data=traces, layout=layout)


def _decades(curve: Mapping[str, Sequence[float | None]]) -> float:
    import math

    values = [v for v in curve["value"] if v]
    return math.log10(max(values) / min(values)) if values else 0.0


def _marks(
    chosen: Mapping[str, Any] | None, first: float, last: float, look: Any
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The choice as a line with its name and its interval as a shade."""
    if chosen is None or chosen["temperature"] is None:
        return [], []
    across = {"yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    shapes = []
    if chosen["interval"] and chosen["interval"][0] < chosen["interval"][1]:
        low, high = chosen["interval"]
        shapes.append(
            {
                "type": "rect",
                "x0": low,
                "x1": high,
                "fillcolor": look.soft["live"],
                "opacity": 0.5,
                "line": {"width": 0},
            }
        )
    at = chosen["temperature"]
    shapes.append({"type": "line", "x0": at, "x1": at, "line": {"color": look.ink, "width": 1.5, "dash": "dot"}})
    where = (at - first) / (last - first or 1.0)  # near an edge the words lean inward
    anchor = "left" if where < 0.2 else "right" if where > 0.8 else "center"
    note = look.note(chosen["name"], x=at, xanchor=anchor, yref="paper", y=1.0, yanchor="bottom")
    return [shape | across for shape in shapes], [note]
