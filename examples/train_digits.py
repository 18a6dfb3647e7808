"""Train the overconfident digit reader whose logits ship with logitherm.

What: a small network learns 297 of scikit-learn's 1797 handwritten digits, shrunk to 4 x 4
pixels, until it knows every one of them by heart. The other 1500 images, which it never saw,
are split into a validation half (to fit a temperature) and a test half (to judge it), and the
raw logits and labels of each half are what the package carries.

Why: temperature calibration is best shown on a model that is wrong often enough for its
confidence to matter. Memorising few coarse images gives about one error in ten and a network
far surer than that, the ordinary fate of a classifier trained past its first perfect epoch.

The seed fixes the split, the first weights and the order of the batches. A different BLAS may
still round differently on the way, so a rerun elsewhere can differ in the last digits.

    python examples/train_digits.py                            # print the numbers
    python examples/train_digits.py --out src/logitherm/data   # and write the two files
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import logitherm

SEED = 0
TRAIN, HALF = 297, 750
EPOCHS = 250


def load_images() -> tuple[np.ndarray, np.ndarray]:
    """Return the digits as (1797, 16) pixels in [0, 1] and their labels.

    Averaging 2 x 2 blocks keeps a digit legible but no longer certain, so that the network
    errs for a reason and not only for want of examples.
    """
    images, labels = load_digits(return_X_y=True)
    coarse = images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)) / 16.0
    return coarse.reshape(-1, 16), labels


def train(images: np.ndarray, labels: np.ndarray) -> MLPClassifier:
    """Fit a network without weight decay or early stopping: it may memorise."""
    network = MLPClassifier(
        hidden_layer_sizes=(128,),
        alpha=0.0,
        batch_size=32,
        learning_rate_init=0.01,
        max_iter=EPOCHS,
        tol=0.0,
        n_iter_no_change=EPOCHS,
        random_state=SEED,
    )
    with warnings.catch_warnings():
        # The epochs are a choice here, not a failure to converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(images, labels)


def forward(network: MLPClassifier, images: np.ndarray) -> np.ndarray:
    """Return the logits, which `predict_proba` would hide behind a softmax."""
    hidden = images
    for weights, bias in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
        hidden = np.maximum(hidden @ weights + bias, 0.0)
    return (hidden @ network.coefs_[-1] + network.intercepts_[-1]).astype(np.float32)


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-likelihood in nats, written out to stay independent."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(labels)), labels]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - chosen))


def make_splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return {'val': (logits, labels), 'test': (logits, labels)} of images never trained on."""
    images, labels = load_images()
    order = np.random.default_rng(SEED).permutation(len(labels))
    seen, val, test = np.split(order, [TRAIN, TRAIN + HALF])
    network = train(images[seen], labels[seen])
    return {
        name: (forward(network, images[rows]), labels[rows].astype(np.int64))
        for name, rows in (("val", val), ("test", test))
    }


def main(arguments: list[str] | None = None) -> None:
    """Train, print how the network fares on unseen images, and write the files if asked to."""
    parser = argparse.ArgumentParser(description="Train the digit reader of logitherm.")
    parser.add_argument("--out", type=Path, help="folder to write digits.{val,test}.npz into")
    out = parser.parse_args(arguments).out

    splits = make_splits()
    for name, (logits, labels) in splits.items():
        accuracy = float(np.mean(logits.argmax(axis=1) == labels))
        print(f"{name:>4}: n {len(labels)}, accuracy {accuracy:.3f}, NLL {nll(logits, labels):.4f}")
        if name == "val":
            fit = logitherm.fit_temperature(logits, labels)
            print(f"      fitted T {fit.temperature:.4f} +- {fit.standard_error:.4f}, NLL there {fit.nll_after:.4f}")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(out / f"digits.{name}.npz", logits=logits, labels=labels)


if __name__ == "__main__":
    main()
