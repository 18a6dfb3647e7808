"""Penalties against their definitions, token by token."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitherm.generation import DRY, FrequencyPenalty, Pipeline, PresencePenalty, RepetitionPenalty, Temperature, TopK

STATES = 6
TOKENS = st.lists(st.integers(0, STATES - 1), max_size=30)
Z = np.array([[1.5, -0.5, 0.0, 2.0, -3.0, 0.25]])


def after(step, history, z=Z, **more):
    return Pipeline([step]).process(z, history=[history], **more)[0]


@given(history=TOKENS, prompt=st.integers(0, 30), window=st.one_of(st.none(), st.integers(1, 10)))
def test_the_definitions(history, prompt, window):
    prompt = min(prompt, len(history))
    for scope in ("all", "generated"):
        counted = history if scope == "all" else history[prompt:]
        counted = counted if window is None else counted[-window:]
        count = [counted.count(i) for i in range(STATES)]
        expected = [v if not c else v / 1.5 if v > 0 else v * 1.5 for v, c in zip(Z[0], count)]
        more = {"scope": scope, "window": window}
        assert np.allclose(after(RepetitionPenalty(1.5, **more), history, prompt_lengths=prompt), expected)
        found = after(PresencePenalty(0.5, **more), history, prompt_lengths=prompt)
        assert np.allclose(found, Z[0] - 0.5 * (np.array(count) > 0))
        found = after(FrequencyPenalty(0.5, **more), history, prompt_lengths=prompt)
        assert np.allclose(found, Z[0] - 0.5 * np.array(count))


def dry(history, multiplier, base, allowed, breakers):
    """Every earlier place, and how many of the last tokens stand before it."""
    longest = {}
    n = len(history)
    for i in range(1, n):
        length = 0
        while (
            length < i
            and history[i - 1 - length] == history[n - 1 - length]
            and history[n - 1 - length] not in breakers
        ):
            length += 1
        if history[i] not in breakers:
            longest[history[i]] = max(longest.get(history[i], 0), length)
    return {t: multiplier * base ** (k - allowed) for t, k in longest.items() if k >= allowed}


@given(
    history=st.lists(st.integers(0, 2), max_size=25),
    allowed=st.integers(1, 3),
    window=st.one_of(st.none(), st.integers(1, 12)),
    breakers=st.sets(st.integers(0, 5), max_size=2),
)
def test_dry(history, allowed, window, breakers):
    part = history if window is None else history[-window:]
    found = after(DRY(0.8, 1.75, allowed, window, tuple(breakers)), history)
    expected = Z[0].copy()
    for token, less in dry(part, 0.8, 1.75, allowed, breakers).items():
        expected[token] -= less
    assert np.allclose(found, expected)


def test_every_request_has_its_own(rng):
    """Its history, its penalty, its prompt; padding does not count."""
    z = rng.normal(size=(3, STATES))
    history = np.array([[0, 1, 1, -1], [2, 2, 2, 2], [5, -1, -1, -1]])
    steps = [RepetitionPenalty(np.array([1.0, 1.2, 2.0])), FrequencyPenalty([0.1, 0.2, 0.3], scope="all"), DRY(0.8)]
    together = Pipeline(steps).process(z, history=history, prompt_lengths=np.array([1, 0, 0]))
    for row in range(3):
        alone = (
            Pipeline(steps)
            .take(row, 3)
            .process(z[row : row + 1], history=[[t for t in history[row] if t >= 0]], prompt_lengths=[[1, 0, 0][row]])
        )
        assert np.array_equal(together[row], alone[0])
    assert (together[2] != z[2]).sum() == 1


def test_the_logits_given_are_left_alone():
    torch = pytest.importorskip("torch")
    z = Z.copy()
    for given_ in (z, torch.as_tensor(z)):
        Pipeline([RepetitionPenalty(2.0), PresencePenalty(1.0, scope="all"), DRY(1.0)]).process(
            given_, history=[[0, 1] * 5]
        )
        assert np.array_equal(np.asarray(given_), Z)


def test_forbidden_stays_forbidden():
    z = np.array([[1.0, -math.inf, 0.0]])
    steps = [RepetitionPenalty(2.0), PresencePenalty(-1.0, scope="all"), FrequencyPenalty(-1.0, scope="all"), DRY(1.0)]
    assert Pipeline(steps).process(z, history=[[1] * 9])[0, 1] == -math.inf


def test_a_repetition_penalty_must_see_the_zero_of_the_logits():
    with pytest.raises(
        ValueError, match=r"repetition penalty must come before any temperature.*; move it to the front"
    ):
        Pipeline([Temperature(0.7), RepetitionPenalty(1.1)])
    Pipeline([RepetitionPenalty(1.1), TopK(2), Temperature(0.7)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RepetitionPenalty(1.1, scope="prompt"), "scope: must be one of all, generated; got 'prompt'; 'all'"),
        (lambda: PresencePenalty(1.1, window=0), "window: must be at least 1; got 0; leave it out for all tokens"),
        (lambda: DRY(-1), "multiplier: must be finite and at least 0.*; got -1, 1.75, 2; 0.8, 1.75 and 2 are usual"),
        (
            lambda: after(RepetitionPenalty(0.0), [0]),
            "penalty: must be finite and positive; request 0 has 0; 1 is none",
        ),
        (lambda: after(PresencePenalty(math.nan), [0]), "penalty: must be finite; request 0 has nan; 0 is none"),
        (
            lambda: Pipeline([DRY(1.0), RepetitionPenalty(1.1)]).sample(Z, seed=0, position=0),
            "history: must be given for DRY, RepetitionPenalty; got none; pass the tokens of every request",
        ),
        (
            lambda: Pipeline([RepetitionPenalty(1.1)]).sample(
                Z, seed=0, position=0, history=[[1], [2]], on_error="row"
            ),
            r"history: must have one entry a request, 1; got 2; \[\] is one without",
        ),
        (
            lambda: after(PresencePenalty(1.0), [0, 1], prompt_lengths=[1, 2]),
            r"prompt_lengths: must be one number or one a request; got shape \(2,\); mend it",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        make()
    assert "\n" not in str(caught.value)
