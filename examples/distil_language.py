"""What to keep of a teacher: small language models learn from a large one, or from what a folder has of it.

What: a recurrent network learns the text of this repository, in 1024 tokens of a byte-pair encoding, for 15 seconds.
Smaller ones read a small part of it, and learn at every token either what comes next (labels) or what the teacher
expects: its whole law, in both directions of KL, or what a folder has of it, 12 draws, or the 32 or 8 most probable
tokens and what all others weigh. The table has the perplexity on files that nobody saw, which share of the way from
labels to the teacher that is, in nats, and the bytes of a token on disk. Three students of a kind have texts and
weights of their own; intervals are over them and pieces of the unseen files, the same wherever two are compared.

Why: a label is one token, and the teacher knows how probable all of them are. That is worth many times the text, but
takes kilobytes a token. Far fewer do, if they are the right ones (Anshumann et al., 2025, Sparse logit sampling).

    pip install ".[transformers]" && python examples/distil_language.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn

from logitherm import softmax
from logitherm.distillation import linear_distillation_loss, sparse_distillation_loss
from logitherm.distillation.cache import cache_teacher

ROOT = Path(__file__).resolve().parents[1]
TEMPERATURE = 1.0
STATES, WINDOW, BATCH = 1024, 32, 32
TEACHER_WIDTH, TEACHER_STEPS, TEACHER_RATE = 192, 340, 7e-3
# Labels are within 4 % of their best perplexity among a few rates and passes, tried on text that no student reads.
STUDENT_WIDTH, STUDENT_PASSES, STUDENT_RATE = 64, 5, 2e-2
STUDENTS, STUDENT_TOKENS = 3, 13 * 1024
PIECE, PIECES, RESAMPLES = 256, 64, 4000  # of the unseen text
TOPS, DRAWS = (32, 8), 12
LABELS, WHOLE, REVERSE = "labels", "whole law (forward KL)", "whole law (reverse KL)"


def load_tokens() -> list[Tensor]:
    """Documents and documented code of this repository, in a drawn order: five in six to learn from, and the others."""
    found = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "src").rglob("*.py"))]
    texts = [found[i].read_text(encoding="utf-8") for i in np.random.default_rng(0).permutation(len(found))]
    cut = len(texts) * 5 // 6
    encoder = ByteLevelBPETokenizer()
    encoder.train_from_iterator(texts[:cut], vocab_size=STATES, show_progress=False)
    return [torch.tensor(encoder.encode("".join(part)).ids) for part in (texts[:cut], texts[cut:])]


Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]  # student, hidden states, after which tokens


class Network(nn.Module):
    """Tokens (sequences, n) in, hidden states out; logits of the next token are `head` of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = min(width, 96)
        self.embed = nn.Embedding(STATES, narrow)
        self.recur = nn.GRU(narrow, width, batch_first=True)
        self.shrink = nn.Linear(width, narrow)
        self.head = nn.Linear(narrow, STATES)
        self.head.weight = self.embed.weight  # what a token means and when it comes are one table
        nn.init.normal_(self.embed.weight, std=narrow**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.shrink(self.recur(self.embed(tokens))[0])

    def logits(self, tokens: Tensor) -> Tensor:
        return self.head(self(tokens))


def train(network: Network, steps: int, rate: float, loss: Callable[[int], Tensor]) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    for step in range(steps):
        optimizer.zero_grad()
        loss(step).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def cross_entropy(logits: Tensor, following: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, -2), following.flatten())


def train_teacher(tokens: Tensor) -> Network:
    torch.manual_seed(0)
    network = Network(TEACHER_WIDTH)

    def loss(_: int) -> Tensor:
        rows = tokens[torch.randint(len(tokens) - WINDOW, (BATCH, 1)) + torch.arange(WINDOW + 1)]
        return cross_entropy(network.logits(rows[:, :-1]), rows[:, 1:])

    train(network, TEACHER_STEPS, TEACHER_RATE, loss)
    return network.requires_grad_(False)


def lessons(teacher: Network, tokens: Tensor, folder: str, seed: int) -> dict[str, tuple[float, Loss]]:
    """What can be learned from a text: its bytes a token, and the loss."""
    hidden = torch.cat([teacher(part).flatten(0, 1) for part in tokens[:-1].view(-1, WINDOW).split(BATCH)])

    def whole(divergence: str) -> Loss:  # on whole logits of which only blocks are ever there
        return lambda net, h, rows: linear_distillation_loss(
            h, net.head, hidden[rows], teacher.head, temperature=TEMPERATURE, divergence=divergence
        )

    def stored(**keep: int) -> tuple[float, Loss]:
        settings = {"temperatures": (TEMPERATURE,), "length": WINDOW, "batch": BATCH, "seed": seed, **keep}
        store = cache_teacher(teacher.logits, tokens[:-1], tempfile.mkdtemp(dir=folder), **settings)
        size = sum(path.stat().st_size for path in store.folder.iterdir()) / len(store)
        return size, lambda net, h, rows: sparse_distillation_loss(net.head(h), store[rows], temperature=TEMPERATURE)

    return {
        LABELS: (2, lambda net, h, rows: cross_entropy(net.head(h), tokens[rows + 1])),
        WHOLE: (2 * STATES, whole("forward_kl")),  # if it were stored, in float16
        REVERSE: (2 * STATES, whole("reverse_kl")),
        f"{DRAWS} draws": stored(draws=DRAWS),
        **{f"top {k} and the rest": stored(top_k=k) for k in TOPS},
    }


def train_student(tokens: Tensor, loss: Loss, seed: int) -> Network:
    torch.manual_seed(seed)
    student = Network(STUDENT_WIDTH)
    order = torch.cat([torch.randperm(STUDENT_TOKENS // WINDOW) for _ in range(STUDENT_PASSES)]).view(-1, BATCH)

    def of_batch(step: int) -> Tensor:
        rows = order[step][:, None] * WINDOW + torch.arange(WINDOW)
        return loss(student, student(tokens[rows]).flatten(0, 1), rows.flatten())

    train(student, len(order), STUDENT_RATE, of_batch)
    return student


@torch.no_grad()
def surprise(network: Network, tokens: Tensor) -> np.ndarray:
    """Nats a token, of every piece."""
    pieces = tokens[torch.arange(PIECES)[:, None] * (len(tokens) // PIECES) + torch.arange(PIECE + 1)]
    read, following = (x.reshape(-1, WINDOW) for x in (pieces[:, :-1], pieces[:, 1:]))
    found = nn.functional.cross_entropy(network.logits(read).mT, following, reduction="none")
    return found.view(PIECES, -1).mean(-1).double().numpy()


def resampled(nats: np.ndarray) -> np.ndarray:
    """The mean of nats (students, pieces), then as often with students and pieces drawn anew, for all the same."""
    draw = np.random.default_rng(0)
    students, pieces = (draw.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for n in (STUDENTS, PIECES))
    return np.r_[nats.mean(), ((students @ nats) * pieces).sum(-1)]


def with_interval(values: np.ndarray, digits: int = 0) -> str:
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return f"{values[0]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    torch.set_num_threads(1)  # the products are too small to gain from more
    seen, unseen = load_tokens()
    print(f"{len(seen)} tokens for the teacher, {STUDENT_TOKENS} of them for a student; {PIECES * PIECE} unseen ones")
    print(f"to be judged by. T = {TEMPERATURE:g}, labels count in the first line alone. 95 % intervals.\n")
    teacher = train_teacher(seen)
    nats, sizes = {}, {}
    for seed in range(STUDENTS):
        tokens = seen[seed * STUDENT_TOKENS :][: STUDENT_TOKENS + 1]
        with tempfile.TemporaryDirectory() as folder:
            for name, (size, loss) in lessons(teacher, tokens, folder, seed).items():
                nats.setdefault(name, []).append(surprise(train_student(tokens, loss, seed), unseen))
                sizes[name] = size
    found = {name: resampled(np.stack(each)) for name, each in nats.items()}
    best = resampled(np.stack([surprise(teacher, unseen)] * STUDENTS))
    show(found, best, sizes)
    law = softmax(teacher.logits(unseen[: PIECES * PIECE].view(-1, WINDOW)), TEMPERATURE).sort(descending=True).values
    known = " and ".join(f"{100 * law[..., :k].sum(-1).mean().item():.0f} %" for k in TOPS)
    print(f"\nThe teacher's top {' and '.join(map(str, TOPS))} have {known} of its probability; how it divides")
    print("the rest they do not tell. Draws do, at random and without bias.")


def show(found: dict[str, np.ndarray], best: np.ndarray, sizes: dict[str, float]) -> None:
    """Everything here is computed from the numbers, whatever they are."""
    print(f"{'learns from':<24}{'perplexity':<19}{'way to the teacher, %':<23}{'bytes a token':>13}")
    for name, nats in found.items():
        way = "0" if name == LABELS else with_interval(100 * (found[LABELS] - nats) / (found[LABELS] - best))
        print(f"{name:<24}{with_interval(np.exp(nats)):<19}{way:<23}{sizes[name]:>13.0f}")
    print(f"{'(the teacher itself)':<24}{with_interval(np.exp(best)):<19}100")
    print(f"\nNats a token behind the {WHOLE}:")
    for name in [name for name in found if name != WHOLE]:
        behind, share = with_interval(found[name] - found[WHOLE], 3), 100 * sizes[name] / sizes[WHOLE]
        print(f"  {name:<24}{behind:<24}for {share:5.1f} % of the bytes")
    order = sorted(found, key=lambda name: (sizes[name], found[name][0]))
    worth = [name for i, name in enumerate(order) if all(found[name][0] < found[other][0] for other in order[:i])]
    print(f"Best for their bytes: {', '.join(worth)}.")


if __name__ == "__main__":
    main()
