"""The noise against NumPy's own Philox, and its contract: a function of four words alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from logitherm.generation.noise import BELOW_ONE, as_words, uniforms
from logitherm.kernels.sampling import noise

WORD = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1]))


def words(*values):
    return [np.array([v], dtype=np.uint64) for v in values]


def numpys(seed, request, position, stream):
    """NumPy steps its counter before the first output: at counter c it gives Philox at c + 1."""
    before = (position + (stream << 64) - 1) % 2**256
    generator = np.random.Philox(key=seed + (request << 64), counter=before)
    return int(generator.random_raw())


@given(seed=WORD, request=WORD, position=WORD, stream=st.integers(0, 4))
def test_numpys_philox(seed, request, position, stream):
    expected = min((numpys(seed, request, position, stream) + 0.5) / 2**64, BELOW_ONE)
    assert uniforms(*words(seed, request, position), stream)[0] == expected
    assert noise(*words(seed, request, position), stream)[0] == expected


def test_compiled_and_defined_are_the_same_bits(rng):
    seeds, requests, positions = (rng.integers(0, 2**64, 5000, dtype=np.uint64) for _ in range(3))
    for stream in range(5):
        a, b = uniforms(seeds, requests, positions, stream), noise(seeds, requests, positions, stream)
        assert np.array_equal(a, b)
        assert a.min() > 0 and a.max() < 1


def test_every_word_counts():
    """Rows, positions, seeds and streams of one another are unrelated: pairs fill the unit square evenly."""
    n = np.arange(40_000)
    base = uniforms(0, 0, n, 0)
    others = [uniforms(1, 0, n, 0), uniforms(0, 1, n, 0), uniforms(0, 0, n + 1, 0), uniforms(0, 0, n, 1)]
    for other in (uniforms(n, 0, 0, 0), uniforms(0, n, 0, 0), base, *others):
        assert stats.kstest(other, "uniform").pvalue > 1e-6
    for other in others:
        counts, *_ = np.histogram2d(base, other, bins=16, range=[[0, 1]] * 2)
        assert stats.chisquare(counts.ravel()).pvalue > 1e-6


def test_words_are_whole_numbers_of_64_bits():
    assert as_words(2**64 - 1, "seed") == 2**64 - 1
    assert as_words([1, 2**64 - 1], "seed").tolist() == [1, 2**64 - 1]
    assert as_words(np.int64(3), "seed").tolist() == 3
    assert as_words([], "seed").shape == (0,)
    for bad in (-1, 2**64):
        with pytest.raises(ValueError, match=rf"^seed: must lie in \[0, 2\^64\); got {bad}; take it modulo 2\*\*64$"):
            as_words(bad, "seed")
        with pytest.raises(ValueError, match=rf"request 1 has {bad}; take it modulo"):
            as_words([0, bad], "seed")
    with pytest.raises(ValueError, match="request 2 has -5; take it modulo"):
        as_words(np.array([0, 1, -5]), "position")
    for bad in (None, 0.5, "1", np.array([1.0]), [0, None]):
        with pytest.raises(TypeError, match=r"^seed: must be whole numbers; got .*; give one, or one a request$"):
            as_words(bad, "seed")
