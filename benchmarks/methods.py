"""Fit every method to the val half of real sets and score it on the test half: ours and the peers', side by side.

    python benchmarks/methods.py FOLDER [--sets "imdb;mnist"] [--methods "temperature;vector"] [--limit 120]

FOLDER holds NAME.val.npz and NAME.test.npz, each with logits (n x K, float32) and labels (n). Each fit runs in a
process of its own with a time limit. All are scored by the same functions, on float64 log-probabilities that are
normalised again. Where ours is behind the best peer of the same method by more than `FLOOR`, the paired standard error
of the difference says whether that is more than chance. `python benchmarks/table.py` writes the README's tables.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import method_peers
import numpy as np
import running

FLOOR = {"nll": 1e-4, "smooth_ece": 5e-4}  # nats, and confidence: less is not counted as behind
REPLICATES = 100  # of the paired bootstrap of the smooth error
OURS = "ours"


def main() -> None:
    options = running.options(
        __doc__,
        "methods.json",
        120.0,
        ("folder", {"type": Path}),
        ("--sets", {"type": running.names}),
        ("--methods", {"type": running.names, "default": list(method_peers.METHODS)}),
    )
    names = options.sets or sorted(path.name.removesuffix(".val.npz") for path in options.folder.glob("*.val.npz"))
    results: dict[str, Any] = {"sets": running.read(options.out).get("sets", {})}
    results |= {"threads": options.threads, "limit": options.limit, "floor": FLOOR}
    for name in names:
        found = measure(options.folder / name, options.methods, options.limit, options.threads)
        kept = results["sets"].get(name, {}).get("methods", {})
        results["sets"][name] = {**found, "methods": {**kept, **found["methods"]}}
        running.write(options.out, results)


def measure(path: Path, methods: list[str], limit: float, threads: int) -> dict[str, Any]:
    val, test = (np.load(f"{path}.{half}.npz") for half in ("val", "test"))
    labels, found = test["labels"].astype(np.int64), {}
    for method in methods:
        answers = {}
        for who in method_peers.entrants(method, val["logits"].shape[1]):
            allowed = 5 * limit if (method, who) == ("auto", OURS) else limit  # that is seven methods, five times
            answers[who] = running.limited(fitted, (method, who, str(path), threads), allowed)
        found[method] = compared(method, answers, labels)
        for who, entry in found[method]["entries"].items():
            print(path.name, method, who, {k: v for k, v in entry.items() if k != "chosen"}, file=sys.stderr)
    return {"rows": len(val["labels"]), "classes": val["logits"].shape[1], "methods": found}


def fitted(method: str, who: str, path: str, threads: int) -> tuple[np.ndarray, float, str]:
    """Log-probabilities of the test half, seconds of the fit, and the method that `auto` chose."""
    import contextlib
    import io

    import peers

    import logitherm

    peers.set_threads(threads)
    val, test = np.load(f"{path}.val.npz"), np.load(f"{path}.test.npz")
    fit = method_peers.METHODS[method][who]
    if method != "auto":
        running.warm_up(fit, val["logits"].shape[1])
    said = io.StringIO()
    with contextlib.redirect_stdout(said if (method, who) == ("auto", OURS) else io.StringIO()):
        start = time.perf_counter()
        predict = fit(val["logits"], val["labels"].astype(np.int64))
        seconds = time.perf_counter() - start
    return logitherm.log_softmax(predict(test["logits"])), seconds, said.getvalue()


def compared(method: str, answers: dict[str, Any], labels: np.ndarray) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for who, answer in answers.items():
        if isinstance(answer, str):
            entries[who] = {"failure": answer}
            continue
        predicted, seconds, chosen = answer
        impossible = int((rows_nll(predicted, labels) == math.inf).sum())
        entries[who] = {
            "nll": None if impossible else float(rows_nll(predicted, labels).mean()),
            "impossible": impossible,
            "smooth_ece": smooth(predicted, labels),
            "relplot": relplot(predicted, labels) if who == OURS else None,
            "seconds": seconds,
        }
        if chosen:
            entries[who]["chosen"] = chosen
    return {"entries": entries, "against": {score: against(score, entries, answers, labels) for score in FLOOR}}


def against(score: str, entries: dict[str, Any], answers: dict[str, Any], labels: np.ndarray) -> dict[str, Any] | None:
    """Ours less the best peer's score, and the standard error of it where ours is behind."""
    scored = {who: entry[score] for who, entry in entries.items() if entry.get(score) is not None}
    rivals = {who: value for who, value in scored.items() if who != OURS}
    if OURS not in scored or not rivals:
        return None
    best = min(rivals, key=lambda who: rivals[who])
    difference = scored[OURS] - rivals[best]
    error = None
    if difference > FLOOR[score]:
        pair = answers[OURS][0], answers[best][0]
        if score == "nll":
            gap = rows_nll(pair[0], labels) - rows_nll(pair[1], labels)
            error = float(gap.std() / math.sqrt(len(gap)))
        else:
            rng = np.random.default_rng(0)
            drawn = [rng.poisson(1.0, len(labels)).astype(np.float64) for _ in range(REPLICATES)]
            error = float(np.std([smooth(pair[0], labels, w) - smooth(pair[1], labels, w) for w in drawn]))
    return {"best": best, "difference": difference, "error": error}


def rows_nll(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -predicted[np.arange(len(labels)), labels]


def smooth(predicted: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    from logitherm.metrics import smooth_calibration_error

    return smooth_calibration_error(predicted, labels, bootstrap=0, weights=weights).value


def relplot(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The smooth error as relplot has it, to check ours."""
    import relplot

    import logitherm

    p = logitherm.softmax(predicted)
    return float(relplot.smECE(p.max(axis=1), (p.argmax(axis=1) == labels).astype(float)))


if __name__ == "__main__":
    main()
