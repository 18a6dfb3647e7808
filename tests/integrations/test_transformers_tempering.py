"""Temperatures of the attention of a loaded model: set for a while, and found again by its own texts."""

import math

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the models are its")
from logitherm.attention import attention_state, state  # noqa: E402
from logitherm.attention.rules import LogLength  # noqa: E402
from logitherm.integrations.transformers_attention import attending  # noqa: E402
from logitherm.integrations.transformers_attention_fit import (  # noqa: E402
    fit_attention_temperature,
    match_attention_entropy,
)
from logitherm.integrations.transformers_attention_report import attention_report  # noqa: E402
from logitherm.integrations.transformers_tempering import tempered  # noqa: E402
from logitherm.thermostat import CosineSchedule, LearnableTemperature, SetPoint  # noqa: E402

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

        with torch.no_grad(), tempered(model, t), attending(model, look):
            model(**inputs)
        return torch.stack([found[layer] for layer in range(LAYERS)])

    wanted = entropies(short, 12, 1.0)
    assert (entropies(long, 16, 1.0) - wanted).abs().max() > 0.1
    assert torch.allclose(entropies(long, 16, fit.temperature), wanted, atol=1e-3)
    with pytest.raises(ValueError, match="long: must be longer than short, 16 tokens; got 16"):
        match_attention_entropy(model, short, short)


def test_sharpness_is_matched_where_a_fused_kernel_is_the_default(model, monkeypatch):
    """As on GPUs: such kernels know no heat capacity."""
    given = torch.randint(0, STATES, (4, 64), generator=torch.Generator().manual_seed(0))
    short, long = {"input_ids": given[:, :16]}, {"input_ids": given}
    expected = match_attention_entropy(model, short, long, passes=2)
    monkeypatch.setattr(state, "_fused", lambda method, q, given, plain: plain and method != "online")
    assert attention_state(*torch.randn(2, 1, 1, 4, 8)).heat_capacity is None
    found = match_attention_entropy(model, short, long, passes=2)
    assert torch.equal(found.temperature, expected.temperature)


@pytest.mark.parametrize("t", [2.0, torch.ones(LAYERS, HEADS)])
def test_a_temperature_goes_where_the_model_is(model, t):
    """On meta, that tensors of two devices do not mix is as on GPUs."""
    elsewhere = transformers.GPT2LMHeadModel(model.config).eval().to("meta")
    with torch.no_grad(), tempered(elsewhere, t):
        assert elsewhere(TOKENS.to("meta")).logits.shape == (*TOKENS.shape, STATES)


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
    for bad, message in (
        (LogLength, "temperature: must be a rule itself; got the class LogLength"),
        (SetPoint(entropy=1.0, pooled=True), "temperature: must be a set point of entropy, a query each"),
        (SetPoint(top_probability=0.5), "temperature: must be a set point of entropy, a query each"),
        (torch.ones(LAYERS, 3), "temperature: must have one entry, or 2, for the heads of layer 0"),
        (torch.ones(3, 1), "temperature: must have one entry a layer, 2; got shape"),
        ("cold", "temperature: must be a number, tensor, Temperature or rule; got str 'cold'"),
    ):
        with pytest.raises((ValueError, TypeError), match=message), tempered(model, bad):
            model(TOKENS)


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        ([], {}, "batches: must have at least one"),
        (TOKENS, {}, "batches: must be inputs of the model by name, with input_ids; got shape"),
        ([{"input_ids": TOKENS[0]}], {}, r"batches: must have input_ids that are a tensor \(texts, tokens\)"),
        ([{"input_ids": TOKENS.tolist()}], {}, r"batches: must have input_ids that are a tensor \(texts, tokens\)"),
        ([{"input_ids": TOKENS[:, :1]}], {}, "batches: must have tokens to predict; got none"),
        ([{"input_ids": TOKENS}], {"low": 5.0, "high": 0.2}, "low, high: must have 1, the model's own, between them"),
        ([{"input_ids": TOKENS}], {"low": 0.0}, "low, high: must have 1"),
        ([{"input_ids": TOKENS}], {"high": math.inf}, "low, high: must have 1"),
        ([{"input_ids": TOKENS}], {"rate": 0.0}, "rate: must be positive"),
        ([{"input_ids": TOKENS}], {"rate": math.inf}, "rate: must be positive"),
        ([{"input_ids": TOKENS}], {"passes": 1.5}, "passes: must be an integer, at least 1; got 1.5"),
    ],
)
def test_wrong_arguments_of_a_fit_are_named(model, batches, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fit_attention_temperature(model, batches, **options)


def test_one_batch_and_a_model_without_a_loss(model):
    one = fit_attention_temperature(model, {"input_ids": TOKENS}, passes=2)
    assert one.temperature.shape == (1, 1) and one.nll_after <= one.nll_before
    again = fit_attention_temperature(model, ({"input_ids": TOKENS} for _ in range(1)), passes=2)
    assert torch.equal(one.temperature, again.temperature)
    with pytest.raises(TypeError, match="model: must give a loss for inputs with labels; GPT2Model does not"):
        fit_attention_temperature(model.transformer, [{"input_ids": TOKENS}])


@pytest.fixture(scope="module")
def capped():
    """Gemma 2, whose scores are capped."""
    transformers.set_seed(0)
    made = transformers.Gemma2ForCausalLM(
        transformers.Gemma2Config(
            vocab_size=STATES, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=LAYERS, head_dim=8,
            num_attention_heads=4, num_key_value_heads=2, sliding_window=6, attn_logit_softcapping=1.5,
            final_logit_softcapping=None,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.mul_(20)
    return made


@pytest.mark.parametrize("t", [2.0, 0.5, math.inf, torch.tensor([[0.5, 1.0, 2.0, 4.0], [1.0, 1.0, 1.0, 1.0]])])
def test_capped_scores_are_divided(capped, t):
    """The weights at T are those at 1 to the power of 1 / T, and what looks within sees them."""
    entropy = {}

    def look(call, run):
        entropy[call.layer] = call.state().entropy
        return run()

    with torch.no_grad():
        plain = capped(TOKENS, output_attentions=True).attentions[0].double()
        with tempered(capped, t), attending(capped, look):
            found = capped(TOKENS, output_attentions=True).attentions[0].double()
    power = 1 / t if isinstance(t, float) else 1 / t[0].double()[:, None, None]
    wanted = torch.where(plain > 0, plain**power, 0.0)
    wanted /= wanted.sum(-1, keepdim=True)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.allclose(entropy[0].double(), -torch.xlogy(wanted, wanted).sum(-1), atol=1e-5)


def test_a_capped_temperature_is_learned_reported_and_refused(capped):
    learned = LearnableTemperature(torch.ones(LAYERS, 4))
    with tempered(capped, learned):
        capped(TOKENS).logits[..., 5].sum().backward()
    assert (learned.log_temperature.grad != 0).all()
    fit = match_attention_entropy(capped, {"input_ids": TOKENS[:, :6]}, {"input_ids": TOKENS}, passes=2)
    assert fit.temperature.shape == (LAYERS, 4) and torch.isfinite(fit.temperature).all()
    report = attention_report(capped, TOKENS, relative=[0.5, 1.0], least_keys=2)
    with tempered(capped, torch.tensor([[0.5], [1.0]])):
        colder = attention_report(capped, TOKENS, relative=[1.0], least_keys=2)
    assert np.allclose(report.other[0]["entropy"][:, 0], colder.other[0]["entropy"][:, 0], rtol=1e-5)
    assert not np.allclose(report.values("entropy")[0], colder.values("entropy")[0], rtol=1e-2)
    with pytest.raises(ValueError, match="must be no SetPoint where"), tempered(capped, SetPoint(entropy=1.0)):
        capped(TOKENS)


def test_kernels_with_a_softcap_take_one_number(capped):
    seen = []

    def kernel(module, query, key, value, mask, softcap=None, **options):
        seen.append(softcap)
        return value.repeat_interleave(2, 1).transpose(1, 2), None

    transformers.AttentionInterface.register("of_a_test", kernel)
    capped.config._attn_implementation = "of_a_test"
    try:
        with torch.no_grad(), tempered(capped, torch.tensor([[2.0], [0.5]])):
            capped(TOKENS)
        assert seen == [0.75, 3.0] and all(isinstance(each, float) for each in seen)
        with pytest.raises(ValueError, match=r"must be one number a layer, .*set_attn_implementation"):  # noqa: SIM117
            with tempered(capped, LearnableTemperature(torch.ones(LAYERS, 4))):
                capped(TOKENS)
    finally:
        capped.config._attn_implementation = "eager"
