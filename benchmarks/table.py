"""Write the README's table from the results of benchmarks/fit.py.

python benchmarks/table.py [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
START, END = "<!-- benchmark -->\n", "<!-- /benchmark -->"


def main() -> None:
    results = json.loads((ROOT / "benchmarks/results/fit.json").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    head, rest = readme.split(START)
    text = head + START + table(results) + END + rest.split(END)[1]
    if "--check" in sys.argv[1:]:
        sys.exit(0 if text == readme else "README.md: the table is not that of the results; run benchmarks/table.py")
    (ROOT / "README.md").write_text(text, encoding="utf-8")


def table(results: dict[str, Any]) -> str:
    """Seconds, ratio to one np.sum, and error of every entry, for every case."""
    cases = results["cases"]
    names = list(next(iter(cases.values()))["entries"])
    lines = [
        "| | " + " | ".join(f"{case}: time | × np.sum | error in T" for case in cases) + " |",
        "|---|" + "---:|---:|---:|" * len(cases),
    ]
    for name in names:
        cells = []
        for case in cases.values():
            entry = case["entries"][name]
            ratio = entry["seconds"] / case["entries"]["np.sum"]["seconds"]
            error = "" if entry["error"] is None else f"{entry['error']:.0e}"
            cells.append(f"{duration(entry['seconds'])} | {ratio:,.3g} | {error}".replace(",", " "))
        label = f"**{name}**" if name == "logitherm" else name
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    memory = max(case["extra_bytes"] for case in cases.values())
    lines += [
        "",
        f"Medians of {results['rounds']} rounds on {results['threads']} threads. Memory a fit allocates: at most "
        f"{memory / 1024:.0f} kB in both cases. First call in a new process, import included: "
        f"{results['first_call_seconds']:.1f} s with compiled kernels in the cache.",
    ]
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


if __name__ == "__main__":
    main()
