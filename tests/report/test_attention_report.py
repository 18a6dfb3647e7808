"""The page about attention: it says what was found, escapes what it is given, and its tables hold the numbers."""

import copy
import json
import re

import numpy as np
import pytest

from logitherm.attention import attention_state
from logitherm.attention.findings import AttentionReport
from logitherm.attention.heads import HeadSums, at_temperatures
from logitherm.report.attention import headline, render_attention
from logitherm.report.attention_tables import attention_tables

LIMITS = {"collapsed": 1.5, "uniform": 0.95, "sink": 0.5, "nearly": 0.9, "drift": 0.03, "least_keys": 8}
RELATIVE = (0.25, 0.5, 1.0, 2.0, 4.0)


def contents_of(relative=RELATIVE):
    """Two layers of three heads: the first has one that is collapsed, one uniform, one a sink."""
    rng = np.random.default_rng(0)
    n, layers, other = 64, [], []
    for number in range(2):
        q, k = rng.normal(size=(1, 3, n, 4)), rng.normal(size=(1, 3, n, 4))
        if number == 0:
            q[0, 0] *= 200
            q[0, 1] = 0
            q[0, 2], k[0, 2, 0] = 1, 2.5
        given = {"q": q, "k": k, "temperature": 2.0, "causal": True}
        layer = HeadSums(f"h.{number}.attn", LIMITS)
        layer.add(attention_state(**given), given)
        layers.append(layer)
        if relative:
            other.append(at_temperatures(given, relative))
    report = AttentionReport(tuple(layers), LIMITS, 1, (n, n), relative, tuple(other))
    return report.to_dict() | {"model": "m<script>alert(1)</script>", "file": "text.txt"}


CONTENTS = contents_of()


def test_it_says_what_was_found():
    assert CONTENTS["findings"]["collapsed"] == [[0, 0]]
    assert CONTENTS["findings"]["uniform"] == [[0, 1]]
    assert CONTENTS["findings"]["sinks"] == [[0, 2]]
    said = "Of 6 heads 1 is collapsed onto one key, 1 spread over all keys alike and 1 mostly on the first key."
    assert headline(CONTENTS) == said
    page = render_attention(CONTENTS)
    assert said in page and "6 heads in 2 layers, over 1 sequence of text.txt, of 64 tokens" in page
    assert "<small>0.0</small>" in page, "heads are named as layer.head"
    nothing = copy.deepcopy(CONTENTS)
    nothing["findings"] = {kind: [] for kind in CONTENTS["findings"]}
    assert headline(nothing) == "None of 6 heads is collapsed, uniform or a sink."
    assert "$" not in re.sub(r"<script.*?</script>", "", page, flags=re.S), "no blank is left"


def test_no_change_has_no_sign():
    even = copy.deepcopy(CONTENTS)
    even["trends"][0][1]["slope"] = -1e-6
    assert "entropy over log n changes by +0.000." in render_attention(even)
    assert "\\u22120.000" not in render_attention(even) and "\u22120.000" not in render_attention(even)


def test_what_is_given_is_escaped():
    page = render_attention(CONTENTS, title="a <b>")
    assert "<script>alert" not in page and "a &lt;b&gt;" in page
    data = json.loads(re.search(r'id="logitherm-data">(.*?)</script>', page, re.S)[1])
    assert data["study"] == CONTENTS


def test_tables_hold_all_numbers():
    tables = attention_tables(CONTENTS)
    assert {name: len(table["layer"]) for name, table in tables.items()} == {
        "heads": 6,
        "layers": 2,
        "positions": 6 * len(CONTENTS["positions"]["first"]),
        "temperatures": 6 * len(RELATIVE),
    }
    assert tables["heads"]["collapsed"] == [True] + [False] * 5
    assert tables["temperatures"]["entropy"][-1] == CONTENTS["temperatures"]["entropy"][1][2][-1]


def test_without_temperatures_and_without_top_probabilities():
    """As of a fused kernel, that knows the entropy alone."""
    contents = contents_of(relative=())
    contents["heads"]["top_probability"] = [[None] * 3, [None] * 3]
    contents["positions"]["top_probability"] = [[[None] * len(contents["positions"]["first"])] * 3] * 2
    for layer in contents["layers"]:
        layer["top_probability"] = None
    page = render_attention(contents)
    assert '<div id="turning" hidden>' in page and 'value="top_probability"' not in page


@pytest.mark.parametrize("heads", [1, 40])
def test_maps_of_many_heads_have_no_letters(heads):
    from logitherm.report.attention_figures import head_map

    values = {"z": [[0.5] * heads], "text": [["x"] * heads], "low": 0, "high": 1, "scale": "heat", "ticks": [(0, "0")]}
    trace = head_map(values, [["U"] * heads], title="t").data[0]
    assert trace.meta == "heads" and (trace.texttemplate is None) == (heads > 24)
