"""What a report on attention speaks of, by name, and the tables that its buttons save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# of each quantity: name, words of the colours, form of a value, colours, whether these are of the logarithm
QUANTITIES: dict[str, tuple[str, str, str, str, bool]] = {
    "normalised_entropy": ("Entropy over log n", "entropy over log n: 0 one key, 1 all alike", ".2f", "heat", False),
    "entropy": ("Entropy", "entropy, nats", ".2f", "heat", False),
    "support": ("Support", "support: over how many keys (log scale)", ".3g", "heat", True),
    "top_probability": ("Top probability", "top probability", ".0%", "share", False),
    "first_key": ("First-key share", "weight on the first key", ".0%", "share", False),
    "heat_capacity": ("Heat capacity", "heat capacity: dS / d log T", ".2f", "share", False),
}
KINDS = {  # letter, what a head is called, what that means
    "collapsed": ("C", "Collapsed", "At most {collapsed:g} keys (e^entropy) for {nearly:.0%} of the queries or more."),
    "uniform": ("U", "Uniform", "Entropy at least {uniform:g} of log n for {nearly:.0%} of the queries or more."),
    "sinks": ("S", "Sink", "At least {sink:.0%} of the weight on the first key, on average."),
    "melting": ("", "Melting", "Entropy over log n rises by {drift:g} or more each time the length doubles."),
    "freezing": ("", "Freezing", "Entropy over log n falls by {drift:g} or more each time the length doubles."),
}


def attention_tables(contents: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """What the buttons save, as columns: heads, positions, temperatures, layers."""
    heads, positions = contents["heads"], contents["positions"]
    pairs = [(i, j) for i, layer in enumerate(contents["layers"]) for j in range(layer["heads"])]
    found = {kind: {tuple(pair) for pair in contents["findings"][kind]} for kind in KINDS}
    of = {"layer": [i for i, _ in pairs], "head": [j for _, j in pairs]}
    tables = {
        "heads": of
        | {name: [heads[name][i][j] for i, j in pairs] for name in QUANTITIES}
        | {"slope": [(contents["trends"][i][j] or {}).get("slope") for i, j in pairs]}
        | {kind: [pair in found[kind] for pair in pairs] for kind in KINDS},
        "layers": {"layer": list(range(len(contents["layers"])))}
        | {name: [layer[name] for layer in contents["layers"]] for name in contents["layers"][0]},
    }
    tables["positions"] = _long(pairs, positions["first"], "position_from", {n: positions[n] for n in QUANTITIES})
    other = contents["temperatures"]
    if other["relative"]:
        named = {n: other[n] for n in ("entropy", "support", "top_probability")}
        tables["temperatures"] = _long(pairs, other["relative"], "relative_temperature", named)
    return tables


def _long(
    pairs: Sequence[tuple[int, int]], at: Sequence[float], name: str, values: Mapping[str, Any]
) -> dict[str, list[Any]]:
    rows = [(i, j, n) for i, j in pairs for n in range(len(at))]
    table: dict[str, list[Any]] = {
        "layer": [i for i, _, _ in rows], "head": [j for _, j, _ in rows], name: [at[n] for _, _, n in rows]
    }  # fmt: skip
    return table | {key: [value[i][j][n] for i, j, n in rows] for key, value in values.items()}
