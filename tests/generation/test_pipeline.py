"""What a pipeline promises of a batch: every request alone decides its token; errors name it and cost no other."""

import math

import array_api_strict
import numpy as np
import pytest

from logitherm.generation import (
    XTC,
    MinP,
    Mirostat,
    Pipeline,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    Typical,
    fast,
)
from logitherm.generation.noise import DRAW, uniforms

INF = math.inf
PIPELINES = [
    Pipeline(),
    Pipeline([Temperature(0.7)]),
    Pipeline([Temperature(0.9), TopK(50, clamp=True), TopP(0.9)]),
    Pipeline([Temperature(1.3), TopP(0.95)]),
    Pipeline([MinP(0.01), Typical(0.9), Temperature(1.2)]),
    Pipeline([TopK(np.arange(1, 65) * 30, clamp=True), Typical(0.8), TopP(0.7)]),
    Pipeline([Temperature(1.1), Typical(0.9)]),
]


def named(pipeline):
    return "-".join(type(step).__name__ for step in pipeline.steps) or "plain"


def logits(rows, states, seed=0):
    """From one sure request to one that keeps nearly all."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, states)) * np.geomspace(0.05, 8, rows)[:, None]).astype(np.float32)


def same(a, b):
    return (
        np.array_equal(a.token, b.token)
        and np.array_equal(a.log_probability, b.log_probability)
        and np.array_equal(a.kept, b.kept)
    )


@pytest.mark.parametrize("states", [300, 20_000])
@pytest.mark.parametrize("pipeline", PIPELINES, ids=named)
def test_to_the_bit_in_any_batch(pipeline, states, monkeypatch):
    """Alone, in a batch of 64, in another order, and on any number of threads."""
    z = logits(64, states)
    request = {"seed": 9, "request": np.arange(64), "position": np.arange(64) + 5}
    whole = pipeline.sample(z, **request)
    assert whole.route == ("reference" if states == 300 or fast.plan(pipeline.steps) is None else "kernels")
    for row in (0, 13, 40, 63):
        one = {"seed": 9, "request": [row], "position": row + 5}
        alone = pipeline.take(row, 64).sample(z[row : row + 1], **one)
        assert alone.route == whole.route
        assert alone.token[0] == whole.token[row] and alone.kept[0] == whole.kept[row]
        assert alone.log_probability[0] == whole.log_probability[row]
    if not any(np.ndim(getattr(step, "k", 0)) for step in pipeline.steps):
        turned = pipeline.sample(z[::-1], seed=9, request=np.arange(64)[::-1], position=np.arange(64)[::-1] + 5)
        assert np.array_equal(turned.token[::-1], whole.token)
        assert np.array_equal(turned.log_probability[::-1], whole.log_probability)
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("LOGITHERM_NUM_THREADS", threads)
        assert same(pipeline.sample(z, **request), whole)


def test_the_token_is_the_inverse_of_the_cumulative_law(rng):
    """The definition, end to end, by hand."""
    z = rng.normal(size=(200, 30))
    drawn = Pipeline([Temperature(0.5)]).sample(z, seed=4, position=2)
    u = uniforms(4, np.arange(200), 2, DRAW)
    p = np.exp(z / 0.5) / np.exp(z / 0.5).sum(-1, keepdims=True)
    assert drawn.token.tolist() == [int(np.searchsorted(np.cumsum(q), x, side="right")) for q, x in zip(p, u)]
    assert np.allclose(drawn.log_probability, np.log(p[np.arange(200), drawn.token]))
    raw = z[np.arange(200), drawn.token] - np.log(np.exp(z).sum(-1))
    assert np.allclose(drawn.raw_log_probability, raw)


def test_requests_positions_and_seeds(rng):
    z = rng.normal(size=(5, 1000))
    pipeline = Pipeline()
    one_seed = pipeline.sample(z, seed=7, position=0)
    assert same(one_seed, pipeline.sample(z, seed=[7] * 5, request=np.arange(5), position=0))
    own = pipeline.sample(z, seed=[1, 2, 3, 4, 5], position=0)
    assert own.token[2] == pipeline.sample(z[2:3], seed=[3], position=0).token[0]
    assert own.token[2] == pipeline.sample(z[2:3], seed=3, position=0).token[0]
    assert not np.array_equal(one_seed.token, pipeline.sample(z, seed=7, position=1).token)
    assert not np.array_equal(one_seed.token, pipeline.sample(z, seed=8, position=0).token)
    assert same(
        pipeline.sample(z, seed=2**64 - 1, position=0),
        pipeline.sample(z, seed=[2**64 - 1] * 5, request=range(5), position=0),
    )


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float32", "float64"])
def test_pytorch_gives_the_tokens_of_numpy(kind, rng):
    torch = pytest.importorskip("torch")
    z = torch.as_tensor(rng.normal(size=(3, 6000)) * 3).to(getattr(torch, kind))
    plain = (z if kind == "float64" else z.float()).numpy()
    for pipeline in (PIPELINES[2], PIPELINES[4]):
        ours, numpys = pipeline.sample(z, seed=1, position=0), pipeline.sample(plain, seed=1, position=0)
        assert isinstance(ours.token, torch.Tensor) and ours.token.dtype == torch.int64
        assert ours.route == numpys.route == "kernels"
        assert ours.token.tolist() == numpys.token.tolist()
        assert np.array_equal(ours.mask(), numpys.mask())
        turned = pipeline.sample(z.T.contiguous().T, seed=1, position=0)  # not contiguous
        assert turned.token.tolist() == numpys.token.tolist()
    assert torch.equal(z, z.clone())


def test_the_reference_needs_the_array_api_only(rng):
    """What runs in array-api-strict runs on the devices of other libraries."""
    z = rng.normal(size=(4, 40))
    for pipeline in PIPELINES[:5]:
        strict = pipeline.sample(array_api_strict.asarray(z), seed=3, position=0)
        assert same(strict, pipeline.sample(z, seed=3, position=0))
        assert type(strict.token) is type(array_api_strict.asarray(z))


# -- bad input -------------------------------------------------------------------------------------------

GOOD = np.array([[1.0, 0.0, -1.0]] * 3)


def row_with(values):
    z = GOOD.copy()
    z[1] = values
    return z


BAD_ROWS = [
    ([-INF] * 3, "no allowed token (all -inf)"),
    ([0.0, math.nan, 0.0], "NaN"),
    ([-INF, math.nan, -INF], "NaN"),
    ([0.0, INF, 0.0], "+inf"),
]


@pytest.mark.parametrize(("values", "what"), BAD_ROWS)
@pytest.mark.parametrize("route", ["kernels", "reference"])
@pytest.mark.parametrize(
    "steps", [[], [Temperature(0.5), TopK(2), TopP(0.9)], [RepetitionPenalty(1.2), TopK(2), Typical(0.9)]]
)
def test_a_bad_row_is_named_and_costs_no_other(values, what, route, steps):
    z = row_with(values)
    pipeline = Pipeline(steps)
    request = {"seed": 2, "position": 8, "history": [[0, 1]] * 3, "route": route}
    with pytest.raises(
        ValueError, match=r"^logits: must be finite or -inf with at least one finite; request 1"
    ) as caught:
        pipeline.sample(z, **request)
    assert f"request 1 has {what}; mend the model or the mask, or pass" in str(caught.value)
    assert "\n" not in str(caught.value)
    drawn = pipeline.sample(z, on_error="row", **request)
    fine = pipeline.sample(GOOD, **request)
    assert list(drawn.errors) == [1] and f"request 1 has {what}" in drawn.errors[1]
    assert drawn.token.tolist() == [fine.token[0], -1, fine.token[2]]
    assert np.array_equal(drawn.log_probability[[0, 2]], fine.log_probability[[0, 2]])
    assert np.isnan(drawn.log_probability[1]) and np.isnan(drawn.raw_log_probability[1])
    assert drawn.kept[1] == 0 and not drawn.mask()[1].any()
    assert np.array_equal(drawn.mask()[[0, 2]], fine.mask()[[0, 2]])
    assert np.allclose(drawn.raw_log_probability[[0, 2]], fine.raw_log_probability[[0, 2]])


@pytest.mark.parametrize(
    ("steps", "request_", "message"),
    [
        ([TopK(np.array([1, 0, 2]))], {}, "k: must be a whole number of at least 1; request 1 has 0"),
        ([TopK(np.array([1, 4, 2]))], {}, "k: must be at most the 3 states; request 1 has 4"),
        ([TopP(np.array([1, 0, 0.5]))], {}, r"p: must be in \(0, 1\]; request 1 has 0"),
        ([TopP([1, 1.5, 0.5])], {}, r"p: must be in \(0, 1\]; request 1 has 1.5"),
        ([MinP(np.array([1, -1, 0.5]))], {}, r"p: must be in \(0, 1\]; request 1 has -1"),
        ([Temperature(np.array([1, -1, 0.5]))], {}, r"temperature: must be in \[0, inf\]; request 1 has -1"),
        ([Temperature([1, math.nan, 0.5])], {}, r"temperature: must be in \[0, inf\]; request 1 has nan"),
        ([], {"seed": [1, -1, 1]}, r"seed: must lie in \[0, 2\^64\); request 1 has -1; take it modulo"),
        ([], {"seed": [1, 2**64, 1]}, r"seed: must lie in \[0, 2\^64\); request 1 has 18446744073709551616; take"),
        ([], {"position": np.array([1, -3, 1])}, r"position: must lie in \[0, 2\^64\); request 1 has -3; take"),
        ([], {"request": [0, -1, 1]}, r"request: must lie in \[0, 2\^64\); request 1 has -1; take"),
    ],
)
@pytest.mark.parametrize("route", ["kernels", "reference"])
def test_a_bad_setting_is_named_and_costs_no_other(steps, request_, message, route):
    request = {"seed": 2, "position": 8, "route": route} | request_
    pipeline = Pipeline(steps)
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        pipeline.sample(GOOD, **request)
    assert "\n" not in str(caught.value)
    drawn = pipeline.sample(GOOD, on_error="row", **request)
    assert list(drawn.errors) == [1]
    for row in (0, 2):
        own = {k: v[row : row + 1] if np.ndim(v) else v for k, v in request.items()}
        if "request" not in own and np.ndim(request["seed"]) == 0:
            own["request"] = [row]
        alone = pipeline.take(row, 3).sample(GOOD[row : row + 1], **own)
        assert (drawn.token[row], drawn.log_probability[row]) == (alone.token[0], alone.log_probability[0])


@pytest.mark.parametrize("on_error", ["raise", "row"])
@pytest.mark.parametrize(
    ("steps", "request_", "message"),
    [
        ([TopK([1, 2])], {}, r"k: must be a number or one a request, shape \(3,\); got list \[1, 2\]; mend it"),
        (
            [Temperature(np.ones(4))],
            {},
            r"temperature: must be a number or one a request, shape \(3,\); got shape \(4,\)",
        ),
        ([], {"seed": [1, 2]}, r"seed: must be one number or one a request, shape \(3,\); got \(2,\); mend it"),
        ([], {"position": [[1]]}, r"position: must be one number or one a request, shape \(3,\); got \(1, 1\); mend"),
        ([RepetitionPenalty(1.1)], {}, "history: must be given for RepetitionPenalty; got none; pass the tokens"),
        (
            [RepetitionPenalty(1.1)],
            {"history": [[1]] * 2},
            r"history: must have one entry a request, 3; got 2; \[\] is",
        ),
        ([], {"route": "gpu"}, "route: must be one of auto, kernels, reference; got 'gpu'"),
    ],
)
def test_what_does_not_fit_the_batch_is_refused_whole(steps, request_, message, on_error):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        Pipeline(steps).sample(GOOD, **({"seed": 0, "position": 0, "on_error": on_error} | request_))
    assert "\n" not in str(caught.value)


def test_what_is_no_batch_of_logits():
    pipeline = Pipeline()
    with pytest.raises(ValueError, match=r"^logits: must have shape \(requests, states\); got \(3,\); reshape them$"):
        pipeline.sample(GOOD[0], seed=0, position=0)
    with pytest.raises(TypeError, match=r"^logits: must be floating point \(are these labels\?\)"):
        pipeline.sample(np.ones((2, 3), int), seed=0, position=0)
    with pytest.raises(TypeError, match="position"):
        pipeline.sample(GOOD, seed=0)
    with pytest.raises(
        TypeError, match=r"^position: must be whole numbers; got NoneType None; give one, or one a request$"
    ):
        pipeline.sample(GOOD, seed=0, position=None)
    with pytest.raises(TypeError, match=r"^seed: must be whole numbers; got float 0.5"):
        pipeline.sample(GOOD, seed=0.5, position=0)


def test_no_requests():
    for pipeline in PIPELINES[:5]:
        drawn = pipeline.sample(np.zeros((0, 50)), seed=0, position=0)
        assert drawn.token.shape == drawn.kept.shape == drawn.log_probability.shape == (0,)
        assert pipeline.sample(np.zeros((0, 5000)), seed=0, position=0).token.shape == (0,)


def test_what_is_no_list_of_steps():
    with pytest.raises(TypeError, match="steps: must be a list of steps; got Temperature"):
        Pipeline(Temperature(0.7))
    with pytest.raises(TypeError, match="number 0 is type"):
        Pipeline([Temperature])


def test_histories_of_another_model_and_prompts_longer_than_they(rng):
    z = rng.normal(size=(3, 50))
    pipeline = Pipeline([RepetitionPenalty(1.2)])
    given = {"seed": 0, "position": 0}
    with pytest.raises(ValueError, match=r"history: must be tokens below the 50 states.* request 2 has token 50"):
        pipeline.sample(z, history=[[1], [2], [50]], **given)
    with pytest.raises(ValueError, match=r"history: .* request 1 has object values"):
        pipeline.sample(z, history=[[1], [None], [5]], **given)
    with pytest.raises(ValueError, match=r"prompt_lengths: .* request 0 has 5 for 1 tokens"):
        pipeline.sample(z, history=[[1], [2], [3]], prompt_lengths=5, **given)
    drawn = pipeline.sample(z, history=[[1], [2], [50]], on_error="row", **given)
    assert list(drawn.errors) == [2] and drawn.token[2] == -1 and np.all(drawn.token[:2] >= 0)


def test_the_law_of_a_step_with_a_chance_needs_the_seed(rng):
    z = rng.normal(size=(2, 20))
    with pytest.raises(ValueError, match="seed: must be given, as whether XTC strikes is drawn"):
        Pipeline([XTC(0.5)]).probabilities(z)
    assert Pipeline([XTC(0.5)]).probabilities(z, seed=1).shape == (2, 20)


def test_a_message_to_a_row_does_not_ask_for_what_is_given(rng):
    z = rng.normal(size=(2, 20))
    z[1] = np.nan
    drawn = Pipeline().sample(z, seed=0, position=0, on_error="row")
    assert "on_error" not in drawn.errors[1] and drawn.errors[1].endswith("mend the model or the mask")
    with pytest.raises(ValueError, match="on_error: must be one of raise, row; got 'skip'"):
        Pipeline().sample(z, seed=0, position=0, on_error="skip")


def test_memory_of_another_batch(rng):
    z = rng.normal(size=(2, 20))
    with pytest.raises(ValueError, match="memory: must be of the 2 requests; got 4"):
        Pipeline([Mirostat()]).sample(z, seed=0, position=0, memory={"mirostat": np.ones(4)})
