"""How many labels to buy, from a file."""

import numpy as np
import pytest

from logitherm.calibration.plan import SIZES, plan_sample_size


def test_the_plan_is_that_of_the_library(files, as_json):
    found = as_json("plan", files.val, "--sizes", "500,1000", "--target-error", 0.2, "--bins", 10, "--seed", 5)
    plan = plan_sample_size(files.logits, files.labels, sizes=[500, 1000], target_error=0.2, bins=10, seed=5)
    assert found == {"file": "val.npz", "kind": "logits", **plan.to_dict()}
    assert found["labelled"] is True and found["needed"] == plan.needed


def test_the_table(files, command):
    out = command("plan", files.val, "--target-error", 0.05).stdout
    plan = plan_sample_size(files.logits, files.labels, target_error=0.05)
    assert out.startswith(f"{plan.needed} labels tell T to a standard error of 0.05.")
    assert max(map(len, out.splitlines())) <= 80
    for size in plan.sizes:
        (row,) = [line.split() for line in out.splitlines()[1:] if line.split()[:1] == [str(size.n)]]
        assert float(row[1]) == pytest.approx(size.standard_error, rel=0.05)
        assert float(row[2]) == pytest.approx(100 * size.ece_error, abs=0.006)
    assert "val.npz (400 rows, 5 classes), fitted T = " in out
    assert "enough" in command("plan", files.val, "--target-error", 3).stdout
    assert "tell T" not in command("plan", files.val).stdout


def test_without_labels(files, command, as_json):
    bare = files.save("bare.npz", logits=files.logits)
    assert "pass --unlabelled, or --labels FILE" in command("plan", bare, code=1).stderr
    found = as_json("plan", bare, "--unlabelled", "--temperature", 2)
    assert found["labelled"] is False and found["fit"] is None and found["temperature"] == 2
    assert [size["n"] for size in found["sizes"]] == list(SIZES)
    out = command("plan", bare, "--unlabelled", "--target-error", 0.1).stdout
    assert out.startswith("At least ")
    assert "labels imagined drawn at T = 1." in out
    with_labels = as_json("plan", files.val, "--unlabelled", "--temperature", 2)
    assert with_labels["sizes"] == found["sizes"]
    assert as_json("plan", bare, "--labels", files.val)["labelled"] is True


def test_probabilities(files, as_json, softmax):
    path = files.save("p.npz", probs=softmax(files.logits), labels=files.labels)
    found, known = as_json("plan", path, "--probabilities"), as_json("plan", files.val)
    assert found["kind"] == "probabilities"
    assert found["temperature"] == pytest.approx(known["temperature"], rel=1e-4)


def test_labels_of_probability_zero(files, command, as_json, softmax):
    p = softmax(files.logits)
    p[3, files.labels[3]] = 0
    path = files.save("p.npz", probs=p / p.sum(axis=1, keepdims=True), labels=files.labels)
    assert "--zero-labels exclude" in command("plan", path, "--probabilities", code=1).stderr
    result = command("plan", path, "--probabilities", "--zero-labels", "exclude")
    assert "the temperature is fitted without them" in result.stderr


def test_a_small_pilot_is_warned_of(files, command):
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(25, 3))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    path = files.save("few.npz", logits=z, labels=labels)
    assert "25 rows hardly tell how large their own error is" in command("plan", path, "--json").stderr
    path = files.save("fewer.npz", logits=z[:10], labels=labels[:10])
    assert "from 10 rows; label 20 or more" in command("plan", path, code=1).stderr
    path = files.save("none.npz", logits=rng.normal(size=(40, 3)), labels=np.arange(40) % 3)
    assert "got T = inf from 40 rows" in command("plan", path, code=1).stderr


def test_errors(files, command):
    assert "no such file" in command("plan", files / "gone.npz", code=1).stderr
    cold = files.save("cold.npz", logits=files.logits, labels=files.logits.argmax(axis=1))
    assert "got T = 0 from 400 rows" in command("plan", cold, code=1).stderr
    for wrong in (
        ("--sizes", "many"),
        ("--sizes", "0,5"),
        ("--target-error", "0"),
        ("--target-error", "nan"),
        ("--temperature", "-1"),
        ("--unlabelled", "--labels", files.val),
    ):
        command("plan", files.val, *wrong, code=2)
