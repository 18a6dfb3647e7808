"""`logitherm sweep` with a tiny language model of random weights."""

import json
import subprocess
import sys

import pytest

from logitherm.cli import sweep as cli_sweep

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a model of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(alphabet),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=None,
        eos_token_id=None,
        max_position_embeddings=128,
    )
    network = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        network.lm_head.weight.mul_(200.0)  # so that it has preferences
    network.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("Once upon\n\na time\nthere <was>\n", encoding="utf-8")
    return str(path)


SMALL = ("--samples", 2, "--tokens", 12, "--temperatures", "0.2:1.4:0.3")


def test_the_table_and_the_turning_point(command, model, prompts):
    result = command("sweep", model, prompts, *SMALL)
    assert [line.split()[0] for line in result.stdout.splitlines()[2:7]] == ["0.2", "0.5", "0.8", "1.1", "1.4"]
    assert "Entropy turns at" in result.stdout
    assert "--json and --report have intervals." in result.stdout
    assert "3 prompts of 2 texts" in result.stdout
    assert "with 3 prompts intervals are too narrow" in result.stderr


def test_json_holds_the_numbers_and_the_texts(as_json, model, prompts):
    found = as_json("sweep", model, prompts, *SMALL)
    assert found["temperatures"] == [0.2, 0.5, 0.8, 1.1, 1.4]
    assert found["asked"] == ["Once upon", "a time", "there <was>"]
    assert [len(at) for at in found["texts"]] == [3] * 5 and len(found["texts"][0][0]) == 2
    entropy = found["curves"]["entropy"]
    assert entropy["value"] == sorted(entropy["value"])
    assert all(low <= value <= high for low, value, high in zip(*(entropy[k] for k in ("low", "value", "high"))))
    other = as_json("sweep", model, prompts, *SMALL, "--batch", 5)
    assert other["texts"] == found["texts"], "batches change nothing"


def test_a_scorer_brings_scores_and_votes(as_json, model, prompts, tmp_path, monkeypatch):
    (tmp_path / "own_scorer.py").write_text("def score(prompt, text):\n    return text[:1], float(text[:1] < 'm')\n")
    monkeypatch.chdir(tmp_path)
    found = as_json("sweep", model, prompts, *SMALL, "--scorer", "own_scorer:score")
    assert {"score", "best_of_2", "vote"} <= set(found["curves"])
    assert set(found["choices"]) == {"turning_point", "score", "best_of", "vote"}
    assert sum(found["choices"]["score"]["shares"]) == pytest.approx(1.0)


def test_the_report_is_one_page(command, model, prompts, tmp_path):
    target = tmp_path / "sweep.html"
    command("sweep", model, prompts, *SMALL, "--report", target)
    page = target.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and "there &lt;was&gt;" in page
    assert "exists" in command("sweep", model, prompts, *SMALL, "--report", target, code=1).stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "./no/such"}, "no such folder"),
        ({"prompts": "missing.txt"}, "no such file"),
        ({"more": ("--scorer", "json")}, "must be MODULE:FUNCTION"),
        ({"more": ("--scorer", "json:__name__")}, "--scorer: must be a function; got 'json'"),
        (
            {"more": ("--tokens", 120)},
            "got 120, and prompt 3, the longest, takes 11; ask for 117 at most, or shorten it",
        ),
        ({"more": ("--scorer", "json:nothing")}, "has no attribute 'nothing'"),
        ({"more": ("--scorer", "no_such_module:f")}, "No module named"),
        ({"more": ("--best-of", 3)}, "--best-of: must be at most the 2 texts"),
        ({"more": ("--scorer", "builtins:max")}, "scorer: must return a finite number"),
    ],
)
def test_errors_are_one_line(command, model, prompts, change, message):
    asked = (change.get("model", model), change.get("prompts", prompts), *SMALL, *change.get("more", ()))
    assert message in command("sweep", *asked, code=1).stderr


def test_a_prompt_longer_than_the_model(command, model, tmp_path):
    long = tmp_path / "long.txt"
    long.write_text("short\n" + "a" * 128 + "\n")
    assert "prompt 2, the longest, takes 128; shorten it" in command("sweep", model, long, *SMALL, code=1).stderr


@pytest.fixture
def scorers(tmp_path, monkeypatch):
    (tmp_path / "some_scorers.py").write_text(
        "def level(prompt, text):\n    return 0\n"
        "def two(prompt, text):\n    return 'x', float(len(set(text)) > 4)\n"
        "def broken(prompt, text):\n    with open('calls', 'a') as file:\n        file.write('.')\n"
        "    raise KeyError('two\\nlines')\n"
    )
    (tmp_path / "broken_scorers.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)


def test_a_scorer_that_fails_is_found_on_the_first_text(command, model, prompts, scorers, tmp_path, monkeypatch):
    from logitherm.generation import runs

    drawn = []
    own = runs.draw_texts
    monkeypatch.setattr(runs, "draw_texts", lambda *a, **o: drawn.append(o["samples"]) or own(*a, **o))
    said = command("sweep", model, prompts, *SMALL, "--scorer", "some_scorers:broken", code=1).stderr
    assert r"scorer: some_scorers:broken raised KeyError for prompt 1 ('Once upon'): 'two\nlines'; mend it" in said
    assert drawn == [1] and (tmp_path / "calls").read_text() == "."
    said = command("sweep", model, prompts, *SMALL, "--scorer", "broken_scorers:f", code=1).stderr
    assert "--scorer: broken_scorers raised ZeroDivisionError: division by zero; mend it" in said


def test_ties_are_said(command, model, prompts, scorers):
    out = command("sweep", model, prompts, *SMALL, "--scorer", "some_scorers:level").stdout
    assert "Best mean score at       no T: all temperatures tie, there is no choice" in out
    assert "95 % interval" in out, "the turning point has one"
    contents = {"choices": {"score": {"temperature": 0.6, "interval": [0.3, 0.8], "confidence": 0.95, "tied": [0.8]}}}
    contents |= {"best_of": 4, "no_turning_point": None, "prompts": 9, "samples": 4}
    lines = cli_sweep.words(contents)
    assert lines[0].endswith("T = 0.6   95 % interval 0.3 to 0.8") and lines[1].strip() == "tied with T = 0.8"


@pytest.mark.parametrize("grid", ["0.2,0.8", "0:2:0.5"])
def test_it_says_why_there_is_no_turning_point(command, model, prompts, tmp_path, grid):
    target = tmp_path / "few.html"
    asked = ("--samples", 2, "--tokens", 6, "--temperatures", grid, "--report", target)
    out = " ".join(command("sweep", model, prompts, *asked).stdout.split())
    assert "no T: the grid must be five positive, finite temperatures or more; got" in out
    assert "What does model" in target.read_text(encoding="utf-8")


@pytest.mark.parametrize("wide", [40, 80, 100, 200])
def test_no_cell_of_the_table_is_cut(wide):
    from rich.console import Console

    names = ["score", "vote", "best_of_8", *(name for name, _, _ in cli_sweep.COLUMNS)]
    curves = {name: {"value": [0.125, 123456.7 if name == "perplexity" else 0.5]} for name in names}
    contents = {"temperatures": [0.1, 1.45], "curves": curves, "best_of": 8}
    out = Console(width=wide, record=True)
    shown, left_out = cli_sweep.table(contents, out)
    out.print(shown)
    text = out.export_text()
    assert "\u2026" not in text and max(map(len, text.splitlines())) <= wide
    heads = text.splitlines()[0].split()
    assert heads[:3] == ["T", "score", "vote"]
    assert (left_out == 0) == (wide == 200) and ("1.23e+05" in text) == (wide >= 80)


def test_a_perplexity_has_three_digits_at_most():
    cells = [cli_sweep._cell(value, None) for value in (1.2345, 123.45, 54321.0, None)]
    assert cells == ["1.23", "123", "54300", "-"]


def test_a_folder_without_a_model_and_prompts_that_are_none(command, model, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n \n")
    assert "must have a prompt a line" in command("sweep", model, empty, code=1).stderr
    empty.write_bytes(b"\xff\xfe")
    assert "must be text in UTF-8" in command("sweep", model, empty, code=1).stderr
    empty.write_text("a\n")
    assert "cannot be loaded" in command("sweep", str(tmp_path), empty, code=1).stderr


@pytest.mark.parametrize("grid", ["", "a", "1:0:0.1", "0:1:0", "-1,2", "1,1", "nan"])
def test_grids_that_are_none(command, model, prompts, grid):
    assert "must be first:last:step" in command("sweep", model, prompts, "--temperatures", grid, code=2).stderr


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom logitherm.cli import main\n"
        "assert CliRunner().invoke(main, ['sweep', '--help']).exit_code == 0\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'transformers', 'numba', 'plotly', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout.replace("'", '"')) in ([], ["numpy"])
