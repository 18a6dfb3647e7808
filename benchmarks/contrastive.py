"""Time and memory of contrastive losses with their gradients: ours in blocks, the usual code on the whole matrix.

    python benchmarks/contrastive.py [--threads 2] [--rounds 3] [--samples 16384] [--features 256] [--out results.json]

Every entry has a process of its own, of which the peak of memory beyond features and warm-up is read (VmHWM, with
MALLOC_MMAP_THRESHOLD_ set, or what the allocator keeps would be measured); returned gradients count. Rounds of entries
take turns. Times are medians, and beside them those of three bare products of the size of a loss: one for the
similarities, two for the gradients.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENTRIES = ("products", "info_nce: logitherm", "info_nce: dense", "clip: logitherm", "clip: dense")
TEMPERATURE = 0.07


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=16_384)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--entry", help="run one entry and print what it took")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "contrastive.json")
    options = parser.parse_args()
    if options.entry:
        print(json.dumps(run(options.entry, options.samples, options.features, options.threads)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ENTRIES}
    for _ in range(options.rounds):
        for name in ENTRIES:
            found[name].append(in_a_process(name, options))
    results: dict[str, Any] = {name: getattr(options, name) for name in ("threads", "rounds", "samples", "features")}
    results["entries"] = {
        name: {
            "seconds": statistics.median(r["seconds"] for r in runs),
            "least": min(r["seconds"] for r in runs),
            "peak_mb": max(r["peak_mb"] for r in runs),
            "loss": runs[0]["loss"],
        }
        for name, runs in found.items()
    }
    for loss in ("info_nce", "clip"):
        ours, dense = (results["entries"][f"{loss}: {kind}"] for kind in ("logitherm", "dense"))
        results[loss] = {
            "time_ratio": ours["seconds"] / dense["seconds"],
            "memory_share": ours["peak_mb"] / dense["peak_mb"],
        }
    show(results)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def in_a_process(name: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--entry", name]
    for argument in ("threads", "samples", "features"):
        command += [f"--{argument}", str(getattr(options, argument))]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "262144"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def run(name: str, samples: int, features: int, threads: int) -> dict[str, float]:
    """Seconds and megabytes of one loss with gradients in both features and the temperature."""
    import torch
    from torch.nn.functional import cross_entropy, normalize

    from logitherm.contrastive import clip_loss, info_nce

    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)

    def inputs(n: int) -> list[Any]:
        a = torch.randn(n, features, generator=generator)
        b = a + torch.randn(n, features, generator=generator)
        return [a.requires_grad_(), b.requires_grad_(), torch.tensor(TEMPERATURE, requires_grad=True)]

    def dense(a: Any, b: Any, t: Any) -> Any:
        x = normalize(a, dim=1) @ normalize(b, dim=1).T / t
        y = torch.arange(len(a))
        return cross_entropy(x, y) if name.startswith("info_nce") else (cross_entropy(x, y) + cross_entropy(x.T, y)) / 2

    def products(a: Any, b: Any, t: Any) -> Any:
        with torch.no_grad():
            for i in range(0, len(a), 1024):
                x = a[i : i + 1024] @ b.T
                a[i : i + 1024] = x @ b
                x.T @ a[i : i + 1024]
        return (a.sum() + t).detach().requires_grad_()

    def ours(a: Any, b: Any, t: Any) -> Any:
        return (info_nce if name.startswith("info_nce") else clip_loss)(a, b, temperature=t)

    loss = products if name == "products" else ours if name.endswith("logitherm") else dense
    loss(*inputs(512)).backward()
    tensors = inputs(samples)
    before = peak()
    start = time.perf_counter()
    value = loss(*tensors)
    value.backward()
    return {"seconds": time.perf_counter() - start, "peak_mb": peak() - before, "loss": value.item()}


def peak() -> float:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def show(results: dict[str, Any]) -> None:
    for name, entry in results["entries"].items():
        print(f"{name:20} {entry['seconds']:8.2f} s  least {entry['least']:.2f}  {entry['peak_mb']:8.1f} MB")
    for loss in ("info_nce", "clip"):
        found = results[loss]
        print(f"{loss:20} {found['time_ratio']:8.2f} x  {100 * found['memory_share']:.2f} % of the memory")


if __name__ == "__main__":
    main()
