"""The figures of a calibration report: numbers in, Plotly figure out.

Nothing here computes a statistic: what is drawn is what came in. Every figure comes in a `light` and a `dark` theme.
Before is orange and after is blue in all of them, a pair that colour-blind readers can tell apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go  # type: ignore[import-untyped, unused-ignore]

from logitherm.report.words import as_power, as_temperature, fitted_temperature

ThemeName = Literal["light", "dark"]
Role = Literal["before", "after", "live"]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def _margin(bottom: int = 46) -> dict[str, Any]:
    """Margins that stay as they are: left alone, Plotly narrows them in a first drawing and mends that later."""
    return {"l": 56, "r": 24, "t": 14, "b": bottom, "autoexpand": False}


@dataclass(frozen=True)
class Theme:
    """The colours of one theme; they are the colours of page.css too."""

    surface: str
    ink: str
    muted: str
    grid: str
    line: dict[Role, str]
    soft: dict[Role, str]

    def layout(self, *, height: int, **more: Any) -> dict[str, Any]:
        """What all figures share: system font, no interaction that would steal a scroll, no decoration."""
        return {
            "template": {},
            "height": height,
            "autosize": True,
            "paper_bgcolor": self.surface,
            "plot_bgcolor": self.surface,
            "font": {"family": FONT, "size": 13, "color": self.ink},
            "margin": _margin(),
            "dragmode": False,
            "hoverlabel": {
                "bgcolor": self.surface,
                "bordercolor": self.muted,
                "font": {"family": FONT, "size": 13, "color": self.ink},
                "align": "left",
            },
            "showlegend": False,
            **more,
        }

    def axis(self, title: str, **more: Any) -> dict[str, Any]:
        """An axis with a quiet grid that cannot be dragged."""
        return {
            "title": {"text": title, "font": {"size": 13, "color": self.muted}, "standoff": 8},
            "tickfont": {"size": 12, "color": self.muted},
            "gridcolor": self.grid,
            "linecolor": self.grid,
            "zeroline": False,
            "showline": True,
            "fixedrange": True,
            **more,
        }

    def note(self, text: str, **more: Any) -> dict[str, Any]:
        """A word inside a figure, without an arrow."""
        return {"text": text, "showarrow": False, "font": {"size": 12, "color": self.muted}, **more}


THEMES: dict[ThemeName, Theme] = {
    "light": Theme(
        surface="#ffffff",
        ink="#1b2430",
        muted="#566170",
        grid="#e3e7ec",
        line={"before": "#b8500a", "after": "#0a62a8", "live": "#1b2430"},
        soft={"before": "rgba(217,110,22,0.20)", "after": "rgba(10,98,168,0.17)", "live": "rgba(27,36,48,0.12)"},
    ),
    "dark": Theme(
        surface="#171c23",
        ink="#e8ecf1",
        muted="#a3afbd",
        grid="#2d3641",
        line={"before": "#f6a255", "after": "#6cb8f5", "live": "#e8ecf1"},
        soft={"before": "rgba(246,162,85,0.24)", "after": "rgba(108,184,245,0.24)", "live": "rgba(232,236,241,0.16)"},
    ),
}


def _midpoints(edges: Sequence[float]) -> list[float]:
    return [(low + high) / 2 for low, high in itertools.pairwise(edges)]


def _widths(edges: Sequence[float]) -> list[float]:
    return [high - low for low, high in itertools.pairwise(edges)]


def _gap_lines(
    confidence: Sequence[float | None], accuracy: Sequence[float | None]
) -> tuple[list[float | None], list[float | None]]:
    """One vertical stroke a bin, from the diagonal to its point; None lifts the pen."""
    x: list[float | None] = []
    y: list[float | None] = []
    for c, a in zip(confidence, accuracy, strict=True):
        if c is not None and a is not None:
            x += [c, c, None]
            y += [c, a, None]
    return x, y


def reliability(
    diagram: Mapping[str, Any], *, role: Role, rows: int, classes: int, theme: ThemeName = "light"
) -> go.Figure:
    """A reliability diagram with a strip of bin counts below it.

    Limits: an empty bin (None) draws nothing; without `low` and `high` no band is drawn.

    Parameters
    ----------
    diagram : mapping
        `edges` (bins + 1), `count`, `confidence`, `accuracy` and perhaps `low`, `high` (bins each, None where empty).
    role : {"before", "after", "live"}
        Which colour it wears.
    rows : int
        All rows behind the diagram: the top of the count strip, so that two diagrams compare.
    classes : int
        The number of classes K; with few of them the impossible confidences below 1/K are shaded.
    theme : {"light", "dark"}
        Its colours.

    Returns
    -------
    plotly.graph_objects.Figure
        Traces carry `meta`: "band", "diagonal", "gap", "accuracy", "count", in this order.
    """
    look = THEMES[theme]
    edges = diagram["edges"]
    middle, width = _midpoints(edges), _widths(edges)
    confidence, accuracy, count = diagram["confidence"], diagram["accuracy"], diagram["count"]
    low = diagram.get("low") or [None] * len(count)
    high = diagram.get("high") or [None] * len(count)
    banded = [h is not None and b is not None for b, h in zip(low, high, strict=True)]
    gap_x, gap_y = _gap_lines(confidence, accuracy)
    traces = [
        go.Bar(
            meta="band",
            x=middle,
            base=[b if ok else None for b, ok in zip(low, banded, strict=True)],
            y=[h - b if ok else None for b, h, ok in zip(low, high, banded, strict=True)],
            width=width,
            marker={"color": look.soft[role], "line": {"width": 0}},
            hoverinfo="skip",
        ),
        go.Scatter(
            meta="diagonal",
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line={"color": look.muted, "width": 1.5, "dash": "dash"},
            hoverinfo="skip",
        ),
        go.Scatter(
            meta="gap",
            x=gap_x,
            y=gap_y,
            mode="lines",
            line={"color": look.line[role], "width": 2},
            opacity=0.55,
            hoverinfo="skip",
        ),
        go.Scatter(
            meta="accuracy",
            x=confidence,
            y=accuracy,
            customdata=[[n, b, h] for n, b, h in zip(count, low, high, strict=True)],
            mode="markers",
            cliponaxis=False,
            marker={"color": look.line[role], "size": 9, "line": {"color": look.surface, "width": 1.5}},
            hovertemplate=[
                "says %{x:.1%}<br>is right %{y:.1%}"
                + ("<br>95 % interval %{customdata[1]:.1%} to %{customdata[2]:.1%}" if ok else "")
                + "<br>rows: %{customdata[0]:,}<extra></extra>"
                for ok in banded
            ],
        ),
        go.Bar(
            meta="count",
            x=middle,
            y=count,
            yaxis="y2",
            width=[0.86 * w for w in width],
            marker={"color": look.line[role], "opacity": 0.75, "line": {"width": 0}},
            hovertemplate="rows: %{y:,}<extra></extra>",
        ),
    ]
    notes = [
        look.note("underconfident", x=0.02, y=0.98, xanchor="left", yanchor="top"),
        look.note("overconfident", x=0.98, y=0.02, xanchor="right", yanchor="bottom"),
    ]
    shapes: list[dict[str, Any]] = []
    if 1 < classes <= 4:  # with more classes the strip is too thin to be worth a word
        shapes.append(
            {
                "type": "rect",
                "xref": "x",
                "yref": "paper",
                "x0": 0,
                "x1": 1 / classes,
                "y0": 0,
                "y1": 1,
                "fillcolor": look.grid,
                "opacity": 0.5,
                "line": {"width": 0},
                "layer": "below",
            }
        )
        upright = classes == 2  # a narrower strip has the words along it, so that they fit on a phone too
        words = f"below 1/{classes}:{'<br>' if upright else ' '}cannot occur"
        notes.append(look.note(words, x=0.5 / classes, y=0.5, textangle=0 if upright else -90))
    ticks = {"tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1], "tickformat": ".0%"}
    decades = math.ceil(math.log10(max(rows, 10)))
    layout = look.layout(
        height=440,
        barmode="overlay",
        annotations=notes,
        shapes=shapes,
        xaxis=look.axis("confidence: what the model says", range=[0, 1.003], anchor="y2", **ticks),
        yaxis=look.axis("accuracy: what happens", range=[0, 1.01], domain=[0.27, 1], **ticks),
        yaxis2=look.axis(
            "rows",
            type="log",
            range=[math.log10(0.6), math.log10(max(rows, 10)) + 0.08],
            domain=[0, 0.2],
            tickvals=[10**k for k in range(0, decades + 1, 1 + decades // 5)],
            tickformat="~s",
        ),
    )
    return go.Figure(data=traces, layout=layout)


def confidence_histogram(
    before: Mapping[str, Any], after: Mapping[str, Any], *, theme: ThemeName = "light"
) -> go.Figure:
    """How many rows fall in each bin of confidence, before and after on top of each other.

    Parameters
    ----------
    before, after : mapping
        Reliability diagrams with `edges` and `count`.
    theme : {"light", "dark"}
        Its colours.

    Returns
    -------
    plotly.graph_objects.Figure
        Two bar traces with `meta` "before" and "after".
    """
    look = THEMES[theme]
    edges = before["edges"]
    roles: dict[Role, Mapping[str, Any]] = {"before": before, "after": after}
    traces = [
        go.Bar(
            meta=role,
            name=role,
            x=_midpoints(edges),
            y=[n or None for n in diagram["count"]],  # no line along the axis where there are no rows
            width=_widths(edges),
            customdata=[[low, high] for low, high in itertools.pairwise(edges)],
            marker={"color": look.soft[role], "line": {"width": 2, "color": look.line[role]}},
            hovertemplate=(
                role + ", rows: %{y:,}<br>confidence %{customdata[0]:.1%} to %{customdata[1]:.1%}<extra></extra>"
            ),
        )
        for role, diagram in roles.items()
    ]
    few = max(*before["count"], *after["count"]) <= 6  # then Plotly would mark halves of a row
    layout = look.layout(
        height=380,
        barmode="overlay",
        xaxis=look.axis(
            "confidence: what the model says",
            range=[0, 1.003],
            tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1],
            tickformat=".0%",
        ),
        yaxis=look.axis("rows", rangemode="tozero", tickformat="~s", nticks=6, dtick=1 if few else None),
    )
    return go.Figure(data=traces, layout=layout)


def _temperature_window(temperatures: Sequence[float], marked: Sequence[float]) -> tuple[float, float]:
    """The part of the T axis worth showing: three times colder and hotter than what is marked on it."""
    low = max(min(temperatures), min(marked) / 3)
    high = min(max(temperatures), max(marked) * 3)
    return (low, high) if low < high else (min(temperatures), max(temperatures))


def _temperature_ticks(left: float, right: float) -> dict[str, list[Any]]:
    """Round temperatures for a log axis, few enough to stand side by side on a phone."""
    if right < 4 * left:  # even steps of 1, 2 or 5 in the last digit
        least = (right - left) / 7
        power = 10.0 ** math.floor(math.log10(least))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= least)
        inside = [(i * step, f"{i * step:.6g}") for i in range(math.ceil(left / step), math.floor(right / step) + 1)]
    else:
        fine = [(m * 10.0**k, f"{m * 10.0**k:g}") for k in range(-3, 4) for m in (1, 2, 5)]
        inside = [(t, text) for t, text in fine if left <= t <= right]
        if len(inside) < 3:
            finer = [(m * 10.0**k, f"{m * 10.0**k:g}") for k in range(-3, 4) for m in (1, 1.5, 2, 3, 5, 7)]
            inside = [(t, text) for t, text in finer if left <= t <= right]
        if not 2 <= len(inside) <= 9:
            first, last = math.ceil(math.log10(left)), math.floor(math.log10(right))
            thin = math.ceil((last - first + 1) / 6)
            inside = [(10.0**k, as_power(k)) for k in range(first, last + 1) if k % thin == 0]
    return {"tickvals": [t for t, _ in inside], "ticktext": [text for _, text in inside]}


def _nll_axis(values: Sequence[float]) -> dict[str, Any]:
    """An axis around the values, with room for labels above them; a log axis where they span orders of magnitude."""
    bottom, top = (min(values), max(values)) if values else (0.0, 1.0)
    title = "mean NLL (nats per row{})"
    if bottom > 0 and top > 100 * bottom:
        bottom, top = math.log10(bottom), math.log10(top)
        first, last = math.floor(bottom), math.ceil(top)
        powers = [k for k in range(first, last + 1) if k % math.ceil((last - first + 1) / 6) == 0]
        ticks = {"tickvals": [10.0**k for k in powers], "ticktext": [as_power(k) for k in powers]}
        axis = {"title": title.format(", log scale"), "type": "log", **ticks}
    else:
        axis = {"title": title.format(""), "nticks": 7}
    height = (top - bottom) or 1.0
    return {**axis, "range": [bottom - 0.06 * height, top + 0.17 * height]}


def likelihood(curve: Mapping[str, Any], fit: Mapping[str, Any], *, theme: ThemeName = "light") -> go.Figure:
    """Mean negative log-likelihood of the fitted rows against T on a log axis, with the interval shaded.

    Limits: a fit at a bound (`at_bound`) marks T = 1 only and shows the whole curve.

    Parameters
    ----------
    curve : mapping
        `temperature` and `nll`, of one length; None or a value of nll that is not finite is a break in the line.
    fit : mapping
        `temperature`, `at_bound`, `interval`, `nll_before`, `nll_after`; None where undefined.
    theme : {"light", "dark"}
        Its colours.

    Returns
    -------
    plotly.graph_objects.Figure
        A line with `meta` "nll", and a marker each for "before" (T = 1) and "after" (T-hat).
    """
    look = THEMES[theme]
    temperatures, nll = curve["temperature"], curve["nll"]
    fitted = fitted_temperature(fit)
    low, high = fit.get("interval") or (None, None)
    marked = [t for t in (1.0, fitted, low, high) if t]
    left, right = _temperature_window(temperatures, marked) if fitted else (min(temperatures), max(temperatures))
    traces = [
        go.Scatter(
            meta="nll",
            x=temperatures,
            y=nll,
            mode="lines",
            line={"color": look.ink, "width": 2.5},
            hovertemplate="T = %{x:.3g}<br>NLL %{y:.4f}<extra></extra>",
        )
    ]
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    if low is not None or high is not None:
        shapes.append(
            {
                "type": "rect",
                "yref": "paper",
                "x0": low if low else left,
                "x1": high if high is not None else max(right, low or right),
                "y0": 0,
                "y1": 1,
                "fillcolor": look.soft["after"],
                "line": {"width": 0},
                "layer": "below",
            }
        )
    # the labels stand on the outer sides of their lines, and on the inner ones where the lines are far apart: so they
    # neither collide nor leave the figure
    hotter, apart = fitted is None or fitted >= 1, fitted is not None and abs(math.log10(fitted)) > 1
    marks: list[tuple[Role, float | None, float | None, str, bool]] = [
        ("before", 1.0, fit.get("nll_before"), "before<br>T = 1", hotter == apart),
        ("after", fitted, fit.get("nll_after"), f"fitted<br>T = {as_temperature(fitted or 1.0, fit)}", hotter != apart),
    ]
    for role, at, height, words, right_of_it in marks:
        if not at:
            continue
        shapes.append(
            {
                "type": "line",
                "yref": "paper",
                "x0": at,
                "x1": at,
                "y0": 0,
                "y1": 1,
                "line": {"color": look.line[role], "width": 1.5, "dash": "dot" if role == "before" else "solid"},
                "layer": "below",
            }
        )
        notes.append(
            look.note(
                words,
                x=math.log10(at),
                yref="paper",
                y=0.99,
                yanchor="top",
                xanchor="left" if right_of_it else "right",
                xshift=6 if right_of_it else -6,
                align="left" if right_of_it else "right",
                font={"size": 13, "color": look.line[role]},
            )
        )
        if height is not None:
            traces.append(
                go.Scatter(
                    meta=role,
                    x=[at],
                    y=[height],
                    mode="markers",
                    marker={"color": look.line[role], "size": 11, "line": {"color": look.surface, "width": 2}},
                    hovertemplate="T = %{x:.4g}<br>NLL %{y:.4f}<extra></extra>",
                )
            )
    inside = [v for t, v in zip(temperatures, nll, strict=True) if v is not None and left <= t <= right]
    inside += [v for v in (fit.get("nll_before"), fit.get("nll_after")) if v is not None]
    layout = look.layout(
        height=380,
        shapes=shapes,
        annotations=notes,
        xaxis=look.axis(
            "temperature T (log scale)",
            type="log",
            range=[math.log10(left), math.log10(right)],
            **_temperature_ticks(left, right),
        ),
        yaxis=look.axis(**_nll_axis(inside)),
    )
    return go.Figure(data=traces, layout=layout)


def temperature_by_part(
    parts: Sequence[Mapping[str, Any]], temperature: float, axis: str, *, theme: ThemeName = "light"
) -> go.Figure:
    """The fitted T of parts of the rows with their intervals, against the single T of all rows.

    Limits: a part without a temperature of its own, or with one at a bound, draws nothing; an open end of an interval
    reaches the edge of the figure.

    Parameters
    ----------
    parts : sequence of mappings
        `name`, `n`, `temperature`, `low`, `high`, as of `logitherm.calibration.goodness_of_fit`.
    temperature : float
        The single T.
    axis : str
        What the parts are.
    theme : {"light", "dark"}
        Its colours.

    Returns
    -------
    plotly.graph_objects.Figure
        One trace with `meta` "parts".
    """
    look = THEMES[theme]
    known = [part for part in parts if part["temperature"]]
    shown = [v for part in known for v in (part["low"], part["temperature"], part["high"]) if v]
    left, right = min([temperature, *shown]) / 1.15, max([temperature, *shown]) * 1.15
    trace = go.Scatter(
        meta="parts",
        x=[part["name"] for part in known],
        y=[part["temperature"] for part in known],
        mode="markers",
        marker={"color": look.line["after"], "size": 10},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [(part["high"] or right) - part["temperature"] for part in known],
            "arrayminus": [part["temperature"] - (part["low"] or left) for part in known],
            "color": look.line["after"],
            "thickness": 2,
            "width": 5,
        },
        customdata=[part["n"] for part in known],
        hovertemplate="%{x}<br>rows: %{customdata}<br>T = %{y:.3g}<extra></extra>",
    )
    line = {"color": look.ink, "width": 1.5, "dash": "dash"}
    height = {"yref": "y", "y0": temperature, "y1": temperature}
    layout = look.layout(
        height=360,
        margin=_margin(bottom=96),
        shapes=[{"type": "line", "xref": "paper", "x0": 0, "x1": 1, **height, "line": line, "layer": "below"}],
        xaxis=look.axis(axis, type="category", tickangle=-40),
        yaxis=look.axis(
            "fitted T (log scale)",
            type="log",
            range=[math.log10(left), math.log10(right)],
            **_temperature_ticks(left, right),
        ),
    )
    return go.Figure(data=[trace], layout=layout)


def risk_coverage(before: Mapping[str, Any], after: Mapping[str, Any], *, theme: ThemeName = "light") -> go.Figure:
    """Share of wrong answers among the surest rows, against the share of the rows that are answered.

    Parameters
    ----------
    before, after : mapping
        `threshold`, `coverage`, `risk`, of one length each, as of `logitherm.metrics.risk_coverage`.
    theme : {"light", "dark"}
        Its colours.

    Returns
    -------
    plotly.graph_objects.Figure
        Two lines with `meta` "before" and "after"; the first is broader, so that it shows where both agree.
    """
    look = THEMES[theme]
    curves: dict[Role, Mapping[str, Any]] = {"before": before, "after": after}
    traces = [
        go.Scatter(
            meta=role,
            x=curve["coverage"],
            y=curve["risk"],
            customdata=curve["threshold"],
            mode="lines" if len(curve["risk"]) > 1 else "markers",
            line={"color": look.line[role], "width": 5 if role == "before" else 2},
            marker={"size": 11 if role == "before" else 7},
            opacity=0.6 if role == "before" else 1,
            hovertemplate=(
                role
                + ": %{y:.2%} wrong<br>of the surest %{x:.1%},<br>confidence %{customdata:.1%} or more<extra></extra>"
            ),
        )
        for role, curve in curves.items()
    ]
    highest = max((*before["risk"], *after["risk"]), default=0) or 0.01
    layout = look.layout(
        height=320,
        xaxis=look.axis(
            "coverage: share of the rows answered",
            range=[0, 1.003],
            tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1],
            tickformat=".0%",
        ),
        yaxis=look.axis("wrong answers", range=[0, 1.12 * highest], tickformat="~%", nticks=6),
    )
    return go.Figure(data=traces, layout=layout)
