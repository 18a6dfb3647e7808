"""`logitherm attention report` with a tiny language model of random weights."""

import json

import pytest
from click.testing import CliRunner

from logitherm.cli import main

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
HEADS, LAYERS = 4, 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a model of bytes, whose first head has no queries."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    transformers.set_seed(0)
    network = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=len(alphabet),
            n_embd=32,
            n_layer=LAYERS,
            n_head=HEADS,
            n_positions=64,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    with torch.no_grad():
        for block in network.transformer.h:
            block.attn.c_attn.weight.mul_(20)
        network.transformer.h[0].attn.c_attn.weight[:, :8] = 0
    network.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("It was a bright cold day in April, and the clocks were striking thirteen. " * 3, encoding="utf-8")
    return str(path)


def test_findings_come_first_and_fit_80_columns(command, model, text):
    result = command("attention", "report", model, text)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("  Collapsed")
    uniform = next(line for line in lines if line.startswith("  Uniform"))
    assert "of 8, all keys alike: 0.0" in uniform
    first = next(line for line in lines if line.startswith("  0  "))
    assert first.split()[1] == "U" and len(first.split()) == 1 + HEADS + 2
    assert first.split()[-1] == "2.83", "the root of the width"
    assert max(map(len, lines)) <= 80


def test_report_is_the_default_command(command, model, text):
    whole = command("attention", "report", model, text).stdout
    assert command("attention", model, text).stdout == whole
    assert command("attention", "--length", 64, model, text).stdout == whole, "options may come first"
    assert "Commands:" in CliRunner().invoke(main, ["attention", "--help"]).output


def test_json_is_that_of_the_library(as_json, model, text):
    from logitherm.integrations.transformers_attention_report import attention_report

    found = as_json("attention", model, text, "--length", 32, "--tokens", 80)
    assert (found["sequences"], found["lengths"], found["file"]) == (3, [16, 32], "text.txt")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    network = transformers.AutoModelForCausalLM.from_pretrained(model)
    with open(text, encoding="utf-8") as file:
        ids = torch.tensor(tokenizer(file.read())["input_ids"][:80])
    expected = attention_report(network, [ids[:64].reshape(2, 32), ids[None, 64:]]).to_dict()
    assert found["findings"] == json.loads(json.dumps(expected["findings"]))
    for name, values in expected["heads"].items():
        for a, b in zip(found["heads"][name], values, strict=True):
            assert a == pytest.approx(b, rel=2e-3)
    assert len(found["temperatures"]["relative"]) == 15


def test_the_report_is_one_file(command, model, text, tmp_path):
    pytest.importorskip("plotly")
    out = tmp_path / "heads.html"
    result = command("attention", model, text, "--report", out, "--length", 32)
    assert f"Report: {out}" in result.stdout.replace("\n", "")
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "--force" in command("attention", model, text, "--report", out, code=1).stderr


def test_errors_are_one_line(command, model, text, tmp_path):
    assert "no such folder" in command("attention", str(tmp_path / "none"), text, code=1).stderr
    assert "--length: must be at most the 64" in command("attention", model, text, "--length", 65, code=1).stderr
    missing = str(tmp_path / "none" / "heads.html")
    assert "its folder does not exist" in command("attention", model, text, "--report", missing, code=1).stderr
    bare = tmp_path / "bare"
    transformers.AutoModelForCausalLM.from_pretrained(model).save_pretrained(bare)
    assert "bare: must have a tokenizer; got none" in command("attention", str(bare), text, code=1).stderr
    short = tmp_path / "short.txt"
    short.write_text("ab", encoding="utf-8")
    assert "must have 8 tokens or more; got 2" in command("attention", model, str(short), code=1).stderr
