"""Other class frequencies than those of the fit, found from logits without labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from logitherm._array import Array, as_array, as_logits, describe, like, namespace, to_numpy
from logitherm.calibration.rows import row_blocks
from logitherm.gibbs import softmax

CLOSE = 1e-10  # change of a frequency at which the search ends
MOST_STEPS = 10_000


@dataclass(frozen=True, eq=False)
class LabelShift:
    """Class frequencies where a model is used, against those it was calibrated on.

    Attributes
    ----------
    prior : array, shape (classes,)
        Frequencies in the data of the calibration.
    adapted : array, shape (classes,)
        The most likely ones in the data at hand.
    iterations : int
    converged : bool
    """

    prior: np.ndarray
    adapted: np.ndarray
    iterations: int
    converged: bool

    def transform(self, logits: Array) -> Array:
        """Logits with log(adapted / prior) added: their softmax is right for the adapted frequencies.

        A class whose adapted frequency is 0 becomes impossible.
        """
        z = as_logits(logits)
        with np.errstate(divide="ignore"):
            ratio = np.log(self.adapted) - np.log(self.prior)
        return z + namespace(z).astype(like(ratio, z), z.dtype)

    def predict_proba(self, logits: Array) -> Array:
        """Probabilities under the adapted frequencies."""
        return softmax(self.transform(logits))

    def to_json(self) -> str:
        """All fields as JSON."""
        values = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in vars(self).items()}
        return json.dumps(values)


def adapt_to_label_shift(logits: Array, prior: Any) -> LabelShift:
    """The class frequencies under which unlabelled rows are most likely, by expectation-maximisation.

    It holds where p(input | class) is that of the calibration and only the frequencies differ; and it is as good as the
    probabilities are calibrated: pass logits through `BiasCorrectedTemperatureScaling` first. The likelihood is concave
    in the frequencies, so there is one answer.

    Parameters
    ----------
    logits : floating array, shape (n, classes)
        Calibrated logits of the rows at hand; -inf forbids a class.
    prior : array, shape (classes,)
        Class frequencies, or counts, of the data of the calibration; all positive.

    Returns
    -------
    LabelShift

    Raises
    ------
    TypeError, ValueError
        Bad rows; a prior that has another shape or is not positive.

    References
    ----------
    Saerens, Latinne and Decaestecker (2002), Adjusting the outputs of a classifier to new a priori probabilities,
    section 2.2; Alexandari, Kundaje and Shrikumar (2020).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.choice(3, size=20_000, p=[0.7, 0.2, 0.1])
    >>> z = 2 * np.eye(3)[labels] + rng.normal(size=(20_000, 3))     # calibrated if classes were equally frequent
    >>> adapt_to_label_shift(2 * z, [1, 1, 1]).adapted.round(2).tolist()
    [0.7, 0.21, 0.1]
    """
    z = to_numpy(as_logits(logits))
    before = to_numpy(as_array(prior, "prior")).astype(np.float64)
    if z.ndim != 2 or len(z) == 0:
        raise ValueError(f"logits: must have shape (rows, classes) with rows; got {describe(z)}; give some")
    if before.shape != z.shape[1:] or not np.all((before > 0) & (before < np.inf)):
        raise ValueError(
            f"prior: must be {z.shape[1]} positive frequencies or counts; got {describe(before)}; "
            "leave out classes that do not occur"
        )
    before = before / before.sum()
    likelihoods = np.concatenate([softmax(z[rows].astype(np.float64)) for rows in row_blocks(z)]) / before
    adapted, steps, change = before, 0, 1.0
    while steps < MOST_STEPS and change > CLOSE:
        joint = likelihoods * adapted
        new = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
        change, adapted, steps = float(np.abs(new - adapted).max()), new, steps + 1
    return LabelShift(before, adapted, steps, change <= CLOSE)
