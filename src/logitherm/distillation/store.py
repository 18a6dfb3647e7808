"""A teacher on disk, written once and read often.

A folder holds `index.json` and files `shard-00000.npy`, `shard-00001.npy`, ... of records (`records.py`), each a NumPy
array that any NumPy reads. A shard is written whole, and enters the index, itself written whole, after that. So the
folder is right at any moment, and a run that was stopped goes on after the last whole shard. The index has the size and
SHA-256 of every shard, and of its own contents.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from logitherm._array import describe, to_numpy
from logitherm.distillation.records import Layout
from logitherm.distillation.sparse import SampledTeacher, SparseTeacher
from logitherm.distillation.texts import StoredTexts
from logitherm.io import InputError, require_file, write_whole

FORMAT, VERSION = "logitherm teacher", 1
INDEX = "index.json"
SHARD_TOKENS = 1 << 16


class TeacherStore:
    """Rows of a stored teacher: `store[rows]` for an int, a slice or an array of ints, in that order.

    Made by `open_teacher`. Files are mapped into memory and opened when a row of theirs is read; a copy for another
    process opens its own.

    Attributes
    ----------
    layout : Layout
    provenance : dict
        Where it comes from.
    shards : list of dict
        Name, rows, bytes and SHA-256 of each.
    """

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder = folder
        self.index = index
        self.layout = Layout(**{**index["layout"], "temperatures": tuple(index["layout"]["temperatures"])})
        self.provenance: dict[str, Any] = index["provenance"]
        self.shards: list[dict[str, Any]] = index["shards"]
        self._ends = np.cumsum([shard["rows"] for shard in self.shards], dtype=np.int64)
        self._open: dict[int, np.ndarray[Any, Any]] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __reduce__(self) -> Any:
        return open_teacher, (self.folder,)

    def __repr__(self) -> str:
        what = f"draws={self.layout.draws}" if self.layout.top_k is None else f"top_k={self.layout.top_k}"
        return f"TeacherStore({str(self.folder)!r}, tokens={len(self)}, {what})"

    def __getitem__(self, rows: Any) -> SparseTeacher | SampledTeacher:
        return self.layout.unpack(self.records(rows))

    def context(self, rows: Any = slice(None)) -> np.ndarray[Any, Any]:
        """The token after which the teacher was asked, for every row; that of row i + 1 is the label of row i."""
        if not self.layout.context:
            raise InputError(f"{self.folder}: must be stored with its context; it has none; store the teacher again")
        return self.records(rows)["context"].astype(np.int64)

    def texts(self, length: int | None = None) -> StoredTexts:
        """Blocks of so many tokens as a data set for the trainers; as long as the teacher's if it is not said.

        Examples
        --------
        >>> import tempfile, torch
        >>> from logitherm.distillation.cache import cache_teacher
        >>> table = torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = cache_teacher(lambda ids: table[ids], [1, 5, 3, 2, 5], folder, top_k=4, length=2)
        ...     {name: values.tolist() for name, values in store.texts()[1].items()}
        {'input_ids': [3, 2], 'labels': [3, 2], 'teacher_rows': [2, 3]}
        """
        length = self.provenance.get("length") if length is None else length
        if length is None:
            raise ValueError(
                "length: must be given for a teacher that does not say it; got None; pass that of its blocks"
            )
        return StoredTexts(self, length)

    def records(self, rows: Any) -> np.ndarray[Any, Any]:
        """The records as they are stored."""
        wanted = self._places(rows)
        shard_of = np.searchsorted(self._ends, wanted, side="right")
        found = np.empty(len(wanted), dtype=self.layout.record)
        for shard in np.unique(shard_of):
            mine = shard_of == shard
            start = self._ends[shard] - self.shards[shard]["rows"]
            found[mine] = self._shard(int(shard))[wanted[mine] - start]
        return found

    def verify(self, tell: Callable[[float], Any] | None = None) -> None:
        """Read every shard against its checksum.

        Raises
        ------
        InputError
            Names the first shard that is missing, of another size, or damaged.
        """
        for number, shard in enumerate(self.shards):
            path = self._path(number)
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != shard["sha256"]:
                raise InputError(f"{path}: is damaged, its SHA-256 is not that of the index; {ADVICE}")
            if tell is not None:
                tell((number + 1) / len(self.shards))

    def _places(self, rows: Any) -> np.ndarray[Any, Any]:
        if isinstance(rows, slice):
            return np.arange(*rows.indices(len(self)), dtype=np.int64)
        wanted = np.atleast_1d(to_numpy(rows) if not isinstance(rows, (list, tuple)) else np.asarray(rows))
        if wanted.ndim != 1 or (wanted.dtype.kind not in "iu" and wanted.size):
            raise TypeError(f"rows: must be an int, a slice or ints in a line; got {describe(rows)}; flatten them")
        wanted = wanted.astype(np.int64)
        out = (wanted < -len(self)) | (wanted >= len(self))
        if out.any():
            raise IndexError(f"rows: must lie in [0, {len(self)}); got {wanted[out][0]}; mend them")
        return np.where(wanted < 0, wanted + len(self), wanted)

    def _path(self, number: int) -> Path:
        """The file of a shard, that is there and has its size."""
        shard = self.shards[number]
        path = self.folder / shard["name"]
        require_file(path, f"the shard is missing; {ADVICE}")
        if path.stat().st_size != shard["bytes"]:
            raise InputError(f"{path}: must have {shard['bytes']} bytes; it has {path.stat().st_size}; {ADVICE}")
        return path

    def _shard(self, number: int) -> np.ndarray[Any, Any]:
        if number not in self._open:
            path = self._path(number)
            try:
                records = np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, OSError, EOFError, SyntaxError) as error:  # the header is a Python literal
                raise InputError(f"{path}: is damaged, its header cannot be read; {ADVICE}") from error
            if records.dtype != self.layout.record or records.shape != (self.shards[number]["rows"],):
                raise InputError(f"{path}: is damaged, its records are not those of the index; {ADVICE}")
            self._open[number] = records
        return self._open[number]


ADVICE = "copy the folder again, or store the teacher again"


def open_teacher(path: str | os.PathLike[str]) -> TeacherStore:
    """A stored teacher, whose rows are read when they are asked for.

    Only the index is read, and checked; `TeacherStore.verify` reads every shard against its checksum.

    Raises
    ------
    InputError
        No such folder, an index that is damaged or of another version; on reading, a shard that is missing or cut.

    Examples
    --------
    >>> import tempfile, torch
    >>> logits = torch.randn(10, 50, generator=torch.Generator().manual_seed(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with TeacherWriter(folder, Layout(50, (1.0, 2.0), top_k=4)) as writer:
    ...         writer.append(SparseTeacher.from_logits(logits, k=4, temperatures=(1.0, 2.0)))
    ...     store = open_teacher(folder)
    ...     len(store), store[2:5].tokens.shape
    (10, torch.Size([3, 4]))
    """
    folder = Path(path)
    return TeacherStore(folder, _read_index(folder))


class TeacherWriter:
    """Appends rows to a folder, shard by shard; one that exists is gone on with after its last row.

    The caller starts at row `len(writer)` with the same rows as before; what is then in the folder does not depend on
    where it was stopped. Used as a context, the last rows are written at its end, unless by an error.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    layout : Layout
    shard_tokens : int
        Rows of a shard. That many records are held in memory.
    provenance : dict, optional
        Plain values for JSON: where the teacher comes from.
    force : bool
        Whether another teacher in the folder is replaced.

    Raises
    ------
    InputError
        The folder holds something else, or a teacher with other settings; the message says which.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        layout: Layout,
        *,
        shard_tokens: int = SHARD_TOKENS,
        provenance: dict[str, Any] | None = None,
        force: bool = False,
    ) -> None:
        if shard_tokens < 1:
            raise ValueError(f"shard_tokens: must be at least 1; got {shard_tokens}; {SHARD_TOKENS} is usual")
        self.folder, self.layout, self.shard_tokens = Path(folder), layout, shard_tokens
        self._waiting: list[np.ndarray[Any, Any]] = []
        self._index = {
            "format": FORMAT,
            "version": VERSION,
            "library": _version(),
            "layout": layout.to_dict(),
            "bytes_per_token": layout.record.itemsize,
            "shard_tokens": shard_tokens,
            "provenance": json.loads(json.dumps(provenance or {})),  # as it will be read again
            "shards": [],
        }
        self._take_folder(force)

    def __len__(self) -> int:
        return sum(shard["rows"] for shard in self._index["shards"]) + sum(map(len, self._waiting))

    def __enter__(self) -> TeacherWriter:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()

    def append(self, teacher: SparseTeacher | SampledTeacher, context: Any = None) -> None:
        """Rows that follow those before; `context` is the token after which each was asked, if that is kept."""
        self._waiting.append(self.layout.pack(teacher, context))
        while sum(map(len, self._waiting)) >= self.shard_tokens:
            records = np.concatenate(self._waiting)
            self._waiting = [records[self.shard_tokens :]]
            self._write(records[: self.shard_tokens])

    def close(self) -> None:
        """Write what is left, as a shorter shard: nothing is appended after it."""
        if sum(map(len, self._waiting)):
            self._write(np.concatenate(self._waiting))
        self._waiting = []

    def _write(self, records: np.ndarray[Any, Any]) -> None:
        shards = self._index["shards"]
        if shards and shards[-1]["rows"] < self.shard_tokens:
            raise InputError(f"{self.folder}: is complete, its last shard is a short one; store it anew, with more")
        buffer = io.BytesIO()
        np.save(buffer, records, allow_pickle=False)
        data, name = buffer.getvalue(), f"shard-{len(shards):05d}.npy"
        write_whole(self.folder / name, data, force=True)  # one that is not in the index does not count
        digest = hashlib.sha256(data).hexdigest()
        shards.append({"name": name, "rows": len(records), "bytes": len(data), "sha256": digest})
        self._save()

    def _save(self) -> None:
        contents = {**self._index, "sha256": _digest(self._index)}
        write_whole(self.folder / INDEX, (json.dumps(contents, indent=1) + "\n").encode(), force=True)

    def _take_folder(self, force: bool) -> None:
        """Make the folder, or go on with what is there."""
        folder = self.folder
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: must be a folder; it is a file; choose another name")
        if not folder.parent.is_dir():
            raise InputError(f"{folder}: the folder that it is to be in does not exist; make it first")
        folder.mkdir(exist_ok=True)
        known = (folder / INDEX).exists()
        if not known and (strange := [path for path in folder.iterdir() if not _is_ours(path)]):
            raise InputError(f"{folder}: must be empty or hold a teacher; it has {strange[0].name}; choose another")
        if known and not force:
            there = _read_index(folder)
            self._require_same(there)
            self._index["library"], self._index["shards"] = there["library"], there["shards"]
            if there["shards"]:
                for number in range(len(there["shards"])):
                    TeacherStore(folder, there)._path(number)
        elif known:
            (folder / INDEX).unlink()  # first, so that it never names files that are gone
        listed = {shard["name"] for shard in self._index["shards"]}
        for path in folder.iterdir():  # of a run that was stopped
            if _is_ours(path) and path.name not in listed:
                path.unlink()
        self._save()

    def _require_same(self, there: dict[str, Any]) -> None:
        for part in ("layout", "provenance"):
            for name in sorted({*self._index[part], *there[part]}, key=lambda name: (name == "sha256", name)):
                mine, theirs = self._index[part].get(name), there[part].get(name)
                if mine != theirs:
                    self._refuse(name, mine, theirs)
        if self.shard_tokens != there["shard_tokens"]:
            self._refuse("shard_tokens", self.shard_tokens, there["shard_tokens"])

    def _refuse(self, name: str, mine: Any, theirs: Any) -> None:
        if name == "sha256":
            raise InputError(
                f"{self.folder}: holds a teacher of other tokens; pass force=True to replace it, or another folder"
            )
        raise InputError(
            f"{self.folder}: holds a teacher with {name} = {theirs}, not {mine}; pass force=True to replace it, or "
            "another folder"
        )


def shard_records(store: TeacherStore, most: int) -> Iterator[np.ndarray[Any, Any]]:
    """At most about `most` records, evenly spread, a few thousand at a time."""
    stride = max(1, -(-len(store) // most))
    rows = np.arange(0, len(store), stride)
    for start in range(0, len(rows), 4096):
        yield store.records(rows[start : start + 4096])


def _is_ours(path: Path) -> bool:
    """A shard, or a part of a file that was being written."""
    name = path.name
    return (name.startswith("shard-") and name.endswith(".npy")) or (
        name.startswith((".shard-", f".{INDEX}.")) and name.endswith(".part")
    )


def _digest(index: dict[str, Any]) -> str:
    """Of the contents, whatever spaces the file has."""
    contents = {name: value for name, value in index.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: must be the folder of a stored teacher; it is a file; name the folder")
    require_file(path, "name the folder of a stored teacher")
    try:
        index = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: is damaged, it is no JSON; {ADVICE}") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise InputError(f"{path}: must be the index of a stored teacher; it is something else; name another folder")
    if index.get("version") != VERSION:
        raise InputError(
            f"{path}: must be of version {VERSION}; got {index.get('version')}; read it with its logitherm"
        )
    if index.get("sha256") != _digest(index):
        raise InputError(f"{path}: is damaged, its SHA-256 is not that of its contents; {ADVICE}")
    return index


def _version() -> str:
    try:
        return version("logitherm")
    except PackageNotFoundError:  # a source tree that is not installed
        return "unknown"
