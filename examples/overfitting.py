"""Overfitting as a temperature: one network trained with care, one until it knows its rows by heart.

What: the same network learns 600 of scikit-learn's handwritten digits, shrunk to 4 x 4 pixels, twice: with weight
decay, going back to the epoch of the lowest validation NLL; and without either for ten times as long. At a few epochs
the table shows the temperature that its training rows ask for and the one that rows never seen ask for, each with its
95 % interval, and what the second would mend.

Why: a network that goes on learning its rows by heart gets surer of everything. Accuracy hardly shows it; the two
temperatures do, and their ratio is a gauge that needs no choice of bins.

    python examples/overfitting.py
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from sklearn.datasets import load_digits

from logitherm.calibration.overfitting import OverfittingGauge, overfitting_gauge
from logitherm.metrics import accuracy, expected_calibration_error, nll

SEED = 0
TRAIN, VALIDATION = 600, 300  # the other 897 rows are held out from every choice
CAREFUL, BY_HEART = 40, 400  # epochs
SHOWN = (1, 5, 10, 20, 40, 100, 200, 400)

Part = tuple[torch.Tensor, torch.Tensor]


def load_parts() -> tuple[Part, Part, Part]:
    """Return training, validation and held-out (pixels, labels); coarse images make a network err for a reason."""
    images, labels = load_digits(return_X_y=True)
    coarse = images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16) / 16.0
    pixels, known = torch.tensor(coarse, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(SEED))
    seen, chosen_on, unseen = order[:TRAIN], order[TRAIN : TRAIN + VALIDATION], order[TRAIN + VALIDATION :]
    return (pixels[seen], known[seen]), (pixels[chosen_on], known[chosen_on]), (pixels[unseen], known[unseen])


def make_network() -> torch.nn.Module:
    torch.manual_seed(SEED)
    return torch.nn.Sequential(
        torch.nn.Linear(16, 256), torch.nn.ReLU(), torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)
    )


def train(network: torch.nn.Module, rows: Part, epochs: int, weight_decay: float) -> Iterator[int]:
    """Train, handing over after every epoch."""
    pixels, labels = rows
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=weight_decay)
    order = torch.Generator().manual_seed(SEED)
    for epoch in range(1, epochs + 1):
        for batch in torch.randperm(len(labels), generator=order).split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(pixels[batch]), labels[batch]).backward()
            optimizer.step()
        yield epoch


def look(network: torch.nn.Module, name: str, seen: Part, unseen: Part) -> OverfittingGauge:
    """Print a line of the table."""
    with torch.no_grad():
        known, new = network(seen[0]), network(unseen[0])
    gauge = overfitting_gauge(known, seen[1], new, unseen[1])
    right = f"{100 * accuracy(known, seen[1]):6.1f} {100 * accuracy(new, unseen[1]):6.1f}"
    scores = f"{nll(new, unseen[1]):6.3f} {100 * expected_calibration_error(new, unseen[1]):6.2f}"
    after = f"{gauge.held_out.nll_after:6.3f}"
    print(f"{name:>8} {right}   {said(gauge.train):<21}{said(gauge.held_out):<21}{scores} {after}")
    return gauge


def said(fit) -> str:
    if fit.interval is None:
        return "0 (separable)" if fit.at_bound == "zero" else "inf (no signal)"
    return f"{fit.temperature:.2f} ({fit.interval[0]:.2f} to {fit.interval[1]:.2f})"


def main() -> None:
    torch.set_num_threads(1)  # so small a network gains nothing from more
    seen, chosen_on, unseen = load_parts()
    head = f"{'epoch':>8} {'% seen':>6} {'unseen':>6}   {'T of seen rows':<21}{'T of unseen rows':<21}"
    head += f"{'NLL':>6} {'ECE %':>6} {'at T':>6}"

    print(f"With weight decay, and back to the best of {CAREFUL} epochs\n{head}")
    network, best, kept = make_network(), math.inf, {}
    for epoch in train(network, seen, CAREFUL, weight_decay=0.3):
        with torch.no_grad():
            loss = nll(network(chosen_on[0]), chosen_on[1])
        if loss < best:
            best, kept = loss, copy.deepcopy(network.state_dict())
        if epoch in SHOWN:
            look(network, str(epoch), seen, unseen)
    network.load_state_dict(kept)
    careful = look(network, "best", seen, unseen)

    print(f"\nWithout either, for {BY_HEART} epochs\n{head}")
    network = make_network()
    for epoch in train(network, seen, BY_HEART, weight_decay=0.0):
        if epoch in SHOWN:
            by_heart = look(network, str(epoch), seen, unseen)

    print("\n(% right of seen and unseen rows; NLL in nats and ECE of unseen rows as they are; NLL at their T)")
    print(f"\nWith care: {careful.verdict}\nBy heart:  {by_heart.verdict}")
    apart = by_heart.held_out.interval[0] > careful.held_out.interval[1]
    ratio = by_heart.held_out.temperature / careful.held_out.temperature
    print(
        f"Rows never seen ask the second network for {ratio:.2f} times the temperature of the first; "
        + ("the intervals do not overlap." if apart else "the intervals overlap, so that may be chance.")
    )


if __name__ == "__main__":
    main()
