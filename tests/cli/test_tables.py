"""Numbers as people read them, also where there are none."""

import math
from types import SimpleNamespace

import pytest
from rich.console import Console

from logitherm.cli import tables


def text(*renderables):
    console = Console(width=80, no_color=True, highlight=False)
    with console.capture() as capture:
        for renderable in renderables:
            console.print(renderable)
    return capture.get()


def fit(**changes):
    values = {
        "temperature": 2.31812,
        "interval": (2.0812, 2.5791),
        "sandwich_interval": (2.061, 2.607),
        "confidence": 0.95,
        "standard_error": 0.12712,
        "sandwich_error": 0.1389,
        "p_value": 6.7e-48,
        "converged": True,
    }
    return SimpleNamespace(**{**values, **changes})


def evaluation(value, low, high):
    return SimpleNamespace(**{key: SimpleNamespace(value=value, low=low, high=high) for key, _, _ in tables.SCORES})


def test_chances():
    assert [tables.chance(p) for p in (1.0, 0.0312, 1e-299, 0.0)] == ["p = 1", "p = 0.031", "p = 1e-299", "p < 1e-300"]


def test_decimals_follow_the_interval():
    assert tables.decimals_of(2.08, 2.58) == 2
    assert tables.decimals_of(100, 190) == 0
    assert tables.decimals_of(0.1, 0.1) is None
    assert tables.decimals_of(0.1, math.inf) is None
    assert tables.decimals_of(math.nan, math.nan) is None
    assert tables.decimals_of(None, 1.0) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "∞"),
        (0.0, "0"),
        (2.3456, "2.35"),
        (1e-9, "1e-09"),
        (1e30, "1e+30"),
        (1500.0, "1500"),
    ],
)
def test_numbers(value, shown):
    assert tables.number(value) == shown


def test_temperature():
    out = text(tables.temperature_table(fit()))
    assert "2.32   95 % interval 2.08 to 2.58" in out
    assert "0.127 model-based, 0.139 sandwich" in out
    assert "p = 6.7e-48" in out
    assert "converge" not in out


def test_the_robust_interval_where_a_few_rows_decide():
    assert "Robust interval" not in text(tables.temperature_table(fit()))
    assert "2.06 to 2.61, by the sandwich error" in text(tables.temperature_table(fit(standard_error=0.05)))


def test_temperature_at_a_bound():
    at_bound = {"interval": None, "standard_error": None, "sandwich_error": None, "p_value": None}
    assert text(tables.temperature_table(fit(temperature=math.inf, **at_bound))).split() == ["Temperature", "∞"]
    assert text(tables.temperature_table(fit(temperature=0.0, **at_bound))).split() == ["Temperature", "0"]


def test_temperature_with_half_an_interval_and_no_convergence():
    out = text(tables.temperature_table(fit(interval=(2.0, math.inf), p_value=0.0, converged=False)))
    assert "2 to ∞" in out
    assert "p < 1e-300" in out
    assert "did not converge" in out


def test_scores_fit_a_narrow_terminal():
    out = text(
        tables.score_table(
            [
                ("before\nT = 1", evaluation(0.88412345, 0.86012345, 0.90512345)),
                ("after\nT = 2.32", evaluation(0.78412345, 0.76012345, 0.80512345)),
            ]
        )
    )
    assert max(map(len, out.splitlines())) <= 80
    assert "88.4 %" in out
    assert "86.0 to 90.5" in out


def test_scores_without_intervals_or_value():
    out = text(tables.score_table([("x", evaluation(math.inf, math.nan, math.nan))]))
    assert "∞" in out
    assert "nan" not in out
    assert " to " not in out
    assert "-" in text(tables.score_table([("x", evaluation(None, None, None))]))


def test_brackets_in_a_verdict_are_words():
    assert "[bold]x[/bold]" in text(tables.sentences(["[bold]x[/bold]", "second"]))


def test_tiny_and_huge_numbers_are_short():
    assert "2.45e-08   95 % interval 0 to 3.1e-08" in text(
        tables.temperature_table(fit(temperature=2.45e-8, interval=(0.0, 3.1e-8)))
    )
    assert "1e+30   95 % interval 9e+29 to 2e+30" in text(
        tables.temperature_table(fit(temperature=1e30, interval=(9e29, 2e30)))
    )


def test_names_are_whole_however_wide_the_numbers():
    wide = evaluation(1.234e-7, 1.111e-7, 1.567e-5)
    out = text(tables.score_table([("before\nT = 1", wide), ("after\nT = 2.45e-08", wide)]))
    assert max(map(len, out.splitlines())) <= 80
    for _, name, _ in tables.SCORES:
        assert name in out
    assert "<0.0001" in out and "e-" not in out.replace("2.45e-08", "")
    huge = text(tables.score_table([("T = 1", evaluation(1e30, 9e29, 1.1e30)), ("group", evaluation(1e6, 9e5, 2e6))]))
    assert len(huge.splitlines()) == 2 + len(tables.SCORES) and "1e+30" in huge


def test_no_row_of_scores_wraps():
    """Narrow intervals of values near 100 % are the widest."""
    narrow = [evaluation(0.99995, 0.99985, 1.0), evaluation(0.01394, 0.01069, 0.017612)]
    for first in narrow:
        out = text(tables.score_table([("before\nT = 1", first), ("after\nT = 1.18", narrow[0])]))
        lines = out.rstrip("\n").splitlines()
        assert max(map(len, lines)) <= 80 and len(lines) == 3 + len(tables.SCORES)
        assert all(line.count(" to ") == 2 for line in lines[3:])


def test_a_score_has_four_decimals_at_most():
    sharp = evaluation(1.386294361, 1.3862941, 1.3862946)
    out = text(tables.score_table([("before", evaluation(6.347806, 5.967716, 6.704756)), ("after", sharp)]))
    assert "6.348   5.968 to 6.705" in out and " 1.386 " in out and "6.347" not in out
    assert "1.3863" in text(tables.score_table([("one", sharp)]))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0020, "0.0020"),
        (0.000615, "0.0006"),
        (9.44e-5, "0.0001"),
        (2e-5, "<0.0001"),
        (-2e-5, ">-0.0001"),
        (0, "0.0000"),
    ],
)
def test_decimals_that_are_fixed(value, shown):
    assert tables.fixed(value, 4) == shown


def test_value_and_error_have_the_same_decimals():
    split = SimpleNamespace(score="nll", total=0.0312, calibration=0.0020, error=0.000615, refinement=0.0292)
    found = SimpleNamespace(splits=(split,), folds=5, best="bias")
    assert "0.0020 ± 0.0006 that" in text(tables.split_note(found))


def test_methods_that_are_not_eligible_say_why():
    def candidate(method, behind, keeps, ineligible=None):
        return SimpleNamespace(
            method=method,
            nll=0.5 + behind,
            behind=behind,
            error=0.01,
            ece=0.02,
            keeps_predictions=keeps,
            failure=None,
            ineligible=ineligible,
        )

    kept = candidate("temperature", 0.0, True)
    found = SimpleNamespace(
        chosen="temperature",
        best="temperature",
        candidates=(kept, candidate("bias", -0.1, False, "class 3 has no rows")),
    )
    shown = text(tables.selection_table(found))
    assert "not eligible" in shown and "Not eligible: class 3 has no rows." in shown
    plain = SimpleNamespace(chosen="temperature", best="temperature", candidates=(kept, candidate("bias", 0.1, False)))
    assert "eligible" not in text(tables.selection_table(plain))
