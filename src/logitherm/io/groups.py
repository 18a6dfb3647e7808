"""One group a row: domains, languages, sites."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from logitherm.io.errors import InputError, require_file


def read_groups(path: Path, rows: int) -> np.ndarray:
    """Integers or strings from a .npy file, or lines of a .txt file.

    Raises
    ------
    InputError
        Another kind of file, another number of groups than rows, or groups of another type.
    """
    require_file(path)
    suffix = path.suffix.lower()
    if suffix == ".txt":
        found = np.array(path.read_text(encoding="utf-8").splitlines())
    elif suffix == ".npy":
        try:
            found = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise InputError(f"{path}: cannot be read as .npy ({error}); write it with numpy.save") from error
    else:
        raise InputError(f"{path}: groups must be a .npy file, or a .txt file with one a line; got {suffix or 'none'}")
    if found.shape != (rows,) or found.dtype.kind not in "iuUS":
        raise InputError(
            f"{path}: must have an integer or a string for each of the {rows} rows; got shape {found.shape}, "
            f"{found.dtype}; write one a row"
        )
    return found
