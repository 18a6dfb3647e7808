"""Numbers about texts, against hand-made cases, brute force and other libraries."""

import gzip
import itertools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from logitherm.generation.texts import (
    best_of,
    compression_ratio,
    distinct_n,
    final_loop,
    loop_rate,
    majority_vote,
    pass_at_k,
    perplexity,
    repeated_n,
    self_bleu,
    token_numbers,
)

TOKENS = st.lists(st.integers(0, 2), max_size=14)
TEXTS = st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=9), min_size=2, max_size=5)


# -- repetition --------------------------------------------------------------------------------------------


def test_repeated_n_by_hand():
    assert repeated_n([1, 2, 3, 4, 5], 4) == 0.0
    assert repeated_n([7] * 10, 4) == pytest.approx(6 / 7)  # seven 4-grams, all the same
    assert math.isnan(repeated_n([1, 2, 3], 4))


@given(TOKENS, st.integers(1, 4))
def test_repeated_n_is_that_of_strings(tokens, n):
    text = "".join(map(str, tokens))
    grams = [text[i : i + n] for i in range(len(text) - n + 1)]
    expected = 1 - len(set(grams)) / len(grams) if grams else math.nan
    assert repeated_n(tokens, n) == pytest.approx(expected, nan_ok=True)
    assert repeated_n(np.array(tokens, dtype=int), n) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("abcabcabc", 3),
        ("xxabcabcabc", 3),
        ("bcabcabcabc", 3),  # a round that is cut off at its start
        ("abcabcabcx", None),
        ("aaaaaaaaa", 1),  # also 3 times aaa, but the shortest period is meant
        ("abcdefghi", None),
        ("abcabc", None),
        ("", None),
    ],
)
def test_final_loop_by_hand(text, period):
    assert final_loop([ord(c) for c in text], repeats=3, span=9) == period


def test_a_short_run_is_no_loop():
    assert final_loop([5, 6, 7, 7, 7], repeats=3, span=4) is None
    assert final_loop([5, 6, 7, 7, 7], repeats=3, span=3) == 1


@given(TOKENS, st.integers(2, 4), st.integers(1, 8))
def test_final_loop_is_brute_force(tokens, repeats, span):
    def ends_in(period):
        rounds = 0
        cycle = tokens[len(tokens) - period :]
        while tokens[max(0, len(tokens) - (rounds + 1) * period) : len(tokens) - rounds * period] == cycle:
            rounds += 1
        return rounds >= repeats and rounds * period >= span

    expected = next((p for p in range(1, len(tokens) + 1) if ends_in(p)), None)
    assert final_loop(tokens, repeats, span) == expected


def test_loop_rate():
    assert loop_rate([[1, 2] * 9, [3] * 40, list(range(20)), []]) == 0.5
    assert math.isnan(loop_rate([]))


@pytest.mark.parametrize("bad", [0, -1, 1.5, True])
def test_counts_are_whole_numbers(bad):
    for call in (
        lambda: repeated_n([1], bad),
        lambda: distinct_n([[1]], bad),
        lambda: self_bleu([[1], [2]], bad),
        lambda: final_loop([1], bad),
    ):
        with pytest.raises(ValueError, match="must be a whole number of at least 1"):
            call()
    with pytest.raises(ValueError, match="at least 2"):
        final_loop([1], 1)


# -- diversity ---------------------------------------------------------------------------------------------


def test_distinct_n_by_hand():
    assert distinct_n([[1, 1, 1, 1]], 1) == 0.25
    assert distinct_n([[1, 2], [2, 1]], 2) == 1.0
    assert distinct_n([[1, 2], [3, 4]], 2) == 1.0, "2 3 is no bigram of either text"
    assert math.isnan(distinct_n([[1], [2]], 2))


@given(TEXTS, st.integers(1, 3), st.integers(1, 8))
def test_distinct_n_at_a_fixed_count_does_not_see_the_rest(texts, n, count):
    longer = texts + [[9] * 20]
    assert distinct_n(texts, n, tokens=count) == pytest.approx(distinct_n(longer, n, tokens=count), nan_ok=True)


def test_distinct_n_refuses_fewer_tokens():
    with pytest.raises(ValueError, match="at most the 5 that the texts have; got 6"):
        distinct_n([[1, 2], [3, 4, 5]], 1, tokens=6)


def test_compression_ratio():
    text = "It was the best of times, it was the worst of times"
    assert compression_ratio([text]) == len(text) / len(gzip.compress(text.encode(), 9))
    assert compression_ratio([text] * 20) > 8 * compression_ratio([text])
    assert compression_ratio(["ä"]) == compression_ratio(["ä".encode()])
    assert math.isnan(compression_ratio([]))
    assert compression_ratio([np.random.default_rng(0).bytes(1000)]) < 1.0


def test_self_bleu_by_hand():
    assert self_bleu([[1, 2, 3, 4]] * 2) == 1.0
    # 4 tokens: 3 of 4, 2 of 3, 1 of 2, and 0.1 of 1 for the order without a match
    expected = (3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25
    assert self_bleu([[1, 2, 3, 4], [1, 2, 3, 5]]) == pytest.approx(expected)
    assert math.isnan(self_bleu([[1, 2, 3]]))
    assert math.isnan(self_bleu([[], []]))


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_self_bleu_is_that_of_torchmetrics(texts):
    """Where all orders match, the smoothing of libraries does not matter. Of two lengths equally close, theirs is that
    of the first text and ours, as elsewhere, the shorter."""
    texts = sorted(texts, key=len)
    bleu = pytest.importorskip("torchmetrics.functional.text").bleu_score
    words = [" ".join(map(str, text)) for text in texts]
    theirs = [float(bleu([words[i]], [words[:i] + words[i + 1 :]], n_gram=2)) for i in range(len(words))]
    if all(theirs):  # 0 where an order has no match
        assert self_bleu(texts, 2) == pytest.approx(np.mean(theirs), abs=1e-6)


@given(TEXTS)
def test_self_bleu_does_not_depend_on_the_order(texts):
    assert self_bleu(texts) == pytest.approx(self_bleu(texts[::-1]))
    assert 0 < self_bleu(texts) <= 1 + 1e-12
    assert self_bleu([*texts, *texts]) == pytest.approx(1.0), "every text has its twin"


# -- the laws ----------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.sampled_from([0.3, 0.7, 1.0, 2.5]))
@settings(deadline=None, max_examples=25)
def test_token_numbers_are_those_of_scipy(seed, temperature):
    rng = np.random.default_rng(seed)
    z, tokens = 3 * rng.normal(size=(2, 3, 40)), rng.integers(0, 40, size=(2, 3))
    found = token_numbers(z, tokens, temperature)
    for scale, entropy, surprise in (
        (temperature, found.entropy, found.surprise),
        (1.0, found.model_entropy, found.model_surprise),
    ):
        log_p = scipy.special.log_softmax(z / scale, axis=-1)
        np.testing.assert_allclose(entropy, scipy.stats.entropy(np.exp(log_p), axis=-1), rtol=1e-9)
        expected = -np.take_along_axis(log_p, tokens[..., None], -1)[..., 0]
        np.testing.assert_allclose(surprise, expected, rtol=1e-9, atol=1e-12)
    step = 1e-4 * temperature
    hotter, colder = (token_numbers(z, tokens, temperature + s).entropy for s in (step, -step))
    slope = (hotter - colder) / (2 * step)
    np.testing.assert_allclose(found.heat_capacity, temperature * slope, rtol=1e-4, atol=1e-7)


def test_token_numbers_at_the_limits():
    z = np.array([[3.0, 3.0, 1.0, -np.inf]] * 4)
    tokens = np.array([0, 1, 2, 3])
    cold = token_numbers(z, tokens, 0.0)
    np.testing.assert_allclose(cold.entropy, math.log(2))
    np.testing.assert_allclose(cold.surprise, [math.log(2), math.log(2), math.inf, math.inf])
    assert not cold.heat_capacity.any()
    hot = token_numbers(z, tokens, math.inf)
    np.testing.assert_allclose(hot.surprise, [math.log(3)] * 3 + [math.inf])
    each = token_numbers(z, tokens, np.array([0.0, 1.0, math.inf, 1.0]))
    np.testing.assert_allclose(each.entropy[[0, 2]], [math.log(2), math.log(3)])


def test_token_numbers_of_torch_tensors():
    torch = pytest.importorskip("torch")
    z = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    ours = token_numbers(z, np.arange(5), 0.7)
    theirs = token_numbers(torch.tensor(z), torch.arange(5), 0.7)
    for name, value in vars(ours).items():
        np.testing.assert_allclose(getattr(theirs, name), value, rtol=1e-5)


def test_own_text_is_as_surprising_as_expected_and_hotter_text_is_more():
    """The claim behind the excess: E[surprise] = S at the temperature of the draws, for T = 1 above 1 beyond it."""
    rng = np.random.default_rng(1)
    z = np.broadcast_to(2 * rng.normal(size=30), (20000, 30))
    excess = {}
    for temperature in (0.6, 1.0, 1.6):
        p = scipy.special.softmax(z[0] / temperature)
        found = token_numbers(z, rng.choice(30, size=len(z), p=p), temperature)
        error = found.surprise.std() / math.sqrt(len(z))
        assert abs((found.surprise - found.entropy).mean()) < 4.5 * error
        excess[temperature] = (found.model_surprise - found.model_entropy).mean()
    assert excess[0.6] < -0.1 < abs(excess[1.0]) < 0.1 < excess[1.6]


def test_perplexity():
    assert perplexity(np.full((2, 3), math.log(50))) == pytest.approx(50)
    assert perplexity(np.array([0.0, math.inf])) == math.inf
    assert perplexity(np.zeros(3)) == 1.0
    assert math.isnan(perplexity(np.zeros(0)))


# -- success -----------------------------------------------------------------------------------------------


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_counts_choices(numbers):
    n, right, k = numbers
    tries = [1] * right + [0] * (n - right)
    expected = np.mean([max(choice) for choice in itertools.combinations(tries, k)])
    assert pass_at_k(n, right, k) == pytest.approx(expected, abs=1e-12)
    assert best_of(tries, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_of_many_tries_is_stable():
    assert pass_at_k(10**6, 1, 10) == pytest.approx(1e-5, rel=1e-9)
    assert pass_at_k(10**4, 5000, 100) == pytest.approx(1.0)
    for numbers in ((5, 6, 1), (5, -1, 1), (5, 1, 0), (5, 1, 6)):
        with pytest.raises(ValueError, match="must be 0 <= right <= n"):
            pass_at_k(*numbers)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7), st.data())
def test_best_of_is_the_mean_over_choices(scores, data):
    k = data.draw(st.integers(1, len(scores)))
    expected = np.mean([max(choice) for choice in itertools.combinations(scores, k)])
    assert best_of(scores, k) == pytest.approx(expected, abs=1e-9)


def test_best_of_refuses():
    with pytest.raises(ValueError, match=r"k: must lie in \[1, 2\]"):
        best_of([1.0, 2.0], 3)
    with pytest.raises(ValueError, match="scores: must be finite"):
        best_of([1.0, math.nan], 1)


def test_majority_vote():
    assert majority_vote(["a", "b", "a", "c"], [1, 0, 1, 0]) == 1.0
    assert majority_vote(["a", "b", "b", "a"], [1, 0, 0, 1]) == 0.5, "a tie is worth the mean"
    assert majority_vote([None, None, "b"], [1, 1, 0]) == 0.0, "no answer is no vote"
    assert majority_vote([None], [0]) == 0.0
    with pytest.raises(ValueError, match="one an answer"):
        majority_vote(["a"], [])
