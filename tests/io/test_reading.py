"""Every format there and back, and every way in which labels or logits can be wrong."""

import io
import pickle
import sys

import numpy as np
import pytest

from logitherm.io import InputError, MissingExtra, read_logits

K = 4
rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(7, K)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 2, 1, 0])


def write(path, logits=LOGITS, labels=LABELS, dtype=None):
    """The same numbers in the format of the suffix, as the package that owns the format writes them."""
    kind = path.suffix
    logits = logits if dtype is None else logits.astype(dtype)
    if kind == ".npz":
        np.savez(path, logits=logits, labels=labels)
    elif kind == ".csv":
        columns = np.column_stack([logits, labels])
        header = ",".join([f"class_{i}" for i in range(logits.shape[1])] + ["label"])
        np.savetxt(path, columns, delimiter=",", header=header, comments="", fmt="%.9g")
    elif kind == ".parquet":
        pa = pytest.importorskip("pyarrow", reason="the extra arrow is not installed")
        from pyarrow import parquet

        columns = {f"c{i}": np.ascontiguousarray(column) for i, column in enumerate(logits.T)}
        parquet.write_table(pa.table({**columns, "label": labels}), path)
    elif kind == ".safetensors":
        numpy = pytest.importorskip("safetensors.numpy", reason="the extra safetensors is not installed")
        numpy.save_file({"logits": np.ascontiguousarray(logits), "labels": labels}, path)
    else:
        torch = pytest.importorskip("torch", reason="the extra torch is not installed")
        torch.save({"logits": torch.as_tensor(logits), "labels": torch.as_tensor(labels)}, path)
    return path


SUFFIXES = [".npz", ".csv", ".parquet", ".safetensors", ".pt", ".pth"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip(tmp_path, suffix):
    data = read_logits(write(tmp_path / f"val{suffix}"))
    assert data.logits.dtype == (np.float64 if suffix == ".csv" else np.float32)
    np.testing.assert_array_equal(data.logits.astype(np.float32), LOGITS)
    assert data.labels.dtype == np.int64
    np.testing.assert_array_equal(data.labels, LABELS)
    assert (data.n, data.classes, data.source, data.kind) == (7, K, f"val{suffix}", "logits")
    assert (data.zeros, data.zero_labels, data.hint) == (0, 0, None)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors", ".pt"])
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_dtype_is_kept(tmp_path, suffix, dtype):
    data = read_logits(write(tmp_path / f"val{suffix}", dtype=dtype))
    assert data.logits.dtype == dtype
    np.testing.assert_array_equal(data.logits, LOGITS.astype(dtype))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_bfloat16_is_read_exactly(tmp_path, suffix):
    torch = pytest.importorskip("torch", reason="torch writes bfloat16")
    tensors = {"logits": torch.as_tensor(LOGITS).bfloat16(), "labels": torch.as_tensor(LABELS)}
    if suffix == ".pt":
        torch.save(tensors, tmp_path / "val.pt")
    else:
        pytest.importorskip("safetensors.torch", reason="the extra safetensors is not installed").save_file(
            tensors, tmp_path / "val.safetensors"
        )
    data = read_logits(tmp_path / f"val{suffix}")
    assert data.logits.dtype == np.float32
    np.testing.assert_array_equal(data.logits, tensors["logits"].float().numpy())


def test_foreign_byte_order_becomes_native(tmp_path):
    data = read_logits(write(tmp_path / "val.npz", dtype=">f4"))
    assert data.logits.dtype.isnative
    np.testing.assert_array_equal(data.logits, LOGITS)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".txt", ".parquet", ".safetensors", ".pt"])
def test_labels_from_a_second_file(tmp_path, suffix):
    np.save(tmp_path / "z.npy", LOGITS)
    second = tmp_path / f"y{suffix}"
    if suffix == ".npy":
        np.save(second, LABELS.astype(np.int16))
    elif suffix in (".csv", ".txt"):
        np.savetxt(second, LABELS, fmt="%d")
    else:
        write(second)
    np.testing.assert_array_equal(read_logits(tmp_path / "z.npy", labels=second).labels, LABELS)


def test_labels_given_win_over_those_in_the_file(tmp_path):
    write(tmp_path / "val.npz")
    np.savetxt(tmp_path / "y.txt", LABELS[::-1], fmt="%d")
    data = read_logits(tmp_path / "val.npz", labels=tmp_path / "y.txt")
    np.testing.assert_array_equal(data.labels, LABELS[::-1])


def test_labels_of_a_bare_tensor(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    torch.save(torch.as_tensor(LOGITS), tmp_path / "z.pt")
    torch.save(torch.as_tensor(LABELS), tmp_path / "y.pt")
    data = read_logits(tmp_path / "z.pt", labels=tmp_path / "y.pt")
    np.testing.assert_array_equal(data.logits, LOGITS)
    np.testing.assert_array_equal(data.labels, LABELS)


@pytest.mark.parametrize("pair", [tuple, list])
def test_a_pair_of_tensors(tmp_path, pair):
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    torch.save(pair([torch.as_tensor(LOGITS).requires_grad_(), torch.as_tensor(LABELS)]), tmp_path / "val.pt")
    data = read_logits(tmp_path / "val.pt")
    np.testing.assert_array_equal(data.logits, LOGITS)
    np.testing.assert_array_equal(data.labels, LABELS)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("row_groups", [None, 3])
def test_parquet_list_column(tmp_path, fixed, row_groups):
    pa = pytest.importorskip("pyarrow", reason="the extra arrow is not installed")
    from pyarrow import parquet

    kind = pa.list_(pa.float32(), K) if fixed else pa.list_(pa.float32())
    table = pa.table(
        {
            "id": [f"row {i}" for i in range(7)],
            "logits": pa.array(LOGITS.tolist(), kind),
            "labels": pa.array(LABELS, pa.int8()),
        }
    )
    parquet.write_table(table, tmp_path / "val.parquet", row_group_size=row_groups)
    data = read_logits(tmp_path / "val.parquet")
    assert data.logits.dtype == np.float32
    np.testing.assert_array_equal(data.logits, LOGITS)
    np.testing.assert_array_equal(data.labels, LABELS)


def test_the_index_that_pandas_stores_is_no_class(tmp_path):
    pd = pytest.importorskip("pandas", reason="pandas writes the index")
    pytest.importorskip("pyarrow", reason="pandas writes Parquet with pyarrow")
    frame = pd.DataFrame(LOGITS, columns=list("abcd"), index=pd.Index(np.linspace(0, 1, 7), name="weight"))
    frame.assign(label=LABELS).to_parquet(tmp_path / "val.parquet")
    np.testing.assert_array_equal(read_logits(tmp_path / "val.parquet").logits, LOGITS)


def test_labels_that_are_not_needed_are_not_looked_at(tmp_path):
    write(tmp_path / "val.npz", labels=np.full(7, -1))
    assert read_logits(tmp_path / "val.npz", need_labels=False).labels is None
    write(tmp_path / "val.csv", labels=np.full(7, -1))
    data = read_logits(tmp_path / "val.csv", need_labels=False)
    assert data.labels is None
    assert data.classes == K


def test_whole_floats_and_a_column_are_labels(tmp_path):
    np.savez(tmp_path / "val.npz", logits=LOGITS, labels=LABELS[:, None].astype(float))
    np.testing.assert_array_equal(read_logits(tmp_path / "val.npz").labels, LABELS)


def test_bool_labels_of_two_classes(tmp_path):
    np.savez(tmp_path / "val.npz", logits=LOGITS[:, :2], label=LABELS > 1)
    np.testing.assert_array_equal(read_logits(tmp_path / "val.npz").labels, LABELS > 1)


def test_forbidden_classes_are_allowed_and_labels_on_them_counted(tmp_path):
    logits = LOGITS.copy()
    logits[0, 0] = logits[1, 2] = -np.inf
    data = read_logits(write(tmp_path / "val.npz", logits=logits))
    assert (data.zeros, data.zero_labels) == (0, 1)


# -- errors ----------------------------------------------------------------------------------------------


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "val.npz", **arrays)
    return tmp_path / "val.npz"


def changed(row, column, value):
    logits = LOGITS.copy()
    logits[row, column] = value
    return logits


def relabelled(row, value, dtype=None):
    labels = LABELS.astype(dtype or LABELS.dtype)
    labels[row] = value
    return labels


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"z": LOGITS, "y": LABELS}, ["must hold 'logits'", "found z, y"]),
        ({"probs": LOGITS, "labels": LABELS}, ["found 'probs'", "--probabilities"]),
        ({"logits": LOGITS}, ["no labels", "found logits", "--labels"]),
        ({"logits": LOGITS, "labels": LABELS, "label": LABELS}, ["one array of labels"]),
        ({"logits": LOGITS, "labels": LABELS[:5]}, ["each of the 7 rows", "got 5"]),
        ({"logits": LOGITS, "labels": np.eye(7, K)}, ["one class number a row", "(7, 4)"]),
        ({"logits": LOGITS, "labels": LABELS + 0.5}, ["whole class numbers", "row 0", "0.5"]),
        ({"logits": LOGITS, "labels": relabelled(3, np.nan, float)}, ["row 3", "nan"]),
        ({"logits": LOGITS, "labels": relabelled(2, 4)}, ["0..3", "1 of 7", "row 2", "with 4", "drop"]),
        ({"logits": LOGITS, "labels": relabelled(6, -100)}, ["row 6", "with -100"]),
        ({"logits": LOGITS, "labels": LABELS + 1}, ["0..3", "count from 1"]),
        ({"logits": LOGITS, "labels": relabelled(0, 2**64 - 1, np.uint64)}, ["18446744073709551615"]),
        ({"logits": LOGITS, "labels": np.array(list("abcdefg"))}, ["class numbers 0 to 3", "<U1"]),
        ({"logits": changed(4, 1, np.nan), "labels": LABELS}, ["1 of 7", "row 4", "NaN"]),
        ({"logits": changed(5, 1, np.inf), "labels": LABELS}, ["row 5", "+inf"]),
        ({"logits": changed(6, slice(None), -np.inf), "labels": LABELS}, ["row 6", "only -inf"]),
        ({"logits": LABELS[:, None], "labels": LABELS}, ["floating point", "are these labels?", "int64"]),
        ({"logits": LOGITS.astype(complex), "labels": LABELS}, ["complex128"]),
        ({"logits": LOGITS[:, 0], "labels": LABELS}, ["(0, x)"]),
        ({"logits": LOGITS[None], "labels": LABELS}, ["two axes", "(1, 7, 4)"]),
        ({"logits": LOGITS[:0], "labels": LABELS[:0]}, ["rows and classes", "(0, 4)"]),
        ({"logits": LOGITS, "labels": np.array([{}] * 7)}, ["pickled objects"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, arrays, parts):
    path = saved(tmp_path, **arrays)
    with pytest.raises(InputError) as caught:
        read_logits(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for part in parts:
        assert part in message


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"gone.npz: no such file"):
        read_logits(tmp_path / "gone.npz")
    with pytest.raises(InputError, match=r"it is a folder"):
        read_logits(tmp_path)


def test_an_unknown_suffix_lists_the_known(tmp_path):
    for name in ("val.pkl", "val", "val.txt"):
        (tmp_path / name).write_text("1")
        with pytest.raises(InputError, match=r"suffix must be one of .npz, .npy, .csv"):
            read_logits(tmp_path / name)


def test_npy_without_labels(tmp_path):
    np.save(tmp_path / "z.npy", LOGITS)
    with pytest.raises(InputError, match=r"z.npy: has no labels .* pass --labels FILE"):
        read_logits(tmp_path / "z.npy")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_file(tmp_path, suffix):
    path = write(tmp_path / f"val{suffix}", logits=rng.normal(size=(200, K)), labels=np.zeros(200, int))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError) as caught:
        read_logits(path)
    assert "\n" not in str(caught.value)
    assert f"val{suffix}" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x04nonsense", b"PK\x03\x04nonsense"])
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet", ".safetensors", ".pt"])
def test_a_file_of_something_else(tmp_path, suffix, content):
    if suffix in (".parquet", ".safetensors", ".pt"):
        package = {".parquet": "pyarrow", ".safetensors": "safetensors", ".pt": "torch"}[suffix]
        pytest.importorskip(package, reason="the extra is not installed")
    path = tmp_path / f"val{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_logits(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_member_of_an_archive(tmp_path):
    path = write(tmp_path / "val.npz", logits=rng.normal(size=(500, K)), labels=np.zeros(500, int))
    damaged = bytearray(path.read_bytes())
    damaged[2000:2100] = b"\xff" * 100
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="cannot be read"):
        read_logits(path)


class Bomb:
    def __reduce__(self):
        return (sys.exit, (99,))  # what unpickling would run


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt"])
def test_nothing_is_unpickled(tmp_path, suffix):
    path = tmp_path / f"val{suffix}"
    if suffix == ".npy":
        np.save(path, np.array([Bomb()]))
    elif suffix == ".npz":
        np.savez(path, logits=np.array([Bomb()]), labels=LABELS)
    else:
        pytest.importorskip("torch", reason="the extra torch is not installed").save({"logits": Bomb()}, path)
    with pytest.raises(InputError, match="refused"):
        read_logits(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError):
        read_logits(path)


def test_pt_refusals_say_what_is_in_the_file(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    path = tmp_path / "val.pt"
    for content, part in [
        ({"logits": LOGITS, "labels": LABELS}, "numpy"),  # arrays in a .pt need unpickling
        ({"logits": LOGITS.tolist(), "labels": torch.as_tensor(LABELS)}, "must be a tensor; it is a list"),
        ({"logits": torch.eye(3).to_sparse(), "labels": torch.arange(3)}, "dense"),
        ({"model": torch.eye(3)}, "found model"),
        (7, "holds a int"),
    ]:
        torch.save(content, path)
        with pytest.raises(InputError, match=part):
            read_logits(path)


def test_parquet_refusals_name_the_column(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the extra arrow is not installed")
    from pyarrow import parquet

    path = tmp_path / "val.parquet"
    scores, labels = pa.array([0.5, 1.0]), pa.array([0, 1])
    for columns, part in [
        ({"a": scores, "id": labels, "label": labels}, "'id' is int64"),
        ({"a": scores, "b": pa.array([1.0, None]), "label": labels}, "'b' must have no gaps; 1 of 2"),
        ({"a": scores, "label": pa.array(["x", "y"])}, "'label' must hold class numbers"),
        ({"a": scores, "label": labels, "Labels": labels}, "one column of labels; it has label, Labels"),
        ({"logits": pa.array([[1.0, 2.0], [1.0]]), "label": labels}, r"row 1 \(from 0\) has 1, row 0 has 2"),
        ({"logits": pa.array([[1.0, None], [1.0, 2.0]]), "label": labels}, "no gaps"),
        ({"logits": pa.array([[1.0], None]), "label": labels}, "no gaps"),
        ({"logits": pa.array([[1, 2], [3, 4]]), "label": labels}, "'logits' is int64"),
        ({"probs": pa.array([[0.5, 0.5]] * 2), "label": labels}, "say --probabilities"),
        ({"label": labels}, "must hold 'logits'; found label"),
    ]:
        parquet.write_table(pa.table(columns), path)
        with pytest.raises(InputError, match=part):
            read_logits(path)


@pytest.mark.parametrize(
    ("suffix", "package", "extra"),
    [(".parquet", "pyarrow", "arrow"), (".safetensors", "safetensors", "safetensors"), (".pt", "torch", "torch")],
)
def test_a_missing_extra_fails_with_its_pip_line(tmp_path, monkeypatch, suffix, package, extra):
    (tmp_path / f"val{suffix}").write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"pip install {package} \(the extra `{extra}`\)"):
        read_logits(tmp_path / f"val{suffix}")


def test_reading_numpy_files_imports_nothing_else(tmp_path):
    import subprocess

    write(tmp_path / "val.npz")
    write(tmp_path / "val.csv")
    code = (
        "import sys; from logitherm.io import read_logits; "
        f"[read_logits(f) for f in {[str(tmp_path / 'val.npz'), str(tmp_path / 'val.csv')]}]; "
        "print([m for m in ('torch', 'pyarrow', 'pandas', 'safetensors', 'numba', 'sklearn') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_suffixes_in_capitals(tmp_path):
    buffer = io.BytesIO()
    np.savez(buffer, logits=LOGITS, labels=LABELS)
    (tmp_path / "VAL.NPZ").write_bytes(buffer.getvalue())
    assert read_logits(tmp_path / "VAL.NPZ").n == 7
