"""How much of regularisation is a temperature? The L2 path of a logistic regression, before and after scaling.

What: logistic regressions with C from 0.001 to 10 000 learn half of scikit-learn's handwritten digits. For each the
table shows its temperature as seen from the best one, the share of the difference that this temperature explains, the
angle that it does not, and the NLL of images it has not seen, as it is and with a temperature fitted on 300 others. The
last two columns are the two sides of an identity that holds wherever L2 has come to its end: what the training rows
ask for, and what the penalty allows. A network of three layers without biases, trained to its end, shows it again.

Why: weight decay makes logits smaller, which is a temperature, and turns them, which is not. The first part can be had
or undone by one number after training; what a strength is worth shows only once that number is set.

    python examples/regularisation.py
"""

from __future__ import annotations

import math

import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from logitherm.gauge import (
    head_difference,
    network_stationarity,
    regression_stationarity,
    regularisation_path,
)

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e4)  # C, the inverse of the penalty
VALIDATION = 300
DECAY, STEPS, SHOWN = 5e-3, 3000, (0, 30, 100, 300, 1000, 3000)


def l2_path() -> None:
    """Fit every C, print the table, and say what is seen."""
    images, labels = load_digits(return_X_y=True)
    seen, unseen, known, hidden = train_test_split(images / 16.0, labels, test_size=0.5, random_state=0)
    models = [LogisticRegression(C=c, tol=1e-9, max_iter=20_000).fit(seen, known) for c in STRENGTHS]
    logits = [model.decision_function(unseen) for model in models]
    path = regularisation_path(
        [z[VALIDATION:] for z in logits],
        hidden[VALIDATION:],
        STRENGTHS,
        fit_logits=[z[:VALIDATION] for z in logits],
        fit_labels=hidden[:VALIDATION],
    )
    best = path.points[path.reference].strength

    print(f"Logistic regression on {len(seen)} digits; NLL of {len(unseen) - VALIDATION} others; T from {VALIDATION}\n")
    print(
        f"{'C':>8}{f'T from C={best:g}':>14}{'share %':>9}{'angle':>7}{'NLL':>8}{'fitted T':>10}{'NLL at T':>10}",
        end="",
    )
    print(f"{'removed %':>11}{'sum of score':>15}{'||W||^2 / C':>13}")
    for point, model, removed in zip(path.points, models, path.removable, strict=True):
        thermal, sides = point.thermal, regression_stationarity(model, seen, known)
        share = f"{100 * thermal.share:>9.1f}" if not math.isnan(thermal.share) else f"{'-':>9}"
        print(f"{point.strength:>8g}{thermal.temperature:>14.3f}{share}{thermal.angle:>7.1f}", end="")
        print(f"{point.nll_before:>8.3f}{point.fit.temperature:>10.3f}{point.nll_after:>10.3f}", end="")
        print(f"{100 * removed:>11.1f}{sides.n * sides.score:>15.5f}{sides.n * sides.expected:>13.5f}")

    weak, strong = models[-1], models[1]
    apart = head_difference(weak, strong)
    print(f"\n{path.verdict}")
    print(
        f"The weights at C = {strong.C:g} are {apart.temperature:.0f} times as hot as at C = {weak.C:g}, and "
        f"{apart.weight_angle:.0f} degrees away from them: no temperature makes one of the other."
    )


def balanced_network() -> None:
    """Train a network of three layers until its weights balance what its rows ask for."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:600]
    x, y = torch.tensor(images / 16.0, dtype=torch.float32)[order], torch.tensor(labels)[order]
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in ((64, 32), (32, 32), (32, 10)):
        layers += [torch.nn.Linear(inputs, outputs, bias=False), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2, momentum=0.9, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)

    print(f"\nThree layers without biases on 600 digits, weight decay {DECAY:g}\n")
    print(f"{'step':>8}{'rows ask for':>14}   weight decay gives, layer by layer")
    for step in range(STEPS + 1):
        if step in SHOWN:
            found = network_stationarity(network, x, y, weight_decay=DECAY)
            sides = "".join(f"{layer.expected:>10.5f}" for layer in found.layers)
            print(f"{step:>8}{found.score:>14.5f}{sides}")
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
        schedule.step()
    print(f"\n{found.verdict}")


def main() -> None:
    torch.set_num_threads(1)  # so small a network gains nothing from more
    l2_path()
    balanced_network()


if __name__ == "__main__":
    main()
