"""Probabilities are said, never guessed: rows on the simplex, their zeros, and rows off it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitherm.io import InputError, read_logits
from logitherm.io.probabilities import log_probabilities, looks_like_probabilities, tolerance


def simplex(n, k, sharpness=3.0, seed=0):
    z = np.random.default_rng(seed).normal(size=(n, k)) * sharpness
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def saved(tmp_path, p, name="logits", **more):
    np.savez(tmp_path / "val.npz", **{name: p, "labels": np.argmax(p, axis=1)}, **more)
    return tmp_path / "val.npz"


@pytest.mark.parametrize("name", ["probabilities", "probs", "logits"])
def test_the_logarithm_is_taken(tmp_path, name):
    p = simplex(50, 5).astype(np.float32)
    data = read_logits(saved(tmp_path, p, name), probabilities=True)
    assert data.kind == "probabilities"
    assert data.hint is None
    assert data.logits.dtype == np.float32
    np.testing.assert_allclose(data.logits, np.log(p.astype(np.float64)), rtol=1e-6)


def test_the_name_that_says_probabilities_wins(tmp_path):
    p = simplex(5, 3)
    path = saved(tmp_path, p, "probabilities", logits=np.log(p) + 7)
    np.testing.assert_array_equal(read_logits(path, probabilities=True).logits, np.log(p))
    np.testing.assert_array_equal(read_logits(path).logits, np.log(p) + 7)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_zeros_are_counted_and_never_clipped(tmp_path, dtype):
    p = np.array([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75], [0.5, 0.25, 0.25]], dtype=dtype)
    np.savez(tmp_path / "val.npz", probs=p, labels=[0, 2, 1])
    data = read_logits(tmp_path / "val.npz", probabilities=True)
    assert (data.zeros, data.zero_labels) == (3, 1)
    assert data.logits.dtype == (np.float64 if dtype == "float64" else np.float32)
    assert data.logits[0].tolist() == [-np.inf, 0.0, -np.inf]
    np.testing.assert_allclose(data.logits[2], np.log([0.5, 0.25, 0.25]), rtol=1e-6)


def test_subnormal_probabilities_keep_their_logarithm():
    tiny = np.float32(1e-42)
    logarithm, zeros = log_probabilities(np.array([[tiny, np.float32(1.0)]]), "p")
    assert zeros == 0
    assert logarithm[0, 0] == pytest.approx(np.log(float(tiny)), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("k", [2, 10, 1000, 100_000])
def test_rounding_alone_is_never_refused(dtype, k):
    for sharpness in (0.1, 3.0):
        p = simplex(20, k, sharpness).astype(dtype)
        log_probabilities(p, "p")
        assert looks_like_probabilities(p)


def test_bfloat16_has_its_own_tolerance(tmp_path):
    torch = pytest.importorskip("torch", reason="torch writes bfloat16")
    p = torch.as_tensor(simplex(200, 10, 1.0)).bfloat16()
    torch.save({"probs": p, "labels": torch.zeros(200, dtype=torch.int64)}, tmp_path / "val.pt")
    assert read_logits(tmp_path / "val.pt", probabilities=True).n == 200
    with pytest.raises(InputError):
        log_probabilities(p.float().numpy(), "p")


def test_float32_numbers_stored_as_float64_are_welcome():
    log_probabilities(simplex(1000, 100).astype(np.float32).astype(np.float64), "p")


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ([0.5, 0.4999], "sums to 0.9999"),
        ([0.6, 0.5], "sums to 1.1"),
        ([-0.1, 1.1], "holds -0.1"),
        ([-1e-9, 1.0], "holds -1e-09"),
        ([0.0, 0.0], "sums to 0"),
        ([np.nan, 0.5], "not finite"),
        ([np.inf, 0.5], "not finite"),
        ([3.0, -1.0], "drop --probabilities"),
    ],
)
def test_rows_off_the_simplex_are_refused_by_number(tmp_path, row, part):
    p = np.full((6, 2), 0.5)
    p[2] = p[4] = row
    with pytest.raises(InputError) as caught:
        read_logits(saved(tmp_path, p), probabilities=True)
    message = str(caught.value)
    assert part in message
    assert "2 of 6" in message
    assert "row 2 (from 0)" in message
    assert "\n" not in message


def test_one_row_of_many_is_found_and_never_changes_what_the_input_means(tmp_path):
    """One row of 5000 scaled by 0.9999 has turned probabilities into logits elsewhere, silently."""
    p = simplex(5000, 10)
    p[4321] *= 0.9999
    with pytest.raises(InputError, match=r"1 of 5000 do not, the first is row 4321 \(from 0\), which sums to 0.9999"):
        read_logits(saved(tmp_path, p), probabilities=True)
    assert read_logits(saved(tmp_path, p)).hint is None


def test_blocks_cover_every_row(monkeypatch):
    monkeypatch.setattr("logitherm.io.probabilities._BLOCK", 8)
    p = simplex(11, 4)
    p[10, 0] += 1
    with pytest.raises(InputError, match="1 of 11 do not, the first is row 10"):
        log_probabilities(p, "p")


def test_four_decimals_are_not_rounding_of_the_type():
    p = np.round(simplex(500, 10, 1.0), 4)
    with pytest.raises(InputError, match="renormalise"):
        log_probabilities(p, "p")


def test_the_hint_changes_nothing_else(tmp_path):
    p = simplex(30, 4)
    data = read_logits(saved(tmp_path, p))
    assert data.hint == "every row sums to 1: if these are probabilities, say --probabilities"
    assert data.kind == "logits"
    np.testing.assert_array_equal(data.logits, p)
    assert read_logits(saved(tmp_path, np.log(p))).hint is None
    assert read_logits(saved(tmp_path, np.ones((3, 1)))).hint is None


def test_the_tolerance_as_documented():
    assert tolerance(10, np.dtype("float16")) == pytest.approx(1e-3, rel=0.05)
    assert tolerance(10, np.dtype("float32")) == pytest.approx(1e-5, rel=0.05)
    assert tolerance(10, np.dtype("float64")) == tolerance(10, np.dtype("float32"))
    assert tolerance(10, np.dtype("float32"), bfloat16=True) == pytest.approx(8e-3, rel=0.05)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(2, 40), st.floats(0.01, 30), st.integers(0, 2**31), st.sampled_from(["float16", "float32", "float64"])
)
def test_log_then_exp_is_the_identity(k, sharpness, seed, dtype):
    p = simplex(5, k, sharpness, seed).astype(dtype)
    logarithm, zeros = log_probabilities(p, "p")
    assert zeros == np.count_nonzero(p == 0) == np.count_nonzero(np.isneginf(logarithm))
    np.testing.assert_allclose(np.exp(logarithm), p.astype(np.float64), rtol=2e-5 if dtype != "float64" else 1e-12)
