"""What cannot be part of a compiled graph, within models that are compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def outside_graphs(function: Callable[..., Result]) -> Callable[..., Result]:
    """Not for a graph, while the model around it compiles. The compiler takes seconds to import, so not before."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Result:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)  # type: ignore[no-any-return]
        return function(*args, **kwargs)

    return wrapped
