"""Files written whole or not at all, and never over another one unless told to."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from logitherm.io.errors import InputError


def check_target(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """The file that writing to `path` would make, links followed; raises where that could not succeed.

    Call it before long work, so that the work is not lost to a name that is taken.

    Raises
    ------
    InputError
        The file exists and `force` is False; it is a folder or a device; its folder is missing or closed to us.

    Examples
    --------
    >>> check_target("no/such/folder/out.json")
    Traceback (most recent call last):
    ...
    logitherm.io.errors.InputError: no/such/folder/out.json: its folder does not exist; make it first
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise InputError(f"{path}: its folder does not exist; make it first")
    if not os.access(target.parent, os.W_OK | os.X_OK):  # first, as what is in a closed folder cannot be known
        raise InputError(f"{path}: its folder is not writable; choose another")
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "a device"
        raise InputError(f"{path}: must be an ordinary file; it is {kind}; choose another name")
    if target.exists() and not force:
        raise InputError(f"{path}: exists; pass force=True to replace it, or another name")
    return target


def write_whole(path: str | os.PathLike[str], data: bytes, *, force: bool = False) -> None:
    """Write `data` to `path` through a temporary file beside it: afterwards it is there whole, or nothing is.

    Raises
    ------
    InputError
        See `check_target`.
    OSError
        The disk refused; the old file, if any, is untouched.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(pathlib.Path(folder, "out.txt"), b"1.5")
    ...     pathlib.Path(folder, "out.txt").read_bytes()
    b'1.5'
    """
    _place(path, lambda file: file.write(data), force)


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], *, force: bool = False) -> None:
    """Write named arrays to a NumPy .npz at `path`, as `write_whole` does and without a second copy in memory.

    Raises
    ------
    InputError
        `path` does not end in .npz; see also `check_target`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_npz(pathlib.Path(folder, "p.npz"), {"probabilities": np.array([[0.25, 0.75]])})
    ...     read_back = dict(np.load(pathlib.Path(folder, "p.npz")))
    >>> read_back["probabilities"].tolist()
    [[0.25, 0.75]]
    """
    require_npz(path)
    _place(path, lambda file: np.savez(file, allow_pickle=False, **arrays), force)


def require_npz(path: str | os.PathLike[str]) -> None:
    """Raise unless the name ends in .npz, so that what is written can be read again by its name."""
    if Path(path).suffix.lower() != ".npz":
        raise InputError(f"{path}: the output is a NumPy archive; give it a name that ends in .npz")


def _place(path: str | os.PathLike[str], write: Callable[[BinaryIO], object], force: bool) -> None:
    target = check_target(path, force=force)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with open(part, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        check_target(target, force=force)  # someone may have made it while we wrote
        os.replace(part, target)
    except BaseException as error:  # also Ctrl-C: nothing may remain
        with contextlib.suppress(OSError):  # a read-only disk refuses even this
            part.unlink()
        if isinstance(error, OSError):  # its own words name the temporary file, or none
            reason = error.strerror or error
            raise OSError(
                f"{path}: cannot be written ({reason}); make room, or choose another name or folder"
            ) from error
        raise
