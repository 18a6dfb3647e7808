"""The exactness kit: its statistics, what it finds in samplers that are wrong, and our own samplers under it."""

import importlib.util
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from logitherm import softmax
from logitherm.generation import MinP, Pipeline, Temperature, TopK, TopP, Typical, speculate
from logitherm.generation.verify import (
    Check,
    Law,
    Report,
    chi_square,
    draws_of,
    holm,
    independence,
    ladder,
    law_of,
    pit,
    support,
    tails,
    uniformity,
    verify,
    verify_speculation,
)

spec = importlib.util.spec_from_file_location("bad_samplers", Path(__file__).with_name("bad_samplers.py"))
bad = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bad)

LEVEL = 1e-6
ROOT = Path(__file__).parents[2]
PIPELINES = {
    "cold": Pipeline([Temperature(0.5)]),
    "plain": Pipeline([Temperature(1.0)]),
    "hot": Pipeline([Temperature(2.0)]),
    "top-k": Pipeline([Temperature(0.8), TopK(50, clamp=True)]),
    "top-p": Pipeline([Temperature(0.8), TopP(0.9)]),
    "k and p": Pipeline([Temperature(0.8), TopK(50, clamp=True), TopP(0.9)]),
    "min-p": Pipeline([MinP(0.02), Temperature(1.5)]),
    "typical": Pipeline([Temperature(1.2), Typical(0.9)]),
    "k and typical": Pipeline([TopK(100, clamp=True), Typical(0.8)]),
}


def oracle(name):
    """The same laws from their papers in a few lines of NumPy: nothing of the library's own steps."""
    t, k, p, m, typical, late = {
        "cold": (0.5, None, None, None, None, 1),
        "plain": (1, None, None, None, None, 1),
        "hot": (2, None, None, None, None, 1),
        "top-k": (0.8, 50, None, None, None, 1),
        "top-p": (0.8, None, 0.9, None, None, 1),
        "k and p": (0.8, 50, 0.9, None, None, 1),
        "min-p": (1, None, None, 0.02, None, 1.5),
        "typical": (1.2, None, None, None, 0.9, 1),
        "k and typical": (1, 100, None, None, 0.8, 1),
    }[name]

    def prefix(w, order, mass):
        """Indices up to the one at which the mass is reached."""
        height = np.cumsum(w[order]) / w.sum()
        return order[: int(np.searchsorted(height, mass)) + 1]

    def one(z):
        w = np.exp((z - z.max()) / t)
        if k is not None and k < len(z):
            w = np.where(z >= np.sort(z)[-k], w, 0)
        if p is not None:
            last = prefix(w, np.argsort(-w), p)[-1]
            w = np.where(w >= w[last], w, 0)
        if m is not None:
            w = np.where(w >= m * w.max(), w, 0)
        if typical is not None:
            q = w / w.sum()
            surprise = np.where(q > 0, -np.log(np.where(q > 0, q, 1)), np.inf)
            distance = np.abs(surprise - (q[q > 0] * surprise[q > 0]).sum())
            last = prefix(w, np.argsort(distance, kind="stable"), typical)[-1]
            w = np.where(distance <= distance[last] + 1e-12, w, 0)
        w = np.where(w > 0, w, 0) ** (1 / late) if late != 1 else w
        return w / w.sum()

    return lambda rows: np.stack([one(z) for z in rows])


# -- our samplers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_by_the_compiled_kernels(name):
    pipeline = PIPELINES[name]
    route = "auto" if pipeline.steps[1:] and isinstance(pipeline.steps[1], Typical) and name == "typical" else "kernels"
    report = verify(draws_of(pipeline, route=route), oracle(name), draws=10_000, states=5000)
    assert report.passed, str(report)


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_as_they_are_defined(name):
    pipeline = PIPELINES[name]
    report = verify(draws_of(pipeline, route="reference"), oracle(name), draws=2000, states=1000)
    assert report.passed, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_by_the_compiled_kernels_with_more_power(name):
    pipeline = PIPELINES[name]
    draws = 5000 if name == "typical" else 40_000  # sorts the whole vocabulary
    report = verify(draws_of(pipeline), pipeline, draws=draws, states=20_000, seed=1)
    assert report.passed, str(report)


@pytest.mark.slow
@pytest.mark.parametrize(("temperature", "states", "draws"), [(1.0, 200_000, 100_000), (0.5, 100_000, 40_000)])
def test_tails_of_a_large_vocabulary(temperature, states, draws):
    pipeline = Pipeline([Temperature(temperature)])
    row = ladder(states) * np.float32(temperature)
    law = law_of(row, pipeline)
    found = tails(draws_of(pipeline)(row, draws, 0), law, (8, 12, 16, 20) if states == 200_000 else (8, 12, 16, 18))
    assert all(check.run and check.p_value > LEVEL for check in found), "\n".join(c.verdict() for c in found)


@pytest.mark.parametrize("temperature", [0.0, 0.01, math.inf])
@pytest.mark.parametrize("route", ["kernels", "reference"])
def test_limits_of_the_temperature(temperature, route):
    pipeline = Pipeline([Temperature(temperature)])
    report = verify(draws_of(pipeline, route=route), pipeline, draws=2000, states=1000)
    assert report.passed, str(report)


@pytest.mark.parametrize("vary", ["request", "position", "seed"])
def test_every_part_of_the_key_of_the_noise_is_as_good(vary):
    row = np.random.default_rng(0).normal(0, 2, 300).astype(np.float32)
    tokens = draws_of(vary=vary)(row, 100_000, 0)
    law = law_of(row)
    assert chi_square(tokens, law).p_value > LEVEL
    rows = Law(np.tile(law.p, (2000, 1)), np.zeros((2000, 300), dtype=bool))
    u = pit(tokens[:2000], rows, 0)
    assert independence(u[:-1], np.roll(u, 1)[:-1]).p_value > LEVEL


@pytest.mark.parametrize(
    ("target", "drafts"),
    [
        (Pipeline(), Pipeline()),
        (Pipeline([Temperature(0.5)]), Pipeline([Temperature(2.0)])),
        (Pipeline([Temperature(1.5), TopP(0.9)]), Pipeline([Temperature(0.7), TopK(4)])),
    ],
    ids=["plain", "hot draft", "truncated"],
)
def test_two_speculative_tokens_have_the_joint_law_of_the_target(target, drafts):
    report = verify_speculation(target=target, drafts=drafts, draws=60_000)
    assert report.passed, str(report)


# -- samplers that are wrong ------------------------------------------------------------------------------


def failed(report):
    return {check.name for check in report.failures}


@pytest.mark.parametrize("gap", [16, 18])
def test_float32_gumbel_noise_loses_tails(gap):
    row = ladder(200_000, (gap,))
    (found,) = tails(bad.gumbel_of_groups(bad.double_log_float32)(row, 200_000, 0), law_of(row), [gap])
    assert found.p_value < LEVEL / 100
    lost = {16: 0.242, 18: 0.920}[gap]  # summed exactly over all 2^24 numbers
    hits, expected = (float(text) for text in found.detail.split(",")[0].removesuffix(" are expected").split(" where "))
    assert hits / expected == pytest.approx(1 - lost, abs=4 / math.sqrt(expected))


def test_capped_gumbel_noise_loses_tails():
    row = ladder(200_000)
    found = tails(bad.gumbel_of_groups(bad.capped)(row, 400_000, 0), law_of(row), (16, 20))
    assert max(check.p_value for check in found) < LEVEL / 100


def test_exact_gumbel_noise_drawn_the_same_way_is_right():
    row = ladder(200_000)
    found = tails(bad.gumbel_of_groups(bad.exact)(row, 200_000, 0), law_of(row))
    assert min(check.p_value for check in found) > 1e-3


def test_half_cumulative_sums_are_found():
    report = verify(bad.bfloat16_cumsum, seeds="call", draws=20_000, states=1000)
    assert failed(report) >= {"chi-square", "tail at 8 nats"}


def test_a_dropped_tail_is_found_that_a_cosine_does_not_see():
    report = verify(bad.without_tail, seeds="call", draws=20_000, states=1000)
    assert failed(report) >= {"chi-square", "Kolmogorov-Smirnov"}
    p = np.concatenate([np.full(10, 0.09), np.full(100_000, 1e-6)])
    kept = np.where(p > 1e-3, 0.1, 0.0)
    assert p @ kept / np.linalg.norm(p) / np.linalg.norm(kept) > 0.999999
    tokens = np.random.default_rng(0).integers(0, 10, 1000)
    assert chi_square(tokens, law_of(np.log(p))).p_value < LEVEL


def test_half_probabilities_are_found():
    row = ladder(200_000)
    tokens = bad.float16_multinomial(row, 200_000, 0)
    assert min(check.p_value for check in tails(tokens, law_of(row), (16, 20))) < LEVEL / 100


def test_noise_of_the_row_is_found():
    report = verify(bad.of_the_row, draws=2000, states=1000)
    assert failed(report) == {"batch invariance"}


def test_shared_noise_is_found():
    z = np.random.default_rng(0).normal(0, 1, (2000, 50))
    law = law_of(z)
    u = pit(bad.same_for_neighbours(z, 2000, 3), law, 0)
    assert uniformity(u).p_value > LEVEL
    assert independence(u[::2], u[1::2]).p_value < LEVEL / 100


def test_a_wrong_temperature_is_found():
    report = verify(draws_of(Pipeline([Temperature(0.9)])), draws=20_000, states=1000)
    assert "chi-square" in failed(report)


def test_a_support_with_one_state_more_is_found():
    report = verify(
        draws_of(Pipeline([TopK(51, clamp=True)])), Pipeline([TopK(50, clamp=True)]), draws=2000, states=1000
    )
    assert "support" in failed(report)


def test_the_same_draws_whatever_the_seed_are_found():
    def frozen(logits, n, seed):
        return draws_of()(logits, n, np.arange(n))

    assert failed(verify(frozen, draws=500, states=1000)) >= {"reproducibility"}


def redraw_from_target(tokens, draft_logits, target_logits, **key):
    """What is drawn in place of a rejected draft comes from the target, not from what the draft left over."""
    done = speculate(tokens, draft_logits, target_logits, **key)
    rng = np.random.default_rng(key["position"].sum())
    for i in range(tokens.shape[1]):
        here = np.flatnonzero(done.accepted == i)
        height = np.cumsum(softmax(target_logits[here, i]), axis=1)
        done.tokens[here, i] = (height > rng.random((len(here), 1))).argmax(axis=1)
    return done


def temperature_forgotten(tokens, draft_logits, target_logits, **key):
    """The draft's law is taken to be that of another temperature."""
    return speculate(tokens, draft_logits * 1.5, target_logits, **key)


def never_accepts(tokens, draft_logits, target_logits, **key):
    """Exact, and of no use."""
    return speculate(tokens[:, :0], draft_logits[:, :0], target_logits[:, :1], **key).tokens[:, [0, 0]] * [1, 0] - [
        0,
        1,
    ]


@pytest.mark.parametrize(
    ("sampler", "name"),
    [(redraw_from_target, "chi-square"), (temperature_forgotten, "chi-square"), (never_accepts, "acceptance")],
)
def test_wrong_speculation_is_found(sampler, name):
    assert name in failed(verify_speculation(sampler, drafts=Pipeline([Temperature(2.0)]), draws=20_000))


# -- the statistics ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("states", [3, 40, 400])
def test_p_values_of_chi_square_are_as_often_small_as_they_say(states):
    rng = np.random.default_rng(states)
    p = rng.dirichlet(np.full(states, 0.5))
    law = law_of(np.log(np.maximum(p, 1e-300)))
    found = np.array([chi_square(rng.choice(states, 500, p=law.p), law).p_value for _ in range(2000)])
    for level in (0.5, 0.1, 0.01):
        share = (found <= level).mean()
        assert abs(share - level) < 5 * math.sqrt(level * (1 - level) / 2000) + 0.1 * level, (level, share)


def test_p_values_of_tails_are_not_too_small():
    rng = np.random.default_rng(0)
    law = law_of(ladder(2000, (6, 8)))
    found = [tails(rng.choice(2000, 2000, p=law.p), law, [8])[0].p_value for _ in range(1000)]
    assert np.mean(np.array(found) <= 0.1) < 0.13


@pytest.mark.parametrize("order", ["number", "probability"])
def test_pit_is_uniform(order):
    rng = np.random.default_rng(1)
    z = np.round(rng.normal(0, 2, (4000, 30)))  # many equal
    law = law_of(z)
    tokens = np.array([rng.choice(30, p=p) for p in law.p])
    u = pit(tokens, law, 0, order)
    assert uniformity(u).p_value > 1e-3 and u.min() > 0 and u.max() < 1


def test_states_on_the_edge_are_neither_right_nor_wrong():
    z = np.array([2.0, 1.0, 1.0 - 1e-9, -3.0])
    law = law_of(z, Pipeline([TopK(2)]))
    assert law.undecided.tolist() == [False, True, True, False] and not law.decided
    tokens = np.array([0, 1, 2])
    assert support(tokens, law).p_value == 1 and support(np.array([3]), law).p_value == 0
    assert law_of(np.array([2.0, 1.0, 1.0, 0.0]), Pipeline([TopK(2)])).decided


def test_holm_as_in_his_example():
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.7, 0.9]) == [1.0, 1.0]


def test_a_report_says_what_is_wrong_and_what_was_not_run():
    report = Report(
        (Check("a", "x", 1e-9, 10, "far"), Check("b", "x", math.nan, 0, "no"), Check("c", "y", 1.0, 5, "ok"))
    )
    assert not report.passed and [check.name for check in report.failures] == ["a"]
    assert str(report).splitlines() == [
        "WRONG   a, x, 10 draws: p = 1e-09; far",
        "not run b, x, 0 draws: no",
        "right   c, y, 5 draws: ok",
        "1 of 2 checks say WRONG, at a family-wise level of 1e-06",
    ]
    assert (report + report).adjusted[0] == pytest.approx(4e-9)
    assert Report((Check("c", "y", 1.0, 5, "ok"),)).passed


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda z, n, seed: np.zeros(n), "must return 100 integers; got float64"),
        (lambda z, n, seed: np.zeros(n + 1, int), "must return 100 integers; got int64 of shape"),
        (lambda z, n, seed: np.full(n, -1), "must return numbers of the 1000 states; got -1 to -1"),
    ],
)
def test_samplers_that_return_something_else(draw, message):
    with pytest.raises(ValueError, match=message) as caught:
        verify(draw, draws=100, states=1000)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_example_of_the_docs(capsys):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/exactness.md").read_text(), re.DOTALL)
    exec(compile(program, "docs/exactness.md", "exec"), {})
    assert "right by all" in capsys.readouterr().out


def test_the_table_of_the_docs_is_that_of_the_results():
    results = json.loads((ROOT / "benchmarks/results/exactness.json").read_text())
    text = (ROOT / "docs/exactness.md").read_text().split("<!-- exactness -->")[1]
    for name, entry in results["samplers"].items():
        assert f"| {name} | {'right' if entry['passed'] else '**wrong**'} |" in text
        assert not name.startswith("logitherm") or entry["passed"]


def test_options_are_checked():
    with pytest.raises(ValueError, match='seeds: must be "request" or "call"'):
        verify(draws_of(), seeds="none")


def test_a_sampler_of_one_seed_a_call_is_not_asked_for_batch_invariance():
    def draw(logits, n, seed):
        assert np.ndim(seed) == 0
        return draws_of()(logits, n, seed)

    report = verify(draw, seeds="call", draws=500, states=1000)
    assert report.passed and [check.name for check in report.checks if not check.run][-1] == "batch invariance"
