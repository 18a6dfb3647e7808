"""A teacher on disk: what is written is read again, and what is damaged is named."""

import hashlib
import json
import math
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from logitherm.distillation import (  # noqa: E402
    SampledTeacher,
    SparseTeacher,
    TeacherWriter,
    open_teacher,
    sparse_distillation_loss,
)
from logitherm.distillation.cache import cache_teacher  # noqa: E402
from logitherm.distillation.inspection import sizes_of  # noqa: E402
from logitherm.distillation.records import Layout  # noqa: E402
from logitherm.io import InputError  # noqa: E402

TEMPERATURES = (1.0, 2.0, 4.0)
STATES = 70_000  # ids of three bytes


def logits(rows, states, seed=0):
    return 3 * torch.randn(rows, states, generator=torch.Generator().manual_seed(seed))


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def change_index(folder, digest=True, **changes):
    """Write the index anew, as someone who knows its checksum would."""
    index = json.loads((folder / "index.json").read_text()) | changes
    rest = {name: value for name, value in index.items() if name != "sha256"}
    if digest:
        index["sha256"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    (folder / "index.json").write_text(json.dumps(index))


@pytest.fixture
def stored(tmp_path):
    """Ten rows in shards of four, and the logits they are of."""
    z = logits(10, STATES)
    folder = tmp_path / "teacher"
    with TeacherWriter(folder, Layout(STATES, TEMPERATURES, top_k=6), shard_tokens=4) as writer:
        for rows in z.split(3):
            writer.append(SparseTeacher.from_logits(rows, k=6))
    return folder, z


def test_what_is_read_is_what_was_written_up_to_rounding(stored):
    folder, z = stored
    store = open_teacher(folder)
    exact = SparseTeacher.from_logits(z, k=6)
    assert len(store) == 10 and [shard["rows"] for shard in store.shards] == [4, 4, 2]
    read = store[:]
    assert torch.equal(read.tokens, exact.tokens)
    assert torch.equal(read.log_rest, exact.log_rest)
    assert (read.logits - exact.logits).abs().max() <= 2**-11 * exact.logits.abs().max()
    for t in TEMPERATURES:
        assert torch.allclose(read.log_law(t).exp().sum(-1), torch.ones(10)), "a law, whatever was rounded"
        assert torch.allclose(read.log_law(t), exact.log_law(t), atol=5e-3)


def test_a_student_with_the_stored_logits_has_nothing_to_learn(stored):
    folder, z = stored
    read = open_teacher(folder)[:]
    own = z - z.max(-1, keepdim=True).values
    own = own.scatter(-1, read.tokens, read.logits).requires_grad_()
    for t in TEMPERATURES:
        loss = sparse_distillation_loss(own, read, temperature=t)
        assert 0 <= loss.item() < 1e-9
        assert torch.autograd.grad(loss, own)[0].abs().max() < 1e-6
        whole = z.clone().requires_grad_()  # those before they were rounded
        assert 0 <= sparse_distillation_loss(whole, read, temperature=t).item() < 1e-4


def test_float32_keeps_all(tmp_path):
    z = logits(5, 300)
    with TeacherWriter(tmp_path, Layout(300, TEMPERATURES, top_k=6, dtype="float32")) as writer:
        writer.append(SparseTeacher.from_logits(z, k=6))
    read = open_teacher(tmp_path)[:]
    assert torch.equal(read.logits, SparseTeacher.from_logits(z, k=6).logits)
    for t in TEMPERATURES:
        assert sparse_distillation_loss(z, read, temperature=t).item() == 0


def test_extreme_logits_in_half_precision(tmp_path):
    z = torch.tensor([[1e4, -1e4, -1e6, -math.inf, 9e3], [0.0, 0.0, 0.0, 0.0, 0.0]])
    with TeacherWriter(tmp_path, Layout(5, (1.0,), top_k=5)) as writer:
        writer.append(SparseTeacher.from_logits(z, k=5, temperatures=(1.0,)))
    read = open_teacher(tmp_path)[:]
    assert read.logits[0].tolist() == [0.0, -1000.0, -20000.0, -65504.0, -math.inf], "unlikely is not forbidden"
    assert read.logits[1].tolist() == [0.0] * 5
    assert sparse_distillation_loss(z, read).item() == 0


def test_a_teacher_whose_logits_have_another_zero(tmp_path):
    z = logits(3, 40) + 500.0
    top = z.topk(4)
    partition = torch.stack([(z / t).logsumexp(-1) for t in TEMPERATURES], -1)
    teacher = SparseTeacher.from_log_partition(top.indices, top.values, partition, states=40, temperatures=TEMPERATURES)
    with TeacherWriter(tmp_path, Layout(40, TEMPERATURES, top_k=4)) as writer:
        writer.append(teacher)
    for t in TEMPERATURES:
        assert sparse_distillation_loss(z, open_teacher(tmp_path)[:], temperature=t).item() < 1e-4


@pytest.mark.parametrize(("states", "width"), [(60, 2), (65_536, 2), (65_537, 3), (1 << 24, 3), ((1 << 24) + 1, 4)])
def test_ids_and_bytes(tmp_path, states, width):
    tokens = torch.tensor([[states - 1, 0, 258 % states]])
    teacher = SparseTeacher(tokens, torch.zeros(1, 3), torch.zeros(1, 2), (1.0, 2.0), states)
    layout = Layout(states, (1.0, 2.0), top_k=3, context=True)
    assert layout.record.itemsize == 3 * (width + 2) + 4 * 2 + 4 == layout.bytes_per_token(3)
    with TeacherWriter(tmp_path, layout) as writer:
        writer.append(teacher, [states - 1])
    store = open_teacher(tmp_path)
    assert torch.equal(store[0].tokens, tokens) and store.context().tolist() == [states - 1]


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_draws(tmp_path, power):
    teacher = SampledTeacher.from_logits(logits(7, 300), draws=5, temperature=2.0, generator=0, proposal_power=power)
    layout = Layout(300, (2.0,), draws=5, proposal_power=power)
    assert layout.record.itemsize == 5 * (2 if power == 1 else 6), "tokens alone where the proposal is the law"
    with TeacherWriter(tmp_path, layout, shard_tokens=3) as writer:
        writer.append(teacher)
    read = open_teacher(tmp_path)[:]
    assert torch.equal(read.tokens, teacher.tokens) and read.temperatures == (2.0,)
    assert torch.equal(read.shares.float(), teacher.shares.float())


def test_rows_in_any_order(stored):
    folder, _ = stored
    store = open_teacher(folder)
    whole = store[:]
    for rows in (3, -1, slice(8, 2, -2), [9, 0, 4, 4], np.array([5, 1]), torch.tensor([2, 9]), [], slice(20, 30)):
        wanted = whole.tokens[rows if not isinstance(rows, slice) else np.arange(10)[rows].tolist()].reshape(-1, 6)
        assert torch.equal(store[rows].tokens, wanted)
    again = pickle.loads(pickle.dumps(store))
    assert torch.equal(again[3:7].logits, whole.logits[3:7])
    with pytest.raises(IndexError, match=r"rows: must lie in \[0, 10\); got 10"):
        store[[0, 10]]
    with pytest.raises(TypeError, match="rows: must be an int, a slice or ints"):
        store[[True, False]]
    with pytest.raises(InputError, match="must be stored with its context"):
        store.context()
    assert "tokens=10, top_k=6" in repr(store)


def model(stop_at=None):
    """Logits by a table; asked once more than `stop_at` times it fails, as a machine may."""
    table, calls = logits(50, 50), 0

    def answer(ids):
        nonlocal calls
        calls += 1
        if stop_at is not None and calls > stop_at:
            raise KeyboardInterrupt
        return table[ids]

    return answer


@pytest.mark.parametrize("kind", [{"top_k": 4}, {"draws": 4, "temperatures": (1.0,)}])
def test_a_run_that_was_stopped_goes_on(tmp_path, kind):
    tokens = np.random.default_rng(0).integers(0, 50, 103)
    options = {"length": 5, "batch": 2, "shard_tokens": 15, **kind}
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    cache_teacher(model(), tokens, whole, **options)
    told = []
    for stop_at in (1, 2, 6, 4, 100):
        try:
            store = cache_teacher(model(stop_at), tokens, folder, tell=told.append, **options)
        except KeyboardInterrupt:
            (folder / "shard-00099.npy").write_bytes(b"written, and not yet in the index")
            (folder / ".shard-00003.npy.0a.part").write_bytes(b"half written")
    assert contents(folder) == contents(whole)
    assert len(store) == 103 and store.context().tolist() == tokens.tolist() and told[-1] == 1.0
    assert store.provenance["tokens"] == 103 and store.provenance["length"] == 5
    table = model()(torch.as_tensor(tokens))
    if "top_k" in kind:
        assert torch.equal(store[:].tokens, SparseTeacher.from_logits(table, k=4).tokens)
    calls = []
    cache_teacher(lambda ids: calls.append(1) or model()(ids), tokens, folder, **options)
    assert len(calls) == 1 and contents(folder) == contents(whole), "only asked for its vocabulary"


def test_settings_that_differ_are_named(tmp_path):
    layout = Layout(50, (1.0,), top_k=4)
    TeacherWriter(tmp_path, layout, provenance={"model": "a"})
    for change, message in (
        ({"layout": Layout(50, (1.0,), top_k=5)}, "top_k = 4, not 5; pass force=True"),
        ({"layout": Layout(50, (1.0, 2.0), top_k=4)}, r"temperatures = \[1.0\], not \[1.0, 2.0\]"),
        ({"provenance": {"model": "b"}}, "model = a, not b"),
        ({"shard_tokens": 9}, "shard_tokens = 65536, not 9"),
    ):
        options = {"layout": layout, "provenance": {"model": "a"}, **change}
        with pytest.raises(InputError, match=message):
            TeacherWriter(tmp_path, **options)
    with TeacherWriter(tmp_path, Layout(50, (1.0,), top_k=5), force=True) as writer:
        writer.append(SparseTeacher.from_logits(logits(3, 50), k=5, temperatures=(1.0,)))
    with pytest.raises(InputError, match="is complete, its last shard is a short one"):  # noqa: SIM117
        with TeacherWriter(tmp_path, Layout(50, (1.0,), top_k=5)) as writer:
            writer.append(SparseTeacher.from_logits(logits(3, 50), k=5, temperatures=(1.0,)))
    assert len(open_teacher(tmp_path)) == 3


def test_folders_that_are_something_else(tmp_path):
    layout = Layout(50, (1.0,), top_k=4)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"must be empty or hold a teacher; it has notes\.txt"):
        TeacherWriter(tmp_path, layout, force=True)
    with pytest.raises(InputError, match="must be a folder; it is a file"):
        TeacherWriter(tmp_path / "notes.txt", layout)
    with pytest.raises(InputError, match="does not exist; make it first"):
        TeacherWriter(tmp_path / "no" / "such", layout)
    with pytest.raises(InputError, match="must be the folder of a stored teacher; it is a file"):
        open_teacher(tmp_path / "notes.txt")
    with pytest.raises(InputError, match=r"index\.json: no such file; name the folder"):
        open_teacher(tmp_path)
    (tmp_path / "index.json").write_text('{"a": 1}')
    with pytest.raises(InputError, match="it is something else"):
        open_teacher(tmp_path)


def test_damage_is_found_and_the_shard_named(stored):
    folder, _ = stored
    open_teacher(folder).verify()
    shard = folder / "shard-00001.npy"
    good = shard.read_bytes()
    for place in (len(good) - 1, len(good) // 2, 10, 3):  # in the records, and in the header
        shard.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(InputError, match=r"shard-00001\.npy: is damaged, its SHA-256"):
            open_teacher(folder).verify()
    shard.write_bytes(b"\0" * len(good))
    with pytest.raises(InputError, match=r"shard-00001\.npy: is damaged, its header"):
        open_teacher(folder)[5]
    shard.write_bytes(good[:-1])
    assert len(open_teacher(folder)[[0, 9]]) == 2, "others can be read"
    for use in (lambda store: store.verify(), lambda store: store[5]):
        with pytest.raises(InputError, match=rf"shard-00001\.npy: must have {len(good)} bytes; it has {len(good) - 1}"):
            use(open_teacher(folder))
    shard.unlink()
    for use in (lambda store: store.verify(), lambda store: store[5]):
        with pytest.raises(InputError, match=r"shard-00001\.npy: no such file; the shard is missing"):
            use(open_teacher(folder))
    with pytest.raises(InputError, match="the shard is missing"):
        TeacherWriter(folder, Layout(STATES, TEMPERATURES, top_k=6), shard_tokens=4)


def test_an_index_that_is_damaged_or_of_another_version(stored):
    folder, _ = stored
    index = folder / "index.json"
    good = index.read_text()
    change_index(folder)
    open_teacher(folder)
    change_index(folder, digest=False, bytes_per_token=7)
    with pytest.raises(InputError, match=r"index\.json: is damaged, its SHA-256"):
        open_teacher(folder)
    change_index(folder, version=2)
    with pytest.raises(InputError, match=r"index\.json: must be of version 1; got 2"):
        open_teacher(folder)
    index.write_text(good[:100])
    with pytest.raises(InputError, match=r"index\.json: is damaged, it is no JSON"):
        open_teacher(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "top_k: must be given, or draws, not both"),
        ({"top_k": 4, "draws": 4}, "top_k: must be given, or draws, not both"),
        ({"top_k": 51}, "top_k: must lie between 1 and the 50 states"),
        ({"draws": 0}, "draws: must be at least 1"),
        ({"draws": 4, "temperatures": (1.0, 2.0)}, "temperatures: must be one for draws"),
        ({"top_k": 4, "dtype": "int8"}, "dtype: must be one of float16, float32"),
        ({"top_k": 4, "temperatures": (0.0,)}, "temperatures: must be positive"),
    ],
)
def test_layouts_that_are_none(options, message):
    with pytest.raises(ValueError, match=message):
        Layout(50, **{"temperatures": (1.0,), **options})


def test_records_are_of_one_kind(tmp_path):
    writer = TeacherWriter(tmp_path, Layout(50, TEMPERATURES, top_k=4))
    with pytest.raises(TypeError, match="must be a SparseTeacher for these records"):
        writer.append(SampledTeacher.from_logits(logits(2, 50), draws=4, generator=0))
    with pytest.raises(ValueError, match="must have tokens a row = 4 as the other records; got 5"):
        writer.append(SparseTeacher.from_logits(logits(2, 50), k=5))
    with pytest.raises(ValueError, match="context: must not be given"):
        writer.append(SparseTeacher.from_logits(logits(2, 50), k=4), [1, 2])
    with pytest.raises(ValueError, match="shard_tokens: must be at least 1"):
        TeacherWriter(tmp_path, writer.layout, shard_tokens=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": []}, "tokens: must be at least one"),
        ({"shard_tokens": 7}, "shard_tokens: must be a multiple of the length 5; got 7; take 5"),
        ({"length": 0}, "length, batch: must be at least 1"),
        ({"model": lambda ids: logits(3, 50)}, "model: must give logits"),
    ],
)
def test_errors_of_a_run_say_what_to_do(tmp_path, change, message):
    options = {"model": model(), "tokens": [1, 2], "folder": tmp_path, "length": 5, **change}
    with pytest.raises(ValueError, match=message):
        cache_teacher(options.pop("model"), options.pop("tokens"), options.pop("folder"), **options)


def test_what_fewer_logits_keep(stored):
    folder, z = stored
    sizes = sizes_of(open_teacher(folder))
    assert [size.size for size in sizes] == [1, 2, 4, 6]
    assert [size.bytes for size in sizes] == [5 * k + 12 for k in (1, 2, 4, 6)]
    for size in sizes:
        for t, tail, dropped in zip(TEMPERATURES, size.tail, size.dropped):
            log_kept = torch.log_softmax(z.double() / t, -1).topk(size.size).values.logsumexp(-1)
            assert tail == pytest.approx(-torch.expm1(log_kept).mean().item(), rel=1e-3)
            assert dropped == pytest.approx(-log_kept.mean().item(), rel=1e-2, abs=1e-3)
    assert sizes_of(open_teacher(folder), rows=2)[0].size == 1


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_the_noise_of_draws(tmp_path, power):
    z = logits(1, 30).expand(1500, -1)
    teacher = SampledTeacher.from_logits(z, draws=8, generator=0, proposal_power=power)
    with TeacherWriter(tmp_path, Layout(30, (1.0,), draws=8, proposal_power=power)) as writer:
        writer.append(teacher)
    sizes = sizes_of(open_teacher(tmp_path))
    error = teacher.estimate() - torch.softmax(z, -1)
    assert [size.size for size in sizes] == [1, 2, 4, 8]
    assert sizes[-1].noise == pytest.approx((error**2).sum(-1).mean().sqrt().item(), rel=0.08)
    assert sizes[0].noise == pytest.approx(sizes[-1].noise * 8**0.5)


def test_texts_are_a_data_set(tmp_path):
    table = torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 20, (23,), generator=torch.Generator().manual_seed(1))
    store = cache_teacher(lambda ids: table[ids], tokens, tmp_path / "teacher", top_k=4, length=5)
    texts = store.texts()
    assert len(texts) == 4 and len(store.texts(4)) == 5
    (batch,) = torch.utils.data.DataLoader(texts, batch_size=9)
    assert torch.equal(batch["input_ids"], tokens[:20].reshape(4, 5))
    assert torch.equal(batch["labels"], batch["input_ids"])
    assert torch.equal(batch["teacher_rows"], torch.arange(20).reshape(4, 5))
    assert texts[-1]["teacher_rows"].tolist() == [15, 16, 17, 18, 19]
    assert [len(block["labels"]) for block in texts] == [5] * 4
    with pytest.raises(ValueError, match="length: must be an integer from 1 to the 23 tokens; got 24"):
        store.texts(24)
