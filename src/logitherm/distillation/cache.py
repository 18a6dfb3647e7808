"""Ask a language model about a text, and store what it says."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logitherm.distillation.records import Layout
from logitherm.distillation.sparse import TEMPERATURES, SampledTeacher, SparseTeacher
from logitherm.distillation.store import SHARD_TOKENS, TeacherStore, TeacherWriter, open_teacher


def cache_teacher(
    model: Callable[[Tensor], Any],
    tokens: Sequence[int],
    folder: str | os.PathLike[str],
    *,
    top_k: int | None = None,
    draws: int | None = None,
    temperatures: Sequence[float] = TEMPERATURES,
    length: int = 256,
    batch: int = 4,
    dtype: str = "float16",
    shard_tokens: int | None = None,
    seed: int = 0,
    device: Any = "cpu",
    provenance: dict[str, Any] | None = None,
    force: bool = False,
    tell: Callable[[float], Any] | None = None,
) -> TeacherStore:
    """Store what a model says of the next token after each token of a text.

    The text is read in blocks of `length` tokens, each without what is before it, and row i of the store is the law of
    the token after token i; so blocks of `store.context()` are what a student reads. A run that was stopped goes on
    after its last whole shard, and what is in the folder at the end does not depend on where it was stopped.

    Parameters
    ----------
    model : callable
        Of token ids (sequences, tokens), int64; gives logits (sequences, tokens, states), or has them as `.logits`:
        a causal language model of transformers, in evaluation mode.
    tokens : sequence of int
    folder : path
    top_k, draws : int, optional
        Keep the largest logits (64 if neither is given), or draws from the law.
    temperatures : sequence of float
        The losses' temperatures; of draws one.
    length : int
        At most the context of the model.
    batch : int
        Blocks that the model reads at a time.
    dtype, shard_tokens, provenance, force
        As `TeacherWriter` and `Layout`; a shard has whole blocks, by default as many as 65536 tokens are.
    seed : int
        Of the draws.
    device : torch.device or str
        Where the ids are to be.
    tell : callable, optional
        Told the share that is done.

    Raises
    ------
    InputError, ValueError
        As `TeacherWriter`; a text of no tokens; a shard that is not whole blocks.

    Examples
    --------
    >>> import tempfile
    >>> table = torch.randn(20, 20, generator=torch.Generator().manual_seed(0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = cache_teacher(lambda ids: table[ids], [1, 5, 3, 2, 5], folder, top_k=4, length=2)
    ...     store, store.context(slice(0, 3)).tolist()
    (TeacherStore(..., tokens=5, top_k=4), [1, 5, 3])
    """
    ids = torch.as_tensor(np.asarray(tokens, dtype=np.int64))
    if ids.ndim != 1 or not len(ids):
        raise ValueError("tokens: must be at least one; got none; give a longer text")
    if length < 1 or batch < 1:
        raise ValueError(f"length, batch: must be at least 1; got {length} and {batch}; 256 and 4 are usual")
    rows = max(SHARD_TOKENS // length, 1) * length if shard_tokens is None else shard_tokens
    if rows % length:
        whole = max(rows // length, 1) * length
        raise ValueError(f"shard_tokens: must be a multiple of the length {length}; got {rows}; take {whole}")
    top_k = 64 if top_k is None and draws is None else top_k
    with torch.no_grad():
        states = _logits(model, ids[:1, None].to(device)).shape[-1]
        if top_k is not None:
            top_k = min(top_k, states)
        layout = Layout(states, tuple(temperatures), top_k, draws, dtype, context=True)
        origin = {
            **(provenance or {}),
            "sha256": hashlib.sha256(ids.numpy().astype("<i8").tobytes()).hexdigest(),
            "tokens": len(ids),
            "length": length,
            "batch": batch,
            **({} if draws is None else {"seed": seed}),
        }
        with TeacherWriter(folder, layout, shard_tokens=rows, provenance=origin, force=force) as writer:
            for start, blocks in _batches(ids, length, batch, rows, len(writer)):
                z = _logits(model, blocks.to(device)).reshape(-1, states)
                teacher: SparseTeacher | SampledTeacher
                if draws is None:
                    teacher = SparseTeacher.from_logits(z, k=layout.size, temperatures=layout.temperatures)
                else:  # a generator for every start, so that a run which goes on draws the same
                    own = np.random.default_rng((seed, start))
                    (t,) = layout.temperatures
                    teacher = SampledTeacher.from_logits(z, draws=draws, temperature=t, generator=own)
                writer.append(teacher, blocks.reshape(-1))
                if tell is not None:
                    tell((start + blocks.numel()) / len(ids))
    return open_teacher(folder)


def _batches(ids: Tensor, length: int, batch: int, rows: int, start: int) -> Iterator[tuple[int, Tensor]]:
    """Blocks a few at a time. None spans two shards, so that each is the same whichever was the first of a run."""
    while start < len(ids):
        stop = min(start + batch * length, (start // rows + 1) * rows, len(ids))
        whole = (stop - start) // length * length
        stop = start + (whole or stop - start)  # the last block may be a short one, alone
        yield start, ids[start:stop].reshape(-1, length if whole else stop - start)
        start = stop


def _logits(model: Callable[[Tensor], Any], ids: Tensor) -> Tensor:
    answer = model(ids)
    logits = answer if isinstance(answer, Tensor) else answer.logits
    if logits.ndim != 3 or tuple(logits.shape[:2]) != tuple(ids.shape):
        raise ValueError(
            f"model: must give logits (sequences, tokens, states) for ids {tuple(ids.shape)}; got shape "
            f"{tuple(logits.shape)}; give all of them"
        )
    return logits
