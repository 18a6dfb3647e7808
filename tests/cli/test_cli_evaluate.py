"""Scores of logits as they come, and through a calibrator."""

import builtins
import json
import os

import numpy as np
import pytest

from logitherm.metrics import defer_below, evaluate


@pytest.fixture
def calibrator(files, command):
    command("calibrate", files.val, "--save", files / "c.json")
    return files / "c.json"


def test_scores_are_those_of_the_library(files, as_json):
    found = as_json("evaluate", files.test, "--bins", 10, "--seed", 5)
    scores = evaluate(files.test_logits, files.test_labels, bins=10, seed=5)
    assert (found["n"], found["classes"], found["temperature"], found["calibrator"]) == (400, 5, 1.0, None)
    for name in ("accuracy", "nll", "brier", "ece", "ece_equal_mass", "classwise_ece", "smooth_ece", "mce"):
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
    assert "as it is" in out
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


def test_a_calibrator_at_a_bound_is_warned_of(files, command):
    path = files.save("a.npz", logits=files.logits, labels=files.logits.argmax(axis=1))
    command("calibrate", path, "--save", files / "cold.json")
    result = command("evaluate", files.test, "--calibrator", files / "cold.json", "--json")
    assert json.loads(result.stdout)["temperature"] == 0
    assert result.stderr.count("warning: ") == 1
    assert "cold.json: the calibrator is at T = 0" in result.stderr


def test_errors(files, command, calibrator):
    assert "c2.json: no such file" in command("evaluate", files.test, "--calibrator", "c2.json", code=1).stderr
    other = files.save("other.npz", logits=np.zeros((4, 7)), labels=[0, 1, 2, 3])
    assert "5 classes" in command("evaluate", other, "--calibrator", calibrator, code=1).stderr
    (files / "bad.json").write_text("{")
    assert "error:" in command("evaluate", files.test, "--calibrator", files / "bad.json", code=1).stderr
    assert "no such file" in command("evaluate", files / "gone.npz", code=1).stderr
    (files / "folder.npz").mkdir()
    for arguments in ((files / "folder.npz",), (files.test, "--calibrator", files / "folder.npz")):
        assert "folder.npz: must be a file; it is a folder" in command("evaluate", *arguments, code=1).stderr
    command("evaluate", code=2)


@pytest.fixture
def closed(files, monkeypatch):
    """A file that may not be read, also for those who may read everything."""
    path = files.folder / "closed"
    path.write_bytes(b"")
    real = builtins.open

    def refuse(file, *arguments, **options):
        if str(file) == str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(os, "access", lambda file, mode, **options: str(file) != str(path))
    return path


def test_a_file_that_may_not_be_read_is_bad_input(files, command, calibrator, closed):
    for arguments in (
        ("evaluate", closed),
        ("evaluate", files.test, "--labels", closed),
        ("evaluate", files.test, "--calibrator", closed),
        ("apply", closed, files.test, "-o", files / "p.npz"),
        ("apply", calibrator, closed, "-o", files / "p.npz"),
        ("calibrate", closed),
    ):
        error = command(*arguments, code=1).stderr
        assert "closed: cannot be opened (Permission denied); check its name and permissions" in error


def test_deferral_is_that_of_the_library(files, as_json, command, calibrator):
    found = as_json("evaluate", files.test, "--precision", 0.4)["deferral"]
    assert found == defer_below(files.test_logits, files.test_labels, precision=0.4).to_dict()
    out = " ".join(command("evaluate", files.test, "--calibrator", calibrator, "--precision", 0.4).stdout.split())
    assert f"as it is: defer below a confidence of {found['threshold']:.6g}" in out
    out = " ".join(command("evaluate", files.test, "--precision", 1).stdout.split())
    assert "no confidence is known from these rows above which 100 % of the answers are right" in out
    assert as_json("evaluate", files.test)["deferral"] is None
