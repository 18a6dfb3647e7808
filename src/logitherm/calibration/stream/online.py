"""The temperature of a stream of rows: old rows are forgotten, the memory is constant, and an alarm tells of change.

Every row is weighted by 2^(-age / half_life). The likelihood of the weighted rows is known by its sums: negative
log-likelihood, score s and curvature at inverse temperatures b on a fixed grid. Ageing multiplies each sum by the same
factor, so a batch costs one pass and no row is kept. T is where the score vanishes, by cubic Hermite interpolation in
log b from scores and curvatures at the two nearest nodes. The score has the variance sum w_i^2 s_i^2, whose sums age by
the square of the factor; the error of 1/T is its root over the curvature. Two nodes at the ends of what numbers can
hold tell whether there is a root at all.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from logitherm._array import as_logits, describe
from logitherm._json import plain
from logitherm.calibration.base import number, numbers, whole_number
from logitherm.calibration.rows import Labelled, labelled, possible
from logitherm.calibration.stream.alarm import Alarm, likelihood_table, watch
from logitherm.calibration.stream.grid import grid, optimum
from logitherm.calibration.stream.reference import as_reference, as_run_length, band_around
from logitherm.calibration.temperature_scaling import TemperatureScaling
from logitherm.io import write_whole
from logitherm.kernels.likelihood import Observed, totals
from logitherm.thermometer import TemperatureFit
from logitherm.thermometer.intervals import around

FEW_VALUES = 1 << 12  # below, rows times temperatures at once are quicker than temperature by temperature
FORMAT = "logitherm.OnlineThermometer/1"


@dataclass(frozen=True)
class OnlineTemperature:
    """What an online thermometer reads.

    Attributes
    ----------
    temperature : float
        The maximum-likelihood T of the weighted rows; 0 or inf at those limits, NaN outside the grid.
    sandwich_error : float or None
        Of T, robust against a model that is wrong in more than its temperature; None where T is not on the grid, or
        where the squares of the weights underflow (weights below 1e-154).
    interval : (float, float) or None
        Of log T, by that error.
    confidence : float
        Its level.
    at_bound : "zero", "infinite", "below grid", "above grid" or None
        "zero" and "infinite" as in `TemperatureFit`; else T exists but is more than 64 times off the reference.
    nll_before, nll_after : float
        Weighted mean negative log-likelihood at the reference and at T, in nats: what a new T would gain. The second is
        interpolated to 1e-5 nats, NaN where T is not on the grid.
    n, excluded : int
        Rows seen since the start, and rows left out as impossible.
    effective_n : float
        Rows of equal weight that would tell as much: (sum w)^2 / sum w^2; NaN where the squares underflow.
    rows_to_alarm : int or None
        Rows seen from the last reset until the alarm.
    needs : "heating", "cooling" or None
        What the alarm says the model needs: heating where T is above the band, so that the model is overconfident (too
        cold) at temperatures in it; cooling where T is below.
    alarm_level : float
        Evidence of the present against the band; the alarm rises at 1.
    """

    temperature: float
    sandwich_error: float | None
    interval: tuple[float, float] | None
    confidence: float
    at_bound: str | None
    nll_before: float
    nll_after: float
    n: int
    excluded: int
    effective_n: float
    rows_to_alarm: int | None
    needs: str | None
    alarm_level: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: None where a number is not finite."""
        return dict(plain(asdict(self)))


class OnlineThermometer:
    """The temperature that a stream of labelled logits needs now, and an alarm when it leaves a band.

    Batches of any size go in, in the order of the stream; the result is the same for every division into batches, to
    rounding. The state is some 200 numbers whatever the length. T is that of `fit_temperature` with the weights
    2^(-age / half_life): within 0.002 of its standard error on simulated rows, that error within 1 % (3 % where hardly
    a row tells T).

    The alarm: while T lies in `band`, whatever its path there and whatever the logits, a false one comes after
    `run_length` rows or more on average, and within the first n rows with a probability of at most n / `run_length`
    (see `logitherm.calibration.stream.alarm`). With the defaults, 10 classes and logits of deviation 2, a step of T
    from 1 to 2 raises it after 55 rows on average, to 1.5 after 140, to 1.2 after 850, to 1.1 after 6300; with a
    `run_length` of 200 false ones came after 330 to 440. It is deaf to all else: a loss of accuracy that leaves T as
    it is, say.
    The rate is exact for labels drawn from softmax(logits / T); for a model that is wrong in more than its temperature
    it is approximate, and only with its `dispersion`.

    Parameters
    ----------
    reference_temperature : float, TemperatureScaling or TemperatureFit
        The T in use, in the units of the logits that will come; for logits from another calibrator's `transform`, 1.
    reference_error : float, optional
        Its relative standard error; None takes that of a fit, and 0 for a number.
    dispersion : float, optional
        How much more the score of rows varies than the model says, at least 1: (sandwich error / standard error)^2 of
        a fit of the reference, from which None takes it; 1 for a number.
    half_life : float or None
        Rows after which a row counts half; None forgets nothing.
    tolerance : float
        Relative change of T that is no cause for alarm. The band is the interval of the reference, widened by it.
    run_length : float
        Rows to a false alarm, at least, on average.
    confidence : float
        Level of the intervals.
    zero_labels : "raise" or "exclude"
        What to do with rows whose label has logit -inf.

    Attributes
    ----------
    band : (float, float)
        Temperatures that are no cause for alarm.

    Raises
    ------
    ValueError
        A reference that is 0 or inf, a band without bounds, or settings out of range.

    References
    ----------
    White (1982) for the sandwich error; Shin, Ramdas and Rinaldo (2024), E-detectors, section 2, for the alarm.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> thermometer = OnlineThermometer(1.0, half_life=400)
    >>> for temperature in (1.0, 1.0, 1.6):
    ...     z = 2 * rng.normal(size=(2000, 5))
    ...     labels = (z / temperature + rng.gumbel(size=z.shape)).argmax(axis=1)
    ...     found = thermometer.update(z, labels).reading()
    ...     print(round(found.temperature, 1), found.needs)
    1.0 None
    1.0 None
    1.6 heating
    """

    def __init__(
        self,
        reference_temperature: float | TemperatureScaling | TemperatureFit = 1.0,
        *,
        reference_error: float | None = None,
        dispersion: float | None = None,
        half_life: float | None = 10_000.0,
        tolerance: float = 0.05,
        run_length: float = 100_000.0,
        confidence: float = 0.95,
        zero_labels: str = "raise",
    ) -> None:
        reference, error, dispersion = as_reference(reference_temperature, reference_error, dispersion)
        if half_life is not None and not 0 < half_life < math.inf:
            raise ValueError(f"half_life: must be a positive number of rows or None; got {half_life}; give 10000, say")
        if zero_labels not in ("raise", "exclude"):
            raise ValueError(
                f"zero_labels: must be 'raise' or 'exclude'; got {zero_labels!r}; 'exclude' leaves impossible rows out"
            )
        self.reference_temperature, self.reference_error, self.dispersion = reference, error, dispersion
        self.half_life = None if half_life is None else float(half_life)
        self.tolerance, self.run_length = float(tolerance), as_run_length(run_length)
        self.confidence, self.zero_labels = float(confidence), zero_labels
        self.band = band_around(reference, error, tolerance, confidence)
        self._alarm = Alarm(self.band, self.run_length, self.dispersion)
        self._inverse = grid(reference)
        self._sums = np.zeros((4, len(self._inverse)))  # NLL, score, curvature and squared score: as in `Totals`
        self._weights = np.zeros(2)  # sums of weights and of their squares
        self._n = self._excluded = 0
        self._classes: int | None = None

    def update(self, logits: Any, labels: Any, weights: Any = None) -> OnlineThermometer:
        """Take the next rows of the stream: logits (n, classes), labels (n,), and weights (n,) where they differ.

        Weights scale a row's part in T. For the alarm a weight w < 1 weakens the evidence of its row, and a larger one
        counts as 1; its guarantee needs weights that do not depend on the labels.

        Raises
        ------
        TypeError, ValueError
            As `logitherm.fit_temperature`; another number of classes than before. The state is then as it was.
        """
        data, excluded = self._sound(logits, labels, weights)
        n = len(data.labels)
        if n:
            kept = 1.0 if self.half_life is None else 0.5 ** (1 / self.half_life)
            aged = data.weights * kept ** np.arange(n - 1, -1, -1.0)
            at_alarm, sums = self._statistics(data, aged)
            past = kept**n
            self._sums = self._sums * np.array([past, past, past, past**2])[:, None] + sums
            self._weights = self._weights * [past, past**2] + [aged.sum(), (aged**2).sum()]
            if at_alarm is None:
                watch(self._alarm, data)
            else:
                self._alarm.update(at_alarm, data.weights)
        self._classes = data.logits.shape[1]
        self._n, self._excluded = self._n + n, self._excluded + excluded
        return self

    def _sound(self, logits: Any, labels: Any, weights: Any) -> tuple[Labelled, int]:
        """The possible rows, and how many were not."""
        z = as_logits(logits)
        if z.ndim != 2:
            raise ValueError(
                f"logits: must have the shape (rows, classes); got {describe(z)}; give one row as (1, classes)"
            )
        if self._classes not in (None, z.shape[1]):
            raise ValueError(
                f"logits: must have the {self._classes} classes of the rows before; got {describe(z)}; "
                "make a new thermometer for another model"
            )
        all_zero = weights is not None and np.size(weights) > 0 and not np.any(weights)
        data = labelled(z, labels, np.ones_like(weights, dtype=float) if all_zero else weights)
        if all_zero:
            data = data._replace(weights=np.zeros(len(data.labels)))
        kept = possible(data.logits, data.labels)
        excluded = len(data.labels) - len(kept)
        if excluded and self.zero_labels == "raise":
            raise ValueError(
                f"labels: must be possible; {excluded} of {len(data.labels)} rows have a label of logit -inf "
                "(probability 0 at every T); mend them or pass zero_labels='exclude'"
            )
        return data.take(kept) if excluded else data, excluded

    def _statistics(self, data: Labelled, aged: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """For few rows the NLL at the temperatures of the alarm; sums at those of the grid."""
        if data.logits.size >= FEW_VALUES:
            return None, totals(data.logits, Observed(labels=data.labels, weights=aged), self._inverse).sums
        count = len(self._alarm.temperatures)
        found = likelihood_table(data, np.concatenate([self._alarm.temperatures, 1 / self._inverse]))
        nll, score, curvature = (each[:, count:] for each in found)
        return found.nll[:, :count], np.stack([aged @ nll, aged @ score, aged @ curvature, aged**2 @ score**2])

    def reading(self) -> OnlineTemperature:
        """What the stream so far says.

        Raises
        ------
        ValueError
            No row of positive weight yet, or none that is not forgotten.
        """
        weight, squares = map(float, self._weights)
        if not weight > 0:
            raise ValueError(f"logits: must have had a row of positive weight; got {self._n} rows; call update first")
        temperature, error, after, bound = optimum(self._inverse, self._sums)
        interval = None if error is None else around(temperature, error, self.confidence)
        middle = len(self._inverse) // 2
        return OnlineTemperature(
            temperature=temperature,
            sandwich_error=None if error is None else temperature * error,
            interval=interval,
            confidence=self.confidence,
            at_bound=bound,
            nll_before=float(self._sums[0, middle]) / weight,
            nll_after=float(after) / weight,
            n=self._n,
            excluded=self._excluded,
            effective_n=weight**2 / squares if squares > np.finfo(np.float64).tiny else math.nan,
            rows_to_alarm=self._alarm.rows_to_alarm,
            needs=self._alarm.needs,
            alarm_level=self._alarm.level,
        )

    def reset(self) -> OnlineThermometer:
        """Set the alarm again, as if no row had come; T is kept. For another reference make a new thermometer."""
        self._alarm.clear()
        return self

    def to_json(self) -> str:
        """Settings and state as JSON."""
        names = ("half_life", "tolerance", "run_length", "confidence", "zero_labels")
        values = {
            "format": FORMAT,
            "reference_temperature": self.reference_temperature,
            "reference_error": self.reference_error,
            "dispersion": self.dispersion,
            **{name: getattr(self, name) for name in names},
            "classes": self._classes,
            "n": self._n,
            "excluded": self._excluded,
            "weights": self._weights,
            "sums": self._sums,
            "alarm": {
                "evidence": self._alarm.evidence,
                "rows": self._alarm.rows,
                "rows_to_alarm": self._alarm.rows_to_alarm,
                "needs": self._alarm.needs,
            },
        }
        return json.dumps(plain(values), indent=2, allow_nan=False) + "\n"

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write `to_json` to a file, whole or not at all; an existing file only with `force`."""
        write_whole(path, self.to_json().encode(), force=force)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> OnlineThermometer:
        """The thermometer that `save` wrote, to be continued.

        Raises
        ------
        ValueError
            A file that is not an online thermometer, or holds impossible values.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(values, dict) or values.get("format") != FORMAT:
                raise ValueError(f"format is not {FORMAT}")
            return cls._of(values)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{os.fspath(path)}: must be a thermometer saved by OnlineThermometer ({reason}); save it again"
            ) from error

    @classmethod
    def _of(cls, values: dict[str, Any]) -> OnlineThermometer:
        half_life = values["half_life"]
        self = cls(
            number(values["reference_temperature"], 0),
            reference_error=number(values["reference_error"], 0),
            dispersion=number(values["dispersion"], 1),
            half_life=None if half_life is None else number(half_life, 0),
            tolerance=number(values["tolerance"], 0),
            run_length=number(values["run_length"], 1),
            confidence=number(values["confidence"], 0),
            zero_labels=values["zero_labels"],
        )
        self._classes = None if values["classes"] is None else whole_number(values["classes"])
        self._n, self._excluded = (whole_number(values[name], 0) for name in ("n", "excluded"))
        self._weights = numbers(values["weights"], 2)
        if len(values["sums"]) != 4:
            raise ValueError(f"{len(values['sums'])} rows of sums where 4 are due")
        self._sums = np.stack([numbers(row, len(self._inverse)) for row in values["sums"]])
        alarm, kept = self._alarm, values["alarm"]
        alarm.evidence, alarm.rows = numbers(kept["evidence"], len(alarm.evidence)), whole_number(kept["rows"], 0)
        alarm.rows_to_alarm = None if kept["rows_to_alarm"] is None else whole_number(kept["rows_to_alarm"])
        alarm.needs = kept["needs"]
        if alarm.needs not in (None, "heating", "cooling") or min(alarm.evidence.min(), self._weights.min()) < 0:
            raise ValueError("impossible values")
        return self
