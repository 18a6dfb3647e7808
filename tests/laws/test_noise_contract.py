"""The contract of noise: a draw is a function of a request's logits and of (seed, request, position) alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitherm.generation import MinP, Pipeline, Temperature, TopK, TopP, Typical, speculate
from logitherm.generation.noise import ACCEPT, DRAFT, DRAW, RESIDUAL, XTC_STRIKES, uniforms
from logitherm.generation.verify import draws_of, independence, reproducibility, uniformity

PIPELINES = [
    Pipeline(),
    Pipeline([Temperature(0.7), TopK(20), TopP(0.9)]),
    Pipeline([TopP(0.95), Temperature(1.3)]),
    Pipeline([MinP(0.05)]),
    Pipeline([TopK(50), Typical(0.9)]),
]
NAMES = ["plain", "k and p", "p before T", "min-p", "k and typical"]
STREAMS = (DRAW, XTC_STRIKES, ACCEPT, RESIDUAL, DRAFT)


def batch(rows, states=400, seed=0):
    rng = np.random.default_rng(seed)
    key = {name: rng.integers(0, 2**63, rows) for name in ("seed", "request", "position")}
    return rng.normal(0, 2, (rows, states)).astype(np.float32), key


def part(key, rows):
    return {name: values[rows] for name, values in key.items()}


@pytest.mark.parametrize("pipeline", PIPELINES, ids=NAMES)
@given(order=st.permutations(range(48)), size=st.integers(1, 48))
def test_a_request_has_the_same_token_in_any_batch(pipeline, order, size):
    z, key = batch(48)
    whole = pipeline.sample(z, **key, route="kernels")
    rows = np.array(order[:size])
    some = pipeline.sample(z[rows], **part(key, rows), route="kernels")
    assert some.token.tolist() == whole.token[rows].tolist()
    assert some.log_probability.tolist() == whole.log_probability[rows].tolist()


@pytest.mark.parametrize("pipeline", PIPELINES, ids=NAMES)
def test_alone_by_the_definition_and_in_a_batch_by_the_kernels(pipeline):
    z, key = batch(300, 2000, seed=1)
    whole = pipeline.sample(z, **key)
    alone = [int(pipeline.sample(z[i : i + 1], **part(key, slice(i, i + 1))).token[0]) for i in range(300)]
    assert alone == whole.token.tolist()


def test_the_number_of_threads_does_not_matter(monkeypatch):
    z, key = batch(64, 20_000)
    tokens = []
    for threads in (1, 2, 5):
        monkeypatch.setenv("LOGITHERM_NUM_THREADS", str(threads))
        tokens.append([pipeline.sample(z, **key).token.tolist() for pipeline in PIPELINES[:4]])
    assert tokens[0] == tokens[1] == tokens[2]


def test_nothing_is_remembered_between_calls():
    z, key = batch(20)
    first = Pipeline().sample(z, **key).token.tolist()
    Pipeline().sample(z, seed=1, position=0)
    np.random.default_rng().random(3)
    assert Pipeline().sample(z, **key).token.tolist() == first


def test_what_follows_does_not_depend_on_what_came_before():
    """A request that joins late, or began elsewhere, goes on as if it had always been here."""
    z, _ = batch(1)
    tokens = [int(Pipeline().sample(z, seed=7, request=[3], position=at).token[0]) for at in range(12)]
    again = Pipeline().sample(np.repeat(z, 12, axis=0), seed=7, request=np.full(12, 3), position=np.arange(12))
    assert again.token.tolist() == tokens and len(set(tokens)) > 3


@pytest.mark.parametrize("varied", ["seed", "request", "position"])
def test_numbers_of_neighbouring_keys_have_nothing_to_do_with_each_other(varied):
    count = np.arange(100_000)
    key = {"seed": 1, "request": 2, "position": 3} | {varied: count}
    u = uniforms(**key, stream=DRAW)
    assert uniformity(u).p_value > 1e-6
    assert independence(u[:-1:2], u[1::2]).p_value > 1e-6


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(STREAMS, 2)))
def test_streams_have_nothing_to_do_with_each_other(one, other):
    count = np.arange(50_000)
    assert independence(uniforms(0, 0, count, one), uniforms(0, 0, count, other)).p_value > 1e-6


def test_seed_and_request_are_not_interchangeable():
    a, b = np.arange(1000), np.arange(1000)[::-1]
    assert not np.isclose(uniforms(a, b, 0, DRAW), uniforms(b, a, 0, DRAW)).any()


def test_speculation_reads_no_position_but_its_own():
    """Two rounds in one call each, or all requests at different positions: the tokens are the same."""
    rng = np.random.default_rng(0)
    q, p = rng.normal(size=(30, 2, 9)), rng.normal(size=(30, 3, 9))
    tokens, places = rng.integers(0, 9, (30, 2)), rng.integers(0, 100, 30)
    whole = speculate(tokens, q, p, seed=5, position=places, request=np.arange(30)).tokens
    for i in range(30):
        alone = slice(i, i + 1)
        one = speculate(tokens[alone], q[alone], p[alone], seed=5, position=places[alone], request=[i]).tokens
        assert one[0].tolist() == whole[i].tolist()


@pytest.mark.parametrize("pipeline", PIPELINES, ids=NAMES)
def test_the_same_seed_has_the_same_draws(pipeline):
    assert reproducibility(draws_of(pipeline), batch(200)[0]).p_value == 1
