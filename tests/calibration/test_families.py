"""What every calibrator promises, whatever its temperature depends on."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

import logitherm
from logitherm.calibration import METHODS, TemperatureScaling, load_calibrator
from logitherm.metrics import nll

FAMILIES = pytest.mark.parametrize("family", METHODS.values(), ids=METHODS)


def simulated(n=1500, classes=4, seed=0, temperature=2.0):
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=(n, classes))
    return temperature * z, (z + rng.gumbel(size=z.shape)).argmax(axis=1)


LOGITS, LABELS = simulated()


@FAMILIES
def test_probabilities_are_those_of_the_calibrated_logits(family):
    fitted = family().fit(LOGITS, LABELS)
    p = fitted.predict_proba(LOGITS)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(p, logitherm.softmax(fitted.transform(LOGITS)), rtol=1e-9, atol=1e-15)
    np.testing.assert_array_equal(fitted.predict(LOGITS), p.argmax(axis=1))
    assert nll(fitted.transform(LOGITS), LABELS) < nll(LOGITS, LABELS)
    assert fitted.n_ == len(LABELS) and fitted.n_features_in_ == 4


@FAMILIES
def test_where_predictions_are_kept_they_are(family):
    rng = np.random.default_rng(1)
    z = LOGITS + [1.0, 0, 0, -1]
    labels = (z / 3 * [1.5, 1, 1, 0.5] + [0, 2.0, 0, 0] + rng.gumbel(size=z.shape)).argmax(axis=1)
    same = np.array_equal(family().fit(z, labels).predict(z), z.argmax(axis=1))
    assert same == family.keeps_predictions


@FAMILIES
def test_no_richer_family_is_worse_than_one_temperature_on_its_own_rows(family):
    single = nll(TemperatureScaling().fit(LOGITS, LABELS).transform(LOGITS), LABELS)
    assert nll(family().fit(LOGITS, LABELS).transform(LOGITS), LABELS) <= single + 1e-9


@FAMILIES
def test_files(family, tmp_path):
    fitted = family().fit(LOGITS, LABELS)
    fitted.save(tmp_path / "c.json")
    for back in (family.load(tmp_path / "c.json"), load_calibrator(tmp_path / "c.json")):
        assert type(back) is family
        np.testing.assert_array_equal(back.predict_proba(LOGITS), fitted.predict_proba(LOGITS))
    values = json.loads((tmp_path / "c.json").read_text())
    assert values["format"] == f"logitherm.{family.__name__}/1"
    for name in values.keys() - {"format"}:
        broken = {key: value for key, value in values.items() if key != name}
        (tmp_path / "broken.json").write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=rf"must be a calibrator saved by .* \(no '{name}'\)"):
            family.load(tmp_path / "broken.json")
    for name, value in (("temperature", -1.0), ("temperature", "2"), ("classes", 0), ("n", 1.5)):
        (tmp_path / "broken.json").write_text(json.dumps(values | {name: value}))
        with pytest.raises(ValueError, match="must be a calibrator saved by"):
            family.load(tmp_path / "broken.json")


def test_a_file_of_another_family_is_refused(tmp_path):
    TemperatureScaling().fit(LOGITS, LABELS).save(tmp_path / "c.json")
    with pytest.raises(ValueError, match=r"saved by VectorScaling \(format is not logitherm.VectorScaling/1\)"):
        METHODS["vector"].load(tmp_path / "c.json")
    (tmp_path / "c.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="saved by a calibrator"):
        load_calibrator(tmp_path / "c.json")


@FAMILIES
def test_torch_and_half_types(family):
    fitted = family().fit(LOGITS, LABELS)
    z = torch.from_numpy(LOGITS)
    again = family().fit(z, torch.from_numpy(LABELS))
    p = again.predict_proba(z)
    assert isinstance(p, torch.Tensor) and isinstance(again.transform(z), torch.Tensor)
    np.testing.assert_allclose(p.numpy(), fitted.predict_proba(LOGITS), rtol=1e-6, atol=1e-9)
    assert fitted.predict_proba(z.to(torch.bfloat16)).dtype == torch.bfloat16
    assert fitted.predict_proba(LOGITS.astype(np.float16)).dtype == np.float16
    assert fitted.transform(LOGITS.astype(np.float32)).dtype == np.float32


@FAMILIES
def test_tensors_that_require_gradients_are_taken_without_a_warning(family):
    torch = pytest.importorskip("torch", reason="tensors are torch's")
    z, labels = simulated()
    tensor = torch.tensor(z, requires_grad=True)
    torch.set_warn_always(True)  # it warns once a process else, and another test may have been the first
    try:
        model = family().fit(tensor, torch.tensor(labels))
        calibrated = model.transform(tensor)
    finally:
        torch.set_warn_always(False)
    assert calibrated.requires_grad
    assert calibrated.detach().numpy() == pytest.approx(family().fit(z, labels).transform(z), rel=1e-6, abs=1e-9)


@FAMILIES
def test_a_weight_is_a_number_of_copies(family):
    weights = np.random.default_rng(1).integers(0, 3, len(LABELS))
    weighted = family().fit(LOGITS, LABELS, sample_weight=weights)
    repeated = family().fit(np.repeat(LOGITS, weights, axis=0), np.repeat(LABELS, weights))
    np.testing.assert_allclose(weighted.predict_proba(LOGITS), repeated.predict_proba(LOGITS), atol=2e-4)


@FAMILIES
def test_scikit_learn_takes_it(family):
    assert clone(family(zero_labels="exclude")).zero_labels == "exclude"
    assert make_pipeline(family()).fit(LOGITS, LABELS).predict_proba(LOGITS).shape == LOGITS.shape
    with pytest.raises(NotFittedError):
        family().predict_proba(LOGITS)


# -- what data can be like -------------------------------------------------------------------------------


def sound(p):
    return bool(np.all(np.isfinite(p)) and np.all(p >= 0) and np.allclose(p.sum(axis=1), 1))


@FAMILIES
@pytest.mark.parametrize(
    "data",
    {
        "separable": (LOGITS, LOGITS.argmax(axis=1)),
        "without signal": (LOGITS, LOGITS.argmin(axis=1)),
        "constant": (np.zeros((60, 4)), LABELS[:60]),
        "fewer rows than classes": simulated(6, 20),
        "a class never seen": (LOGITS[LABELS > 0], LABELS[LABELS > 0]),
        "one label only": (LOGITS, np.full(len(LABELS), 2)),
        "one row": (LOGITS[:1], LABELS[:1]),
        "one class": (np.zeros((20, 1)), np.zeros(20, dtype=int)),
        "tiny": (1e-6 * LOGITS, LABELS),
        "huge": (1e6 * LOGITS, LABELS),
        "float32": (LOGITS.astype(np.float32), LABELS),
    }.items(),
    ids=lambda item: item[0],
)
def test_any_data_gives_sound_probabilities(family, data, tmp_path):
    logits, labels = data[1]
    fitted = family().fit(logits, labels)
    assert sound(fitted.predict_proba(logits).astype(np.float64))
    fitted.save(tmp_path / "c.json")
    np.testing.assert_array_equal(family.load(tmp_path / "c.json").predict_proba(logits), fitted.predict_proba(logits))


RNG = np.random.default_rng(5)
LITTLE = 2 * RNG.normal(size=(60, 4))
DRAWN = (LITTLE + RNG.gumbel(size=LITTLE.shape)).argmax(axis=1)
HARD = {  # rows, labels, and the bound that is due, None for any optimum in between
    "separable": (LITTLE, LITTLE.argmax(axis=1), "zero"),
    "labels at the smallest logit": (LITTLE, LITTLE.argmin(axis=1), "infinite"),
    "constant logits": (np.ones((60, 4)), DRAWN, "infinite"),
    "one class": (np.ones((20, 1)), np.zeros(20, dtype=int), "infinite"),
    "a class without rows": (LITTLE, np.where(DRAWN == 3, 0, DRAWN), None),
    "fewer rows than classes": (RNG.normal(size=(5, 20)), np.arange(5), None),
    "large logits": (1e30 * LITTLE, DRAWN, None),
}


@FAMILIES
@pytest.mark.parametrize("case", HARD)
def test_what_has_no_optimum_is_said_and_what_has_is_found(family, case):
    z, labels, bound = HARD[case]
    fitted = family().fit(z, labels)
    assert fitted.at_bound_ == bound
    assert (fitted.temperature_ == 0) == (bound == "zero") and math.isinf(fitted.temperature_) == (bound == "infinite")
    p = fitted.predict_proba(z)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    before = float(nll(z, labels))
    assert nll(np.log(np.maximum(p, 1e-300)), labels) <= before + 1e-9


@FAMILIES
def test_a_bound_in_a_file_agrees_with_the_temperature(family, tmp_path):
    values = json.loads(family().fit(LOGITS, LABELS).to_json())
    for bound in ("banana", "zero"):
        (tmp_path / "c.json").write_text(json.dumps(values | {"at_bound": bound}))
        with pytest.raises(ValueError, match=f"with at_bound '{bound}'"):
            family.load(tmp_path / "c.json")


@FAMILIES
def test_forbidden_classes_stay_forbidden(family):
    z = LOGITS.copy()
    masked = np.random.default_rng(2).random(z.shape) < 0.2
    masked[np.arange(len(z)), LABELS] = False
    z[masked] = -math.inf
    if family.__name__ in ("StructuredMatrixScaling", "DirichletCalibration"):
        with pytest.raises(ValueError, match="logits: must be finite for a matrix"):
            family().fit(z, LABELS)
        return
    p = family().fit(z, LABELS).predict_proba(z)
    assert sound(p) and np.all((p == 0) == masked)


@FAMILIES
def test_labels_of_probability_zero(family):
    z = LOGITS.copy()
    z[:7, :] = -math.inf
    z[np.arange(7), (LABELS[:7] + 1) % 4] = 1.0
    with pytest.raises(ValueError, match="labels: must be possible; 7 of 1500 rows"):
        family().fit(z, LABELS)
    if family.__name__ not in ("StructuredMatrixScaling", "DirichletCalibration"):
        found = family(zero_labels="exclude").fit(z, LABELS)
        rest = family().fit(z[7:], LABELS[7:])
        np.testing.assert_allclose(found.predict_proba(z), rest.predict_proba(z), atol=1e-6)


@FAMILIES
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda z, y: (np.where(np.arange(len(z))[:, None] == 5, np.nan, z), y),
            "logits: rows must be .* row 5 .* NaN",
        ),
        (lambda z, y: (z, y + 1), "subtract 1 if they count from 1"),
        (lambda z, y: (z[:, 0], y), "logits: must have two dimensions"),
        (lambda z, y: (z[:-1], y), "labels: must have the batch shape"),
        (lambda z, y: (z[:0], y[:0]), "logits: must hold at least one row"),
    ],
)
def test_bad_input_is_named(family, spoil, message):
    with pytest.raises(ValueError, match=message):
        family().fit(*spoil(LOGITS, LABELS))


@FAMILIES
def test_weights_that_are_all_zero_are_refused(family):
    with pytest.raises(ValueError, match="weights: must not all be zero"):
        family().fit(LOGITS, LABELS, sample_weight=np.zeros(len(LABELS)))


@FAMILIES
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_rows_that_are_masked_or_ignored_do_not_count(family, kind):
    z, labels, weights = LOGITS.copy(), LABELS.copy(), np.linspace(1, 2, len(LABELS))
    mask = np.arange(len(labels)) % 3 > 0
    z[~mask] = np.nan
    kept = family().fit(z[mask], labels[mask], weights[mask])
    labels[~mask] = -100
    if kind == "torch":
        z, labels, mask = torch.from_numpy(z), torch.from_numpy(labels), torch.from_numpy(mask)
    for options in ({"mask": mask}, {"ignore_index": -100}):
        fitted = family().fit(z, labels, weights, **options)
        np.testing.assert_allclose(fitted.predict_proba(LOGITS), kept.predict_proba(LOGITS), rtol=1e-12)
    with pytest.raises(ValueError, match=r"^mask: must be bool of the batch shape \(1500,\); got .*True keeps a row"):
        family().fit(z, labels, mask=mask[:-1])
