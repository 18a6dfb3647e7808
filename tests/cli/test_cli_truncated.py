"""Answers of language models through `calibrate` and `apply`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from logitherm.calibration import TemperatureScaling, TopAnswers, TruncatedTemperatureScaling

TOKENS = [*"ABCD", *(f"t{i}" for i in range(26))]


def drawn(seed=0, n=400, temperature=2.0):
    """Log-probabilities of 30 tokens, and answers drawn at the temperature."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, 30)) + np.where(np.arange(30) < 4, 4.0, 0.0)
    labels = (z[:, :4] + rng.gumbel(size=(n, 4))).argmax(axis=1)
    z *= temperature
    return z - np.logaddexp.reduce(z, axis=1, keepdims=True), labels


def lines(log_p, labels, k=8):
    for row, label in zip(log_p, labels, strict=True):
        top = np.argsort(-row)[:k]
        yield {"logprobs": {TOKENS[i]: float(row[i]) for i in top}, "answer": TOKENS[label]}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def answers(tmp_path):
    return write(tmp_path / "answers.jsonl", lines(*drawn()))


CHOICES = "--choices", "A,B,C,D"


def test_choices_are_fitted_as_in_the_library(answers, as_json):
    found = as_json("calibrate", answers, *CHOICES)
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    top = TopAnswers.of_choices([row["logprobs"] for row in rows], list("ABCD"))
    labels = np.array(["ABCD".index(row["answer"]) for row in rows])
    fitted = TruncatedTemperatureScaling().fit(top, labels)
    assert found["temperature"] == pytest.approx(fitted.temperature_, rel=1e-12)
    assert found["temperature_bounds"] == [end if np.isfinite(end) else None for end in fitted.temperature_bounds_]
    assert found["nll_before"] == fitted.nll(top, labels, 1.0) > found["nll_after"] == fitted.nll(top, labels)
    assert found["interval"][0] < 2.0 and found["n"] == 400 and found["choices"] == list("ABCD")


def test_whole_rows_have_the_temperature_of_their_logits(tmp_path, as_json):
    """Where every token is listed, nothing is missing."""
    log_p, labels = drawn()
    path = write(tmp_path / "whole.jsonl", lines(log_p, labels, k=30))
    found = as_json("calibrate", path, *CHOICES)
    known = TemperatureScaling().fit(log_p[:, :4], labels).temperature_
    assert found["temperature"] == pytest.approx(known, rel=1e-6)
    assert found["temperature_bounds"] == pytest.approx([known, known], rel=1e-6)


def test_words_and_files(answers, tmp_path, command):
    test = write(tmp_path / "test.jsonl", lines(*drawn(seed=1, n=100)))
    out = command("calibrate", answers, test, *CHOICES, "--save", tmp_path / "c.json").stdout
    assert out.startswith("The model is overconfident: too cold, it needs heating to T = ")
    out = " ".join(out.split())
    assert "for whatever is not listed" in out and "test.jsonl (100 answers)" in out and "c.json" in out
    result = command("apply", tmp_path / "c.json", test, "-o", tmp_path / "out.jsonl")
    assert result.stdout == "" and "100 answers by T = " in result.stderr
    made = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    fitted = TruncatedTemperatureScaling.load(tmp_path / "c.json")
    top = TopAnswers.of_choices([json.loads(line)["logprobs"] for line in test.read_text().splitlines()], list("ABCD"))
    p = fitted.predict_proba(top)
    assert len(made) == 100
    for row, each in zip(p, made, strict=True):
        assert list(each["probabilities"].values()) == row.tolist()
        assert all(low <= each["probabilities"][token] <= high for token, (low, high) in each["bounds"].items())


def test_tokens(tmp_path, command, as_json):
    """With --top, one that is listed beyond them is the answer's own."""
    log_p, labels = drawn(n=200)
    plain = write(tmp_path / "plain.jsonl", lines(log_p, labels, k=5))
    rows = list(lines(log_p, labels, k=5))
    for row, values, label in zip(rows, log_p, labels, strict=True):
        row["logprobs"][TOKENS[label]] = float(values[label])
    known = write(tmp_path / "known.jsonl", rows)
    assert as_json("calibrate", plain, "--vocabulary", 30)["unlisted"] > 0
    found = as_json("calibrate", known, "--vocabulary", 30, "--top", 5, "--save", tmp_path / "c.json")
    assert found["unlisted"] == 0 and found["vocabulary"] == 30
    command("apply", tmp_path / "c.json", known, "-o", tmp_path / "out.jsonl")
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])["probabilities"]
    assert len(first) == 5 and 0 < sum(first.values()) < 1


def test_responses_of_an_interface(tmp_path, as_json):
    def response(row):
        top = [{"token": token, "logprob": value} for token, value in row["logprobs"].items()]
        content = [{**top[0], "top_logprobs": top}]
        return {"choices": [{"logprobs": {"content": content}}], "answer": row["answer"]}

    rows = list(lines(*drawn(n=100)))
    plain, responses = write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", map(response, rows))
    a, b = (as_json("calibrate", path, *CHOICES) for path in (plain, responses))
    assert {**a, "file": ""} == {**b, "file": ""} | {"scored_on": "a.jsonl"}


def test_warnings(tmp_path, command):
    rows = list(lines(*drawn(n=60), k=8))
    del rows[0]["logprobs"][rows[0]["answer"]]
    few = write(tmp_path / "few.jsonl", rows[:20])
    result = command("calibrate", few, *CHOICES)
    assert "20 answers hardly tell" in result.stderr and "leaves T open to infinity" in result.stderr


def test_errors(answers, files, tmp_path, command):
    bad = write(tmp_path / "bad.jsonl", [*lines(*drawn(n=3)), {"logprobs": {"A": 1.0}, "answer": "A"}])
    assert (
        "bad.jsonl, line 4: logprobs must be natural logarithms" in command("calibrate", bad, *CHOICES, code=1).stderr
    )
    short = command("calibrate", answers, "--vocabulary", 8, code=1).stderr
    assert "answers.jsonl: states: must be" in short and "give the size of the vocabulary" in short
    command("calibrate", files.val, "--save", tmp_path / "logits.json")
    wrong = command("apply", tmp_path / "logits.json", answers, "-o", tmp_path / "o.jsonl", code=1)
    assert "must be a calibrator of answers" in wrong.stderr
    top = TopAnswers.of_choices([{"A": -0.1, "B": -3.0}, {"A": -0.1, "B": -3.0}], ["A", "B"])
    TruncatedTemperatureScaling().fit(top, np.array([0, 1])).save(tmp_path / "python.json")
    wrong = command("apply", tmp_path / "python.json", answers, "-o", tmp_path / "o.jsonl", code=1)
    assert "must say what its answers are" in wrong.stderr
    assert not (tmp_path / "o.jsonl").exists()
    command("calibrate", answers, *CHOICES, "--save", tmp_path / "c.json")
    assert "exists" in command("calibrate", answers, *CHOICES, "--save", tmp_path / "c.json", code=1).stderr
    assert (
        "only `logitherm apply` has a use for it"
        in command("evaluate", files.val, "--calibrator", tmp_path / "c.json", code=1).stderr
    )


def test_usage(answers, files, tmp_path, command):
    for arguments, said in (
        ([answers], "either --choices A,B,C,D"),
        ([answers, *CHOICES, "--vocabulary", 30], "either --choices A,B,C,D"),
        ([answers, *CHOICES, "--method", "auto"], "--method is for files of logits"),
        ([answers, *CHOICES, "--report", tmp_path / "r.html"], "--report is for files of logits"),
        ([answers, files.test, *CHOICES], "TEST must be answers too"),
        ([files.val, *CHOICES], "are for answers, a .jsonl file"),
        ([answers, "--choices", "A,A"], "two different tokens or more"),
        ([answers, *CHOICES, "--save", tmp_path / "c.txt"], "--save must name a .json file"),
    ):
        assert said in " ".join(command("calibrate", *arguments, code=2).stderr.split())
    command("calibrate", answers, *CHOICES, "--save", tmp_path / "c.json")
    assert (
        "-o must end in .jsonl"
        in command("apply", tmp_path / "c.json", answers, "-o", tmp_path / "o.npz", code=2).stderr
    )
