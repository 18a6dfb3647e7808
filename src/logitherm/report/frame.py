"""What all reports share: one offline file with its look, its data and its scripts, and the buttons that export.

The page carries its own Plotly and loads nothing: a Content-Security-Policy in frame.html forbids every request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib import metadata, resources
from string import Template
from typing import Any

FOOTER = "<!-- footer -->\n"


def page(
    name: str,
    parts: Mapping[str, Any],
    *,
    kicker: str,
    title: str,
    about: str,
    data: Mapping[str, Any],
    styles: tuple[str, ...],
    everything: str = "All numbers (JSON)",
) -> str:
    """The file `name`.html, filled in with `parts`, as a page that needs nothing else.

    Its script is `name`.js, after export.js; `data` is what they read. `about` is HTML, `title` is not.
    """
    from plotly.offline import get_plotlyjs

    body, notes = (Template(half).substitute(parts) for half in part(f"{name}.html").split(FOOTER))
    version = _version()
    return Template(part("frame.html")).substitute(
        kicker=kicker,
        title=escape(title),
        about=about,
        version=version,
        css="".join(map(part, styles)),
        body=body,
        notes=notes,
        colophon=f"Made by logitherm {version}".strip() + ". Everything on this page is in this one file.",
        everything=everything,
        data=script_json(data),
        plotly=get_plotlyjs(),
        js=part("export.js") + part(f"{name}.js"),
    )


def export_buttons(figure: str, *, image: bool = True) -> str:
    """Buttons that save a figure or table."""
    kinds = ["csv", "json", *(["svg"] if image else [])]
    buttons = "".join(
        f'<button type="button" data-export="{kind}" data-figure="{figure}" '
        f'aria-label="{kind.upper()} of {figure.replace("-", " ")}">{kind.upper()}</button>'
        for kind in kinds
    )
    return f'<span class="exports">{buttons}</span>'


def script_json(data: Any) -> str:
    """JSON that may stand in a script element: no '<' is left that could close it. NaN and infinities raise."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def part(name: str) -> str:
    """A file beside this one."""
    return resources.files("logitherm.report").joinpath(name).read_text(encoding="utf-8")


def _version() -> str:
    try:
        return metadata.version("logitherm")
    except metadata.PackageNotFoundError:
        return ""
