"""Real Hugging Face models, small and made from a config."""

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
)

import logitherm
from logitherm import TemperatureScaling
from logitherm.calibration import BiasCorrectedTemperatureScaling

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TEXT = SMALL | {"vocab_size": 32, "max_position_embeddings": 16, "pad_token_id": 0}
GPT2 = {"vocab_size": 32, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "pad_token_id": 0}
IMAGE = SMALL | {"image_size": 8, "patch_size": 4, "num_labels": 4}
TOKENS = {"input_ids": torch.randint(1, 32, (8, 6), generator=torch.Generator().manual_seed(0))}
PIXELS = {"pixel_values": torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))}
CLASSIFIERS = [
    (BertForSequenceClassification, BertConfig(**TEXT, num_labels=4), TOKENS),
    (RobertaForSequenceClassification, RobertaConfig(**TEXT, num_labels=4), TOKENS),
    (ViTForImageClassification, ViTConfig(**IMAGE), PIXELS),
    (
        ResNetForImageClassification,
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=4),
        PIXELS,
    ),
]


def made(kind, config):
    torch.manual_seed(0)
    model = kind(config).eval()
    for module in model.modules():  # logits of a size that matters
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5)
    return model


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6 * float(expected.abs().max()))


@pytest.mark.parametrize(("kind", "config", "inputs"), CLASSIFIERS, ids=lambda v: getattr(v, "__name__", ""))
def test_the_classification_head_is_found(kind, config, inputs, calibrator, tmp_path):
    model = made(kind, config)
    before = logits(model, inputs)
    baked = logitherm.bake(model, calibrator)
    close(logits(baked, inputs), calibrator.transform(before))
    torch.testing.assert_close(logits(model, inputs), before, rtol=0, atol=0)
    baked.save_pretrained(tmp_path)
    close(logits(kind.from_pretrained(tmp_path).eval(), inputs), calibrator.transform(before))


def test_a_head_without_bias(fitted):
    model = made(GPT2ForSequenceClassification, GPT2Config(**GPT2, num_labels=4))
    scaling = fitted(TemperatureScaling)
    baked = logitherm.bake(model, scaling)
    close(logits(baked, TOKENS), scaling.transform(logits(model, TOKENS)))
    assert baked.score.bias is None
    with pytest.raises(ValueError, match=r"no bias for 'score' .* from_pretrained would drop a new one"):
        logitherm.bake(model, fitted(BiasCorrectedTemperatureScaling))


def test_the_head_of_a_language_model(tmp_path):
    model = made(LlamaForCausalLM, LlamaConfig(**TEXT, tie_word_embeddings=False))
    expected = logits(model, TOKENS) / 1.3
    baked = logitherm.bake(model, 1.3)
    close(logits(baked, TOKENS), expected)
    baked.save_pretrained(tmp_path)
    close(logits(LlamaForCausalLM.from_pretrained(tmp_path), TOKENS), expected)


def test_tied_embeddings_are_refused_until_they_are_not(tmp_path):
    model = made(GPT2LMHeadModel, GPT2Config(**GPT2))
    before = logits(model, TOKENS)
    with pytest.raises(
        ValueError, match=r"'lm_head' shares its matrix .* 'transformer.wte'.*temperature to 1.3 instead"
    ):
        logitherm.bake(model, 1.3, inplace=True)
    torch.testing.assert_close(logits(model, TOKENS), before, rtol=0, atol=0)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone())
    with pytest.raises(ValueError, match="would be tied again when loaded"):
        logitherm.bake(model, 1.3)
    model.config.tie_word_embeddings = False
    logitherm.bake(model, 1.3, inplace=True).save_pretrained(tmp_path)
    close(logits(model, TOKENS), before / 1.3)
    close(logits(GPT2LMHeadModel.from_pretrained(tmp_path).eval(), TOKENS), before / 1.3)


def test_a_masked_language_model_is_tied_too():
    with pytest.raises(ValueError, match=r"cls.predictions.decoder.*bert.embeddings.word_embeddings"):
        logitherm.bake(made(BertForMaskedLM, BertConfig(**TEXT)), 2.0)


def test_capped_logits_are_not_affine():
    config = Gemma2Config(**TEXT, num_key_value_heads=1, head_dim=8, tie_word_embeddings=False)
    with pytest.raises(ValueError, match=r"final_logit_softcapping = 30.0\); set generation_config.temperature"):
        logitherm.bake(made(Gemma2ForCausalLM, config), 2.0)


def test_two_heads_or_none():
    teacher = DeiTForImageClassificationWithTeacher(DeiTConfig(**IMAGE))
    with pytest.raises(ValueError, match=r"^head: must be named .*cls_classifier, distillation_classifier"):
        logitherm.bake(teacher, 2.0)
    with pytest.raises(ValueError, match=r"^head: must be named for BertModel"):
        logitherm.bake(BertModel(BertConfig(**TEXT)), 2.0)
    named = logitherm.bake(teacher, 2.0, head="cls_classifier")
    torch.testing.assert_close(named.cls_classifier.weight, teacher.cls_classifier.weight / 2)
