"""Exact draws: the law, the support, every source of randomness, and nothing global touched."""

import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats

import logitherm as lt

INF = math.inf
DRAWS = 100_000
SURE = 1e-4  # of a false alarm; the seeds are fixed
Z = np.array([2.0, 0.5, -INF, 2.0, -1.0])


def sources(logits, seed=0):
    """Every generator that goes with the logits."""
    yield seed
    yield np.random.default_rng(seed)
    if isinstance(logits, torch.Tensor):
        yield torch.Generator().manual_seed(seed)
    if isinstance(logits, jax.Array):
        yield jax.random.key(seed)
        yield jax.random.PRNGKey(seed)


@pytest.mark.parametrize("t", [0.0, 1e-44, 0.3, 1.0, 20.0, INF])
@pytest.mark.parametrize("prior", [None, [0.0, 1.0, 0.0, -1.0, -INF]], ids=["", "prior"])
def test_the_law(t, prior):
    p = lt.softmax(Z, t, log_prior=prior)
    for logits in (Z, torch.tensor(Z), jnp.asarray(Z)):
        for generator in sources(logits):
            draws = np.asarray(lt.sample(logits, t, generator=generator, size=DRAWS, log_prior=prior))
            counts = np.bincount(draws, minlength=5)
            assert np.all(counts[p == 0] == 0)
            if (p > 0).sum() > 1:
                assert stats.chisquare(counts[p > 0], p[p > 0] * DRAWS).pvalue > SURE


def test_rows_are_drawn_on_their_own():
    z = np.tile(Z, (2, DRAWS, 1))
    t = np.array([[0.5], [3.0]]) + np.zeros(DRAWS)
    draws = lt.sample(z, t, generator=0)
    for row, temperature in zip(draws, (0.5, 3.0)):
        p = lt.softmax(Z, temperature)
        assert stats.chisquare(np.bincount(row, minlength=5)[p > 0], p[p > 0] * DRAWS).pvalue > SURE
    table = np.zeros((5, 5))
    np.add.at(table, (draws[0], draws[1]), 1)
    allowed = [0, 1, 3, 4]
    assert stats.chi2_contingency(table[np.ix_(allowed, allowed)]).pvalue > SURE


def test_a_forbidden_state_is_never_drawn():
    """Wherever it stands, and though rounding may leave the last sum below 1."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 50)) * 10
    z[rng.random(z.shape) < 0.5] = -INF
    z[:, 25] = 0
    z[:1000, :25], z[1000:, 26:] = -INF, -INF
    draws = lt.sample(z, generator=0, size=20)
    assert np.isfinite(np.take_along_axis(z, draws, axis=1)).all()

    class Extreme(np.random.Generator):
        def random(self, size):
            return np.where(np.arange(math.prod(size)).reshape(size) % 2, np.nextafter(1, 0), 0.0)

    for size in (1, 2):
        draws = lt.sample(z, generator=Extreme(np.random.PCG64(0)), size=size)
        assert np.isfinite(np.take_along_axis(z, draws, axis=1)).all()


@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 5), (0, 5), (2, 3, 5), (4, 1)], ids=str)
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, jnp.asarray])
def test_shapes_and_kinds(shape, make):
    z = make(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    one = lt.sample(z, generator=0)
    assert type(one) is type(z) or not shape[:-1]
    assert tuple(one.shape) == shape[:-1]
    for size in (0, 1, 7):
        assert tuple(lt.sample(z, generator=0, size=size).shape) == (*shape[:-1], size)
    assert str(one.dtype).endswith("int32" if make is jnp.asarray else "int64")


def test_other_axes_and_dtypes():
    z = np.full((5, 2), -INF, np.float16)
    z[[1, 3], [0, 1]] = 0
    assert lt.sample(z, generator=0, axis=0).tolist() == [1, 3]
    assert lt.sample(torch.tensor(z).bfloat16(), generator=0, axis=0).tolist() == [1, 3]
    assert lt.sample([[0.0, -1e9]], generator=0).tolist() == [0]


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, jnp.asarray])
def test_a_seed_gives_the_same_draws(make):
    z = make(np.zeros((3, 100), np.float32))
    for a, b in zip(sources(z), sources(z)):
        first, again = (np.asarray(lt.sample(z, generator=g, size=5)) for g in (a, b))
        assert np.array_equal(first, again)
    for a, b in zip(sources(z, 0), sources(z, 1)):
        first, other = (np.asarray(lt.sample(z, generator=g, size=5)) for g in (a, b))
        assert not np.array_equal(first, other)


def test_a_generator_moves_on():
    generator = np.random.default_rng(0)
    z = np.zeros(1000)
    assert not np.array_equal(lt.sample(z, generator=generator, size=9), lt.sample(z, generator=generator, size=9))


def test_global_state_is_untouched():
    states = lambda: (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: E731
    before = states()
    for z in (Z, torch.tensor(Z), jnp.asarray(Z)):
        for generator in sources(z):
            lt.sample(z, generator=generator, size=10)
    assert states() == before


def test_rare_states_have_their_rate():
    """One in 1e5, behind many others."""
    z = np.append(np.zeros(1000), 0.0)
    z[:-1] += math.log(1e5 / 1000)
    draws = lt.sample(z, generator=0, size=2_000_000)
    rare = int((draws == 1000).sum())
    p = lt.softmax(z)[-1]
    assert stats.binomtest(rare, 2_000_000, p).pvalue > SURE


class TestMistakes:
    def test_generators(self):
        rule = "generator: must be a seed, a numpy.random.Generator, or the generator of the logits' library; got "
        for generator, kind in (
            (None, "NoneType"),
            (0.5, "float"),
            (True, "bool"),
            (np.random.RandomState(0), "RandomState"),
            (torch.Generator(), "Generator"),
            (jax.random.key(0), ""),
        ):
            with pytest.raises(TypeError, match=rule + kind):
                lt.sample(Z, generator=generator)
        with pytest.raises(TypeError, match=rule + "Generator"):
            lt.sample(jnp.asarray(Z), generator=torch.Generator())
        with pytest.raises(TypeError, match=rule):
            lt.sample(torch.tensor(Z), generator=jax.random.key(0))
        with pytest.raises(TypeError, match="generator"):
            lt.sample(Z)

    def test_sizes(self):
        with pytest.raises(ValueError, match="size: must be at least 0; got -1"):
            lt.sample(Z, generator=0, size=-1)

    @pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, jnp.asarray])
    def test_logits_and_temperatures(self, make):
        z = np.zeros((2, 3, 4), np.float32)
        z[1, 1, 0] = math.nan
        with pytest.raises(ValueError, match=r"logits: .*row \(1, 1\) of \(2, 3\) has NaN"):
            lt.sample(make(z), generator=0)
        with pytest.raises(ValueError, match=r"logits: .*row \(1, 1\) of \(2, 3\) has NaN"):
            lt.sample(make(np.repeat(z, 1000, axis=-1)), generator=0)
        with pytest.raises(ValueError, match=r"logits: .*row 0 has no allowed state"):
            lt.sample(make(np.full(3, -INF, np.float32)), generator=0)
        with pytest.raises(ValueError, match=r"temperature: must lie in \[0, inf\]; got -1.0"):
            lt.sample(make(z[0]), -1.0, generator=0)
        with pytest.raises(TypeError, match="logits: must be floating point"):
            lt.sample(make(np.zeros(3, np.int32)), generator=0)
