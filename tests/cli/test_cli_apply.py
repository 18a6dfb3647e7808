"""Probabilities through a saved calibrator."""

import numpy as np
import pytest

from logitherm.calibration import GroupTemperatureScaling, PlattScaling, TemperatureScaling, check_drift
from logitherm.metrics import nll


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


# -- groups ----------------------------------------------------------------------------------------------


@pytest.fixture
def grouped(files, command):
    """A calibrator of two groups, one of them three times as hot, and the file of their names."""
    names = np.where(np.arange(400) % 2, "law", "news")
    hot = np.where(names == "law", 3, 1)[:, None].astype(np.float32)
    files.val = files.save("val.npz", logits=hot * files.logits, labels=files.labels)
    files.test = files.save("test.npz", logits=hot * files.test_logits, labels=files.test_labels)
    (files / "groups.txt").write_text("\n".join(names) + "\n")
    arguments = ("--method", "group", "--groups", files / "groups.txt")
    command("calibrate", files.val, *arguments, "--save", files / "g.json")
    return files / "g.json"


def test_groups_have_their_own_temperatures(files, command, grouped):
    result = command("apply", grouped, files.test, "-o", files / "p.npz", "--groups", files / "groups.txt")
    assert "warning" not in result.stderr and "by group" in result.stderr
    fitted = GroupTemperatureScaling.load(grouped)
    assert fitted.temperatures_[0] > 2 * fitted.temperatures_[1]
    names = np.array((files / "groups.txt").read_text().split())
    expected = fitted.predict_proba(np.load(files.test)["logits"], names)
    np.testing.assert_array_equal(np.load(files / "p.npz")["probabilities"], expected)


def test_without_groups_or_of_others_rows_get_the_common_temperature_and_that_is_said(files, command, grouped):
    warned = command("apply", grouped, files.test, "-o", files / "p.npz").stderr
    assert warned.count("warning:") == 1 and "calibrator of 2 groups; without these all rows get" in warned
    assert "pass --groups FILE" in warned
    (files / "other.txt").write_text("\n".join(["law", "art"] * 200))
    arguments = ("-o", files / "p.npz", "--force", "--groups")
    warned = command("apply", grouped, files.test, *arguments, files / "other.txt").stderr
    assert "200 of 400 rows are of groups that it was not fitted to" in warned
    assert "without these all rows" in command("evaluate", files.test, "--calibrator", grouped).stderr


def test_scores_and_the_check_know_groups_too(files, command, as_json, grouped):
    groups = ("--groups", files / "groups.txt")
    assert "needs --calibrator" in command("evaluate", files.test, *groups, code=2).stderr
    names = (files / "groups.txt").read_text().split()
    fitted = GroupTemperatureScaling.load(grouped)
    with np.load(files.test) as archive:
        data = dict(archive)
    scored = as_json("evaluate", files.test, "--calibrator", grouped, *groups)
    assert scored["nll"] == pytest.approx(nll(fitted.transform(data["logits"], names), data["labels"]), rel=1e-6)
    found = as_json("check", grouped, files.test, *groups)
    expected = check_drift(fitted, data["logits"], data["labels"], groups=names)
    assert found["temperature"] == pytest.approx(expected.temperature)
    assert found["temperature"] != pytest.approx(as_json("check", grouped, files.test)["temperature"])
    with pytest.raises(TypeError, match="groups: must be for a GroupTemperatureScaling"):
        check_drift(
            TemperatureScaling().fit(data["logits"], data["labels"]), data["logits"], data["labels"], groups=names
        )


def test_the_rows_of_the_fit_are_no_test(files, command, calibrator):
    warning = "these are the rows that"
    assert warning in command("evaluate", files.val, "--calibrator", calibrator).stderr
    assert warning in command("check", calibrator, files.val).stderr
    assert warning not in command("evaluate", files.test, "--calibrator", calibrator).stderr
    assert "swap the files, perhaps" in command("check", files.val, calibrator, code=1).stderr


def test_groups_that_do_not_fit_are_refused(files, command, grouped, calibrator):
    groups = ("--groups", files / "groups.txt")
    error = command("apply", calibrator, files.test, "-o", files / "p.npz", *groups, code=1).stderr
    assert "must be for a calibrator of groups; got T = " in error
    np.save(files / "numbers.npy", np.arange(400) % 2)
    arguments = ("-o", files / "p.npz", "--groups", files / "numbers.npy")
    assert (
        "groups: must be strings like those of the fit"
        in command("apply", grouped, files.test, *arguments, code=1).stderr
    )


def test_scores_of_a_multi_label_head(files, command):
    scores = files.test_logits
    fitted = PlattScaling().fit(scores, (scores > np.random.default_rng(0).normal(size=scores.shape)).astype(int))
    fitted.save(files / "platt.json")
    result = command("apply", files / "platt.json", files.save("s.npz", logits=scores), "-o", files / "p.npz")
    assert "by PlattScaling" in result.stderr
    np.testing.assert_array_equal(np.load(files / "p.npz")["probabilities"], fitted.predict_proba(scores))
