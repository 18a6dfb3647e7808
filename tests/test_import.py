"""Importing is free, and the public names are those that are documented."""

import importlib
import inspect
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import logitherm

HEAVY = ["torch", "numba", "llvmlite", "sklearn", "plotly", "jax", "click", "rich", "scipy", "pandas", "pyarrow"]
DOCUMENTED = {
    "softmax",
    "log_softmax",
    "log_partition",
    "free_energy",
    "mean_energy",
    "entropy",
    "heat_capacity",
    "linear_state",
    "sample",
    "GibbsState",
    "fit_temperature",
    "effective_temperature",
    "solve_temperature",
    "Temperature",
    "TemperatureScaling",
    "evaluate",
    "bake",
}


def fresh(program):
    """What a program says in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.strip()


def loaded_by(statement):
    program = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    return set(fresh(program).split()) & set(HEAVY)


def test_importing_loads_nothing_heavy():
    assert loaded_by("import logitherm") == set()


def test_small_numpy_work_loads_nothing_heavy():
    work = "z = numpy.zeros((2, 3)); logitherm.softmax(z); logitherm.entropy(z, 0.5); logitherm.sample(z, generator=0)"
    assert loaded_by(f"import numpy, logitherm; {work}; logitherm.GibbsState.from_logits(z).to_json()") == set()


def test_importing_takes_little_time():
    """Beyond NumPy, which every caller has; measured at a few milliseconds."""
    program = "import numpy, time; t = time.perf_counter(); import logitherm; print(time.perf_counter() - t)"
    assert statistics.median(float(fresh(program)) for _ in range(5)) < 0.5


def test_public_names():
    assert set(logitherm.__all__) == DOCUMENTED
    assert logitherm.__all__ == sorted(logitherm.__all__)
    for name in logitherm.__all__:
        assert getattr(logitherm, name).__doc__, name
    assert set(dir(logitherm)) >= DOCUMENTED
    with pytest.raises(AttributeError, match="'logitherm' has no attribute 'nothing'"):
        logitherm.nothing  # noqa: B018


def test_names_are_re_exports():
    for name in logitherm.__all__:
        home = importlib.import_module(f"logitherm.{logitherm._home[name]}")
        assert getattr(logitherm, name) is getattr(home, name)
        assert name in home.__all__


def test_type_checkers_see_the_names_that_are_loaded_late():
    source = Path(inspect.getsourcefile(logitherm)).read_text()
    (block,) = re.findall(r"if TYPE_CHECKING:\n((?:    .*\n)+)", source)
    imported = set(re.findall(r"\b([A-Za-z_]+)\b(?=[,\n])", re.sub(r"from \S+ import", "", block)))
    assert imported == DOCUMENTED
    assert Path(logitherm.__file__).with_name("py.typed").exists()


def test_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert logitherm.__version__ == version("logitherm")
