"""What the file of a calibrator says of its origin."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json

import numpy as np
import torch

import logitherm
from logitherm.calibration import TemperatureScaling, calibrate, load_calibrator
from logitherm.calibration.provenance import data_hash


def simulated(n=300):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(n, 4))
    return 2 * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


def test_the_file_says_where_the_calibrator_comes_from(tmp_path):
    z, labels = simulated()
    study = calibrate(z, labels, bootstrap=50, name="mine", compare_methods=False)
    study.calibrator.save(tmp_path / "c.json")
    found = json.loads((tmp_path / "c.json").read_text())["provenance"]
    assert found["logitherm"] == logitherm.__version__ and found["name"] == "mine"
    assert found["fitted_to"] == {"sha256": data_hash(z, labels), "rows": 300, "classes": 4}
    assert found["after"]["nll"]["value"] == study.after.nll.value
    assert found["before"]["ece"]["low"] < found["before"]["ece"]["high"]
    back = load_calibrator(tmp_path / "c.json")
    assert back.provenance_ == found and back.to_json() == study.calibrator.to_json()


def test_a_calibrator_fitted_alone_has_none(tmp_path):
    fitted = TemperatureScaling().fit(*simulated())
    assert fitted.provenance_ is None and "provenance" not in json.loads(fitted.to_json())


def test_it_does_not_outlive_its_fit():
    z, labels = simulated()
    calibrator = calibrate(z, labels, bootstrap=20, compare_methods=False).calibrator
    assert calibrator.provenance_ is not None
    assert calibrator.fit(z[:100], labels[:100]).provenance_ is None


def test_the_hash_is_of_the_bytes_whatever_the_layout():
    z, labels = simulated()
    due = hashlib.sha256(z.tobytes() + labels.astype(np.int64).tobytes()).hexdigest()
    assert data_hash(z, labels) == data_hash(np.asfortranarray(z), labels) == due
    assert data_hash(torch.from_numpy(z), torch.from_numpy(labels)) == due
    assert data_hash(z.astype(np.float32), labels) != due


def test_a_source_tree_that_is_not_installed_has_no_version(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("logitherm.calibration.provenance.version", missing)
    study = calibrate(*simulated(100), bootstrap=10, compare_methods=False)
    assert study.calibrator.provenance_["logitherm"] == "unknown"
