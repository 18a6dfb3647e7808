"""Numbers separated by commas, with or without a line of names, by NumPy alone.

The first line is a header if it holds a name, or if it reads exactly 0,1,2,...,K-1 as pandas writes unnamed columns.
Other different whole numbers, as 1,0,2, may be names or the first row, which nobody can tell: they are refused.
"""

from __future__ import annotations

import csv
import itertools
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from logitherm.io.errors import ENCODE, InputError, listing


def read_text(path: Path) -> tuple[tuple[str, ...] | None, np.ndarray]:
    """The names of the columns, None without a header, and the numbers as float64, shape (rows, columns)."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            first = next((row for row in lines if row), [])
            line = lines.line_num
            header = _header(path, first, next((row for row in lines if row), []))
            skip = line if header is not None else 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no rows: refused by the caller, with the name of the file
            values = np.loadtxt(
                path, delimiter=",", comments=None, quotechar='"', skiprows=skip, ndmin=2, encoding="utf-8-sig"
            )
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be text in UTF-8; byte {error.start} is not; write it again as CSV") from error
    except (csv.Error, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error}); write it again as CSV") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise _first_bad_line(path, skip, error) from error
    if header is None:
        return None, values
    if len(values) and values.shape[1] != len(header):
        raise InputError(
            f"{path}: every line must have the {len(header)} cells of its header; got {values.shape[1]}; "
            "mend the header"
        )
    return header, values.reshape(-1, len(header))


def split_columns(path: Path, names: Sequence[str], label_names: Sequence[str]) -> tuple[int | None, list[str]]:
    """Where the labels are, None if nowhere, and the names of the classes, which are all other columns in order."""
    labels = [i for i, name in enumerate(names) if name.strip().lower() in label_names]
    if len(labels) > 1:
        raise InputError(
            f"{path}: must have one column of labels; it has {listing([names[i] for i in labels])}; drop one"
        )
    unnamed = [i for i, name in enumerate(names) if name.strip() == "" or name.startswith("Unnamed: ")]
    if unnamed:
        raise InputError(
            f"{path}: column {unnamed[0]} (from 0) has no name, so it may be a row index and not a class; "
            "write the table without its index, or name the column"
        )
    return (labels[0] if labels else None), [name for i, name in enumerate(names) if i not in labels]


def require_order(path: Path, classes: Sequence[str]) -> None:
    """Refuse numbered columns out of order (class_1, class_0): column k is class k, whatever it is called."""
    found = [re.fullmatch(r"(.*?)([0-9]{1,9})", name.strip()) for name in classes]
    parts = [(match[1], int(match[2])) for match in found if match]
    if len(parts) < len(found) or len({stem for stem, _ in parts}) != 1:
        return
    for (left, (_, i)), (right, (_, j)) in itertools.pairwise(zip(classes, parts, strict=True)):
        if i >= j:
            raise InputError(
                f"{path}: columns must be in the order of the labels; got {left.strip()} before {right.strip()}; "
                "reorder them"
            )


def _header(path: Path, cells: Sequence[str], below: Sequence[str]) -> tuple[str, ...] | None:
    """The names in the first line, None if it is the first row; `below` is the line after it."""
    names = tuple(cell.strip() for cell in cells)
    numbers = [name for name in names if _is_number(name)]
    if len(numbers) == len(names):
        if len(names) < 2 or len(set(names)) < len(names) or not all(map(str.isdecimal, names)):
            return None
        counting = all(name == str(i) for i, name in enumerate(names))
        if counting and not all(cell.strip().isdecimal() for cell in below):
            return names
        raise InputError(
            f"{path}: line 1 must be names, or numbers that cannot be taken for names; it is {listing(names)}; write a "
            "line of names such as class_0, class_1 above the rows, or 1.0 for the number 1"
        )
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        raise InputError(f"{path}: cells must be separated by commas; line 1 uses {names[0]!r:.40}; convert it")
    odd = [name for name in numbers if not name.isdecimal()]
    if odd:
        raise InputError(f"{path}: line 1 must be names or numbers; it has {odd[0]!r} beside text; mend it")
    return names


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _first_bad_line(path: Path, skip: int, error: ValueError) -> InputError:
    """Read again, slowly, to say which line of the file is at fault."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        width = 0
        for cells in lines:
            if not cells or lines.line_num <= skip:
                continue
            width = width or len(cells)
            if len(cells) != width:
                return InputError(
                    f"{path}: every line must have as many cells; line {lines.line_num} has {len(cells)} and not "
                    f"{width}; mend it"
                )
            for i, cell in enumerate(cells):
                if not _is_number(cell):
                    return InputError(
                        f"{path}: every cell must be a number; line {lines.line_num}, cell {i + 1} is {cell!r:.40}; "
                        f"mend it, or {ENCODE}"
                    )
    return InputError(f"{path}: cannot be read ({' '.join(str(error).split())}); write it again as CSV")
