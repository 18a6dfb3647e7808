"""GibbsState: what it holds, what it answers, how it merges, and that it survives being written down."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import logitherm as lt
from logitherm import GibbsState

INF = math.inf
QUESTIONS = ["log_partition", "free_energy", "mean_energy", "entropy", "heat_capacity"]
FIELDS = ["temperature", "top", "log_weight", "rest", "gap", "spread"]
MAKERS = {"numpy": np.asarray, "torch": torch.as_tensor, "jax": jnp.asarray}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.fixture
def z(rng):
    z = rng.normal(size=(2, 3, 6)).astype(np.float32)
    z[0, 0, ::2] = -INF
    return z


@pytest.mark.parametrize("t", [0.0, 0.5, 3.0, INF])
@pytest.mark.parametrize("prior", [False, True], ids=["", "prior"])
def test_answers_are_those_of_the_functions(t, prior, z, make):
    q = make(np.linspace(-1, 1, 6, dtype=np.float32)) if prior else None
    state = GibbsState.from_logits(make(z), t, log_prior=q)
    for question in QUESTIONS:
        ours = getattr(state, question)()
        assert type(ours) is type(make(z))
        assert np.array_equal(ours, getattr(lt, question)(make(z), t, log_prior=q)), question
    if not prior:
        p = np.asarray(lt.softmax(make(z), t))
        assert np.allclose(state.top_probability(), p.max(axis=-1), rtol=1e-6)


def test_what_it_holds():
    state = GibbsState.from_logits(np.array([[1.0, 3.0, 3.0, -INF], [2.0, 0.0, 0.0, 0.0]]), 2.0)
    assert state.temperature.tolist() == [2.0, 2.0]
    assert state.top.tolist() == [3.0, 2.0]
    assert state.log_weight.tolist() == [0.0, 0.0]
    assert np.allclose(state.rest, [1 + math.exp(-1), 3 * math.exp(-1)])
    p = lt.softmax(np.array([[1.0, 3.0, 3.0], [2.0, 0.0, 0.0]]), 2.0)
    assert np.isclose(state.gap[0], p[0, 0] * 2)
    assert np.isclose(state.spread[0] / (1 + state.rest[0]), lt.heat_capacity(np.array([1.0, 3.0, 3.0]), 2.0))


def test_an_axis_that_is_not_the_last(z, make):
    last = GibbsState.from_logits(make(z), 0.7)
    first = GibbsState.from_logits(make(np.moveaxis(z, -1, 0).copy()), 0.7, axis=0)
    assert np.array_equal(first.entropy(), last.entropy())


def test_large_logits_by_the_kernel(rng, ran):
    z = rng.normal(size=(50, 2000)).astype(np.float32)
    whole = GibbsState.from_logits(z, 0.7)
    assert ran("moments") == 1
    halves = GibbsState.from_logits(z[:, :1000], 0.7).merge(GibbsState.from_logits(z[:, 1000:], 0.7))
    assert np.allclose(halves.entropy(), whole.entropy(), rtol=1e-6)
    assert np.allclose(halves.heat_capacity(), whole.heat_capacity(), rtol=1e-5)


@pytest.mark.parametrize("t", [0.0, 0.7, INF])
def test_merging_in_every_library(t, z, make):
    chunks = [GibbsState.from_logits(make(z[..., i : i + 2]), t) for i in (0, 2, 4)]
    merged = chunks[2].merge(chunks[0]).merge(chunks[1])
    assert type(merged.top) is type(make(z))
    whole = GibbsState.from_logits(make(z), t)
    for question in QUESTIONS:
        ours, theirs = (np.asarray(getattr(s, question)()) for s in (merged, whole))
        assert np.array_equal(np.isinf(ours), np.isinf(theirs))
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5), question


def test_merging_states_of_their_own_temperatures():
    z = np.array([[1.0, 2.0, 0.0], [0.0, 4.0, 1.0]])
    t = np.array([0.5, 2.0])
    halves = GibbsState.from_logits(z[:, :1], t).merge(GibbsState.from_logits(z[:, 1:], t))
    assert np.allclose(halves.entropy(), lt.entropy(z, t))


def test_merging_under_jit():
    """As a step of a program that XLA compiles: states go in and out as their fields."""

    @jax.jit
    def entropy_of_chunks(z):
        a, b = (GibbsState.from_logits(part, 0.7) for part in jnp.split(z, 2, axis=-1))
        return a.merge(b).entropy()

    z = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    assert np.allclose(entropy_of_chunks(z), lt.entropy(z, 0.7), rtol=1e-5)
    z[1] = -INF
    assert np.isnan(entropy_of_chunks(z)).tolist() == [False, True, False]


def merged(parts, question):
    state = parts[0]
    for part in parts[1:]:
        state = state.merge(part)
    return getattr(state, question)()


@pytest.mark.parametrize("question", QUESTIONS)
def test_derivatives_pass_through_merged_states(question):
    """With ties across chunks, masks, and a chunk in which nothing is allowed."""
    z = torch.tensor([[1.0, 2.0, -INF, 0.5, -INF, -INF], [0.0, -1.0, 3.0, 3.0, 3.0, 1.0]], dtype=torch.float64)
    arguments = [(z.clone().requires_grad_(), torch.tensor([0.7, 2.0]).double().requires_grad_()) for _ in range(2)]
    (x, t), (y, s) = arguments
    merged([GibbsState.from_logits(part, t) for part in x.split(2, dim=-1)], question).sum().backward()
    getattr(lt, question)(y, s).sum().backward()
    assert torch.allclose(x.grad, y.grad, rtol=1e-10, atol=1e-12)
    assert torch.allclose(t.grad, s.grad, rtol=1e-10, atol=1e-12)


def test_derivatives_in_jax():
    def questions(z, t):
        parts = [GibbsState.from_logits(part, t) for part in jnp.split(z, 3, axis=-1)]
        return [merged(parts, question).sum() for question in ("entropy", "free_energy")]

    z = np.array([[1.0, 2.0, -INF, 0.5, -INF, -INF], [0.0, -1.0, 3.0, 3.0, 3.0, 1.0]])
    with jax.enable_x64(True):
        ours = jax.jit(jax.jacrev(questions, argnums=(0, 1)))(jnp.asarray(z), jnp.asarray([0.7, 2.0]))
    for found, question in zip(ours, ("entropy", "free_energy")):
        x, t = torch.tensor(z, requires_grad=True), torch.tensor([0.7, 2.0], dtype=torch.float64, requires_grad=True)
        getattr(lt, question)(x, t).sum().backward()
        assert np.allclose(found[0], x.grad, rtol=1e-10, atol=1e-12)
        assert np.allclose(found[1], t.grad, rtol=1e-10, atol=1e-12)


def test_derivatives_of_large_states(ran):
    """A tensor that asks for derivatives goes by the reference, others by the kernel."""
    z = torch.randn(40, 1000, generator=torch.Generator().manual_seed(0))
    assert not GibbsState.from_logits(z).entropy().requires_grad
    assert ran("moments") == 1
    halves = z.clone().requires_grad_()
    state = merged([GibbsState.from_logits(part) for part in halves.split(500, dim=-1)], "entropy")
    assert ran("moments") == 0
    state.sum().backward()
    whole = z.clone().requires_grad_()
    lt.entropy(whole).sum().backward()
    assert torch.allclose(halves.grad, whole.grad, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        GibbsState.from_logits(halves)
    assert ran("moments") == 2


class TestEmpty:
    def test_identity(self, z, make):
        state = GibbsState.from_logits(make(z), 0.7)
        empty = GibbsState.empty(state.temperature)
        for same in (state.merge(empty), empty.merge(state)):
            for field in FIELDS:
                assert np.array_equal(getattr(same, field), getattr(state, field)), field

    @pytest.mark.parametrize("given", [1, 0.5, [1, 2], np.array([1, 2]), torch.tensor([1.0, 2.0]), jnp.asarray(2.0)])
    def test_of_any_temperature(self, given):
        empty = GibbsState.empty(given)
        assert all(float(v) == -INF for v in np.asarray(empty.top).reshape(-1))
        assert np.array_equal(np.asarray(empty.temperature), np.asarray(given, dtype=np.float64))

    def test_of_a_wrong_temperature(self):
        with pytest.raises(ValueError, match=r"temperature: must lie in \[0, inf\]; got -1.0"):
            GibbsState.empty(-1.0)
        with pytest.raises(TypeError, match="temperature: must be a number"):
            GibbsState.empty("warm")

    def test_of_another_precision(self):
        """0.7 in float64 is the temperature of a float32 state at 0.7."""
        state = GibbsState.from_logits(np.array([1.0, 2.0], np.float32), 0.7)
        assert np.isclose(GibbsState.empty(0.7).merge(state).entropy(), state.entropy())

    @pytest.mark.parametrize("rows", [2, 300])  # by the reference, by the kernel
    @pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
    def test_a_chunk_without_allowed_states_is_empty(self, rows, make):
        z = np.random.default_rng(0).normal(size=(rows, 200)).astype(np.float32)
        z[1, 100:] = -INF
        left, right = (GibbsState.from_logits(make(part.copy())) for part in np.split(z, 2, axis=1))
        assert [float(np.asarray(getattr(right, f))[1]) for f in FIELDS[1:]] == [-INF, 0, 0, 0, 0]
        whole = GibbsState.from_logits(make(z))
        for question in QUESTIONS:
            assert np.allclose(getattr(left.merge(right), question)(), getattr(whole, question)(), rtol=1e-5, atol=1e-5)
        for question in [*QUESTIONS, "top_probability"]:
            with pytest.raises(ValueError, match=r"state: must have an allowed state; row 1 of .* is empty"):
                getattr(right, question)()

    def test_under_a_trace_it_answers_nan(self):
        z = torch.tensor([[0.0, 1.0], [-INF, -INF]])
        for question in [*QUESTIONS, "top_probability"]:
            found = torch.func.vmap(lambda z, q=question: getattr(GibbsState.from_logits(z), q)())(z)
            assert found.isnan().tolist() == [False, True]


class TestMistakes:
    def test_other_temperature(self, z, make):
        a, b = GibbsState.from_logits(make(z), 0.7), GibbsState.from_logits(make(z), 0.8)
        with pytest.raises(ValueError, match=r"other: must have the same temperature; got \[0.8\] for \[0.7\]"):
            a.merge(b)

    def test_other_batch(self, z, make):
        a, b = GibbsState.from_logits(make(z)), GibbsState.from_logits(make(z[0]))
        with pytest.raises(ValueError, match=r"other: must have the batch shape \(2, 3\); got \(3,\)"):
            a.merge(b)

    def test_no_state_at_all(self, z, make):
        with pytest.raises(TypeError, match="other: must be a GibbsState; got int 3"):
            GibbsState.from_logits(make(z)).merge(3)

    def test_bad_rows(self, z, make):
        for bad, what in ((math.nan, "NaN"), (INF, r"\+inf")):
            z[1, 2, 0] = bad
            with pytest.raises(ValueError, match=rf"logits: .*row \(1, 2\) of \(2, 3\) has {what}"):
                GibbsState.from_logits(make(z))
            unchecked = GibbsState.from_logits(make(z), check=False)
            found = np.asarray(unchecked.entropy())
            assert np.isnan(found[1, 2])
            assert np.isnan(found).sum() == 1

    def test_logits_and_temperatures(self, make):
        with pytest.raises(TypeError, match="logits: must be floating point"):
            GibbsState.from_logits(make(np.ones((2, 2), np.int32)))
        with pytest.raises(ValueError, match=r"temperature: must lie in \[0, inf\]"):
            GibbsState.from_logits(make(np.ones((2, 2), np.float32)), -1)

    def test_text_of_another_format(self):
        for text in ("{}", "[]", '{"format": "logitherm.GibbsState/0"}', "3"):
            with pytest.raises(ValueError, match=r"text: must be JSON of format logitherm.GibbsState/1; got"):
                GibbsState.from_json(text)
        with pytest.raises(ValueError, match="Expecting value"):
            GibbsState.from_json("not JSON")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("t", [0.0, 1e-30, 1 / 3, INF])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (0, 4)], ids=str)
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_json_keeps_every_digit(dtype, t, shape, rng, make):
    z = rng.normal(size=shape).astype(dtype)
    if shape[0]:
        z[..., 0] = -INF
        z[..., 1] = 1e30
    state = GibbsState.from_logits(make(z), t, log_prior=make(np.arange(4).astype(dtype)))
    text = state.to_json()
    back = GibbsState.from_json(text)
    for field in FIELDS:
        kept = getattr(back, field)
        assert isinstance(kept, np.ndarray)
        assert kept.dtype == dtype
        assert np.array_equal(kept, np.asarray(getattr(state, field))), field
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_json_of_jax():
    state = GibbsState.from_logits(jnp.asarray([[0.0, 1.0, -INF]]), 1 / 3)
    assert np.array_equal(GibbsState.from_json(state.to_json()).entropy(), state.entropy())


def test_json_of_an_empty_state():
    empty = GibbsState.from_json(GibbsState.empty(np.array([0.5, INF])).to_json())
    assert empty.top.tolist() == [-INF, -INF]
    assert empty.temperature.tolist() == [0.5, INF]
    with_states = empty.merge(GibbsState.from_logits(np.array([[1.0, 2.0], [1.0, 2.0]]), [0.5, INF]))
    assert np.allclose(with_states.entropy(), lt.entropy([[1.0, 2.0], [1.0, 2.0]], [0.5, INF]))


def test_states_cannot_be_changed():
    state = GibbsState.from_logits(np.zeros(3))
    with pytest.raises(AttributeError, match="cannot assign"):
        state.top = 1.0
