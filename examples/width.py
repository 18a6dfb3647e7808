"""Are wider networks more overconfident? T against width and against the length of training, over several seeds.

What: networks of one hidden layer, from 8 to 512 units, learn 600 of scikit-learn's handwritten digits, shrunk to
4 x 4 pixels. Every seed draws the split and the first weights anew. After 20, 60 and 180 epochs the table shows the
temperature that the rows never seen ask for: the geometric mean over the seeds with its 95 % interval.

Why: "larger models are more overconfident" is often said. Width and length of training are tied up with each other in
most comparisons: a wider network also learns faster. Here each has its own axis, the last line compares widths at equal
training loss, and the words below the table are computed from the numbers.

    python examples/width.py
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.stats import t as student
from sklearn.datasets import load_digits

from logitherm import fit_temperature
from logitherm.metrics import accuracy, nll

WIDTHS = (8, 32, 128, 512)
EPOCHS = (20, 60, 180)
SEEDS = 6
TRAIN = 600


def load_digits_coarse() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    coarse = images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16) / 16.0
    return torch.tensor(coarse, dtype=torch.float32), torch.tensor(labels)


def temperatures(pixels: torch.Tensor, labels: torch.Tensor, width: int, seed: int) -> list[tuple[float, ...]]:
    """Train one network; at each of EPOCHS, log T of rows it has not seen, the share it gets right, log of its loss."""
    torch.manual_seed(seed)
    order = torch.randperm(len(labels))
    seen, unseen = order[:TRAIN], order[TRAIN:]
    network = torch.nn.Sequential(torch.nn.Linear(16, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    found = []
    for epoch in range(1, max(EPOCHS) + 1):
        for batch in seen[torch.randperm(TRAIN)].split(60):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(pixels[batch]), labels[batch]).backward()
            optimizer.step()
        if epoch in EPOCHS:
            with torch.no_grad():
                known, new = network(pixels[seen]), network(pixels[unseen])
            fit = fit_temperature(new, labels[unseen])
            loss = nll(known, labels[seen])
            found.append((math.log(fit.temperature), accuracy(new, labels[unseen]), math.log(loss)))
    return found


def over_seeds(values: np.ndarray) -> tuple[float, float, float]:
    """Mean with its 95 % interval, by Student's t."""
    mean = values.mean()
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(mean), float(mean - half), float(mean + half)


def times(values: np.ndarray) -> str:
    """The mean of log T, said as T."""
    mean, low, high = (math.exp(value) for value in over_seeds(values))
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def trend(log_t: np.ndarray, doublings: np.ndarray, of: str) -> str:
    """What T does for every doubling, from the slope of each seed."""
    centred = doublings - doublings.mean()
    return said((log_t @ centred) / (centred @ centred), of)


def said(slopes: np.ndarray, of: str) -> str:
    _, low, high = over_seeds(slopes)
    verb = "rises" if low > 0 else "falls" if high < 0 else "neither rises nor falls beyond chance"
    return f"with every doubling of {of} T {verb}: times {times(slopes)}"


def trend_at_equal_loss(log_t: np.ndarray, log_loss: np.ndarray) -> str:
    """What T does for every doubling of the width among networks that fit their own rows equally well: each seed's
    least squares of log T on log2 of the width and the log of the training loss."""
    widths = np.repeat(np.log2(WIDTHS), len(EPOCHS))
    slopes = np.array(
        [
            np.linalg.lstsq(np.stack([np.ones_like(widths), widths, loss], axis=1), t, rcond=None)[0][1]
            for t, loss in zip(log_t.reshape(SEEDS, -1), log_loss.reshape(SEEDS, -1), strict=True)
        ]
    )
    return f"at equal training loss, {said(slopes, 'the width')}"


def main() -> None:
    torch.set_num_threads(1)  # so small a network gains nothing from more
    pixels, labels = load_digits_coarse()
    found = np.array([[temperatures(pixels, labels, width, seed) for width in WIDTHS] for seed in range(SEEDS)])
    log_t, right, log_loss = np.moveaxis(found, -1, 0)  # each (seeds, widths, epochs)

    print(f"T of {len(labels) - TRAIN} rows never seen, over {SEEDS} seeds (95 % interval), and % right\n")
    print("   width" + "".join(f"{f'{epochs} epochs':>28}" for epochs in EPOCHS))
    for w, width in enumerate(WIDTHS):
        cells = (f"{times(log_t[:, w, e])}{100 * right[:, w, e].mean():6.1f}" for e in range(len(EPOCHS)))
        print(f"{width:>8}" + "".join(f"{cell:>28}" for cell in cells))

    print("\nWhat is seen")
    for e, epochs in enumerate(EPOCHS):
        print(f"  after {epochs:>3} epochs, {trend(log_t[:, :, e], np.log2(WIDTHS), 'the width')}")
    for w, width in enumerate(WIDTHS):
        print(f"  at width {width:>3}, {trend(log_t[:, w, :], np.log2(EPOCHS), 'the epochs')}")
    print(f"  {trend_at_equal_loss(log_t, log_loss)}")
    sure = np.array([over_seeds(log_t[:, w, e]) for w in range(len(WIDTHS)) for e in range(len(EPOCHS))])
    cold, hot = int((sure[:, 1] > 0).sum()), int((sure[:, 2] < 0).sum())
    print(f"\nOf {len(sure)} cells {hot} are underconfident (T below 1, beyond chance) and {cold} overconfident.")


if __name__ == "__main__":
    main()
