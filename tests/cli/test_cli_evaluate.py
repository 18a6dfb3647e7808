"""Scores of logits as they come, and through a calibrator."""

import numpy as np
import pytest

from logitherm.metrics import evaluate


@pytest.fixture
def calibrator(files, command):
    command("calibrate", files.val, "--save", files / "c.json")
    return files / "c.json"


def test_scores_are_those_of_the_library(files, as_json):
    found = as_json("evaluate", files.test, "--bins", 10, "--seed", 5)
    scores = evaluate(files.test_logits, files.test_labels, bins=10, seed=5)
    assert (found["n"], found["classes"], found["temperature"], found["calibrator"]) == (400, 5, 1.0, None)
    for name in ("accuracy", "nll", "brier", "ece", "ece_equal_mass", "classwise_ece", "mce"):
        score = getattr(scores, name)
        assert found[name] == score.value
        assert found["intervals"][name] == [score.low, score.high]
    assert found["uncalibrated"] is None


def test_a_calibrator_is_scored_beside_what_it_mends(files, as_json, command, calibrator):
    found = as_json("evaluate", files.test, "--calibrator", calibrator)
    assert found["calibrator"] == "c.json"
    assert 2 < found["temperature"] < 3
    assert found["nll"] < found["uncalibrated"]["nll"]
    assert found["accuracy"] == found["uncalibrated"]["accuracy"]
    out = command("evaluate", files.test, "--calibrator", calibrator).stdout
    assert "T = 1" in out
    assert f"T = {found['temperature']:.3g}" in out
    assert max(map(len, out.splitlines())) <= 80


def test_evaluate_what_apply_wrote(files, as_json, command, calibrator):
    command("apply", calibrator, files.test, "-o", files / "p.npz")
    written = as_json("evaluate", files / "p.npz", "--probabilities", "--labels", files.test)
    applied = as_json("evaluate", files.test, "--calibrator", calibrator)
    for name in ("accuracy", "nll", "brier", "ece"):
        assert written[name] == pytest.approx(applied[name], rel=1e-4)


def test_an_impossible_label_makes_the_nll_infinite_which_json_says_as_null(files, as_json, command, softmax):
    p = softmax(files.logits)
    p[3, files.labels[3]] = 0
    path = files.save("p.npz", probs=p / p.sum(axis=1, keepdims=True), labels=files.labels)
    found = as_json("evaluate", path, "--probabilities")
    assert found["nll"] is None
    assert found["zero_labels"] == 1
    assert 0 < found["accuracy"] < 1
    result = command("evaluate", path, "--probabilities")
    assert "∞" in result.stdout
    assert "nan" not in result.stdout
    assert "1 of 400 labels have probability zero; the NLL is infinite" in result.stderr


def test_errors(files, command, calibrator):
    assert "c2.json: no such file" in command("evaluate", files.test, "--calibrator", "c2.json", code=1).stderr
    other = files.save("other.npz", logits=np.zeros((4, 7)), labels=[0, 1, 2, 3])
    assert "5 classes" in command("evaluate", other, "--calibrator", calibrator, code=1).stderr
    (files / "bad.json").write_text("{")
    assert "error:" in command("evaluate", files.test, "--calibrator", files / "bad.json", code=1).stderr
    assert "no such file" in command("evaluate", files / "gone.npz", code=1).stderr
    command("evaluate", code=2)
