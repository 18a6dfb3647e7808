"""Out of distribution: what a temperature does for inputs that the network should not know, and what it cannot do.

What: a network learns scikit-learn's handwritten digits 0 to 7, never having seen an 8 or a 9. A temperature is fitted
on held-out rows of 0 to 7, the only rows that may decide it. Then the network is shown three kinds of the unknown: the
digits 8 and 9, digits of 0 to 7 with their pixels shuffled, and points far away in pixel space. One table shows how
confident it is of them before and after; the other how well each score tells them from known digits (AUROC).

Why: calibration is often said to make a model know what it does not know. Confidence of unknown rows does fall. But
whether a row is unknown is read from the order of rows, and one temperature for all hardly changes that.

    python examples/out_of_distribution.py
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from sklearn.datasets import load_digits

from logitherm import fit_temperature, metrics, ood, softmax

Scorer = Callable[[torch.Tensor, float], torch.Tensor]

SEED = 0
KNOWN = 8  # digits below are known
TRAIN, HELD_OUT = 400, 400  # rows of known digits; the others are for the test
EPOCHS = 100
FAR = 20.0  # times the size of an image
HOT = 1000.0
SCORES: dict[str, Scorer] = {
    "free energy": ood.free_energy_score,
    "max logit": lambda z, _: ood.max_logit_score(z),
    "max softmax": ood.max_softmax_score,
    "entropy": ood.entropy_score,
    "GEN": ood.generalized_entropy_score,
}


def load_parts() -> tuple[list[torch.Tensor], list[torch.Tensor], dict[str, torch.Tensor]]:
    """Return pixels and labels of known digits (training, held out, test), and the pixels of three kinds of unknown."""
    images, digits = load_digits(return_X_y=True)
    pixels, labels = torch.tensor(images / 16.0, dtype=torch.float32), torch.tensor(digits)
    random = torch.Generator().manual_seed(SEED)
    known = torch.nonzero(labels < KNOWN)[:, 0]
    known = known[torch.randperm(len(known), generator=random)]
    parts = known.split([TRAIN, HELD_OUT, len(known) - TRAIN - HELD_OUT])
    test = pixels[parts[-1]]
    direction = torch.randn(len(test), test.shape[1], generator=random)
    unknown = {
        "8 and 9": pixels[labels >= KNOWN],
        "shuffled": test[:, torch.randperm(test.shape[1], generator=random)],
        "far away": FAR * test.norm(dim=1, keepdim=True) * direction / direction.norm(dim=1, keepdim=True),
    }
    return [pixels[part] for part in parts], [labels[part] for part in parts], unknown


def train(pixels: torch.Tensor, labels: torch.Tensor) -> torch.nn.Module:
    torch.manual_seed(SEED)
    network = torch.nn.Sequential(
        torch.nn.Linear(64, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, KNOWN),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    order = torch.Generator().manual_seed(SEED)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels), generator=order).split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(pixels[batch]), labels[batch]).backward()
            optimizer.step()
    return network


def confidence(logits: torch.Tensor, temperature: float) -> float:
    return float(softmax(logits, temperature).amax(1).mean())


def auroc(score: Scorer, known: torch.Tensor, unknown: torch.Tensor, temperature: float) -> metrics.Score:
    return ood.detection(score(known, temperature), score(unknown, temperature), bootstrap=0).auroc


def main() -> None:
    torch.set_num_threads(1)  # so small a network gains nothing from more
    pixels, labels, unknown = load_parts()
    network = train(pixels[0], labels[0])
    with torch.no_grad():
        held_out, test = network(pixels[1]), network(pixels[2])
        logits = {kind: network(rows) for kind, rows in unknown.items()}
    fit = fit_temperature(held_out, labels[1])
    fitted = f"T = {fit.temperature:.2f}"
    print(f"{metrics.accuracy(test, labels[2]):.1%} of the known test digits are read right.")
    low, high = fit.interval
    print(f"Fitted on {HELD_OUT} held-out rows of known digits: {fitted} ({low:.2f} to {high:.2f}).\n")

    temperatures = (1.0, fit.temperature, HOT)
    sure = {kind: [confidence(z, t) for t in temperatures] for kind, z in {"known": test, **logits}.items()}
    print(f"{'mean confidence':<16}{'T = 1':>8}{fitted:>10}{f'T = {HOT:.0f}':>10}")
    for kind, (before, after, hot) in sure.items():
        print(f"{kind:<16}{before:>8.3f}{after:>10.3f}{hot:>10.3f}")

    areas = {
        kind: {name: [auroc(score, test, z, t) for t in temperatures] for name, score in SCORES.items()}
        for kind, z in logits.items()
    }
    for kind, found in areas.items():
        print(f"\nAUROC, {kind:<9}{'T = 1':>8}  {'95 % interval':<16}{fitted:>10}{f'T = {HOT:.0f}':>10}")
        for name, (before, after, hot) in found.items():
            interval = f"({before.low:.3f} to {before.high:.3f})"
            print(f"{name:<16}{before.value:>8.3f}  {interval:<16}{after.value:>10.3f}{hot.value:>10.3f}")
        odin = auroc(ood.odin_score, test, logits[kind], HOT)
        print(f"{'ODIN':<16}{odin.value:>46.3f}")
    say(sure, areas, fitted)


def say(sure: dict[str, list[float]], areas: dict[str, dict[str, list[metrics.Score]]], fitted: str) -> None:
    """What the tables show."""
    falls = "; ".join(f"{kind} {before - after:.3f}" for kind, (before, after, _) in sure.items())
    print(f"\nHeating from T = 1 to {fitted} makes the model admit doubt. Mean confidence falls by: {falls}.")
    print("It adds no knowledge: what tells one row from another is the order, and that hardly changes.")
    for kind, found in areas.items():
        moves = {name: after.value - before.value for name, (before, after, _) in found.items()}
        name = max(moves, key=lambda name: abs(moves[name]))
        stay = sum(before.low <= after.value <= before.high for before, after, _ in found.values())
        print(
            f"  {kind}: the AUROC moves most for {name}, by {moves[name]:+.3f}; "
            f"{stay} of {len(found)} stay within their interval at T = 1."
        )
    known, far = sure["known"][0], sure["far away"][0]
    best = max(score.value for row in areas["far away"].values() for score in row[:2])
    if far > known and best < 0.5:
        print(
            f"Far away the network is surer ({far:.3f}) than of known digits ({known:.3f}), and stays so when heated: "
            f"no AUROC\nabove {best:.3f} at either temperature, where a coin has 0.5."
        )
    hot = {name: ", ".join(f"{found[name][2].value:.3f}" for found in areas.values()) for name in SCORES}
    print(
        f"At T = {HOT:.0f} max softmax is ODIN, the largest logit less the mean logit ({hot['max softmax']}),\n"
        f"and the free energy is the mean logit alone ({hot['free energy']}): other numbers, not doubt."
    )


if __name__ == "__main__":
    main()
