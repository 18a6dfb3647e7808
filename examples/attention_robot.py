"""A robot with three senses: what hard, uniform and soft attention make of them, and a temperature that is learned.

What: a robot asks camera, lidar and microphone. What they read are the values of attention; what kind each is and how
noisy it takes itself to be, off by a fifth, are the keys; the task is the query. For three tasks one sensor alone
knows anything, and the others read something else. For two more, several sensors read the same, each with a noise that
differs from scene to scene. Queries and keys are small learned projections of length one, so that a score is a cosine
and how much it counts is the temperature's to say. The table has the mean squared error in scenes that were not
learned from, with 95 % intervals over 16 robots that begin differently; "weights by noise" knows who knows what, and
weighs by 1/variance, as is best. Then one sensor breaks: it reads something else, and calls itself as good as before.

Why: who puts all on the best sensor wastes the others, and who asks all alike listens to those that know nothing. The
best weights, 1/variance, are a softmax of -log(variance): fusing sensors and choosing one are one rule at the right T.

    python examples/attention_robot.py
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from scipy.stats import t as student
from torch import Tensor
from torch.nn.functional import normalize
from torch.special import entr

from logitherm.attention import tempered_attention
from logitherm.thermostat import LearnableTemperature

SEED, ROBOTS = 0, 16
SENSORS = ("camera", "lidar", "microphone")
TASKS = {  # which sensors know something
    "read the sign": (1, 0, 0),
    "keep distance": (0, 1, 0),
    "hear the call": (0, 0, 1),
    "map the room": (1, 1, 0),
    "find the person": (1, 1, 1),
}
KNOWS = torch.tensor(list(TASKS.values()), dtype=torch.bool)  # (tasks, sensors)
FAR, QUIET, LOUD, MISJUDGED = 3.0, 0.2, 1.0, 0.2
WIDTH, HIDDEN = 8, 16
STEPS, BATCH, TESTS = 300, 32, 2000
TIMES = (1 / 16, 1.0, 8.0)  # the learned temperature, for the pictures
UNIFORM, HARD, USUAL, LEARNED = "uniform", "hard", "T = sqrt(d)", "T learned"
THEN_HARD, FREE, IDEAL = "learned, then hard", "sqrt(d), not normed", "weights by noise"
SHADES = " .:-=+*#%@"


class Robots:
    """Several robots side by side, as the heads of one attention; scenes are asked all tasks at once."""

    def __init__(self, temperature: Any, hard: bool = False, normed: bool = True) -> None:
        generator = torch.Generator().manual_seed(SEED + 1)

        def draw(*shape: int, spread: float) -> Tensor:
            return (spread * torch.randn(ROBOTS, *shape, generator=generator)).requires_grad_()

        inputs = len(SENSORS) + 1
        self.into, self.shift = draw(inputs, HIDDEN, spread=inputs**-0.5), draw(1, HIDDEN, spread=1.0)
        self.out, self.query = draw(HIDDEN, WIDTH, spread=HIDDEN**-0.5), draw(len(TASKS), WIDTH, spread=1.0)
        self.temperature, self.hard, self.normed = temperature, hard, normed

    def attend(self, signs: Tensor, values: Tensor, times: float = 1.0) -> Tensor:
        """Weighted values (scenes, robots, tasks, ...) at so many times the temperature."""
        q = self.query.expand(len(signs), -1, -1, -1)
        k = torch.tanh(signs[:, None] @ self.into + self.shift) @ self.out
        if self.normed:
            q, k = normalize(q, dim=-1), normalize(k, dim=-1)
        t = self.temperature
        t = times * (t.resolve() if isinstance(t, LearnableTemperature) else t)
        return tempered_attention(q, k, values[:, None].expand(-1, ROBOTS, -1, -1), temperature=t, hard=self.hard)

    def errors(self, signs: Tensor, readings: Tensor, truth: Tensor, times: float = 1.0) -> Tensor:
        """Squared errors (scenes, robots, tasks)."""
        answers = self.attend(signs, readings, times).diagonal(dim1=-2, dim2=-1)
        return (answers - truth[:, None]) ** 2

    def learn(self) -> None:
        optimizer = torch.optim.Adam([self.into, self.shift, self.out, self.query], lr=0.02)
        if isinstance(self.temperature, LearnableTemperature):
            optimizer.add_param_group({"params": self.temperature.parameters(), "lr": 0.05})
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        generator = torch.Generator().manual_seed(SEED + 2)
        for _ in range(STEPS):
            optimizer.zero_grad()
            signs, readings, truth, _ = scenes(BATCH, generator)
            self.errors(signs, readings, truth).mean((0, 2)).sum().backward()
            optimizer.step()
            schedule.step()


def scenes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Signs of sensors (scenes, sensors, 4), readings (scenes, sensors, tasks), the truth (scenes, tasks), noise."""
    noise = QUIET * (LOUD / QUIET) ** torch.rand(count, len(SENSORS), 1, generator=generator)
    truth = FAR * torch.randn(count, len(TASKS), generator=generator)
    readings = truth[:, None] + noise * torch.randn(count, len(SENSORS), len(TASKS), generator=generator)
    other = FAR * torch.randn(readings.shape, generator=generator)
    judged = noise.log() + MISJUDGED * torch.randn(noise.shape, generator=generator)
    signs = torch.cat([torch.eye(len(SENSORS)).expand(count, -1, -1), judged], dim=-1)
    return signs, torch.where(KNOWS.T, readings, other), truth, noise


def one_broken(readings: Tensor) -> list[Tensor]:
    """The readings with one sensor after the other at something else."""
    generator = torch.Generator().manual_seed(SEED + 3)
    other = FAR * torch.randn(readings.shape, generator=generator)
    places = torch.arange(len(SENSORS))[:, None]
    return [torch.where(places == sensor, other, readings) for sensor in range(len(SENSORS))]


def interval(values: Tensor, decimals: int = 3) -> str:
    half = student.ppf(0.975, len(values) - 1) * values.std().item() / math.sqrt(len(values))
    return f"{values.mean().item():.{decimals}f} ± {half:.{decimals}f}"


def main() -> None:
    torch.set_num_threads(1)  # small products
    usual = math.sqrt(WIDTH)
    learned, straight = (LearnableTemperature(torch.full((ROBOTS, 1), usual)) for _ in range(2))
    robots = {
        UNIFORM: Robots(1e6),  # as good as infinite
        HARD: Robots(straight, hard=True),
        USUAL: Robots(usual),
        LEARNED: Robots(learned),
        FREE: Robots(usual, normed=False),
    }
    for name, each in robots.items():
        if name != UNIFORM:
            each.learn()
    robots[THEN_HARD] = copy.copy(robots[LEARNED])
    robots[THEN_HARD].hard = True
    signs, readings, truth, noise = scenes(TESTS, torch.Generator().manual_seed(SEED))
    broken = one_broken(readings)
    whole, hurt = {}, {}
    with torch.no_grad():
        for name, each in robots.items():
            whole[name] = each.errors(signs, readings, truth).mean(0)
            hurt[name] = torch.stack([each.errors(signs, x, truth).mean(0) for x in broken]).mean(0)
    weights = torch.where(KNOWS.T, noise**-2, 0.0)
    weights /= weights.sum(1, keepdim=True)
    ideal = [torch.stack([((weights * x).sum(1) - truth) ** 2 for x in kind]).mean(1) for kind in ([readings], broken)]
    whole[IDEAL], hurt[IDEAL] = (x.mean(0, keepdim=True) for x in ideal)

    print(f"Mean squared error, 95 % intervals over {ROBOTS} robots. All sensors work:")
    table(whole)
    print("\nOne sensor reads something else and does not say so; mean over which:")
    table(hurt)
    ends = interval(learned.resolve().detach().flatten(), 2)
    print(f"\nMean weights; sqrt(d) is {usual:.2f}, the learned T {ends}:\n")
    draw(robots[LEARNED], signs, readings, truth)

    print(f"\nOver all tasks, {LEARNED} errs less by")
    for name in (UNIFORM, HARD, THEN_HARD, USUAL, FREE):
        print(f"  {interval((whole[name] - whole[LEARNED]).mean(1)):>15} than {name}")
    added = {name: (hurt[name] - whole[name])[:, KNOWS.all(1)].mean(1) for name in whole}
    print("Where all know, a broken sensor adds")
    for name in (HARD, LEARNED, UNIFORM):
        part = 100 * (added[name].mean() / added[HARD].mean()).item()
        print(f"  {interval(added[name]):>15} to {name}, {part:.0f} %")
    least = min(hurt[name][:, KNOWS.sum(1) == 1].mean().item() for name in hurt)
    print(f"Where one alone knows, everyone errs by {least:.1f} or more.")


def table(errors: dict[str, Tensor]) -> None:
    """By how many sensors know something."""
    known = KNOWS.sum(1)
    print(f"\n  {'':20}{'one knows':<16}{'two know':<16}{'all know':<16}mean")
    for name, e in errors.items():
        means = [e[:, known == n].mean(1) for n in (1, 2, 3)] + [e.mean(1)]
        cells = [interval(x) if name != IDEAL else f"{x.item():.3f}" for x in means]
        print(f"  {name:<20}" + "".join(f"{cell:<16}" for cell in cells).rstrip())


def draw(robots: Robots, signs: Tensor, readings: Tensor, truth: Tensor) -> None:
    """Mean weight of every sensor (columns) for every task (rows), in ten shades; how many are asked in one scene."""
    values = torch.eye(len(SENSORS)).expand(len(signs), -1, -1)
    with torch.no_grad():
        pictures = [robots.attend(signs, values, times).mean((0, 1)) for times in TIMES]
        errors = [robots.errors(signs, readings, truth, times).mean().item() for times in TIMES]
        asked = [entr(robots.attend(signs, values, times)[:, :, -1]).sum(-1).exp().mean().item() for times in TIMES]
    lines = {"": ["T / 16", "T learned", "8 T"], " ": [" ".join(f"{name[:5]:<5}" for name in SENSORS)] * 3}
    for task, rows in zip(TASKS, zip(*pictures)):
        lines[task] = [" ".join(5 * SHADES[round(9 * w)] for w in row.tolist()) for row in rows]
    lines["e^S of the last"] = [f"{x:.2f}" for x in asked]
    lines["error of all"] = [f"{e:.3f}" for e in errors]
    for name, cells in lines.items():
        print(f"  {name:<17}" + "  ".join(f"{cell:<18}" for cell in cells).rstrip())


if __name__ == "__main__":
    main()
