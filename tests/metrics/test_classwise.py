from __future__ import annotations

import numpy as np
import pytest

from logitherm.metrics import classwise, classwise_ece
from logitherm.metrics.classwise import classwise_errors
from logitherm.metrics.rows import as_inputs


def test_many_sets_of_weights_are_many_calls(make_case):
    case = make_case(400, 30, scale=3.0)
    sets = np.random.default_rng(0).poisson(1.0, size=(400, 7)).astype(float)
    errors = classwise_errors(as_inputs(case.logits, case.labels), 15, 7, lambda rows: sets[rows])
    expected = [classwise_ece(case.logits, case.labels, weights=w) for w in sets.T]
    assert errors == pytest.approx(expected, rel=1e-12)


def test_the_sparse_part_runs_and_blocks_add_up(make_case, monkeypatch, naive):
    calls = []
    product = classwise._sparse_product
    monkeypatch.setattr(classwise, "_sparse_product", lambda *a: calls.append(len(a[0])) or product(*a))
    monkeypatch.setattr(classwise, "row_blocks", lambda inputs, **_: blocks(inputs, values=160))
    from logitherm.metrics.rows import row_blocks as blocks

    case = make_case(300, 8)
    assert classwise_ece(case.logits, case.labels, weights=case.weights) == pytest.approx(naive.classwise(case))
    assert len(calls) == 15
    assert min(calls) >= 20  # every row has an entry above the lowest bin


def test_a_set_without_weight_says_nothing():
    errors = classwise_errors(as_inputs(np.zeros((2, 2)), [0, 1]), 3, 2, lambda rows: np.array([[0.0, 1.0]] * 2))
    assert np.isnan(errors).tolist() == [True, False]


def test_entries_of_the_lowest_bin_alone():
    z = np.zeros((4, 20))  # every probability is 1/20
    assert classwise_ece(z, [0, 0, 1, 1]) == pytest.approx((2 * 0.45 + 18 * 0.05) / 20)
