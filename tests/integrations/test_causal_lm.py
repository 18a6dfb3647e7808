"""A language model behind the cache gives what it gives without."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from logitherm.generation.runs import draw_texts  # noqa: E402
from logitherm.integrations.causal_lm import CausalLM  # noqa: E402


def make(kind):
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=30, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0
        )
    else:  # rotary positions, grouped queries
        config = transformers.LlamaConfig(
            vocab_size=30,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)  # so that the context matters
    return model


@pytest.fixture(params=["gpt2", "llama"])
def model(request):
    return make(request.param)


def alone(model, sequence):
    with torch.no_grad():
        return model.eval()(torch.tensor([sequence])).logits[0, -1].numpy()


def test_sequences_of_different_length_are_as_alone(model):
    sequences = [[1, 2, 3, 4], [5], [6, 7]]
    found = CausalLM(model)(sequences).numpy()
    for row, sequence in zip(found, sequences):
        np.testing.assert_allclose(row, alone(model, sequence), rtol=1e-4, atol=1e-4)


def test_the_cache_is_used_and_changes_nothing(model):
    next_logits = CausalLM(model)
    steps = [
        [[1, 2, 3], [4], [5, 6]],
        [[1, 2, 3, 7], [4, 8], [5, 6, 9]],
        [[1, 2, 3, 7, 1], [5, 6, 9, 2]],  # the second is done
        [[5, 6, 9, 2, 3]],
    ]
    for used, sequences in enumerate(steps):
        found = next_logits(sequences).numpy()
        assert next_logits.steps == used, "the route has to be that of the cache"
        for row, sequence in zip(found, sequences):
            np.testing.assert_allclose(row, alone(model, sequence), rtol=1e-4, atol=1e-4)
    next_logits([[9, 9]])
    assert next_logits.steps == 3, "other sequences are read anew"


def test_equal_texts_are_told_apart_by_their_order(model):
    next_logits = CausalLM(model)
    next_logits([[1, 2], [1, 2], [3]])
    found = next_logits([[1, 2, 4], [1, 2, 5], [3, 6]]).numpy()
    for row, sequence in zip(found, ([1, 2, 4], [1, 2, 5], [3, 6])):
        np.testing.assert_allclose(row, alone(model, sequence), rtol=1e-4, atol=1e-4)
    assert next_logits.steps == 1


def test_texts_with_and_without_cache_are_the_same(model):
    options = {"samples": 3, "tokens": 10, "stop": 4}
    prompts = [[1, 2, 3], [5]]
    cached = CausalLM(model)
    ours = draw_texts(cached, prompts, [0.5, 1.0], **options)
    theirs = draw_texts(CausalLM(model, cache=False), prompts, [0.5, 1.0], **options)
    assert ours.texts == theirs.texts
    assert cached.steps > 5
    np.testing.assert_allclose(ours.sums["entropy"], theirs.sums["entropy"], rtol=1e-4)
