"""What is in a stored teacher, and what fewer logits or draws would have kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm.distillation.store import TeacherStore, shard_records

ROWS = 100_000


@dataclass(frozen=True)
class Size:
    """A number of logits or draws, and what it is worth.

    Attributes
    ----------
    size : int
        Logits or draws.
    bytes : int
        Of a token.
    tail : tuple of float
        For every temperature the mean probability of the tokens that are not kept. It is also the bias of a loss that
        leaves them out: half the sum of |slope| at student = teacher. With the tail as a state of its own there is
        none. Empty for draws.
    dropped : tuple of float
        -log(1 - tail), its mean: the divergence, nats, at student = teacher of a loss that leaves them out.
    noise : float or None
        Of draws: root mean square length of the error of a row's slope, q - p.
    """

    size: int
    bytes: int
    tail: tuple[float, ...] = ()
    dropped: tuple[float, ...] = ()
    noise: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None and value != ()}


def sizes_of(store: TeacherStore, rows: int = ROWS) -> list[Size]:
    """For 1, 2, 4, ... logits or draws up to those stored, means over at most about `rows` tokens, evenly spread.

    Examples
    --------
    >>> import tempfile, torch
    >>> from logitherm.distillation import SparseTeacher, TeacherWriter, open_teacher
    >>> from logitherm.distillation.records import Layout
    >>> teacher = SparseTeacher.from_logits(torch.zeros(2, 8), k=4, temperatures=(1.0,))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with TeacherWriter(folder, Layout(8, (1.0,), top_k=4)) as writer:
    ...         writer.append(teacher)
    ...     [(each.size, each.bytes, round(each.tail[0], 3)) for each in sizes_of(open_teacher(folder))]
    [(1, 8, 0.875), (2, 12, 0.75), (4, 20, 0.5)]
    """
    most = store.layout.size
    sizes = sorted({*(1 << i for i in range(most.bit_length())), most})
    if not len(store):
        return []
    return _of_logits(store, sizes, rows) if store.layout.top_k is not None else _of_draws(store, sizes, rows)


def _of_logits(store: TeacherStore, sizes: list[int], rows: int) -> list[Size]:
    t = np.array(store.layout.temperatures)
    tail, dropped, n = np.zeros((len(sizes), len(t))), np.zeros((len(sizes), len(t))), 0
    for records in shard_records(store, rows):
        z = -np.sort(-records["logits"].astype(np.float64), axis=-1)
        u = z[..., None] / t  # rows, k, temperatures
        rest = records["log_rest"].astype(np.float64)
        for i, size in enumerate(sizes):
            kept = np.logaddexp.reduce(u[:, :size], axis=1)
            others = np.logaddexp(rest, np.logaddexp.reduce(u[:, size:], axis=1, initial=-np.inf))
            of_all = np.logaddexp(kept, others)
            tail[i] += np.exp(others - of_all).sum(axis=0)
            dropped[i] += (of_all - kept).sum(axis=0)
        n += len(records)
    layout = store.layout
    return [
        Size(size, layout.bytes_per_token(size), tuple((tail[i] / n).tolist()), tuple((dropped[i] / n).tolist()))
        for i, size in enumerate(sizes)
    ]


def _of_draws(store: TeacherStore, sizes: list[int], rows: int) -> list[Size]:
    """The variance of one draw is sum p^2 / r - sum p^2, and a pair of draws tells the second where they agree."""
    layout = store.layout
    draws, spread, n = layout.size, 0.0, 0
    for start in shard_records(store, rows):
        teacher: Any = layout.unpack(start)
        shares = teacher.shares.double() * draws  # p / r
        estimate = (teacher.tokens[:, :, None] == teacher.tokens[:, None, :]).double()
        agreeing = (estimate * shares[:, :, None] * shares[:, None, :]).sum() - (shares**2).sum()
        spread += float((shares**2).sum() / draws - agreeing / max(draws * (draws - 1), 1))
        n += len(start)
    one = max(spread / n, 0.0) if draws > 1 else float("nan")
    return [Size(size, layout.bytes_per_token(size), noise=(one / size) ** 0.5) for size in sizes]
