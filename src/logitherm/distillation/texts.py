"""The texts of a stored teacher, as a student reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from logitherm.distillation.store import TeacherStore


class StoredTexts:
    """Blocks of a stored text with the columns that the trainers want; made by `TeacherStore.texts`.

    Item i is {"input_ids", "labels", "teacher_rows"}, int64 arrays of `length` tokens: a data set for PyTorch's
    DataLoader and for the Hugging Face Trainer (with `remove_unused_columns=False`). Tokens are read when they are
    asked for. What is left over at the end is left out.
    """

    def __init__(self, store: TeacherStore, length: int) -> None:
        if not isinstance(length, (int, np.integer)) or not 1 <= length <= len(store):
            raise ValueError(
                f"length: must be an integer from 1 to the {len(store)} tokens; got {length}; 256 is usual"
            )
        self.store, self.length = store, int(length)

    def __len__(self) -> int:
        return len(self.store) // self.length

    def __getitem__(self, block: int) -> dict[str, np.ndarray[Any, Any]]:
        if not -len(self) <= block < len(self):
            raise IndexError(f"block: must be one of {len(self)}; got {block}; mend it")
        start = (block % len(self)) * self.length
        rows = np.arange(start, start + self.length, dtype=np.int64)
        tokens = self.store.context(rows)
        return {"input_ids": tokens, "labels": tokens.copy(), "teacher_rows": rows}
