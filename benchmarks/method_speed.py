"""Time every method and the bands and errors of calibration against the peers' own: same data, same threads.

    python benchmarks/method_speed.py [--threads 2] [--rounds 3] [--limit 120] [--only "vector;matrix"]

The data are those of benchmarks/fit.py. Every entry has a process of its own, in which it runs once on a small problem
to warm up, then `rounds` times (once only where that takes over 10 s); the median counts. What takes longer than
`limit` seconds is given up; a peer that a tenth of the rows tell to be that slow is not run on all. `python
benchmarks/table.py` writes the README's table from the results.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import method_peers
import numpy as np
import peers
import running

CASES = {"10 000 x 10": (10_000, 10), "25 000 x 1000": (25_000, 1000)}
LONG = 10.0  # seconds of a run beyond which one is enough
LARGE = 1 << 22  # logits beyond which a tenth of the rows goes first
START = 60.0  # seconds that a process may take besides, to import, compile and warm up
Run = Callable[[np.ndarray, np.ndarray], Any]


def main() -> None:
    from logitherm.calibration import METHODS

    options = running.options(
        __doc__,
        "method_speed.json",
        120.0,
        ("--rounds", {"type": int, "default": 3}),
        ("--only", {"type": running.names, "default": [*METHODS, *MEASURES]}),
    )
    results = {"fits": {case: {} for case in CASES}, "measures": {}} | running.read(options.out)
    results |= {"threads": options.threads, "rounds": options.rounds, "limit": options.limit}
    settings = options.rounds, options.threads
    with tempfile.TemporaryDirectory() as folder:
        for case, (rows, classes) in CASES.items():
            for method in [method for method in METHODS if method in options.only]:
                row = results["fits"][case][method] = {}
                for who in method_peers.entrants(method, classes):
                    row[who] = fit_time(folder, rows, classes, method, who, settings, options.limit)
                    print(case, method, who, row[who], file=sys.stderr)
                running.write(options.out, results)
        for name, (rows, classes, entries) in MEASURES.items():
            if name in options.only:
                path = kept(folder, rows, classes)
                results["measures"][name] = {
                    who: running.limited(measure_seconds, (name, who, path, *settings), options.limit)
                    for who in entries
                }
                print(name, results["measures"][name], file=sys.stderr)
                running.write(options.out, results)


def fit_time(
    folder: str, rows: int, classes: int, method: str, who: str, settings: tuple[int, int], limit: float
) -> list[float] | str:
    """Seconds of every round, the median first, or why there are none."""
    share = limit / 10
    if who != "ours" and rows * classes > LARGE:
        part = kept(folder, rows // 10, classes)
        first = running.limited(fit_seconds, (method, who, part, 1, settings[1]), share + START)
        if isinstance(first, str) and not first.startswith(">"):
            return first
        if isinstance(first, str) or first[0] > share:
            return f"> {limit:g} s, as a tenth of the rows tells"
    return running.limited(fit_seconds, (method, who, kept(folder, rows, classes), *settings), limit + START)


def kept(folder: str, rows: int, classes: int) -> str:
    """The synthetic problem in a file, made once."""
    path = f"{folder}/{rows}x{classes}.npz"
    if not Path(path).exists():
        logits, labels = peers.synthetic(rows, classes, 0)
        np.savez(path, logits=logits, labels=labels)
    return path


def fit_seconds(method: str, who: str, path: str, rounds: int, threads: int) -> list[float]:
    fit = method_peers.METHODS[method][who]
    peers.set_threads(threads)
    running.warm_up(fit, running.WARM_CLASSES)
    return seconds(fit, path, rounds)


def measure_seconds(name: str, who: str, path: str, rounds: int, threads: int) -> list[float]:
    run = MEASURES[name][2][who]
    peers.set_threads(threads)
    run(*peers.synthetic(200, MEASURES[name][1], 0))
    return seconds(run, path, rounds)


def seconds(run: Run, path: str, rounds: int) -> list[float]:
    """Seconds of every round, the median first."""
    data = np.load(path)
    logits, labels = data["logits"], data["labels"]
    taken: list[float] = []
    while len(taken) < rounds and not (taken and taken[-1] > LONG):
        start = time.perf_counter()
        run(logits, labels)
        taken.append(time.perf_counter() - start)
    return [statistics.median(taken), *taken]


# -- bands and errors ----------------------------------------------------------------------------


def ours(name: str, options: dict[str, Any], logits: np.ndarray, labels: np.ndarray) -> Any:
    from logitherm import metrics

    return getattr(metrics, name)(logits, labels, **options)


def top(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of the prediction and whether it is right, for peers that judge yes-or-no forecasts."""
    p = method_peers.probabilities(logits)
    return p.max(axis=1), (p.argmax(axis=1) == labels).astype(np.float64)


def relplot_diagram(logits: np.ndarray, labels: np.ndarray) -> Any:
    """200 resamples for the band, 100 for the error."""
    import relplot

    return relplot.prepare_rel_diagram(*top(logits, labels))


def relplot_error(logits: np.ndarray, labels: np.ndarray) -> Any:
    import relplot

    return relplot.smECE(*top(logits, labels))


def uncertainty_calibration(mode: str, logits: np.ndarray, labels: np.ndarray) -> Any:
    """The interval of the error, from 100 resamples."""
    import calibration

    return calibration.get_calibration_error_uncertainties(method_peers.probabilities(logits), labels, mode=mode)


def probcal_smooth(logits: np.ndarray, labels: np.ndarray) -> Any:
    """On the scale of log-odds, unlike the others."""
    import probcal

    confidence, right = top(logits, labels)
    return probcal.metrics.smooth_ece(right, confidence)


def probcal_kernel(test: bool, logits: np.ndarray, labels: np.ndarray) -> Any:
    from probcal import metrics

    p = method_peers.probabilities(logits)[:, 1]
    return metrics.skce_test(labels, p, method="bootstrap") if test else metrics.skce(labels, p)


BANDS, SMOOTH = "reliability with a bootstrap band, 5000 x 100", "smooth error, 5000 x 100"
INTERVAL, KERNEL = "marginal error with a bootstrap interval, 5000 x 100", "kernel error, 5000 x 2"
MANY, CLASSES = "kernel test with a bootstrap, 5000 x 100", "class-wise smooth error, 25 000 x 1000"
TOP, TEST = "top-label error with a bootstrap interval, 5000 x 100", "kernel test with a bootstrap, 5000 x 2"
MEASURES: dict[str, tuple[int, int, dict[str, Run]]] = {
    BANDS: (
        5000,
        100,
        {
            "ours": partial(ours, "reliability", {}),
            "relplot": relplot_diagram,
        },
    ),
    TOP: (
        5000,
        100,
        {
            "ours": partial(ours, "debiased_calibration_error", {}),
            "uncertainty-calibration": partial(uncertainty_calibration, "top-label"),
        },
    ),
    INTERVAL: (
        5000,
        100,
        {
            "ours": partial(ours, "debiased_calibration_error", {"kind": "marginal"}),
            "uncertainty-calibration": partial(uncertainty_calibration, "marginal"),
        },
    ),
    SMOOTH: (
        5000,
        100,
        {
            "ours": partial(ours, "smooth_calibration_error", {"bootstrap": 0}),
            "relplot": relplot_error,
            "probcal, of log-odds": probcal_smooth,
        },
    ),
    KERNEL: (
        5000,
        2,
        {
            "ours": partial(ours, "kernel_calibration_error", {"bootstrap": 0}),
            "probcal": partial(probcal_kernel, False),
        },
    ),
    TEST: (
        5000,
        2,
        {
            "ours": partial(ours, "kernel_calibration_error", {"bootstrap": 1000}),
            "probcal": partial(probcal_kernel, True),
        },
    ),
    MANY: (5000, 100, {"ours": partial(ours, "kernel_calibration_error", {"bootstrap": 1000})}),
    CLASSES: (
        25_000,
        1000,
        {"ours": partial(ours, "smooth_calibration_error", {"kind": "class_wise", "bootstrap": 0})},
    ),
}


if __name__ == "__main__":
    main()
