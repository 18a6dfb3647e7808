"""What is known of a draw beside the token."""

import numpy as np
import pytest

from logitherm.generation import Pipeline, RepetitionPenalty, Temperature, TopK, TopP, Typical


@pytest.mark.parametrize("route", ["kernels", "reference"])
@pytest.mark.parametrize(
    "steps",
    [
        [],
        [Temperature(0.0)],
        [Temperature(0.7), TopK(5)],
        [TopP(0.8), Typical(0.9), Temperature(2.0)],
        [RepetitionPenalty(2.0), TopP(0.8)],
    ],
    ids=lambda steps: "-".join(type(step).__name__ for step in steps) or "plain",
)
def test_the_support_and_both_log_probabilities(steps, route, rng):
    """As reinforcement learning needs them: of the law that was drawn from, and of the model as it is."""
    z = rng.normal(size=(6, 60)) * 2
    z[:, 11] = -np.inf
    pipeline, request = Pipeline(steps), {"history": [[1, 2, 3]] * 6}
    if route == "kernels" and not steps:
        assert not pipeline.probabilities(z)[:, 11].any()
    drawn = pipeline.sample(z, seed=0, position=0, route=route, **request)
    law = pipeline.probabilities(z, **request)
    at = np.arange(6), drawn.token
    assert np.array_equal(drawn.mask(), law > 0)
    assert drawn.kept.tolist() == (law > 0).sum(-1).tolist()
    assert drawn.support(2).tolist() == np.flatnonzero(law[2] > 0).tolist()
    assert np.allclose(drawn.log_probability, np.log(law[at]), rtol=1e-9, atol=1e-12)
    model = Pipeline().probabilities(z)
    assert np.allclose(drawn.raw_log_probability, np.log(model[at]), rtol=1e-9)


def test_the_types(rng):
    drawn = Pipeline([TopK(3)]).sample(rng.normal(size=(2, 5000)).astype(np.float32), seed=0, position=0)
    assert (drawn.token.dtype, drawn.kept.dtype) == (np.int64, np.int64)
    assert drawn.log_probability.dtype == drawn.raw_log_probability.dtype == np.float64
    assert drawn.errors == {} and drawn.memory == {}
    assert "Draws(token=array(" in repr(drawn) and "_logits" not in repr(drawn)
