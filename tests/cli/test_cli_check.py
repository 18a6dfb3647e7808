"""Whether a calibrator still fits, from files."""

from types import SimpleNamespace

import numpy as np
import pytest

from logitherm.calibration import TemperatureScaling, VectorScaling, load_calibrator
from logitherm.calibration.stream.drift import check_drift
from logitherm.cli import check


@pytest.fixture
def calibrator(files):
    TemperatureScaling().fit(files.logits, files.labels).save(files / "calibrator.json")
    return files / "calibrator.json"


@pytest.fixture
def hot(files, draw):
    """A file of rows that ask for twice the temperature of the others."""
    z, labels = draw(n=1000, seed=3)
    return files.save("hot.npz", logits=2 * z, labels=labels)


def test_the_check_is_that_of_the_library(files, as_json, calibrator):
    options = "--tolerance", 0.1, "--run-length", 5000
    found = as_json("check", calibrator, files.test, *options)
    known = check_drift(
        load_calibrator(calibrator), files.test_logits, files.test_labels, tolerance=0.1, run_length=5000
    )
    assert found == {"calibrator": "calibrator.json", "file": "test.npz", "kind": "logits", **known.to_dict()}
    assert found["verdict"] == "undecided"
    assert as_json("check", calibrator, files.test)["run_length"] == pytest.approx(40 * 400)


def test_words_and_exit_codes(files, command, calibrator, hot, draw):
    out = command("check", calibrator, files.test, "--fail-on-drift").stdout
    assert out.startswith("Too few rows to tell whether the calibrator still fits within 5 %.")
    assert "Alarm                none" in out
    out = command("check", calibrator, files.test, "--tolerance", 1).stdout
    assert out.startswith("The calibrator still fits")
    out = command("check", calibrator, hot).stdout
    assert command("check", calibrator, hot, "--fail-on-drift", code=3).stdout == out
    assert out.startswith("The calibrator has drifted: it leaves the new rows overconfident.")
    assert "overconfident, needs heating to a higher T" in out and "hot.npz (1000 rows, 5 classes)" in out
    assert "at most" in out
    assert max(map(len, out.splitlines())) <= 80


def test_numbers_shown_are_those_found(command, as_json, calibrator, hot):
    found, out = as_json("check", calibrator, hot), command("check", calibrator, hot).stdout
    lines = {" ".join(line.split()[:2]): line.split() for line in out.splitlines() if line.startswith("  ")}
    for name, temperature, ends in (
        ("Temperature given", found["reference_temperature"], found["reference_interval"]),
        ("Temperature needed", found["temperature"], found["interval"]),
    ):
        shown = [float(word) for word in lines[name][2::4] if word[0].isdigit()]
        assert shown[0] == pytest.approx(temperature, abs=0.006)
        low, high = (float(lines[name][i]) for i in (-3, -1))
        assert (low, high) == pytest.approx(ends, abs=0.006)
    assert f"after {found['rows_to_alarm']} rows" in out
    assert f"{100 * (found['change'] - 1):+.1f} %" in out


def test_rows_that_ceased_to_fit_for_a_while(files, command, calibrator, draw):
    z, labels = draw(n=8000, seed=5)
    z[3000:3400] *= 3
    z[6000:6400] /= 3
    path = files.save("while.npz", logits=z, labels=labels)
    out = " ".join(command("check", calibrator, path, "--tolerance", 0.1).stdout.split())
    assert "for a while it left the rows overconfident" in out


def test_limits(files, command, calibrator):
    right = files.save("right.npz", logits=files.logits, labels=files.logits.argmax(axis=1))
    assert "Every new label is the model's first choice" in command("check", calibrator, right).stdout
    out = command("check", calibrator, right, "--fail-on-drift", code=3).stdout
    assert "The calibrator has drifted: it leaves the new rows underconfident." in " ".join(out.split())
    wrong = files.save("wrong.npz", logits=files.logits, labels=files.logits.argmin(axis=1))
    out = command("check", calibrator, wrong, "--fail-on-drift", code=3).stdout
    assert "say nothing about the new labels" in " ".join(out.split()) and "rows overconfident" in out


@pytest.mark.parametrize("at_bound", [None, "zero", "infinite"])
@pytest.mark.parametrize("verdict", ["holds", "undecided", "drifted"])
@pytest.mark.parametrize("changed", [True, False])
def test_words_speak_of_drift_whenever_the_exit_code_does(at_bound, verdict, changed):
    change = {None: 2.0, "zero": 0.0, "infinite": float("inf")}[at_bound]
    needs = "heating" if change > 1 else "cooling"
    found = SimpleNamespace(
        at_bound=at_bound, verdict=verdict, changed=changed, change=change, needs=needs, tolerance=0.05
    )
    words = " ".join(check.finding(found))
    said = "has drifted" in words or "did not fit at all times" in words
    assert said == (verdict == "drifted")
    assert not said or ("overconfident" if change > 1 else "underconfident") in words


def test_other_families(files, command, hot):
    VectorScaling().fit(files.logits, files.labels).save(files / "vector.json")
    out = command("check", files / "vector.json", hot).stdout
    assert out.startswith("The calibrator has drifted") and "T is that of the calibrated logits." in out


def test_probabilities_and_impossible_labels(files, command, as_json, calibrator, softmax):
    p = softmax(files.test_logits)
    path = files.save("p.npz", probs=p, labels=files.test_labels)
    found, known = as_json("check", calibrator, path, "--probabilities"), as_json("check", calibrator, files.test)
    assert found["temperature"] == pytest.approx(known["temperature"], rel=1e-4)
    p[3, files.test_labels[3]] = 0
    path = files.save("p.npz", probs=p / p.sum(axis=1, keepdims=True), labels=files.test_labels)
    assert "--zero-labels exclude" in command("check", calibrator, path, "--probabilities", code=1).stderr
    result = command("check", calibrator, path, "--probabilities", "--zero-labels", "exclude")
    assert "those rows are left out" in result.stderr and "p.npz (399 of 400 rows" in result.stdout


def test_labels_of_their_own_file(files, as_json, calibrator):
    bare, labels = files.save("bare.npz", logits=files.test_logits), files / "labels.npy"
    np.save(labels, files.test_labels)
    known = as_json("check", calibrator, files.test)
    assert {**as_json("check", calibrator, bare, "--labels", labels), "file": "test.npz"} == known


def test_errors(files, command, calibrator):
    assert "make one with `logitherm calibrate" in command("check", files / "gone.json", files.test, code=1).stderr
    assert "no such file" in command("check", calibrator, files / "gone.npz", code=1).stderr
    assert "must be a calibrator" in command("check", files.val, files.test, code=1).stderr
    narrow = files.save("narrow.npz", logits=files.logits[:, :3], labels=files.labels % 3)
    assert "must have the 5 classes" in command("check", calibrator, narrow, code=1).stderr
    few = files.save("few.npz", logits=files.logits[:20], labels=files.labels[:20])
    assert "20 rows hardly tell" in command("check", calibrator, few).stderr
    for wrong in (("--tolerance", "-1"), ("--run-length", "0"), ("--tolerance", "much")):
        command("check", calibrator, files.test, *wrong, code=2)
