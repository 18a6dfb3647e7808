"""PyTorch is loaded for episodes alone."""

import subprocess
import sys

import pytest

import logitherm.prototypes


def test_the_classifier_needs_no_torch():
    program = (
        "import sys, numpy as np; from logitherm.prototypes import PrototypeClassifier as P;"
        "P().fit(np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2).predict_proba(np.zeros((1, 3)));"
        "print('torch' in sys.modules); import logitherm.prototypes as p; p.episode; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_public_names():
    for name in logitherm.prototypes.__all__:
        assert getattr(logitherm.prototypes, name).__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        logitherm.prototypes.nothing  # noqa: B018
