"""What a classifier by prototypes refuses: options that do not go together, and rows that cannot tell a variance."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from logitherm.prototypes.metric import METRICS
from logitherm.prototypes.moments import Moments
from logitherm.prototypes.rules import ESTIMATES, SPREADS


def require_options(classifier: Any) -> None:
    """Raise for options that are unknown, or do not go together."""
    choices = (
        ("estimate", classifier.estimate, ESTIMATES),
        ("covariance", classifier.covariance, METRICS),
        ("spread", classifier.spread, SPREADS),
    )
    for name, value, known in choices:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"{name}: must be one of {', '.join(known)}; got {value!r}; {known[0]!r} is usual")
    if isinstance(classifier.priors, str) and classifier.priors not in ("empirical", "uniform"):
        raise ValueError(f"priors: must be 'empirical', 'uniform' or an array; got {classifier.priors!r}")
    share = classifier.shrinkage
    if not (share == "auto" if isinstance(share, str) else isinstance(share, Real) and 0 <= float(share) <= 1):
        raise ValueError(f"shrinkage: must be 'auto' or lie in [0, 1]; got {share!r}; 'auto' is Ledoit and Wolf's")
    if classifier.estimate == "corrected" and classifier.spread == "per_class":
        raise ValueError(
            "estimate: 'corrected' corrects one temperature; got spread='per_class'; take 'empirical_bayes'"
        )
    if classifier.estimate == "student" and (classifier.covariance != "isotropic" or classifier.spread == "between"):
        raise ValueError(
            "estimate: 'student' integrates an isotropic variance; got "
            f"covariance={classifier.covariance!r}, spread={classifier.spread!r}; take 'empirical_bayes'"
        )
    if classifier.variance is None:
        return
    if not (isinstance(classifier.variance, Real) and 0 < float(classifier.variance) < math.inf):
        raise ValueError(
            f"variance: must be a positive number, sigma^2 of one feature; got {classifier.variance!r}; take variance_ "
            "of a fit to other classes"
        )
    if classifier.covariance != "isotropic" or classifier.spread != "pooled" or classifier.estimate == "student":
        raise ValueError(
            "variance: goes with covariance='isotropic', spread='pooled' and no 'student'; got "
            f"{classifier.covariance!r}, {classifier.spread!r}, {classifier.estimate!r}; leave it out"
        )


def require_rows(classifier: Any, m: Moments) -> None:
    """Raise where the rows cannot say what sigma^2 is."""
    if classifier.variance is not None:
        return
    count = len(m.counts)
    if m.degrees == 0:
        raise ValueError(
            f"X: must have more rows than classes to tell sigma^2; got one row for each of {count} classes "
            f"(n_samples = {count}); pass variance= of other classes (variance_ of a fit to them), or add rows"
        )
    if not math.isfinite(m.squares.sum()):
        raise ValueError(f"X: squares of residuals must be finite; got values too large for {m.X.dtype}; rescale X")
    if not m.columns.any():
        raise ValueError(
            "X: rows of a class must differ; got zero variance within all classes, so T = 2 sigma^2 = 0; add rows, "
            "or pass variance="
        )
    if m.dims * m.degrees <= 2:
        raise ValueError(
            f"X: must leave at least 3 degrees of freedom for sigma^2; got {m.degrees} rows more than classes in "
            f"{m.dims} features; add rows"
        )
    if classifier.spread == "per_class" and classifier.estimate == "plug_in":
        bad = (m.counts == 1) | (m.squares <= 0)
        if bad.any():
            k = int(bad.argmax())
            why = "1 row" if m.counts[k] == 1 else "zero variance"
            raise ValueError(
                f"X: every class must have rows that differ for spread='per_class' with 'plug_in'; got {why} in "
                f"class {classifier.classes_[k]}; take 'empirical_bayes', which borrows from the other classes"
            )
