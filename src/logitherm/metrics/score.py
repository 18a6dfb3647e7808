"""A number and its interval."""

from __future__ import annotations

from dataclasses import dataclass

from logitherm.metrics.options import finite_or_none


@dataclass(frozen=True)
class Score:
    """A score and its interval, low <= value <= high; NaN bounds where there is none."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """For JSON: what is not finite is None."""
        return {name: finite_or_none(value) for name, value in vars(self).items()}
