"""Pipelines in `generate` of real Hugging Face models, saved to a folder and loaded from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the models are Hugging Face's")
from logitherm import TemperatureScaling  # noqa: E402
from logitherm.generation import (  # noqa: E402
    DRY,
    XTC,
    Mirostat,
    Pipeline,
    PresencePenalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)
from logitherm.integrations.transformers_sampling import PipelineLogitsProcessor, Sampled, sample  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
KINDS = ["gpt2", "llama"]
PROMPTS = ["A temperature is", "We measure it, and then we set it where"]


class Loaded:
    """A model and its tokenizer as anyone has them."""

    def __init__(self, folder):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def inputs(self, prompts):
        return self.tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)

    def generate(self, prompts, **options):
        """Tokens after the prompts."""
        inputs = self.inputs(prompts)
        found = self.model.generate(**inputs, max_new_tokens=10, **options)
        length = inputs["input_ids"].shape[1]
        return [self._until_the_end(row[length:].tolist()) for row in found]

    def _until_the_end(self, tokens):
        end = self.tokenizer.eos_token_id
        return tokens[: tokens.index(end) + 1] if end in tokens else tokens


@pytest.fixture(scope="module", params=KINDS)
def loaded(request, language_model):
    return Loaded(language_model(request.param))


@pytest.fixture(scope="module")
def gpt2(language_model):
    return Loaded(language_model("gpt2"))


# -- the whole sampler -----------------------------------------------------------------------------------

PIPELINES = [
    [Temperature(1)],
    [RepetitionPenalty(1.3), Temperature(0.8), TopK(30), TopP(0.9)],
    [DRY(0.8), PresencePenalty(0.5), Temperature(1.2), XTC(0.5)],
    [Temperature(0.9), Mirostat(3.0)],
]


@pytest.mark.parametrize("steps", PIPELINES, ids=lambda steps: "-".join(type(step).__name__ for step in steps))
def test_a_request_has_the_same_tokens_alone_and_in_a_padded_batch(loaded, steps):
    pipeline = Pipeline(steps)
    together = loaded.generate(PROMPTS, custom_generate=sample, pipeline=pipeline, seed=[11, 12])
    alone = [
        loaded.generate([prompt], custom_generate=sample, pipeline=pipeline, seed=[seed])[0]
        for prompt, seed in zip(PROMPTS, (11, 12))
    ]
    assert together == alone
    numbered = loaded.generate(PROMPTS, custom_generate=sample, pipeline=pipeline, seed=5)
    assert loaded.generate(PROMPTS[1:], custom_generate=sample, pipeline=pipeline, seed=5, request=[1]) == numbered[1:]


def test_temperature_zero_is_greedy_search(loaded):
    greedy = loaded.generate(PROMPTS, do_sample=False)
    assert loaded.generate(PROMPTS, custom_generate=sample, pipeline=Temperature(0)) == greedy
    assert loaded.generate(PROMPTS, custom_generate=sample, pipeline=Temperature(0), use_cache=False) == greedy


def test_every_request_has_its_own_temperature_or_pipeline(loaded):
    greedy = loaded.generate(PROMPTS, do_sample=False)
    mixed = loaded.generate(PROMPTS, custom_generate=sample, pipeline=Temperature([0.0, 1.0]), seed=[1, 2])
    hot = loaded.generate(PROMPTS[1:], custom_generate=sample, pipeline=Temperature(1.0), seed=[2])
    assert mixed == [greedy[0], hot[0]]
    pipelines = [Pipeline([Temperature(0)]), Pipeline([Temperature(1.0)])]
    assert loaded.generate(PROMPTS, custom_generate=sample, pipeline=pipelines, seed=[1, 2]) == mixed


def test_sequences_of_one_prompt_differ_and_are_those_of_their_numbers(gpt2):
    steps = [Temperature([1.0, 1.5])]
    found = gpt2.generate(
        PROMPTS, custom_generate=sample, pipeline=steps, seed=[3, 4], num_return_sequences=3, do_sample=True
    )
    assert len({tuple(tokens) for tokens in found}) == 6
    for prompt, temperature, seed, three in ((PROMPTS[0], 1.0, 3, found[:3]), (PROMPTS[1], 1.5, 4, found[3:])):
        for number, tokens in enumerate(three):
            one = gpt2.generate(
                [prompt], custom_generate=sample, pipeline=Temperature(temperature), seed=seed, request=[number]
            )
            assert one == [tokens]


def test_log_probabilities_are_those_of_the_model_and_of_the_law_drawn_from(gpt2):
    pipeline = Pipeline([Temperature(0.7), TopK(5)])
    inputs = gpt2.inputs(PROMPTS)
    found = gpt2.model.generate(
        **inputs, custom_generate=sample, pipeline=pipeline, seed=[1, 2], max_new_tokens=12, output_logits=True,
        return_dict_in_generate=True, min_new_tokens=3, do_sample=True, temperature=0.1,
    )  # fmt: skip
    assert isinstance(found, Sampled)
    length = inputs["input_ids"].shape[1]
    tokens = found.sequences[:, length:]
    shape = tuple(tokens.shape)
    assert shape == tuple(found.kept.shape) == tuple(found.log_probabilities.shape) == (2, len(found.logits))
    mask = torch.cat([inputs["attention_mask"], torch.ones(shape, dtype=torch.long)], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        z = gpt2.model(found.sequences, attention_mask=mask, position_ids=positions).logits[:, length - 1 : -1].double()
    raw = z.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    ended = found.log_probabilities.isnan()
    assert torch.equal(ended, found.raw_log_probabilities.isnan()) and torch.equal(ended, found.kept == 0)
    torch.testing.assert_close(found.raw_log_probabilities[~ended], raw[~ended], rtol=0, atol=2e-5)
    z[:, :3, 0] = -torch.inf  # min_new_tokens: no end among the first three
    kept = z >= z.topk(5, dim=-1).values[..., -1:]
    law = (z / 0.7).where(kept, -torch.inf).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(found.log_probabilities[~ended], law[~ended], rtol=0, atol=2e-5)
    assert (found.kept[~ended] == 5).all()


def test_what_has_ended_is_padded_and_stops_the_loop(gpt2):
    """Criteria of one's own end the first request after three tokens and the second after five; no token 5 is drawn."""
    seen = []

    class InTurn(transformers.StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            seen.append(input_ids.shape[1])
            return torch.tensor([len(seen) >= 3, len(seen) >= 5])

    inputs = gpt2.inputs(PROMPTS)
    found = gpt2.model.generate(
        **inputs, custom_generate=sample, pipeline=Temperature(1), seed=[1, 2], max_new_tokens=16,
        stopping_criteria=transformers.StoppingCriteriaList([InTurn()]), return_dict_in_generate=True,
        suppress_tokens=[5],
    )  # fmt: skip
    tokens = found.sequences[:, inputs["input_ids"].shape[1] :]
    assert tuple(tokens.shape) == (2, 5)
    assert tokens[0, 3:].tolist() == [gpt2.tokenizer.pad_token_id] * 2
    assert found.kept[:, -1].tolist() == [0, len(gpt2.tokenizer) - 1]


def test_tokens_are_told_as_they_come(gpt2):
    told = []
    inputs = gpt2.inputs(PROMPTS[:1])
    found = gpt2.model.generate(
        **inputs, custom_generate=sample, pipeline=Temperature(1.0), seed=3, max_new_tokens=6, on_token=told.append
    )
    assert [int(draws.token[0]) for draws in told] == found[0, inputs["input_ids"].shape[1] :].tolist()


def test_a_streamer_gets_every_token_and_the_end(gpt2):
    streamer = transformers.TextIteratorStreamer(gpt2.tokenizer, skip_prompt=True, timeout=60)
    tokens = gpt2.generate(PROMPTS[:1], custom_generate=sample, pipeline=TopK(5), seed=3, token_streamer=streamer)
    assert "".join(streamer) == gpt2.tokenizer.decode(tokens[0])
    options = {"output_scores": True, "return_dict_in_generate": True, "max_new_tokens": 3}
    with pytest.raises(ValueError, match="output_scores: are not kept"):
        gpt2.model.generate(**gpt2.inputs(PROMPTS[:1]), custom_generate=sample, **options)


def test_what_a_model_brings_of_temperature_and_truncation_does_not_run(gpt2):
    ours = gpt2.generate(PROMPTS, custom_generate=sample, pipeline=Temperature(1.0), seed=5)
    quietly = gpt2.generate(
        PROMPTS, custom_generate=sample, pipeline=Temperature(1.0), seed=5, do_sample=True, temperature=0.1, top_k=2
    )
    assert quietly == ours


def test_a_calibrator_is_the_base_temperature(gpt2):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=300)
    z = rng.normal(size=(300, 3)) + 2 * np.eye(3)[labels]
    scaling = TemperatureScaling().fit(z, labels)
    number = gpt2.generate(PROMPTS, custom_generate=sample, pipeline=Temperature(scaling.temperature_), seed=5)
    assert gpt2.generate(PROMPTS, custom_generate=sample, pipeline=Temperature(scaling), seed=5) == number


def test_an_encoder_and_its_decoder():
    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(config).eval()
    inputs = {"input_ids": torch.tensor([[0, 5, 6], [7, 8, 9]]), "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]])}
    greedy = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    steps = [RepetitionPenalty(1.0), Temperature(0)]
    assert torch.equal(model.generate(**inputs, max_new_tokens=6, custom_generate=sample, pipeline=steps), greedy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": [1, 2, 3]}, "seed: must be one number or one a prompt, 2"),
        ({"seed": -1}, r"seed: must lie in \[0, 2\^64\)"),
        ({"pipeline": [Pipeline()]}, "pipeline: must be one, or one a prompt, 2; got 1"),
        ({"num_beams": 2}, "num_beams: must be 1"),
        ({"pipeline": TopK(10**6)}, "k: must be at most"),
    ],
)
def test_refusals(gpt2, options, message):
    with pytest.raises(ValueError, match=message):
        gpt2.generate(PROMPTS, custom_generate=sample, **{"pipeline": Temperature(1.0)} | options)


def test_what_is_no_pipeline():
    with pytest.raises(TypeError, match=r"pipeline: must be a Pipeline, a step, or steps; got float 0.7"):
        PipelineLogitsProcessor(0.7)


# -- the logits processor --------------------------------------------------------------------------------


def test_the_processor_with_transformers_own_draw_has_our_law(gpt2):
    """5000 first tokens of transformers' multinomial against the probabilities of the pipeline."""
    pipeline = Pipeline([RepetitionPenalty(1.2), Temperature(0.8), TopK(12)])
    inputs = gpt2.inputs(PROMPTS[:1])
    n = 5000
    with torch.no_grad():
        z = gpt2.model(**inputs).logits[:, -1]
    law = pipeline.probabilities(z, history=inputs["input_ids"], prompt_lengths=inputs["input_ids"].shape[1])[0]
    torch.manual_seed(0)
    drawn = gpt2.model.generate(
        **inputs, do_sample=True, top_k=0, temperature=1.0, max_new_tokens=1, num_return_sequences=n,
        logits_processor=[PipelineLogitsProcessor(pipeline)],
    )[:, -1]  # fmt: skip
    counts = np.bincount(drawn.numpy(), minlength=len(law))
    expected = n * law.double().numpy()
    assert not counts[expected == 0].any()
    there = expected > 0
    statistic = ((counts[there] - expected[there]) ** 2 / expected[there]).sum()
    assert statistic < 11 + 5 * np.sqrt(22)


def test_the_processor_is_greedy_at_zero_and_serves_many_calls(loaded):
    greedy = loaded.generate(PROMPTS, do_sample=False)
    processor = PipelineLogitsProcessor([RepetitionPenalty(1.0), Temperature(0), TopK(1)])
    for _ in range(2):
        assert loaded.generate(PROMPTS, do_sample=True, top_k=0, logits_processor=[processor]) == greedy
    assert loaded.generate(PROMPTS[:1], do_sample=True, top_k=0, logits_processor=[processor]) == greedy[:1]


@pytest.mark.parametrize("how", ["attention_mask", "pad_token_id"])
def test_padding_is_no_history_and_the_prompt_does_not_count_where_it_should_not(loaded, how):
    steps = [RepetitionPenalty(1.5), PresencePenalty(3.0)]
    inputs = loaded.inputs(PROMPTS)
    known = inputs[how] if how == "attention_mask" else loaded.tokenizer.pad_token_id
    together = loaded.generate(
        PROMPTS, do_sample=False, logits_processor=[PipelineLogitsProcessor(steps, **{how: known})]
    )
    alone = [
        loaded.generate([prompt], do_sample=False, logits_processor=[PipelineLogitsProcessor(steps)])[0]
        for prompt in PROMPTS
    ]
    assert together == alone
    assert alone != loaded.generate(PROMPTS, do_sample=False)
    pads = PipelineLogitsProcessor(RepetitionPenalty(2.0), **{how: known})
    z = torch.ones((2, len(loaded.tokenizer)))
    assert pads(inputs["input_ids"], z)[0, loaded.tokenizer.pad_token_id] == 1.0


def test_the_mask_of_prompts_goes_with_several_sequences_of_each(gpt2):
    inputs = gpt2.inputs(PROMPTS)
    processor = PipelineLogitsProcessor(RepetitionPenalty(1.5), attention_mask=inputs["attention_mask"])
    found = gpt2.generate(PROMPTS, do_sample=True, top_k=0, num_return_sequences=2, logits_processor=[processor])
    assert len(found) == 4
    with pytest.raises(ValueError, match="attention_mask: must be that of the prompts"):
        processor(torch.zeros((2, 3), dtype=torch.long), torch.zeros((2, len(gpt2.tokenizer))))


def test_it_matches_the_processors_of_transformers(gpt2):
    z = torch.randn((2, 50), generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[4, 5], [6, 6]])
    ours = PipelineLogitsProcessor([RepetitionPenalty(1.3), Temperature(0.5), TopK(7), TopP(0.8)])(ids, z)
    theirs = transformers.LogitsProcessorList([
        transformers.RepetitionPenaltyLogitsProcessor(1.3), transformers.TemperatureLogitsWarper(0.5),
        transformers.TopKLogitsWarper(7), transformers.TopPLogitsWarper(0.8),
    ])(ids, z.clone())  # fmt: skip
    torch.testing.assert_close(ours.softmax(-1), theirs.softmax(-1))
    assert torch.equal(ours == -torch.inf, theirs == -torch.inf)


def test_continuous_batching_leaves_it_out():
    assert PipelineLogitsProcessor(TopK(3)).supports_continuous_batching is False


def test_mirostat_has_to_know_the_draw():
    with pytest.raises(ValueError, match="pipeline: must be without Mirostat"):
        PipelineLogitsProcessor(Mirostat())
