"""Blocks of rows on a few threads. Blocks depend on the shape alone, so results do not depend on the number of
threads."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import current_thread
from typing import TypeVar

Result = TypeVar("Result")

BLOCK_VALUES = 1 << 20
BLOCK_ROWS = 1 << 14
SINGLE_THREAD = 1 << 18  # values below which handing out work costs more than it saves

NAME = "logitherm"  # of our threads: work that asks for blocks of its own does them itself, or all might wait

_pools: dict[int, ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)


def num_threads() -> int:
    """LOGITHERM_NUM_THREADS, or the cores this process may use."""
    asked = os.environ.get("LOGITHERM_NUM_THREADS")
    if asked:
        if not asked.isdigit() or int(asked) < 1:
            raise ValueError(f"LOGITHERM_NUM_THREADS: must be a positive integer; got {asked!r}")
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blocks(rows: int, states: int, values: int = BLOCK_VALUES) -> Iterator[slice]:
    """Row ranges of about `values` values and at most BLOCK_ROWS rows, evenly sized."""
    if rows == 0:
        return
    most = max(1, min(BLOCK_ROWS, values // max(1, states)))
    count = math.ceil(rows / most)
    size = math.ceil(rows / count)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def map_blocks(work: Callable[[slice], Result], rows: int, states: int, values: int = BLOCK_VALUES) -> list[Result]:
    """`work` for every block of rows, in order. Work must release the GIL to gain from threads."""
    values = min(values, max(SINGLE_THREAD // 2, rows * states // 8))
    ranges = list(blocks(rows, states, values))
    threads = num_threads()
    if threads == 1 or rows * states < SINGLE_THREAD or current_thread().name.startswith(NAME):
        return [work(block) for block in ranges]
    pool = _pools.get(threads)
    if pool is None:
        pool = _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix=NAME)
    return list(pool.map(work, ranges))
