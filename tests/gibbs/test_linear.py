"""The state of a linear head against that of its logits."""

import os
import subprocess
import sys

import numpy as np
import pytest

import logitherm
from logitherm.kernels import linear

FUNCTIONS = ["log_partition", "mean_energy", "entropy", "heat_capacity"]


@pytest.fixture
def head(rng):
    """Hidden states (2, 3, 16), weight and bias of 9000 states."""
    return rng.normal(size=(2, 3, 16)), rng.normal(size=(9000, 16)), rng.normal(size=9000)


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_the_logits_say(head, softcap, library, dtype, rng):
    hidden, weight, bias = (x.astype(dtype) for x in head)
    t = np.array([0.5, 1.0, 4.0])
    labels = rng.integers(0, 9000, (2, 3))
    z = hidden.astype(np.float64) @ weight.astype(np.float64).T + bias
    z = z if softcap is None else softcap * np.tanh(z / softcap)
    given = (hidden, weight, bias, labels)
    if library == "torch":
        torch = pytest.importorskip("torch")
        given = tuple(torch.tensor(x) for x in given)
    state = logitherm.linear_state(*given, t[:, None, None], softcap)
    slack = 1e-11 if dtype == "float64" else 3e-5
    for i, each in enumerate(t):
        for name in FUNCTIONS:
            found = np.asarray(getattr(state, name)[i])
            assert found.dtype == dtype and found.shape == (2, 3)
            np.testing.assert_allclose(found, getattr(logitherm, name)(z, each), rtol=slack, atol=slack)
        p, seen = logitherm.softmax(z, each), np.take_along_axis(z, labels[..., None], -1)[..., 0]
        mean = (p * z).sum(-1)
        nll = -np.log(np.take_along_axis(p, labels[..., None], -1)[..., 0])
        np.testing.assert_allclose(np.asarray(state.nll[i]), nll, rtol=slack, atol=slack)
        np.testing.assert_allclose(np.asarray(state.score[i]), mean - seen, rtol=slack, atol=slack)
        np.testing.assert_allclose(
            np.asarray(state.curvature[i]), (p * (z - mean[..., None]) ** 2).sum(-1), rtol=1e-4, atol=slack
        )


def test_a_temperature_for_every_row(head):
    hidden, weight, _ = head
    each = np.linspace(0.5, 2, 6).reshape(2, 3)
    state = logitherm.linear_state(hidden, weight, temperature=each)
    np.testing.assert_allclose(state.entropy, logitherm.entropy(hidden @ weight.T, each))


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_derivatives_in_everything(monkeypatch, softcap):
    torch = pytest.importorskip("torch")
    from logitherm.kernels import torch_linear

    for module in (linear, torch_linear):  # several blocks of both, the last ones uneven
        monkeypatch.setattr(module, "ROWS", 4)
        monkeypatch.setattr(module, "STATES", 7)
    generator = torch.Generator().manual_seed(0)
    shapes = (6, 4), (20, 4), (20,)
    given = [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]
    t = (torch.rand((2, 6), generator=generator, dtype=torch.float64) + 0.5).requires_grad_()
    for name in (*FUNCTIONS, "nll", "score", "curvature"):

        def value(hidden, weight, bias, t, name=name):
            return getattr(logitherm.linear_state(hidden, weight, bias, torch.arange(6), t, softcap), name)

        assert torch.autograd.gradcheck(value, (*given, t))


def test_a_fit_without_logits(rng):
    """The temperature of a head from its hidden states: the score of all rows is 0 there."""
    hidden, weight = rng.normal(size=(800, 8)), rng.normal(size=(300, 8))
    z = hidden @ weight.T
    labels = (z + 2.5 * rng.gumbel(size=z.shape)).argmax(-1)
    fitted = logitherm.fit_temperature(z, labels).temperature
    assert abs(logitherm.linear_state(hidden, weight, labels=labels, temperature=fitted).score.sum()) < 1e-6 * len(z)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight": np.zeros((5, 3))}, r"weight: must have shape \(states, 16\)"),
        ({"weight": np.zeros((5, 16), int)}, "hidden: must be floating"),
        ({"bias": np.zeros(3)}, "bias: must have shape"),
        ({"labels": np.full((2, 3), 9000)}, r"labels: must lie in \[0, 9000\); got 9000"),
        ({"labels": [1, 2]}, "labels: must be integers of the batch shape"),
        ({"temperature": 0.0}, "temperature: must be positive and finite; got 0"),
        ({"temperature": -1.0}, "temperature: must lie in"),
        ({"temperature": logitherm.thermostat.SetPoint(entropy=1.0)}, "temperature: must be numbers"),
        ({"softcap": -1.0}, "softcap: must be finite and positive"),
        ({"hidden": np.full((2, 3, 16), np.nan)}, "rows must be finite"),
    ],
)
def test_refusals(head, changed, message):
    hidden, weight, bias = head
    with pytest.raises((TypeError, ValueError), match=message):
        logitherm.linear_state(**{"hidden": hidden, "weight": weight, "bias": bias} | changed)


MEMORY = """
import numpy as np, logitherm
def high():
    return [int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")][0] / 1024
rng = np.random.default_rng(0)
hidden, weight = (rng.normal(size=(n, 32)).astype(np.float32) for n in (2048, 64_000))
logitherm.linear_state(hidden[:600], weight[:9000])
open("/proc/self/clear_refs", "w").write("5")
before = high()
logitherm.linear_state(hidden, weight, temperature=[[1.0], [2.0]])
print(high() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_logits_in_memory():
    """These are 524 MB."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=120, check=True, env=environment
    )
    assert float(done.stdout) < 32
