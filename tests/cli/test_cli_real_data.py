"""The main job on real predictions, against temperatures fitted elsewhere in float64."""

import json
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FACTS = json.loads((DATA / "facts.json").read_text(encoding="utf-8")) if (DATA / "facts.json").is_file() else []

pytestmark = pytest.mark.skipif(not FACTS, reason=f"the real predictions are not in {DATA}")


@pytest.mark.parametrize("facts", FACTS, ids=lambda facts: facts["name"])
def test_calibrate_agrees_with_the_facts(facts, as_json):
    found = as_json("calibrate", DATA / f"{facts['name']}.val.npz", DATA / f"{facts['name']}.test.npz")
    assert found["n"] == facts["n_val"]
    assert found["classes"] == facts["classes"]
    assert found["temperature"] == pytest.approx(facts["temperature"], abs=1e-6)
    assert found["standard_error"] == pytest.approx(facts["standard_error"], rel=1e-4)
    low, high = found["interval"]
    assert low < facts["temperature"] < high
    assert found["at_bound"] is None
    assert found["before"]["accuracy"] == pytest.approx(facts["test"]["accuracy"], abs=1e-12)
    for when in ("before", "after"):
        for score in ("nll", "ece"):
            assert found[when][score] == pytest.approx(facts["test"][when][score], abs=2e-6)


def test_clipped_zeros_show_in_the_sandwich_error(as_json):
    name = "20news_crossval"
    found = as_json("calibrate", DATA / f"{name}.val.npz", DATA / f"{name}.test.npz")
    assert 6 < found["sandwich_error"] / found["standard_error"] < 8
    assert found["after"]["ece"] > found["before"]["ece"]  # a temperature is the wrong tool there
