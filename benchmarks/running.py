"""What the benchmarks of methods share: options, files of results, and a process with a time limit for every run."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

# What a child process imports before its clock starts.
PRELOADED = ["numpy", "scipy.optimize", "torch", "sklearn.calibration", "logitherm.calibration", "netcal.scaling"]
PRELOADED += ["netcal.binning", "probmetrics.calibrators", "relplot"]

WARM_ROWS, WARM_CLASSES = 5000, 4  # enough values for compiled kernels to be loaded, which small problems do without


def options(description: str, name: str, limit: float, *more: tuple[str, dict[str, Any]]) -> argparse.Namespace:
    """Parsed arguments; `name` is the file of results, `more` are arguments of this benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=limit, help="seconds of a fit")
    parser.add_argument("--out", type=Path, default=RESULTS / name)
    for argument, settings in more:
        parser.add_argument(argument, **settings)
    found = parser.parse_args()
    os.environ["LOGITHERM_NUM_THREADS"] = str(found.threads)
    return found


def names(text: str) -> list[str]:
    """A list as the command line has it."""
    return text.split(";")


def read(path: Path) -> dict[str, Any]:
    """The results so far: what is not measured again stays."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def limited(work: Callable[..., Any], arguments: tuple[Any, ...], seconds: float) -> Any:
    """What `work(*arguments)` returns in a process of its own; a string that says why where it does not."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(there, work, arguments))
    process.start()
    there.close()
    try:
        return here.recv() if here.poll(seconds if math.isfinite(seconds) else None) else f"> {seconds:g} s"
    except EOFError:
        return "the process died"
    finally:
        process.kill()
        process.join()


def _report(there: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    warnings.simplefilter("ignore")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        try:
            answer = work(*arguments)
        except Exception as error:
            answer = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    there.send(answer)


def warm_up(fit: Callable[..., Any], classes: int) -> None:
    """Import what is imported when used, and load compiled kernels; a method that fails on the little does it again."""
    from peers import synthetic

    with contextlib.suppress(Exception):
        fit(*synthetic(WARM_ROWS, min(classes, WARM_CLASSES), 0))
