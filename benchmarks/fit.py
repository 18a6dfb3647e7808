"""Time the fit of one temperature: ours, its peers, and the limits, side by side in one process.

    python benchmarks/fit.py [--threads 2] [--rounds 5] [--only "logitherm;scikit-learn"] [--out results.json]

Every entry runs once to warm up, then in turn with the others, `rounds` times; the median is what counts, and as a
ratio: machines differ and are shared. The limits are one `np.sum` and one `np.max` over the logits. `python
benchmarks/table.py` writes the README's table from the results.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

CASES = {"10 000 x 10": (10_000, 10), "25 000 x 1000": (25_000, 1000)}
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", type=lambda names: set(names.split(";")))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "fit.json")
    options = parser.parse_args()
    os.environ["LOGITHERM_NUM_THREADS"] = str(options.threads)

    import numpy as np
    import peers

    import logitherm

    peers.set_threads(options.threads)
    results: dict[str, Any] = {"threads": options.threads, "rounds": options.rounds, "cases": {}}
    for case, (rows, classes) in CASES.items():
        logits, labels = peers.synthetic(rows, classes, 0)
        truth = peers.newton_float64(logits, labels)
        entries: dict[str, Callable[[], float | None]] = {
            "np.sum": lambda z=logits: void(np.sum(z)),
            "np.max": lambda z=logits: void(np.max(z)),
            "logitherm": lambda z=logits, y=labels: logitherm.fit_temperature(z, y).temperature,
        }
        for name, peer in peers.PEERS.items():
            entries[name] = lambda peer=peer, z=logits, y=labels: peer(z, y)
        if options.only:
            entries = {name: entry for name, entry in entries.items() if name in options.only}
        measured = measure(entries, options.rounds)
        for name, entry in measured.items():
            found = entry.pop("temperature")
            entry["error"] = None if found is None else abs(found - truth)
            print(f"{case:>15} {name:24} {entry['seconds'] * 1e3:10.3f} ms  error {entry['error']}", file=sys.stderr)
        results["cases"][case] = {"temperature": truth, "entries": measured}
        results["cases"][case]["extra_bytes"] = extra_memory(logits, labels)
    results["first_call_seconds"] = first_call(options.rounds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(
        f"first call in a new process {results['first_call_seconds']:.2f} s; written to {options.out}", file=sys.stderr
    )


def void(_: Any) -> None:
    return None


def measure(entries: dict[str, Callable[[], float | None]], rounds: int) -> dict[str, dict[str, Any]]:
    """Median and minimum of the seconds of every entry; the entries take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    found = {name: entry() for name, entry in entries.items()}
    for _ in range(rounds):
        for name, entry in entries.items():
            start = time.perf_counter()
            entry()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"seconds": statistics.median(s), "least": min(s), "temperature": found[name]}
        for name, s in seconds.items()
    }


def extra_memory(logits: Any, labels: Any) -> int:
    """Peak bytes that a fit allocates."""
    import logitherm

    tracemalloc.start()
    logitherm.fit_temperature(logits, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def first_call(rounds: int) -> float:
    """Median seconds of a new process that imports the library and fits, with the kernels in the cache."""
    script = (
        "import time; start = time.perf_counter(); import numpy as np, logitherm; "
        "z = np.random.default_rng(0).standard_normal((10000, 10), dtype=np.float32); y = z.argmax(1); y[::3] = 0; "
        "logitherm.fit_temperature(z, y); print(time.perf_counter() - start)"
    )
    runs = [
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
        for _ in range(rounds)
    ]
    return statistics.median(runs)


if __name__ == "__main__":
    main()
