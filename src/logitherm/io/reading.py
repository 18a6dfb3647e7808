"""Logits and labels from one file or two, checked before anything is computed from them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from logitherm.io.errors import ENCODE, InputError, listing
from logitherm.io.formats import LABEL_NAMES, READERS, SCORE_NAMES, UNNAMED, Arrays, read_arrays
from logitherm.io.probabilities import log_probabilities, looks_like_probabilities

SUFFIXES = tuple(READERS)
LOGIT_NAMES: tuple[str, ...] = ("logits",)
HINT = "every row sums to 1: if these are probabilities, say --probabilities"


@dataclass(frozen=True)
class LogitData:
    """Logits with their labels, as read from `source`.

    Attributes
    ----------
    logits : array, shape (n, classes)
        float16, float32 or float64 as stored (bfloat16 and the logarithm of float16 become float32); -inf is allowed.
    labels : int64 array, shape (n,), or None
        Class numbers from 0, or None where they were not needed.
    source : str
        The name of the file.
    kind : "logits" or "probabilities"
        What the file was said to hold; `logits` are then log probabilities.
    zeros : int
        Probabilities that are exactly zero (0 for logits).
    zero_labels : int
        Rows whose label has probability zero, whichever the kind.
    hint : str or None
        One line if logits look like probabilities throughout. Nothing else follows from it.
    """

    logits: np.ndarray
    labels: np.ndarray | None
    source: str
    kind: Literal["logits", "probabilities"] = "logits"
    zeros: int = 0
    zero_labels: int = 0
    hint: str | None = None

    @property
    def n(self) -> int:
        return int(self.logits.shape[0])

    @property
    def classes(self) -> int:
        return int(self.logits.shape[1])


def read_logits(
    path: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    probabilities: bool = False,
    need_labels: bool = True,
    labels_option: str = "--labels",
) -> LogitData:
    """Read logits, and the labels that belong to them, from a file.

    By suffix: .npz and .safetensors (arrays `logits`, `labels`); .npy (labels from a second file); .csv (every column a
    class but for `label` or `labels`; the header may be missing, then so are the labels); .parquet (the same, or one
    column of lists `logits`); .pt and .pth (a dict with `logits` and `labels`, the pair of them or one tensor; nothing
    is unpickled but tensors).

    Parameters
    ----------
    path : path
        The file of the logits.
    labels : path, optional
        A file with the labels, which then win over any in `path`; also .txt, one class number a line.
    probabilities : bool
        The rows are on the simplex: their logarithm is taken, zeros become -inf and are counted. The arrays may then be
        called `probabilities` or `probs` as well. Never guessed.
    need_labels : bool
        False: labels are neither needed nor looked at, unless `labels` is given.
    labels_option : str
        What an error advises to pass where the file has no labels.

    Raises
    ------
    InputError
        Anything wrong with the files: one line with the file, the rule, what came and what to do.
    MissingExtra
        The package for this format is not installed; the message has the pip line.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "val.npz")
    ...     np.savez(file, logits=np.float32([[2.0, 0.0], [0.5, 1.0]]), labels=[0, 1])
    ...     data = read_logits(file)
    >>> data.logits.dtype.name, data.labels.tolist(), data.n, data.classes
    ('float32', [0, 1], 2, 2)
    """
    path = Path(path)
    own_labels = need_labels and labels is None
    names = ("probabilities", "probs", "logits") if probabilities else LOGIT_NAMES
    arrays = read_arrays(path, names + (LABEL_NAMES if own_labels else ()))
    name = _choose_scores(path, arrays, names)
    scores = _as_scores(arrays.named[name], _place(path, name))
    bfloat16 = name in arrays.bfloat16
    zeros, hint = 0, None
    if probabilities:
        scores, zeros = log_probabilities(scores, _place(path, name), bfloat16=bfloat16)
    else:
        _require_logits(scores, _place(path, name))
        hint = HINT if looks_like_probabilities(scores, bfloat16=bfloat16) else None
    wanted = None
    if own_labels:
        wanted = _labels_of(path, arrays, labels_option)
    elif labels is not None:
        wanted = _read_labels(Path(labels), labels_option)
    number = None if wanted is None else _as_labels(wanted[0], wanted[1], scores.shape)
    return LogitData(
        logits=scores,
        labels=number,
        source=path.name,
        kind="probabilities" if probabilities else "logits",
        zeros=zeros,
        zero_labels=0 if number is None else int(np.count_nonzero(scores[np.arange(len(number)), number] == -np.inf)),
        hint=hint,
    )


def _place(path: Path, name: str) -> str:
    return f"{path}: {name}" if name != UNNAMED else str(path)


# -- which array is which --------------------------------------------------------------------------------


def _choose_scores(path: Path, arrays: Arrays, names: Sequence[str]) -> str:
    for name in (*names, UNNAMED):
        if name in arrays.named:
            return name
    other = [name for name in arrays.found if name in SCORE_NAMES]
    if other:
        raise InputError(f"{path}: must hold {names[0]!r}; found {other[0]!r}: if that is meant, say --probabilities")
    raise InputError(f"{path}: must hold {names[0]!r}; found {listing(arrays.found)}; rename the array")


def _labels_of(path: Path, arrays: Arrays, option: str) -> tuple[np.ndarray, str]:
    there = [name for name in LABEL_NAMES if name in arrays.named]
    if len(there) > 1:
        raise InputError(f"{path}: must have one array of labels; found {listing(there)}; remove one")
    if there:
        return arrays.named[there[0]], _place(path, there[0])
    found = f"; found {listing(arrays.found)}" if arrays.found else ""
    raise InputError(f"{path}: has no labels ('labels' or 'label'){found}; add them, or pass {option} FILE")


def _read_labels(path: Path, option: str) -> tuple[np.ndarray, str]:
    arrays = read_arrays(path, LABEL_NAMES, labels_only=True)
    if UNNAMED in arrays.named:
        return arrays.named[UNNAMED], str(path)
    return _labels_of(path, arrays, option)


# -- what they hold --------------------------------------------------------------------------------------


def _as_scores(array: np.ndarray, place: str) -> np.ndarray:
    """A floating matrix with rows, in the machine's byte order."""
    kind = f"shape {array.shape}, {array.dtype}"
    if array.dtype.kind in "iub":
        raise InputError(f"{place}: must be floating point (are these labels?); got {kind}; save it as float32")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise InputError(f"{place}: must be float16, float32 or float64; got {kind}; save it as float32")
    if array.ndim == 1:
        raise InputError(f"{place}: must have a row of classes a sample; got {kind}; one score x is the row (0, x)")
    if array.ndim != 2:
        raise InputError(f"{place}: must have two axes, rows and classes; got {kind}; reshape it")
    if 0 in array.shape:
        raise InputError(f"{place}: must have rows and classes; got {kind}; write the file with some")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _require_logits(rows: np.ndarray, place: str) -> None:
    """NaN, +inf and rows without an allowed class all show in the largest of the row."""
    top = np.max(rows, axis=1)
    bad = np.flatnonzero(~np.isfinite(top))
    if len(bad):
        value = float(top[bad[0]])
        what = "NaN" if np.isnan(value) else "+inf" if value > 0 else "only -inf"
        raise InputError(
            f"{place}: logits must be finite or -inf, with one finite in each row; {len(bad)} of {len(rows)} rows are "
            f"not, the first is row {bad[0]} (from 0), which has {what}; drop or mend them"
        )


def _as_labels(array: np.ndarray, place: str, shape: tuple[int, ...]) -> np.ndarray:
    """Class numbers as int64: integers, or floats that are whole numbers, as tables have them."""
    n, classes = shape
    kind = f"shape {array.shape}, {array.dtype}"
    flat = array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
    if array.dtype.kind not in "iubf":
        raise InputError(f"{place}: labels must be class numbers 0 to {classes - 1}; got {kind}; {ENCODE}")
    if flat.ndim != 1:
        raise InputError(f"{place}: labels must be one class number a row; got {kind}; take argmax if they are one-hot")
    if len(flat) != n:
        raise InputError(
            f"{place}: there must be a label for each of the {n} rows of logits; got {len(flat)}; "
            "give the labels of this file"
        )
    if flat.dtype.kind == "f":
        broken = np.flatnonzero(~(np.isfinite(flat) & (flat == np.trunc(flat))))
        if len(broken):
            i = broken[0]
            raise InputError(f"{place}: labels must be whole class numbers; row {i} (from 0) has {flat[i]}; mend it")
    flat = flat.astype(np.int8) if flat.dtype.kind == "b" else flat
    bad = np.flatnonzero((flat < 0) | (flat >= classes))
    if len(bad):
        counted_from_one = len(flat) > 1 and int(flat.min()) == 1 and int(flat.max()) == classes
        mend = "subtract 1 if they count from 1" if counted_from_one else "drop these rows or mend them"
        raise InputError(
            f"{place}: labels must lie in 0..{classes - 1}; {len(bad)} of {n} do not, the first is row {bad[0]} "
            f"(from 0) with {flat[bad[0]]}; {mend}"
        )
    return flat.astype(np.int64)
