"""Answers as the interfaces give them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion

import logitherm
from logitherm.calibration import TopAnswers, TruncatedTemperatureScaling
from logitherm.integrations.logprobs import listed_tokens, scored_tokens

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
