"""A report on attention for a terminal: what stands out in words, then a map of heads in characters."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from logitherm.cli.tables import number

KINDS = {  # what heads are called, what is said of them, and their letter on the map
    "collapsed": ("Collapsed", "one key nearly everywhere", "C"),
    "uniform": ("Uniform", "all keys alike", "U"),
    "sinks": ("Sink", "most weight on the first key", "S"),
    "melting": ("Melting", "ever more uniform as texts grow", ""),
    "freezing": ("Freezing", "ever sharper as texts grow", ""),
}
INDENT = 12
MOST = 18  # heads by name


def words(contents: Mapping[str, Any], width: int) -> list[Text]:
    """The findings, most urgent first."""
    heads = sum(layer["heads"] for layer in contents["layers"])
    lines = []
    for kind, (name, what, _) in KINDS.items():
        pairs = contents["findings"][kind]
        turn = kind in ("melting", "freezing") and any(contents["trends"][i][j]["turns_at"] for i, j in pairs[:MOST])
        said = f"{len(pairs)} of {heads}, {what}{' (half way at n keys)' if turn else ''}"
        if pairs:
            more = f" and {len(pairs) - MOST} more" if len(pairs) > MOST else ""
            said += ": " + ", ".join(_head(contents, kind, i, j) for i, j in pairs[:MOST]) + more
        elif kind in ("melting", "freezing") and not any(each for row in contents["trends"] for each in row):
            said = "not known: the text is too short"
        rows = textwrap.wrap(said, max(width - 2 - INDENT, 20))
        for n, row in enumerate(rows):
            start = f"  {name if n == 0 else '':<{INDENT - 1}} "
            lines.append(Text.assemble((start, "bold" if pairs else "dim"), (row, "" if pairs else "dim")))
    return lines


def _head(contents: Mapping[str, Any], kind: str, i: int, j: int) -> str:
    turns = contents["trends"][i][j]["turns_at"] if kind in ("melting", "freezing") else None
    return f"{i}.{j}" + (f" ({turns:.0f})" if turns is not None else "")


def head_map(contents: Mapping[str, Any], width: int) -> list[Text]:
    """A row a layer: the tenths of entropy over log n of every head, or the letter of what it is."""
    rows = contents["heads"]["normalised_entropy"]
    most = max(map(len, rows))
    label = len(str(len(rows) - 1)) + 2
    cell = 3 if label + 3 * most + 20 <= width else 2 if label + 2 * most + 20 <= width else 1
    shown = min(most, max((width - label - 20) // cell, 8))
    letters: dict[tuple[int, int], str] = {}
    for kind in ("uniform", "sinks", "collapsed"):  # the last says most
        letters |= {(pair[0], pair[1]): KINDS[kind][2] for pair in contents["findings"][kind]}
    step = _step(cell, shown)
    columns = "".join(f"{j:<{cell * step}}" for j in range(0, shown, step))[: cell * shown]
    lines = [Text(f"  {'':<{label}}{columns:<{cell * shown}}   mean H    T", style="dim")]
    for i, row in enumerate(rows):
        line = Text(f"  {i:>{label - 2}}  ", style="dim")
        for j, value in enumerate(row[:shown]):
            letter = letters.get((i, j))
            digit = "-" if value is None else str(min(int(10 * value), 9))
            line.append(f"{letter or digit:<{cell}}", "bold" if letter else "")
        layer = contents["layers"][i]
        more = " " * cell * (shown - len(row[:shown]))
        line.append(f"{more}   {number(layer['entropy'], 2):>6} {number(layer['temperature']):>5}", "dim")
        lines.append(line)
    hidden = f" Heads from {shown} on are in --json and --report." if shown < most else ""
    legend = (
        "A row is a layer, a column a head: tenths of entropy over log n, 0 all weight on one key, 9 nearly the same "
        "on all; C, S, U as above, where 0.1 is head 1 of layer 0. Mean H in nats; weights are softmax(q k / T)."
        f"{hidden}"
    )
    return [*lines, Text(), *(Text(f"  {line}", style="dim") for line in textwrap.wrap(legend, max(width - 4, 20)))]


def _step(cell: int, shown: int) -> int:
    """Numbers stand over so many heads that they do not touch."""
    return next(step for step in (1, 2, 4, 8, 16) if step * cell > len(str(shown - 1)))
