"""A report on the attention of real models, against the weights that eager attention gives, and planted heads."""

import json

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the report is of its models")
from logitherm.integrations.transformers_attention_report import attention_report  # noqa: E402
from logitherm.integrations.transformers_tempering import tempered  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
STATES, HEADS, WIDTH, TOKENS = 100, 4, 32, 24
SIZE = {
    "vocab_size": STATES, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": HEADS, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT2 = {"n_embd": WIDTH, "n_layer": 2, "n_head": HEADS, "vocab_size": STATES, "bos_token_id": 1, "eos_token_id": 2}
MODELS = {
    "GPT2LMHeadModel": ("GPT2Config", GPT2),
    "LlamaForCausalLM": ("LlamaConfig", SIZE),
    "Gemma2ForCausalLM": ("Gemma2Config", {**SIZE, "head_dim": 8, "sliding_window": 6, "attn_logit_softcapping": 2.0}),
    "GptOssForCausalLM": (
        "GptOssConfig",
        {**SIZE, "head_dim": 8, "sliding_window": 6, "num_local_experts": 2, "num_experts_per_tok": 1},
    ),
    "BertModel": ("BertConfig", SIZE),
}
IDS = torch.randint(3, STATES, (3, TOKENS), generator=torch.Generator().manual_seed(0))
LEFT, RIGHT = torch.ones_like(IDS), torch.ones_like(IDS)
LEFT[0, :5] = 0
RIGHT[1, -7:] = 0


def made(name, times=8.0):
    config, settings = MODELS[name]
    transformers.set_seed(0)
    model = getattr(transformers, name)(getattr(transformers, config)(**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(times)  # of random weights attention is nearly uniform
    return model


def by_weights(model, mask):
    """The same means from the matrix of weights, query by query."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(IDS, attention_mask=mask, output_attentions=True).attentions
    causal = not type(model).__name__.startswith("Bert")
    found = {}
    for layer, p in enumerate(weights):
        p = p.double()
        sink = 1 if "GptOss" in type(model).__name__ else 0
        rest = (1 - p.sum(-1)).clamp_min(0) * sink
        entropy = -torch.xlogy(p, p).sum(-1) - torch.xlogy(rest, rest)
        rows = {name: [] for name in ("entropy", "normalised_entropy", "support", "top_probability", "first_key")}
        window = getattr(model.config, "sliding_window", None) if layer == 0 else None
        for b in range(len(IDS)):
            real = torch.ones(TOKENS, dtype=torch.bool) if mask is None else mask[b] > 0
            first = int(real.nonzero()[0])
            for i in real.nonzero().flatten().tolist():
                sees = int(real[: i + 1 if causal else None].sum())
                sees = (sees if window is None else min(sees, window)) + sink
                rows["entropy"].append(entropy[b, :, i])
                if sees > 1:
                    rows["normalised_entropy"].append(entropy[b, :, i] / np.log(sees))
                rows["support"].append(entropy[b, :, i].exp())
                rows["top_probability"].append(p[b, :, i].max(-1).values.maximum(rest[b, :, i]))
                rows["first_key"].append(p[b, :, i, first])
        found[layer] = {name: torch.stack(value).mean(0).numpy() for name, value in rows.items()}
    return found


@pytest.mark.parametrize("mask", [None, LEFT, RIGHT], ids=["all", "left", "right"])
@pytest.mark.parametrize("name", MODELS)
def test_numbers_are_those_of_eager_weights(name, mask):
    model = made(name)
    inputs = {"input_ids": IDS} if mask is None else {"input_ids": IDS, "attention_mask": mask}
    report, weights = attention_report(model, inputs), by_weights(model, mask)
    for layer, expected in weights.items():
        for quantity, values in expected.items():
            np.testing.assert_allclose(report.values(quantity)[layer], values, rtol=1e-4, atol=1e-5, err_msg=quantity)
    width = model.config.hidden_size // HEADS
    scaling = getattr(model.config, "query_pre_attn_scalar", width)
    assert report.temperatures == pytest.approx([scaling**0.5] * 2)


def test_batches_of_several_lengths_are_those_of_one_padded_batch():
    model = made("GPT2LMHeadModel")
    padded = attention_report(model, {"input_ids": IDS, "attention_mask": RIGHT})
    apart = attention_report(model, [IDS[:1], IDS[1:2, :-7], IDS[2:]])
    assert (apart.sequences, apart.lengths) == (padded.sequences, padded.lengths) == (3, (TOKENS - 7, TOKENS))
    for name in ("entropy", "normalised_entropy", "first_key", "heat_capacity"):
        for a, b in zip(apart.values(name), padded.values(name), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    edges = np.arange(TOKENS + 1)
    for a, b in zip(apart.layers, padded.layers, strict=True):
        np.testing.assert_allclose(a.curve("support", edges), b.curve("support", edges), rtol=1e-4)
        assert a.curve("support", edges)[:, 0] == pytest.approx(1.0), "the first query sees one key"


def planted():
    """Layer 1: head 0 without queries, head 1 with huge ones, head 2 in love with the first position."""
    model = made("GPT2LMHeadModel", times=2.0)
    width = WIDTH // HEADS
    with torch.no_grad():
        attention = model.transformer.h[0].attn.c_attn
        attention.weight[:, :width] = 0
        attention.weight[:, width : 2 * width] *= 3e3
        attention.weight[:, 2 * width : 3 * width] = 0
        attention.bias[2 * width : 3 * width] = 1.0  # all queries alike; the key of the first position along them
        model.transformer.wpe.weight[0] = 0
        model.transformer.wpe.weight[0, 0] = 50.0
        attention.weight[0, WIDTH + 2 * width : WIDTH + 3 * width] = 2.0
    return model


def test_planted_heads_are_found():
    report = attention_report(planted(), IDS)
    assert (0, 0) in report.uniform and (0, 0) not in report.collapsed + report.sinks
    assert (0, 1) in report.collapsed and (0, 1) not in report.uniform
    assert (0, 2) in report.sinks and (0, 3) not in report.sinks + report.collapsed
    assert report.values("normalised_entropy")[0][0] == pytest.approx(1.0, abs=1e-6)
    assert report.values("support")[0][1] < 1.2


def test_some_queries_are_those_of_all():
    model = made("LlamaForCausalLM")
    inputs = {"input_ids": IDS, "attention_mask": LEFT}
    every, some = attention_report(model, inputs), attention_report(model, inputs, queries=7, relative=[1.0])
    rows = np.linspace(0, TOKENS - 1, 7).astype(int)
    edges = np.arange(TOKENS + 1)
    for name in ("entropy", "first_key"):
        whole, part = (report.layers[1].curve(name, edges) for report in (every, some))
        assert np.isnan(part).sum() > 0
        last = rows[-1]  # of sequences without padding, and of the padded one its position 18
        np.testing.assert_allclose(part[:, last], whole[:, last], rtol=1e-5)
    assert some.values("entropy")[1] == pytest.approx(every.values("entropy")[1], rel=0.25)
    counted = some.layers[1].counts["entropy"]
    assert counted[0].sum() == 7 * 2 + (rows >= 5).sum()


def test_other_temperatures_are_those_of_a_colder_model():
    model = made("GPT2LMHeadModel")
    report = attention_report(model, IDS, relative=[0.5, 1.0, 2.0], least_keys=2)
    with torch.no_grad():
        model.transformer.h[0].attn.c_attn.weight[:, :WIDTH] *= 2
        model.transformer.h[0].attn.c_attn.bias[:WIDTH] *= 2
    colder = attention_report(model, IDS, relative=[1.0], least_keys=2)
    for name in ("entropy", "support", "top_probability"):
        np.testing.assert_allclose(report.other[0][name][:, 0], colder.other[0][name][:, 0], rtol=1e-4)
    assert (np.diff(report.other[1]["entropy"], axis=1) > 0).all()


def test_the_model_stays_as_it_was_and_json_is_strict():
    model = made("GPT2LMHeadModel").train()
    model.transformer.drop.eval()
    found = attention_report(model, IDS, relative=[1.0]).to_dict()
    assert model.training and not model.transformer.drop.training
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again == found and again["layers"][1]["name"] == "transformer.h.1.attn"
    assert len(again["positions"]["entropy"][0][0]) == len(again["positions"]["first"])


def test_images_and_encoders_with_decoders():
    transformers.set_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    viewer = transformers.ViTModel(transformers.ViTConfig(image_size=16, patch_size=4, **size))
    report = attention_report(viewer, {"pixel_values": torch.randn(3, 3, 16, 16)})
    assert (report.sequences, report.lengths, report.heads) == (3, (17, 17), 4)
    assert report.trends == [[None, None]] * 2, "all queries see all keys"
    writer = transformers.T5ForConditionalGeneration(
        transformers.T5Config(d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=STATES)
    )
    mask = LEFT.flip(1)
    given = {"input_ids": IDS, "attention_mask": mask, "decoder_input_ids": IDS[:, :10]}
    report = attention_report(writer, given)
    assert [layer.name.split(".")[0] for layer in report.layers] == ["encoder", "decoder", "decoder"]
    assert [layer.counts["entropy"][0].sum() for layer in report.layers] == [mask.sum(), 30, 30]
    assert report.lengths == (TOKENS - 5, TOKENS) and report.layers[2].positions == 10


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ([], {}, "inputs: must have a batch; got none"),
        (IDS[:, :5], {}, "inputs: must have queries that see 8 keys or more; the longest sequence has 5"),
        (7, {}, "inputs: must be token ids"),
        (IDS[0], {}, r"inputs: must be tensors .* a text alone is tokens\[None\]"),
        (IDS.tolist(), {}, r"inputs: must be tensors .* take torch.as_tensor"),
        (IDS, {"sink": 0.0}, "sink: must be above 0"),
        (IDS, {"collapsed": 0.5}, "collapsed: must be at least 1"),
        (IDS, {"relative": [0.0]}, "relative: must be positive"),
    ],
)
def test_wrong_arguments_are_named(inputs, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        attention_report(made("GPT2LMHeadModel"), inputs, **options)


def test_a_name_is_no_model():
    with pytest.raises(TypeError, match="model: must be a loaded model; got str"):
        attention_report("gpt2", IDS)


def test_a_tempered_model_is_reported_as_it_is():
    """The hook that looks is within that which tempers, whichever model it is."""
    model = made("GPT2LMHeadModel")
    expected = attention_report(model, IDS, relative=[2.0], least_keys=2).other[0]
    with tempered(model, torch.tensor([[2.0], [1.0]])):
        found = attention_report(model, IDS, relative=[1.0], least_keys=2).other[0]
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5)
