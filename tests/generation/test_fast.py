"""The route through compiled kernels against the steps as they are defined: the same tokens for the same noise."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitherm.generation import (
    XTC,
    Eta,
    FrequencyPenalty,
    MinP,
    Mirostat,
    Pipeline,
    RepetitionPenalty,
    Temperature,
    TopH,
    TopK,
    TopNSigma,
    TopP,
    Typical,
    fast,
)
from logitherm.thermostat import SetPoint

INF = math.inf
ROWS, STATES = 6, 5000

TOLD = st.one_of(
    st.sampled_from([0.0, 0.3, 1.0, 1.7, 30.0, INF]).map(Temperature),
    st.lists(st.floats(0.1, 3), min_size=ROWS, max_size=ROWS).map(lambda t: Temperature(np.array(t))),
    st.sampled_from([1, 2, 50, 700, STATES]).map(TopK),
    st.lists(st.integers(1, STATES), min_size=ROWS, max_size=ROWS).map(lambda k: TopK(np.array(k))),
    st.floats(0.01, 1.0).map(TopP),
    st.lists(st.floats(0.05, 1), min_size=ROWS, max_size=ROWS).map(lambda p: TopP(np.array(p))),
    st.floats(1e-6, 1.0).map(MinP),
)
AFTER = st.one_of(
    TOLD,
    st.floats(0.1, 0.99).map(Typical),
    st.floats(0.1, 3.0).map(TopNSigma),
    st.floats(0.1, 0.9).map(TopH),
    st.floats(1e-4, 0.1).map(Eta),
    st.just(XTC(0.5, 0.05)),
    st.just(Temperature(SetPoint(entropy=0.7))),
)
BEFORE = st.sampled_from([(), (), (RepetitionPenalty(1.3),), (FrequencyPenalty(0.2), RepetitionPenalty(0.9))])


def logits(seed, dtype):
    """A flat row, a peaked one, ties, a mask, an offset, and one value but for a few."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(ROWS, STATES)) * rng.uniform(0.3, 5, (ROWS, 1))
    z[1, rng.integers(STATES)] += 8
    z[2] = np.round(z[2])
    z[3, rng.random(STATES) < 0.7] = -INF
    z[4] += 500
    z[5] = 1.0
    z[5, :9] = np.arange(9)
    return z.astype(dtype)


def both(steps, z, **request):
    pipeline = Pipeline(steps)
    request = {"seed": 11, "position": 3, "history": [[1, 2, 3, 3]] * len(z)} | request
    return [pipeline.sample(z, route=route, **request) for route in ("kernels", "reference")]


@settings(max_examples=100)
@given(before=BEFORE, told=st.lists(TOLD, max_size=4), after=st.lists(AFTER, max_size=3), seed=st.integers(0, 99))
def test_any_list_of_steps_is_the_same_law(before, told, after, seed):
    steps = [*before, *told, *after]
    if fast.plan(steps) is None:
        return
    z = logits(seed, np.float64)
    ours, defined = both(steps, z)
    assert (ours.route, defined.route) == ("kernels", "reference")
    assert ours.kept.tolist() == defined.kept.tolist() or near_a_threshold(ours, defined)
    same = (ours.kept == defined.kept) & (ours.token == defined.token)
    assert same.sum() >= ROWS - 1
    assert np.allclose(ours.log_probability[same], defined.log_probability[same], rtol=1e-9, atol=1e-9)
    if (ours.kept == defined.kept).all():
        assert np.array_equal(ours.mask(), defined.mask())
    assert ours.mask()[np.arange(ROWS), ours.token].all()


def near_a_threshold(a, b):
    """Kept sets of a row differ by ties at most: sixteen digits of the mass decide."""
    return (a.mask() <= b.mask()).all(-1).sum() + (b.mask() <= a.mask()).all(-1).sum() >= ROWS and (
        (a.kept != b.kept).sum() <= 1
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    "steps",
    [
        [],
        [Temperature(0.7)],
        [Temperature(0.7), TopK(50), TopP(0.9)],
        [Temperature(1.5), TopP(0.95)],
        [Temperature(1.5), MinP(0.02)],
        [TopK(40), Typical(0.9), TopP(0.95), MinP(0.05), Temperature(0.8)],
    ],
    ids=lambda v: "-".join(type(s).__name__ for s in v) if v and not isinstance(v[0], str) else "",
)
def test_in_float32_up_to_rounding(steps, dtype, ran):
    """More than 97 of 100 tokens are the same, and none has a probability that differs by more than rounding."""
    z = np.concatenate([logits(seed, dtype) for seed in range(25)])
    ours, defined = both(steps, z)
    assert (ran("sample"), ran("compact")) == (1, len(steps) == 5)
    same = (ours.token == defined.token) & (ours.kept == defined.kept)
    assert same.mean() > 0.97
    assert np.abs(ours.log_probability - defined.log_probability)[same].max() < 2e-5
    assert np.abs(ours.kept - defined.kept).max() <= 2


@pytest.mark.parametrize(
    ("steps", "kernels"),
    [
        ([], ["sample"]),
        ([Temperature(0.7)], ["sample"]),
        ([Temperature(0.7), TopK(50), TopP(0.9)], ["sample"]),
        ([Temperature(0.7), MinP(0.1)], ["sample"]),
        ([TopK(40), Typical(0.9)], ["sample", "compact"]),
        ([RepetitionPenalty(1.1), TopP(0.9), Temperature(0.5)], ["sample"]),
    ],
    ids=lambda v: "-".join(type(s).__name__ for s in v) if v and not isinstance(v[0], str) else "",
)
def test_which_kernels_run(steps, kernels, ran):
    names = ["sample", "compact"]
    z = logits(0, np.float32)
    for name in names:
        ran(name)
    Pipeline(steps).sample(z, seed=0, position=0, history=[[]] * ROWS)
    assert [name for name in names if ran(name)] == kernels
    Pipeline(steps).sample(z, seed=0, position=0, history=[[]] * ROWS, route="reference")
    assert not any(ran(name) for name in names)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([], "Pipeline([])"),
        ([Temperature(0.7), TopP(0.9)], "# CPU: Temperature, TopP by threshold"),
        ([RepetitionPenalty(1.1), TopK(5), TopH()], "# CPU: TopK by threshold after RepetitionPenalty; TopH on what"),
        ([Temperature(0.7), TopH()], "# CPU: as defined"),
        ([TopK(5), RepetitionPenalty(1.1)], "# CPU: as defined"),
        ([RepetitionPenalty(np.ones(4))], "Pipeline([RepetitionPenalty(<4 requests>)])  # CPU: drawn by blocks after"),
        ([TopK(5), Mirostat()], "# CPU: TopK by threshold; Mirostat on what they keep"),
    ],
)
def test_the_representation_says_so(steps, text):
    assert text in repr(Pipeline(steps))


def test_a_step_of_ones_own(rng):
    """Any callable of the right shape is a step; one that knows tokens by number says so and gets all of them."""

    class Ban:
        kind, needs_history = "support", True

        def __call__(self, logits, context):
            out = logits.copy()
            out[:, 7] = -INF
            return out

    z = logits(0, np.float32)
    z[:, 7] = 1000
    for steps in ([Ban(), TopK(3)], [TopK(3), Ban()][::-1], [TopK(3000), Ban(), TopP(0.5)]):
        drawn = Pipeline(steps).sample(z, seed=0, position=0, history=[[]] * ROWS)
        assert 7 not in drawn.token
        assert not drawn.mask()[:, 7].any()
    with pytest.raises(TypeError, match=r"^steps: must be steps, with a kind and a call; number 1 is float; give"):
        Pipeline([TopK(1), 0.7])


def test_kernels_may_be_demanded():
    z = np.zeros((1, 10))
    assert Pipeline().sample(z, seed=0, position=0).route == "reference"
    assert Pipeline().sample(z, seed=0, position=0, route="kernels").route == "kernels"
    with pytest.raises(ValueError, match=r"^route: the kernels must apply; these steps or logits are not for them"):
        Pipeline([TopH()]).sample(z, seed=0, position=0, route="kernels")
