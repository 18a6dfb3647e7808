"""The state functions as a caller meets them: every library, dtype, layout, limit and mistake."""

import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

import logitherm as lt

INF = math.inf
STATE_FUNCTIONS = ["log_partition", "free_energy", "mean_energy", "entropy", "heat_capacity"]
PROBABILITIES = ["softmax", "log_softmax"]
FUNCTIONS = STATE_FUNCTIONS + PROBABILITIES
LIBRARIES = {
    "numpy": SimpleNamespace(make=np.asarray, array=np.ndarray),
    "torch": SimpleNamespace(make=torch.as_tensor, array=torch.Tensor),
    "jax": SimpleNamespace(make=jnp.asarray, array=jax.Array),
}
# largest error of the functions in float32, relative to 1 + the largest term that enters
BUDGET = 2e-6


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


def numbers(x):
    """Float64 NumPy of anything."""
    return x.detach().double().numpy() if isinstance(x, torch.Tensor) else np.asarray(x).astype(np.float64)


def exact(definition, function, z, t, q=None):
    """The definition row by row, over any batch."""
    z = np.asarray(z, dtype=np.float64)
    t = np.broadcast_to(np.asarray(t, dtype=np.float64), z.shape[:-1])
    name = {"softmax": "p", "log_softmax": "log_p"}.get(function, function)
    found = [np.asarray(getattr(definition(z[i], t[i], q), name)).astype(np.float64) for i in np.ndindex(z.shape[:-1])]
    return np.array(found).reshape(z.shape if function in PROBABILITIES else z.shape[:-1])


def assert_close(ours, value, scale):
    ours = numbers(ours)
    assert ours.shape == value.shape
    with np.errstate(over="ignore"):
        value = np.where(np.abs(value) > np.finfo(np.float32).max, np.copysign(INF, value), value)
    scale = np.broadcast_to(scale, value.shape) if np.ndim(scale) else scale
    with np.errstate(invalid="ignore"):
        close = np.abs(ours - value) <= BUDGET * (1 + np.abs(value) + scale)
    assert np.all((ours == value) | close), (ours, value)


ROWS = {
    "ordinary": [0.3, -1.2, 2.0, 0.0],
    "ties": [2.0, 2.0, -1.0, 2.0],
    "all equal": [-3.0, -3.0, -3.0, -3.0],
    "mask": [-INF, 1.0, -INF, 0.5],
    "one allowed": [-INF, -INF, 4.0, -INF],
    "1e4": [1e4, -1e4, 9999.0, 0.0],
    "1e30": [1e30, -1e30, 1e30, 0.0],
    "-1e30": [-1e30, -1e30, -INF, -1.5e30],
}
TEMPERATURES = [0.0, 1e-44, 1e-30, 1e-3, 1.0, 50.0, 1e6, 1e30, INF]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("prior", [None, [0.5, -1.0, 0.0, -INF]], ids=["", "prior"])
def test_every_row_at_every_temperature(function, prior, library, definition):
    """From T = 0 through the smallest subnormal to infinity; logits of 1e4 and 1e30; masks; ties."""
    rows = np.array(list(ROWS.values()), np.float32)
    if library.make is jnp.asarray:  # XLA takes a subnormal T for 0, as does the definition below
        temperatures = [0.0 if t == 1e-44 else t for t in TEMPERATURES]
    else:
        temperatures = TEMPERATURES
    z = np.repeat(rows[:, None], len(temperatures), axis=1)
    t = np.broadcast_to(np.array(temperatures, np.float32), z.shape[:-1])
    q = None if prior is None else library.make(np.array(prior, np.float32))
    found = getattr(lt, function)(library.make(z), library.make(t.copy()), log_prior=q)
    assert isinstance(found, library.array)
    value = exact(definition, function, z, t, prior)
    allowed = np.where(np.isfinite(z) & (np.asarray(prior or [0.0] * 4) > -INF), np.abs(z), 0).max(axis=-1)
    with np.errstate(all="ignore"):
        scale = {
            "log_partition": np.where((t > 0) & (t < INF), allowed.astype(np.float64) / t, 0),
            "free_energy": allowed + np.where(t < INF, t, 0),
            "mean_energy": allowed,
        }.get(function, 0.0)
        if function == "free_energy" and prior is not None:
            scale = scale + 4 * np.where(t < INF, t, 0)
    if function == "log_softmax":  # a probability too small for float64 has a logarithm all the same
        with np.errstate(all="ignore"):
            value = np.where(value < -3.4e38, -INF, value)
    assert_close(found, value, scale)


without_jax = pytest.mark.parametrize("library", ["numpy", "torch"], indirect=True)  # it compiles for every shape


@without_jax
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("batch", [(), (1,), (3,), (0,), (2, 3), (2, 0), (1, 2, 1, 3)], ids=str)
@pytest.mark.parametrize("states", [1, 4])
def test_any_batch(function, batch, states, library, definition, rng):
    z = rng.normal(size=(*batch, states)).astype(np.float32)
    found = getattr(lt, function)(library.make(z), 0.7)
    assert isinstance(found, (library.array, np.generic))
    assert tuple(found.shape) == (z.shape if function in PROBABILITIES else batch)
    if z.size:
        assert_close(found, exact(definition, function, z, np.float32(0.7)), np.abs(z).max() / 0.7)


@without_jax
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_any_axis(function, axis, library, rng):
    z = rng.normal(size=(2, 3, 4)).astype(np.float32)
    found = numbers(getattr(lt, function)(library.make(z), 0.7, axis=axis))
    last = numbers(getattr(lt, function)(library.make(np.moveaxis(z, axis, -1).copy()), 0.7))
    assert np.array_equal(found, np.moveaxis(last, -1, axis) if function in PROBABILITIES else last)


@without_jax
@pytest.mark.parametrize("function", FUNCTIONS)
def test_any_temperature_that_broadcasts(function, library, rng):
    z = library.make(rng.normal(size=(2, 3, 4)).astype(np.float32))
    f = getattr(lt, function)
    whole = numbers(f(z, 2.0))
    for t in (2, np.float64(2.0), np.full(3, 2.0), [[2], [2]], library.make(np.full((2, 3), 2.0, np.float32))):
        assert np.array_equal(numbers(f(z, t)), whole)
    rows = np.array([[0.5, 1, 2], [4, 8, 16]], np.float32)
    found = numbers(f(z, library.make(rows)))
    for i in np.ndindex(2, 3):
        assert np.allclose(found[i], numbers(f(z[i], float(rows[i]))), rtol=1e-6, atol=1e-6)


@without_jax
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtypes(function, dtype, library, rng):
    """Computed in float32 at least; probabilities come back in the dtype of the logits."""
    z = rng.normal(size=(3, 5))
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    x = torch.tensor(z, dtype=getattr(torch, dtype)) if library.array is torch.Tensor else z.astype(kind)
    found = getattr(lt, function)(x, 0.5)
    expected = dtype if function in PROBABILITIES else "float32" if "16" in dtype else dtype
    assert str(found.dtype).removeprefix("torch.") == expected
    value = getattr(lt, function)(numbers(x), 0.5)
    tolerance = {"float16": 1e-3, "bfloat16": 1e-2, "float32": 1e-5, "float64": 1e-13}[expected]
    assert np.allclose(numbers(found), value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_half_types_keep_what_they_can_hold(function):
    """A probability of 1e-6 in float16, a sum of 5000 equal terms, and logits up to the largest float16."""
    z = np.zeros((1, 5000), np.float16)
    assert np.isclose(lt.entropy(z)[0], math.log(5000), rtol=1e-6)
    z = np.array([[65504.0, -65504.0, 65472.0]], np.float16)
    value = getattr(lt, function)(z.astype(np.float64), 100.0)
    with np.errstate(over="ignore"):
        assert np.allclose(getattr(lt, function)(z, 100.0), value, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_layouts_are_read_as_they_lie(function, rng):
    z = rng.normal(size=(4, 6)).astype(np.float32)
    f = getattr(lt, function)
    whole = f(z, 0.7)
    frozen = z.copy()
    frozen.flags.writeable = False
    views = [frozen, np.asfortranarray(z), np.repeat(z, 2, axis=1)[:, ::2], z[::-1][::-1], z[:, ::-1][:, ::-1]]
    for view in [*views, z.astype(">f4"), torch.from_numpy(z), torch.from_numpy(z.T.copy()).T, z.tolist()]:
        found = numbers(f(view, 0.7))
        assert np.allclose(found, whole, rtol=1e-6, atol=1e-6)
    expanded = torch.from_numpy(z[:1]).expand(3, 6)
    assert np.allclose(numbers(f(expanded, 0.7)), numbers(f(z[[0, 0, 0]], 0.7)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(1,), (0, 3), (2, 1, 3)], ids=str)
def test_batches_axes_and_dtypes_of_jax(shape, rng):
    for axis, dtype in ((-1, "float32"), (0, "bfloat16")):
        if shape[axis] == 0:
            continue
        z = jnp.asarray(rng.normal(size=shape), dtype)
        for function in FUNCTIONS:
            found = getattr(lt, function)(z, 0.7, axis=axis)
            assert found.dtype == (jnp.float32 if function in STATE_FUNCTIONS else dtype)
            value = getattr(lt, function)(numbers(z), 0.7, axis=axis)
            assert found.shape == value.shape
            assert np.allclose(numbers(found), value, rtol=1e-2 if dtype == "bfloat16" else 1e-5, atol=1e-5)


def test_lists_are_float64():
    assert lt.softmax([[1.0, 2.0], [3.0, 4.0]]).dtype == np.float64
    assert lt.softmax([1.0, 1.0]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_large_vocabulary(function, library, rng):
    z = (3 * rng.normal(size=(2, 131_072))).astype(np.float32)
    z[1, ::3] = -INF
    for t in (0.1, 1.0, INF):
        found = numbers(getattr(lt, function)(library.make(z), t))
        value = getattr(lt, function)(z.astype(np.float64), t)
        finite = np.isfinite(value)
        assert np.array_equal(found[~finite], value[~finite])
        scale = 1 + np.abs(value[finite]) + (z.max() / t if function != "softmax" else 0)
        assert np.all(np.abs(found[finite] - value[finite]) <= 4 * BUDGET * scale)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("bad", "what"),
    [([1.0, math.nan], "NaN"), ([INF, 1.0], r"\+inf"), ([-INF, -INF], r"no allowed state \(all -inf\)")],
    ids=["NaN", "+inf", "empty"],
)
class TestBadRows:
    def test_the_first_is_named(self, function, bad, what, library):
        z = np.zeros((2, 3, 2), np.float32)
        z[1, 0] = z[1, 2] = bad
        f = getattr(lt, function)
        rule = "logits: rows must be finite or -inf with at least one finite value"
        with pytest.raises(ValueError, match=rf"{rule}; row \(1, 0\) of \(2, 3\) has {what}; drop or mend it"):
            f(library.make(z))
        with pytest.raises(ValueError, match=rf"{rule}; row 3 of 6 has {what}"):
            f(library.make(z.reshape(6, 2)))
        with pytest.raises(ValueError, match=rf"{rule}; row 0 has {what}"):
            f(library.make(z[1, 0]))

    def test_unchecked_it_is_nan(self, function, bad, what, library):
        z = np.array([[0.0, 1.0], bad, [2.0, 3.0]], np.float32)
        found = numbers(getattr(lt, function)(library.make(z), check=False))
        assert np.isnan(found[1]).all()
        assert np.isfinite(found[[0, 2]]).all()


def test_a_row_that_the_prior_forbids_altogether(library):
    z = library.make(np.array([[0.0, 1.0], [0.0, -INF]], np.float32))
    q = library.make(np.array([-INF, 0.0], np.float32))
    for function in FUNCTIONS:
        with pytest.raises(ValueError, match=r"logits: .*row 1 of 2 has no allowed state"):
            getattr(lt, function)(z, log_prior=q)


@pytest.mark.parametrize("function", FUNCTIONS)
class TestMistakes:
    def test_logits(self, function, library):
        f = getattr(lt, function)
        with pytest.raises(
            TypeError, match=r"logits: must be floating point \(are these labels\?\); got shape \(2, 2\)"
        ):
            f(library.make(np.ones((2, 2), np.int32)))
        with pytest.raises(ValueError, match=r"logits: must have at least one state; got shape \(2, 0\)"):
            f(library.make(np.ones((2, 0), np.float32)))
        with pytest.raises(ValueError, match=r"logits: must have an axis of states; got shape \(\)"):
            f(library.make(np.float32(1)))
        with pytest.raises(ValueError, match=r"axis: must name an axis of logits; got 2 for shape \(2, 2\)"):
            f(library.make(np.ones((2, 2), np.float32)), axis=2)

    def test_temperature(self, function, library):
        f, z = getattr(lt, function), library.make(np.ones((2, 2), np.float32))
        for t, message in (
            (-1.0, r"temperature: must lie in \[0, inf\]; got -1.0"),
            (math.nan, r"temperature: must lie in \[0, inf\]; got nan"),
            ([1.0, -3.0], r"temperature: must lie in \[0, inf\]; got -3.0 at index 1"),
            ([1.0, 2.0, 3.0], r"temperature: must broadcast against the batch \(2,\); got shape \(3,\)"),
        ):
            with pytest.raises(ValueError, match=message):
                f(z, t)
            with pytest.raises(ValueError, match=message):
                f(z, library.make(np.array(t, np.float32)))
        with pytest.raises(
            TypeError, match=r"temperature: must be a number, an array or a Temperature; got str 'warm'"
        ):
            f(z, "warm")

    def test_log_prior(self, function, library):
        f, z = getattr(lt, function), library.make(np.ones((2, 2), np.float32))
        with pytest.raises(
            ValueError, match=r"log_prior: must broadcast against the logits \(2, 2\); got shape \(3,\)"
        ):
            f(z, log_prior=library.make(np.zeros(3, np.float32)))
        with pytest.raises(ValueError, match=r"log_prior: must be finite or -inf; got NaN or \+inf at index 1"):
            f(z, log_prior=library.make(np.array([0, math.nan], np.float32)))

    def test_options_have_names(self, function, library):
        with pytest.raises(TypeError, match="positional"):
            getattr(lt, function)(library.make(np.ones((2, 2), np.float32)), 1.0, -1)


def test_input_is_left_as_it_was(library, rng):
    z = rng.normal(size=(3, 4)).astype(np.float32)
    given = library.make(z.copy())
    for function in FUNCTIONS:
        getattr(lt, function)(given, 0.5)
    assert np.array_equal(numbers(given), z)


def test_the_schottky_anomaly():
    """Two states: C has its maximum 0.4392 at T = 0.4168 of the gap between them."""
    t = np.linspace(0.3, 0.6, 3001)
    c = lt.heat_capacity(np.tile([1.0, 0.0], (3001, 1)), t)
    assert abs(t[c.argmax()] - 0.4168) < 1e-3
    assert abs(c.max() - 0.4392) < 1e-4


def test_softmax_agrees_with_scipy_and_torch(rng):
    from scipy import special

    z = rng.normal(size=(20, 7)) * 5
    assert np.allclose(lt.softmax(z), special.softmax(z, axis=-1), rtol=1e-13)
    assert np.allclose(lt.log_softmax(z), special.log_softmax(z, axis=-1), rtol=1e-13)
    assert np.allclose(lt.log_partition(z, 0.5), special.logsumexp(z / 0.5, axis=-1), rtol=1e-13)
    assert np.allclose(lt.entropy(z), special.entr(special.softmax(z, axis=-1)).sum(axis=-1), rtol=1e-11)
    assert torch.allclose(lt.softmax(torch.tensor(z), axis=0), torch.tensor(z).softmax(0), rtol=1e-13)
    categorical = torch.distributions.Categorical(logits=torch.tensor(z))
    assert torch.allclose(lt.entropy(torch.tensor(z)), categorical.entropy(), rtol=1e-11)
