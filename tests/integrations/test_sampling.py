"""A fixed sample, a model left as it was, and a missing framework."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.utils.data import TensorDataset

from logitherm.integrations.sampling import evaluating, fixed_sample


def test_the_sample_is_spread_and_fixed():
    dataset = TensorDataset(torch.arange(100))
    assert fixed_sample(dataset, 5).indices == [0, 24, 49, 74, 99]
    assert fixed_sample(dataset, 1000).indices == list(range(100))
    with pytest.raises(TypeError, match="dataset: must have a length and rows by number; got generator"):
        fixed_sample((i for i in range(3)), 2)


def test_modes_come_back_one_by_one():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(), torch.nn.BatchNorm1d(2))
    model.train()
    model[2].eval()  # frozen on purpose
    with evaluating(model):
        assert not any(module.training for module in model.modules()) and not torch.is_grad_enabled()
    assert [module.training for module in model] == [True, True, False] and torch.is_grad_enabled()


@pytest.mark.parametrize("package", ["lightning", "transformers"])
def test_a_missing_framework_says_the_pip_line(package):
    code = f"import sys; sys.modules['{package}'] = None; import logitherm.integrations.{package}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"needs {package}: pip install {package}" in run.stderr
