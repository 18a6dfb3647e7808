"""Learning from which pairs belong together: what the temperature of InfoNCE does to features of handwritten digits.

What: networks read scikit-learn's digits without labels. Of every digit they see two views, shifted by up to a pixel,
scaled, noisy and with holes, and learn to tell its other view from those of 127 others (InfoNCE), at temperatures from
too low to too high, with a learned one, and on a cosine. The networks begin alike and see the same views in all rows
of the table. Digits that no network has seen say what came of it:

    align     mean squared distance of two views of a digit; 0 where nothing but the digit is left
    uniform   log mean exp(-2 d^2) of pairs of digits; 0 where all are in one place, -3.5 all over the sphere
    clean     accuracy of the 5 nearest neighbours among 1000 digits with labels, in %
    moved     the same for views of the digits in place of themselves
    e^H       on how many of its 127 negatives the loss works
    |g|       norm of the gradient after training
    noise     how far the gradient of one batch is from that of all, in multiples of |g|

Why: the push away from a negative is its probability in softmax(s / T). Too cold, only the nearest is pushed, which may
well be the same digit in another hand, and a hair's breadth tells two digits apart, so that all stay close together;
too hot, all are pushed alike, and what is nearly the same is never told apart (Wang and Liu, 2021).

    python examples/contrastive.py
"""

from __future__ import annotations

import math
from typing import Any

import torch
from scipy.stats import t as student
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, normalize, one_hot

from logitherm.contrastive import alignment, hardness, info_nce, uniformity
from logitherm.thermostat import CosineSchedule, LearnableTemperature

SEED, NETWORKS = 0, 8
SEEN, BATCH, STEPS = 1000, 128, 150
WIDTH, FEATURES = 128, 16
TEMPERATURES = (0.01, 0.03, 0.07, 0.2, 0.5, 2.0, 10.0)
NEIGHBOURS = 5
GRADIENTS = 12  # batches whose gradients are compared


class Encoders:
    """Several networks with one hidden layer each, side by side in one product."""

    def __init__(self, generator: torch.Generator) -> None:
        def draw(*shape: int, spread: float) -> Tensor:
            return (spread * torch.randn(NETWORKS, *shape, generator=generator)).requires_grad_()

        self.parameters = [
            draw(64, WIDTH, spread=math.sqrt(2 / 64)),
            draw(1, WIDTH, spread=0.0),
            draw(WIDTH, FEATURES, spread=math.sqrt(1 / WIDTH)),
        ]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Features (networks, rows, 16) of norm 1, of pixels (networks or 1, rows, 64)."""
        into, shift, out = self.parameters
        return normalize(torch.relu(pixels @ into + shift) @ out, dim=-1)

    def loss(self, views: Tensor, temperatures: list[Any], step: int) -> Tensor:
        """InfoNCE, summed over networks; views (networks, 2 batch, 64) are the first ones, then the others."""
        pairs = zip(*self(views).chunk(2, dim=1), temperatures, strict=True)
        return torch.stack([info_nce(a, b, temperature=t, step=step) for a, b, t in pairs]).sum()

    def learn(self, batches: list[Tensor], temperatures: list[Any]) -> None:
        learned = [p for t in temperatures if isinstance(t, LearnableTemperature) for p in t.parameters()]
        optimizer = torch.optim.Adam([*self.parameters, *learned], lr=0.01)
        for step, views in enumerate(batches):
            optimizer.zero_grad()
            self.loss(views, temperatures, step).backward()
            optimizer.step()


def main() -> None:
    torch.set_num_threads(1)  # small products
    images, digits = load_digits(return_X_y=True)
    generator = torch.Generator().manual_seed(SEED)
    order = torch.randperm(len(digits), generator=generator)
    pixels, labels = torch.tensor(images, dtype=torch.float32)[order] / 16, torch.tensor(digits)[order]
    batches = [batch(pixels[:SEEN], generator) for _ in range(STEPS + GRADIENTS)]
    moved = torch.cat([seen_again(pixels[SEEN:], generator) for _ in range(2)])
    everything = torch.cat([pixels, moved])  # those with labels, then the unseen ones: clean, moved, and moved again
    parts = [SEEN, *3 * [len(pixels) - SEEN]]

    rows: dict[str, list[Any]] = {f"{t:g}": [t] * NETWORKS for t in TEMPERATURES}
    rows["learned"] = [LearnableTemperature(0.07, low=0.01, high=1.0) for _ in range(NETWORKS)]
    rows["1 to 0.07"] = [CosineSchedule(1.0, 0.07, steps=STEPS)] * NETWORKS
    print(f"Means of {NETWORKS} networks, accuracies with 95 % intervals over networks:\n")
    print(f"{'T':>9}  {'align':>5}  {'uniform':>7}  {'clean, %':>10}  {'moved, %':>10}  {'e^H':>5}  {'|g|':>5}  noise")
    moved_right, noises = {}, {}
    for name, temperatures in rows.items():
        encoders = Encoders(torch.Generator().manual_seed(SEED + 1))
        encoders.learn(batches[:STEPS], temperatures)
        norm, noises[name] = steadiness(encoders, batches[STEPS:], temperatures)
        with torch.no_grad():
            known, clean, first, second = encoders(everything[None]).split(parts, dim=1)
            near = torch.stack([alignment(a, b) for a, b in zip(first, second, strict=True)]).mean()
            spread = torch.stack([uniformity(a) for a in clean]).mean()
            triples = zip(first, second, temperatures, strict=True)
            negatives = sum(effective_negatives(a[:BATCH], b[:BATCH], t) for a, b, t in triples) / NETWORKS
        moved_right[name] = accuracy(first, known, labels)
        right = f"{interval(accuracy(clean, known, labels)):>10}  {interval(moved_right[name]):>10}"
        steady = f"{norm.mean():5.2f}  {noises[name].mean():5.1f}"
        print(f"{name:>9}  {near:5.2f}  {spread:7.2f}  {right}  {negatives:5.1f}  {steady}")
    known, clean, first, _ = normalize(everything[None], dim=-1).split(parts, dim=1)
    plain, shaken = (accuracy(x, known, labels).item() for x in (clean, first))
    print(f"{'pixels':>9}{'':16}  {plain:4.1f}{'':8}{shaken:4.1f}        themselves, nothing learned")

    cold, *_, hot = fixed = [f"{t:g}" for t in TEMPERATURES]
    best = max(fixed, key=lambda name: moved_right[name].mean().item())
    less = {name: interval(moved_right[best] - moved_right[name]) for name in (cold, hot, "learned")}
    ends = interval(torch.stack([t.resolve().detach() for t in rows["learned"]]), 3)
    noisier = interval(noises[cold] / noises[best])
    print(f"\nMoved digits, best at T = {best}: {less[cold]} points less at {cold}, {less[hot]} at {hot}.")
    print(f"The learned T went from 0.07 to {ends}: {less['learned']} points less.")
    print(f"The gradient of a batch is {noisier} times as noisy at T = {cold} as at {best}.")


def batch(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Two views each of some digits for every network, (networks, 2 batch, 64)."""
    rows = torch.stack([torch.randperm(len(pixels), generator=generator)[:BATCH] for _ in range(NETWORKS)])
    return seen_again(pixels[rows.repeat(1, 2)], generator)


def seen_again(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Shifted by up to a pixel and scaled by up to a tenth, with noise, and holes in place of a tenth of the pixels."""
    count = pixels.shape[:-1].numel()
    places = torch.zeros(count, 2, 3)
    places[:, 0, 0] = places[:, 1, 1] = 1 + 0.1 * (2 * torch.rand(count, generator=generator) - 1)
    places[:, :, 2] = (2 * torch.rand(count, 2, generator=generator) - 1) / 4  # the image is 2 wide, a pixel 1/4
    grid = affine_grid(places, [count, 1, 8, 8], align_corners=False)
    moved = grid_sample(pixels.reshape(count, 1, 8, 8), grid, align_corners=False).reshape(pixels.shape)
    noisy = moved + 0.1 * torch.randn(pixels.shape, generator=generator)
    return noisy * (torch.rand(pixels.shape, generator=generator) > 0.1)


def steadiness(encoders: Encoders, batches: list[Tensor], temperatures: list[Any]) -> tuple[Tensor, Tensor]:
    """Norm of the mean gradient over batches, and sqrt(mean |g - mean g|^2) over that norm, for every network."""
    gradients = []
    for views in batches:
        found = torch.autograd.grad(encoders.loss(views, temperatures, STEPS), encoders.parameters)
        gradients.append(torch.cat([g.flatten(1) for g in found], dim=1))
    variance, mean = torch.var_mean(torch.stack(gradients), dim=0)
    noise = variance.sum(1)
    square = mean.square().sum(1) - noise / len(batches)  # less what noise adds to it
    return square.sqrt(), (noise / square).sqrt()


def effective_negatives(first: Tensor, second: Tensor, temperature: Any) -> float:
    t = float(temperature.resolve(first, STEPS)) if hasattr(temperature, "resolve") else temperature
    return hardness(first, second, t).effective_negatives.mean()


def accuracy(features: Tensor, known: Tensor, labels: Tensor) -> Tensor:
    """% of unseen digits of every network that have the commonest label of their nearest neighbours."""
    nearest = labels[(features @ known.mT).topk(NEIGHBOURS).indices]
    return 100 * (one_hot(nearest).sum(-2).argmax(-1) == labels[SEEN:]).float().mean(-1)


def interval(values: Tensor, decimals: int = 1) -> str:
    """A mean and the half width of its interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std().item() / math.sqrt(len(values))
    return f"{values.mean().item():.{decimals}f} ± {half:.{decimals}f}"


if __name__ == "__main__":
    main()
