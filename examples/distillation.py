"""The teacher's dark knowledge: a small network learns digits from a large one's hints, at several temperatures.

What: a teacher reads scikit-learn's handwritten digits. Students of 16 hidden units see 60 of them, and learn either
the labels or the teacher's probabilities at T = 1, 2, 4, 8, 20; 40 students at a time, each with rows and weights of
its own. The table shows the accuracy and NLL on rows that neither saw. Then the same without a single 3 among the rows:
what the hints say of threes is all that a student can know of them. The two pictures are the hints themselves: how
probable the teacher holds each digit (columns) where another is written (rows), the right one left out.

Why: at T = 1 the teacher is nearly sure and says little more than the label. Heated, it says that this 7 looks like a 1
and not at all like an 8, which is most of what it knows (Hinton, Vinyals and Dean, 2015).

    python examples/distillation.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from logitherm import softmax
from logitherm.distillation import distillation_loss

SEED = 0
TEACHER_ROWS, STUDENT_ROWS, STUDENTS = 1000, 60, 40
TEACHER_WIDTH, STUDENT_WIDTH = 256, 16
TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 20.0)
LEFT_OUT = 3
SHADES = " .:-=+*#%@"


class Networks:
    """Several networks with one hidden layer each, side by side in one product."""

    def __init__(self, count: int, width: int, generator: torch.Generator) -> None:
        def draw(*shape: int, spread: float) -> Tensor:
            return (spread * torch.randn(count, *shape, generator=generator)).requires_grad_()

        self.parameters = [
            draw(64, width, spread=math.sqrt(2 / 64)),
            draw(1, width, spread=0.0),
            draw(width, 10, spread=math.sqrt(1 / width)),
            draw(1, 10, spread=0.0),
        ]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits (networks, rows, 10) of pixels (networks or 1, rows, 64)."""
        into, shift, out, bias = self.parameters
        return torch.relu(pixels @ into + shift) @ out + bias

    def learn(self, loss: Callable[[], Tensor], steps: int, decay: float = 0.0) -> None:
        optimizer = torch.optim.AdamW(self.parameters, lr=0.01, weight_decay=decay)
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()


def main() -> None:
    torch.set_num_threads(1)  # small products
    images, digits = load_digits(return_X_y=True)
    generator = torch.Generator().manual_seed(SEED)
    order = torch.randperm(len(digits), generator=generator)
    pixels, labels = torch.tensor(images, dtype=torch.float32)[order] / 16, torch.tensor(digits)[order]
    seen, test = slice(0, TEACHER_ROWS), slice(TEACHER_ROWS, None)
    teacher = Networks(1, TEACHER_WIDTH, generator)
    teacher.learn(lambda: cross_entropy(teacher(pixels[None, seen]), labels[None, seen]), 300, decay=0.1)
    with torch.no_grad():
        hints = teacher(pixels[None])[0]
    print(f"Teacher: {100 * accuracy(hints[None, test], labels[test])[0].item():.1f} % of the test rows.")

    few = torch.stack([torch.randperm(TEACHER_ROWS, generator=generator)[:STUDENT_ROWS] for _ in range(STUDENTS)])
    print(f"\nStudents of {STUDENT_ROWS} rows, means of {STUDENTS} with 95 % intervals:\n")
    compare(pixels, labels, hints, few, test)

    known = torch.arange(TEACHER_ROWS)[labels[seen] != LEFT_OUT]
    chosen = [known[torch.randperm(len(known), generator=generator)[:STUDENT_ROWS]] for _ in range(STUDENTS)]
    print(f"\nThe same without a single {LEFT_OUT} among the rows, on the {LEFT_OUT}s of the test rows:\n")
    threes = torch.arange(len(labels))[test][labels[test] == LEFT_OUT]
    compare(pixels, labels, hints, torch.stack(chosen), threes)

    print("\nWhat the teacher holds for possible, at T = 1 and T = 4:\n")
    draw(hints[seen], labels[seen])


def compare(pixels: Tensor, labels: Tensor, hints: Tensor, rows: Tensor, test: slice | Tensor) -> None:
    """A line for labels and for hints at every temperature; every student has rows (students, n) of its own."""
    print(f"{'learns':>10}  {'accuracy, %':>16}  {'NLL, nats':>18}")
    for t in (None, *TEMPERATURES):
        students = Networks(STUDENTS, STUDENT_WIDTH, torch.Generator().manual_seed(SEED + 1))
        loss = partial(student_loss, students, pixels[rows], labels[rows], hints[rows], t)
        students.learn(loss, 300)
        with torch.no_grad():
            found = students(pixels[None, test])
        right, wrong = 100 * accuracy(found, labels[test]), nll(found, labels[test])
        print(f"{'labels' if t is None else f'T = {t:g}':>10}  {spread(right, 1):>16}  {spread(wrong, 3):>18}")


def student_loss(students: Networks, pixels: Tensor, labels: Tensor, hints: Tensor, t: float | None) -> Tensor:
    z = students(pixels)
    return cross_entropy(z, labels) if t is None else distillation_loss(z, hints, temperature=t)


def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(z.flatten(0, 1), y.flatten())


def accuracy(z: Tensor, y: Tensor) -> Tensor:
    return (z.argmax(-1) == y).float().mean(-1)


def nll(z: Tensor, y: Tensor) -> Tensor:
    return -torch.log_softmax(z, -1).gather(-1, y.expand(len(z), -1)[..., None])[..., 0].mean(-1)


def spread(values: Tensor, decimals: int) -> str:
    """A mean and the half width of its interval."""
    half = 1.96 * values.std().item() / math.sqrt(len(values))
    return f"{values.mean().item():.{decimals}f} ± {half:.{decimals}f}"


def draw(z: Tensor, y: Tensor) -> None:
    """Mean probability of the digits that are not written, in ten shades, the darkest of both pictures the same."""
    pictures = []
    for t in (1.0, 4.0):
        p = softmax(z, t)
        mean = torch.stack([p[y == digit].mean(0) for digit in range(10)])
        pictures.append(mean.fill_diagonal_(0.0))
    darkest = max(picture.max().item() for picture in pictures)
    print("     " + "   ".join("".join(f"{digit} " for digit in range(10)) for _ in pictures))
    for digit in range(10):
        rows = ["".join(2 * SHADES[int(9 * v / darkest)] for v in picture[digit].tolist()) for picture in pictures]
        print(f"  {digit}  " + "   ".join(rows))
    print(f"\n  {SHADES[-1]} is {100 * darkest:.1f} %")


if __name__ == "__main__":
    main()
