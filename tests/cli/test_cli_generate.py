"""Text of a tiny model, built and saved on the spot."""

import io
import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the models are Hugging Face's")
from rich.console import Console

from logitherm import TemperatureScaling
from logitherm.cli import streaming
from logitherm.cli.streaming import Screen, Token, Transcript

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
PROMPT = "A temperature is"


@pytest.fixture(scope="module")
def model(language_model):
    return language_model("gpt2")


def test_the_text_alone_where_nobody_looks_on(command, model):
    found = command("generate", model, PROMPT, "--max-tokens", 12, "--color")
    assert found.stdout.endswith("\n") and "\x1b" not in found.stdout and PROMPT not in found.stdout
    assert found.stderr == ""
    assert command("generate", model, PROMPT, "--max-tokens", 12).stdout == found.stdout
    assert command("generate", model, PROMPT, "--max-tokens", 12, "--seed", 1).stdout != found.stdout


def test_json_has_every_token_with_its_probabilities(as_json, model):
    found = as_json("generate", model, PROMPT, "--max-tokens", 6, "--temperature", 0.5, "--top-k", 3)
    assert found["pipeline"] == "Pipeline([Temperature(0.5), TopK(3)])"
    assert found["ended"] in ("max_tokens", "end")
    assert "".join(token["text"] for token in found["tokens"]) == found["text"]
    for token in found["tokens"]:
        assert token["kept"] == 3
        assert -math.inf < token["raw_log_probability"] < token["log_probability"] <= 0


def test_zero_is_greedy_and_so_is_one_token(as_json, model):
    greedy = as_json("generate", model, PROMPT, "--max-tokens", 6, "--temperature", 0)
    assert as_json("generate", model, PROMPT, "--max-tokens", 6, "--top-k", 1)["text"] == greedy["text"]
    assert all(token["kept"] == 1 for token in greedy["tokens"])


def test_every_knob_is_a_step(as_json, model):
    knobs = "--repetition-penalty 1.2 --presence-penalty 0.5 --frequency-penalty 0.1 --top-n-sigma 3 --top-k 50 "
    knobs += "--top-p 0.9 --min-p 0.01 --typical 0.95 --target-entropy 1.5 --dry 0.8,1.75 --epsilon 1e-4 --eta 1e-4 "
    knobs += "--top-h 0.9 --p-less --xtc 0.1,0.2 --mirostat 5"
    found = as_json("generate", model, PROMPT, "--max-tokens", 3, *knobs.split())["pipeline"]
    order = [
        "RepetitionPenalty(1.2)",
        "PresencePenalty(0.5)",
        "FrequencyPenalty(0.1)",
        "DRY(0.8)",
        "Temperature(SetPoint(entropy=1.5))",
    ]
    order += [
        "TopNSigma(3.0)",
        "TopK(50)",
        "TopP(0.9)",
        "MinP(0.01)",
        "Typical(0.95)",
        "Epsilon(0.0001)",
        "Eta(0.0001)",
    ]
    order += ["TopH(0.9)", "PLess()", "XTC(0.1, threshold=0.2)", "Mirostat(5)"]
    places = [found.index(step) for step in order]
    assert places == sorted(places)


def test_a_calibrator_lies_under_the_temperature(as_json, model, tmp_path, command):
    vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, vocabulary, size=3000)
    z = rng.normal(size=(3000, vocabulary)) + 5 * np.eye(vocabulary)[labels] * (rng.random(3000) < 0.7)[:, None]
    scaling = TemperatureScaling().fit(z, labels)
    scaling.save(tmp_path / "tokens.json")
    options = ["--max-tokens", 6, "--repetition-penalty", 1.1]
    base = as_json("generate", model, PROMPT, *options, "--calibrator", tmp_path / "tokens.json", "--temperature", 0.5)
    assert base["pipeline"].startswith("Pipeline([RepetitionPenalty(1.1), Temperature(TemperatureScaling of T =")
    number = as_json("generate", model, PROMPT, *options, "--temperature", 0.5 * scaling.temperature_)
    assert [token["id"] for token in base["tokens"]] == [token["id"] for token in number["tokens"]]
    TemperatureScaling().fit(z[:, :5], labels % 5).save(tmp_path / "few.json")
    failed = command("generate", model, PROMPT, "--calibrator", tmp_path / "few.json", code=1)
    assert f"must be fitted to the {vocabulary} tokens of the model; got 5 classes" in failed.stderr


def test_a_preset_has_its_own_names_and_defaults(as_json, command, model):
    found = as_json("generate", model, PROMPT, "--max-tokens", 2, "--preset", "llama.cpp", "--repetition-penalty", 1.1)
    assert "RepetitionPenalty(1.1" in found["pipeline"] and "MinP(0.05), Temperature(0.8)" in found["pipeline"]
    knobs = ("--dry", "0.8,2,3", "--xtc", "0.1")
    found = as_json("generate", model, PROMPT, "--max-tokens", 2, "--preset", "llama.cpp", *knobs)["pipeline"]
    assert "DRY(0.8, base=2, allowed=3" in found and "XTC(0.1)" in found
    found = as_json("generate", model, PROMPT, "--max-tokens", 2, "--preset", "llama.cpp", "--mirostat", "4,0.2")
    assert found["pipeline"] == "Pipeline([Temperature(0.8), Mirostat(4, eta=0.2)])"
    wrong = command("generate", model, PROMPT, "--preset", "vllm", "--typical", 0.9, code=2)
    assert "--typical is not among what vllm has" in wrong.stderr


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--edt", "0.8,1.5", "EDT("),
        ("--dynamic-temperature", "0.5,1.5", "DynamicTemperature("),
        ("--surprise-rate", "1.2", "SurpriseRate(nats=1.2)"),
    ],
)
def test_thermostats(as_json, model, option, value, text):
    assert text in as_json("generate", model, PROMPT, "--max-tokens", 2, option, value)["pipeline"]


def test_a_message_in_the_models_own_format(as_json, command, model, tmp_path):
    from transformers import AutoTokenizer

    assert (
        "--chat: must be for a tokenizer with a chat template"
        in command("generate", model, PROMPT, "--chat", code=1).stderr
    )
    shutil.copytree(model, tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{% for m in messages %}A {{ m['content'] }} is{% endfor %}"
    tokenizer.save_pretrained(tmp_path / "chat")
    chat = as_json("generate", tmp_path / "chat", "temperature", "--chat", "--max-tokens", 8)
    assert (
        chat["prompt"] == "temperature"
        and chat["text"] == as_json("generate", model, PROMPT, "--max-tokens", 8)["text"]
    )


def test_a_stop_string_and_what_follows_are_not_text(as_json, command, model):
    whole = as_json("generate", model, PROMPT, "--max-tokens", 20, "--temperature", 2)["text"]
    stop = whole[6:9]
    cut = as_json("generate", model, PROMPT, "--max-tokens", 20, "--temperature", 2, "--stop", stop, "--stop", "zzz")
    assert cut["ended"] == "stop" and cut["text"] == whole[: whole.index(stop)]
    plain = command("generate", model, PROMPT, "--max-tokens", 20, "--temperature", 2, "--stop", stop).stdout
    assert plain == cut["text"] + "\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--temperature", "1", "--target-entropy", "1"], 2, "--temperature and --target-entropy exclude each other"),
        (["--edt", "1"], 2, "must be 2 numbers with commas between them"),
        (["--stop", ""], 2, "--stop must not be empty"),
        (["--max-tokens", "300"], 1, "--max-tokens: must be at most 25"),
        (["--top-k", "0"], 1, "--top-k: must be a whole number of at least 1; got 0"),
        (["--min-p", "0"], 1, "--min-p: must be in (0, 1]; got 0"),
        (["--dry", "0.8,0.5"], 1, "--dry: must be"),
        (["--temperature", "-1"], 1, "--temperature: must be in"),
        (["--calibrator", "nothing.json"], 1, "nothing.json: no such file"),
    ],
)
def test_refusals(command, model, arguments, code, message):
    assert message in command("generate", model, PROMPT, *arguments, code=code).stderr


def test_what_is_no_model(command, tmp_path):
    assert "no such folder; name a folder" in command("generate", tmp_path / "none", PROMPT, code=1).stderr
    assert "is no causal language model with a tokenizer" in command("generate", tmp_path, PROMPT, code=1).stderr


def test_help_loads_no_framework():
    program = (
        "import sys; from click.testing import CliRunner; from logitherm.cli import main; "
        "CliRunner().invoke(main, ['generate', '--help']); print({'torch', 'transformers', 'numba'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "set()"


# -- on a terminal ---------------------------------------------------------------------------------------


def screen(monkeypatch, color=True, **options):
    file = io.StringIO()
    monkeypatch.setattr(streaming.sys, "stdout", file)
    settings = {"force_terminal": True, "color_system": "truecolor", "width": 80} | options
    return Screen(Console(file=file, highlight=False, emoji=False, **settings), color=color), file


def test_shades_and_their_legend(monkeypatch):
    shown, file = screen(monkeypatch)
    for text, p in ((" sure", 0.9), (" rare\n", 0.02), ("never", 1e-6)):
        shown.piece(text, p)
    shown.legend()
    out = file.getvalue()
    assert out.startswith(" sure\x1b[30;48;2;255;201;95m rare\x1b[0m\n")  # the line break is not painted
    assert "48;2;181;37;58mnever" in out and "1/100" in out


@pytest.mark.parametrize("options", [{"color": False}, {"no_color": True}])
def test_no_shades_unless_asked_for(monkeypatch, options):
    shown, file = screen(monkeypatch, **options)
    shown.piece("never", 1e-6)
    shown.legend()
    assert file.getvalue() == "never"


def test_text_cannot_command_the_terminal(monkeypatch):
    shown, file = screen(monkeypatch, color=False)
    shown.piece("a\x1b[2J\x07b\n", 1.0)
    assert file.getvalue() == "a\ufffd[2J\ufffdb\n"


def test_characters_are_shown_when_they_are_whole_and_stops_are_held_back():
    pieces = []
    data = "né stop".encode()
    transcript = Transcript(
        lambda tokens: bytes(tokens).decode("utf-8", "replace"), [], ["stop"], lambda text, p: pieces.append(text)
    )
    for byte in data[:6]:
        transcript.add(Token(byte, -1.0, -1.0, 5))
    assert pieces == ["n", "é", " "]  # "st" may be the beginning of the end
    for byte in data[6:]:
        transcript.add(Token(byte, -1.0, -1.0, 5))
    transcript.finish()
    assert (transcript.ended, transcript.text) == ("stop", "né ")
    half = Transcript(
        lambda tokens: bytes(tokens).decode("utf-8", "replace"), [], ["stop"], lambda text, p: pieces.append(text)
    )
    for byte in b"st\xc3":
        half.add(Token(byte, -1.0, -1.0, 5))
    half.finish()
    assert (half.ended, half.text) == ("max_tokens", "st\ufffd")
    assert json.dumps([vars(token) for token in half.tokens])
