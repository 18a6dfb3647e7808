"""Probabilities through a saved calibrator."""

import numpy as np
import pytest

from logitherm.calibration import TemperatureScaling


@pytest.fixture
def calibrator(files, command):
    command("calibrate", files.val, "--save", files / "c.json")
    return files / "c.json"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_probabilities_of_the_library_in_the_dtype_of_the_logits(files, command, calibrator, dtype):
    logits = files.test_logits.astype(dtype)
    result = command("apply", calibrator, files.save("new.npz", logits=logits), "-o", files / "p.npz")
    assert result.stdout == ""
    assert "400 rows of 5 probabilities by T = " in result.stderr
    with np.load(files / "p.npz") as written:
        assert written.files == ["probabilities"]
        p = written["probabilities"]
    assert p.dtype == dtype
    np.testing.assert_array_equal(p, TemperatureScaling.load(calibrator).predict_proba(logits))


def test_labels_are_not_looked_at(files, command, calibrator):
    path = files.save("new.npz", logits=files.logits, labels=np.full(400, -1))
    command("apply", calibrator, path, "-o", files / "p.npz")


def test_probabilities_are_tempered_alike(files, command, calibrator, softmax):
    command("apply", calibrator, files.test, "-o", files / "a.npz")
    path = files.save("probs.npz", probs=softmax(files.test_logits))
    command("apply", calibrator, path, "-o", files / "b.npz", "--probabilities")
    np.testing.assert_allclose(
        np.load(files / "b.npz")["probabilities"], np.load(files / "a.npz")["probabilities"], rtol=1e-4, atol=1e-7
    )


def test_nothing_is_overwritten(files, command, calibrator):
    (files / "p.npz").write_bytes(b"mine")
    assert "exists; pass --force" in command("apply", calibrator, files.test, "-o", files / "p.npz", code=1).stderr
    assert (files / "p.npz").read_bytes() == b"mine"
    command("apply", calibrator, files.test, "-o", files / "p.npz", "--force")
    assert len(np.load(files / "p.npz")["probabilities"]) == 400
    assert "is an input" in command("apply", calibrator, files.test, "-o", files.test, "--force", code=1).stderr


def test_wrong_usage(files, command, calibrator):
    assert "-o" in command("apply", calibrator, files.test, code=2).stderr
    assert ".npz" in command("apply", calibrator, files.test, "-o", files / "p.csv", code=2).stderr
    other = files.save("other.npz", logits=np.zeros((4, 7)))
    assert "5 classes" in command("apply", calibrator, other, "-o", files / "p.npz", code=1).stderr
    assert "p.npz" not in files.names()
