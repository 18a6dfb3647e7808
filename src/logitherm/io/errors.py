"""What can be wrong with a file, said in one line: the file, the rule, what came, what to do."""

from __future__ import annotations

from collections.abc import Sequence


class InputError(ValueError):
    """A file that cannot be used as it is."""


class MissingExtra(ImportError):
    """An optional package is needed; the message ends with the pip line that mends it."""

    def __init__(self, purpose: str, package: str, extra: str) -> None:
        super().__init__(f'{purpose} needs {package}: pip install "logitherm[{extra}]"', name=package)


def listing(names: Sequence[str], most: int = 8) -> str:
    """Names for an error message, the first few of them."""
    if not names:
        return "nothing"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
