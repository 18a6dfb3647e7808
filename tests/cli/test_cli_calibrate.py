"""The main job from the command line: answers, files, exit codes."""

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import logitherm.calibration
from logitherm.calibration import GroupTemperatureScaling, TemperatureScaling
from logitherm.cli import main
from logitherm.metrics import nll
from logitherm.thermometer import fit_temperature


def test_the_table_says_it_all_in_80_columns(files, command):
    out = command("calibrate", files.val, files.test).stdout
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    for part in (
        "Temperature",
        "95 % interval",
        "model-based",
        "sandwich",
        "before",
        "after",
        "Accuracy",
        "NLL",
        "ECE",
    ):
        assert part in out
    assert "Brier" in out
    assert "Fit: val.npz (400 rows, 5 classes). Scores: test.npz (400 rows, 5 classes)" in " ".join(out.split())
    assert not lines[0].startswith(" ")  # the verdict comes first


def test_json_agrees_with_the_library(files, as_json, softmax):
    found = as_json("calibrate", files.val, files.test)
    fit = fit_temperature(files.logits, files.labels)
    assert found["method"] == "temperature"
    assert found["temperature"] == pytest.approx(fit.temperature, rel=1e-9)
    assert found["standard_error"] == pytest.approx(fit.standard_error, rel=1e-9)
    assert found["sandwich_error"] == pytest.approx(fit.sandwich_error, rel=1e-9)
    assert found["interval"] == pytest.approx(list(fit.interval), rel=1e-9)
    assert found["at_bound"] is None
    assert found["n"] == 400
    assert found["classes"] == 5
    assert set(found["before"]) >= {"accuracy", "nll", "brier", "ece"} <= set(found["after"])
    assert found["before"]["accuracy"] == np.mean(files.test_logits.argmax(axis=1) == files.test_labels)
    p = softmax(files.test_logits)
    nll = -np.mean(np.log(p[np.arange(400), files.test_labels]))
    assert found["before"]["nll"] == pytest.approx(nll, rel=1e-6)
    assert found["after"]["nll"] < found["before"]["nll"]
    assert found["val"] == {"file": "val.npz", "kind": "logits", "n": 400, "zeros": 0, "zero_labels": 0}
    assert found["test"]["file"] == "test.npz"


def test_without_test_scores_come_from_cross_fitting(files, as_json):
    found = as_json("calibrate", files.val)
    assert "5-fold" in found["scored_on"]
    assert found["test"] is None
    assert found["before"]["accuracy"] == np.mean(files.logits.argmax(axis=1) == files.labels)


def test_the_same_seed_gives_the_same_answer(files, as_json):
    first = as_json("calibrate", files.val, "--seed", 3)
    assert first == as_json("calibrate", files.val, "--seed", 3)
    assert first != as_json("calibrate", files.val, "--seed", 4)


def test_bins_change_the_ece(files, as_json):
    assert (
        as_json("calibrate", files.val, "--bins", 3)["before"]["ece"]
        != as_json("calibrate", files.val)["before"]["ece"]
    )


# -- inputs ----------------------------------------------------------------------------------------------


def test_labels_from_other_files(files, as_json):
    np.save(files / "z.npy", files.logits)
    np.savetxt(files / "y.txt", files.labels, fmt="%d")
    np.save(files / "z2.npy", files.test_logits)
    np.save(files / "y2.npy", files.test_labels)
    arguments = (files / "z.npy", files / "z2.npy", "--labels", files / "y.txt", "--test-labels", files / "y2.npy")
    assert as_json("calibrate", *arguments)["temperature"] == as_json("calibrate", files.val)["temperature"]


def test_probabilities_give_the_temperature_of_their_logits(files, as_json, command, softmax):
    path = files.save("p.npz", probabilities=softmax(files.logits), labels=files.labels)
    found = as_json("calibrate", path, "--probabilities")
    assert found["temperature"] == pytest.approx(fit_temperature(files.logits, files.labels).temperature, rel=1e-6)
    assert found["val"]["kind"] == "probabilities"
    assert "--probabilities" in command("calibrate", path, code=1).stderr


def test_probabilities_taken_for_logits_are_hinted_at_and_nothing_else(files, command, as_json, softmax):
    p = softmax(files.logits)
    path = files.save("p.npz", logits=p, labels=files.labels)
    result = command("calibrate", path, "--json")
    assert result.stderr.count("warning:") == 1
    assert "every row sums to 1" in result.stderr
    assert json.loads(result.stdout)["temperature"] == pytest.approx(fit_temperature(p, files.labels).temperature)


def test_zero_probabilities_are_counted(files, command, as_json, softmax):
    p = softmax(20 * files.logits).astype(np.float16)
    labels = p.argmax(axis=1)
    labels[:40] = p[:40].argsort(axis=1)[:, -2]
    possible = p[np.arange(400), labels] > 0
    path = files.save("p.npz", probs=p[possible], labels=labels[possible])
    result = command("calibrate", path, "--probabilities", "--json")
    zeros = int(np.count_nonzero(p[possible] == 0))
    assert json.loads(result.stdout)["val"]["zeros"] == zeros > 0
    assert f"{zeros} of {p[possible].size} probabilities are exactly zero" in result.stderr


def test_labels_of_probability_zero_are_refused_or_left_out_by_number(files, command, as_json, softmax):
    p = softmax(files.logits)
    p[[3, 5, 8], files.labels[[3, 5, 8]]] = 0
    p /= p.sum(axis=1, keepdims=True)
    path = files.save("p.npz", probs=p, labels=files.labels)
    error = command("calibrate", path, "--probabilities", code=1).stderr
    assert "p.npz: 3 of 400 labels have probability zero" in error
    assert "--zero-labels exclude" in error
    found = as_json("calibrate", path, "--probabilities", "--zero-labels", "exclude")
    assert found["val"]["zero_labels"] == 3
    assert found["n"] == 397
    keep = np.setdiff1d(np.arange(400), [3, 5, 8])
    expected = fit_temperature(files.logits[keep], files.labels[keep]).temperature
    assert found["temperature"] == pytest.approx(expected, rel=1e-6)
    for test in (), (files.save("q.npz", probs=p[::-1], labels=files.labels[::-1]),):
        result = command("calibrate", path, *test, "--probabilities", "--zero-labels", "exclude")
        out = " ".join(result.stdout.split())
        assert "Fit: p.npz (397 of 400 rows, 5 classes)" in out
        assert not test or "Scores: q.npz (397 of 400 rows, 5 classes)" in out
        assert "3 of 400 labels have probability zero; those rows are left out" in result.stderr


@pytest.mark.parametrize("temperature", [0.4, 0.86, 5.47, 30.0])
def test_underconfident_and_very_hot_models_are_as_welcome(files, as_json, temperature, draw):
    logits, labels = draw(n=2000, temperature=temperature, seed=2)
    found = as_json("calibrate", files.save("a.npz", logits=logits, labels=labels))
    low, high = found["interval"]
    assert low < temperature < high or abs(found["temperature"] - temperature) < 3 * found["standard_error"]


@pytest.mark.parametrize(("bound", "sign"), [("zero", 1), ("infinite", -1)])
def test_a_fit_at_its_bound_says_so(files, as_json, command, bound, sign, draw):
    logits, _ = draw()
    path = files.save("a.npz", logits=sign * logits, labels=logits.argmax(axis=1))
    found = as_json("calibrate", path)
    assert found["at_bound"] == bound
    assert found["standard_error"] is None
    assert found["temperature"] in (None, 0.0)
    out = command("calibrate", path).stdout
    assert ("Temperature 0" if bound == "zero" else "Temperature ∞") in " ".join(out.split())
    assert "None" not in out
    assert "nan" not in out
    where = {"zero": "T = 0 (one-hot answers)", "infinite": "T = infinity (uniform answers)"}[bound]
    assert where not in command("calibrate", path).stderr
    saved = files / "c.json"
    assert (
        f"c.json: the calibrator is at {where}, not one to ship" in command("calibrate", path, "--save", saved).stderr
    )
    assert where in command("apply", saved, path, "-o", files / "p.npz").stderr


def test_what_is_wrong_with_test_is_said_of_test(files, command):
    bare = files.save("bare.npz", logits=files.test_logits)
    assert "pass --test-labels FILE" in command("calibrate", files.val, bare, code=1).stderr
    assert "pass --labels FILE" in command("calibrate", bare, files.test, code=1).stderr
    np.save(files / "z.npy", files.logits)
    np.save(files / "y.npy", files.labels)
    arguments = (files / "z.npy", files / "z.npy", "--labels", files / "y.npy")
    assert "pass --test-labels FILE" in command("calibrate", *arguments, code=1).stderr
    narrow = files.save("narrow.npz", logits=files.test_logits[:, :3], labels=files.test_labels % 3)
    error = command("calibrate", files.val, narrow, code=1).stderr
    assert "narrow.npz: must have the 5 classes of" in error
    assert "got 3; pass" in error


# -- outputs ---------------------------------------------------------------------------------------------


def test_the_calibrator_is_saved_and_loads(files, command, as_json, softmax):
    out = command("calibrate", files.val, "--save", files / "c.json").stdout
    assert "Calibrator" in out
    assert "c.json" in out
    fitted = TemperatureScaling.load(files / "c.json")
    assert fitted.temperature_ == pytest.approx(as_json("calibrate", files.val)["temperature"])
    np.testing.assert_allclose(
        fitted.predict_proba(files.logits),
        softmax(files.logits / np.float32(fitted.temperature_)),
        rtol=2e-4,
        atol=1e-7,
    )


def test_the_report_is_written(files, command):
    result = command("calibrate", files.val, files.test, "--report", files / "r.html", "--json")
    assert "Report: " in result.stderr
    json.loads(result.stdout)
    page = (files / "r.html").read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert "val.npz" in page


@pytest.mark.parametrize("option", ["--save", "--report"])
def test_nothing_is_overwritten_and_that_is_known_before_the_work(files, command, monkeypatch, option):
    out = files / ("out.json" if option == "--save" else "out.html")
    out.write_text("mine")
    worked = []
    real = logitherm.calibration.calibrate
    monkeypatch.setattr(logitherm.calibration, "calibrate", lambda *a, **k: worked.append(1) or real(*a, **k))
    assert "exists; pass --force" in command("calibrate", files.val, option, out, code=1).stderr
    assert not worked
    assert out.read_text() == "mine"
    command("calibrate", files.val, option, out, "--force")
    assert worked
    assert out.read_text(encoding="utf-8") != "mine"


def test_outputs_are_what_their_names_say(files, command):
    assert (
        "--report must name a .html file" in command("calibrate", files.val, "--report", files / "r.pdf", code=2).stderr
    )
    assert "--save must name a .json file" in command("calibrate", files.val, "--save", files / "c.txt", code=2).stderr


def test_an_input_is_never_an_output(files, command):
    before = (files / "val.npz").read_bytes()
    error = command("calibrate", files.val, "--save", files.val, "--force", code=1).stderr
    assert "is an input" in error
    assert (files / "val.npz").read_bytes() == before


def test_a_failed_report_leaves_no_calibrator(files, command, monkeypatch):
    def fail(*arguments, **options):
        raise ValueError("no figure today")

    monkeypatch.setattr("logitherm.report.render_report", fail)
    before = files.names()
    arguments = ("--save", files / "c.json", "--report", files / "r.html")
    assert "error: no figure today" in command("calibrate", files.val, *arguments, code=1).stderr
    assert files.names() == before


# -- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arrays", "parts"),
    [
        ("gone.npz", None, ["no such file"]),
        ("val.pkl", None, ["no such file"]),
        ("a.npz", {"logits": np.zeros((3, 2))}, ["no labels", "--labels FILE"]),
        ("a.npz", {"logits": np.full((3, 2), np.nan), "labels": [0, 1, 0]}, ["3 of 3", "row 0", "NaN"]),
        ("a.npz", {"logits": np.zeros((3, 2), int), "labels": [0, 1, 0]}, ["are these labels?"]),
        ("a.npz", {"logits": np.zeros((3, 2)), "labels": [0, 1, 2]}, ["0..1", "row 2"]),
        ("a.npz", {"logits": np.zeros((3, 2)), "labels": [0, 1]}, ["each of the 3 rows", "got 2"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_1(files, command, name, arrays, parts):
    path = files / name if arrays is None else files.save(name, **arrays)
    error = command("calibrate", path, code=1).stderr
    for part in [name, *parts]:
        assert part in error


@pytest.mark.parametrize("error", [ValueError, TypeError, OSError, ImportError, MemoryError])
def test_what_the_library_raises_is_one_line_too(files, command, monkeypatch, error):
    def fail(*arguments, **options):
        raise error("first line\n  second line")

    monkeypatch.setattr(logitherm.calibration, "calibrate", fail)
    assert "first line second line" in command("calibrate", files.val, code=1).stderr


def test_ctrl_c_is_one_line_and_leaves_no_file(files, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("logitherm.io.writing.os.replace", stop)
    before = files.names()
    result = CliRunner().invoke(main, ["calibrate", files.val, "--save", str(files / "c.json")])
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "error: stopped by Ctrl-C; no file is left half-written\n"
    assert files.names() == before


def test_what_the_library_advises_is_said_as_an_option(files, command, monkeypatch):
    def fail(*arguments, **options):
        raise ValueError("pass force=True, or zero_labels='exclude'")

    monkeypatch.setattr(logitherm.calibration, "calibrate", fail)
    assert "pass --force, or --zero-labels exclude" in command("calibrate", files.val, code=1).stderr


def test_a_bug_is_not_dressed_up_as_bad_input(files, monkeypatch):
    monkeypatch.setattr(logitherm.calibration, "calibrate", lambda *a, **k: {}["bug"])
    result = CliRunner().invoke(main, ["calibrate", files.val])
    assert isinstance(result.exception, KeyError)


def test_a_missing_extra_says_the_pip_line(files, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (files / "val.parquet").write_bytes(b"")
    assert "pip install pyarrow" in command("calibrate", files / "val.parquet", code=1).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["{val}", "--method", "isotonic"],
        ["{val}", "--bins", "0"],
        ["{val}", "--bins", "many"],
        ["{val}", "--bins", "3000000"],
        ["{val}", "--test-labels", "{val}"],
        ["{val}", "--report", "same", "--save", "same"],
        ["{val}", "--nonsense"],
        ["{val}", "{val}", "{val}"],
    ],
)
def test_wrong_usage_is_exit_code_2(files, command, arguments):
    assert "Usage:" in command("calibrate", *[a.format(val=files.val) for a in arguments], code=2).stderr
    assert files.names() == ["test.npz", "val.npz"]


def test_warnings_of_the_library_are_one_line_on_stderr(files, command, monkeypatch):
    import warnings

    real = logitherm.calibration.calibrate

    def warns(*arguments, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("something\n to know", UserWarning, stacklevel=1)
        return real(*arguments, **options)

    monkeypatch.setattr(logitherm.calibration, "calibrate", warns)
    result = command("calibrate", files.val, "--json")
    json.loads(result.stdout)
    assert "warning: something to know" in result.stderr


def test_every_method_is_offered():
    from logitherm.calibration import METHODS
    from logitherm.cli import calibrate

    assert (*METHODS, "group", "auto") == calibrate.METHODS


def test_groups_are_compared(tmp_path):
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(600, 4))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    groups = np.where(np.arange(600) % 2, "law", "news")
    np.savez(tmp_path / "val.npz", logits=z * np.where(groups == "law", 4.0, 1.0)[:, None], labels=labels)
    (tmp_path / "groups.txt").write_text("\n".join(groups))
    np.save(tmp_path / "groups.npy", groups)
    np.save(tmp_path / "few.npy", groups[:5])
    for name in ("groups.txt", "groups.npy"):
        found = CliRunner().invoke(main, ["calibrate", f"{tmp_path}/val.npz", "--groups", f"{tmp_path}/{name}"])
        assert found.exit_code == 0, found.output
        assert "The groups differ in temperature" in " ".join(found.stdout.split()) and "(law)" in found.stdout
    found = CliRunner().invoke(main, ["calibrate", f"{tmp_path}/val.npz", "--groups", f"{tmp_path}/few.npy"])
    assert found.exit_code == 1 and "for each of the 600 rows; got shape (5,)" in found.stderr


def test_where_every_method_is_certain_of_a_wrong_label(files, command):
    z = np.random.default_rng(0).normal(size=(200, 4))
    labels = z.argmax(axis=1)
    labels[7] = z[7].argmin()
    out = command("calibrate", files.save("hard.npz", logits=z, labels=labels)).stdout
    assert "every method is certain of something wrong" in " ".join(out.split())


def test_a_prior_draws_the_temperature_that_is_saved(files, command, as_json):
    path = files.save("few.npz", logits=files.logits[:40], labels=files.logits[:40].argmax(axis=1))
    found = as_json("calibrate", path, "--prior", "1,0.5", "--save", files / "c.json")
    assert found["at_bound"] is None and found["prior"]["without"]["at_bound"] == "zero"
    fitted = TemperatureScaling.load(files / "c.json")
    assert fitted.temperature_ == found["temperature"] and fitted.prior == (1.0, 0.5)
    out = " ".join(command("calibrate", path, "--prior", "1,0.5").stdout.split())
    assert "Prior centre 1, deviation 0.5 of log T" in out and "under the prior" in out
    assert "like 1,0.5" in command("calibrate", path, "--prior", "0.5", code=2).stderr
    assert "--method temperature" in command("calibrate", path, "--prior", "1,1", "--method", "bias", code=2).stderr


def test_a_temperature_for_every_group(files, command, as_json):
    np.save(files / "g.npy", np.arange(400) % 2)
    hot = np.where(np.arange(400) % 2, 3, 1)[:, None].astype(np.float32)
    val = files.save("a.npz", logits=hot * files.logits, labels=files.labels)
    test = files.save("b.npz", logits=hot * files.test_logits, labels=files.test_labels)
    groups = ("--method", "group", "--groups", files / "g.npy")
    crossed = as_json("calibrate", val, *groups)
    assert crossed["method"] == "group" and "5-fold" in crossed["scored_on"]
    assert crossed["after"]["nll"] < as_json("calibrate", val)["after"]["nll"] - 0.05
    tested = as_json("calibrate", val, test, *groups, "--test-groups", files / "g.npy", "--save", files / "c.json")
    fitted = GroupTemperatureScaling.load(files / "c.json")
    scaled = fitted.transform(hot * files.test_logits, np.arange(400) % 2)
    assert tested["after"]["nll"] == pytest.approx(nll(scaled, files.test_labels), rel=1e-6)
    assert fitted.provenance_["method"] == "group"
    assert not any("fits one for each" in line for line in tested["verdict"])
    each = [(found["group"], found["temperature"], *found["interval"]) for found in tested["groups"]]
    assert [(group, t) for group, t, _, _ in each] == list(enumerate(fitted.temperatures_))
    assert all(low < t < high for _, t, low, high in each)
    out = command("calibrate", val, *groups).stdout
    assert "Common T = " in out and f"{each[1][1]:.1f}" in out.split("Group")[1]


def test_groups_and_their_method_belong_together(files, command):
    np.save(files / "g.npy", np.arange(400) % 2)
    assert "needs --groups" in command("calibrate", files.val, "--method", "group", code=2).stderr
    groups = ("--method", "group", "--groups", files / "g.npy")
    assert "--test-groups and TEST" in command("calibrate", files.val, files.test, *groups, code=2).stderr
    more = ("--test-groups", files / "g.npy")
    assert "--test-groups and TEST" in command("calibrate", files.val, *groups, *more, code=2).stderr
    assert "--test-groups and TEST" in command("calibrate", files.val, files.test, *more, code=2).stderr
