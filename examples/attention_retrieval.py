"""Which item has the highest priority? Learned on 16 items, asked of up to 4096, at several temperatures.

What: items have a class, one of ten, and a priority from 0 to 1; the answer is the class of the item with the highest.
Models of one attention head learn it on sets of 1 to 16 items. The tables have the accuracy and the NLL on larger and
larger sets, with 95 % intervals over 8 models that begin differently. All but the last two lines are the same models,
at another T; e^S is how many items share the weight.

    T = sqrt(d)         as trained
    Adaptive            the published polynomial of the entropy at T = sqrt(d)
    LogLength(16)       sqrt(d) log 16 / log n for n items
    entropy held        the T at which every set has the mean entropy of sets of 16
    T fitted            to other sets of that size, by their likelihood: a bound that needs labels
    hard                T = 0
    LogLength learned   trained as well as tested at sqrt(d) / (s log n), with s learned

Why: a softmax over bounded scores cannot stay sharp when there are ever more of them (Veličković et al., 2024, softmax
is not enough), so what was learned on few items is lost among many, unless it is cooled. Cooling cannot mend scores
that rank the items wrongly; there hard attention fails, too, and is sure of it. Where less than log 2 = 0.69 nats are
held, the best item has more than half of the weight, and the answers are those of hard attention.

    python examples/attention_retrieval.py
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from scipy.stats import t as student
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from logitherm.attention import attention_state, tempered_attention
from logitherm.attention.rules import Adaptive, LogLength
from logitherm.thermostat import SetPoint

SEED, MODELS = 0, 8
CLASSES, WIDTH, HIDDEN = 10, 16, 32
LONGEST, BATCH, STEPS, RATE = 16, 64, 500, 0.04
SETS = {16: 512, 64: 512, 256: 512, 1024: 256, 4096: 64}
COLDER = tuple(2.0 ** (i / 2) for i in range(11))  # than sqrt(d), to fit
ITEMS = 1 << 15  # at a time

USUAL, HELD, FITTED, HARD, TRAINED = "T = sqrt(d)", "entropy held", "T fitted", "hard", "LogLength learned"
COOLED, ADAPTIVE = f"LogLength({LONGEST})", "Adaptive"


class Models:
    """Several models side by side, as the heads of one attention with one query."""

    def __init__(self, temperature: Any = None) -> None:
        generator = torch.Generator().manual_seed(SEED + 1)

        def draw(*shape: int, spread: float) -> Tensor:
            return (spread * torch.randn(MODELS, *shape, generator=generator)).requires_grad_()

        self.temperature = temperature
        self.parameters = {
            "into": draw(CLASSES + 1, HIDDEN, spread=1.0),
            "shift": draw(1, HIDDEN, spread=0.5),
            "query": draw(1, WIDTH, spread=1.0),
            "key": draw(HIDDEN, WIDTH, spread=HIDDEN**-0.5),
            "value": draw(HIDDEN, WIDTH, spread=HIDDEN**-0.5),
            "head": draw(WIDTH, CLASSES, spread=WIDTH**-0.5),
            "bias": draw(1, CLASSES, spread=0.0),
        }

    def read(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, keys and values (sets, models, items, 16)."""
        p = self.parameters
        hidden = torch.nn.functional.gelu(items[:, None] @ p["into"] + p["shift"])
        return p["query"].expand(len(items), -1, -1, -1), hidden @ p["key"], hidden @ p["value"]

    def answer(self, read: tuple[Tensor, Tensor, Tensor], temperature: Any, **options: Any) -> Tensor:
        """Logits (sets, models, classes)."""
        found = tempered_attention(*read, temperature=temperature, **options)
        return (found @ self.parameters["head"] + self.parameters["bias"])[:, :, 0]

    def learn(self, *more: Tensor) -> None:
        optimizer = torch.optim.Adam([*self.parameters.values(), *more], lr=RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
        generator = torch.Generator().manual_seed(SEED + 2)
        for _ in range(STEPS):
            counts = torch.randint(1, LONGEST + 1, (BATCH, 1), generator=generator)
            mask = torch.arange(LONGEST) < counts
            items, labels = draw_sets(BATCH, LONGEST, generator, mask)
            logits = self.answer(self.read(items), self.temperature, mask=mask[:, None, None])
            optimizer.zero_grad()
            (MODELS * nll(logits, labels).mean()).backward()
            optimizer.step()
            schedule.step()


def draw_sets(count: int, size: int, generator: torch.Generator, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Items (sets, size, 11), and the class of the one with the highest priority."""
    classes = torch.randint(CLASSES, (count, size), generator=generator)
    priority = torch.rand(count, size, generator=generator)
    place = (priority if mask is None else priority * mask).argmax(1)
    items = torch.cat([one_hot(classes, CLASSES), priority[..., None]], dim=-1)
    return items, classes[torch.arange(count), place]


def parts(size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Sets of so many items, a few at a time."""
    generator = torch.Generator().manual_seed(seed)
    few = min(SETS[size], ITEMS // size)
    for _ in range(SETS[size] // few):
        yield draw_sets(few, size, generator)


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    """(sets, models)"""
    return cross_entropy(logits.mT, labels[:, None].expand(-1, MODELS), reduction="none")


def fitted(models: Models, size: int) -> Tensor:
    """Of each model the T (models, 1) that is most likely on sets of its own."""
    total = torch.zeros(len(COLDER), MODELS)
    for items, labels in parts(size, SEED + 3):
        read = models.read(items)
        total += torch.stack([nll(models.answer(read, math.sqrt(WIDTH) / c), labels).sum(0) for c in COLDER])
    return math.sqrt(WIDTH) / torch.tensor(COLDER)[total.argmin(0)][:, None]


def interval(values: Tensor, decimals: int = 1) -> str:
    half = student.ppf(0.975, len(values) - 1) * values.std().item() / math.sqrt(len(values))
    return f"{values.mean().item():.{decimals}f} ± {half:.{decimals}f}"


class Measured(NamedTuple):
    accuracy: dict[str, Tensor]  # of every line, for every model, in %
    nats: dict[str, Tensor]
    support: Tensor  # e^S at sqrt(d)


@torch.no_grad()
def measure(models: Models, trained: Models, size: int, held: Tensor) -> Measured:
    lines: dict[str, tuple[Models, Any]] = {
        USUAL: (models, None),
        ADAPTIVE: (models, Adaptive()),
        COOLED: (models, LogLength(length=LONGEST)),
        HELD: (models, SetPoint(entropy=held)),
        FITTED: (models, fitted(models, size)),
        HARD: (models, None),
        TRAINED: (trained, trained.temperature),
        "... hard": (trained, None),
    }
    right, nats = ({name: torch.zeros(MODELS) for name in lines} for _ in range(2))
    support = torch.zeros(MODELS)
    for items, labels in parts(size, SEED):
        reads = {each: each.read(items) for each in (models, trained)}
        for name, (each, t) in lines.items():
            z = each.answer(reads[each], t, hard=name.endswith(HARD))
            right[name] += 100 / SETS[size] * (z.argmax(-1) == labels[:, None]).sum(0)
            nats[name] += nll(z, labels).sum(0) / SETS[size]
        support += attention_state(*reads[models][:2]).entropy[..., 0].exp().sum(0) / SETS[size]
    return Measured(right, nats, support)


@torch.no_grad()
def mean_entropy(models: Models) -> Tensor:
    """(models, 1), on sets of the longest that are learned from."""
    found = [attention_state(*models.read(items)[:2]).entropy for items, _ in parts(LONGEST, SEED + 3)]
    return torch.cat(found).mean(0)


def table(rows: dict[str, list[Tensor]], decimals: int) -> None:
    print(f"\n{'items':<20}" + "".join(f"{size:<12}" for size in SETS).rstrip())
    for name, cells in rows.items():
        print(f"{name:<20}" + "".join(f"{interval(cell, decimals):<12}" for cell in cells).rstrip())


def main() -> None:
    torch.set_num_threads(1)  # small products
    usual = Models()
    usual.learn()
    scale = torch.full((MODELS, 1), 1 / math.log(LONGEST)).requires_grad_()
    trained = Models(LogLength(scale))
    trained.learn(scale)
    held = mean_entropy(usual)
    columns = [measure(usual, trained, size, held) for size in SETS]

    print(f"Accuracy in %, chance is {100 / CLASSES:.0f}; learned on sets of 1 to {LONGEST} items.")
    accuracy = {name: [c.accuracy[name] for c in columns] for name in columns[0].accuracy}
    table({**accuracy, "e^S at sqrt(d)": [c.support for c in columns]}, 1)
    print(f"\nNats an answer, {math.log(CLASSES):.2f} where nothing is known:")
    table({name: [c.nats[name] for c in columns] for name in columns[0].nats}, 2)
    s = interval(math.log(LONGEST) * scale.detach()[:, 0], 2)
    print(f"\nHeld are {interval(held[:, 0], 2)} nats; s log {LONGEST} was learned to be {s}.")
    many = columns[list(SETS).index(1024)]
    lost = interval(columns[0].accuracy[USUAL] - many.accuracy[USUAL])
    print(f"From {LONGEST} to 1024 items {lost} points of accuracy are lost at sqrt(d). Of these")
    for name in (ADAPTIVE, COOLED, FITTED, HELD):
        gain = interval(many.accuracy[name] - many.accuracy[USUAL])
        print(f"  {gain:>11} come back by {name:<14}{interval(many.nats[USUAL] - many.nats[name], 2):>13} nats gained")


if __name__ == "__main__":
    main()
