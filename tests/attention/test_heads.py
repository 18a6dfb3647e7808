"""Sums over heads against dense weights in float64: masks, windows, sinks, softcaps, biases; and trends with length."""

import numpy as np
import pytest

from logitherm.attention import attention_state
from logitherm.attention.findings import AttentionReport, position_edges, trends
from logitherm.attention.heads import HeadSums, at_temperatures, of_queries, seen_by

LIMITS = {"collapsed": 1.5, "uniform": 0.95, "sink": 0.5, "nearly": 0.9, "drift": 0.03, "least_keys": 3}
BATCH, HEADS, KEYS, WIDTH = 2, 4, 9, 5
RNG = np.random.default_rng(0)
Q, K = RNG.normal(size=(BATCH, HEADS, KEYS, WIDTH)), RNG.normal(size=(BATCH, 2, KEYS, WIDTH))
LEFT = np.ones((BATCH, 1, KEYS, KEYS), dtype=bool)
LEFT[0, ..., :2] = False
BIAS = RNG.normal(size=(1, HEADS, KEYS, KEYS))
CASES = {
    "plain": {},
    "causal": {"causal": True},
    "window": {"causal": True, "window": 4},
    "left": {"mask": LEFT & np.tri(KEYS, dtype=bool)},
    "mask of keys": {"mask": LEFT[:, :, :1]},
    "bias": {"bias": np.where(np.tri(KEYS) > 0, BIAS, -np.inf)},
    "sink": {"causal": True, "sink": RNG.normal(size=(HEADS, 1))},
    "softcap": {"softcap": 0.7, "mask": LEFT},
    "softcap a query": {"softcap": RNG.uniform(0.5, 2, size=(HEADS, KEYS)), "mask": LEFT},
}


def dense(given):
    """Weights (batch, heads, queries, keys and perhaps a sink), and which of these a query sees."""
    x = Q @ K.repeat(2, axis=1).swapaxes(-1, -2) / given["temperature"]
    cap = given.get("softcap")
    cap = cap[..., None] if np.ndim(cap) else cap
    x = x if cap is None else cap * np.tanh(x / cap)
    x = x + given.get("bias", 0.0)
    apart = np.arange(KEYS)[:, None] - np.arange(KEYS)
    sees = np.broadcast_to(given.get("mask", True), x.shape) & (x > -np.inf)
    sees = sees & ((apart >= 0) if given.get("causal") else True) & (apart < given.get("window", KEYS))
    if "sink" in given:
        x = np.concatenate([x, np.broadcast_to(given["sink"][..., None], (*x.shape[:3], 1))], axis=-1)
        sees = np.concatenate([sees, np.ones((*x.shape[:3], 1), dtype=bool)], axis=-1)
    w = np.where(sees, np.exp(x), 0.0)
    with np.errstate(invalid="ignore"):
        return w / w.sum(-1, keepdims=True), sees


@pytest.mark.parametrize("name", CASES)
def test_means_are_those_of_dense_weights(name):
    given = {"q": Q, "k": K, "temperature": 1.7, **CASES[name]}
    layer = HeadSums(name, LIMITS)
    layer.add(attention_state(**given, empty="nan"), given)
    p, sees = dense(given)
    n = sees.sum(-1)
    np.testing.assert_array_equal(np.broadcast_to(seen_by(given).states, n.shape), n)
    first = sees[..., :KEYS].any((1, 2)).argmax(-1)
    assert seen_by(given).first.tolist() == first.tolist()
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p > 0, p * np.log(p), 0.0).sum(-1)
        normalised = entropy / np.log(n)
    real = n > 0
    expected = {
        "entropy": entropy,
        "normalised_entropy": normalised,
        "support": np.exp(entropy),
        "top_probability": p.max(-1),
        "first_key": np.stack([p[b, ..., first[b]] for b in range(BATCH)]),
    }
    for quantity, values in expected.items():
        known = real & (n > 1) if quantity == "normalised_entropy" else real
        mean = np.where(known, values, 0).sum((0, 2)) / known.sum((0, 2))
        np.testing.assert_allclose(layer.mean(quantity), mean, rtol=1e-9, err_msg=quantity)
    counted = real & (n >= 3)
    assert layer.counted["queries"].tolist() == counted.sum((0, 2)).tolist()
    assert layer.counted["collapsed"].tolist() == (counted & (np.exp(entropy) <= 1.5)).sum((0, 2)).tolist()
    share = np.where(counted, expected["first_key"], 0).sum((0, 2))
    np.testing.assert_allclose(layer.counted["first_key"], share, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_some_queries_have_the_state_that_they_have_among_all(name):
    given = {"q": Q, "k": K, "temperature": 1.7, **CASES[name]}
    rows = np.array([8, 3, 3])
    every, some = (attention_state(**each, empty="nan").entropy for each in (given, of_queries(given, rows)))
    np.testing.assert_allclose(some, every[..., rows], rtol=1e-12)
    again = of_queries(of_queries(given, rows), np.array([2, 0]))
    np.testing.assert_allclose(attention_state(**again, empty="nan").entropy, every[..., [3, 8]], rtol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_other_temperatures(name):
    given = {"q": Q, "k": K, "temperature": 1.7, **CASES[name]}
    found = at_temperatures(given, [0.5, 1.0], least_keys=3)
    for column, relative in enumerate([0.5, 1.0]):
        other = {**given, "temperature": 1.7 * relative}
        if "softcap" in given:
            other["softcap"] = given["softcap"] / relative
        p, sees = dense(other)
        some = sees.sum(-1) >= 3
        top = np.where(some, p.max(-1), 0).sum((0, 2)) / some.sum((0, 2))
        np.testing.assert_allclose(found["top_probability"][:, column], top, rtol=1e-9)


def test_positions_must_be_keys():
    with pytest.raises(ValueError, match=r"^positions: must be numbers of keys, from 0 to 8"):
        attention_state(Q, K, causal=True, positions=np.arange(1, KEYS + 1))
    with pytest.raises(ValueError, match=r"^positions"):
        attention_state(Q, K, causal=True, positions=[0.5] * KEYS)


def report_of(q, k):
    given = {"q": q, "k": k, "temperature": 1.0, "causal": True}
    layer = HeadSums("planted", LIMITS | {"least_keys": 8})
    layer.add(attention_state(**given), given)
    n = q.shape[2]
    return AttentionReport((layer,), LIMITS, len(q), (n, n))


def test_scores_that_rise_with_position_freeze_and_a_key_ahead_is_overrun():
    n = 512
    k = np.zeros((1, 2, n, 1))
    k[0, 0, :, 0] = 0.2 * np.arange(n)  # a query sees about five keys well, however many there are
    k[0, 1, 0, 0] = np.log(64.0)  # weighs as much as 64 others: half of the weight at n = 65
    report = report_of(np.ones((1, 2, n, 1)), k)
    freezes, melts = report.trends[0]
    assert (freezes.kind, melts.kind) == ("freezes", "melts")
    m = np.arange(8, n)
    exact = (64 * np.log((63 + m) / 64) + (m - 1) * np.log(63 + m)) / (63 + m) / np.log(m)  # H / log m of the second
    crossing = m[(exact > 0.5).argmax()]
    assert exact[0] < 0.5 and abs(np.log2(melts.turns_at / crossing)) < 0.7, "the curve is no straight line"
    found = report.to_dict()["findings"]
    assert (found["melting"], found["freezing"]) == ([[0, 1]], [[0, 0]])


def test_lengths_too_few_for_a_trend():
    layer = HeadSums("planted", LIMITS)
    given = {"q": Q, "k": K, "temperature": 1.0}  # all queries see nine keys
    layer.add(attention_state(**given), given)
    assert trends(layer, 0.03) == [None] * HEADS


def test_bins_of_positions():
    for longest in (1, 2, 7, 1024, 100_000):
        edges = position_edges(longest)
        assert edges[0] == 0 and edges[-1] == longest and (np.diff(edges) > 0).all() and len(edges) < 110


def test_quantities_have_names():
    with pytest.raises(ValueError, match=r"^name: must be one of entropy"):
        report_of(Q, np.repeat(K, 2, axis=1)).values("heat")
