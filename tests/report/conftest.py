"""Synthetic calibration studies in the shape of `Study.to_dict()`: numbers made here, with NumPy alone."""

import copy
import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest

BINS = 15
SCORES = ("accuracy", "nll", "brier", "ece", "ece_equal_mass", "classwise_ece", "smooth_ece", "mce")


def _softmax(logits, temperature):
    if temperature == 0:
        ground = logits == logits.max(axis=1, keepdims=True)
        return ground / ground.sum(axis=1, keepdims=True)
    scaled = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return scaled / scaled.sum(axis=1, keepdims=True)


def _nll(logits, labels, temperature):
    chosen = _softmax(logits, temperature)[np.arange(len(labels)), labels]
    with np.errstate(divide="ignore"):
        return -np.log(chosen)


def _bin_sums(bins, weights, *values):
    return [np.stack([np.bincount(bins, w * v, BINS) for w in weights]) for v in values]


def _gaps(bins, weights, confidence, correct):
    count, said, right = _bin_sums(bins, weights, np.ones_like(confidence), confidence, correct)
    with np.errstate(invalid="ignore", divide="ignore"):
        return count, said / count, right / count


def _scores_and_diagram(logits, labels, temperature, weights):
    p = _softmax(logits, temperature)
    n, classes = p.shape
    rows = np.arange(n)
    confidence, correct = p.max(axis=1), (p.argmax(axis=1) == labels).astype(float)
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    mass = np.minimum(confidence.argsort(kind="stable").argsort(kind="stable") * BINS // n, BINS - 1)
    count, said, right = _gaps(bins, weights, confidence, correct)
    gap = np.abs(said - right)
    total = weights.sum(axis=1)
    one_hot = np.zeros_like(p)
    one_hot[rows, labels] = 1
    m_count, m_said, m_right = _gaps(mass, weights, confidence, correct)
    classwise = np.zeros(len(weights))
    for k in range(classes):
        k_bins = np.clip(np.ceil(p[:, k] * BINS).astype(int) - 1, 0, BINS - 1)
        k_count, k_said, k_right = _gaps(k_bins, weights, p[:, k], one_hot[:, k])
        classwise += np.nansum(k_count * np.abs(k_said - k_right), axis=1) / total / classes
    nll = _nll(logits, labels, temperature)
    gaps = (confidence[:, None] - np.linspace(0, 1, 41)) / 0.05
    smoothed = np.exp(-(gaps**2) / 2) / 0.05 / math.sqrt(2 * math.pi) * (confidence - correct)[:, None]
    values = {
        "accuracy": weights @ correct / total,
        "nll": weights @ np.minimum(nll, 1e3) / total if np.isinf(nll).any() else weights @ nll / total,
        "brier": weights @ ((p - one_hot) ** 2).sum(axis=1) / total,
        "ece": np.nansum(count * gap, axis=1) / total,
        "ece_equal_mass": np.nansum(m_count * np.abs(m_said - m_right), axis=1) / total,
        "classwise_ece": classwise,
        "smooth_ece": np.abs(weights @ smoothed).mean(axis=1) / total,
        "mce": np.nanmax(gap, axis=1),
    }
    scores = {
        name: {"value": float(v[0]), "low": float(np.quantile(v[1:], 0.025)), "high": float(np.quantile(v[1:], 0.975))}
        for name, v in values.items()
        if len(v) > 1
    }
    if np.isinf(nll).any():
        scores["nll"] = {"value": None, "low": None, "high": None}
    plain = {name: float(v[0]) for name, v in values.items()}
    filled = count[0] > 0
    diagram = {
        "edges": edges.tolist(),
        "count": count[0].astype(int).tolist(),
        "confidence": [float(c) if f else None for c, f in zip(said[0], filled, strict=True)],
        "accuracy": [float(a) if f else None for a, f in zip(right[0], filled, strict=True)],
    }
    if len(weights) > 1:
        with np.errstate(invalid="ignore"):
            low, high = (
                np.array([np.nanquantile(r[~np.isnan(r)], q) if (~np.isnan(r)).any() else np.nan for r in right[1:].T])
                for q in (0.025, 0.975)
            )
        diagram["low"] = [float(v) if f else None for v, f in zip(low, filled, strict=True)]
        diagram["high"] = [float(v) if f else None for v, f in zip(high, filled, strict=True)]
    return scores, plain, diagram


def make_study(kind):
    """A study of `kind`: overconfident, underconfident, honest, binary, zero (separable) or infinite (no signal)."""
    rng = np.random.default_rng(7)
    n, classes, spread, factor = {
        "overconfident": (3000, 10, 4.0, 2.07),
        "underconfident": (2000, 20, 3.5, 0.55),
        "honest": (600, 5, 2.0, 1.0),
        "binary": (400, 2, 1.5, 1.6),
        "zero": (200, 3, 2.0, 1.0),
        "infinite": (500, 4, 2.0, 1.0),
    }[kind]
    truth = rng.normal(0, spread, (n, classes))
    labels = (truth + rng.gumbel(size=truth.shape)).argmax(axis=1)
    if kind == "zero":
        labels = truth.argmax(axis=1)
    if kind == "infinite":
        labels = truth.argmin(axis=1)
    logits = truth * factor
    grid = np.exp(np.linspace(np.log(0.02), np.log(50), 1000))
    total = np.array([_nll(logits, labels, t).sum() for t in grid])
    at_bound = kind if kind in ("zero", "infinite") else None
    best = None if at_bound else float(grid[total.argmin()])
    inside = grid[total - total.min() < 1.92]
    interval = {"zero": None, "infinite": [float(inside[0]), None]}.get(kind, [float(inside[0]), float(inside[-1])])
    used = {"zero": 0.0, "infinite": 1e12}.get(kind, best)
    weights = np.vstack([np.ones(n), rng.poisson(1.0, (100, n))])
    before, _, before_diagram = _scores_and_diagram(logits, labels, 1.0, weights)
    after, _, after_diagram = _scores_and_diagram(logits, labels, used, weights)
    centre = best or 1.0
    steps = np.exp(np.linspace(np.log(min(1, centre) / 4), np.log(max(1, centre) * 4), 39))
    steps = sorted({*steps.tolist(), 1.0, centre})
    drawn = [_scores_and_diagram(logits, labels, t, weights[:1]) for t in steps]
    curve = np.exp(np.linspace(np.log(min(1, centre) / 10), np.log(max(1, centre) * 10), 60))
    error = None if at_bound else (interval[1] - interval[0]) / 3.92
    ratio = float(2 * (total[np.abs(np.log(grid)).argmin()] - total.min()))
    nll_before = float(_nll(logits, labels, 1.0).mean())
    nll_after = float(_nll(logits, labels, used).mean())
    said = float(_softmax(logits, 1.0).max(axis=1).mean())
    verdicts = {
        "overconfident": [
            f"The model is overconfident: it says {said:.0%} where {before['accuracy']['value']:.0%} is right.",
            f"Divide its logits by {centre:.2f} (95 % interval {inside[0]:.2f} to {inside[-1]:.2f}) to mend it.",
            f"The calibration error falls from {before['ece']['value']:.1%} to {after['ece']['value']:.1%}.",
        ],
        "underconfident": [
            "The model is underconfident: it is right more often than it says.",
            "Cooling it mends most of that.",
        ],
        "honest": ["No miscalibration that one temperature could mend is visible in these 600 rows."],
        "binary": ["The model is overconfident.", "With 400 rows the temperature is known only roughly."],
        "zero": ["The top answer is always right, so no finite sharpening is enough (T at its bound, zero)."],
        "infinite": ["The logits carry no signal about the labels (T at its bound, infinite)."],
    }
    return {
        "name": f"{kind}.val.npz",
        "method": "temperature",
        "scored_on": f"{kind}.test.npz ({n} rows)" if kind != "binary" else "5-fold cross-fitting on val",
        "classes": classes,
        "n_fit": n,
        "n_scored": n,
        "verdict": verdicts[kind],
        "fit": {
            "temperature": 0.0 if kind == "zero" else best,
            "standard_error": error,
            "sandwich_error": None if error is None else error * 1.21,
            "interval": interval,
            "confidence": 0.95,
            "p_value": None if kind == "zero" else math.erfc(math.sqrt(max(ratio, 0) / 2)),
            "likelihood_ratio": ratio,
            "at_bound": at_bound,
            "nll_before": nll_before,
            "nll_after": nll_after,
            "converged": True,
            "zero_labels": 29 if kind == "underconfident" else 0,
            "passes": 3,
        },
        "before": before,
        "after": after,
        "nll_curve": {"temperature": curve.tolist(), "nll": [float(_nll(logits, labels, t).mean()) for t in curve]},
        "reliability": {
            "before": before_diagram,
            "after": after_diagram,
            "grid": {
                "temperature": steps,
                "diagrams": [diagram for _, _, diagram in drawn],
                **{name: [plain[name] for _, plain, _ in drawn] for name in ("nll", "ece", "brier")},
            },
        },
    }


KINDS = ("overconfident", "underconfident", "honest", "binary", "zero", "infinite")


@functools.cache
def cached_study(kind):
    return make_study(kind)


def as_study(contents):
    """The object that `render_report` takes."""
    return SimpleNamespace(to_dict=lambda: contents)


@pytest.fixture(params=KINDS)
def any_contents(request):
    """Each kind of study in turn."""
    return copy.deepcopy(cached_study(request.param))


@pytest.fixture
def contents_of():
    """A study of the kind asked for, free to be changed."""
    return lambda kind: copy.deepcopy(cached_study(kind))


@pytest.fixture
def contents(contents_of):
    """The study of an overconfident model."""
    return contents_of("overconfident")


@pytest.fixture(params=[1e-7, 1e7], ids=["tiny", "huge"])
def far_contents(request, contents_of):
    """A study whose temperatures are far from 1, as of logits in other units."""
    contents, scale = contents_of("overconfident"), request.param
    fit, grid, curve = contents["fit"], contents["reliability"]["grid"], contents["nll_curve"]
    for name in ("temperature", "standard_error", "sandwich_error"):
        fit[name] *= scale
    fit["interval"] = [scale * t for t in fit["interval"]]
    for owner in (grid, curve):  # stretched towards the fit; what is drawn over them need not belong to them
        owner["temperature"] = [t**8 if (t < 1) == (scale < 1) else t for t in owner["temperature"]]
    contents["verdict"] = [f"The best temperature is T = {fit['temperature']:.3g}."]
    return contents


@pytest.fixture
def wrap():
    """From contents to the object that `render_report` takes."""
    return as_study
