"""Write the README's tables from the results of benchmarks/fit.py, methods.py, method_speed.py, sampling.py,
distillation.py, contrastive.py, attention.py, attention_report.py, prototypes.py, bandits.py and thermostat.py.

python benchmarks/table.py [--check]
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
NAMES = {"ensemble": "ensemble", "dirichlet": "Dirichlet"}
CERTAIN = 2.0  # standard errors


def main() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = readme
    for marker, (file, table) in TABLES.items():
        if not (ROOT / "benchmarks/results" / file).exists():
            continue  # not measured yet
        results = json.loads((ROOT / "benchmarks/results" / file).read_text(encoding="utf-8"))
        if f"<!-- {marker} -->" not in text:
            continue  # measured, not shown
        head, rest = text.split(f"<!-- {marker} -->\n")
        tail = rest.split(f"<!-- /{marker} -->")[1]
        text = f"{head}<!-- {marker} -->\n{table(results)}<!-- /{marker} -->{tail}"
    if "--check" in sys.argv[1:]:
        sys.exit(0 if text == readme else "README.md: a table is not that of the results; run benchmarks/table.py")
    (ROOT / "README.md").write_text(text, encoding="utf-8")


def fits(results: dict[str, Any]) -> str:
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


def methods(results: dict[str, Any]) -> str:
    """Ours and the best peer's scores of every method on every set; a table a score."""
    sets = results["sets"]
    columns = [name for name in next(iter(sets.values()))["methods"] if name not in ("sigmoid", "isotonic")]
    lines = []
    for score, title in (("nll", "NLL, nats"), ("smooth_ece", "Smooth ECE, %")):
        lines += [
            f"| {title} | " + " | ".join(NAMES.get(name, name) for name in columns) + " | isotonic |",
            "|---|" + "---:|" * (len(columns) + 1),
        ]
        for name, found in sets.items():
            cells = [cell(found["methods"][method], score) for method in (*columns, "isotonic")]
            lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
        lines.append("")
    floor = results["floor"]
    lines += [
        "Fitted on one half of sets whose models nobody here trained, scored on the other: ours / the best of "
        "scikit-learn, netcal, probmetrics, torch-uncertainty, abstention and probcal at the same method, chosen after "
        f"the fact by this score on these rows. Where ours is behind by more than {floor['nll']:g} nats or "
        f"{100 * floor['smooth_ece']:g} % ECE, ° says that it is within {CERTAIN:g} paired standard errors, * that it "
        "is not. ∞: a label got probability 0." + results.get("note", ""),
    ]
    return "\n".join(lines) + "\n"


def cell(found: dict[str, Any], score: str) -> str:
    entries, against = found["entries"], found["against"][score]
    scored = {who: entry[score] for who, entry in entries.items() if entry.get(score) is not None}
    peers = [value for who, value in scored.items() if who != "ours"]
    text = number(scored["ours"], score) if "ours" in scored else ""
    if against and against["error"] is not None:
        text += "*" if against["difference"] > CERTAIN * against["error"] else "°"
    if peers:
        return (f"{text} / " if text else "") + number(min(peers), score)
    return text or ("∞" if any(entry.get("impossible") for entry in entries.values()) else "")


def number(value: float, score: str) -> str:
    return f"{value:.4f}" if score == "nll" else f"{100 * value:.2f}"


def speeds(results: dict[str, Any]) -> str:
    """Seconds of ours and of the fastest peer for every method, and for bands and errors."""
    cases = results["fits"]
    lines = [
        "| fit | " + " | ".join(f"{case}: ours | fastest peer" for case in cases) + " |",
        "|---|" + "---:|---|" * len(cases),
    ]
    for method in next(iter(cases.values())):
        cells = [f"**{duration(case[method]['ours'][0])}** | {fastest(case[method])}" for case in cases.values()]
        lines.append(f"| {NAMES.get(method, method)} | " + " | ".join(cells) + " |")
    lines += ["", "| measure | ours | fastest peer |", "|---|---:|---|"]
    for name, row in results["measures"].items():
        lines.append(f"| {name} | **{duration(row['ours'][0])}** | {fastest(row)} |")
    lines += [
        "",
        f"Medians of {results['rounds']} rounds (one where it takes over 10 s) on {results['threads']} threads of a "
        f"shared machine; given up after {results['limit']:g} s.",
    ]
    return "\n".join(lines) + "\n"


def sampling(results: dict[str, Any]) -> str:
    """Time of a draw for every request and its ratio to one np.max, and the share of a decoding step."""
    cases = results["cases"]
    lines = [
        "| | " + " | ".join(f"{case}: time | × np.max" for case in cases) + " |",
        "|---|" + "---:|---:|" * len(cases),
    ]
    for name in next(iter(cases.values())):
        cells = []
        for case in cases.values():
            seconds = case[name]["seconds"]
            cells.append(f"{duration(seconds)} | {seconds / case['np.max']['seconds']:.3g}")
        lines.append(f"| {f'**{name}**' if 'logitherm' in name else name} | " + " | ".join(cells) + " |")
    step = results["decoding"]
    shares = {
        who: step[f"T, k, p: {who}"]["seconds"] / (step["model"]["seconds"] + step[f"T, k, p: {who}"]["seconds"])
        for who in ("logitherm", "transformers")
    }
    lines += [
        "",
        f"Medians of {results['rounds']} rounds on {results['threads']} threads, the first run of each not counted; "
        "T = 0.7, k = 50, p = 0.9, min-p = 0.05. Of a decoding step of a small GPT-2 (4 layers, "
        "50 257 states, 8 requests) sampling takes "
        f"{100 * shares['logitherm']:.1f} % with ours, {100 * shares['transformers']:.1f} % with transformers' "
        "processors.",
    ]
    return "\n".join(lines) + "\n"


def contrastive(results: dict[str, Any]) -> str:
    """Time and memory of every loss with its gradients, in blocks and dense, and the least that products take."""
    least = results["entries"]["products"]["seconds"]
    lines = [
        "| loss with gradients | time | × products | memory | dense: time | × products | memory |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for loss, name in (("info_nce", "info_nce"), ("clip", "clip_loss")):
        cells = []
        for kind in ("logitherm", "dense"):
            entry = results["entries"][f"{loss}: {kind}"]
            time = f"**{duration(entry['seconds'])}**" if kind == "logitherm" else duration(entry["seconds"])
            cells += [time, f"{entry['seconds'] / least:.3g}", megabytes(entry["peak_mb"])]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"{results['samples']:,} pairs of {results['features']} features in float32; ".replace(",", " ")
        + f"medians of {results['rounds']} rounds on {results['threads']} threads; the most memory beyond features. "
        "Products: three bare matrix products of that size, one for the similarities, two for the gradients, "
        f"{duration(least)}.",
    ]
    return "\n".join(lines) + "\n"


def distillation(results: dict[str, Any]) -> str:
    """Time, ratio to the bare products, memory and error of every loss of a head, and the state of a head."""
    names = {"small": "32 000 words", "large": "128 256 words", "half": "the same in bfloat16"}
    cases = {title: results["cases"][case] for case, title in names.items()}
    lines = [
        "| forward KL of two heads, with gradients | "
        + " | ".join(f"{title}: time | × products | memory" for title in cases)
        + " |",
        "|---|" + "---:|---:|---:|" * len(cases),
    ]
    for name in dict.fromkeys(name for case in cases.values() for name in case["entries"]):
        cells = []
        for case in cases.values():
            if name not in case["entries"]:
                cells.append(" | | ")
                continue
            entry, least = case["entries"][name], case["entries"]["products"]["seconds"]
            memory = "" if name == "products" else megabytes(entry["extra_mb"])
            cells.append(f"{duration(entry['seconds'])} | {entry['seconds'] / least:.3g} | {memory}")
        label = f"**{name}**" if name == "logitherm" else name
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    state = results["cases"]["state"]
    ours, least = (state["entries"][name] for name in ("logitherm", "products"))
    shapes = ", ".join(f"{case['rows']} × {case['width']} × {case['states']}" for case in cases.values())
    lines += [
        "",
        f"Tokens × width × words {shapes}, T = {results['temperature']:g}; medians of {results['rounds']} rounds on "
        f"{results['threads']} threads. Memory is that beyond inputs and returned gradients, products are bare matrix "
        "products for both sides' logits and two gradients, in blocks of 256 tokens. `linear_state` of "
        f"{state['rows']} × {state['width']} × {state['states']}: {duration(ours['seconds'])}, "
        f"{ours['seconds'] / least['seconds']:.3g} × its bare products, {megabytes(ours['extra_mb'])}; the logits "
        f"would be {megabytes(state['rows'] * state['states'] * 4 / 2**20)}.",
    ]
    return "\n".join(lines) + "\n"


def attention(results: dict[str, Any]) -> str:
    """Time, ratio to the bare product, memory and error of the entropy of every row, for every number of tokens."""
    cases = results["cases"]
    lines = [
        "| entropy of every row, causal | "
        + " | ".join(f"{int(n):,} tokens: time | × product | memory | error".replace(",", " ") for n in cases)
        + " |",
        "|---|" + "---:|---:|---:|---:|" * len(cases),
    ]
    for name in dict.fromkeys(name for case in cases.values() for name in case):
        cells = []
        for case in cases.values():
            if name not in case:
                cells.append(" | | | ")
                continue
            entry, least = case[name], case["product"]["seconds"]
            error = "" if math.isnan(entry["error"]) else f"{entry['error']:.0e}"
            time = f"{duration(entry['seconds'])} | {entry['seconds'] / least:.3g}"
            cells.append(f"{time} | {megabytes(entry['extra_mb'])} | {error}")
        lines.append(f"| {f'**{name}**' if name == 'logitherm' else name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"{results['heads']} heads of width {results['width']}, float32; medians of {results['rounds']} rounds (one of "
        f"longer texts) on {results['threads']} threads; memory beyond q and k. The product is that of queries and "
        "keys, in blocks. Errors are in nats, against float64. The fused kernel is PyTorch's, given keys as values, "
        "and says no more than log Z, mean score and entropy.",
    ]
    return "\n".join(lines) + "\n"


def thermostat(results: dict[str, Any]) -> str:
    """Time, ratio to one np.exp and residual of a temperature a row, and how much longer the peers take."""
    names = {"entropy": "an entropy", "divergence": "a divergence from T = 1", "mellowmax": "the value of mellowmax"}
    least = results["seconds"]["np.exp"]["limit"]
    peers = [who for who in results["seconds"]["entropy"] if who != "logitherm"]
    lines = [
        "| T that holds | logitherm | × np.exp | residual | " + " | ".join(peers) + " |",
        "|---|---:|---:|---:|" + "---:|" * len(peers),
    ]
    for target, name in names.items():
        found = results["seconds"][target]
        ours = found["logitherm"]
        cells = [f"{duration(found[who])}, {found[who] / ours:.0f} ×" for who in peers]
        lines.append(
            f"| {name} | **{duration(ours)}** | {ours / least:.3g} | {results['residuals'][target]:.0e} | "
            + " | ".join(cells)
            + " |"
        )
    lines += [
        "",
        f"{results['rows']:,} × {results['states']} in float64; ".replace(",", " ")
        + f"medians of {results['rounds']} rounds on {results['threads']} threads. One np.exp of all values takes "
        f"{duration(least)} on one. SciPy: `elementwise.find_root` on 100 000 rows and `brentq` on 1000, scaled up.",
    ]
    return "\n".join(lines) + "\n"


def bandits(results: dict[str, Any]) -> str:
    """Time of many runs of every rule, ours and NumPy's, and the regret that both find."""
    rules, who = results["rules"], ("logitherm", "NumPy")
    lines = [
        "| | **logitherm** | NumPy, runs side by side | regret: logitherm | regret: NumPy |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, found in rules.items():
        times = [duration(found[one]["seconds"]) for one in who]
        regrets = ["{:.0f} ± {:.0f}".format(*found[one]["regret"]) for one in who]
        lines.append(f"| {name} | **{times[0]}** | {times[1]} | {regrets[0]} | {regrets[1]} |")
    totals = [duration(sum(found[one]["seconds"] for found in rules.values())) for one in who]
    lines.append(f"| all | **{totals[0]}** | {totals[1]} | | |")
    lines += [
        "",
        f"{results['runs']} runs of {results['steps']} steps, ten arms of rewards 0 and 1 with means 0.6 and 0.5; "
        f"medians of {results['rounds']} rounds, ours on {results['threads']} threads. Regret with half its 95 % "
        "interval over the runs.",
    ]
    return "\n".join(lines) + "\n"


def attention_report(results: dict[str, Any]) -> str:
    """Time of the forward pass of a model, and of a report with it, with the overhead and its quartiles."""
    names = {
        "forward pass": "forward pass",
        "hook": "with the hook alone, `attending`",
        "monitor": "`AttentionMonitor.measure`",
        "report": "`attention_report`",
        "report, all": "`attention_report(queries=None)`",
    }
    lines = [
        f"| GPT-2, {results['tokens']} tokens | time | overhead | quartiles | overhead in processor time |",
        "|---|---:|---:|---:|---:|",
    ]
    for key, name in names.items():
        entry = results["entries"][key]
        over = [str(round(100 * entry[x])) for x in ("overhead", "overhead_from", "overhead_to", "processor_overhead")]
        cells = "| | " if key == "forward pass" else f"{over[0]} % | {over[1]} to {over[2]} % | {over[3]} %"
        lines.append(f"| {name} | {duration(entry['seconds'])} | {cells} |")
    lines += [
        "",
        "124 million parameters, PyTorch's fused attention in float32, one text; medians of "
        f"{results['rounds']} rounds on {results['threads']} threads of a busy machine. All run the same forward pass; "
        "the overhead is that over it in the same round. By default 256 queries are looked at.",
    ]
    return "\n".join(lines) + "\n"


def prototypes(results: dict[str, Any]) -> str:
    """Time of fit and prediction, memory, and what new rows say of the probabilities, for every classifier."""
    names = {"NearestCentroid": "scikit-learn NearestCentroid", "LDA": "scikit-learn LDA"}
    names["LDA, Ledoit-Wolf"] = "scikit-learn LDA, Ledoit–Wolf"
    lines = ["| | fit | predict_proba | memory | T* | NLL |", "|---|---:|---:|---:|---:|---:|"]
    for name, entry in results["entries"].items():
        label = f"**{name}**" if name == "logitherm" else names.get(name, name)
        law = f"{entry['temperature']:.2f} | {entry['nll']:.3f}" if "nll" in entry else " | "
        fit = duration(entry["fit"]) if entry["fit"] else ""
        lines.append(f"| {label} | {fit} | {duration(entry['predict'])} | {megabytes(entry['extra_mb'])} | {law} |")
    shape = " × ".join(f"{results[key]:,}".replace(",", " ") for key in ("rows", "features", "classes"))
    new = f"{results['new']:,}".replace(",", " ")
    lines += [
        "",
        f"Rows × features × classes {shape}, float32, Gaussian with one variance; medians of {results['rounds']} "
        f"rounds on {results['threads']} threads; memory beyond the rows. T* is the temperature that {new} new rows "
        "want on top of the probabilities: 1 where they are calibrated, 2 where every one of them is squared. The "
        "product is that of rows and prototypes, once.",
    ]
    return "\n".join(lines) + "\n"


def megabytes(size: float) -> str:
    return f"{size:.0f} MB" if size < 1000 else f"{size / 1024:.3g} GB"


def fastest(row: dict[str, Any]) -> str:
    """The peer of the least median, or what all of them take at least."""
    peers = {who: found for who, found in row.items() if who != "ours"}
    medians = {who: found[0] for who, found in peers.items() if isinstance(found, list)}
    if medians:
        best = min(medians, key=lambda who: medians[who])
        return f"{best.replace(',', '')} {duration(medians[best])}"
    given_up = [found.split(",")[0] for found in peers.values() if found.startswith(">")]
    return f"{', '.join(peers)} {given_up[0]}" if given_up else ""


def duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


TABLES = {
    "benchmark": ("fit.json", fits),
    "methods": ("methods.json", methods),
    "method speed": ("method_speed.json", speeds),
    "sampling": ("sampling.json", sampling),
    "distillation": ("distillation.json", distillation),
    "contrastive": ("contrastive.json", contrastive),
    "attention": ("attention.json", attention),
    "prototypes": ("prototypes.json", prototypes),
    "attention report": ("attention_report.json", attention_report),
    "thermostat": ("thermostat.json", thermostat),
    "bandits": ("bandits.json", bandits),
}

if __name__ == "__main__":
    main()
