"""What a hook sees of real models built from their configuration, against the weights that eager attention gives."""

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the hook is for its models")
from logitherm.integrations.transformers_attention import attending  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
STATES, HEADS = 100, 4
SIZE = {
    "vocab_size": STATES, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": HEADS, "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": HEADS, "vocab_size": STATES, "bos_token_id": 1, "eos_token_id": 2}
T5 = {"d_model": 32, "d_kv": 8, "num_layers": 2, "num_heads": HEADS, "d_ff": 32, "vocab_size": STATES}
MODELS = {
    "GPT2LMHeadModel": ("GPT2Config", GPT2),
    "LlamaForCausalLM": ("LlamaConfig", SIZE),
    "Gemma2ForCausalLM": ("Gemma2Config", {**SIZE, "head_dim": 8, "sliding_window": 4, "attn_logit_softcapping": 2.0}),
    "GptOssForCausalLM": (
        "GptOssConfig",
        {**SIZE, "head_dim": 8, "sliding_window": 4, "num_local_experts": 2, "num_experts_per_tok": 1},
    ),
    "BertModel": ("BertConfig", SIZE),
    "T5EncoderModel": ("T5Config", T5),
}
TOKENS = torch.randint(3, STATES, (2, 12), generator=torch.Generator().manual_seed(0))
PADDED = torch.ones_like(TOKENS)
PADDED[0, :4] = 0


def model(name):
    config, settings = MODELS[name]
    transformers.set_seed(0)
    made = getattr(transformers, name)(getattr(transformers, config)(**settings)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)  # of random weights attention is nearly uniform
    return made


@pytest.mark.parametrize("mask", [None, PADDED], ids=["all", "padded"])
@pytest.mark.parametrize("name", MODELS)
def test_entropies_are_those_of_eager_weights(name, mask):
    made, states = model(name), {}

    def look(call, run):
        states[call.layer] = call.state()
        return run()

    with torch.no_grad():
        plain = made(TOKENS, attention_mask=mask)[0]
        with attending(made, look):
            watched = made(TOKENS, attention_mask=mask)[0]
        made.set_attn_implementation("eager")
        weights = made(TOKENS, attention_mask=mask, output_attentions=True).attentions
    assert torch.equal(plain, watched)
    assert sorted(states) == [0, 1]
    real = torch.ones(2, 1, 12, dtype=torch.bool) if mask is None else mask[:, None] > 0
    for layer, state in states.items():
        p = weights[layer].double()
        rest = (1 - p.sum(-1)).clamp_min(0)  # of the sink
        entropy = -torch.xlogy(p, p).sum(-1) - (torch.xlogy(rest, rest) if name.startswith("GptOss") else 0)
        apart = (state.entropy - entropy).abs()[real.expand(2, HEADS, 12)]
        assert apart.max() < 2e-5, "the weights are float32"


def test_a_colder_model_and_another_left_alone():
    made, other = model("LlamaForCausalLM"), model("LlamaForCausalLM")

    def colder(call, run):
        return run(scaling=2 * call.scaling)

    def half_the_queries(call, run):
        return run(query=2 * call.query)

    with torch.no_grad():
        plain = made(TOKENS).logits
        with attending(made, colder):
            cold, untouched = made(TOKENS).logits, other(TOKENS).logits
        with attending(made, half_the_queries):
            same = made(TOKENS).logits
        assert torch.equal(plain, made(TOKENS).logits) and torch.equal(plain, untouched)
    assert not torch.allclose(plain, cold) and torch.allclose(cold, same, atol=1e-4)


def test_hooks_nest_and_a_model_without_layers_is_refused():
    made, seen = model("GPT2LMHeadModel"), []
    with (
        attending(made, lambda call, run: (seen.append("outer"), run())[1]),
        attending(made, lambda call, run: (seen.append("inner"), run())[1]),
    ):
        made(TOKENS)
    assert seen == ["outer", "inner"] * 2
    found = {}

    def look(call, run):
        found[call.layer] = call.query
        return run()

    with attending(made, look):
        made(TOKENS)
    first = found[0]
    with attending(made, lambda call, run: run(query=2 * call.query)), attending(made, look):
        made(TOKENS)
    assert torch.equal(found[0], 2 * first), "the inner one sees what the outer one made"
    with pytest.raises(TypeError, match="model: must be a loaded model; got str"), attending("gpt2", look):
        pass
    nothing = attending(torch.nn.Linear(2, 2), lambda call, run: run())
    with pytest.raises(ValueError, match=r"model: must run within, and ask .* no layer of Linear did"), nothing:
        pass
