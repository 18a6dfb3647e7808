"""A character model that was trained on texts of 128, run at 1024: perplexity with every rule for the temperature.

What: a transformer of two layers learns from the help texts that come with Python, cut into texts of 128 characters.
The end of each, after "> ", quotes a passage that stood before. It is then given texts of up to 1024 from topics that
it has not seen; more and more stands between a passage and its quotation, which are the same for every length. The
tables have the perplexity of the quotation, which attention must find, and that of the text before it, for
which the last characters matter most; with the nats a character that each rule gains over the usual T at 1024, paired
by text with 95 % intervals: one that has 0 within says that nothing was gained. The model is the same in every line.

    T = sqrt(d)       as trained
    LogLength(128)    sqrt(d) log 128 / log n for n > 128 keys
    Yarn              sqrt(d) / (0.1 log(n / 128) + 1)^2
    Adaptive          the published polynomial of the entropy at T = sqrt(d)
    entropy held      each query beyond 128 at the mean entropy that its head has in texts of 128; above it where more
                      keys tie for the best than it allows
    T fitted          one a layer, to quotations and text alike of other such texts, by their likelihood

Why: among more keys the same scores share out the weight further, so what was found at 128 is lost at 1024. Order is
known to the model from the last four characters alone, and not from positions, so no position is new in a long text.
Every rule mends some of that and none all. On the text before the quotation, for which the last characters matter and
longer contexts help a little, all lose a little.

Source: keys of the character before, with which one layer can copy, are those of Olsson et al. (2022), In-context
learning and induction heads.

    python examples/attention_length.py
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from pydoc_data.topics import topics
from typing import Any

import torch
from scipy.stats import t as student
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from logitherm.attention import attention_state, resolve_temperature, tempered_attention
from logitherm.attention.rules import Adaptive, LogLength, Queries, Yarn
from logitherm.thermostat import LearnableTemperature, SetPoint

SEED = 0
TRAINED, LENGTHS = 128, (128, 256, 512, 1024)
WIDTH, HEADS, LAYERS, NEAR = 64, 4, 2, 4
MARK, QUOTED, UNSURE = "\n> ", 40, 3  # the first few characters do not say yet what is quoted
EARLY = 48  # characters at the beginning, of which those that are quoted
END = TRAINED + 1 - EARLY  # characters that texts of all lengths end with: some text, mark, quotation
SEAM = 8  # of these, after what was left out
STEPS, BATCH, RATE = 260, 16, 0.01
TEXTS, FIT_TEXTS, FIT_STEPS, FEW = 32, 8, 8, 8
USUAL, HELD, FITTED = "T = sqrt(d)", "entropy held", "T fitted"


class Attention(nn.Module):
    """Keys are made of what stood one character before, so that a query finds what followed the like of it."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.key.weight.data.copy_(self.query.weight)
        self.temperature: list[Any] = [None]  # in a list, as one that is learned is no part of the model
        self.entropies: list[Tensor] | None = None  # (batch, heads, queries at the end), kept if a list

    def forward(self, x: Tensor, last: int) -> Tensor:
        before = pad(x, (0, 0, 1, 0))[:, :-1]
        q, k, v = (
            layer(y).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer, y in ((self.query, x[:, -last:]), (self.key, before), (self.value, x))
        )
        t = resolve_temperature(self.temperature[0], q, k, causal=True)
        if self.entropies is not None:
            end = torch.as_tensor(t).expand(q.shape[:-1])[..., -END:]
            self.entropies.append(attention_state(q[:, :, -END:], k, temperature=end, causal=True).entropy)
        return self.out(tempered_attention(q, k, v, temperature=t, causal=True).transpose(1, 2).flatten(2))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.near = nn.ModuleList(nn.Embedding(128, WIDTH) for _ in range(NEAR))  # of the last characters
        self.attention = nn.ModuleList(Attention() for _ in range(LAYERS))
        self.mix = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
            for _ in range(LAYERS)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(LAYERS + 1))
        self.head = nn.Linear(WIDTH, 128)
        for table in self.near:
            nn.init.normal_(table.weight, std=0.5)

    def forward(self, ids: Tensor, last: int) -> Tensor:
        """Scores of the characters that follow the last so many."""
        x = sum(table(pad(ids, (back, 0))[:, : ids.shape[1]]) for back, table in enumerate(self.near))
        for norm, attention, mix in zip(self.norm, self.attention, self.mix):
            needed = last if attention is self.attention[-1] else ids.shape[1]
            x = x[:, -needed:] + attention(norm(x), needed)
            x = x + mix(x)
        return self.head(self.norm[-1](x))

    def losses(self, texts: Tensor, last: int) -> Tensor:
        """Nats of the last characters, (texts, last)."""
        return cross_entropy(self(texts[:, :-1], last).mT, texts[:, -last:], reduction="none")

    def temper(self, temperatures: list[Any]) -> None:
        for attention, temperature in zip(self.attention, temperatures):
            attention.temperature = [temperature]


def files() -> tuple[list[str], list[str]]:
    """To learn from, and every fifth to be asked of."""
    long = [re.sub(r"[^\n -~]", "~", text) for _, text in sorted(topics.items())]
    long = [text for text in long if len(text) > 2 * max(LENGTHS)]
    return [text for i, text in enumerate(long) if i % 5], long[::5]


def draw(texts: list[str], count: int, length: int, seed: random.Random) -> Tensor:
    """Pieces of texts, quotation included, as numbers of characters: (count, length + 1)."""
    found = []
    for text in seed.choices(texts, weights=[len(text) for text in texts], k=count):
        size = length + 1 - len(MARK) - QUOTED
        start, place = seed.randrange(len(text) - size), seed.randrange(NEAR, EARLY - QUOTED + 1)
        piece = text[start : start + size]
        found.append([ord(c) for c in piece + MARK + piece[place : place + QUOTED]])
    return torch.tensor(found)


def shortened(texts: Tensor, length: int) -> Tensor:
    """Without what stands between the beginning, of which some is quoted, and the end."""
    return torch.cat([texts[:, :EARLY], texts[:, EARLY - length - 1 :]], dim=1)


def learned(texts: list[str]) -> Model:
    torch.manual_seed(SEED)
    model, seed = Model(), random.Random(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model.losses(draw(texts, BATCH, TRAINED, seed), TRAINED).mean().backward()
        optimizer.step()
        schedule.step()
    return model.requires_grad_(False)


@torch.no_grad()
def measured(model: Model, texts: Tensor) -> Tensor:
    """Nats a character of the quotation and of the text before it, (2, texts)."""
    losses = torch.cat([model.losses(some, END) for some in texts.split(FEW)])
    return torch.stack([losses[:, UNSURE - QUOTED :].mean(1), losses[:, SEAM : -QUOTED - len(MARK)].mean(1)])


@torch.no_grad()
def entropies(model: Model, texts: Tensor) -> Tensor:
    """Mean entropy at the end of texts, (layers, heads)."""
    for attention in model.attention:
        attention.entropies = []
    model(texts[:FEW, :-1], END)
    found = torch.stack([attention.entropies[0].mean((0, 2)) for attention in model.attention])
    for attention in model.attention:
        attention.entropies = None
    return found


def holding(entropy: Tensor) -> Callable[[Queries], Tensor]:
    """A rule: the usual T up to the length of training, from there on the one that holds an entropy (heads,)."""

    def rule(seen: Queries) -> Tensor:
        t = torch.full(seen.q.shape[:-1], math.sqrt(seen.q.shape[-1]))
        late = seen.position >= TRAINED
        held = SetPoint(entropy=entropy[:, None])
        t[..., late] = resolve_temperature(held, seen.q[:, :, late], seen.k, causal=True)
        return t

    return rule


def fit(model: Model, texts: Tensor, start: list[float]) -> list[float]:
    """T of every layer by the likelihood of the ends of texts, quotations and what is before them."""
    layers = [LearnableTemperature(torch.tensor(t)) for t in start]
    optimizer = torch.optim.Adam([p for layer in layers for p in layer.parameters()], lr=0.15)
    model.temper(layers)
    for _ in range(FIT_STEPS):
        optimizer.zero_grad()
        for some in texts.split(FEW):
            (model.losses(some, END).mean() * len(some) / len(texts)).backward()
        optimizer.step()
    return [layer.resolve().item() for layer in layers]


def interval(values: Tensor, decimals: int = 3) -> str:
    half = student.ppf(0.975, len(values) - 1) * values.std().item() / math.sqrt(len(values))
    return f"{values.mean().item():+.{decimals}f} ± {half:.{decimals}f}"


def main() -> None:
    torch.set_num_threads(1)  # small products
    known, others = files()
    model = learned(known)
    seed = random.Random(SEED + 1)
    texts, fit_texts = draw(others, TEXTS, max(LENGTHS), seed), draw(others, FIT_TEXTS, max(LENGTHS), seed)
    usual = math.sqrt(WIDTH // HEADS)
    before = entropies(model, shortened(texts, TRAINED))
    found: dict[str, list[Tensor]] = {}
    sharp: dict[str, Tensor] = {}
    fitted = [usual] * LAYERS
    for length in LENGTHS:
        some = shortened(texts, length)
        fitted = fit(model, shortened(fit_texts, length), fitted)
        rules: dict[str, list[Any]] = {
            USUAL: [None] * LAYERS,
            f"LogLength({TRAINED})": [LogLength(length=TRAINED)] * LAYERS,
            "Yarn": [Yarn(length / TRAINED)] * LAYERS,
            "Adaptive": [Adaptive()] * LAYERS,
            HELD: [holding(entropy) for entropy in before],
            FITTED: fitted,
        }
        for name, rule in rules.items():
            model.temper(rule)
            found.setdefault(name, []).append(measured(model, some))
            sharp[name] = entropies(model, some)

    print(f"Trained on texts of {TRAINED} characters; {TEXTS} texts of topics that it has not seen.")
    for part, title in enumerate(("the quotation", "the text before it")):
        print(f"\nPerplexity of {title}")
        print(f"{'characters':<16}" + "".join(f"{n:<8}" for n in LENGTHS) + f"nats gained at {max(LENGTHS)}")
        for name, columns in found.items():
            gain = interval(found[USUAL][-1][part] - columns[-1][part]) if name != USUAL else ""
            cells = "".join(f"{math.exp(x[part].mean().item()):<8.2f}" for x in columns)
            print(f"{name:<16}{cells}{gain}".rstrip())
    print(f"\nMean entropy at the end of texts of {max(LENGTHS)}, by layer; log n is {math.log(max(LENGTHS)):.2f}")
    rows = {f"at {TRAINED}, as trained": before, **sharp}
    for name, layers in rows.items():
        print(f"{name:<20}" + "".join(f"{x:<8.2f}" for x in layers.mean(1).tolist()).rstrip())
    print(f"\nT fitted to {max(LENGTHS)}, over sqrt(d): " + ", ".join(f"{t / usual:.2f}" for t in fitted))


if __name__ == "__main__":
    main()
