"""JSON without NaN, progress only for terminals."""

import io
import json
import sys

import numpy as np

from logitherm.cli.output import plain, print_json, progress


def test_plain_values_only():
    value = {
        "nan": np.nan,
        "inf": np.float32(np.inf),
        "array": np.array([1.0, -np.inf]),
        1: (np.int64(3), np.bool_(True), None, "text"),
        "nested": {"x": [np.float64(0.5)]},
    }
    assert plain(value) == {
        "nan": None,
        "inf": None,
        "array": [1.0, None],
        "1": [3, True, None, "text"],
        "nested": {"x": [0.5]},
    }


def test_one_json_object(capsys):
    print_json({"a": float("nan")})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": None}
    assert err == ""


def test_progress_is_silent_where_there_is_no_terminal(capsys):
    with progress() as tell:
        tell("reading")
        tell("fitting", 0.5)
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_goes_to_stderr(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress() as tell:
        tell("reading")
        tell("fitting", 0.5)
        tell("fitting", 2.0)
    assert "fitting" in terminal.getvalue()
    assert capsys.readouterr().out == ""
