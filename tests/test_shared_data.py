"""Real predictions with known answers, where a copy of them lies beside the repository."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from logitherm.calibration import calibrate

FOLDER = Path(__file__).parents[2] / "shared" / "data"
FACTS = json.loads((FOLDER / "facts.json").read_text()) if (FOLDER / "facts.json").exists() else []


@pytest.mark.skipif(not FACTS, reason="the real predictions do not lie beside this repository")
@pytest.mark.parametrize("facts", FACTS, ids=[f["name"] for f in FACTS])
def test_every_set_agrees_with_its_facts(facts):
    (val, y), (test, u) = (
        (data["logits"], data["labels"])
        for data in (np.load(FOLDER / f"{facts['name']}.{half}.npz") for half in ("val", "test"))
    )
    study = calibrate(val, y, test, u, bootstrap=100)
    assert study.fit.temperature == pytest.approx(facts["temperature"], abs=1e-6)
    assert study.fit.standard_error == pytest.approx(facts["standard_error"], rel=1e-4)
    assert study.after.accuracy.value == facts["test"]["accuracy"]
    for side in ("before", "after"):
        for score in ("nll", "ece"):
            assert getattr(getattr(study, side), score).value == pytest.approx(facts["test"][side][score], abs=1e-6)
    if facts["name"] == "20news_crossval":
        assert study.fit.sandwich_error > 6 * study.fit.standard_error
        assert "the wrong tool" in study.verdict[0]
        assert any("method ensemble" in line and "keeps every prediction" in line for line in study.verdict)
    elif facts["name"] == "mnist_crossval":
        assert study.fit.interval[0] > 1
        assert any(line.startswith("There is hardly anything to mend") for line in study.verdict)
    else:
        if facts["name"] == "cifar10_netcal_wideresnet164":
            share = next(
                line for line in study.verdict if line.startswith("By cross-validation one temperature brings")
            )
            assert 70 <= int(share.split("brings ")[1].split(" %")[0]) < 100
        assert not any("wrong tool" in line for line in study.verdict)
