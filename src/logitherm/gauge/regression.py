"""The identity of `stationarity` for scikit-learn's logistic regression."""

from __future__ import annotations

from typing import Any

import numpy as np

from logitherm.gauge.stationarity import Rows, Stationarity, squared_norm


def regression_stationarity(model: Any, inputs: Any, labels: Any, *, sample_weight: Any = None) -> Stationarity:
    """The identity for a fitted sklearn.linear_model.LogisticRegression: sum of z_y - E_p z = ||W||^2 / C.

    It is given for the mean over the rows, both sides divided by their number (or by the sum of their weights). It
    tells whether the solver came to its end: its own `tol` is that of a gradient, in units of its own.

    Parameters
    ----------
    model : LogisticRegression
        Fitted with an L2 penalty and without `class_weight`; C = inf is none.
    inputs : array, shape (n, features)
        That it was fitted to.
    labels : array, shape (n,)
        Of `model.classes_`.
    sample_weight : array, shape (n,), optional
        That it was fitted with.

    Returns
    -------
    Stationarity
        Of one layer, named "coef_".

    Raises
    ------
    TypeError
        Another model.
    ValueError
        L1 in the penalty, class weights, a penalised intercept (solver "liblinear"), labels it does not know.

    References
    ----------
    As for `stationarity`; the objective is that of scikit-learn's user guide, Logistic regression.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 4))
    >>> y = x[:, 0] + rng.normal(size=300) > 0
    >>> found = regression_stationarity(LogisticRegression(tol=1e-10).fit(x, y), x, y)
    >>> abs(found.residual) < 1e-5
    True
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.utils.validation import check_is_fitted

    settings = model.get_params() if isinstance(model, LogisticRegression) else {}
    if "C" not in settings:  # nor has LogisticRegressionCV one
        raise TypeError(
            f"model: must be a LogisticRegression; got {type(model).__name__}; give stationarity the logits and weights"
        )
    check_is_fitted(model)
    old = settings.get("penalty", "deprecated")
    refused = {
        "an L2 penalty alone": settings["l1_ratio"] not in (0, None) or old in ("l1", "elasticnet"),
        "no class_weight, which changes the loss": settings["class_weight"] is not None,
        "no penalty on the intercept": settings["solver"] == "liblinear" and settings["fit_intercept"],
    }
    for rule, broken in refused.items():
        if broken:
            raise ValueError(f"model: must have {rule}; got {' '.join(str(model).split())}; fit it anew")
    index = np.searchsorted(model.classes_, labels).clip(0, len(model.classes_) - 1)
    if (model.classes_[index] != np.asarray(labels)).any():
        raise ValueError(f"labels: must be among the classes of the model {model.classes_.tolist()}; some are not")
    z = model.decision_function(inputs)
    z = np.stack([np.zeros_like(z), z], axis=-1) if z.ndim == 1 else z  # one score x stands for the logits (0, x)
    rows = Rows(z, index, sample_weight)
    penalty = 0.0 if old is None else 0.5 / settings["C"] / rows.total
    return rows.against({"coef_": squared_norm("coef_", model.coef_)}, penalty)
