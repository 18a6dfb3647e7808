"""`logitherm attention`, on configurations on disk."""

import json

import pytest

SIZES = {"num_hidden_layers": 8, "hidden_size": 64, "num_attention_heads": 4, "head_dim": 16}


@pytest.fixture
def llama4(tmp_path):
    inner = {"model_type": "llama4_text", "floor_scale": 4, "attn_scale": 0.5, **SIZES}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama4", "text_config": inner}))
    return tmp_path


def test_audit_shows_layers_that_are_alike_in_a_row(command, llama4):
    lines = command("attention", "audit", llama4).stdout.splitlines()
    assert lines[0] == f"{llama4.name}: llama4_text, 8 layers; position 0"
    assert any(line.split()[:5] == ["0-2,", "4-6", "0.25", "4", "1/sqrt(16)"] for line in lines)
    assert any(line.split()[:4] == ["3,", "7", "0.25", "4"] for line in lines)
    assert "QK norm: RMS over each head" in " ".join(lines) and max(map(len, lines[1:])) <= 80
    assert "vLLM has it on only for texts" in " ".join(" ".join(lines).split())
    later = command("attention", "audit", llama4, "--position", 7).stdout
    assert "0.387" in later  # 0.25 (1 + 0.5 ln 3)


def test_audit_as_json(as_json, llama4):
    found = as_json("attention", "audit", llama4 / "config.json", "--position", 7)
    assert found["model_type"] == "llama4_text" and len(found["layers"]) == 8 and found["warnings"]
    assert [round(layer["inverse_temperature"], 3) for layer in found["layers"][:4]] == [0.25, 0.25, 0.25, 0.387]


def test_audit_of_rotated_and_other_parts(as_json, command, tmp_path):
    yarn = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}
    fields = {"model_type": "phi", **SIZES, "partial_rotary_factor": 0.5, "rope_parameters": yarn}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    values = as_json("attention", "audit", tmp_path)["layers"][0]["inverse_temperature"]
    assert values["plain"] == 0.25 and values["rotary"] == pytest.approx(0.25 * 1.2079**2, rel=1e-4)
    assert "(rotary part)" in " ".join(command("attention", "audit", tmp_path).stdout.split())


def test_audit_says_what_is_wrong_in_a_line(command, tmp_path):
    for contents, message in (("{", "must be JSON"), ("[]", "must hold a JSON object"), ("{}", "num_hidden_layers")):
        (tmp_path / "config.json").write_text(contents)
        error = command("attention", "audit", tmp_path, code=1).stderr
        assert message in error and error.count("\n") == 1
    assert "no such file" in command("attention", "audit", tmp_path / "none", code=1).stderr
    assert "Missing argument" in command("attention", "audit", code=2).stderr


def test_audit_of_a_name_that_is_not_found(command, monkeypatch):
    transformers = pytest.importorskip("transformers")

    def fails(name):
        raise OSError(f"{name} is not a local folder\nand more")

    monkeypatch.setattr(transformers.PretrainedConfig, "get_config_dict", fails)
    error = command("attention", "audit", "some-name", code=1).stderr
    assert "some-name is no file, folder or model that is found (some-name is not a local folder)" in error
