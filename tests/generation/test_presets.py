"""Presets against the engines they are named after: transformers itself, the others by their rules written out."""

import math

import numpy as np
import pytest

from logitherm.generation import (
    MinP,
    Pipeline,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    preset,
    presets,
)
from logitherm.thermostat import SetPoint

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

HF = {
    "nothing": {"top_k": 0},
    "defaults": {},
    "temperature": {"temperature": 0.7, "top_k": 0},
    "top_k": {"top_k": 7},
    "top_k beyond": {"top_k": 10**6},
    "top_p": {"top_p": 0.8, "top_k": 0},
    "top_p 0": {"top_p": 0.0, "top_k": 0},
    "min_p": {"min_p": 0.1, "top_k": 0},
    "typical": {"typical_p": 0.7, "top_k": 0},
    "epsilon": {"epsilon_cutoff": 2e-3, "top_k": 0},
    "eta": {"eta_cutoff": 2e-3, "top_k": 0},
    "top_h": {"top_h": 0.4, "top_k": 0},
    "repetition": {"repetition_penalty": 1.3, "top_k": 0},
    "usual": {"temperature": 0.7, "top_k": 50, "top_p": 0.9},
    "all": {
        "temperature": 1.5,
        "top_h": 0.9,
        "top_k": 60,
        "top_p": 0.97,
        "min_p": 0.01,
        "typical_p": 0.95,
        "epsilon_cutoff": 3e-4,
        "eta_cutoff": 3e-4,
        "repetition_penalty": 1.2,
    },
}
STATES = 301


@pytest.fixture(scope="module")
def model():
    """A small GPT-2 from its configuration, with logits as wide as those of a trained one."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=STATES, n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3, pad_token_id=0
    )
    return transformers.GPT2LMHeadModel(config).eval()


def theirs(settings, ids, scores):
    """Scores by transformers' own processors, in the order of `_get_logits_processor`."""
    t = transformers
    full = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0} | settings
    steps = []
    if full["repetition_penalty"] != 1:
        steps.append(t.RepetitionPenaltyLogitsProcessor(full["repetition_penalty"]))
    if full["temperature"] != 1:
        steps.append(t.TemperatureLogitsWarper(full["temperature"]))
    if "top_h" in full:
        steps.append(t.generation.TopHLogitsWarper(full["top_h"]))
    if full["top_k"]:
        steps.append(t.TopKLogitsWarper(full["top_k"]))
    if full["top_p"] < 1:
        steps.append(t.TopPLogitsWarper(full["top_p"]))
    if "min_p" in full:
        steps.append(t.MinPLogitsWarper(full["min_p"]))
    if full["typical_p"] < 1:
        steps.append(t.TypicalLogitsWarper(full["typical_p"]))
    if "epsilon_cutoff" in full:
        steps.append(t.EpsilonLogitsWarper(full["epsilon_cutoff"]))
    if "eta_cutoff" in full:
        steps.append(t.EtaLogitsWarper(full["eta_cutoff"]))
    return t.LogitsProcessorList(steps)(ids, scores)


@pytest.mark.parametrize("name", HF)
def test_hf_is_the_law_of_transformers_processors(name, rng):
    """In float64 on both sides, where neither ties nor rounding are to be seen."""
    z = torch.as_tensor(rng.normal(size=(40, STATES)) * rng.uniform(0.5, 6, (40, 1)))
    ids = torch.as_tensor(rng.integers(0, STATES, (40, 12)))
    with np.errstate(all="ignore"):
        expected = theirs(HF[name], ids, z.clone())
    pipeline = presets.hf(**HF[name])
    ours = pipeline.process(z, history=ids)
    assert torch.equal(ours > -math.inf, expected > -math.inf)
    law = pipeline.probabilities(z, history=ids)
    assert torch.allclose(law, torch.softmax(expected, -1), rtol=1e-11, atol=0)


@pytest.mark.parametrize("name", HF)
def test_hf_is_the_law_of_generate(name, model):
    """The whole of `generate`, with the order that it chooses, on the logits of a model."""
    prompt = torch.arange(1, 25).reshape(4, 6)
    settings = {"epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "temperature": 1.0} | HF[name]
    torch.manual_seed(1)
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=True,
        max_new_tokens=8,
        output_logits=True,
        output_scores=True,
        return_dict_in_generate=True,
        **settings,
    )
    pipeline = presets.hf(**HF[name])
    for step, (raw, scores) in enumerate(zip(out.logits, out.scores)):
        ours = pipeline.process(raw, history=out.sequences[:, : prompt.shape[1] + step])
        expected = scores.to(torch.float64)
        differ = (ours > -math.inf) != (expected > -math.inf)
        if differ.any():  # only where float32 decides: next to the least probable that is kept
            least = torch.where(ours > -math.inf, raw, math.inf).amin(-1, keepdim=True)
            assert ((raw - least).abs()[differ] < 1e-2).all()
            assert differ.sum(-1).max() <= 1
        else:
            law = pipeline.probabilities(raw, history=out.sequences[:, : prompt.shape[1] + step])
            assert torch.allclose(law.to(torch.float64), torch.softmax(expected, -1), rtol=1e-4, atol=1e-7)


def test_the_default_of_transformers_is_not_plain_sampling(rng):
    z = rng.normal(size=(1, 200))
    assert (presets.hf().probabilities(z) > 0).sum() == 50
    assert (presets.hf(top_k=None).probabilities(z) > 0).all()


def test_greedy_limits(rng):
    z = rng.normal(size=(3, 50))
    best = z.argmax(-1).tolist()
    cold = {"hf": [0.0], "vllm": [0.0, 9e-6], "sglang": [0, 9e-7], "llama_cpp": [0, -1.0]}
    for name, temperatures in cold.items():
        for t in temperatures:
            assert preset(name, temperature=t).sample(z, seed=0, position=0).token.tolist() == best
            assert preset(name, temperature=t).sample(z, seed=0, position=0).kept.tolist() == [1] * 3


def test_vllm_raises_a_small_temperature_and_refuses_a_large_one():
    assert presets.vllm(1e-4).steps == (Temperature(0.01),)
    assert presets.vllm(1e-5).steps == (Temperature(0.01),)
    assert presets.vllm(np.array([1e-6, 1e-3, 0.5])).steps[0].temperature.tolist() == [0, 0.01, 0.5]
    with pytest.raises(ValueError, match=r"temperature: must be at most 2 in vLLM; got 2.5; build"):
        presets.vllm(2.5)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
@pytest.mark.parametrize("bad", [-0.5, math.nan])
def test_a_temperature_that_is_none(name, bad):
    with pytest.raises(ValueError, match=r"temperature: must be a number of at least 0; got .*; 0 is greedy"):
        preset(name, temperature=bad)
    with pytest.raises(ValueError, match="for request 1; 0 is greedy"):
        preset(name, temperature=np.array([1.0, bad]))


def test_vllm_order():
    """Min-p sees the law at T before top-k; penalties of frequency and presence count what was generated."""
    pipeline = presets.vllm(0.5, top_k=3, top_p=0.9, min_p=0.1, repetition_penalty=1.1, presence_penalty=0.5)
    assert [type(s).__name__ for s in pipeline.steps] == [
        "RepetitionPenalty",
        "PresencePenalty",
        "Temperature",
        "MinP",
        "TopK",
        "TopP",
    ]
    assert [s.scope for s in pipeline.steps[:2]] == ["all", "generated"]


@pytest.mark.parametrize("name", ["vllm", "sglang", "llama_cpp"])
def test_settings_of_a_batch_are_those_of_its_requests(name, rng):
    """Requests with different settings, some of which leave a step out, have the law that they have alone."""
    z = rng.normal(size=(4, 80)) * 3
    settings = {
        "temperature": np.array([0.0, 0.5, 1.0, 1.7]),
        "top_k": np.array([5, -1, 20, 10**7]),
        "top_p": np.array([1.0, 0.9, 0.5, 1.0]),
        "min_p": np.array([0.0, 0.05, 0.0, 0.2]),
        "frequency_penalty": np.array([0.0, 0.3, 0.0, 0.0]),
    }
    history = [[1, 2, 2]] * 4
    both = preset(name, **settings).probabilities(z, history=history)
    for row in range(4):
        own = {key: value[row].item() for key, value in settings.items()}
        if name == "sglang" and own["min_p"] == 0:
            own["min_p"] = np.array([5e-324])  # in this batch all go one after the other
        alone = preset(name, **own).probabilities(z[row : row + 1], history=history[:1])
        assert np.allclose(alone[0], both[row], rtol=1e-12, atol=0)


def nucleus(p, mass):
    order = np.argsort(-p)
    keep = np.zeros(len(p), bool)
    keep[order[np.cumsum(p[order]) - p[order] < mass]] = True
    return keep


def test_sglang_keeps_what_passes_both(rng):
    z = rng.normal(size=100) * 2
    p = np.exp(z / 0.8) / np.exp(z / 0.8).sum()
    joint = nucleus(p, 0.7) & (p >= np.sort(p)[-30])
    assert np.array_equal(presets.sglang(0.8, top_k=30, top_p=0.7).probabilities(z[None])[0] > 0, joint)
    first = np.where(p >= np.sort(p)[-30], p, 0)
    then = nucleus(first / first.sum(), 0.7)
    assert then.sum() < joint.sum()  # top-p of what top-k left is fewer
    assert np.array_equal(presets.sglang(0.8, top_k=30, top_p=0.7, min_p=1e-9).probabilities(z[None])[0] > 0, then)
    assert np.array_equal(presets.hf(0.8, top_k=30, top_p=0.7).probabilities(z[None])[0] > 0, then)


def test_llama_cpp_cools_last(rng):
    """What is kept is of the law at T = 1; the odds among it are of T."""
    z = rng.normal(size=200) * 2
    p = np.exp(z) / np.exp(z).sum()
    keep = p >= np.sort(p)[-40]
    keep = nucleus(np.where(keep, p, 0) / p[keep].sum(), 0.95) & keep
    keep &= p >= 0.05 * p.max()
    law = presets.llama_cpp(temperature=0.3).probabilities(z[None])[0]
    assert np.array_equal(law > 0, keep)
    odds = law[keep] / law.max()
    assert np.allclose(odds, np.exp((z[keep] - z.max()) / 0.3), rtol=1e-10)


def test_llama_cpp_counts_the_last_tokens():
    z = np.array([[2.0, 1.0, -1.0, 0.5]])
    history = [[0] + [1] * 63 + [2]]
    alone = presets.llama_cpp(1.0, top_k=0, top_p=1, min_p=0, repeat_penalty=2.0, frequency_penalty=0.1)
    out = alone.process(z, history=history)
    assert np.allclose(out, [[2.0, 1.0 / 2 - 6.3, -2.0 - 0.1, 0.5]])  # token 0 is out of the window of 64
    assert presets.llama_cpp(1.0, top_k=0, top_p=1, min_p=0, repeat_penalty=2.0, repeat_last_n=0).steps == ()
    every = presets.llama_cpp(repeat_penalty=2.0, repeat_last_n=-1, dry_multiplier=0.8).steps
    assert every[0].window is None and every[1].window is None and every[1].multiplier == 0.8
    with pytest.raises(ValueError, match="repeat_last_n: must be at least -1; got -2; -1 counts"):
        presets.llama_cpp(repeat_last_n=-2)


def test_steps_that_are_off_by_default_come_in_their_place():
    pipeline = presets.llama_cpp(typical_p=0.9, top_n_sigma=1.0, xtc_probability=0.5)
    names = [type(step).__name__ for step in pipeline.steps]
    assert names == ["TopNSigma", "TopK", "Typical", "TopP", "MinP", "XTC", "Temperature"]


def test_equal_settings_are_different_laws(rng):
    z = rng.normal(size=(1, 500)) * 2
    laws = [preset(n, temperature=1.6, top_k=40, top_p=0.8, min_p=0.02).probabilities(z)[0] for n in presets.PRESETS]
    kept = {name: int((law > 0).sum()) for name, law in zip(presets.PRESETS, laws)}
    assert kept["llama.cpp"] < kept["hf"]  # it truncates the colder law
    assert len({tuple(law.round(12)) for law in laws}) >= 2


def test_temperatures_of_the_library_go_in_unclamped(rng):
    z = rng.normal(size=(2, 100))
    warm = SetPoint(entropy=1.0)
    for name in presets.PRESETS:
        steps = [s for s in preset(name, temperature=warm).steps if isinstance(s, Temperature)]
        assert steps == [Temperature(warm)]
        assert np.isfinite(preset(name, temperature=warm).sample(z, seed=0, position=0).log_probability).all()


def test_by_name():
    assert preset("hf", temperature=0.5).steps == (Temperature(0.5), TopK(50, clamp=True))
    assert preset("llama.cpp").steps == preset("llama_cpp").steps == presets.llama_cpp().steps
    assert preset("hf", repetition_penalty=1.1, top_k=0, top_p=0.5, min_p=0.1).steps == (
        RepetitionPenalty(1.1),
        TopP(0.5),
        MinP(0.1),
    )
    assert isinstance(preset("vllm"), Pipeline)
    with pytest.raises(ValueError, match=r"name: must be one of hf, vllm, sglang, llama.cpp; got 'ollama'; or build"):
        preset("ollama")
