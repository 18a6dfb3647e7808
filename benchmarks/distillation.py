"""Time and memory of distilling one linear head from another, with gradients, and of the state of a head.

    python benchmarks/distillation.py [--threads 2] [--rounds 3] [--cases "small;large"] [--out results.json]

Forward KL at T = 2 in the student's hidden states and weight. Every entry has a process of its own, of which the peak
of memory beyond inputs, warm-up and returned gradients is read (VmHWM, with MALLOC_MMAP_THRESHOLD_ set, or what the
allocator keeps would be measured). Rounds of entries take turns; times are medians. The bare products are those of
every loss: both sides' logits, and two for the gradients, in blocks of 256 rows. The error is that of the weight's
gradient against float64, relative to its largest value, on 128 of the rows.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOSSES = ("products", "logitherm", "logitherm, stored teacher", "dense", "dense, compiled", "Liger, compiled")
WAYS = ("products", "logitherm", "logitherm, by rows", "logitherm, by vocabulary", "dense")
CASES: dict[str, dict[str, Any]] = {
    "small": {"rows": 2048, "width": 512, "states": 32_000, "dtype": "float32", "entries": LOSSES},
    "large": {"rows": 1024, "width": 512, "states": 128_256, "dtype": "float32", "entries": WAYS},
    "half": {"rows": 1024, "width": 512, "states": 128_256, "dtype": "bfloat16", "entries": WAYS[:-1]},
    "state": {"rows": 4096, "width": 512, "states": 128_256, "dtype": "float32", "entries": ("products", "logitherm")},
}
TEMPERATURE, CHECKED, STORED = 2.0, 128, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default=";".join(CASES))
    parser.add_argument("--entry", help="run one entry of one case and print what it took")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "distillation.json")
    options = parser.parse_args()
    if options.entry:
        print(json.dumps(run(options.cases, options.entry, options.threads)))
        return
    results = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {"cases": {}}
    results |= {"threads": options.threads, "rounds": options.rounds, "temperature": TEMPERATURE}
    for case in options.cases.split(";"):
        names = CASES[case]["entries"]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(options.rounds):
            for name in names:
                found[name].append(in_a_process(case, name, options.threads))
        entries = {
            name: {key: statistics.median(r[key] for r in runs) for key in runs[0]} for name, runs in found.items()
        }
        results["cases"][case] = {**CASES[case], "entries": entries}
        for name, entry in entries.items():
            print(f"{case:6} {name:26} {entry['seconds']:7.2f} s {entry['extra_mb']:8.0f} MB  {entry['error']:.0e}")
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def in_a_process(case: str, name: str, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--cases", case, "--entry", name, "--threads", str(threads)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "262144", "LOGITHERM_NUM_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def run(case: str, name: str, threads: int) -> dict[str, float]:
    """Seconds, megabytes beyond the gradients, and the error of one entry."""
    import torch

    torch.set_num_threads(threads)
    shape = CASES[case]
    dtype = getattr(torch, shape["dtype"])
    generator = torch.Generator().manual_seed(0)

    def draw(rows: int, spread: float) -> Any:
        return (spread * torch.randn(rows, shape["width"], generator=generator)).to(dtype)

    hidden, weight = draw(shape["rows"], 1.0), draw(shape["states"], 0.05)
    large, heavy = draw(shape["rows"], 1.0), draw(shape["states"], 0.05)
    if case == "state":
        return state(name, hidden, weight)
    loss = LOSS[name](large, heavy)
    hidden.requires_grad_()
    weight.requires_grad_()

    def work(rows: slice) -> None:
        hidden.grad = weight.grad = None
        loss(hidden, weight, rows).backward()

    error = float("nan")
    if name != "products":
        work(slice(0, CHECKED))
        error = weight_error(hidden, weight, large, heavy, stored="stored" in name)
    work(slice(None) if "compiled" in name else slice(0, CHECKED))  # compiled for this shape
    hidden.grad = weight.grad = None
    gc.collect()
    before = peak(reset=True)
    start = time.perf_counter()
    work(slice(None))
    seconds = time.perf_counter() - start
    returned = 0 if name == "products" else (hidden.numel() + weight.numel()) * hidden.element_size() / 2**20
    return {"seconds": seconds, "extra_mb": peak() - before - returned, "error": error}


def weight_error(hidden: Any, weight: Any, large: Any, heavy: Any, stored: bool) -> float:
    import torch

    rows = slice(0, CHECKED)
    h, w = hidden[rows].detach().double(), weight.detach().double()
    u = h @ w.T / TEMPERATURE
    v = large[rows].double() @ heavy.double().T / TEMPERATURE
    p, q = v.softmax(-1), u.softmax(-1)
    if stored:  # beyond the tokens the teacher has the student's law
        known = torch.zeros_like(p, dtype=torch.bool).scatter_(-1, v.topk(STORED).indices, True)
        tail = torch.where(known, 0.0, q)
        rest = 1 - (p * known).sum(-1, keepdim=True)
        p = torch.where(known, p, tail / tail.sum(-1, keepdim=True) * rest)
    exact = TEMPERATURE * (q - p).T @ h / CHECKED
    return float((weight.grad.double() - exact).abs().max() / exact.abs().max())


def state(name: str, hidden: Any, weight: Any) -> dict[str, float]:
    from logitherm import linear_state
    from logitherm.kernels import linear

    def products(h: Any, w: Any) -> None:
        out, head = linear.scratch(h), linear.Head(w)
        for rows in linear.blocks(len(h), linear.ROWS):
            for columns in linear.blocks(len(w), linear.STATES):
                head.logits(h[rows], out, columns)

    work = products if name == "products" else linear_state
    work(hidden[:512], weight[:9000])
    before = peak(reset=True)
    start = time.perf_counter()
    work(hidden, weight)
    return {"seconds": time.perf_counter() - start, "extra_mb": peak() - before, "error": float("nan")}


# -- losses: (teacher's hidden states, her weight) -> (hidden states, weight, rows) -> loss ----------------------------


def products(large: Any, heavy: Any) -> Callable[..., Any]:
    import torch

    def loss(hidden: Any, weight: Any, rows: slice) -> Any:
        h, t = hidden[rows].detach(), large[rows]
        out, slope = torch.empty(256, len(heavy), dtype=h.dtype), torch.zeros_like(weight)
        with torch.no_grad():
            for i in range(0, len(h), 256):
                z = out[: len(h[i : i + 256])]
                torch.mm(h[i : i + 256], weight.T, out=z)
                torch.mm(t[i : i + 256], heavy.T, out=z)
                torch.mm(z, weight)
                slope.addmm_(z.T, h[i : i + 256])
        return hidden[:1].sum()

    return loss


def ours(large: Any, heavy: Any) -> Callable[..., Any]:
    from logitherm.distillation import linear_distillation_loss

    def loss(hidden: Any, weight: Any, rows: slice) -> Any:
        return linear_distillation_loss(hidden[rows], weight, large[rows], heavy, temperature=TEMPERATURE)

    return loss


def by(vocabulary: bool) -> Callable[..., Any]:
    def made(large: Any, heavy: Any) -> Callable[..., Any]:
        from logitherm.distillation import by_vocabulary

        by_vocabulary.serves = lambda *_: vocabulary
        return ours(large, heavy)

    return made


def stored(large: Any, heavy: Any) -> Callable[..., Any]:
    """Nobody multiplies the teacher's head: her largest logits are read."""
    import torch

    from logitherm.distillation import SparseTeacher, linear_sparse_distillation_loss

    known = [
        SparseTeacher.from_logits(part @ heavy.T, k=STORED, temperatures=(TEMPERATURE,)) for part in large.split(256)
    ]
    tokens, logits, rest = (torch.cat([getattr(k, name) for k in known]) for name in ("tokens", "logits", "log_rest"))

    def loss(hidden: Any, weight: Any, rows: slice) -> Any:
        teacher = SparseTeacher(tokens[rows], logits[rows], rest[rows], (TEMPERATURE,), len(heavy))
        return linear_sparse_distillation_loss(hidden[rows], weight, teacher, temperature=TEMPERATURE)

    return loss


def dense(large: Any, heavy: Any) -> Callable[..., Any]:
    import torch

    def loss(hidden: Any, weight: Any, rows: slice) -> Any:
        q = torch.log_softmax(hidden[rows] @ weight.T / TEMPERATURE, -1)
        p = torch.log_softmax(large[rows] @ heavy.T / TEMPERATURE, -1)
        return TEMPERATURE**2 * torch.nn.functional.kl_div(q, p, log_target=True, reduction="batchmean")

    return loss


def compiled(large: Any, heavy: Any) -> Callable[..., Any]:
    import torch

    loss = torch.compile(dense(large, heavy))
    return lambda hidden, weight, rows: loss(hidden, weight, rows)


def liger(large: Any, heavy: Any) -> Callable[..., Any]:
    """Its chunked loss has no T^2, which is multiplied here; beta = 0 is the forward divergence."""
    import torch
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    found = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, temperature=TEMPERATURE, compiled=True
    )

    def loss(hidden: Any, weight: Any, rows: slice) -> Any:
        labels = torch.zeros(len(hidden[rows]), dtype=torch.int64)
        return TEMPERATURE**2 * found(hidden[rows], weight, large[rows], heavy, labels)

    return loss


LOSS = {
    "products": products,
    "logitherm": ours,
    "logitherm, by rows": by(vocabulary=False),
    "logitherm, by vocabulary": by(vocabulary=True),
    "logitherm, stored teacher": stored,
    "dense": dense,
    "dense, compiled": compiled,
    "Liger, compiled": liger,
}


def peak(reset: bool = False) -> float:
    """Megabytes; with `reset` from now on."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
