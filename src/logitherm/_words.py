"""Counts in words."""

from __future__ import annotations


def counted(number: int, what: str, shown: str | None = None) -> str:
    """A count with its noun, which is singular for one: "1 row", "2 classes"; `shown` is the number as it is written.

    >>> counted(1, "class"), counted(20, "class"), counted(0, "row")
    ('1 class', '20 classes', '0 rows')
    """
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{number if shown is None else shown} {what if number == 1 else plural}"
