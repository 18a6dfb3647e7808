"""Texts of a model whose truth is known, their numbers, and the temperatures chosen by them."""

import json
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats

from logitherm.generation.choose import TURNING_GRID, at_entropy, best_score, best_vote, choose_temperature
from logitherm.generation.choose import turning_point as turn
from logitherm.generation.held_out import held_out
from logitherm.generation.resampling import interval, prompt_weights, ratio
from logitherm.generation.runs import Runs, draw_texts, text_logits
from logitherm.generation.sweep import Scored, measure, score_runs

WORDS = 3 * np.random.default_rng(0).normal(size=(20, 20))
PROMPTS = [[i] for i in range(10)]


def chain(sequences):
    """A Markov chain."""
    return WORDS[[sequence[-1] for sequence in sequences]]


def made(entropy):
    """Runs with a given entropy, (temperatures, prompts), and nothing else."""
    entropy = np.asarray(entropy, dtype=float)[..., None]
    t = np.round(0.1 * np.arange(1, len(entropy) + 1), 1)
    sums = {"entropy": 4 * entropy}
    return Runs(t, [[0]] * entropy.shape[1], [], np.full(entropy.shape, 4), sums)


# -- drawing -----------------------------------------------------------------------------------------------


def test_numbers_of_drawn_texts_are_those_of_their_tokens():
    runs = draw_texts(chain, PROMPTS, [0.5, 2.0], samples=3, tokens=7, batch=8)
    for t, temperature in enumerate(runs.temperatures):
        for p, prompt in enumerate(PROMPTS):
            for s, text in enumerate(runs.texts[t][p]):
                rows = WORDS[[prompt[-1], *text[:-1]]]
                log_p = scipy.special.log_softmax(rows / temperature, axis=1)
                assert runs.counts[t, p, s] == len(text) == 7
                assert runs.sums["surprise"][t, p, s] == pytest.approx(-log_p[np.arange(7), text].sum())
                expected = scipy.stats.entropy(np.exp(log_p), axis=1).sum()
                assert runs.sums["entropy"][t, p, s] == pytest.approx(expected)
                own = scipy.special.log_softmax(rows, axis=1)[np.arange(7), text]
                assert runs.sums["model_surprise"][t, p, s] == pytest.approx(-own.sum())


def test_texts_do_not_depend_on_the_batch_or_on_the_grid():
    whole = draw_texts(chain, PROMPTS, [0.5, 1.0, 2.0], samples=2, tokens=6)
    parts = draw_texts(chain, PROMPTS, [1.0], samples=2, tokens=6, batch=3)
    assert whole.texts[1] == parts.texts[0]
    assert draw_texts(chain, PROMPTS, [1.0], samples=2, tokens=6, seed=1).texts != parts.texts


def test_drawn_tokens_follow_the_law():
    runs = draw_texts(chain, [[3]], [0.7], samples=4000, tokens=1, batch=4000)
    seen = np.bincount([text[0] for text in runs.texts[0][0]], minlength=20)
    expected = 4000 * scipy.special.softmax(WORDS[3] / 0.7)
    large = expected >= 5
    seen, expected = (np.append(v[large], v[~large].sum()) for v in (seen, expected))
    assert scipy.stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 1e-4


def test_a_stop_token_ends_a_text_and_leaves_the_batch():
    asked = []

    def next_logits(sequences):
        asked.append(len(sequences))
        return np.where(np.arange(20) == 7, 50.0, WORDS[[s[-1] for s in sequences]])

    runs = draw_texts(next_logits, PROMPTS, [1.0], samples=1, tokens=5, stop=7)
    assert runs.texts[0] == [[[]]] * 10
    assert (runs.counts == 1).all() and asked == [10]


def test_progress_is_told():
    told = []
    draw_texts(chain, PROMPTS, [0.5, 1.0], samples=2, tokens=3, batch=7, tell=told.append)
    assert told == sorted(told) and told[-1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [1.0]), "prompts: must be one at least"),
        (([[]], [1.0]), "none empty"),
        (([[0]], []), "temperatures: must be different"),
        (([[0]], [1.0, 1.0]), "temperatures: must be different"),
        (([[0]], [-1.0]), "at least 0"),
        (([[0]], [math.nan]), "at least 0"),
    ],
)
def test_drawing_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_texts(chain, *arguments)


def test_text_logits_are_of_every_token_but_the_first():
    texts = [[1, 2, 3], [4], [5, 6]]
    found = [
        (int(i), tuple(z), int(y))
        for text, logits, token in text_logits(chain, texts, batch=2)
        for i, z, y in zip(text, logits, token)
    ]
    expected = [(0, tuple(WORDS[1]), 2), (0, tuple(WORDS[2]), 3), (2, tuple(WORDS[5]), 6)]
    assert sorted(found) == sorted(expected)


# -- numbers -----------------------------------------------------------------------------------------------


def test_measured_numbers_by_hand():
    runs = draw_texts(chain, PROMPTS, [0.3, 1.0, 3.0], samples=4, tokens=12)
    found = measure(runs, decode=lambda tokens: "".join(chr(97 + token) for token in tokens))
    curves = found.curves
    surprise = runs.sums["model_surprise"].sum(axis=(1, 2)) / runs.counts.sum(axis=(1, 2))
    np.testing.assert_allclose(curves["model_surprise"].value, surprise)
    np.testing.assert_allclose(curves["perplexity"].value, np.exp(surprise))
    np.testing.assert_allclose(
        curves["excess"].value, surprise - runs.sums["model_entropy"].sum((1, 2)) / runs.counts.sum((1, 2))
    )
    assert found.counted == [48] * 10
    for curve in curves.values():
        assert (curve.low <= curve.value).all() and (curve.value <= curve.high).all()
    for name in ("entropy", "surprise", "excess", "distinct_2"):
        assert (np.diff(curves[name].value) > 0).all(), name
    for name in ("compression_ratio", "self_bleu", "repeated_4"):
        assert (np.diff(curves[name].value) < 0).all(), name
    assert curves["loop_rate"].value[2] == 0 and curves["loop_rate"].high[2] > 0.05, "of 40 texts none, so far"
    assert curves["excess"].low[1] < 0 < curves["excess"].high[1], "at T = 1 the text is as surprising as expected"
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert json.loads(text)["curves"]["entropy"]["value"] == curves["entropy"].value.tolist()


def test_one_prompt_has_no_intervals():
    found = measure(draw_texts(chain, [[0]], [0.5, 1.0], samples=2, tokens=4))
    assert np.isnan(found.curves["entropy"].low).all()
    assert found.to_dict()["curves"]["entropy"]["low"] == [None, None]


@pytest.mark.parametrize("prompts", [8, 20, 60])
def test_intervals_cover(prompts):
    """Of normal prompts, 95 % within what 600 trials can tell."""
    rng = np.random.default_rng(prompts)
    weights = prompt_weights(prompts, 600, seed=0)
    hits = 0
    for _ in range(600):
        values = rng.normal(size=(1, prompts))
        ones = np.ones_like(values)
        low, high = interval(values.mean(axis=1), ratio(values, ones, weights), 0.95, prompts)
        hits += bool(low[0] <= 0 <= high[0])
    assert 0.92 < hits / 600 < 0.99


def test_scores_and_votes():
    runs = draw_texts(chain, PROMPTS, [0.5, 2.0], samples=4, tokens=3)
    asked = [f"prompt {i}" for i in range(10)]

    def scorer(prompt, text):
        assert prompt in asked
        return text[:1], float(text[:1] == "a")

    scored = score_runs(runs, scorer, asked, lambda tokens: "a" if tokens[0] < 10 else "b")
    first = np.array([[[text[0] < 10 for text in p] for p in t] for t in runs.texts])
    np.testing.assert_array_equal(scored.scores, first)
    curves = measure(runs, scored=scored, k=2).curves
    np.testing.assert_allclose(curves["score"].value, first.mean(axis=(1, 2)))
    wrong = 4 - first.sum(axis=2)
    np.testing.assert_allclose(curves["best_of_2"].value, (1 - wrong * (wrong - 1) / 12).mean(axis=1))
    votes = np.sign(first.mean(axis=2) - 0.5) / 2 + 0.5
    np.testing.assert_allclose(curves["vote"].value, votes.mean(axis=1))


@pytest.mark.parametrize("said", [None, "x", math.nan, (1, 2, 3), ("a", "b")])
def test_a_scorer_has_to_return_numbers(said):
    runs = draw_texts(chain, [[0]], [1.0], samples=1, tokens=1)
    with pytest.raises(ValueError, match="scorer: must return a finite number"):
        score_runs(runs, lambda prompt, text: said, ["p"], str)


def test_a_scorer_that_raises_is_named_with_the_prompt():
    runs = draw_texts(chain, PROMPTS[:2], [1.0], samples=1, tokens=1)

    def fails_late(prompt, text):
        return {"p": 1.0}[prompt]

    with pytest.raises(
        ValueError, match=r"scorer: fails_late raised KeyError for prompt 2 \('q'\): 'q'; mend it"
    ) as found:
        score_runs(runs, fails_late, ["p", "q"], str)
    assert isinstance(found.value.__cause__, KeyError)
    with pytest.raises(ValueError, match=r"the answer hashable; mine:score returned \(\['a'\], 1\) for prompt 1"):
        score_runs(runs, lambda prompt, text: (["a"], 1), ["p", "q"], str, name="mine:score")


# -- choices -----------------------------------------------------------------------------------------------


def test_the_turning_point_is_the_first_bend_upward():
    """log H concave up to 0.6 and convex from there; and without any bend the last but one point."""
    t = np.round(0.1 * np.arange(1, 15), 1)
    log_h = np.where(t <= 0.6, -((t - 0.6) ** 2), 3 * (t - 0.6) ** 2)
    runs = made(np.exp(log_h)[:, None] * [1.0, 2.0, 3.0])
    bend = np.gradient(np.gradient(log_h, t), t)[1:-1] > 0
    expected = t[1:-1][bend][0]
    choice = turn(runs)
    assert choice.temperature == expected and abs(expected - 0.6) < 0.11
    assert choice.interval == (expected, expected), "entropies of prompts in proportion all bend there"
    assert choice.shares[list(t).index(expected)] == 1.0
    assert turn(runs, shift=0.1).temperature == pytest.approx(expected + 0.1)
    never = made(np.exp(-((t - 2) ** 2))[:, None] * [1.0, 2.0])
    assert turn(never).temperature == 1.3


def test_the_turning_point_refuses():
    for t in ([0.1, 0.2, 0.3, 0.4], [0.0, 0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4, math.inf]):
        with pytest.raises(ValueError, match="five positive, finite temperatures"):
            turn(draw_texts(chain, [[0]], t, samples=1, tokens=1))


def test_an_entropy_is_met_between_points():
    runs = made(np.linspace(0.2, 2.0, 10)[:, None] * [0.5, 1.5])
    assert at_entropy(runs, 1.1).temperature == pytest.approx(0.55)
    assert at_entropy(runs, 3.0).temperature is None and at_entropy(runs, 3.0).interval is None
    with pytest.raises(ValueError, match="chose none"):
        at_entropy(runs, 3.0).resolve(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="entropy: must be positive"):
        at_entropy(runs, 0.0)


def test_the_best_temperature_and_its_luck():
    runs = made(np.ones((4, 30)))
    rng = np.random.default_rng(0)
    scores = rng.random((4, 30, 4)) < np.array([0.1, 0.2, 0.8, 0.3])[:, None, None]
    choice = best_score(runs, Scored(scores))
    assert choice.temperature == 0.3 and choice.shares[2] > 0.99
    assert choice.value == pytest.approx(scores.mean(axis=(1, 2)).tolist())
    level = best_score(runs, Scored(rng.random((4, 30, 4)) < 0.5), k=4)
    assert max(level.shares) < 0.95, "where all are equal, the bootstrap says so"
    assert level.interval[0] < level.interval[1]
    with pytest.raises(ValueError, match="must have answers"):
        best_vote(runs, Scored(scores))


def test_temperatures_that_tie_share_the_replicates():
    """Best of 2 is 1 at 0.2 and 0.4 for every prompt, and never elsewhere."""
    runs = made(np.ones((5, 12)))
    scores = np.zeros((5, 12, 2))
    scores[[1, 3], :, 0] = 1
    scores[0, ::2, 0] = 1
    choice = best_score(runs, Scored(scores), k=2)
    assert choice.temperature == 0.2 and choice.tied == [0.4] and choice.interval == (0.2, 0.4)
    assert choice.shares == pytest.approx([0, 0.5, 0, 0.5, 0], abs=1e-3)
    assert choice.to_dict()["tied"] == [0.4]
    assert best_score(made(np.ones((5, 1))), Scored(scores[:, :1]), k=2).tied == [0.2, 0.4], "a single prompt ties, too"


def test_of_those_that_tie_the_one_with_more_support_is_chosen():
    """0.1 and 0.2 have one mean; 0.3 has a rival's luck where 0.1 has its own, and takes from it alone."""
    scores = np.zeros((3, 12, 1))
    scores[0, :6], scores[1] = 1.0, 0.5
    scores[2, :6, 0] = [1, 1, 1, 1, 1, 0]
    choice = best_score(made(np.ones((3, 12))), Scored(scores))
    best = int(np.argmax(choice.shares[:2]))
    assert choice.temperature == [0.1, 0.2][best] and choice.tied == [[0.2], [0.1]][best]
    assert choice.interval[0] == 0.1 and choice.interval[1] >= 0.2
    assert sum(choice.shares) == pytest.approx(1)


def test_equal_means_that_rounding_tells_apart_tie():
    scores = np.stack([np.full((30, 1), 0.1), np.roll([0.3] * 10 + [0.0] * 20, 1)[:, None], np.zeros((30, 1))])
    choice = best_score(made(np.ones((3, 30))), Scored(scores))
    assert {choice.temperature, *choice.tied} == {0.1, 0.2}


def test_where_all_temperatures_tie_there_is_no_choice():
    choice = best_score(made(np.ones((4, 9))), Scored(np.zeros((4, 9, 2))))
    assert choice.temperature is None and choice.interval is None and choice.tied == [0.1, 0.2, 0.3, 0.4]
    assert choice.shares == [0.25] * 4
    with pytest.raises(ValueError, match="all temperatures tie"):
        choice.resolve(np.zeros((1, 2)))
    assert best_score(made(np.ones((1, 9))), Scored(np.zeros((1, 9, 2)))).temperature == 0.1, "one is no tie"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"by": "entropy"}, "entropy: must be positive"),
        ({"by": "entropy", "entropy": -1.0}, "entropy: must be positive"),
        ({"by": "entropy", "entropy": 1.0, "temperatures": [1.0]}, "temperatures: must be two or more"),
        ({"by": "entropy", "entropi": 1.0}, "entropi: must be an argument of by='entropy', one of entropy, confidence"),
        ({"by": "turning_point", "k": 2}, "k: must be an argument of by='turning_point', one of shift"),
        ({"by": "turning_point", "temperatures": [0.5, 1.0]}, "temperatures: must be five positive, finite .* got 2"),
        ({"by": "turning_point", "temperatures": [0, 1, 2, 3, 4]}, "got 0 among them"),
        ({"by": "best_of", "score": len, "k": 9}, "k: must be a whole number from 1 to 8"),
        ({"by": "best_of", "score": len, "k": 0}, "k: must be a whole number"),
        ({"by": "best_of", "k": 2}, "score: must be given"),
        ({"by": "vote", "score": len, "k": 2}, "k: must be an argument of by='vote'"),
        ({"by": "vote", "score": len, "confidence": 95}, "confidence: must lie in"),
        ({"by": "turning_point", "replicates": -1}, "replicates: must be a whole number"),
        ({"by": "perplexity", "seeds": 1}, "seeds: must be an argument of by='perplexity', one of confidence"),
        ({"by": "turning_point", "samples": 0}, "samples: must be 1 at least"),
    ],
)
def test_what_a_rule_lacks_is_said_before_the_model_is_called(asked, message):
    def never(sequences):
        raise AssertionError("the model was called")

    with pytest.raises(ValueError, match=message) as found:
        choose_temperature(never, PROMPTS, **asked)
    assert "\n" not in str(found.value)


def test_a_vote_can_want_another_temperature_than_a_single_try():
    runs = made(np.ones((2, 4)))
    answers = [[["r", "x", "y"]] * 4, [["r", "r", "x"], ["r", "r", "x"], ["x", "x", "x"], ["x", "x", "x"]]]
    scores = np.array([[[a == "r" for a in p] for p in t] for t in answers], dtype=float)
    assert best_score(runs, Scored(scores)).tied == [0.1, 0.2], "a single try fares equally"
    assert best_vote(runs, Scored(scores, answers)).temperature == 0.2


def test_held_out_text_gives_back_the_temperature_it_was_drawn_at():
    inside = 0
    for seed in range(8):
        texts = draw_texts(chain, PROMPTS, [1.3], samples=2, tokens=40, seed=seed).texts[0]
        known = [prompt + text for prompt, of in zip(PROMPTS, texts) for text in of]
        choice = held_out(chain, known, temperatures=[0.5, 1.3, 3.0], replicates=300)
        inside += choice.interval[0] <= 1.3 <= choice.interval[1]
        assert choice.value[1] == min(choice.value)
    assert inside >= 6
    assert choice.shares is None and choice.at_bound is None


def test_held_out_text_in_blocks_is_the_same(monkeypatch):
    from logitherm.generation import held_out as module

    texts = draw_texts(chain, PROMPTS, [1.0], samples=1, tokens=9).texts[0]
    known = [prompt + text for prompt, (text,) in zip(PROMPTS, texts)]
    whole = held_out(chain, known, temperatures=[1.0])
    monkeypatch.setattr(module, "BLOCK", 500)
    assert len(list(module._blocks(module.text_logits(chain, known)))) == 3, "blocks of 30 rows of 20 states"
    parts = held_out(chain, known, temperatures=[1.0])
    assert parts.temperature == pytest.approx(whole.temperature)
    assert parts.interval == pytest.approx(whole.interval)


def test_held_out_text_without_an_optimum():
    certain = [[i, *[int(WORDS[i].argmax())]] for i in range(5)]
    choice = held_out(chain, certain)
    assert choice.temperature == 0.0 and choice.at_bound == "zero" and choice.interval is None
    with pytest.raises(ValueError, match="two tokens or more"):
        held_out(chain, [[1]])


def test_choosing_in_one_call():
    by = {
        "turning_point": {"temperatures": TURNING_GRID},
        "entropy": {"entropy": 1.0, "temperatures": [0.2, 0.5, 1.0, 2.0]},
        "best_of": {"score": lambda runs: Scored(runs.sums["entropy"]), "k": 2, "temperatures": [0.5, 1.0]},
    }
    for name, options in by.items():
        choice = choose_temperature(chain, PROMPTS, by=name, samples=2, tokens=8, **options)
        assert choice.rule == name
        assert choice.resolve(np.zeros((1, 2))) == choice.temperature
        assert json.loads(json.dumps(choice.to_dict(), allow_nan=False))["prompts"] == 10
    texts = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert choose_temperature(chain, texts, by="perplexity").rule == "perplexity"
    with pytest.raises(ValueError, match="by: must be one of"):
        choose_temperature(chain, PROMPTS, by="luck")
    with pytest.raises(ValueError, match="score: must be given"):
        choose_temperature(chain, PROMPTS, by="vote")
