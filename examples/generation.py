"""Loops, prose and gibberish: one small model of characters, written with at ten temperatures.

What: a recurrent network learns the text of this repository for a minute. Then it goes on with openings from a part
that it has not seen, at temperatures from 0.1 to 2. The table has, with 95 % intervals over the openings: the share of
texts that end in a loop, how many times smaller gzip makes them, and the excess, how much more a character surprises
the model than it expects of its own writing.

Why: cold text repeats itself and hot text is gibberish, everyone says. Both are numbers, and there is a temperature
between at which neither is the case: where gzip and surprise are those of the text that people wrote.

    python examples/generation.py
"""

from __future__ import annotations

from pathlib import Path

import torch

from logitherm.generation.choose import turning_point
from logitherm.generation.held_out import held_out
from logitherm.generation.runs import draw_texts, text_logits
from logitherm.generation.sweep import measure
from logitherm.generation.texts import compression_ratio, token_numbers

ROOT = Path(__file__).resolve().parents[1]
STEPS, BATCH, WINDOW, WIDTH = 400, 32, 64, 192
GRID = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0)
SHOWN = (0.1, 0.8, 2.0)
OPENINGS, OPENING, SAMPLES, LENGTH = 24, 32, 2, 300


def load_text() -> str:
    """What people can read in this repository: words first, then the documented code, always in one order."""
    files = [ROOT / name for name in ("LICENSE", "README.md", "CHANGELOG.md", "docs/architecture.md")]
    return "\n".join(path.read_text(encoding="utf-8") for path in [*files, *sorted((ROOT / "src").rglob("*.py"))])


class Network(torch.nn.Module):
    """Characters in, logits of the next one out; it remembers the state after every sequence of the call before."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(characters, 64)
        self.recur = torch.nn.GRU(64, WIDTH, batch_first=True)
        self.head = torch.nn.Linear(WIDTH, characters)
        self.states: dict[tuple[int, ...], torch.Tensor] = {}

    def forward(self, tokens: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        found, state = self.recur(self.embed(tokens), state)
        return self.head(found), state

    @torch.no_grad()
    def next_logits(self, sequences: list[list[int]]) -> torch.Tensor:
        before = [self.states.get(tuple(sequence[:-1])) for sequence in sequences]
        if all(state is not None for state in before):
            logits, state = self(torch.tensor([each[-1:] for each in sequences]), torch.stack(before, dim=1))
        else:
            logits, state = self(torch.tensor(sequences))  # openings all have one length
        self.states = {tuple(sequence): state[:, i] for i, sequence in enumerate(sequences)}
        return logits[:, -1]


def train(network: Network, tokens: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=8e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, STEPS)
    draw = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        starts = torch.randint(len(tokens) - WINDOW - 1, (BATCH, 1), generator=draw)
        rows = tokens[starts + torch.arange(WINDOW + 1)]
        logits, _ = network(rows[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def with_interval(curve, i: int, digits: int = 2) -> str:
    return f"{curve.value[i]:.{digits}f} ({curve.low[i]:.{digits}f} to {curve.high[i]:.{digits}f})"


def main() -> None:
    torch.set_num_threads(1)  # so small a network gains little from more
    torch.manual_seed(0)
    text = load_text()
    alphabet = sorted(set(text))
    number = {character: i for i, character in enumerate(alphabet)}
    tokens = torch.tensor([number[character] for character in text])
    unseen = len(tokens) * 9 // 10
    network = Network(len(alphabet))
    train(network, tokens[:unseen])

    step = (len(tokens) - unseen) // OPENINGS
    people = [tokens[unseen + i * step :][: OPENING + SAMPLES * LENGTH].tolist() for i in range(OPENINGS)]
    openings = [each[:OPENING] for each in people]

    def decode(found: list[int]) -> str:
        return "".join(alphabet[token] for token in found)

    runs = draw_texts(network.next_logits, openings, GRID, samples=SAMPLES, tokens=LENGTH, batch=640)
    found = measure(runs, decode=decode)
    fit = held_out(network.next_logits, [each[: OPENING + LENGTH] for each in people])
    read = [token_numbers(z, y).model_surprise for _, z, y in text_logits(network.next_logits, people)]
    surprise = float(sum(each.sum() for each in read) / sum(len(each) for each in read))
    gzip = [
        compression_ratio([decode(each[start : start + LENGTH]) for start in range(OPENING, len(each), LENGTH)])
        for each in people
    ]
    ratio = sum(gzip) / len(gzip)

    curves = found.curves
    print(f"{len(text)} characters, {len(alphabet)} different ones; {OPENINGS} openings, {SAMPLES} texts of each\n")
    print(f"{'T':>5}   {'end in a loop':<24}{'times smaller by gzip':<24}{'surprise, nats':<24}{'excess, nats'}")
    for i, t in enumerate(GRID):
        cells = [with_interval(curves[name], i) for name in ("loop_rate", "compression_ratio", "model_surprise")]
        print(f"{t:>5}   " + "".join(f"{cell:<24}" for cell in cells) + with_interval(curves["excess"], i))
    print(f"{'people':>8}{'':<24}{ratio:<24.2f}{surprise:.2f}")

    for t in SHOWN:
        sample = decode(runs.texts[GRID.index(t)][0][0])
        print(f"\nT = {t}\n" + "\n".join("    " + line for line in (decode(openings[0]) + sample).splitlines()))

    cold, one, hot = 0, GRID.index(1.0), len(GRID) - 1
    loops, excess, smaller = curves["loop_rate"], curves["excess"], curves["compression_ratio"]
    assert loops.low[cold] > loops.high[hot], "cold text loops more often than hot text"
    assert excess.high[cold] < 0 < excess.low[hot], "cold text is too predictable, hot text too strange"
    assert excess.high[one - 1] < -0.1 < excess.value[one] < 0.1 < excess.low[one + 1], "0 at T = 1 but for chance"
    assert smaller.low[cold] > ratio > smaller.high[hot], "people repeat themselves less than cold text, more than hot"

    alike = [t for i, t in enumerate(GRID) if smaller.high[i] >= ratio >= smaller.low[i]]
    above = next(i for i, value in enumerate(curves["model_surprise"].value) if value > surprise)
    turn = turning_point(runs).temperature
    print(
        f"\nAs repetitive as people, by gzip and within chance, at T = {', '.join(map(str, alike)) or 'none of these'}."
    )
    print(
        f"As surprising as people between T = {GRID[above - 1]} and {GRID[above]}; people's own text asks for", end=" "
    )
    print(f"T = {fit.temperature:.2f} (95 % interval {fit.interval[0]:.2f} to {fit.interval[1]:.2f}).")
    at = excess.value[GRID.index(turn)]
    print(
        f"The entropy turns at T = {turn}: there the excess is {at:+.2f}, so the rule made for reasoning models",
        end=" ",
    )
    print("errs for this one." if abs(at) > 0.5 else "holds for this one, too.")


if __name__ == "__main__":
    main()
