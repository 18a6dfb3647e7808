"""What can be wrong with a file, said in one line: the file, the rule, what came, what to do."""

from __future__ import annotations

import os
from collections.abc import Sequence

ENCODE = "encode labels as the integers 0 to K-1, in the order of the columns"


class InputError(ValueError):
    """A file that cannot be used as it is."""


class MissingExtra(ImportError):
    """An optional package is needed; the message ends with the pip line that mends it."""

    def __init__(self, purpose: str, package: str, extra: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install {package} (the extra `{extra}`)", name=package)


def require_file(path: str | os.PathLike[str], advice: str = "check the name") -> None:
    """Refuse what cannot be opened as an ordinary file; `advice` is for one that is not there."""
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would wait for its writer
        raise InputError(f"{path}: must be a file; it is a folder or a device; name an ordinary file")
    try:
        with open(path, "rb"):
            pass
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file; {advice}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); check its name and permissions") from error


def listing(names: Sequence[str], most: int = 8) -> str:
    """Names for an error message, the first few of them."""
    if not names:
        return "nothing"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
