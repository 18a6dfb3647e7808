"""Temperatures of the attention of a loaded model: set for a while, and found again by its own texts."""

import math

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the models are its")
from logitherm.attention.rules import LogLength  # noqa: E402
from logitherm.integrations.transformers_attention import attending  # noqa: E402
from logitherm.integrations.transformers_attention_fit import (  # noqa: E402
    fit_attention_temperature,
    match_attention_entropy,
)
from logitherm.integrations.transformers_tempering import tempered  # noqa: E402
from logitherm.thermostat import CosineSchedule, LearnableTemperature  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
STATES, LAYERS, HEADS, WIDTH = 60, 2, 2, 32


@pytest.fixture(scope="module")
def model():
    """One whose attention matters: of random weights it would be even, and the text would not depend on it."""
    transformers.set_seed(0)
    config = transformers.GPT2Config(
        n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, vocab_size=STATES, n_positions=64, bos_token_id=0,
        eos_token_id=None, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    made = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.mul_(9)
    return made


def queries(model, layer):
    """Weight and bias of the queries of a layer, as views."""
    attention = model.transformer.h[layer].attn.c_attn
    return attention.weight[:, :WIDTH], attention.bias[:WIDTH]


def tokens(model, texts=32, length=48):
    transformers.set_seed(1)
    start = torch.randint(0, STATES, (texts, 1))
    return model.generate(start, max_new_tokens=length - 1, do_sample=True, top_k=0, pad_token_id=0)


TOKENS = torch.arange(20).reshape(2, 10)


def test_scores_are_divided_for_a_while(model):
    plain = model(TOKENS).logits
    with tempered(model, 2.0):
        hot = model(TOKENS).logits
    assert torch.equal(model(TOKENS).logits, plain)
    with torch.no_grad():
        for layer in range(LAYERS):
            for part in queries(model, layer):
                part.div_(2)
        assert torch.allclose(model(TOKENS).logits, hot, atol=1e-4)
        for layer in range(LAYERS):
            for part in queries(model, layer):
                part.mul_(2)
    with pytest.raises(IndexError), tempered(model, 2.0):
        model(TOKENS + STATES)
    assert torch.equal(model(TOKENS).logits, plain), "restored after an error too"


def test_layers_heads_schedules_and_rules(model):
    plain = model(TOKENS).logits
    one = torch.ones(LAYERS, HEADS)
    for same in (1.0, one, one[:, :1], torch.ones(1, 1), CosineSchedule(4.0, 1.0, steps=10)):
        with tempered(model, same, step=10):
            assert torch.allclose(model(TOKENS).logits, plain, atol=1e-5)
    with tempered(model, lambda seen: math.sqrt(WIDTH // HEADS)):
        assert torch.allclose(model(TOKENS).logits, plain, atol=1e-5)
    cold = one.clone()
    cold[1, 0] = 0.5
    learned = LearnableTemperature(cold)
    with tempered(model, learned):
        model(TOKENS).logits[..., 0].sum().backward()
    assert (learned.log_temperature.grad != 0).all()
    with tempered(model, LogLength()):
        padded = model(TOKENS, attention_mask=torch.ones_like(TOKENS)).logits
    with tempered(model, LogLength()):
        assert torch.allclose(model(TOKENS).logits, padded, atol=1e-4)
    assert not torch.allclose(padded, plain, atol=1e-2)


@pytest.mark.slow
def test_a_model_that_was_cooled_is_heated_again(model):
    """Queries are doubled after the texts are drawn, so T = 2 makes the model that drew them."""
    given = tokens(model)
    model.zero_grad()
    batches = [{"input_ids": part, "attention_mask": torch.ones_like(part)} for part in given.split(16)]
    with torch.no_grad():
        for layer in range(LAYERS):
            for part in queries(model, layer):
                part.mul_(2)
    fit = fit_attention_temperature(model, batches, passes=25)
    assert fit.temperature.item() == pytest.approx(2.0, rel=0.1)
    assert fit.nll_after < fit.nll_before - 0.02 and fit.perplexity_after < fit.perplexity_before
    each = fit_attention_temperature(model, batches, per="head", passes=25)
    assert each.temperature.shape == (LAYERS, HEADS) and each.nll_after <= fit.nll_after + 0.01
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    with torch.no_grad():
        for layer in range(LAYERS):
            for part in queries(model, layer):
                part.div_(2)


def test_heads_are_as_sharp_on_long_texts(model):
    given = torch.randint(0, STATES, (4, 64), generator=torch.Generator().manual_seed(0))
    short, long = {"input_ids": given[:, :16]}, {"input_ids": given}
    fit = match_attention_entropy(model, short, long)
    assert fit.temperature.shape == (LAYERS, HEADS)

    def entropies(inputs, first, t):
        found = {}

        def look(call, run):
            found[call.layer] = call.state().entropy[:, :, first:].mean((0, 2))
            return run()

        with torch.no_grad(), attending(model, look), tempered(model, t):
            model(**inputs)
        return torch.stack([found[layer] for layer in range(LAYERS)])

    wanted = entropies(short, 12, 1.0)
    assert (entropies(long, 16, 1.0) - wanted).abs().max() > 0.1
    assert torch.allclose(entropies(long, 16, fit.temperature), wanted, atol=1e-3)
    with pytest.raises(ValueError, match="long: must be longer than short, 16 tokens; got 16"):
        match_attention_entropy(model, short, short)


def test_refusals(model):
    for bad, message in (
        (0.0, "temperature: must be positive"),
        (torch.ones(3), r"temperature: must be positive, one number or \(layers, 1\)"),
    ):
        with pytest.raises(ValueError, match=message), tempered(model, bad):
            model(TOKENS)
    batches = [{"input_ids": TOKENS}]
    with pytest.raises(ValueError, match="per: must be one of model, layer, head"):
        fit_attention_temperature(model, batches, per="query")
    with pytest.raises(ValueError, match="batches: must have at least one"):
        fit_attention_temperature(model, [])
