"""Every example of the page runs, with a tiny model for `model`; its commands are commands."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

from logitherm.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "migration.md"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_its_examples_run(language_model):
    transformers = pytest.importorskip("transformers", reason="the page is for its users too")
    folder = language_model("gpt2")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, model_input_names=["input_ids", "attention_mask"])
    names = {"model": model, "tokenizer": tokenizer}
    found = doctest.testfile(str(PAGE), module_relative=False, extraglobs=names, encoding="utf-8")
    assert found.failed == 0 and found.attempted > 20


def test_its_commands_are_understood():
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("logitherm ")]
    assert len(lines) == 2
    for line in lines:
        _, name, *arguments = shlex.split(line)
        main.commands[name].make_context(name, arguments)


def test_its_presets_are_all_of_them():
    from logitherm.generation.presets import PRESETS

    text = PAGE.read_text(encoding="utf-8")
    assert all(re.search(rf'preset\("{re.escape(name)}"', text) for name in PRESETS)
