"""The demo on packaged data, and the command as people start it: in a process of its own."""

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest

from logitherm.cli import main


def start(python, *arguments, folder=None, **environment):
    command = [*python, "-m", "logitherm.cli", *arguments]
    # PYTHONUTF8 as a terminal of today; what a test sets wins
    env = {**os.environ, "PYTHONIOENCODING": "utf-8", **environment}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=folder, env=env, check=False)


def test_the_demo_says_where_its_data_come_from(command):
    out = command("demo").stdout
    assert "handwritten digits" in out
    assert "UCI" in " ".join(out.split())
    assert "CC BY 4.0" in " ".join(out.split())
    assert "Temperature" in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_demo_finds_an_overconfident_model(as_json):
    found = as_json("demo")
    assert found["temperature"] > 1.5
    assert found["interval"][0] > 1
    assert found["after"]["ece"] < found["before"]["ece"]
    assert found["after"]["nll"] < found["before"]["nll"]
    assert found["val"]["file"] == "digits.val.npz"
    assert found["n"] == 750


def test_the_demo_writes_its_report(command, tmp_path):
    assert "r.html" in command("demo", "--report", tmp_path / "r.html").stdout
    assert "exists" in command("demo", "--report", tmp_path / "r.html", code=1).stderr


def test_in_a_process_of_its_own(python, tmp_path):
    result = start(python, "demo", "--json", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["method"] == "temperature"
    assert "handwritten" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_color_and_no_terminal_mean_plain_text(python):
    for environment in ({"NO_COLOR": "1"}, {"NO_COLOR": "1", "COLUMNS": "80", "FORCE_COLOR": ""}):
        result = start(python, "demo", **environment)
        assert result.returncode == 0
        assert "\x1b[3" not in result.stdout


def test_a_narrow_encoding_is_survived(python):
    result = start(python, "demo", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert result.returncode == 0, result.stderr
    assert "Temperature" in result.stdout


def test_exit_codes_of_the_process(python, tmp_path):
    bad = start(python, "calibrate", "gone.npz", folder=tmp_path)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr == "error: gone.npz: no such file; check the name\n"
    long = start(python, "calibrate", "a" * 150 + ".npz", folder=tmp_path)
    assert long.stderr.count("\n") == 1  # one line, however long
    assert start(python, "calibrate", folder=tmp_path).returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full here")
@pytest.mark.parametrize("arguments", [["demo"], ["demo", "--json"]])
def test_a_full_disk_is_one_line(python, arguments):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*python, "-m", "logitherm.cli", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    last = "error: standard output: No space left on device; make room, or choose another file"
    assert result.stderr.splitlines()[-1] == last
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
@pytest.mark.parametrize("arguments", [["demo"], ["demo", "--json"]])
def test_a_reader_that_leaves_is_no_error(python, arguments):
    """As `logitherm demo --json | head -1`, with a head that takes nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [*python, "-m", "logitherm.cli", *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    assert "error" not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [[], *([name] for name in main.commands)])
def test_help(command, arguments):
    out = command(*arguments, "--help").stdout
    assert out.startswith("Usage:")
    assert max(map(len, out.splitlines())) <= 80
    assert " RANGE" not in out and "..." not in out.replace("N,N,...", "").replace("[ARGS]...", "")


def test_help_is_quick_to_import(python):
    code = (
        "import sys, logitherm.cli; "
        "print([m for m in ('torch', 'numba', 'sklearn', 'plotly', 'pandas', 'pyarrow', 'rich') if m in sys.modules])"
    )
    result = subprocess.run([*python, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_version(command):
    try:
        version = metadata.version("logitherm")
    except metadata.PackageNotFoundError:
        pytest.skip("logitherm is on the path but not installed, so it has no version")
    assert command("--version").stdout == f"logitherm {version}\n"
