"""What an audit says of configurations that it does not know, or that are wrong."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from logitherm.attention import audit, audit_model


def test_what_is_not_known_is_said():
    sizes = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
    found = audit({**sizes, "model_type": "novel", "query_scale": 3.0, "layer_types": ["full_attention", "mamba"]})
    assert found.inverse_temperature(0) == 0.25 and math.isnan(found.temperature(1))
    text = " ".join(found.warnings)
    assert "'novel' is not known" in text and "query_scale" in text and "'mamba'" in text
    assert found.to_dict()["layers"][1]["inverse_temperature"] is None
    json.dumps(found.to_dict(), allow_nan=False)
    assert "no softmax that is known" in str(found)
    asked = audit({**sizes, "model_type": "novel", "attn_logit_softcapping": 30.0, "attention_multiplier": 0.1})
    assert asked.layers[0].softcap == 30.0 and asked.inverse_temperature(0) == 0.1
    strange = audit({**sizes, "model_type": "llama", "rope_scaling": {"type": "novel", "factor": 2.0}})
    assert any("rotary type 'novel'" in s for s in strange.warnings)
    inner = audit({"model_type": "gemma3", "text_config": {**sizes, "head_dim": 16}, "vision_config": {}})
    assert inner.model_type == "gemma3_text" and "text_config" in inner.warnings[0]
    assert inner.inverse_temperature(0) == 1 / 16


@pytest.mark.parametrize(
    ("config", "error"),
    [
        (3, "config: must be a configuration of transformers"),
        (type("Config", (), {"to_dict": lambda self: {}}), "config: must be a configuration of .* got type"),
        ({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2}, "must have num_hidden_layers"),
        ({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": -1}, "num_hidden_layers must be a positive"),
        ("./nowhere/", "no such file; name a config.json"),
        ({"model_type": "swinv2", "depths": 3}, "depths and num_heads must be lists"),
        (
            {"model_type": "olmo", "num_hidden_layers": 2, "layer_types": ["full_attention"]},
            "layer_types must be a list",
        ),
        ({"model_type": "deepseek_v3", "num_hidden_layers": 1, "rope_scaling": {"type": "yarn"}}, "need"),
        (
            {
                "model_type": "deepseek_v3",
                "num_hidden_layers": 1,
                "rope_scaling": {"type": "yarn", "mscale_all_dim": 1.0},
            },
            "need factor",
        ),
    ],
)
def test_errors_are_one_line(config, error):
    with pytest.raises((ValueError, TypeError), match=error) as caught:
        audit(config)
    assert "\n" not in str(caught.value)


def test_arguments_of_the_result():
    found = audit({"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4})
    for arguments, error in (((2,), "layer: must be below 2"), ((0, -1), "position"), ((0, 0.5), "position")):
        with pytest.raises(ValueError, match=error):
            found.inverse_temperature(*arguments)
    with pytest.raises(ValueError, match="part: must be rotary or plain"):
        found.inverse_temperature(0, part="half")
    with pytest.raises(TypeError, match="model: must be a model of transformers"):
        audit_model(found)
    assert found.temperature(-1, np.arange(3)).tolist() == [4.0, 4.0, 4.0]


def test_reading_a_dict_loads_no_torch():
    sizes = '{"model_type": "gpt_oss", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}'
    program = f"import sys; from logitherm.attention import audit; str(audit({sizes})); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
