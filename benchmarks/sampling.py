"""Time sampling from language models: ours, the usual code, and the limit, side by side in one process.

    python benchmarks/sampling.py [--threads 2] [--rounds 7] [--rows 64 1] [--states 128256] [--out results.json]

Every entry runs several times in a row in turn with the others, `rounds` times, the first run of each turn not counted;
the median of all is what counts, and as a ratio to one `np.max` of the same logits: machines differ and are shared. The
last part is a decoding step of a small GPT-2 of random weights and the share of it that sampling takes. `python
benchmarks/table.py` writes the README's table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TEMPERATURE, TOP_K, TOP_P, MIN_P = 0.7, 50, 0.9, 0.05
Entry = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 1])
    parser.add_argument("--states", type=int, default=128_256)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "sampling.json")
    options = parser.parse_args()
    os.environ["LOGITHERM_NUM_THREADS"] = str(options.threads)

    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {"threads": options.threads, "rounds": options.rounds, "cases": {}}
    for rows in options.rows:
        z = 3 * np.random.default_rng(0).standard_normal((rows, options.states), dtype=np.float32)
        repeat = 5 if rows > 1 else 20
        seconds = measure({"np.max": lambda z=z: z.max(), **samplers(z)}, options.rounds, repeat)
        results["cases"][f"{rows} x {options.states}"] = seconds
        show(f"{rows} x {options.states}", seconds)
    results["decoding"] = decoding(options.rounds)
    show("decoding", results["decoding"])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def samplers(z: Any) -> dict[str, Entry]:
    """Every way to draw one token a row of NumPy logits, which PyTorch sees without a copy."""
    import torch
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    from logitherm.generation import MinP, Pipeline, Temperature, TopK, TopP

    t = torch.from_numpy(z)
    cool = TemperatureLogitsWarper(TEMPERATURE)

    def ours(*steps: Any) -> Entry:
        pipeline = Pipeline([Temperature(TEMPERATURE), *steps])
        return lambda: pipeline.sample(z, seed=0, position=0).token

    def multinomial(*processors: Any) -> Entry:
        def draw() -> Any:
            scores = t
            for processor in processors:
                scores = processor(None, scores)
            return torch.multinomial(torch.softmax(scores, -1), 1)

        return draw

    def race() -> Any:
        p = torch.softmax(t / TEMPERATURE, -1)
        return (p / torch.empty_like(p).exponential_()).argmax(-1)

    k, p, least = TopKLogitsWarper(TOP_K), TopPLogitsWarper(TOP_P), MinPLogitsWarper(MIN_P)
    return {
        "T: logitherm": ours(),
        "T: softmax, multinomial": multinomial(lambda _, scores: scores / TEMPERATURE),
        "T: exponential race": race,
        "T, k, p: logitherm": ours(TopK(TOP_K), TopP(TOP_P)),
        "T, k, p: transformers": multinomial(cool, k, p),
        "T, p: logitherm": ours(TopP(TOP_P)),
        "T, p: transformers": multinomial(cool, p),
        "T, min-p: logitherm": ours(MinP(MIN_P)),
        "T, min-p: transformers": multinomial(cool, least),
    }


def decoding(rounds: int) -> dict[str, Any]:
    """Seconds of one step of a small model with a cache, and of the sampling after it."""
    import numpy as np
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    warnings.simplefilter("ignore", FutureWarning)  # the name of the cache changes between releases
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50_257, n_embd=256, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).eval()
    with torch.inference_mode():
        prompt = torch.randint(0, 50_257, (8, 64))
        cache = model(prompt, use_cache=True).past_key_values
        token = prompt[:, -1:]

        def forward() -> Any:
            out = model(token, past_key_values=cache, use_cache=True).logits[:, -1]
            cache.crop(-1)
            return out

        z = np.ascontiguousarray(forward().numpy())
        entries = {name: entry for name, entry in samplers(z).items() if name.startswith("T, k, p")}
        return measure({"model": forward, **entries}, rounds, 3)


def measure(entries: dict[str, Entry], rounds: int, repeat: int) -> dict[str, dict[str, float]]:
    """Median and least seconds of a call of every entry; the entries take turns of `repeat` calls."""
    seconds: dict[str, list[float]] = {name: [] for name in entries}
    for entry in entries.values():
        entry()
    for _ in range(rounds):
        for name, entry in entries.items():
            entry()  # not counted: it finds the caches and the threads of the entry before
            for _ in range(repeat):
                start = time.perf_counter()
                entry()
                seconds[name].append(time.perf_counter() - start)
    return {name: {"seconds": statistics.median(s), "least": min(s)} for name, s in seconds.items()}


def show(case: str, found: dict[str, dict[str, float]]) -> None:
    for name, entry in found.items():
        print(
            f"{case:>14} {name:26} {entry['seconds'] * 1e3:10.3f} ms  least {entry['least'] * 1e3:.3f}", file=sys.stderr
        )


if __name__ == "__main__":
    main()
