"""The guard: what is let in and as what, and an error that names argument, rule, what came and where."""

import math

import array_api_strict
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

from logitherm import _array
from logitherm._array import as_log_prior, as_logits, as_temperature

INF = math.inf
LIBRARIES = [
    pytest.param(np.asarray, id="numpy"),
    pytest.param(torch.as_tensor, id="torch"),
    pytest.param(jnp.asarray, id="jax"),
    pytest.param(array_api_strict.asarray, id="array-api-strict"),
]


class TestLibraries:
    @pytest.mark.parametrize("make", LIBRARIES)
    def test_recognised(self, make):
        x = make(np.ones((2, 3), np.float32))
        xp = _array.namespace(None, 1.0, x)
        assert xp.sum(x) == 6
        assert _array.is_array(x)
        assert _array.dtype_name(x) == "float32"
        assert _array.describe(x) == "shape (2, 3), float32"
        assert np.array_equal(_array.to_numpy(x), np.ones((2, 3)))
        back = _array.like(np.arange(3), x)
        assert type(back) is type(x)
        assert [int(v) for v in _array.state_index(x)] == [0, 1, 2]
        assert not _array.is_traced(x)

    def test_numpy_where_nothing_is_an_array(self):
        assert _array.namespace(1.0, None, [1.0]) is _array.namespace(np.ones(2))
        assert not _array.is_array([1.0])
        assert _array.describe([1, 2]) == "list [1, 2]"
        assert len(_array.describe(list(range(1000)))) == 80

    def test_traces(self):
        seen = []

        def look(x):
            seen.append(_array.is_traced(x))
            return x

        torch.func.vmap(look)(torch.ones(2))
        torch.func.grad(look)(torch.tensor(1.0))
        jax.jit(look)(1.0)
        jax.grad(look)(1.0)
        jax.vmap(look)(jnp.ones(2))
        torch.compile(look, backend="eager")(torch.ones(2))
        assert seen == [True] * 6

    def test_bfloat16_becomes_float32_where_numpy_lacks_it(self):
        for x in (torch.ones(2, dtype=torch.bfloat16), jnp.ones(2, jnp.bfloat16), np.ones(2, ml_dtypes.bfloat16)):
            assert _array.to_numpy(x).dtype == np.float32


class TestLogits:
    @pytest.mark.parametrize("make", LIBRARIES[:3])
    @pytest.mark.parametrize(
        ("given", "computed"),
        [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")],
    )
    def test_compute_dtype(self, make, given, computed):
        with jax.enable_x64(True):
            if make is torch.as_tensor:
                z = torch.ones((2, 3), dtype=getattr(torch, given))
            else:
                z = make(np.ones((2, 3), ml_dtypes.bfloat16 if given == "bfloat16" else given))
            assert _array.dtype_name(as_logits(z)) == computed

    def test_what_needs_no_change_is_not_copied(self):
        z = np.ones((2, 3))
        assert as_logits(z) is z
        assert np.shares_memory(as_logits(z, axis=0), z)

    @pytest.mark.parametrize("make", LIBRARIES)
    @pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
    def test_states_go_last(self, make, axis):
        z = np.zeros((2, 3, 4), np.float32)
        expected = np.moveaxis(z, axis, -1).shape
        assert tuple(as_logits(make(z), axis).shape) == expected

    def test_lists(self):
        assert as_logits([[1.0, 2.0], [3.0, 4.0]]).dtype == np.float64

    def test_byte_order_is_mended(self):
        z = np.arange(3, dtype=">f4")
        found = as_logits(z)
        assert found.dtype.isnative
        assert np.array_equal(found, z)

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            (
                np.array([[1, 2]]),
                TypeError,
                r"logits: must be floating point \(are these labels\?\); got .* int64; conv",
            ),
            ([[1, 2]], TypeError, r"logits: must be floating point \(are these labels\?\); got shape \(1, 2\), int64"),
            (torch.tensor([[1, 2]]), TypeError, r"logits: must be floating point \(are these .*\(1, 2\), int64"),
            (jnp.asarray([[1, 2]]), TypeError, r"logits: must be floating point \(are these .*\(1, 2\), int32"),
            (np.array([True]), TypeError, r"logits: must be floating point \(are these labels\?\); got .* bool"),
            (np.ones(2, "complex64"), TypeError, r"logits: must be floating point; got shape \(2,\), complex64"),
            (np.array([None]), TypeError, r"logits: must be floating point; got shape \(1,\), object"),
            ("text", TypeError, r"logits: must be an array of numbers; got str 'text'"),
            (None, TypeError, r"logits: must be an array of numbers; got NoneType None"),
            ([[1.0], [1.0, 2.0]], ValueError, r"logits: rows must have the same length; got list"),
            (
                1.0,
                ValueError,
                r"logits: must have an axis of states; got shape \(\), float64; reshape to \(1, states\)",
            ),
            (np.ones((3, 0)), ValueError, r"logits: must have at least one state; got shape \(3, 0\), float64"),
            (np.ma.masked_array([1.0, 2.0], [True, False]), TypeError, r"logits: masked arrays are not read; fill"),
        ],
        ids=str,
    )
    def test_refused(self, given, error, message):
        with pytest.raises(error, match=message):
            as_logits(given)

    @pytest.mark.parametrize("axis", [2, -3])
    def test_axis(self, axis):
        with pytest.raises(ValueError, match=rf"axis: must name an axis of scores; got {axis} for shape \(2, 3\)"):
            as_logits(np.ones((2, 3)), axis, "scores")


class TestRows:
    def test_the_first_bad_row_of_any_batch(self):
        top = np.array([[1.0, 2.0], [np.nan, INF]])
        with pytest.raises(
            ValueError, match=r"logits: rows must be finite .* row \(1, 0\) of \(2, 2\) has NaN; drop or"
        ):
            _array.require_rows(top)
        with pytest.raises(ValueError, match=r"scores: .* row 1 of 2 has \+inf"):
            _array.require_rows(top[:, 1], "scores")
        with pytest.raises(ValueError, match=r"logits: .* row 7 has \+inf"):
            _array.require_rows(top[:, 1], numbers=np.array([3, 7]))
        with pytest.raises(ValueError, match=r"logits: .*; row 0 has no allowed state \(all -inf\)"):
            _array.require_rows(np.asarray(-INF))

    def test_empty_rows_may_be_let_pass(self):
        _array.require_rows(np.array([1.0, -INF]), empty=True)
        with pytest.raises(ValueError, match="row 1 of 2 has NaN"):
            _array.require_rows(np.array([-INF, np.nan]), empty=True)

    def test_checks_are_as_asked_but_never_under_a_trace(self):
        z = np.ones(2)
        assert _array.should_check(None, z)
        assert _array.should_check(True, z)
        assert not _array.should_check(False, z)
        jax.jit(lambda x: None if not _array.should_check(True, z, x) else pytest.fail("looked at a traced value"))(1.0)

    def test_rows_are_a_read_only_view(self):
        for z in (np.ones((2, 3, 4)), torch.ones(2, 3, 4)):
            rows = _array.rows_of(z)
            assert rows.shape == (6, 4)
            assert np.shares_memory(rows, np.asarray(z))
            with pytest.raises(ValueError, match="read-only"):
                rows[0, 0] = 1

    def test_read_only_copies_what_is_not_contiguous_alone(self):
        z = np.ones((4, 4))
        assert np.shares_memory(_array.read_only(z), z)
        assert not np.shares_memory(_array.read_only(z[:, ::2]), z)
        for x in (z, z.T, z[:, ::2]):
            assert _array.read_only(x).flags.c_contiguous
            assert not _array.read_only(x).flags.writeable
        assert z.flags.writeable


class TestTemperature:
    z = np.zeros((2, 3, 5), np.float32)

    @pytest.mark.parametrize(
        "given", [2, 2.0, np.float64(2), np.array(2), [[2.0], [2.0]], np.full((2, 3), 2), np.full(3, 2.0), [2, 2, 2]]
    )
    def test_broadcast_to_the_batch_in_the_dtype_of_the_logits(self, given):
        t = as_temperature(given, self.z)
        assert t.shape == (2, 3)
        assert t.dtype == np.float32
        assert np.all(t == 2)

    @pytest.mark.parametrize("make", LIBRARIES)
    @pytest.mark.parametrize("given", [1, 0.5, np.array([1.0, 2.0]), torch.tensor([1.0, 2.0]), [1.0, 2.0]], ids=str)
    def test_in_the_library_of_the_logits(self, make, given):
        z = make(np.zeros((2, 5), np.float32))
        t = as_temperature(given, z)
        assert type(t) is type(z)
        assert _array.dtype_name(t) == "float32"
        assert tuple(t.shape) == (2,)

    @pytest.mark.parametrize("make", LIBRARIES[:3])
    def test_beyond_the_dtype_it_is_a_limit(self, make):
        z = make(np.zeros((2, 5), np.float32))
        assert [float(v) for v in as_temperature(np.array([1e300, 1e-300]), z)] == [INF, 0]
        assert float(as_temperature(1e300, z)[0]) == INF

    def test_objects_are_asked(self):
        class Half:
            def resolve(self, logits, step=None):
                return logits.max(axis=-1) / 2 + (step or 0)

        z = np.arange(6.0).reshape(2, 3)
        assert as_temperature(Half(), z).tolist() == [1.0, 2.5]
        assert as_temperature(Half(), z, step=10).tolist() == [11.0, 12.5]

    @pytest.mark.parametrize("make", LIBRARIES)
    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            (-1.0, ValueError, r"temperature: must lie in \[0, inf\]; got -1.0$"),
            (-1e-50, ValueError, r"temperature: must lie in \[0, inf\]; got -1e-50$"),
            (math.nan, ValueError, r"temperature: must lie in \[0, inf\]; got nan$"),
            (np.array([1.0, -2.0]), ValueError, r"temperature: must lie in \[0, inf\]; got -2.0 at index 1$"),
            (torch.tensor([math.nan, 1.0]), ValueError, r"temperature: must lie in \[0, inf\]; got nan at index 0$"),
            (np.ones(3), ValueError, r"temperature: must broadcast against the batch \(2,\); got shape \(3,\)"),
            (np.ones((2, 1)), ValueError, r"temperature: must broadcast against the batch \(2,\); got shape \(2, 1\)"),
            ("hot", TypeError, r"temperature: must be a number, an array or a Temperature; got str 'hot'"),
            (None, TypeError, r"temperature: must be a number, an array or a Temperature; got NoneType None"),
            (True, TypeError, r"temperature: must be a number, an array or a Temperature; got bool True"),
            (1j, TypeError, r"temperature: must be a number, an array or a Temperature; got complex 1j"),
        ],
        ids=str,
    )
    def test_refused(self, make, given, error, message):
        with pytest.raises(error, match=message):
            as_temperature(given, make(np.zeros((2, 5), np.float32)))

    @pytest.mark.parametrize("make", LIBRARIES[:3])
    def test_unchecked_it_is_nan(self, make):
        z = make(np.zeros((4, 5), np.float32))
        t = _array.to_numpy(as_temperature(np.array([1.0, -1.0, math.nan, INF]), z, check=False))
        assert np.array_equal(t, [1, math.nan, math.nan, INF], equal_nan=True)

    def test_a_traced_temperature_needs_logits_of_its_library(self):
        with pytest.raises(
            TypeError, match=r"logits: must be of the same library as the traced temperature; got shape"
        ):
            jax.jit(lambda t: as_temperature(t, self.z))(1.0)


class TestLogPrior:
    @pytest.mark.parametrize("make", LIBRARIES)
    @pytest.mark.parametrize(
        "given", [[0.0, -1.0, -INF], np.array([[0, -1, -2]]), torch.zeros(3), np.zeros((2, 3))], ids=str
    )
    def test_broadcast_to_the_logits(self, make, given):
        z = make(np.zeros((2, 3), np.float32))
        q = as_log_prior(given, z)
        assert type(q) is type(z)
        assert tuple(q.shape) == (2, 3)
        assert _array.dtype_name(q) == "float32"

    def test_none_stays_none(self):
        assert as_log_prior(None, np.zeros(3)) is None

    def test_a_prior_that_requires_gradients_may_go_with_numpy(self):
        assert np.array_equal(as_log_prior(torch.ones(3, requires_grad=True), np.zeros(3)), np.ones(3))

    @pytest.mark.parametrize("make", LIBRARIES)
    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            (
                np.zeros(2),
                ValueError,
                r"log_prior: must broadcast against the logits \(2, 3\); got shape \(2,\), float64",
            ),
            ([0.0, math.nan, 0.0], ValueError, r"log_prior: must be finite or -inf; got NaN or \+inf at index 1"),
            ([0.0, 0.0, INF], ValueError, r"log_prior: must be finite or -inf; got NaN or \+inf at index 2"),
            ("uniform", TypeError, r"log_prior: must be an array of numbers; got str 'uniform'"),
        ],
        ids=str,
    )
    def test_refused(self, make, given, error, message):
        with pytest.raises(error, match=message):
            as_log_prior(given, make(np.zeros((2, 3), np.float32)))


def test_silence_ends_with_the_function():
    @_array.silent
    def overflow(x):
        return x * 1e308

    with pytest.warns(RuntimeWarning, match="overflow"):
        np.asarray([1e300]) * 1e308
    assert overflow(np.asarray([1e300]))[0] == INF
    with pytest.warns(RuntimeWarning, match="overflow"):
        np.asarray([1e300]) * 1e308
