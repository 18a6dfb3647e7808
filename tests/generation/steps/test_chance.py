"""Steps with noise or memory of their own."""

import math

import numpy as np
import pytest

from logitherm.generation import XTC, Mirostat, Pipeline, Temperature, TopK
from logitherm.generation.noise import XTC_STRIKES, uniforms

Z = np.log(np.array([[0.4, 0.3, 0.15, 0.1, 0.05]]))


def test_xtc_leaves_the_least_probable_of_the_top_choices():
    assert (Pipeline([XTC(1.0, 0.12)]).probabilities(Z, seed=0)[0] > 0).tolist() == [False, False, True, True, True]
    assert (Pipeline([XTC(1.0, 0.35)]).probabilities(Z, seed=0)[0] > 0).all()  # one top choice is the least of them
    assert (Pipeline([XTC(1.0, 0.9)]).probabilities(Z, seed=0)[0] > 0).all()
    assert (Pipeline([XTC(0.0, 0.01)]).probabilities(Z, seed=0)[0] > 0).all()
    ties = np.log(np.array([[0.4, 0.2, 0.2, 0.2]]))
    assert (Pipeline([XTC(1.0, 0.1)]).probabilities(ties, seed=0)[0] > 0).tolist() == [False, True, True, True]


def test_xtc_strikes_by_the_noise_of_the_request_and_not_of_the_batch():
    z = np.repeat(Z, 200, axis=0)
    pipeline = Pipeline([XTC(0.4, 0.12)])
    struck = pipeline.process(z, seed=3, position=5)[:, 0] == -math.inf
    assert np.array_equal(struck, uniforms(3, np.arange(200), 5, XTC_STRIKES) < 0.4)
    for row in (0, 17, 199):
        alone = pipeline.process(Z, seed=3, request=[row], position=5)
        assert (alone[0, 0] == -math.inf) == struck[row]
    other = pipeline.process(z, seed=3, position=6)[:, 0] == -math.inf
    assert not np.array_equal(struck, other)


def test_mirostat_holds_the_surprise(rng):
    """The mean surprise of what is drawn comes to tau bits."""
    z = rng.normal(size=(1, 2000)) * 2
    pipeline, memory, bits = Pipeline([Mirostat(tau=4.0, eta=0.2)]), None, []
    for position in range(300):
        drawn = pipeline.sample(z, seed=0, position=position, memory=memory)
        memory = drawn.memory
        bits.append(-drawn.log_probability[0] / math.log(2))
    assert abs(np.mean(bits[50:]) - 4.0) < 0.3


def test_mirostat_starts_at_twice_tau_and_moves_by_the_surprise():
    p = np.exp(Z[0])
    first = Pipeline([Mirostat(tau=1.0, eta=0.5)]).sample(Z, seed=0, position=0)
    kept = -np.log2(p) <= 2.0
    assert first.kept.tolist() == [kept.sum()]
    surprise = -math.log2(p[first.token[0]] / p[kept].sum())
    assert first.memory["mirostat"].tolist() == pytest.approx([2.0 - 0.5 * (surprise - 1.0)])


def test_memory_is_that_of_the_request(rng):
    """Two requests in a batch, one with an error for a while: each goes on from its own."""
    z = rng.normal(size=(2, 100)) * 2
    bad = z.copy()
    bad[1] = -math.inf
    pipeline = Pipeline([Temperature(0.9), TopK(80), Mirostat(3.0)])
    together = pipeline.sample(z, seed=0, position=0)
    alone = [pipeline.sample(z[i : i + 1], seed=0, request=[i], position=0) for i in range(2)]
    assert together.memory["mirostat"].tolist() == [a.memory["mirostat"][0] for a in alone]
    broken = pipeline.sample(bad, seed=0, position=0, on_error="row")
    assert broken.memory["mirostat"][0] == together.memory["mirostat"][0]
    healed = pipeline.sample(z, seed=0, position=0, memory=broken.memory)
    assert healed.memory["mirostat"][1] == together.memory["mirostat"][1]  # as if the failure had not been
    second = pipeline.sample(z[:1], seed=0, position=1, memory={"mirostat": together.memory["mirostat"][:1]})
    again = pipeline.sample(z, seed=0, position=1, memory=together.memory)
    assert again.token[0] == second.token[0]
    assert together.memory["mirostat"].tolist() == [a.memory["mirostat"][0] for a in alone]  # not written into


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Mirostat(0.0), "tau: must be finite and positive, and eta too; got 0.0, 0.1; try 5 and 0.1"),
        (lambda: Pipeline([Mirostat(), TopK(1)]), "steps: mirostat must be the last, as it learns from what is drawn"),
        (lambda: Pipeline([XTC(1.5)]).process(Z), r"probability: must be in \[0, 1\]; request 0 has 1.5; 0.5 is usual"),
        (lambda: Pipeline([XTC(0.5, 0)]).process(Z), r"threshold: must be in \(0, 1\]; request 0 has 0; 0.1 is usual"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
