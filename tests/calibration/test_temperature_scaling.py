"""The estimator as scikit-learn, NumPy and PyTorch users meet it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import logitherm
from logitherm import TemperatureScaling

COLUMNS = "columns are classes: the check has more labels than columns"
INTEGERS = "integer logits are a TypeError (they are probably labels)"
LABELS = "labels are the numbers of columns, so they are integers"
EXPECTED_FAILURES = {
    "check_fit_score_takes_y": "the second argument of fit is called labels, as everywhere in the library",
    "check_sample_weight_equivalence_on_dense_data": "the check passes y by name; fit calls it labels",
    "check_estimators_overwrite_params": COLUMNS,
    "check_estimators_fit_returns_self": COLUMNS,
    "check_readonly_memmap_input": COLUMNS,
    "check_sample_weights_not_overwritten": COLUMNS,
    "check_classifiers_train": COLUMNS,
    "check_classifiers_one_label": COLUMNS,
    "check_estimators_dtypes": INTEGERS,
    "check_sample_weights_pandas_series": INTEGERS,
    "check_sample_weights_not_an_array": INTEGERS,
    "check_sample_weights_shape": INTEGERS,
    "check_classifier_data_not_an_array": INTEGERS,
    "check_dtype_object": "an array of objects is a TypeError, not converted number by number",
    "check_classifiers_classes": LABELS,
}


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3000, 5)) * 2
    return (2.5 * z).astype(np.float32), (z + rng.gumbel(size=z.shape)).argmax(axis=1)


@pytest.mark.filterwarnings("ignore::Warning")  # the checks themselves warn
def test_scikit_learn_takes_it_for_an_estimator():
    results = check_estimator(
        TemperatureScaling(), expected_failed_checks=EXPECTED_FAILURES, on_skip=None, on_fail=None
    )
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    seen = {r["check_name"] for r in results if r["status"] == "xfail"}
    assert seen == set(EXPECTED_FAILURES), "a check that passes must not be listed as failing"


def test_fit_finds_the_temperature_and_its_error(data):
    scaling = TemperatureScaling().fit(*data)
    fit = logitherm.fit_temperature(*data)
    assert scaling.temperature_ == fit.temperature
    assert scaling.standard_error_ == fit.standard_error
    assert scaling.interval_ == fit.interval
    assert abs(scaling.temperature_ - 2.5) < 4 * scaling.standard_error_
    assert scaling.n_ == 3000 and scaling.n_features_in_ == 5 and scaling.classes_.tolist() == [0, 1, 2, 3, 4]


def test_probabilities_are_the_softmax_and_predictions_never_change(data):
    logits, labels = data
    scaling = TemperatureScaling().fit(logits, labels)
    p = scaling.predict_proba(logits)
    np.testing.assert_array_equal(p, logitherm.softmax(logits, scaling.temperature_))
    np.testing.assert_array_equal(scaling.predict(logits), logits.argmax(axis=1))
    assert scaling.score(logits, labels) == pytest.approx(np.mean(logits.argmax(axis=1) == labels))
    np.testing.assert_allclose(logitherm.softmax(scaling.transform(logits)), p, rtol=1e-5, atol=1e-7)


def test_weights_count_rows(data):
    logits, labels = data
    weights = np.random.default_rng(1).integers(0, 3, len(labels))
    weighted = TemperatureScaling().fit(logits, labels, sample_weight=weights)
    repeated = TemperatureScaling().fit(np.repeat(logits, weights, axis=0), np.repeat(labels, weights))
    assert weighted.temperature_ == pytest.approx(repeated.temperature_, rel=1e-6)
    assert weighted.standard_error_ == pytest.approx(repeated.standard_error_, rel=1e-4)


def test_torch_comes_back_as_torch(data):
    logits, labels = (torch.from_numpy(v) for v in data)
    scaling = TemperatureScaling().fit(logits, labels)
    assert scaling.temperature_ == TemperatureScaling().fit(*data).temperature_
    for method in (scaling.predict_proba, scaling.transform, scaling.predict):
        assert isinstance(method(logits), torch.Tensor)
    half = scaling.predict_proba(logits.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    with_gradient = logits.clone().requires_grad_()
    scaling.predict_proba(with_gradient).square().sum().backward()
    assert torch.isfinite(with_gradient.grad).all()


def test_it_composes(data):
    assert clone(TemperatureScaling(confidence=0.9)).confidence == 0.9
    pipeline = make_pipeline(TemperatureScaling())
    assert pipeline.fit(*data).predict_proba(data[0]).shape == (3000, 5)
    assert np.all(cross_val_score(TemperatureScaling(), *data, scoring="neg_log_loss", cv=3) > -2)


def test_logits_in_a_data_frame_keep_their_names(data):
    pd = pytest.importorskip("pandas", reason="the frames are those of pandas")
    frame = pd.DataFrame(data[0], columns=list("abcde"))[::-1]
    scaling = TemperatureScaling().set_output(transform="pandas").fit(frame, data[1][::-1])
    made = scaling.transform(frame)
    assert list(made.columns) == list(scaling.get_feature_names_out()) == list("abcde")
    assert made.index.equals(frame.index)
    np.testing.assert_allclose(made, frame / scaling.temperature_, rtol=1e-6)
    with pytest.raises(ValueError, match="feature names should match"):
        scaling.predict(frame[list("bacde")])


def test_separable_rows_and_rows_without_signal(tmp_path):
    z = np.random.default_rng(0).normal(size=(200, 3))
    cold = TemperatureScaling().fit(z, z.argmax(axis=1))
    assert cold.at_bound_ == "zero" and cold.temperature_ == 0 and cold.interval_ is None
    np.testing.assert_array_equal(cold.predict_proba(z), np.eye(3)[z.argmax(axis=1)])
    hot = TemperatureScaling().fit(z, z.argmin(axis=1))
    assert hot.at_bound_ == "infinite" and hot.temperature_ == math.inf
    np.testing.assert_allclose(hot.predict_proba(z), 1 / 3)
    for scaling in (cold, hot):
        np.testing.assert_allclose(logitherm.softmax(scaling.transform(z)), scaling.predict_proba(z))
        path = tmp_path / f"{scaling.at_bound_}.json"
        scaling.save(path)
        back = TemperatureScaling.load(path)
        assert (back.temperature_, back.at_bound_) == (scaling.temperature_, scaling.at_bound_)


def test_save_and_load(data, tmp_path):
    scaling = TemperatureScaling(confidence=0.9).fit(*data)
    path = tmp_path / "calibrator.json"
    scaling.save(path)
    assert path.stat().st_size < 1000
    assert json.loads(path.read_text())["format"] == "logitherm.TemperatureScaling/1"
    back = TemperatureScaling.load(path)
    for name in ("temperature_", "standard_error_", "sandwich_error_", "interval_", "at_bound_", "n_", "confidence"):
        assert getattr(back, name) == getattr(scaling, name)
    np.testing.assert_array_equal(back.predict_proba(data[0]), scaling.predict_proba(data[0]))
    with pytest.raises(ValueError, match="exists; pass force=True to replace it"):
        scaling.save(path)
    scaling.save(path, force=True)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": "other"}', "not json", 100000 * "[", '{"format": "logitherm.TemperatureScaling/1"}'],
)
def test_a_file_that_is_no_calibrator_is_refused(text, tmp_path):
    path = tmp_path / "calibrator.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"calibrator\.json: must be a calibrator saved by"):
        TemperatureScaling.load(path)


def test_a_negative_temperature_in_a_file_is_refused(data, tmp_path):
    values = json.loads(TemperatureScaling().fit(*data).to_json())
    path = tmp_path / "calibrator.json"
    path.write_text(json.dumps(values | {"temperature": -1.0}))
    with pytest.raises(ValueError, match=r"-1\.0 where a finite number of at least 0 is due"):
        TemperatureScaling.load(path)


def test_errors_say_what_to_do(data):
    logits, labels = data
    with pytest.raises(NotFittedError):
        TemperatureScaling().predict_proba(logits)
    scaling = TemperatureScaling().fit(logits, labels)
    with pytest.raises(ValueError, match="X has 4 features, but TemperatureScaling is expecting 5"):
        scaling.predict_proba(logits[:, :4])
    bad = logits.copy()
    bad[7, 2] = np.nan
    for method in (scaling.predict, scaling.predict_proba, scaling.transform):
        with pytest.raises(ValueError, match="row 7 of 3000 has NaN"):
            method(bad)
    for names in (labels.astype(str), labels.astype(str).tolist(), labels.astype(object), labels > 0):
        with pytest.raises(TypeError, match=r"labels: must be integers; got shape .*; encode labels as the integers"):
            TemperatureScaling().fit(logits, names)
    with pytest.raises(ValueError, match="two dimensions"):
        scaling.predict(logits[0])
