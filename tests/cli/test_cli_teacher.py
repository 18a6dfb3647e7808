"""`logitherm teacher` with a tiny language model of random weights."""

import json
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from logitherm.distillation import open_teacher, sparse_distillation_loss  # noqa: E402

TEXT = "Hot models ramble.\n\nCold models repeat themselves.\nA temperature is the one number between the two.\n" * 3


@pytest.fixture
def model(language_model):
    return language_model("gpt2")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def cache(command, model, text, tmp_path):
    """`cache("--top-k", 4)`: the folder, small blocks and files."""

    def run(*options, code=0, folder=tmp_path / "teacher", source=text):
        small = ("--length", 8, "--shard-tokens", 32)
        return command("teacher", "cache", model, source, "-o", folder, *small, *options, code=code), folder

    return run


def ids_of(model, lines=False):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    if not lines:
        return tokenizer(TEXT)["input_ids"]
    return [i for line in TEXT.splitlines() if line for i in [*tokenizer(line)["input_ids"], tokenizer.eos_token_id]]


def test_what_is_stored_is_what_the_model_says(cache, model):
    result, folder = cache("--top-k", 16)
    store = open_teacher(folder)
    ids = ids_of(model)
    assert store.context().tolist() == ids
    assert (
        f"{len(ids)} tokens, 16 logits in float16 of" in result.stdout and "at T = 1, 2, 4; 80 bytes" in result.stdout
    )
    network = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
    blocks = torch.tensor(ids[: len(ids) // 8 * 8]).reshape(-1, 8)
    with torch.no_grad():
        z = network(blocks).logits
    for t in (1.0, 2.0, 4.0):
        assert sparse_distillation_loss(z, store[: blocks.numel()], temperature=t).item() < 1e-5
        assert sparse_distillation_loss(z.roll(1, 1), store[: blocks.numel()], temperature=t).item() > 0.02


def test_lines_tokens_and_draws(cache, model, tmp_path):
    result, folder = cache("--lines", "--tokens", 50, "--draws", 6, "--temperatures", 2)
    store = open_teacher(folder)
    assert store.context().tolist() == ids_of(model, lines=True)[:50]
    assert store.layout.draws == 6 and store.layout.temperatures == (2.0,)
    assert "50 tokens, 6 draws of" in result.stdout and "16 bytes a token" in result.stdout
    assert store.provenance["lines"] is True and store.provenance["model"].startswith("gpt2")
    other = tmp_path / "other"
    cache("--lines", "--tokens", 50, "--draws", 6, "--temperatures", 2, "--seed", 1, folder=other)
    assert not torch.equal(open_teacher(other)[:].tokens, store[:].tokens)


def test_documents_of_a_dataset(cache, model, text):
    """A row of a .jsonl is a document, as a line is with --lines."""
    lines = [line for line in TEXT.splitlines() if line]
    _, folder = cache("--lines", folder=text.parent / "lines")
    wanted = open_teacher(folder).context().tolist()
    path = text.with_suffix(".jsonl")
    for name, options in (("text", ()), ("prose", ("--column", "prose"))):
        path.write_text("\n".join(json.dumps({name: line, "id": 1}) for line in lines), encoding="utf-8")
        cache(*options, source=path, folder=text.parent / name)
        assert open_teacher(text.parent / name).context().tolist() == wanted
    path.write_text(json.dumps({"text": "hot\u2028models"}, ensure_ascii=False), encoding="utf-8")
    cache(source=path, folder=text.parent / "separated")
    path.write_text('{"prose": "a", "id": 1}')
    assert "'text' on every line; line 1 has prose, id; name another" in cache(source=path, code=1)[0].stderr
    path.write_text('{"text": "a"}\n{')
    assert "line 2 is none; mend it" in cache(source=path, code=1)[0].stderr
    assert "--column is for a .jsonl" in cache("--column", "text", code=2)[0].stderr


def test_a_device_that_is_not_there(cache):
    result, _ = cache("--device", "xla", code=1)
    assert result.stderr.startswith("error: device: must be one that PyTorch has here; got xla (")
    assert result.stderr.count("\n") == 1


def test_the_same_command_goes_on(cache, monkeypatch):
    from logitherm.distillation import store

    written, write = [], store.TeacherWriter._write

    def stopped(self, records):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(len(records))
        write(self, records)

    with monkeypatch.context() as patch:
        patch.setattr(store.TeacherWriter, "_write", stopped)
        result, folder = cache(code=130)
    assert "stopped by Ctrl-C; no file is left half-written; the same command goes on" in result.stderr
    assert len(open_teacher(folder)) == 64
    shards = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*")}
    cache()
    assert all(path.stat().st_mtime_ns == time for path, time in shards.items()), "what was there stays"
    other = folder.parent / "other"
    cache(folder=other)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def test_another_teacher_is_replaced_by_force_only(cache):
    _, folder = cache("--top-k", 4)
    result, _ = cache("--top-k", 5, code=1)
    assert "holds a teacher with top_k = 4, not 5; pass --force to replace it" in result.stderr
    result, _ = cache("--top-k", 4, "--tokens", 40, code=1)
    assert "holds a teacher with tokens = " in result.stderr and ", not 40;" in result.stderr
    cache("--top-k", 5, "--force")
    assert open_teacher(folder).layout.top_k == 5


def test_inspect(command, as_json, cache, text):
    _, folder = cache("--top-k", 8)
    found = as_json("teacher", "inspect", folder)
    assert found["top_k"] == 8 and found["states"] > 256 and found["temperatures"] == [1, 2, 4]
    assert found["bytes_per_token"] == 48 and found["tokens"] == found["provenance"]["tokens"]
    assert [size["size"] for size in found["sizes"]] == [1, 2, 4, 8]
    tails = [size["tail"][0] for size in found["sizes"]]
    assert tails == sorted(tails, reverse=True) and 0 < tails[-1] < tails[0] < 1
    result = command("teacher", "inspect", folder, "--rows", 10)
    lines = result.stdout.splitlines()
    assert "text text.txt, length 8; stored by logitherm" in lines[1]
    assert [line.split()[:2] for line in lines if line.split()[:1] in (["1"], ["8"])] == [["1", "20"], ["8", "48"]]
    assert max(map(len, lines[2:])) <= 80


def test_inspect_draws(command, as_json, cache):
    _, folder = cache("--draws", 4)
    sizes = as_json("teacher", "inspect", folder)["sizes"]
    assert [size["size"] for size in sizes] == [1, 2, 4]
    assert sizes[0]["noise"] == pytest.approx(2 * sizes[2]["noise"])
    assert "noise: root mean square error" in command("teacher", "inspect", folder).stdout


def test_verify_names_the_damaged_file(command, cache):
    _, folder = cache()
    assert "whole; " in command("teacher", "verify", folder).stdout
    shard = folder / "shard-00001.npy"
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert f"{shard}: is damaged" in command("teacher", "verify", folder, code=1).stderr.replace("\n", "")
    shard.write_bytes(good[:-1])
    assert "shard-00001.npy: must have" in command("teacher", "verify", folder, code=1).stderr
    shard.unlink()
    assert "shard-00001.npy: no such file" in command("teacher", "verify", folder, code=1).stderr
    index = folder / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"version": 9}))
    assert "must be of version 1; got 9" in command("teacher", "verify", folder, code=1).stderr
    assert "no such file" in command("teacher", "inspect", folder / "none", code=1).stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--top-k", 4, "--draws", 4), 2, "--top-k and --draws are two ways"),
        (("--draws", 4, "--temperatures", "1,2"), 1, "temperatures: must be one for draws"),
        (("--temperatures", "0,1"), 1, "temperatures: must be positive"),
        (("--temperatures", "hot"), 2, "must be first:last:step"),
        (("--length", 300), 1, "--length: must be at most the 256 tokens"),
        (("--length", 5), 1, "must be a multiple of the length 5; got 32; take 30"),
    ],
)
def test_wrong_options(cache, options, code, message):
    result, folder = cache(*options, code=code)
    assert message in " ".join(result.stderr.split()) and not folder.exists()


def test_wrong_files(command, cache, model, text, tmp_path):
    out = ("-o", tmp_path / "out")
    assert "no such folder" in command("teacher", "cache", "./no/such", text, *out, code=1).stderr
    assert "no such file" in command("teacher", "cache", model, tmp_path / "none.txt", *out, code=1).stderr
    text.write_bytes(b"\xff\xfe")
    assert "must be text in UTF-8" in cache(code=1)[0].stderr
    text.write_text("\n")
    assert "must have a token" in cache("--lines", code=1)[0].stderr


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom logitherm.cli import main\n"
        "assert CliRunner().invoke(main, ['teacher', 'cache', '--help']).exit_code == 0\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'transformers', 'numba', 'plotly', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout.replace("'", '"')) in ([], ["numpy"])
