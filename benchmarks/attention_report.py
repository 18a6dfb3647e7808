"""What a report on every attention head costs beside the forward pass of a model of GPT-2's size.

    python benchmarks/attention_report.py [--threads 2] [--rounds 15] [--tokens 1024] [--out results.json]

GPT-2 (124 million parameters, 12 layers of 12 heads of width 64) with random weights, by PyTorch's fused attention in
float32, one text of random tokens. All entries run that forward pass, of whose logits only the last are asked for, and
take turns; times are medians, and the overhead is the median over rounds of a time over that of the forward pass in
the same round, less 1. Processor time is that of all threads, those that wait for work in a loop included.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import running

NAMES = ("forward pass", "hook", "monitor", "report", "report, all")  # queries: as many as by default, or all


def main() -> None:
    options = running.options(
        __doc__ or "", "attention_report.json", 0.0,
        ("--rounds", {"type": int, "default": 15}), ("--tokens", {"type": int, "default": 1024}),
    )  # fmt: skip
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    entries = prepared(options.tokens, options.threads)
    for run in entries.values():
        run()
    for _ in range(options.rounds):
        for name, run in entries.items():
            start, used = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - start, time.process_time() - used))
    results: dict[str, Any] = {"threads": options.threads, "rounds": options.rounds, "tokens": options.tokens}
    results["entries"] = {name: summary(times[name], times["forward pass"]) for name in NAMES}
    for name, entry in results["entries"].items():
        wall, processor = entry["seconds"], entry["processor_seconds"]
        print(f"{name:14} {wall:6.3f} s {100 * entry['overhead']:6.1f} %   {processor:6.3f} s of processors")
    running.write(options.out, results)


def summary(found: list[tuple[float, float]], bare: list[tuple[float, float]]) -> dict[str, float]:
    def over(i: int) -> list[float]:
        return [x[i] / y[i] - 1 for x, y in zip(found, bare, strict=True)]

    quarters = statistics.quantiles(over(0), n=4)
    return {
        "seconds": statistics.median(x[0] for x in found),
        "processor_seconds": statistics.median(x[1] for x in found),
        "overhead": statistics.median(over(0)),
        "overhead_from": quarters[0],
        "overhead_to": quarters[2],
        "processor_overhead": statistics.median(over(1)),
    }


def prepared(tokens: int, threads: int) -> dict[str, Callable[[], Any]]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    from logitherm.integrations.transformers_attention import attending
    from logitherm.integrations.transformers_attention_monitor import AttentionMonitor
    from logitherm.integrations.transformers_attention_report import attention_report

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config()).eval()
    model.set_attn_implementation("sdpa")
    ids = torch.randint(model.config.vocab_size, (1, tokens))
    monitor = AttentionMonitor(Trainer(model, TrainingArguments(report_to=[], use_cpu=True)), ids)

    def forward() -> None:
        with torch.no_grad():
            model(ids, use_cache=False, logits_to_keep=1)

    def hooked() -> None:
        with attending(model, lambda call, run: run()):
            forward()

    return {
        "forward pass": forward,
        "hook": hooked,
        "monitor": lambda: monitor.measure(0),
        "report": lambda: attention_report(model, ids),
        "report, all": lambda: attention_report(model, ids, queries=None),
    }


if __name__ == "__main__":
    main()
