"""Whether a calibrator still fits: the temperature that new rows need after it has done its work."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from sklearn.utils.validation import check_is_fitted

from logitherm._array import Array
from logitherm._json import plain
from logitherm.calibration.base import Calibrator
from logitherm.calibration.group import GroupTemperatureScaling
from logitherm.calibration.rows import Labelled, labelled, likelihoods, possible
from logitherm.calibration.stream.alarm import Alarm, watch
from logitherm.calibration.stream.reference import as_reference, as_run_length, band_around
from logitherm.calibration.temperature_scaling import TemperatureScaling
from logitherm.calibration.truncated.scaling import TruncatedTemperatureScaling
from logitherm.gibbs import heat_capacity
from logitherm.thermometer import TemperatureFit, fit_temperature
from logitherm.thermometer.intervals import around


@dataclass(frozen=True)
class DriftCheck:
    """A calibrator against new rows.

    Attributes
    ----------
    verdict : "holds", "drifted" or "undecided"
        "holds": the interval of the change of T lies within the tolerance. "drifted": the change is larger than that
        beyond chance, or the alarm was raised. "undecided": too few rows for either.
    changed : bool
        Whether the comparison over all rows, without the alarm, says "drifted": by `p_value`, and at a bound by the
        ratio of the likelihoods at the bound and at the nearer end of `band`.
    reference_temperature : float
        T of a calibrator of one temperature; 1 for other families, since what they made of the logits is measured.
    reference_interval : (float, float)
        Of it, by the calibrator's own error.
    temperature : float
        T that the new rows need; 0 or inf at those limits.
    interval : (float, float) or None
        Of it, by the sandwich error of the new rows; None at a limit.
    at_bound : "zero", "infinite" or None
        As in `TemperatureFit`.
    change : float
        temperature / reference_temperature: above 1 the calibrator leaves the new rows overconfident.
    change_interval : (float, float) or None
        Of it, by both errors.
    dispersion : float
        Squared ratio of sandwich to model-based error of the calibrator; much above 1 it errs in more than T, and the
        rate of the alarm is approximate.
    error, reference_error : float or None
        Relative standard errors of the two temperatures.
    p_value : float or None
        Of a change of log T within the tolerance, by both errors (normal approximation); None at a bound.
    rows_to_alarm : int or None
        New rows, in their order, until the alarm; None if it was not raised.
    needs : "heating", "cooling" or None
        What the calibrated model needs, if it drifted: heating, a higher T, where it is overconfident (too cold) on the
        new rows, cooling where it is underconfident. As the alarm says, or the comparison where there was none.
    run_length : float
        Rows to a false alarm, on average at least.
    false_alarm : float
        The probability of an alarm in these rows, at most, while T stays in `band`.
    band : (float, float)
        Of `change`: the interval of the calibrator, widened by the tolerance.
    nll_before, nll_after : float
        Mean NLL of the new rows as calibrated, and at the T they need: what fitting again would gain.
    n, excluded : int
        Rows used, and rows left out as impossible.
    tolerance, confidence : float
        As given.
    """

    verdict: str
    changed: bool
    reference_temperature: float
    reference_interval: tuple[float, float]
    temperature: float
    interval: tuple[float, float] | None
    at_bound: str | None
    change: float
    change_interval: tuple[float, float] | None
    dispersion: float
    error: float | None
    reference_error: float
    p_value: float | None
    rows_to_alarm: int | None
    needs: str | None
    run_length: float
    false_alarm: float
    band: tuple[float, float]
    nll_before: float
    nll_after: float
    n: int
    excluded: int
    tolerance: float
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None where a number is not finite."""
        return dict(plain(asdict(self)))


def check_drift(
    calibrator: Calibrator,
    logits: Any,
    labels: Any,
    *,
    groups: Any = None,
    tolerance: float = 0.05,
    run_length: float | None = None,
    confidence: float = 0.95,
    zero_labels: str = "raise",
) -> DriftCheck:
    """Whether a fitted calibrator of any family still fits new rows, in temperature.

    A temperature is fitted to the calibrated logits, where it should be 1, and compared by the errors of both fits.
    An alarm also reads the rows in their order and says when the change had become plain. Without `run_length` a
    calibrator that fits is called "drifted" with a probability of at most 1 - confidence: half for the comparison,
    which is asymptotic but at a bound, half for the alarm, which is exact for labels drawn from the calibrated model,
    and approximate where it is wrong in more than its temperature.

    Limits: new rows that ask for T = 0 (every label is the first choice) or T = inf have no error. They have changed if
    the likelihood there is more than 4 / (1 - confidence) times that at the nearer end of the band, with the dispersion
    as in the alarm. That happens by chance at either bound with a probability of at most (1 - confidence) / 4, by
    Markov's inequality, as the ratio has an expectation of 1.

    Parameters
    ----------
    calibrator : Calibrator
        Fitted, of any family that takes whole rows of logits.
    logits : floating array, shape (n, classes)
        As the calibrator takes them, in the order of time where there is one.
    labels : integer array, shape (n,)
    groups : array, shape (n,), optional
        Of every row, for a `GroupTemperatureScaling`; without them all rows have the common temperature.
    tolerance : float
        Relative change of T that does not matter.
    run_length : float, optional
        Rows to a false alarm, on average at least. Default 2 n / (1 - confidence).
    confidence : float
        Level of the intervals and of the verdict.
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has probability 0 at every T.

    Returns
    -------
    DriftCheck

    Raises
    ------
    TypeError, ValueError
        A calibrator of truncated answers; one at a bound, constant logits, and as `logitherm.fit_temperature`.

    References
    ----------
    White (1982) for the errors; Shin, Ramdas and Rinaldo (2024), E-detectors, section 2, for the alarm.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = 2 * rng.normal(size=(4000, 5))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> scaling = TemperatureScaling().fit(2 * z[:2000], labels[:2000])
    >>> check_drift(scaling, 3 * z[2000:], labels[2000:]).verdict
    'drifted'
    """
    check_is_fitted(calibrator)
    if isinstance(calibrator, TruncatedTemperatureScaling):
        raise TypeError(
            "calibrator: must take whole rows of logits; got a TruncatedTemperatureScaling; "
            "fit it to the new answers and compare temperature_bounds_"
        )
    if getattr(calibrator, "at_bound_", None):
        raise ValueError(
            f"calibrator: must have a temperature between the limits; got at_bound {calibrator.at_bound_!r}; "  # type: ignore[attr-defined]
            "fit it on other or more rows"
        )
    if isinstance(calibrator, GroupTemperatureScaling):
        z = calibrator.transform(logits, groups)
    elif groups is None:
        z = calibrator.transform(logits)
    else:
        kind = type(calibrator).__name__
        raise TypeError(f"groups: must be for a GroupTemperatureScaling; got {kind}; leave them out")
    fit = fit_temperature(z, labels, zero_labels=zero_labels, confidence=confidence)
    data = labelled(z, labels)
    if fit.excluded:
        data = data.take(possible(data.logits, data.labels))
    spread, dispersion = _errors(calibrator, data.logits, fit)
    band = band_around(1.0, spread, tolerance, confidence)
    share = (1 - confidence) / 2
    length = as_run_length(fit.n / share if run_length is None else run_length)
    alarm = Alarm(band, length, dispersion)
    watch(alarm, data)

    error = None if fit.at_bound or fit.sandwich_error is None else fit.sandwich_error / fit.temperature
    p_value, ends, within = None, None, False
    if error is not None:
        both = math.hypot(error, spread)
        excess = max(0.0, abs(math.log(fit.temperature)) - math.log1p(tolerance))
        p_value = math.erfc(excess / both / math.sqrt(2)) if both else float(excess == 0)
        ends = around(fit.temperature, both, confidence)
        within = 1 / (1 + tolerance) <= ends[0] and ends[1] <= 1 + tolerance
    changed = _beyond(data, fit, band, dispersion, share) if p_value is None else p_value < share
    drifted = changed or alarm.rows_to_alarm is not None
    reference = calibrator.temperature_ if isinstance(calibrator, TemperatureScaling) else 1.0
    needed = reference * fit.temperature
    return DriftCheck(
        verdict="drifted" if drifted else "holds" if within else "undecided",
        changed=changed,
        reference_temperature=reference,
        reference_interval=around(reference, spread, confidence),
        temperature=needed,
        interval=None if error is None else around(needed, error, confidence),
        at_bound=fit.at_bound,
        change=fit.temperature,
        change_interval=ends,
        dispersion=dispersion,
        error=error,
        reference_error=spread,
        p_value=p_value,
        rows_to_alarm=alarm.rows_to_alarm,
        needs=alarm.needs or (_needed(fit.temperature) if changed else None),
        run_length=length,
        false_alarm=min(1.0, fit.n / length),
        band=band,
        nll_before=fit.nll_before,
        nll_after=fit.nll_after,
        n=fit.n,
        excluded=fit.excluded,
        tolerance=tolerance,
        confidence=confidence,
    )


def _errors(calibrator: Calibrator, calibrated: Array, fit: TemperatureFit) -> tuple[float, float]:
    """Relative standard error of a calibrator's temperature, and its dispersion; of the new rows where it has none.

    The error then is that of one T fitted to as many rows such as these. But for the dispersion it comes from their
    logits alone, not from their labels, so that the alarm keeps its guarantee.
    """
    error, dispersion = as_reference(calibrator)[1:] if isinstance(calibrator, TemperatureScaling) else (0.0, 1.0)
    if getattr(calibrator, "standard_error_", None) is None:
        dispersion = 1.0 if fit.at_bound else as_reference(fit)[2]
    if not error:
        information = float(heat_capacity(calibrated).mean())
        if not information > 0:
            raise ValueError("logits: must differ between classes once calibrated; got constant rows; no T can be told")
        error = math.sqrt(dispersion / (calibrator.n_ * information))  # type: ignore[attr-defined]
    return error, dispersion


def _beyond(data: Labelled, fit: TemperatureFit, band: tuple[float, float], dispersion: float, share: float) -> bool:
    """Whether rows at a bound are too likely there for a temperature in the band; one of the two bounds is met."""
    edge = band[1] if fit.at_bound == "infinite" else band[0]
    gain = float(likelihoods(data, edge)[0].sum()) - fit.n * fit.nll_after
    return gain / dispersion > math.log(2 / share)


def _needed(change: float) -> str:
    return "heating" if change > 1 else "cooling"
