"""One reader a format: given a path and the names wanted, it returns those arrays and the names of all there are."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from logitherm.io.errors import ENCODE, InputError, MissingExtra, require_file
from logitherm.io.table import read_text, require_order, split_columns

SCORE_NAMES = ("logits", "probabilities", "probs")
LABEL_NAMES = ("labels", "label")
UNNAMED = ""  # the name of the one array of a file that has no names


@dataclass(frozen=True)
class Arrays:
    """The arrays asked for, by name; the names of everything in the file; which were stored as bfloat16."""

    named: dict[str, np.ndarray]
    found: tuple[str, ...] = ()
    bfloat16: frozenset[str] = frozenset()


def read_npy(path: Path, wanted: frozenset[str]) -> Arrays:
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise InputError(f"{path}: is not a NumPy .npy file, or a pickled one, which is refused; use numpy.save")
    try:
        return Arrays({UNNAMED: np.load(path, allow_pickle=False)})
    except (ValueError, EOFError, OSError) as error:
        raise _unreadable(path, error, "numpy.save") from error


def read_npz(path: Path, wanted: frozenset[str]) -> Arrays:
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: is not a NumPy .npz archive, or damaged; write it again with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = tuple(archive.files)
            return Arrays({name: archive[name] for name in found if name in wanted}, found)
    except (ValueError, EOFError, OSError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, error, "numpy.savez") from error


def read_csv(path: Path, wanted: frozenset[str]) -> Arrays:
    header, values = read_text(path)
    if header is None:
        return Arrays({UNNAMED: values})
    labels, classes = split_columns(path, header, LABEL_NAMES)
    named = {"labels": values[:, labels]} if labels is not None else {}
    if classes and wanted & set(SCORE_NAMES):
        require_order(path, classes)
        named["logits"] = values if labels is None else np.delete(values, labels, axis=1)
    return Arrays(named, header)


def read_parquet(path: Path, wanted: frozenset[str]) -> Arrays:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(f"reading {path}", "pyarrow", "arrow") from error
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            index = {name for name in (schema.pandas_metadata or {}).get("index_columns", ()) if isinstance(name, str)}
            found = tuple(name for name in schema.names if name not in index)
            labels, classes = split_columns(path, found, LABEL_NAMES)
            lists = [name for name in classes if name in SCORE_NAMES and _is_list(pa, schema.field(name).type)]
            if not wanted & set(SCORE_NAMES):
                lists = classes = []
            elif lists:
                lists = classes = [name for name in lists if name in wanted]
            table = file.read(columns=classes + ([found[labels]] if labels is not None else []))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error, "pandas.DataFrame.to_parquet or pyarrow") from error
    named = {name: _list_column(pa, path, name, table[name]) for name in lists}
    if classes and not lists:
        require_order(path, classes)
        named["logits"] = np.column_stack([_column(pa, path, name, table[name]) for name in classes])
    if labels is not None:
        named["labels"] = _column(pa, path, found[labels], table[found[labels]], score=False)
    return Arrays(named, found)


def read_safetensors(path: Path, wanted: frozenset[str]) -> Arrays:
    try:
        import safetensors
    except ImportError as error:
        raise MissingExtra(f"reading {path}", "safetensors", "safetensors") from error
    named: dict[str, np.ndarray] = {}
    try:
        with safetensors.safe_open(path, "numpy") as file:
            found = tuple(file.keys())
            chosen = [name for name in found if name in wanted]
            bfloat16 = frozenset(name for name in chosen if file.get_slice(name).get_dtype() == "BF16")
            named = {name: file.get_tensor(name) for name in chosen if name not in bfloat16}
        if bfloat16:  # NumPy has no such type: its bits are the upper half of a float32
            deserialize: Any = safetensors.deserialize
            for name, tensor in deserialize(path.read_bytes()):
                if name in bfloat16:
                    bits = np.frombuffer(tensor["data"], dtype="<u2").astype(np.uint32) << np.uint32(16)
                    named[name] = bits.view(np.float32).reshape(tensor["shape"])
    except (safetensors.SafetensorError, TypeError, KeyError, OSError) as error:
        raise _unreadable(path, error, "safetensors.numpy.save_file") from error
    return Arrays(named, found, bfloat16)


def read_torch(path: Path, wanted: frozenset[str]) -> Arrays:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra(f"reading {path}", "torch", "torch") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of a file that we may refuse anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it holds {blocked[1]}, and unpickling that could run any code" if blocked else "it is no plain tensor"
        raise InputError(
            f"{path}: refused, {what}; save tensors: torch.save({{'logits': ..., 'labels': ...}})"
        ) from error
    except Exception as error:  # torch raises almost anything on a file that is none of its own
        raise _unreadable(path, error, "torch.save") from error
    if isinstance(content, torch.Tensor):
        content = {UNNAMED: content}
    elif isinstance(content, (tuple, list)) and len(content) == 2:
        content = dict(zip(("logits", "labels"), content, strict=True))
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: must hold a dict with 'logits' and 'labels', the pair of them or one tensor; "
            f"it holds a {type(content).__name__}; save it again as such"
        )
    named, bfloat16 = {}, set()
    for name, value in content.items():
        if name != UNNAMED and name not in wanted:
            continue
        if not isinstance(value, torch.Tensor):
            raise InputError(f"{path}: {name!r} must be a tensor; it is a {type(value).__name__}; save it again as one")
        if value.dtype == torch.bfloat16:
            bfloat16.add(name)
            value = value.float()
        try:
            named[name] = value.detach().numpy()
        except (TypeError, RuntimeError) as error:
            kind = f"{value.dtype}, {value.layout}"
            raise InputError(f"{path}: {name!r} must be a dense tensor; it is {kind}; save it again as one") from error
    return Arrays(named, tuple(str(name) for name in content if name != UNNAMED), frozenset(bfloat16))


READERS: dict[str, Callable[[Path, frozenset[str]], Arrays]] = {
    ".npz": read_npz,
    ".npy": read_npy,
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".safetensors": read_safetensors,
    ".pt": read_torch,
    ".pth": read_torch,
}
LABEL_READERS = READERS | {".txt": read_csv}


def read_arrays(path: Path, wanted: Iterable[str], *, labels_only: bool = False) -> Arrays:
    """The wanted arrays of a file of any known format.

    Raises
    ------
    InputError
        A file that is not there or may not be read, an unknown suffix, a damaged file, or one that would have to be
        unpickled.
    MissingExtra
        The package for this format is not installed.
    """
    readers = LABEL_READERS if labels_only else READERS
    require_file(path)
    if path.suffix.lower() not in readers:
        found = path.suffix or "none"
        raise InputError(f"{path}: the suffix must be one of {', '.join(readers)}; got {found}; convert or rename it")
    return readers[path.suffix.lower()](path, frozenset(wanted))


def _unreadable(path: Path, error: Exception, writer: str) -> InputError:
    reason = " ".join(str(error).split())
    if "Object arrays" in reason:
        return InputError(f"{path}: holds pickled objects, which are refused; save plain arrays of numbers instead")
    reason = (reason[:117] + "...") if len(reason) > 120 else reason
    return InputError(f"{path}: cannot be read ({reason or type(error).__name__}); write it again with {writer}")


def _is_list(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _column(pa: Any, path: Path, name: str, column: Any, score: bool = True) -> np.ndarray:
    """A column of numbers without gaps."""
    kind = column.type
    _require_no_gaps(path, name, column)
    if score and not pa.types.is_floating(kind):
        raise InputError(
            f"{path}: every column but the labels is a class and must be floating; {name!r} is {kind}; "
            "drop that column, or store it as float32"
        )
    if not score and not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"{path}: column {name!r} must hold class numbers; it is {kind}; {ENCODE}")
    values: np.ndarray = column.to_numpy()
    return values


def _list_column(pa: Any, path: Path, name: str, column: Any) -> np.ndarray:
    """A column of equally long lists of numbers as a matrix."""
    _require_no_gaps(path, name, column)
    whole = column.combine_chunks()
    chunks = whole.chunks if isinstance(whole, pa.ChunkedArray) else [whole]
    lengths = np.concatenate([_lengths(pa, chunk) for chunk in chunks] or [np.zeros(0, dtype=np.int64)])
    odd = np.flatnonzero(lengths != lengths[0]) if len(lengths) else lengths
    if len(odd):
        raise InputError(
            f"{path}: every list of column {name!r} must be as long; row {odd[0]} (from 0) has {lengths[odd[0]]}, "
            f"row 0 has {lengths[0]}; mend these rows"
        )
    flat = np.concatenate([_column(pa, path, name, pa.chunked_array([chunk.flatten()])) for chunk in chunks])
    return flat.reshape(len(lengths), -1)


def _require_no_gaps(path: Path, name: str, column: Any) -> None:
    if column.null_count:
        raise InputError(
            f"{path}: column {name!r} must have no gaps; {column.null_count} of {len(column)} rows are null; "
            "drop or mend them"
        )


def _lengths(pa: Any, chunk: Any) -> np.ndarray:
    if pa.types.is_fixed_size_list(chunk.type):
        return np.full(len(chunk), chunk.type.list_size, dtype=np.int64)
    lengths: np.ndarray = np.diff(chunk.offsets.to_numpy()).astype(np.int64)
    return lengths
