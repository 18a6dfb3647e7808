"""Answers as the interfaces give them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion

import logitherm
from logitherm.calibration import TopAnswers, TruncatedTemperatureScaling
from logitherm.integrations.logprobs import listed_tokens, scored_tokens, teacher_of_prompts

A, B = {"token": "A", "logprob": -0.2}, {"token": "B", "logprob": -2.0}
CHAT = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "A", "refusal": None},
            "logprobs": {"content": [{**A, "top_logprobs": [A, B]}, {**B, "top_logprobs": [A]}], "refusal": None},
        }
    ],
}
COMPLETION = {
    "id": "1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "text": "the cat sat",
            "logprobs": {
                "tokens": ["the", " cat", " sat"],
                "token_logprobs": [None, -0.5, -4.0],
                "top_logprobs": [None, {" cat": -0.5, " dog": -1.5}, {" is": -0.3, " was": -2.0, " sat": -4.0}],
            },
        }
    ],
}


@dataclass
class Logprob:
    """As in vLLM."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    logprobs: list[dict[int, Logprob]] | None


@dataclass
class RequestOutput:
    outputs: list[CompletionOutput]
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None


def test_a_chat_completion():
    assert listed_tokens(CHAT, 2) == {"A": -0.2, "B": -2.0}
    assert listed_tokens(CHAT, 2, 1) == {"A": -0.2}  # B was drawn from beyond the one that is listed
    with pytest.raises(ValueError, match="position: must be one of the 2 tokens of the answer; got 2"):
        listed_tokens(CHAT, 2, 2)
    bare = {"choices": [{"logprobs": {"content": [{**A, "top_logprobs": []}]}}]}
    with pytest.raises(ValueError, match="of the top tokens too"):
        listed_tokens(bare, 2)


def test_the_objects_of_the_openai_client():
    assert listed_tokens(ChatCompletion.model_validate(CHAT), 2) == listed_tokens(CHAT, 2)
    completion = Completion.model_construct(**COMPLETION)
    assert listed_tokens(completion, 2, 1) == {" cat": -0.5, " dog": -1.5}


def test_a_scored_completion():
    log_p, occurred, labels = scored_tokens(COMPLETION, 2)
    np.testing.assert_array_equal(log_p, [[-0.5, -1.5], [-0.3, -2.0]])
    np.testing.assert_array_equal(occurred, [-math.inf, -4.0])
    np.testing.assert_array_equal(labels, [0, 2])


def test_vllm():
    listed = {7: Logprob(-0.1, 1, " A"), 9: Logprob(-3.0, 2, "A"), 11: Logprob(-4.0, 3, "A")}
    answer = RequestOutput([CompletionOutput([listed])], [1, 9, 5], [None, listed, {5: Logprob(-0.4, 1, "x")}])
    assert listed_tokens(answer, 3) == {" A": -0.1, "A": -3.0, "A#2": -4.0}
    assert listed_tokens(answer, 2) == {" A": -0.1, "A": -3.0}  # the drawn token is listed beyond the two
    log_p, occurred, labels = scored_tokens(answer, 2)
    np.testing.assert_array_equal(log_p, [[-0.1, -3.0], [-0.4, -math.inf]])
    np.testing.assert_array_equal(labels, [1, 0])
    np.testing.assert_array_equal(occurred, [-math.inf, -math.inf])


def test_from_answers_to_a_temperature():
    """A text scored by a model that is too cold."""
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(600, 500))
    tokens = (z / 0.7 + rng.gumbel(size=z.shape)).argmax(axis=1)
    log_p = logitherm.log_softmax(z)
    listed = []
    for row, token in zip(log_p, tokens.tolist(), strict=True):
        top = [*np.argsort(-row)[:20].tolist(), token]
        listed.append({i: Logprob(float(row[i])) for i in top})
    answer = RequestOutput([], [0, *tokens.tolist()], [None, *listed])
    rows, occurred, labels = scored_tokens(answer, 20)
    found = TruncatedTemperatureScaling().fit(TopAnswers.of_tokens(rows, states=500, occurred=occurred), labels)
    low, high = found.temperature_bounds_
    assert low <= logitherm.fit_temperature(z, tokens).temperature <= high


@pytest.mark.parametrize("answer", [{}, {"choices": [{"logprobs": None}]}, [1], None])
def test_answers_without_log_probabilities(answer):
    with pytest.raises(ValueError, match="answer: must be an OpenAI chat completion"):
        listed_tokens(answer, 5)
    with pytest.raises(ValueError, match="answer: must be an OpenAI chat completion"):
        scored_tokens(answer, 5)


def asked(log_p, tokens, k):
    """vLLM's prompt_logprobs of a text: the k most probable tokens, and that of the text."""
    listed = [
        {i: Logprob(float(row[i])) for i in [t, *np.argsort(-row)[:k].tolist()]}
        for row, t in zip(log_p, tokens.tolist())
    ]
    return [None, *listed]


def as_sent(listed):
    """What its server sends of that."""
    return json.loads(json.dumps(listed, default=vars))


def test_a_teacher_of_texts():
    """The law of token i belongs to position i - 1, at the temperature that is said; padding says nothing."""
    torch = pytest.importorskip("torch", reason="distillation is PyTorch's")
    from logitherm.distillation import sparse_distillation_loss

    rng = np.random.default_rng(0)
    tokens, z = rng.integers(30, size=(2, 6)), 3 * rng.normal(size=(2, 6, 30))
    log_p = logitherm.log_softmax(z, 0.7)
    texts = [asked(log_p[0, :5], tokens[0, 1:], 4), asked(log_p[1, :3], tokens[1, 1:4], 4)]
    labels = torch.from_numpy(tokens[:, 1:]).clone()
    labels[1, 3:] = -100
    student = torch.tensor(z[:, :-1], requires_grad=True)
    options = {"k": 4, "states": 30, "temperature": 0.7}
    for prompts in (texts, as_sent(texts)):
        teacher = teacher_of_prompts(prompts, **options)
        assert len(teacher) == 2 * 5 and teacher.tokens.shape[1] == 4
        loss = sparse_distillation_loss(student, teacher, temperature=0.7, labels=labels)
        assert abs(loss.item()) < 1e-6
        assert torch.autograd.grad(loss, student)[0].abs().max() < 1e-6
    moved = student.roll(1, dims=1)
    assert sparse_distillation_loss(moved, teacher, temperature=0.7, labels=labels).item() > 0.1
    assert len(teacher_of_prompts(iter(texts), **options, length=9)) == 2 * 8
    with pytest.raises(ValueError, match=r"stored of the teacher \(0.7\); got 1"):
        sparse_distillation_loss(student, teacher, temperature=1.0, labels=labels)
    with pytest.raises(TypeError, match="temperature"):
        teacher_of_prompts(texts, k=4, states=30)


GOOD = {"3": {"logprob": -0.5, "rank": 1}, "4": {"logprob": -2.0, "rank": 2}}


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (
            [None],
            "prompts: must each be a list that begins with None; text 0 is NoneType None; pass the prompt_logprobs",
        ),
        ([[GOOD]], "text 0 is list"),
        ([GOOD], "text 0 is dict"),
        ([[None, GOOD], [None, None]], "position 1 of text 1 has NoneType None"),
        ([[None, {"the": {"logprob": -0.5}, "4": {"logprob": -2.0}}]], "must list token numbers and log-probabilities"),
        ([[None, {"3": {"rank": 1}, "4": {"rank": 2}}]], "position 1 of text 0 has dict"),
        (
            [[None, GOOD, {"3": {"logprob": -0.1}}]],
            "must list 2 tokens everywhere; position 2 of text 0 lists 1; ask for",
        ),
        ([[None, {"3": 12.5, "4": 3.0}]], "log_probabilities: must be of at most 1 in all in a row; row 0 has 2683"),
        ([[None, {"3": -0.5, "99": -3.0}]], r"tokens: must lie in \[0, 50\)"),
        ([[None] + 9 * [GOOD]], "length: must be at least that of the longest text, 10; got 4"),
    ],
)
def test_answers_that_are_no_teacher(prompts, message):
    pytest.importorskip("torch", reason="distillation is PyTorch's")
    with pytest.raises(ValueError, match=message) as caught:
        teacher_of_prompts(prompts, k=2, states=50, temperature=1.0, length=4)
    assert "\n" not in str(caught.value)
