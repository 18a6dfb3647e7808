"""Speculative sampling: the law that comes out, its limits, its noise, its errors."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from logitherm import softmax
from logitherm.generation import Pipeline, Temperature
from logitherm.generation.noise import DRAFT, uniforms
from logitherm.generation.speculative import draft, speculate
from logitherm.kernels.speculative import log_residual

LEVEL = 1e-6


def laws(rng, rows, drafts, states, sd=2.0):
    return rng.normal(0, sd, (rows, drafts, states)), rng.normal(0, sd, (rows, drafts + 1, states))


def tokens_of(draft_logits, seed=0):
    """Drafts drawn from their laws, whatever these are."""
    rows, drafts, _ = draft_logits.shape
    found = [draft(Pipeline(), draft_logits[:, i], seed=seed, position=i)[0] for i in range(drafts)]
    return np.stack(found, axis=1) if drafts else np.zeros((rows, 0), np.int64)


def same_for_all(rng, rows, drafts, states):
    q, p = laws(rng, 1, drafts, states)
    return np.repeat(q, rows, axis=0), np.repeat(p, rows, axis=0)


@pytest.mark.parametrize("states", [2, 5, 9])
def test_first_token_has_the_law_of_the_target(rng, states):
    q, p = same_for_all(rng, 200_000, 1, states)
    done = speculate(tokens_of(q), q, p, seed=0, position=0)
    seen = np.bincount(done.tokens[:, 0], minlength=states)
    assert stats.chisquare(seen, len(q) * softmax(p[0, 0])).pvalue > LEVEL
    # and drafts are accepted as often as the laws overlap
    overlap = np.minimum(softmax(p[0, 0]), softmax(q[0, 0])).sum()
    assert stats.binomtest(int(done.accepted.sum()), len(q), overlap).pvalue > LEVEL


def test_token_after_the_last_draft_has_the_law_of_the_target(rng):
    q, p = same_for_all(rng, 100_000, 2, 4)
    done = speculate(tokens_of(q), q, p, seed=0, position=0)
    last = done.tokens[done.accepted == 2, 2]
    assert len(last) > 1000
    assert stats.chisquare(np.bincount(last, minlength=4), len(last) * softmax(p[0, 2])).pvalue > LEVEL


@pytest.mark.parametrize("shift", [0.0, 3.7])
def test_equal_laws_accept_every_draft(rng, shift):
    q, _ = laws(rng, 5000, 3, 50)
    p = np.concatenate([q + shift, q[:, :1]], axis=1)
    done = speculate(tokens_of(q), q, p, seed=1, position=10)
    assert (done.accepted == 3).all() and (done.tokens >= 0).all()


def test_laws_without_a_common_state_accept_nothing(rng):
    q, p = laws(rng, 500, 1, 6)
    q[..., 3:], p[..., :3] = -math.inf, -math.inf
    done = speculate(tokens_of(q), q, p, seed=0, position=0)
    assert (done.accepted == 0).all() and (done.tokens[:, 0] >= 3).all() and (done.tokens[:, 1] == -1).all()


def test_states_that_either_law_forbids(rng):
    q, p = same_for_all(rng, 100_000, 1, 6)
    q[..., [0, 4]], p[..., [1, 4]] = -math.inf, -math.inf
    done = speculate(tokens_of(q), q, p, seed=0, position=0)
    law = softmax(p[0, 0])
    seen = np.bincount(done.tokens[:, 0], minlength=6)
    assert (seen[law == 0] == 0).all()
    assert stats.chisquare(seen[law > 0], len(q) * law[law > 0]).pvalue > LEVEL


def test_greedy_target_and_draft():
    q = np.array([[[0.0, -math.inf, -math.inf]]])
    p = np.array([[[-math.inf, 0.0, -math.inf], [0.0, -math.inf, -math.inf]]])
    assert speculate(np.array([[0]]), q, p, seed=0, position=0).tokens.tolist() == [[1, -1]]
    p = np.array([[[0.0, -math.inf, -math.inf], [-math.inf, -math.inf, 0.0]]])
    assert speculate(np.array([[0]]), q, p, seed=0, position=0).tokens.tolist() == [[0, 2]]


def test_residual_keeps_its_digits_where_the_laws_are_close():
    p, q = np.log([0.5, 0.5]), np.log([0.5 - 1e-12, 0.5 + 1e-12])
    left = log_residual(p[None], q[None])[0]
    assert left[0] == pytest.approx(math.log(1e-12), abs=1e-3) and left[1] == -math.inf


def test_residual_far_below_the_smallest_float():
    p, q = np.array([[0.0, -2000.0]]), np.array([[0.0, -2001.0]])
    assert log_residual(p, q)[0].tolist() == pytest.approx([-math.inf, -2000 + math.log1p(-math.exp(-1))])


def test_empty_residual_is_the_target_itself():
    p = np.log([[0.25, 0.75]])
    assert (log_residual(p, p) == p).all()


def test_without_drafts_it_is_a_plain_draw(rng):
    p = rng.normal(size=(7, 1, 30))
    done = speculate(np.zeros((7, 0), np.int64), p[:, :0], p, seed=4, position=9)
    plain = Pipeline().sample(p[:, 0], seed=4, position=9)
    assert done.tokens[:, 0].tolist() == plain.token.tolist()
    np.testing.assert_allclose(done.log_probability[:, 0], plain.log_probability, rtol=1e-12)


def test_requests_with_fewer_drafts_are_as_if_alone(rng):
    q, p = laws(rng, 60, 3, 8)
    tokens = tokens_of(q)
    count = rng.integers(0, 4, 60)
    tokens[np.arange(3) >= count[:, None]] = -1
    q[np.arange(3) >= count[:, None]] = np.nan  # never looked at
    done = speculate(tokens, q, p, seed=0, position=0)
    assert (done.accepted <= count).all() and set(count) == {0, 1, 2, 3}
    for row, n in enumerate(count):
        part = slice(row, row + 1)
        alone = speculate(tokens[part, :n], q[part, :n], p[part, : n + 1], seed=0, request=[row], position=0)
        assert alone.tokens[0].tolist() == done.tokens[row, : n + 1].tolist()
        assert (done.tokens[row, n + 1 :] == -1).all()


def test_a_request_has_the_same_tokens_in_any_batch(rng):
    q, p = laws(rng, 40, 2, 11)
    tokens, seeds, places = tokens_of(q), rng.integers(0, 2**63, 40), rng.integers(0, 1000, 40)
    whole = speculate(tokens, q, p, seed=seeds, position=places)
    order = rng.permutation(40)[:17]
    part = speculate(tokens[order], q[order], p[order], seed=seeds[order], position=places[order])
    assert (whole.tokens[order] == part.tokens).all()


def test_log_probability_is_that_of_the_target(rng):
    q, p = laws(rng, 30, 2, 5)
    done = speculate(tokens_of(q), q, p, seed=0, position=0)
    for row in range(30):
        for place, token in enumerate(done.tokens[row]):
            expected = math.nan if token < 0 else math.log(softmax(p[row, place])[token])
            np.testing.assert_allclose(done.log_probability[row, place], expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_torch_gives_the_tokens_of_numpy(rng, dtype):
    q, p = (torch.tensor(z, dtype=dtype) for z in laws(rng, 50, 2, 20))
    firm = [z.double().numpy() for z in (q, p)]
    tokens = tokens_of(firm[0])
    here = speculate(torch.tensor(tokens), q, p, seed=0, position=3)
    there = speculate(tokens, *firm, seed=0, position=3)
    assert isinstance(here.tokens, torch.Tensor) and here.tokens.dtype == torch.int64
    assert here.tokens.tolist() == there.tokens.tolist()


def test_torch_draft_is_that_of_numpy(rng):
    z = rng.normal(size=(9, 40)).astype(np.float32)
    pipeline = Pipeline([Temperature(0.7)])
    (a, x), (b, y) = (draft(pipeline, v, seed=1, position=2) for v in (z, torch.tensor(z)))
    assert a.tolist() == b.tolist()
    np.testing.assert_allclose(x, y.numpy(), rtol=1e-6)


def test_draft_has_noise_of_its_own():
    z = np.zeros((1, 1000))
    token, _ = draft(Pipeline(), z, seed=5, position=6, request=[7])
    assert token[0] == int(uniforms(5, 7, 6, DRAFT) * 1000)


def test_errors_are_one_line(rng):
    q, p = laws(rng, 2, 1, 3)
    good = np.array([[0], [1]])
    bad = [
        (ValueError, "draft_tokens: must be integers", (good[:, 0], q, p), {}),
        (ValueError, "draft_tokens: must be integers", (good * 1.0, q, p), {}),
        (ValueError, r"draft_logits: must have shape", (good, q[..., :2], p), {}),
        (ValueError, r"target_logits: must have shape \(requests, drafts \+ 1, states\)", (good, q, p[:, :1]), {}),
        (ValueError, "draft_tokens: must be below the 3 states", (good + 3, q, p), {}),
        (TypeError, "target_logits: must be floating", (good, q, p.astype(int)), {}),
        (ValueError, "seed: must be one number", (good, q, p), {"seed": [1, 2, 3]}),
        (ValueError, "draft 0 of request 1 has probability 0", (good, np.where(q == q[1, 0, 1], -np.inf, q), p), {}),
        (ValueError, "target_logits: .* row 1 has NaN", (good, q, np.where(p == p[1, 0, 1], np.nan, p)), {}),
    ]
    for error, message, arguments, options in bad:
        with pytest.raises(error, match=message) as caught:
            speculate(*arguments, **{"seed": 0, "position": 0} | options)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="-1 must come after the last draft"):
        speculate(np.array([[-1, 0]]), np.zeros((1, 2, 3)), np.zeros((1, 3, 3)), seed=0, position=0)


def test_a_draft_with_mirostat_is_refused():
    from logitherm.generation import Mirostat

    with pytest.raises(ValueError, match="a draft must be without mirostat"):
        draft(Pipeline([Mirostat()]), np.zeros((1, 3)), seed=0, position=0)
