"""Agents with a table: targets, temperatures of every kind, masks, limits and errors."""

import math

import numpy as np
import pytest

import logitherm
from logitherm.exploration import SoftQLearning, tabular
from logitherm.exploration.tabular import TARGETS
from logitherm.thermostat import LinearSchedule, RelativeToGap, SetPoint

INF = math.inf
Q = np.array([[1.0, 0.2, -0.5, 0.9], [0.0, 0.0, 0.0, 0.0], [3.0, 1.0, 2.0, 0.0]])


def agent(**options):
    made = SoftQLearning(*Q.shape, **{"discount": 0.5, "learning_rate": 0.5, **options})
    made.q_[:] = Q
    return made


@pytest.mark.parametrize("state", range(3))
@pytest.mark.parametrize("t", [0.0, 0.05, 0.7, INF])
def test_the_policy_is_softmax(state, t):
    assert np.allclose(agent(temperature=t).policy(state), logitherm.softmax(Q[state], t), rtol=1e-14)
    masked = np.where([1, 0, 1, 0], Q[state], -INF)
    assert np.allclose(agent(temperature=t).policy(state, [1, 0, 1, 0]), logitherm.softmax(masked, t), rtol=1e-14)


def test_actions_have_their_probabilities():
    made = agent(temperature=0.5, seed=1)
    p = logitherm.softmax(Q[0], 0.5)
    counts = np.bincount([made.act(0) for _ in range(20_000)], minlength=4)
    assert np.abs(counts / 20_000 - p).max() < 0.012
    assert made.entropy_ == pytest.approx(float(logitherm.entropy(Q[0], 0.5)), rel=1e-14)
    assert {made.act(0, [0, 1, 1, 0]) for _ in range(200)} == {1, 2}
    assert made.greedy(0) == 0 and made.greedy(0, [0, 1, 1, 1]) == 3


def test_a_blind_share_on_top():
    made = agent(temperature=0, epsilon=0.2)
    assert np.allclose(made.policy(0), [0.85, 0.05, 0.05, 0.05])
    assert np.allclose(made.policy(0, [1, 1, 0, 0]), [0.9, 0.1, 0, 0])
    made.act(0)
    assert made.entropy_ == pytest.approx(-0.85 * math.log(0.85) - 0.15 * math.log(0.05))
    cooling = agent(temperature=0, epsilon=LinearSchedule(1.0, 0.0, steps=2))
    found = []
    for _ in range(3):
        found.append(cooling.policy(0)[0])
        cooling.act(0)
    assert np.allclose(found, [0.25, 0.625, 1.0])


@pytest.mark.parametrize("mask", [None, [1, 1, 0, 1]])
def test_targets(mask):
    t, row = 0.7, Q[2] if mask is None else np.where(mask, Q[2], -INF)
    count = 4 if mask is None else 3
    soft = -float(logitherm.free_energy(row, t))
    values = {
        "max": 3.0,
        "soft": soft,
        "mellowmax": soft - t * math.log(count),
        "expected": -float(logitherm.mean_energy(row, t)),
    }
    for target, value in values.items():
        made = agent(temperature=t, target=target)
        assert made.value(2, mask) == pytest.approx(value, rel=1e-13)
        error = made.update(0, 1, reward=0.3, next_state=2, mask=mask)
        assert error == pytest.approx(0.3 + 0.5 * value - 0.2, rel=1e-12)
        assert made.q_[0, 1] == pytest.approx(0.2 + 0.5 * error, rel=1e-13)
        assert np.array_equal(np.delete(made.q_.ravel(), 1), np.delete(Q.ravel(), 1))


def test_expected_is_under_the_policy_with_its_blind_share():
    made = agent(temperature=0.7, epsilon=0.3, target="expected")
    assert made.value(2) == pytest.approx(float(made.policy(2) @ Q[2]), rel=1e-14)


@pytest.mark.parametrize("target", TARGETS)
def test_cold_targets_are_the_largest_value(target):
    assert agent(temperature=0, target=target).value(2) == 3.0


def test_what_follows_an_end():
    """Nothing, unless the episode was only cut short."""
    for ends, value in (({"terminated": True}, 0.0), ({"truncated": True}, 3.0), ({}, 3.0)):
        assert agent(target="max").update(0, 0, 1.0, 2, **ends) == pytest.approx(1.0 + 0.5 * value - 1.0)
    both = agent(target="max").update(0, 0, 1.0, 2, terminated=True, truncated=True)
    assert both == 0.0


def test_schedules_count_steps_or_episodes():
    made = agent(temperature=LinearSchedule(1.0, 0.0, steps=4))
    found = []
    for _ in range(6):
        made.act(0)
        found.append(made.temperature_)
        made.update(0, 0, 0.0, 1, terminated=True)
    assert found == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    made = agent(temperature=LinearSchedule(1.0, 0.0, steps=2), clock="episodes")
    found = []
    for i in range(6):
        made.act(0)
        found.append(made.temperature_)
        made.update(0, 0, 0.0, 1, truncated=i % 2 == 1)
    assert found == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]


def test_a_temperature_for_every_state():
    made = agent(temperature=np.array([0.1, 1.0, INF]))
    for state, t in enumerate((0.1, 1.0, INF)):
        made.act(state)
        assert made.temperature_ == t


def test_an_entropy_is_held():
    for share in (0.05, 0.3, 0.9):
        made = agent(temperature=SetPoint(entropy=share * math.log(4)), target="expected")
        for step in range(50):
            made.act(step % 3)
            expected = math.log(4) if (made.q_[step % 3] == made.q_[step % 3, 0]).all() else share * math.log(4)
            assert made.entropy_ == pytest.approx(expected, abs=1e-13)
            made.update(step % 3, step % 4, 0.1 * step, (step + 1) % 3)


def test_a_row_that_stays_is_solved_once(monkeypatch):
    solved = []
    solve = tabular.temperature_of_entropy
    monkeypatch.setattr(tabular, "temperature_of_entropy", lambda *args: (solved.append(args), solve(*args))[1])
    made = agent(temperature=SetPoint(entropy=0.5), target="max")
    for _ in range(5):
        made.act(0)
    assert len(solved) == 1
    made.update(0, 0, 3.0, 1)
    made.act(0)
    made.act(0, [1, 1, 0, 1])
    assert len(solved) == 3 and made.entropy_ == pytest.approx(0.5, abs=1e-13)


def test_any_temperature_is_asked():
    held = agent(temperature=SetPoint(top_probability=0.5))
    assert held.policy(0).max() == pytest.approx(0.5, abs=1e-14)
    strict = agent(temperature=SetPoint(entropy=1.0, out_of_range="raise"))
    assert strict.policy(0).sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="entropy: must lie between its values"):
        strict.policy(1)

    class Broken:
        def resolve(self, logits, step=None):
            return np.float64(-1.0)

    with pytest.raises(ValueError, match=r"temperature: must lie in \[0, inf\]; .* gave -1.0 for state 0"):
        agent(temperature=Broken()).act(0)


@pytest.mark.parametrize("target", TARGETS)
def test_some_temperatures_have_no_unit(target):
    """Rewards 1024 times as large change nothing about what is done, digit for digit; at a fixed T they do."""

    def actions(temperature, unit):
        made = SoftQLearning(3, 4, temperature=temperature, target=target, seed=3)
        rewards, found, state = np.random.default_rng(0), [], 0
        for _ in range(300):
            action = made.act(state)
            following = (state + action) % 3
            made.update(state, action, unit * (rewards.random() - 0.3 * action), following)
            found.append(action)
            state = following
        return found

    for free in (RelativeToGap(0.3), SetPoint(entropy=0.6)):
        assert actions(free, 1.0) == actions(free, 1024.0)
    assert actions(0.3, 1.0) != actions(0.3, 1024.0)


def test_the_seed_is_all_the_chance_there_is():
    def actions(seed):
        made = agent(temperature=1.0, seed=seed)
        return [made.act(0) for _ in range(50)]

    assert actions(1) == actions(1) != actions(2)
    assert actions(np.random.default_rng(1)) == actions(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SoftQLearning(0, 2), "states, actions: must be at least 1; got 0, 2"),
        (lambda: agent(target="mean"), "target: must be one of max, soft, mellowmax, expected; got 'mean'"),
        (lambda: agent(clock="days"), "clock: must be 'steps' or 'episodes'; got 'days'"),
        (lambda: agent(learning_rate=0.0), "learning_rate, discount: must lie in"),
        (lambda: agent(discount=1.1), "learning_rate, discount: must lie in"),
        (lambda: agent(epsilon=2.0), r"epsilon: must lie in \[0, 1\]; got 2.0"),
        (lambda: agent(initial=math.nan), "initial: must be finite; got nan"),
        (lambda: agent(temperature=-1.0), r"temperature: must lie in \[0, inf\]; got -1.0"),
        (lambda: agent(temperature=np.ones(2)), r"temperature: must be a number or one a state, \(3,\)"),
        (lambda: agent().act(3), r"state: must lie in \[0, 3\); got 3"),
        (lambda: agent().act(-1), r"state: must lie in \[0, 3\); got -1"),
        (lambda: agent().act(0, [0, 0, 0, 0]), "mask: must have one entry an action, not all 0"),
        (lambda: agent().act(0, [1, 1]), "mask: must have one entry an action"),
        (lambda: agent().update(0, 4, 0.0, 1), r"action: must lie in \[0, 4\); got 4"),
        (lambda: agent().update(0, 0, math.nan, 1), "reward: must be finite; got nan"),
        (lambda: agent(temperature=INF).update(0, 0, 0.0, 1), "temperature: must be finite for target 'soft'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
