"""The identities of a Gibbs distribution hold for whatever logits, masks, ties, priors and temperatures."""

import math

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

import logitherm as lt

EPS = np.finfo(np.float64).eps


@st.composite
def systems(draw, prior=True):
    """Logits of one row (ties and forbidden states among them, the largest 0 so that nothing cancels), log prior or
    none."""
    state = st.one_of(st.integers(-3, 3).map(float), st.floats(-30, 30), st.just(-math.inf))
    z = np.array(draw(st.lists(state, min_size=1, max_size=8)))
    assume(z.max() > -math.inf)
    log_prior = None
    if prior and draw(st.booleans()):
        weight = st.one_of(st.floats(-4, 2), st.just(-math.inf))
        log_prior = np.array(draw(st.lists(weight, min_size=len(z), max_size=len(z))))
        assume(np.isfinite(z[log_prior > -math.inf]).any())
        z = z - z[log_prior > -math.inf].max()
        return z, {"log_prior": log_prior}
    return z - z.max(), {}


logarithms = st.floats(-4, 4)
temperatures = logarithms.map(lambda x: 10.0**x)
everything = st.one_of(temperatures, st.sampled_from([0.0, 1e-44, 1e-300, 1e300, math.inf]))


def size(z, t):
    """The scale of rounding in logit units: the spread of the allowed logits, and T."""
    allowed = z[z > -math.inf]
    return 1 + abs(allowed).max() + t


@given(systems(), temperatures)
def test_free_energy_is_energy_less_temperature_times_entropy(system, t):
    z, kwargs = system
    f, e, s = (g(z, t, **kwargs) for g in (lt.free_energy, lt.mean_energy, lt.entropy))
    assert abs(f - (e - t * s)) <= 40 * EPS * size(z, t)
    assert abs(f + t * lt.log_partition(z, t, **kwargs)) <= 40 * EPS * size(z, t)


@given(systems(), everything)
def test_state_functions_are_sums_over_the_probabilities(system, t):
    z, kwargs = system
    p = lt.softmax(z, t, **kwargs)
    seen = p > 0
    assert p.sum() == 1 or abs(p.sum() - 1) <= 10 * EPS
    assert np.all(p[z == -math.inf] == 0)
    assert abs(lt.mean_energy(z, t, **kwargs) + (p[seen] * z[seen]).sum()) <= 20 * EPS * size(z, 0)
    log_q = kwargs.get("log_prior", np.zeros(len(z)))
    by_hand = -(p[seen] * (np.log(p[seen]) - log_q[seen])).sum()
    # where p rounds to 0 or to a subnormal number its term is lost
    assert abs(lt.entropy(z, t, **kwargs) - by_hand) <= 100 * EPS * 10
    log_p = lt.log_softmax(z, t, **kwargs)
    assert np.allclose(np.exp(log_p), p, rtol=1e-12, atol=1e-300)


@given(systems(), logarithms)
def test_slopes_in_temperature(system, log_t):
    """dF/dT = -S, dE/dT = C, dS/dT = C/T, by central differences in log T."""
    z, kwargs = system
    t, h = 10.0**log_t, 1e-4
    below, above = t * math.exp(-h), t * math.exp(h)

    def slope(g):
        return (g(z, above, **kwargs) - g(z, below, **kwargs)) / (2 * h)

    s, c = lt.entropy(z, t, **kwargs), lt.heat_capacity(z, t, **kwargs)
    budget = 1e-5 + 1e-11 * size(z, t) / t  # differences of rounded values
    assert abs(slope(lt.free_energy) / t + s) <= budget
    assert abs(slope(lt.mean_energy) / t - c) <= budget
    assert abs(slope(lt.entropy) - c) <= budget


@given(systems(), everything, everything)
def test_monotone_in_temperature(system, t, other):
    z, kwargs = system
    cold, hot = min(t, other), max(t, other)
    rounding = 40 * EPS * (10 + size(z, 0))
    assert lt.entropy(z, cold, **kwargs) <= lt.entropy(z, hot, **kwargs) + rounding
    assert lt.mean_energy(z, cold, **kwargs) <= lt.mean_energy(z, hot, **kwargs) + rounding
    if not kwargs:
        assert lt.softmax(z, cold).max() >= lt.softmax(z, hot).max() - 10 * EPS


@given(systems(), everything)
def test_heat_capacity_is_a_variance(system, t):
    z, kwargs = system
    c = lt.heat_capacity(z, t, **kwargs)
    assert c >= 0
    p = lt.softmax(z, t, **kwargs)
    seen = (p > 0) & (z > -math.inf)
    mean = (p[seen] * z[seen]).sum()
    variance = (p[seen] * ((z[seen] - mean) / t) ** 2).sum() if 0 < t < math.inf and t > 1e-200 else 0.0
    assert abs(c - variance) <= 1e-10 * max(1, c)


@given(systems(), st.floats(-3, 4).map(lambda x: 10.0**x), st.floats(-100, 100))
def test_a_constant_added_to_the_logits_shifts_energies_alone(system, t, constant):
    z, kwargs = system
    shifted = z + constant
    rounded = 20 * EPS * size(shifted, 0) / min(1, t)  # of the sum, in units of T
    assert np.allclose(lt.softmax(shifted, t, **kwargs), lt.softmax(z, t, **kwargs), rtol=0, atol=rounded)
    for g in (lt.entropy, lt.heat_capacity):
        assert abs(g(shifted, t, **kwargs) - g(z, t, **kwargs)) <= 100 * rounded
    for g in (lt.mean_energy, lt.free_energy):
        assert abs(g(shifted, t, **kwargs) + constant - g(z, t, **kwargs)) <= 100 * rounded * max(1, t)


@given(systems(), everything, st.integers(-40, 40))
def test_logits_and_temperature_scale_together(system, t, exponent):
    """A power of two is exact in floating point, so that the same probabilities come out to the last bit."""
    z, kwargs = system
    factor = 2.0**exponent
    assume(t == 0 or t * factor > 0)
    assume(t == math.inf or t * factor < math.inf)
    assert np.array_equal(lt.softmax(z * factor, t * factor, **kwargs), lt.softmax(z, t, **kwargs))
    for g in (lt.entropy, lt.heat_capacity):
        assert g(z * factor, t * factor, **kwargs) == g(z, t, **kwargs)
    for g in (lt.mean_energy, lt.free_energy):
        assert g(z * factor, t * factor, **kwargs) == factor * g(z, t, **kwargs)


@given(systems(), temperatures, st.integers(0, 2**32 - 1))
def test_softmax_alone_minimises_the_free_energy(system, t, seed):
    """sum_i p_i E_i - T S(p) is never below F, and exceeds it by T KL(p || softmax)."""
    z, kwargs = system
    rng = np.random.default_rng(seed)
    best = lt.softmax(z, t, **kwargs)
    log_best = lt.log_softmax(z, t, **kwargs)
    log_q = kwargs.get("log_prior", np.zeros(len(z)))
    allowed = log_best > -math.inf
    trials = rng.dirichlet(np.ones(allowed.sum()), size=20)
    near = best[allowed] * np.exp(1e-3 * rng.normal(size=(20, allowed.sum())))
    for p in np.concatenate([trials, near / near.sum(axis=1, keepdims=True), np.eye(allowed.sum())]):
        some = p > 0
        log_ratio = np.log(p[some]) - log_q[allowed][some]
        value = -(p[some] * z[allowed][some]).sum() + t * (p[some] * log_ratio).sum()
        divergence = (p[some] * (np.log(p[some]) - log_best[allowed][some])).sum()
        f = lt.free_energy(z, t, **kwargs)
        assert value >= f - 100 * EPS * size(z, t)
        assert abs(value - f - t * divergence) <= 200 * EPS * size(z, t)


def divergence(z, t, reference, **kwargs):
    """KL(p_T || p_T0)."""
    p, log_p = lt.softmax(z, t, **kwargs), lt.log_softmax(z, t, **kwargs)
    log_near = lt.log_softmax(z, reference, **kwargs)
    seen = p > 0
    return (p[seen] * (log_p[seen] - log_near[seen])).sum()


@given(systems(), temperatures, st.lists(temperatures, min_size=2, max_size=6))
def test_divergence_from_a_reference_grows_on_either_side(system, reference, others):
    z, kwargs = system
    rounding = 1e-12 * (1 + size(z, 0) / reference)
    for side in (
        sorted([t for t in others if t >= reference] + [reference]),
        sorted([t for t in others if t <= reference] + [reference], reverse=True),
    ):
        values = [divergence(z, t, reference, **kwargs) for t in side]
        assert abs(values[0]) <= rounding
        assert all(near <= far + rounding for near, far in zip(values, values[1:]))


@given(systems())
def test_limits(system):
    """T = 0 shares among the ground states in proportion to q, T = inf is q itself; nothing fluctuates there."""
    z, kwargs = system
    log_q = kwargs.get("log_prior", np.zeros(len(z)))
    allowed = (z > -math.inf) & (log_q > -math.inf)
    q = np.where(allowed, np.exp(log_q), 0.0)
    ground = np.where(allowed & (z == z[allowed].max()), q, 0.0)
    for t, weight in ((0.0, ground), (math.inf, q)):
        p = weight / weight.sum()
        assert np.allclose(lt.softmax(z, t, **kwargs), p, rtol=1e-13, atol=0)
        assert np.isclose(lt.entropy(z, t, **kwargs), np.log(weight.sum()), rtol=1e-12, atol=1e-13)
        assert np.isclose(lt.mean_energy(z, t, **kwargs), -(p[allowed] * z[allowed]).sum(), rtol=1e-12, atol=1e-12)
        assert lt.heat_capacity(z, t, **kwargs) == 0
    assert lt.free_energy(z, 0.0, **kwargs) == -z[allowed].max()
