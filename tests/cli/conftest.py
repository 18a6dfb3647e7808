"""Small files of logits with a known temperature, and a runner of commands."""

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from logitherm.cli import main


def _draw(n=400, classes=5, temperature=2.5, seed=0):
    """Labels drawn from softmax(z); the logits given away are temperature * z, so that T is the true answer."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, classes))
    labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return (temperature * z).astype(np.float32), labels


def _softmax(z):
    p = np.exp(z.astype(np.float64) - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


class Files:
    """A folder of inputs and what commands made of them."""

    def __init__(self, folder):
        self.folder = folder
        self.logits, self.labels = _draw(seed=0)
        self.test_logits, self.test_labels = _draw(seed=1)
        self.val = self.save("val.npz", logits=self.logits, labels=self.labels)
        self.test = self.save("test.npz", logits=self.test_logits, labels=self.test_labels)

    def save(self, name, **arrays):
        np.savez(self.folder / name, **arrays)
        return str(self.folder / name)

    def __truediv__(self, name):
        return self.folder / name

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.fixture
def draw():
    return _draw


@pytest.fixture
def softmax():
    return _softmax


@pytest.fixture
def command():
    """Run a command and expect an exit code; errors are one line on stderr, never a traceback."""

    def run(*arguments, code=0):
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert result.exit_code == code, (result.output, result.exception)
        if code == 1:
            assert result.stdout == ""
            errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
            assert len(errors) == 1
            assert result.stderr.splitlines()[-1] == errors[0]
            assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture
def as_json(command):
    """The one object that a command prints with --json: strict JSON."""

    def run(*arguments):
        def refuse(constant):
            raise AssertionError(f"{constant} is not JSON")

        return json.loads(command(*arguments, "--json").stdout, parse_constant=refuse)

    return run


@pytest.fixture
def python():
    """The interpreter, with warnings as errors."""
    return [sys.executable, "-W", "error"]
