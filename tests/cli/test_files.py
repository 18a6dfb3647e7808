"""What commands share about files: which they refuse, and what they call a calibrator."""

import numpy as np
import pytest

from logitherm.calibration import (
    METHODS,
    GroupTemperatureScaling,
    PlattScaling,
    TemperatureScaling,
    TopAnswers,
    TruncatedTemperatureScaling,
)
from logitherm.cli.files import described, require_writable
from logitherm.io import InputError


@pytest.fixture
def truncated(files):
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(300, 30))
    labels = (z / 1.5 + rng.gumbel(size=z.shape)).argmax(axis=1)
    top = np.argsort(-z, axis=1)[:, :5]
    log_p = np.take_along_axis(z - np.log(np.exp(z).sum(axis=1, keepdims=True)), top, axis=1)
    listed = top == labels[:, None]
    place = np.where(listed.any(axis=1), listed.argmax(axis=1), -1)
    scaling = TruncatedTemperatureScaling().fit(TopAnswers.of_tokens(log_p, states=30), place)
    scaling.save(files / "truncated.json")
    return files / "truncated.json"


def test_a_calibrator_of_truncated_answers_is_not_for_rows_of_logits(files, command, truncated):
    (files / "m.onnx").write_bytes(b"")
    for arguments in (
        ("apply", truncated, files.test, "-o", files / "p.npz"),
        ("check", truncated, files.test),
        ("evaluate", files.test, "--calibrator", truncated),
        ("bake", truncated, files / "m.onnx", "-o", files / "new.onnx"),
    ):
        error = command(*arguments, code=1).stderr
        assert "must be a calibrator of whole rows; got one of truncated answers; only `logitherm apply`" in error


def test_calibrators_are_called_by_their_method(files):
    for name, family in METHODS.items():
        if name != "temperature":
            assert described(family()) == name
    assert described(GroupTemperatureScaling()) == "group"
    assert described(PlattScaling()) == "PlattScaling"
    fitted = TemperatureScaling().fit(files.logits, files.labels)
    assert described(fitted) == f"T = {fitted.temperature_:.3g}"


def test_an_input_is_no_output_under_any_name(files):
    require_writable(files / "new.npz", [files / "val.npz"], force=False)
    with pytest.raises(InputError, match=r"val.npz: is an input and cannot be the output too; choose another name"):
        require_writable(files / "sub" / ".." / "val.npz", [files / "test.npz", files / "val.npz"], force=True)
