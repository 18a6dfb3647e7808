"""The exactness kit on samplers that people use, this library's among them.

python benchmarks/exactness.py [--only NAME;NAME | --table] [--draws 20000]

Every sampler draws from the same laws; each is called as its documentation has it. The results go to
benchmarks/results/exactness.json, from which the table of docs/exactness.md is written.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import running

from logitherm.generation import MinP, Pipeline, Temperature, TopK, TopP
from logitherm.generation.verify import Check, draws_of, ladder, law_of, tails, verify

DOCUMENT = Path(__file__).parent.parent / "docs/exactness.md"
CHUNK = 1 << 22
STATES = 200_000
TAILS = {  # draws for each gap, as many as a sampler's pace lets us have: its noise is of a state, a row, or neither
    "state": {18: 12_000},
    "row": {16: 20_000, 18: 12_000, 20: 100_000},
    "draw": {16: 2_000_000, 18: 2_000_000, 20: 2_000_000},
}
PRUNED = Pipeline([Temperature(0.7), TopK(50, clamp=True), TopP(0.9)])


def main() -> None:
    options = running.options(
        __doc__ or "",
        "exactness.json",
        600,
        ("--only", {"type": running.names, "default": []}),
        ("--table", {"action": "store_true", "help": "write the table from the results there are"}),
        ("--draws", {"type": int, "default": 20_000}),
    )
    results = running.read(options.out)
    if options.table:
        write_table(results)
        return
    results["settings"] = {"draws": options.draws, "tails": TAILS, "states": STATES, "versions": versions()}
    for name in options.only or SAMPLERS:
        entry = measured(name, options.draws)
        results.setdefault("samplers", {})[name] = entry
        print(name, entry, flush=True)
        running.write(options.out, results)
    write_table(results)


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("logitherm", "numpy", "torch", "transformers", "jax"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def measured(name: str, draws: int) -> dict[str, Any]:
    """What the kit says of one sampler."""
    make, pipeline, seeds, pace = SAMPLERS[name]
    try:
        draw = make()
    except ImportError as error:
        return {"missing": str(error)}
    start = time.perf_counter()
    report = verify(draw, pipeline, seeds=seeds, ties="any", draws=draws, states=2000)
    checks = list(report.checks)
    found = []
    for gap, n in TAILS[pace].items() if pipeline is None else ():
        row = ladder(STATES, (gap,))
        found += tails(np.asarray(draw(row, n, 7)), law_of(row), [gap], f"{STATES - 1} of {STATES} states there")
    checks += found
    report = type(report)(tuple(checks), report.level)
    names = {check.name for check in report.checks if check.run}
    wrong = {check.name for check in report.failures}
    return {
        "passed": report.passed,
        "seconds": round(time.perf_counter() - start, 1),
        "right": sorted(names - wrong),
        "not run": sorted({check.name for check in report.checks if not check.run} - names),
        "wrong": {name: worst(report.failures, name) for name in sorted(wrong)},
        "tails": {check.name: check.detail for check in found},
    }


def worst(failures: list[Check], name: str) -> str:
    """The clearest failure of a test."""
    found = min((check for check in failures if check.name == name), key=lambda check: check.p_value)
    return f"{found.case}: {found.detail}"


# -- samplers: logits (states,) for n draws of one law, (n, states) for one a row -------------------------------


def batched(draw_rows: Callable[[np.ndarray, int], Any]) -> Callable[..., np.ndarray]:
    """Many draws of one law, for a sampler that takes a batch of rows and one seed: as many calls as its noise asks."""

    def draw(logits: np.ndarray, n: int, seed: Any) -> np.ndarray:
        size = max(1, min(n, CHUNK // logits.shape[-1]))
        found = np.empty(n, np.int64)  # filled in place: small arrays kept between large ones would hold on to memory
        for i, start in enumerate(range(0, n, size)):
            count = min(size, n - start)
            rows = np.repeat(logits[None], count, axis=0) if logits.ndim == 1 else logits[start : start + count]
            found[start : start + count] = draw_rows(rows, int(seed) * 1_000_003 + i)
        return found

    return draw


def torch_multinomial(dtype: str) -> Callable[..., np.ndarray]:
    import torch

    def draw(logits: np.ndarray, n: int, seed: Any) -> np.ndarray:
        z = torch.from_numpy(logits).to(getattr(torch, dtype))
        p = torch.softmax(z, dim=-1)
        generator = torch.Generator().manual_seed(int(seed))
        if logits.ndim == 1 and len(logits) > 1:
            return torch.multinomial(p, n, replacement=True, generator=generator).numpy()
        return batched(lambda rows, s: one(rows, s, dtype))(logits, n, seed)

    def one(rows: np.ndarray, seed: int, dtype: str) -> np.ndarray:
        p = torch.softmax(torch.from_numpy(rows).to(getattr(torch, dtype)), dim=-1)
        return torch.multinomial(p, 1, generator=torch.Generator().manual_seed(seed))[:, 0].numpy()

    return draw


def torch_multinomial_one() -> Callable[..., np.ndarray]:
    """One draw a row, which is another algorithm: an exponential race."""
    import torch

    def one(rows: np.ndarray, seed: int) -> np.ndarray:
        p = torch.softmax(torch.from_numpy(rows), dim=-1)
        return torch.multinomial(p, 1, generator=torch.Generator().manual_seed(seed))[:, 0].numpy()

    return batched(one)


def transformers_processors() -> Callable[..., np.ndarray]:
    import torch
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    steps = LogitsProcessorList([TemperatureLogitsWarper(0.7), TopKLogitsWarper(50), TopPLogitsWarper(0.9)])

    def one(rows: np.ndarray, seed: int) -> np.ndarray:
        scores = steps(None, torch.from_numpy(rows))
        p = torch.softmax(scores, dim=-1)
        return torch.multinomial(p, 1, generator=torch.Generator().manual_seed(seed))[:, 0].numpy()

    return batched(one)


def gumbel_max(dtype: str) -> Callable[..., np.ndarray]:
    """argmax of z - log(-log(rand)), as it is found in many scripts."""
    import torch

    def one(rows: np.ndarray, seed: int) -> np.ndarray:
        u = torch.rand(rows.shape, generator=torch.Generator().manual_seed(seed), dtype=getattr(torch, dtype))
        return (torch.from_numpy(rows) - u.log_().neg_().log_()).argmax(dim=-1).numpy()

    return batched(one)


def exponential_race() -> Callable[..., np.ndarray]:
    """argmax of p / Exp(1), as vLLM and SGLang have it."""
    import torch

    def one(rows: np.ndarray, seed: int) -> np.ndarray:
        p = torch.softmax(torch.from_numpy(rows), dim=-1)
        q = torch.empty_like(p).exponential_(1.0, generator=torch.Generator().manual_seed(seed))
        return p.div_(q).argmax(dim=-1).numpy()

    return batched(one)


def numpy_choice() -> Callable[..., np.ndarray]:
    from scipy.special import softmax

    def draw(logits: np.ndarray, n: int, seed: Any) -> np.ndarray:
        rng = np.random.default_rng(int(seed))
        p = softmax(logits.astype(np.float64), axis=-1)
        if logits.ndim == 1:
            return rng.choice(len(p), n, p=p)
        return np.array([rng.choice(len(row), p=row) for row in p])

    return draw


def jax_categorical(mode: str) -> Callable[..., np.ndarray]:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    def one(rows: np.ndarray, seed: int) -> np.ndarray:
        return np.array(jitted(jax.random.key(seed % 2**31), rows))

    jitted = jax.jit(lambda key, rows: jax.random.categorical(key, rows, axis=-1, mode=mode))
    return batched(one)


SAMPLERS: dict[str, tuple[Callable[[], Any], Any, str, str]] = {
    "logitherm": (draws_of, None, "request", "row"),
    "logitherm, T 0.7, top-k 50, top-p 0.9": (lambda: draws_of(PRUNED), PRUNED, "request", "row"),
    "logitherm, min-p 0.05": (lambda: draws_of(Pipeline([MinP(0.05)])), Pipeline([MinP(0.05)]), "request", "row"),
    "numpy Generator.choice, float64": (numpy_choice, None, "call", "draw"),
    "torch multinomial, many of one row": (lambda: torch_multinomial("float32"), None, "call", "draw"),
    "torch multinomial, one a row": (torch_multinomial_one, None, "call", "state"),
    "torch multinomial in bfloat16, many of one row": (lambda: torch_multinomial("bfloat16"), None, "call", "draw"),
    "transformers T 0.7, top-k 50, top-p 0.9 + multinomial": (transformers_processors, PRUNED, "call", "state"),
    "exponential race, torch float32": (exponential_race, None, "call", "state"),
    "Gumbel-max, torch.rand float32": (lambda: gumbel_max("float32"), None, "call", "state"),
    "Gumbel-max, torch.rand float64": (lambda: gumbel_max("float64"), None, "call", "state"),
    "jax.random.categorical, mode low": (lambda: jax_categorical("low"), None, "call", "state"),
    "jax.random.categorical, mode high": (lambda: jax_categorical("high"), None, "call", "state"),
}


# -- the table ---------------------------------------------------------------------------------------------


def write_table(results: dict[str, Any]) -> None:
    if not DOCUMENT.exists():
        return
    head, rest = DOCUMENT.read_text(encoding="utf-8").split("<!-- exactness -->\n")
    tail = rest.split("<!-- /exactness -->")[1]
    DOCUMENT.write_text(f"{head}<!-- exactness -->\n{table(results)}<!-- /exactness -->{tail}", encoding="utf-8")


def table(results: dict[str, Any]) -> str:
    lines = [
        "| sampler | verdict | tail at 16 nats, drawn / expected | at 18 | at 20 | what is wrong |",
        "|---|---|---:|---:|---:|---|",
    ]
    for name in SAMPLERS:
        entry = results["samplers"].get(name)
        if entry is None or "missing" in entry:
            continue
        verdict = "right" if entry["passed"] else "**wrong**"
        cells = [ratio(entry["tails"].get(f"tail at {gap} nats", "")) for gap in (16, 18, 20)]
        wrong = "; ".join(
            f"{test} ({detail})" for test, detail in entry["wrong"].items() if not test.startswith("tail")
        )
        several = ", ".join(test.removeprefix("tail at ") for test in entry["wrong"] if test.startswith("tail"))
        wrong = "; ".join(part for part in (wrong, several and f"tails at {several}") if part)
        lines.append(f"| {name} | {verdict} | {' | '.join(cells)} | {wrong} |")
    return "\n".join(lines) + "\n"


def ratio(detail: str) -> str:
    if " where " not in detail:
        return ""
    hits, expected = detail.split(" are expected")[0].split(" where ")
    return f"{hits} / {float(expected):.0f}"


if __name__ == "__main__":
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(2)
    main()
