"""Audits against the scores that real models make of the same queries and keys."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from logitherm.attention import audit, audit_model
from logitherm.attention.auditing.families import FAMILIES

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
GPT = {"n_embd": 32, "n_head": 4, "n_layer": 4, "n_positions": 64, "vocab_size": 32}
EXPERTS = {"num_experts": 2, "num_local_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
HEADS = {**SIZES, "head_dim": 12}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8, "rope_theta": 1e4}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0] * 4, "rope_theta": 1e4}
MLA = {
    **{**SIZES, "num_key_value_heads": 4},
    "q_lora_rank": None,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "first_k_dense_replace": 4,
    "n_routed_experts": 2,
    "num_experts_per_tok": 1,
    "n_group": 1,
    "topk_group": 1,
}
MSCALE = {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}
# name: model type and fields; every known type is here
MODELS = {
    "gpt2": ("gpt2", GPT),
    "gpt2-by-layer": ("gpt2", {**GPT, "scale_attn_by_inverse_layer_idx": True}),
    "gpt2-unscaled": ("gpt2", {**GPT, "scale_attn_weights": False}),
    "gpt_bigcode": ("gpt_bigcode", {**GPT, "multi_query": False}),
    "gpt_neo": (
        "gpt_neo",
        {**SIZES, "num_layers": 4, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": 5},
    ),
    "gpt_neox": ("gpt_neox", SIZES),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 4, "n_head": 4, "vocab_size": 32}),
    "opt": ("opt", {**SIZES, "ffn_dim": 16, "word_embed_proj_dim": 32}),
    "bert": ("bert", SIZES),
    "roberta": ("roberta", SIZES),
    "distilbert": ("distilbert", {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 16, "vocab_size": 32}),
    "llama": ("llama", HEADS),
    "llama-yarn": ("llama", {**HEADS, "rope_parameters": YARN}),
    "llama-yarn-given": ("llama", {**HEADS, "rope_parameters": {**YARN, "attention_factor": 1.5}}),
    "llama-linear": ("llama", {**HEADS, "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    "mistral": ("mistral", {**HEADS, "sliding_window": 5}),
    "mixtral": ("mixtral", {**SIZES, **EXPERTS}),
    "starcoder2": ("starcoder2", SIZES),
    "phi": ("phi", {**SIZES, "partial_rotary_factor": 0.5}),
    "phi-norm": ("phi", {**SIZES, "qk_layernorm": True}),
    "phi3": ("phi3", SIZES),
    "phi3-longrope": ("phi3", {**SIZES, "original_max_position_embeddings": 16, "rope_parameters": LONG}),
    "qwen2": ("qwen2", {**SIZES, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2}),
    "qwen3": ("qwen3", HEADS),
    "qwen3-yarn": ("qwen3", {**HEADS, "rope_parameters": YARN}),
    "qwen3_moe": ("qwen3_moe", {**HEADS, **EXPERTS}),
    "olmo": ("olmo", SIZES),
    "olmo2": ("olmo2", SIZES),
    "olmo3": ("olmo3", {**SIZES, "sliding_window": 5, "rope_scaling": dict(YARN)}),
    "olmoe": ("olmoe", {**SIZES, **EXPERTS}),
    "cohere-norm": ("cohere", {**SIZES, "use_qk_norm": True}),
    "cohere2": ("cohere2", {**SIZES, "sliding_window": 5}),
    "exaone4": ("exaone4", {**SIZES, "sliding_window": 5, "rope_parameters": YARN}),
    "hunyuan": ("hunyuan_v1_dense", {**HEADS, "rope_parameters": YARN}),
    "glm": ("glm", HEADS),
    "glm4": ("glm4", HEADS),
    "gemma": ("gemma", HEADS),
    "gemma2": ("gemma2", {**HEADS, "query_pre_attn_scalar": 7, "attn_logit_softcapping": 2.0, "sliding_window": 5}),
    "gemma3": ("gemma3_text", {**HEADS, "query_pre_attn_scalar": 7, "sliding_window": 5, "rope_scaling": dict(YARN)}),
    "granite": ("granite", {**SIZES, "attention_multiplier": 0.11}),
    "granitemoe": ("granitemoe", {**SIZES, **EXPERTS, "attention_multiplier": 0.11}),
    "smollm3": ("smollm3", {**SIZES, "rope_parameters": YARN}),
    "stablelm": ("stablelm", {**SIZES, "partial_rotary_factor": 0.5}),
    "llama4": (
        "llama4_text",
        {
            **HEADS,
            **EXPERTS,
            "moe_layers": [],
            "intermediate_size_mlp": 16,
            "floor_scale": 4,
            "attention_chunk_size": 8,
        },
    ),
    "ministral3": ("ministral3", {**HEADS, "rope_parameters": {**MSCALE, "llama_4_scaling_beta": 0.1}}),
    "deepseek_v2": ("deepseek_v2", {**MLA, "rope_parameters": {**MSCALE, "mscale": 0.7, "mscale_all_dim": 0.5}}),
    "deepseek_v3": ("deepseek_v3", {**MLA, "rope_parameters": MSCALE}),
    "gpt_oss": ("gpt_oss", {**HEADS, **EXPERTS, "sliding_window": 5, "rope_parameters": YARN}),
}
TOKENS = 12


def built(name):
    kind, fields = MODELS[name]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **json.loads(json.dumps(fields)))
    model = transformers.AutoModel.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.ndim == 2 and "norm" not in key:  # wide scores
                weight.normal_(std=1.5 / math.sqrt(weight.shape[-1]))
            elif key.endswith("sinks"):
                weight.normal_()
    return model


def measured(model):
    """Of every layer the weights of attention, and q, k as they leave the projections, all (heads, tokens, ...).

    Rotations are made to rotate by nothing: cos becomes the length of (cos, sin), and sin 0, so that products of q and
    k are those before them, and whatever scales them stays.
    """
    seen, hooks = {}, []

    def unturned(module, inputs, output):
        if not isinstance(output, tuple):
            return output.abs().to(output.dtype)  # cos + i sin
        cos, sin = output
        return (cos**2 + sin**2).sqrt(), torch.zeros_like(sin)

    for key, module in model.named_modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            hooks.append(module.register_forward_hook(unturned))
        elif key.rsplit(".")[-1] in PROJECTIONS:
            hooks.append(module.register_forward_hook(lambda m, i, o, key=key: seen.__setitem__(key, o[0].double())))
    with torch.no_grad():
        weights = model(torch.arange(1, TOKENS + 1)[None] % 31 + 1, output_attentions=True).attentions
    for hook in hooks:
        hook.remove()
    layers = {}
    for key, value in seen.items():
        number = next(int(part) for part in key.split(".") if part.isdigit())
        layers.setdefault(number, {})[key.rsplit(".")[-1]] = value
    return [(p[0].double(), *split(layers[i], model.config)) for i, p in enumerate(weights)]


PROJECTIONS = (
    *("q_proj", "k_proj", "query", "key", "q_lin", "k_lin", "c_attn", "qkv_proj", "query_key_value"),
    *("kv_a_proj_with_mqa", "kv_b_proj"),
)


def split(made, config):
    """q and k by heads, from whatever the projections of a model give."""
    heads = config.num_attention_heads
    kind = config.model_type
    if "kv_b_proj" in made:
        q = made["q_proj"].reshape(TOKENS, heads, -1)
        turned = made["kv_a_proj_with_mqa"][:, -config.qk_rope_head_dim :]
        still = made["kv_b_proj"].reshape(TOKENS, heads, -1)[..., : config.qk_nope_head_dim]
        k = torch.cat([still, turned[:, None].expand(-1, heads, -1)], -1)
    elif "query_key_value" in made or kind == "gpt_bigcode":
        both = made.get("query_key_value", made.get("c_attn")).reshape(TOKENS, heads, 3, -1)
        q, k = both[:, :, 0], both[:, :, 1]
    elif "c_attn" in made or "qkv_proj" in made:
        whole = made.get("c_attn", made.get("qkv_proj"))
        q, rest = whole[:, :32], whole[:, 32:]
        q, k = q.reshape(TOKENS, heads, 8), rest[:, : rest.shape[1] // 2].reshape(TOKENS, -1, 8)
    else:
        q, k = (
            made[next(n for n in names if n in made)]
            for names in (("q_proj", "query", "q_lin"), ("k_proj", "key", "k_lin"))
        )
        width = q.shape[-1] // heads
        q, k = q.reshape(TOKENS, heads, width), k.reshape(TOKENS, -1, width)
    return q.transpose(0, 1), k.transpose(0, 1)


def normalised(x, how):
    """As the audit says, at gains of 1."""
    if how is None:
        return x
    if "together" in how:
        return x / (x**2).mean((0, 2), keepdim=True).sqrt()
    if "LayerNorm" in how:
        x = x - x.mean(-1, keepdim=True)
    return x / (x**2).mean(-1, keepdim=True).sqrt()


def agrees(model, found, tolerance=2e-4):
    """log p_i - log p_j = cap(beta q k_i) - cap(beta q k_j) for all pairs of keys that a query sees."""
    places = np.arange(TOKENS)
    for layer, (p, q, k) in zip(found.layers, measured(model), strict=True):
        q, k = normalised(q, layer.qk_norm), normalised(k, layer.qk_norm)
        k = k.repeat_interleave(len(q) // len(k), 0)
        rotary, plain = (
            torch.from_numpy(np.broadcast_to(layer.inverse_temperature(places, part=part), q.shape[:2]).copy())[
                ..., None
            ]
            for part in ("rotary", "plain")
        )
        still = (
            q.shape[-1] - int(layer.rotary * q.shape[-1]) if layer.parts_differ else 0
        )  # in these models it is first
        score = plain * (q[..., :still] @ k[..., :still].mT) + rotary * (q[..., still:] @ k[..., still:].mT)
        if layer.softcap is not None:
            score = layer.softcap * torch.tanh(score / layer.softcap)
        if found.model_type == "bloom":  # ALiBi, which no temperature touches
            score = score + torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8])[:, None, None] * torch.arange(TOKENS)
        spread = []
        for wanted, weight in zip(score.flatten(0, 1), p.flatten(0, 1)):
            wanted, got = wanted[weight > 1e-6], weight[weight > 1e-6].log()
            error = ((wanted - wanted.mean()) - (got - got.mean())).abs().max()
            assert error < tolerance * max(1.0, float(wanted.abs().max())), (layer, float(error))
            spread.append(float((wanted - wanted.mean()).abs().max()))
        assert np.mean(np.array(spread) > 0.1) > 0.4, "too little to tell a temperature by"


@pytest.mark.parametrize("name", MODELS)
def test_the_audit_predicts_differences_of_log_weights(name):
    model = built(name)
    agrees(model, audit(model.config))


def test_a_wrong_temperature_does_not_agree():
    """One per cent off is seen."""
    model = built("qwen3-yarn")
    found = audit(model.config)
    wrong = replace(found, layers=tuple(replace(each, base=1.01 * each.base) for each in found.layers))
    with pytest.raises(AssertionError, match="LayerAudit"):
        agrees(model, wrong)


@pytest.mark.parametrize("name", MODELS)
def test_a_file_says_what_the_object_says(name, tmp_path):
    """The fields as a file may have them, without defaults of transformers' own classes."""
    kind, fields = MODELS[name]
    config = transformers.AutoConfig.for_model(kind, **json.loads(json.dumps(fields)))
    whole = audit(config)
    for given in ({"model_type": kind, **fields}, tmp_path, str(tmp_path / "config.json")):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **fields}))
        assert audit(given).layers == whole.layers
    config.save_pretrained(tmp_path)
    assert audit(tmp_path) == whole


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_defaults_are_those_of_transformers(kind):
    config = transformers.AutoConfig.for_model(kind)
    names = (
        "num_hidden_layers",
        "n_layer",
        "n_layers",
        "num_layers",
        "hidden_size",
        "n_embd",
        "dim",
        "num_attention_heads",
    )
    names += ("n_head", "n_heads", "num_heads", "depths", "embed_dim", "attention_types")
    given = {name: value for name, value in config.to_dict().items() if name in names}
    assert audit({"model_type": kind, **given}).layers == audit(config).layers
    assert kind in {"swinv2", *(each[0] for each in MODELS.values())}, "measure it, too"


def test_tuning_by_position_is_measured_across_its_steps():
    """Slopes of log p in q k, query by query, in a layer without rotary positions; floor_scale is 4."""
    model = built("llama4")
    found = audit(model.config)
    p, q, k = measured(model)[3]
    k = k.repeat_interleave(2, 0)
    for row in (1, 2, 3, 6, 7, 10, 11):
        seen = slice(0, row + 1)
        x, y = (q[:, row, None] * k[:, seen]).sum(-1), p[:, row, seen].log()
        x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
        slope = float((x * y).sum() / (x * x).sum())
        assert slope == pytest.approx(found.inverse_temperature(3, row), rel=1e-4)
        assert slope == pytest.approx(12**-0.5 * (1 + 0.1 * math.log1p((row + 1) // 4)), rel=1e-4)
    assert [layer.tuning is None for layer in found.layers] == [True, True, True, False]
    assert found.layers[0].qk_norm and found.layers[3].qk_norm is None


def test_sinks_take_weight_and_leave_the_temperature():
    model = built("gpt_oss")
    found = audit_model(model)
    agrees(model, found)
    for layer, (p, q, k) in zip(found.layers, measured(model)):
        k = k.repeat_interleave(2, 0)
        score = layer.inverse_temperature() * (q @ k.mT)
        hidden = torch.full((TOKENS, TOKENS), -math.inf).triu(1)
        if layer.window:
            hidden += torch.full((TOKENS, TOKENS), -math.inf).tril(-layer.window)
        sink = torch.tensor(layer.sink)[:, None, None].expand(-1, TOKENS, 1)
        wanted = torch.cat([score + hidden, sink], -1).softmax(-1)[..., :-1]
        assert torch.allclose(p, wanted, atol=1e-5)
        assert p.sum(-1).min() < 0.99
    assert [layer.window for layer in found.layers] == [5, None, 5, None]


def test_the_softcap_is_a_temperature_that_depends_on_the_score():
    found = audit(built("gemma2").config)
    assert found.layers[0].softcap == 2.0
    for score in (0.0, 0.5, 3.0):
        slope = (2 * math.tanh((score + 1e-6) / 2) - 2 * math.tanh((score - 1e-6) / 2)) / 2e-6
        assert found.inverse_temperature(0, score=score) == pytest.approx(7**-0.5 * slope, rel=1e-6)
    assert [layer.window for layer in found.layers] == [5, None, 5, None]


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "olmo2", "cohere-norm", "hunyuan", "olmo3"])
def test_gains_of_norms_are_read_from_weights(name):
    model = built(name)
    before = audit(model.config)
    with torch.no_grad():
        for number, layer in enumerate(model.layers):
            module = layer.self_attn
            for norm, gain in (("q", 1.5 + number), ("k", 0.75)):
                held = getattr(module, f"{norm}_norm", None) or getattr(
                    module, {"q": "query_layernorm"}.get(norm, "key_layernorm")
                )
                held.weight.fill_(gain - (1 if name == "gemma3" else 0))  # Gemma multiplies by 1 + weight
    found = audit_model(model)
    agrees(model, found)
    for number, (old, new) in enumerate(zip(before.layers, found.layers)):
        gain = (1.5 + number) * 0.75
        assert new.inverse_temperature() == pytest.approx(gain * old.inverse_temperature(), rel=1e-5)
        assert new.gains == pytest.approx((gain, gain), rel=1e-5)
        assert old.unread == ("QK-norm gains",) and new.unread == ()
    assert any("cannot tell" in sentence for sentence in before.warnings)
    assert not any("cannot tell" in sentence for sentence in found.warnings)


def test_gains_that_differ_over_the_width_are_said():
    model = built("qwen3")
    model.layers[1].self_attn.q_norm.weight.data[:6] = 3.0
    found = audit_model(model)
    assert found.layers[1].gains == pytest.approx((1.0, 3.0), rel=1e-5)
    assert found.inverse_temperature(1) == pytest.approx(2 * 12**-0.5, rel=1e-5)
    assert any("differ over the width" in sentence for sentence in found.warnings)


def test_scores_of_normalised_vectors_have_a_bound():
    model = built("qwen3")
    (_, q, k), layer = measured(model)[0], audit(model.config).layers[0]
    assert layer.score_bound == pytest.approx(12**0.5)
    score = layer.inverse_temperature() * (
        normalised(q, layer.qk_norm) @ normalised(k, layer.qk_norm).repeat_interleave(2, 0).mT
    )
    assert 0.5 * layer.score_bound < score.abs().max() <= layer.score_bound


@pytest.mark.parametrize("scale", [None, math.log(3.0), 9.0])
def test_swin_has_cosines_and_a_scale_for_each_head(scale):
    """9 is beyond ln 100."""
    sizes = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 4], "window_size": 4}
    torch.manual_seed(0)
    model = transformers.Swinv2Model(transformers.Swinv2Config(**sizes)).eval()
    seen = []
    for name, module in model.named_modules():
        if name.endswith("attention.self"):
            with torch.no_grad():
                module.continuous_position_bias_mlp[2].weight.zero_()  # the same bias everywhere
                if scale is not None:
                    module.logit_scale[0] = scale
            module.register_forward_hook(lambda m, i, o: seen.append((m.query(i[0]), m.key(i[0]), o[1])))
    with torch.no_grad():
        model(torch.randn(1, 3, 16, 16), output_attentions=True)
    assert audit(model.config).inverse_temperature(0) == 10.0
    found = audit_model(model)
    assert len(seen) == len(found.layers) == 2
    for layer, (q, k, p) in zip(found.layers, seen):
        heads = p.shape[1]
        q, k = (torch.nn.functional.normalize(x.unflatten(-1, (heads, -1)).transpose(1, 2), dim=-1) for x in (q, k))
        beta = np.broadcast_to(layer.inverse_temperature(), heads).copy()
        assert beta[0] == pytest.approx({None: 10.0, 9.0: 100.0}.get(scale, 3.0), rel=1e-5)
        wanted = torch.from_numpy(beta)[:, None, None] * (q @ k.mT).double()
        got = p.double().log()
        at = p.argmax(-1, keepdim=True)
        off = (wanted - wanted.gather(-1, at)) - (got - got.gather(-1, at))
        assert off[p > 1e-30].abs().max() < 1e-3


def test_the_module_is_compared_with_the_configuration():
    model = built("granite")
    model.layers[2].self_attn.scaling = 0.5
    assert any(s.startswith("In layer 2 ") and "0.5" in s for s in audit_model(model).warnings)
    assert not any("trust the module" in s for s in audit_model(built("llama-yarn")).warnings)
