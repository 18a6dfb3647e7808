"""The guard of labels and weights (logitherm/_labels.py)."""

from __future__ import annotations

import numpy as np
import pytest

from logitherm._labels import as_labels, as_weights


@pytest.mark.parametrize("labels", [[0, 2, 1], (0, 2, 1), np.array([0, 2, 1], np.uint8), np.array([0, 2, 1], ">i4")])
def test_labels_of_any_integer_kind(labels):
    flat = as_labels(labels, (3,), 3)
    assert flat.dtype == np.int64
    assert flat.tolist() == [0, 2, 1]


def test_torch_labels_and_batches():
    torch = pytest.importorskip("torch")
    assert as_labels(torch.tensor([[0, 1], [2, 0]]), (2, 2), 3).tolist() == [0, 1, 2, 0]
    assert as_labels(2, (), 3).tolist() == [2]
    assert as_labels([], (0,), 3).tolist() == []
    weights = as_weights(torch.tensor([[1.0, 0.5]], dtype=torch.bfloat16), (1, 2))
    assert weights.dtype == np.float64
    assert weights.tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("labels", "shape", "kind", "message"),
    [
        (
            [0.0, 1.0],
            (2,),
            TypeError,
            r"labels: must be integers; got shape \(2,\), float64; convert with int64",
        ),
        ([True, False], (2,), TypeError, "labels: must be integers; got shape .2,., bool"),
        (["a", "b"], (2,), TypeError, "labels: must be an array of numbers"),
        ([0, 5], (2,), ValueError, r"labels: must lie in \[0, 3\); row 1 has 5 \(1 such in all\)"),
        ([-100, 0], (2,), ValueError, "row 0 has -100"),
        ([[0, 1], [3, 3]], (2, 2), ValueError, r"row \(1, 0\) has 3 \(2 such in all\)"),
        (np.array([2**63], np.uint64), (1,), ValueError, "row 0 has 9223372036854775808"),
        ([0], (2,), ValueError, r"labels: must have the batch shape \(2,\); got shape \(1,\), int64; give one label"),
        (np.eye(3, dtype=int)[:2], (2,), ValueError, "take the argmax of one-hot rows"),
    ],
)
def test_label_errors(labels, shape, kind, message):
    with pytest.raises(kind, match=message):
        as_labels(labels, shape, 3)


@pytest.mark.parametrize(
    ("weights", "kind", "message"),
    [
        ([1.0, np.nan], ValueError, "weights: must be finite and not negative; row 1 has nan"),
        ([1.0, np.inf], ValueError, "row 1 has inf"),
        ([-1, 1], ValueError, "row 0 has -1.0"),
        ([0, 0], ValueError, "weights: must not all be zero and must have a finite sum; got the sum 0.0"),
        ([1e308, 1e308], ValueError, "got the sum inf"),
        ([1], ValueError, r"weights: must have the batch shape \(2,\)"),
        (np.array([1j, 1]), TypeError, "weights: must be real numbers"),
        (["a", "b"], TypeError, "weights: must be an array of numbers"),
    ],
)
def test_weight_errors(weights, kind, message):
    with pytest.raises(kind, match=message):
        as_weights(weights, (2,))


def test_weights_of_any_kind():
    assert as_weights(None, (2,)) is None
    assert as_weights([True, False], (2,)).tolist() == [1.0, 0.0]
    assert as_weights(3, ()).tolist() == [3.0]
