"""Which kind of model it is."""

from __future__ import annotations

import copy
import os
import sys
from typing import Any, TypeVar

from logitherm.integrations.baking.fold import affine_map

Model = TypeVar("Model")


def bake(model: Model, calibrator: Any, *, head: str | None = None, inplace: bool = False) -> Model:
    """Fold a fitted calibrator into the last layer of a model: calibrated logits at no cost at inference.

    The weights W and the bias c of the layer become A W and A c + b, where A z + b is the calibrator's map of logits z:
    W / T and c / T for a temperature. The new model's logits are `calibrator.transform` of the old one's to the
    rounding of the weights' dtype, whatever computes them afterwards. The map is computed in float64, which
    takes 16 bytes of memory a weight of this layer for a moment.

    What may be a model:

    - `torch.nn.Linear`, and any `torch.nn.Module` with the name of its last linear layer as `head`;
    - a Hugging Face `PreTrainedModel`: the classification head or `lm_head` is found. Tied embeddings are refused;
    - a fitted linear classifier of scikit-learn, or a `Pipeline` that ends in one: its `decision_function` is mapped,
      and its `predict_proba`, where that is the softmax (binary: the sigmoid) of it, becomes the calibrated one;
    - files: see `logitherm.integrations.baking.bake_onnx` and `bake_safetensors`.

    A single output x, as of a binary classifier, stands for the logits (0, x). Do not apply the calibrator to the
    baked model's logits again: it would count twice.

    Parameters
    ----------
    model : torch.nn.Module or scikit-learn estimator
        Its layer must be floating point; weights stay in their dtype and on their device.
    calibrator : float or calibrator
        A temperature, or a fitted `TemperatureScaling`, `BiasCorrectedTemperatureScaling`, `VectorScaling`,
        `StructuredMatrixScaling`, `PlattScaling` or `LabelShift`.
    head : str, optional
        Dotted name of the linear layer that makes the logits, such as "classifier" or "model.fc".
    inplace : bool
        Change the model itself, for models too large to have twice in memory. By default a deep copy is changed, and
        the model stays as it is.

    Returns
    -------
    model of the same type
        Baked. A `torch.nn.Linear` without bias gets one if the map has one; in a Hugging Face model that is refused,
        as `from_pretrained` would drop it.

    Raises
    ------
    TypeError
        Not a model or a calibrator of these kinds.
    ValueError
        A calibrator at T = 0 or inf, not affine in the logits or of other classes; a layer that is not linear, that
        is shared with another (tied embeddings) or whose weights are quantised; weights that would overflow.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, section 4.2, for the maps; the rest is associativity.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from logitherm.calibration import TemperatureScaling
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(600, 40)), rng.integers(0, 3, size=600)
    >>> x[:, 0] += y
    >>> model = LogisticRegression(C=100).fit(x[:200], y[:200])
    >>> scaling = TemperatureScaling().fit(model.decision_function(x[200:400]), y[200:400])
    >>> baked = bake(model, scaling)
    >>> honest = scaling.predict_proba(model.decision_function(x[400:]))
    >>> bool(np.allclose(baked.predict_proba(x[400:]), honest))
    True
    """
    if isinstance(model, (str, bytes, os.PathLike)) or _is_a("onnx", "ModelProto", model):
        raise TypeError(
            f"model: must be a model in memory; got {type(model).__name__}; for files there are "
            "logitherm.integrations.baking.bake_onnx and bake_safetensors"
        )
    mapped = affine_map(calibrator)
    target: Any = model if inplace else copy.deepcopy(model)
    if _is_a("transformers", "PreTrainedModel", model):
        from logitherm.integrations.baking.transformers_head import fold_head

        fold_head(target, head, mapped)
    elif _is_a("torch.nn", "Module", model):
        from logitherm.integrations.baking.torch_linear import fold_module

        fold_module(target, head, mapped)
    elif _is_a("sklearn.base", "BaseEstimator", model):
        from logitherm.integrations.baking.sklearn_linear import fold_estimator

        if head is not None:
            raise ValueError(f"head: is for torch modules; got {head!r} with {type(model).__name__}; leave it out")
        fold_estimator(target, mapped)
    else:
        raise TypeError(
            f"model: must be a torch.nn.Module or a scikit-learn classifier; got {type(model).__name__}; "
            "for other frameworks export to ONNX, then logitherm.integrations.baking.bake_onnx"
        )
    return target  # type: ignore[no-any-return]


def _is_a(module: str, name: str, model: Any) -> bool:
    """Whether it is of a class of a library, without importing one that is not loaded: then it cannot be."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(model, kind)
