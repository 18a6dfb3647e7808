"""Time, memory, and temperature of classifiers by class means: fit and predict_proba of 100 000 rows.

    python benchmarks/prototypes.py [--threads 2] [--rounds 3] [--out results.json]

512 features and 100 classes, float32, Gaussian with one variance. Every entry has a process of its own, of which the
peak of memory beyond the rows and a warm-up is read (VmHWM, with MALLOC_MMAP_THRESHOLD_ set). Rounds of entries take
turns; times are medians. T* is what 20 000 new rows want on top, by maximum likelihood. The product is that of rows and
prototypes, once, without a fit.
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
from pathlib import Path
from typing import Any

import running

ROWS, FEATURES, CLASSES, NEW = 100_000, 512, 100, 20_000
APART = 5.0  # usual distance of two means, in standard deviations
ENTRIES = ("product", "logitherm", "NearestCentroid", "LDA", "LDA, Ledoit-Wolf")


def main() -> None:
    more = [("--rounds", {"type": int, "default": 3}), ("--entry", {"help": "run one entry and print what it took"})]
    options = running.options(__doc__ or "", "prototypes.json", math.inf, *more)
    if options.entry:
        print(json.dumps(run(options.entry)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ENTRIES}
    for _ in range(options.rounds):
        for name in ENTRIES:
            found[name].append(in_a_process(name, options))
    entries = {name: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for name, runs in found.items()}
    for name, entry in entries.items():
        law = f"T* {entry['temperature']:.3f}  NLL {entry['nll']:.4f}" if "nll" in entry else ""
        times = f"fit {entry['fit']:7.3f} s  predict_proba {entry['predict']:7.3f} s"
        print(f"{name:18} {times} {entry['extra_mb']:7.0f} MB  {law}")
    shape = {"rows": ROWS, "features": FEATURES, "classes": CLASSES, "new": NEW, "apart": APART}
    running.write(options.out, {"threads": options.threads, "rounds": options.rounds, **shape, "entries": entries})


def in_a_process(name: str, options: argparse.Namespace) -> dict[str, float]:
    threads = str(options.threads)
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "262144", "LOGITHERM_NUM_THREADS": threads}
    environment |= {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    command = [sys.executable, "-W", "ignore", __file__, "--entry", name, "--threads", threads]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def run(name: str) -> dict[str, float]:
    import numpy as np

    rng = np.random.default_rng(0)
    means = (APART / math.sqrt(2 * FEATURES) * rng.standard_normal((CLASSES, FEATURES))).astype(np.float32)

    def draw(count: int) -> tuple[Any, Any]:
        y = np.arange(count) % CLASSES
        return means[y] + rng.standard_normal((count, FEATURES), dtype=np.float32), y

    X, y = draw(ROWS)
    unseen, labels = draw(NEW)
    model = made(name)
    if model is None:
        X[:2000] @ means.T
        before = peak(reset=True)
        start = time.perf_counter()
        X @ means.T
        took = time.perf_counter() - start
        return {"fit": 0.0, "predict": took, "extra_mb": peak() - before}
    model.fit(X[:2000], y[:2000]).predict_proba(X[:2000])
    before = peak(reset=True)
    start = time.perf_counter()
    model.fit(X, y)
    middle = time.perf_counter()
    p = model.predict_proba(X)
    end = time.perf_counter()
    extra = peak() - before
    del p
    from logitherm import fit_temperature

    z = model.logits(unseen) if hasattr(model, "logits") else model.predict_log_proba(unseen)
    fit = fit_temperature(z, labels)
    return {
        "fit": middle - start,
        "predict": end - middle,
        "extra_mb": extra,
        "temperature": fit.temperature,
        "nll": fit.nll_before,
    }


def made(name: str) -> Any:
    if name == "logitherm":
        from logitherm.prototypes import PrototypeClassifier

        return PrototypeClassifier()
    if name == "NearestCentroid":
        from sklearn.neighbors import NearestCentroid

        return NearestCentroid()
    if name.startswith("LDA"):
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        return LinearDiscriminantAnalysis() if name == "LDA" else LinearDiscriminantAnalysis("lsqr", shrinkage="auto")
    return None


def peak(reset: bool = False) -> float:
    """Megabytes; with `reset` from now on."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
