"""safetensors checkpoints, read and written by safetensors itself."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from logitherm import TemperatureScaling
from logitherm.calibration import BiasCorrectedTemperatureScaling
from logitherm.integrations.baking import bake_safetensors
from logitherm.io import InputError

ROUNDING = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 2e-7, torch.float64: 1e-14}
METADATA = {"format": "pt", "note": "ours"}


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "model.safetensors", tmp_path / "baked.safetensors"


def tensors(dtype=torch.float32, bias=True, name="classifier"):
    generator = torch.Generator().manual_seed(0)
    drawn = {"body.weight": torch.randn(7, 6, generator=generator), "ids": torch.arange(9, dtype=torch.int16)}
    drawn[f"{name}.weight"] = torch.randn(4, 6, generator=generator).to(dtype)
    if bias:
        drawn[f"{name}.bias"] = torch.randn(4, generator=generator).to(dtype)
    return drawn


def differing_bytes(old, new):
    a, b = (np.frombuffer(path.read_bytes(), dtype=np.uint8) for path in (old, new))
    assert len(a) == len(b)
    return np.flatnonzero(a != b)


@pytest.mark.parametrize("dtype", list(ROUNDING), ids=str)
def test_the_head_is_folded(calibrator, paths, dtype):
    old = tensors(dtype)
    save_file(old, paths[0], METADATA)
    done = bake_safetensors(*paths[:1], calibrator, paths[1])
    assert done.folded and str(done) == "folded into 'classifier.weight' and 'classifier.bias'"
    new = load_file(paths[1])
    assert {name: v.dtype for name, v in new.items()} == {name: v.dtype for name, v in old.items()}
    x = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def logits(weights):
        return x @ weights["classifier.weight"].double().T + weights["classifier.bias"].double()

    expected = calibrator.transform(logits(old))
    torch.testing.assert_close(logits(new), expected, rtol=0, atol=ROUNDING[dtype] * 4 * float(expected.abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_rounding_to_half_is_to_nearest(paths, dtype):
    old = tensors(dtype, bias=False)
    save_file(old, paths[0])
    bake_safetensors(paths[0], 1.7, paths[1])
    expected = (old["classifier.weight"].double() / 1.7).to(dtype)
    assert torch.equal(load_file(paths[1])["classifier.weight"], expected)


def test_not_another_byte_changes(calibrator, paths):
    save_file(tensors(), paths[0], METADATA)
    bake_safetensors(paths[0], calibrator, paths[1])
    changed = len(differing_bytes(*paths))
    assert 0 < changed <= 4 * (4 * 6 + 4)
    with safe_open(paths[1], "pt") as file:
        assert file.metadata() == METADATA
    new = load_file(paths[1])
    assert all(torch.equal(new[name], value) for name, value in tensors().items() if "classifier" not in name)


def test_other_names(paths):
    save_file(tensors(name="score"), paths[0])
    assert "'score.bias'" in bake_safetensors(paths[0], 2.0, paths[1], weight="score.weight").where
    torch.testing.assert_close(load_file(paths[1])["score.bias"], tensors(name="score")["score.bias"] / 2)
    renamed = {name.replace("score.bias", "b"): value for name, value in tensors(name="score").items()}
    save_file(renamed, paths[0])
    bake_safetensors(paths[0], 2.0, paths[1], weight="score.weight", bias="b", force=True)
    torch.testing.assert_close(load_file(paths[1])["b"], renamed["b"] / 2)


def test_a_head_without_bias(fitted, paths):
    save_file(tensors(bias=False), paths[0])
    assert str(bake_safetensors(paths[0], fitted(TemperatureScaling), paths[1])) == "folded into 'classifier.weight'"
    with pytest.raises(ValueError, match=r"must have no bias for a head without one.*no 'classifier.bias'"):
        bake_safetensors(paths[0], fitted(BiasCorrectedTemperatureScaling), paths[1], force=True)


# -- refusals --------------------------------------------------------------------------------------------


def refused(paths, match, calibrator=2.0, **options):
    with pytest.raises(ValueError, match=match):
        bake_safetensors(paths[0], calibrator, paths[1], **options)
    assert not paths[1].exists()


def test_tied_embeddings(tmp_path):
    config = GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    model = GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path)
    paths = tmp_path / "model.safetensors", tmp_path / "baked.safetensors"
    refused(
        paths, r"no 'lm_head.weight', which is tied to the embeddings 'transformer.wte.weight'", weight="lm_head.weight"
    )
    wte = model.transformer.wte.weight.detach()
    save_file({"wte.weight": wte, "lm_head.weight": wte.clone()}, paths[0])
    refused(paths, "'lm_head.weight' is a copy of 'wte.weight'", weight="lm_head.weight")
    save_file({"wte.weight": wte, "lm_head.weight": wte + 1}, paths[0])
    bake_safetensors(paths[0], 2.0, paths[1], weight="lm_head.weight")


def test_names_that_are_not_there(paths):
    save_file(tensors(name="score"), paths[0])
    refused(paths, r"no 'classifier.weight'; matrices from its end: score.weight, body.weight; name one")
    refused(paths, r"no 'c'; leave it out", weight="score.weight", bias="c")


def test_tensors_that_are_no_linear_layer(paths):
    for bad in (torch.ones(4), torch.ones(4, 6, dtype=torch.int8), torch.ones(4, 6, 1, 1)):
        save_file({"classifier.weight": bad}, paths[0])
        refused(paths, r"'classifier.weight' must be float16.* of shape \(classes, features\); it is")
    save_file({"classifier.weight": torch.ones(4, 6), "classifier.bias": torch.ones(3)}, paths[0])
    refused(paths, "must have the 4 rows")


def test_overflow_and_other_classes(paths, calibrator):
    save_file({"classifier.weight": torch.full((2, 3), 100, dtype=torch.float16)}, paths[0])
    refused(paths, "must stay finite", 1e-3)
    refused(paths, "got 4 for 'classifier.weight' with 2 outputs", calibrator)
    save_file({"classifier.weight": torch.full((2, 3), 1e38, dtype=torch.bfloat16)}, paths[0])
    refused(paths, "must stay finite", 0.1)


def with_header(header):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        (10**9).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"[1]\n",
        with_header({"classifier.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}),
        with_header({"classifier.weight": {"dtype": "F32", "shape": [2, 2]}}),
        with_header({"classifier.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 0]}}),
    ],
)
def test_files_that_are_none(paths, content):
    paths[0].write_bytes(content)
    refused(paths, r"model.safetensors: .*write it again with safetensors")


def test_nothing_is_overwritten_unless_told(paths):
    save_file(tensors(), paths[0])
    paths[1].write_bytes(b"mine")
    with pytest.raises(InputError, match="exists; pass force=True"):
        bake_safetensors(paths[0], 2.0, paths[1])
    assert paths[1].read_bytes() == b"mine"
    bake_safetensors(paths[0], 2.0, paths[1], force=True)
    before = paths[1].read_bytes()
    bake_safetensors(paths[0], 2.0, paths[0], force=True)  # in place
    assert paths[0].read_bytes() == before
