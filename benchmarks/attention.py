"""Time, memory and error of the entropy of every row of causal attention: ours, a fused kernel's, dense.

    python benchmarks/attention.py [--threads 2] [--rounds 5] [--out results.json]

8 heads of width 64, float32. Every entry has a process of its own, of which the peak of memory beyond inputs and
warm-up is read (VmHWM, with MALLOC_MMAP_THRESHOLD_ set, or what the allocator keeps would be measured). Rounds of
entries take turns; times are medians. The error is the largest of all rows, in nats, against float64. The product is
that of all queries and keys, in the same blocks and without those that causal attention leaves out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HEADS, WIDTH = 8, 64
CASES = {4096: ("product", "logitherm", "fused kernel, keys as values", "dense"), 65_536: ("product", "logitherm")}
CHECKED = 256  # queries, the last ones
ONCE = 10_000  # tokens from which there is one round


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entry", help="run one entry and print what it took")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "attention.json")
    options = parser.parse_args()
    if options.entry:
        print(json.dumps(run(options.entry, options.tokens, options.threads)))
        return
    results: dict[str, Any] = {"threads": options.threads, "rounds": options.rounds, "heads": HEADS, "width": WIDTH}
    results["cases"] = {}
    for tokens, names in CASES.items():
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(options.rounds if tokens < ONCE else 1):
            for name in names:
                found[name].append(in_a_process(name, tokens, options.threads))
        entries = {
            name: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for name, runs in found.items()
        }
        results["cases"][tokens] = entries
        for name, entry in entries.items():
            print(f"{tokens:6} {name:30} {entry['seconds']:7.3f} s {entry['extra_mb']:8.0f} MB  {entry['error']:.1e}")
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def in_a_process(name: str, tokens: int, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--entry", name, "--tokens", str(tokens), "--threads", str(threads)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "262144", "LOGITHERM_NUM_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def run(name: str, tokens: int, threads: int) -> dict[str, float]:
    import torch

    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, HEADS, tokens, WIDTH, generator=generator) for _ in range(2))
    entropy = ENTROPY[name]
    entropy(q[:, :, :1200], k[:, :, :1200])
    before = peak(reset=True)
    seconds = []
    for _ in range(3 if tokens < ONCE else 1):
        start = time.perf_counter()
        found = entropy(q, k)
        seconds.append(time.perf_counter() - start)
    extra = peak() - before
    if found is None:
        return {"seconds": statistics.median(seconds), "extra_mb": extra, "error": math.nan}
    x = q[:, :, -CHECKED:].double() @ k.double().mT / math.sqrt(WIDTH)
    place = torch.arange(tokens)
    x = x.masked_fill(place > place[-CHECKED:, None], -math.inf)
    p = x.softmax(-1)
    right = -torch.xlogy(p, p).sum(-1)
    error = (found[:, :, -CHECKED:].double() - right).abs().max().item()
    return {"seconds": statistics.median(seconds), "extra_mb": extra, "error": error}


# -- (q, k) -> entropy of every row ----------------------------------------------------------------------


def ours(q: Any, k: Any) -> Any:
    from logitherm.attention import attention_state

    return attention_state(q, k, causal=True).entropy


def fused(q: Any, k: Any) -> Any:
    from logitherm.attention import attention_state

    return attention_state(q, k, causal=True, method="fused").entropy


def dense(q: Any, k: Any) -> Any:
    import torch

    x = q @ k.mT / math.sqrt(WIDTH)
    x = x.masked_fill(torch.ones(x.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
    p = x.softmax(-1)
    return -torch.xlogy(p, p).sum(-1)


def product(q: Any, k: Any) -> None:
    import torch

    from logitherm.kernels.attention import KEYS, QUERIES

    n = q.shape[2]
    rows, columns = min(QUERIES, n), min(KEYS, n)
    out = torch.empty(rows * columns)
    for head in range(HEADS):
        for i in range(0, n, rows):
            for j in range(0, min(i + rows, n), columns):
                some, these = q[0, head, i : i + rows], k[0, head, j : min(j + columns, i + rows)]
                torch.mm(some, these.T, out=out[: len(some) * len(these)].reshape(len(some), len(these)))


ENTROPY: dict[str, Callable[..., Any]] = {
    "product": product,
    "logitherm": ours,
    "fused kernel, keys as values": fused,
    "dense": dense,
}


def peak(reset: bool = False) -> float:
    """Megabytes; with `reset` from now on."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
