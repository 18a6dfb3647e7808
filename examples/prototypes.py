"""The temperature of data: classifiers by class means whose temperature is computed, on draws, digits and episodes.

What: rows of a class lie about its mean with variance sigma^2 in every direction. Then the logits of a new row are its
squared distances to the means over -2 sigma^2: the temperature of a classifier by prototypes is not a free choice. With
few rows the means are noise too, and `PrototypeClassifier` counts that in. Three tables:

    draws      many problems of which that is the law; scikit-learn's classifiers beside ours
    digits     handwritten digits, as pixels and as the hidden layer of a network, which obey no such law
    episodes   five digits that the network has never seen, one or five rows of each, temperatures by rule, learned on
               the digits it has seen, and from the usual grid

    T*         the temperature that new rows want on top, by maximum likelihood: 1 if the probabilities are right
    NLL        mean negative log-likelihood of new rows, in nats, without that; best is with it

Why: a temperature that follows from the rows needs no rows to tune it, and where new rows want another one, T* says how
far the rows are from what was assumed.

    python examples/prototypes.py
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier
from torch import Tensor
from torch.nn.functional import cross_entropy

from logitherm import fit_temperature
from logitherm.prototypes import FewShotHead, PrototypeClassifier, episode, prototype_logits, within_class_covariance
from logitherm.thermostat import LearnableTemperature

SEED = 0
PROBLEMS, TESTED = 60, 500
FEATURES, CLASSES, ROWS, APART = 50, 5, 20, 4.0
EPISODES, QUERIES, SHOTS = 400, 15, (1, 5)
Episodes = tuple[Tensor, Tensor, Tensor]
GRID = (0.1, 1.0, 16.0, 32.0, 64.0, 128.0)  # of FEAT


def main() -> None:
    torch.set_num_threads(1)  # small products
    rng = np.random.default_rng(SEED)
    print(
        f"Draws: {PROBLEMS} problems, {CLASSES} classes {APART:g} sigma apart, {ROWS} rows each, {FEATURES} features\n"
    )
    peers = {
        "NearestCentroid": NearestCentroid(),
        "LDA": LinearDiscriminantAnalysis(),
        "LDA, Ledoit-Wolf": LinearDiscriminantAnalysis("lsqr", shrinkage="auto"),
    }
    ours = {"prototypes, plug-in": PrototypeClassifier("plug_in"), "prototypes": PrototypeClassifier()}
    table({**peers, **ours}, [gaussians(rng) for _ in range(PROBLEMS)])

    images, digits = load_digits(return_X_y=True)
    order = rng.permutation(len(digits))
    images, digits = images[order] / 16, digits[order]
    hidden = embedding(images[:700], digits[:700])
    between = {"prototypes, between": PrototypeClassifier(spread="between")}
    white = {"prototypes, whitened": PrototypeClassifier(covariance="whitened", spread="between")}
    rows = {**peers, "prototypes": PrototypeClassifier(), **between, **white}
    for name, features in (("pixels", images[700:]), ("hidden layer of a network", hidden(images[700:]))):
        print(f"\nDigits, {name}: 200 rows, {features.shape[1]} features\n")
        part = (features[:200], digits[700:900], features[200:], digits[900:])
        table(rows, [part])
        print("\n" + PrototypeClassifier().check_assumption(*part[:2]).verdict)

    few_shots(images, digits)


def gaussians(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Rows and new rows of one problem."""
    means = APART / np.sqrt(2 * FEATURES) * rng.normal(size=(CLASSES, FEATURES))
    y, new = np.repeat(np.arange(CLASSES), ROWS), rng.integers(CLASSES, size=TESTED)
    return means[y] + rng.normal(size=(len(y), FEATURES)), y, means[new] + rng.normal(size=(TESTED, FEATURES)), new


def table(classifiers: dict[str, Any], problems: list[tuple[np.ndarray, ...]]) -> None:
    print(f"{'':22}{'T*':>6}{'NLL':>9}{'best':>9}{'right, %':>10}")
    for name, classifier in classifiers.items():
        logits = []
        for X, y, new, _ in problems:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of features that are constant, and probabilities of 0
                fitted = classifier.fit(X, y)
                z = fitted.logits(new) if hasattr(fitted, "logits") else fitted.predict_log_proba(new)
            logits.append(np.maximum(z, -1e4))
        z, labels = np.concatenate(logits), np.concatenate([problem[3] for problem in problems])
        fit = fit_temperature(z, labels)
        right = 100 * (z.argmax(axis=1) == labels).mean()
        print(f"{name:22}{fit.temperature:6.2f}{fit.nll_before:9.3f}{fit.nll_after:9.3f}{right:10.1f}")


def embedding(X: np.ndarray, y: np.ndarray) -> Any:
    """The hidden layer of a network that was trained to tell these digits."""
    network = MLPClassifier((64,), max_iter=60, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(X, y)
    return lambda x: np.maximum(x @ network.coefs_[0] + network.intercepts_[0], 0)


def few_shots(images: np.ndarray, digits: np.ndarray) -> None:
    """Episodes of digits 5 to 9 for a network that knows 0 to 4, and of Gaussian clusters for comparison."""
    known = digits < 5
    half = np.arange(known.sum()) < 450
    seen = images[known]
    hidden = embedding(seen[half], digits[known][half])
    base = (as_tensor(hidden(seen[~half])), torch.tensor(digits[known][~half]))  # that the network was not fitted to
    novel = (as_tensor(hidden(images[~known])), torch.tensor(digits[~known] - 5))
    generator = torch.Generator().manual_seed(SEED)
    clusters = [gaussian_clusters(generator) for _ in range(2)]
    print(f"\nEpisodes: {EPISODES} of 5 classes, {QUERIES} queries of each; NLL, and in brackets T (mean of a rule)\n")
    names = ("rule", "between", "2 sigma^2", "T = 1", "grid", "learned")
    print(f"{'':26}" + "".join(f"{name:>16}" for name in names) + "   learned / between")
    for name, learn, test in (("Gaussian clusters", *clusters), ("digits 5 to 9", base, novel)):
        for shots in SHOTS:
            known_spread = {"covariance": within_class_covariance(*learn)} if shots == 1 else {}
            practice, real = (episodes(*rows, shots, generator) for rows in (learn, test))
            label = f"{name}, {shots} shot" + "s" * (shots > 1)
            print(f"{label:26}{compare(practice, real, known_spread)}")


def compare(practice: Episodes, real: Episodes, known: dict[str, Tensor]) -> str:
    """NLL of real episodes at several temperatures; what has to be chosen is chosen on practice."""
    support, queries, labels = practice
    between = mean_temperature(practice, known, spread="between")
    head = FewShotHead(LearnableTemperature(between), **known)
    optimizer = torch.optim.LBFGS(head.parameters(), line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(head(queries, support).flatten(0, 1), labels.flatten())
        value.backward()
        return value

    optimizer.step(loss)
    learned = head.temperature.resolve().item()
    plain = {"estimate": "plug_in"}
    grid = min(GRID, key=lambda t: nll(practice, known, t, **plain))
    rules = ({}, {"spread": "between"}, plain)
    cells = [(nll(real, known, **how), mean_temperature(real, known, **how)) for how in rules]
    cells += [(nll(real, known, t, **how), t) for t, how in ((1.0, plain), (grid, plain), (learned, {}))]
    return "".join(f"{value:8.3f} ({t:.3g})".rjust(16) for value, t in cells) + f"{learned / between:20.2f}"


def nll(rows: Episodes, known: dict[str, Tensor], temperature: Any = None, **how: str) -> float:
    support, queries, labels = rows
    z = prototype_logits(queries, support, temperature, **known, **how)
    return cross_entropy(z.flatten(0, 1), labels.flatten()).item()


def mean_temperature(rows: Episodes, known: dict[str, Tensor], **how: str) -> float:
    return episode(rows[0], **known, **how).temperature.mean().item()


def episodes(features: Tensor, labels: Tensor, shots: int, generator: torch.Generator) -> Episodes:
    """Support (episodes, 5, shots, features) of 5 classes at random, queries (episodes, 75, features), their labels."""
    support, queries = [], []
    groups = [features[labels == k] for k in labels.unique()]
    for _ in range(EPISODES):
        chosen = [groups[i] for i in torch.randperm(len(groups), generator=generator)[:5]]
        rows = [rows[torch.randperm(len(rows), generator=generator)[: shots + QUERIES]] for rows in chosen]
        support.append(torch.stack([each[:shots] for each in rows]))
        queries.append(torch.cat([each[shots:] for each in rows]))
    answers = torch.arange(5).repeat_interleave(QUERIES).expand(EPISODES, -1)
    return torch.stack(support), torch.stack(queries), answers


def gaussian_clusters(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    labels = torch.arange(60).repeat_interleave(30)
    means = 0.8 * torch.randn(60, 64, generator=generator)
    return means[labels] + 2 * torch.randn(len(labels), 64, generator=generator), labels


def as_tensor(x: np.ndarray) -> Tensor:
    return torch.tensor(x, dtype=torch.float32)


if __name__ == "__main__":
    main()
