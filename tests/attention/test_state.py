"""The state of attention against the dense definition in float64, and every kind of bad input."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest

from logitherm.attention import attention_state
from logitherm.kernels import attention as kernel
from logitherm.thermostat import SetPoint

B, H, KEY_HEADS, Q, N, WIDTH = 2, 4, 2, 37, 53, 8
FIELDS = ("log_partition", "mean_score", "entropy", "top_probability", "heat_capacity")
PLACE, KEY = np.arange(Q)[:, None] + N - Q, np.arange(N)[None, :]


def pair(spread=2.0, seed=0):
    rng = np.random.default_rng(seed)
    return spread * rng.normal(size=(B, H, Q, WIDTH)), rng.normal(size=(B, KEY_HEADS, N, WIDTH))


def dense(q, k, temperature=WIDTH**0.5, mask=None, bias=None, softcap=None, sink=None):
    q, k = np.asarray(q, dtype=np.float64), np.asarray(k, dtype=np.float64)
    x = np.einsum("bhqd,bhkd->bhqk", q, np.repeat(k, q.shape[1] // k.shape[1], 1))
    x /= np.broadcast_to(temperature, q.shape[:3])[..., None]
    x = x if softcap is None else softcap * np.tanh(x / softcap)
    x = x if bias is None else x + bias
    x = x if mask is None else np.where(mask, x, -np.inf)
    if sink is not None:
        x = np.concatenate([x, np.broadcast_to(sink, q.shape[:3])[..., None]], -1)
    log_z = np.logaddexp.reduce(x, -1)
    p = np.exp(x - log_z[..., None])
    x = np.where(p > 0, x, 0.0)
    mean = (p * x).sum(-1)
    return log_z, mean, log_z - mean, p.max(-1), (p * (x - mean[..., None]) ** 2).sum(-1)


def masked():
    mask = np.random.default_rng(1).random((B, 1, Q, N)) < 0.5
    mask[..., 7] = True
    return mask


MASK = masked()
BIAS = np.random.default_rng(2).normal(size=(H, 1, N))
T = np.random.default_rng(3).uniform(0.5, 4, size=(H, 1))
CASES = {
    "plain": ({}, {}),
    "causal": ({"causal": True}, {"mask": PLACE >= KEY}),
    "window": ({"causal": True, "window": 5}, {"mask": (PLACE >= KEY) & (PLACE - KEY < 5)}),
    "both sides": ({"window": 5}, {"mask": abs(PLACE - KEY) < 5}),
    "mask": ({"mask": MASK}, {"mask": MASK}),
    "padding": ({"mask": KEY < 40, "causal": True}, {"mask": (KEY < 40) & (PLACE >= KEY)}),
    "temperature": ({"temperature": T}, {"temperature": T}),
    "softcap a head": ({"softcap": 2 * T}, {"softcap": 2 * T[..., None]}),
    "all": tuple([{"mask": MASK, "bias": BIAS, "softcap": 3.0, "sink": BIAS[:, :, 0], "temperature": 2.0}] * 2),
}


@pytest.fixture(params=["whole", "small", "elsewhere"])
def blocks(request, monkeypatch):
    """One block; blocks that end anywhere; and the definition that serves other devices."""
    if request.param != "whole":
        for name, size in {"VALUES": 100, "QUERIES": 5, "KEYS": 7}.items():
            monkeypatch.setattr(kernel, name, size)
    if request.param == "elsewhere":
        monkeypatch.setattr(kernel, "_Known", lambda h, n: kernel._KnownElsewhere(np.zeros((h, n, 1))))
    return request.param


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_the_dense_definition(case, dtype, blocks, ran):
    q, k = (x.astype(dtype) for x in pair())
    ours, theirs = CASES[case]
    found, wanted = attention_state(q, k, **ours), dense(q, k, **theirs)
    assert bool(ran("attention")) == (blocks != "elsewhere")
    tolerance = 2e-6 if dtype == np.float32 else 1e-12
    for name, right in zip(FIELDS, wanted):
        assert np.allclose(getattr(found, name), right, rtol=tolerance, atol=tolerance), name
        assert getattr(found, name).dtype == dtype
    assert np.allclose(found.support, np.exp(wanted[2]), rtol=1e-5)


@pytest.mark.parametrize("spread", [1e-3, 30.0, 300.0])
def test_flat_and_sharp_rows(spread):
    q, k = (x.astype(np.float32) for x in pair(spread))
    found, wanted = attention_state(q, k, causal=True), dense(q, k, mask=PLACE >= KEY)
    scale = max(1.0, float(abs(wanted[0]).max()))
    for name, right in zip(FIELDS, wanted):
        # scores are rounded to their own size, and what they differ by is wrong by that
        assert abs(getattr(found, name) - right).max() <= 4e-6 * scale, name
    assert (found.entropy >= 0).all()


def test_shapes():
    q, k = pair()
    whole = attention_state(q, k[:, :1], causal=True)
    one = attention_state(q[0], k[0, :1], causal=True)
    single = attention_state(q[0, 1], k[0, 0], causal=True)
    assert np.allclose(one.entropy, whole.entropy[0]) and one.entropy.shape == (H, Q)
    assert np.allclose(single.entropy[0], whole.entropy[0, 1])
    last = attention_state(q[:, :, -1:], k[:, :1], causal=True)
    assert np.allclose(last.entropy[..., 0], whole.entropy[..., -1]), "a query at the end of a cache"


def test_torch_and_half_types():
    torch = pytest.importorskip("torch")
    q, k = pair()
    found = attention_state(torch.tensor(q), torch.tensor(k), mask=torch.tensor(MASK), bias=BIAS)
    assert np.allclose(found.entropy, dense(q, k, mask=MASK, bias=BIAS)[2])
    half = [torch.tensor(x).bfloat16() for x in (q, k)]
    found = attention_state(*half, causal=True)
    wanted = dense(*(x.double().numpy() for x in half), mask=PLACE >= KEY)
    assert found.entropy.dtype == torch.float32 and np.allclose(found.entropy, wanted[2], atol=2e-6)
    learned = torch.tensor(q, requires_grad=True)
    assert not attention_state(learned, torch.tensor(k)).entropy.requires_grad


@pytest.mark.parametrize("spread", [1, 4, 16, 32])
def test_keys_as_values_of_a_fused_kernel(spread):
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(0)
    q = spread * torch.randn(2, 4, 64, 16, generator=generator)
    k = torch.randn(2, 2, 64, 16, generator=generator)
    wanted = attention_state(q.double(), k.double(), causal=True)
    for kind, bound in ((torch.float32, 1e-4), (torch.float64, 1e-12)):
        found = attention_state(q.to(kind), k.to(kind), causal=True, method="fused")
        assert found.top_probability is None and found.heat_capacity is None
        for name in FIELDS[:3]:
            assert (getattr(found, name).double() - getattr(wanted, name)).abs().max() < bound * max(1, spread / 8), (
                name
            )


def test_kernels_of_ones_own():
    torch = pytest.importorskip("torch")
    q, k = torch.randn(1, 2, 9, 16), torch.randn(1, 2, 9, 16)

    def whole(q, k, v, causal):
        x = q @ k.mT
        x = x.masked_fill(torch.ones(x.shape[-2:], dtype=torch.bool).triu(1), -math.inf) if causal else x
        return x.softmax(-1) @ v, x.logsumexp(-1)

    def in_bits(q, k, v, causal):
        out, log_z = whole(q, k, v, causal)
        return out, log_z + math.log(2)

    found = attention_state(q, k, method=whole, causal=True)
    assert torch.allclose(found.entropy, attention_state(q, k, causal=True).entropy, atol=1e-5)
    with pytest.raises(RuntimeError, match=r"second result is log Z .* off by 0.693"):
        attention_state(q, k, method=in_bits)
    with pytest.raises(ValueError, match=r"method: fused kernels must have PyTorch tensors.* got more options"):
        attention_state(q, k, method="fused", softcap=2.0)
    for bad, message in (
        (lambda q, k, v, causal: q, r"method: must be a kernel that returns the tensors .* got shape \(1, 2, 16, 16\)"),
        (lambda q, k, v, causal: (q.transpose(1, 2), q[..., 0]), r"got shape \(1, 16, 2, 16\), float32, shape"),
        (lambda q, k, v, causal: None, "got NoneType None"),
        (lambda q, k, v, causal: (v, whole(q, k, v, causal)[1]), r"first result is softmax\(q k\^T\) v; got .* off by"),
        (lambda q, k, v, causal: whole(q, k, v, False), "off by .* causal=True"),
    ):
        with pytest.raises((TypeError, RuntimeError), match=message):
            attention_state(q, k, method=bad)


def test_an_entropy_of_a_fused_kernel_is_not_negative():
    torch = pytest.importorskip("torch")
    q, k = (8 * torch.randn(1, 4, 64, 16, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert (attention_state(q, k, causal=True, method="fused").support >= 1).all()


def test_arrays_of_jax_are_refused():
    jax = pytest.importorskip("jax")
    with pytest.raises(TypeError, match=r"q: must be of NumPy or PyTorch; got jax.*numpy.asarray"):
        attention_state(jax.numpy.ones((2, 3, 4)), jax.numpy.ones((2, 3, 4)))


def test_a_bad_key_is_named():
    q, k = pair()
    k[1, 1, 9, 0] = np.nan
    with pytest.raises(ValueError, match=r"query \(1, 2, 0\) .* has NaN, and key \(1, 1, 9\) is not finite"):
        attention_state(q, k)
    with pytest.raises(ValueError, match=r"query \(2, 0\) of \(4, 37\) has NaN, and key \(1, 9\) is not finite"):
        attention_state(q[1], k[1])
    assert np.isfinite(attention_state(q, k, mask=np.arange(N) != 9).entropy).all(), "of padding nobody asks"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"q": np.zeros(4)}, r"q: must be \(batch, heads, rows, width\)"),
        ({"q": np.zeros((2, 4, 3, 5))}, "k: must have the batch and width of q"),
        ({"k": np.zeros((2, 3, 5, 8))}, "k: must have as many heads as q, 4, or a divisor"),
        (
            {"k": np.zeros((2, 2, 5, 8), dtype=np.float32)},
            "k: must be of the library and dtype of q, numpy float64; got numpy float32",
        ),
        ({"k": np.zeros((2, 2, 5, 8)), "causal": True}, "causal: must have at least as many keys as queries"),
        ({"q": np.zeros((2, 4, 3, 8), dtype=int)}, "q: must be floating point"),
        ({"temperature": 0.0}, "temperature: must be positive for attention"),
        ({"temperature": np.ones(5)}, "temperature: must broadcast"),
        ({"mask": np.ones((Q, N))}, "mask: must be boolean"),
        ({"mask": np.ones((Q, 2), dtype=bool)}, "mask: must broadcast against"),
        ({"bias": np.ones((Q, N), dtype=bool)}, "bias: must be floating point"),
        ({"softcap": -1.0}, "softcap: must be finite and positive"),
        ({"softcap": np.ones(3)}, "softcap: must broadcast against"),
        ({"softcap": "50"}, "softcap: must be an array of numbers; got str '50'"),
        ({"window": 0}, "window: must be an integer, at least 1"),
        ({"window": 4.0}, "window: must be an integer, at least 1; got 4.0; None is without"),
        ({"window": True}, "window: must be an integer, at least 1; got True"),
        ({"temperature": SetPoint(entropy=1.0)}, r"temperature: must be a number or an array; got SetPoint.*resolve_"),
        ({"temperature": np.ones(H)}, r"temperature: must broadcast .* give one number or \(heads, 1\)"),
        ({"mask": np.ones((B, N), dtype=bool)}, r"mask: must broadcast .* of padding, .* it is mask\[:, None, None\]"),
        ({"sink": np.array(np.nan)}, "sink: must be finite or -inf; got .* with NaN"),
        ({"sink": np.array(np.inf)}, "sink: must be finite or -inf"),
        ({"method": "fused"}, "method: fused kernels must have PyTorch tensors.* got arrays of NumPy"),
        ({"sink": np.zeros(3)}, "sink: must broadcast against"),
        ({"method": "dense"}, "method: must be auto, online, fused or a kernel"),
        ({"empty": "skip"}, "empty: must be raise or nan"),
    ],
)
def test_refusals(changed, message):
    q, k = pair()
    with pytest.raises((ValueError, TypeError), match=message):
        attention_state(**{"q": q, "k": k} | changed)


def test_rows_that_are_none_are_named():
    q, k = pair()
    mask = np.ones((B, 1, Q, N), dtype=bool)
    mask[1, 0, 3] = False
    with pytest.raises(ValueError, match=r'query \(1, 0, 3\) of \(2, 4, 37\) has no key that it sees; .* empty="nan"'):
        attention_state(q, k, mask=mask)
    found = attention_state(q, k, mask=mask, empty="nan")
    assert np.isnan(found.entropy[1, :, 3]).all() and np.isfinite(np.delete(found.entropy, 3, axis=2)).all()
    q[0, 2, 5, 0] = np.nan
    with pytest.raises(ValueError, match=r"query \(0, 2, 5\) of \(2, 4, 37\) has NaN"):
        attention_state(q, k, mask=mask, empty="nan")
    bias = np.zeros((Q, N))
    bias[4, 3] = np.inf
    with pytest.raises(ValueError, match=r"query \(0, 0, 4\) .* has \+inf"):
        attention_state(*pair(), bias=bias)
    bias[4] = -np.inf
    with pytest.raises(ValueError, match=r"query \(0, 0, 4\) .* has no key that it sees"):
        attention_state(*pair(), bias=bias)


MEMORY = """
import numpy as np
from logitherm.attention import attention_state
def high():
    return [int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")][0] / 1024
q, k = (np.random.default_rng(0).normal(size=(2, 8192, 16)).astype(np.float32) for _ in range(2))
attention_state(q[:, :600], k[:, :600], causal=True)
open("/proc/self/clear_refs", "w").write("5")
before = high()
attention_state(q, k, causal=True)
print(high() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_a_block():
    """The scores are 512 MB here."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", MEMORY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    assert float(done.stdout) < 40
