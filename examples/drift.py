"""When does a calibrator go stale? A stream of images that slowly grow noisy, watched by an online thermometer.

What: a network of one hidden layer reads scikit-learn's handwritten digits; a temperature is fitted on images it has
not seen. Then a stream of such images comes, with labels, in batches: clean at first, from the middle on with more and
more noise, as from an ageing camera. The online thermometer reads T and its interval, raises an alarm when T leaves the
band of the calibrator, and a calibrator fitted again is set beside the old one.

Why: accuracy is watched everywhere, confidence hardly anywhere. The table sets T beside the accuracy, and the last
lines, computed from the numbers, say what the stale calibrator costs and what fitting again mends.

    python examples/drift.py
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from logitherm import TemperatureScaling
from logitherm.calibration.stream.drift import check_drift
from logitherm.calibration.stream.online import OnlineThermometer
from logitherm.metrics import accuracy, expected_calibration_error

ROWS, BATCH, LATEST = 6000, 250, 1000
NOISE = 0.6  # standard deviation at the end of the stream, in units of full ink


def logits_of(network: MLPClassifier, images: np.ndarray) -> np.ndarray:
    """Scores before the softmax, which scikit-learn does not give."""
    hidden = np.maximum(images @ network.coefs_[0] + network.intercepts_[0], 0.0)
    return hidden @ network.coefs_[1] + network.intercepts_[1]


def main() -> None:
    rng = np.random.default_rng(0)
    images, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels))
    images, labels = images[order] / 16.0, labels[order]
    network = MLPClassifier((64,), alpha=0.0, max_iter=2000, tol=1e-5, random_state=0)
    network.fit(images[:400], labels[:400])
    scaling = TemperatureScaling().fit(logits_of(network, images[400:1100]), labels[400:1100])
    print(f"Calibrated on 700 images: T = {scaling.temperature_:.2f}, {interval(scaling.interval_)}.")

    rows = rng.integers(1100, len(labels), ROWS)
    noise = NOISE * np.clip(np.arange(ROWS) / ROWS * 2 - 1, 0.0, None)
    stream = logits_of(network, images[rows] + noise[:, None] * rng.normal(size=(ROWS, images.shape[1])))
    truth = labels[rows]

    thermometer = OnlineThermometer(scaling, half_life=500, run_length=100_000)
    low, high = thermometer.band
    print(f"Alarm when T leaves {low:.2f} to {high:.2f}; a false one in {ROWS} rows: {ROWS / 1000:.0f} % at most.\n")
    print("    rows   noise   right      T   95 % interval")
    alarm = None
    for end in range(BATCH, ROWS + 1, BATCH):
        batch = slice(end - BATCH, end)
        found = thermometer.update(stream[batch], truth[batch]).reading()
        rung = alarm is None and found.rows_to_alarm is not None
        alarm = found.rows_to_alarm if rung else alarm
        if rung or end % 1000 == 0:
            right = 100 * accuracy(stream[batch], truth[batch])
            line = f"{end:>8}{noise[end - 1]:>8.2f}{right:>6.1f} %{found.temperature:>7.2f}"
            print(f"{line}   {interval(found.interval)}" + (f"   alarm, after {alarm} rows" if rung else ""))

    print("\nWhat is seen")
    old, new = slice(ROWS - 2 * LATEST, ROWS - LATEST), slice(ROWS - LATEST, ROWS)
    again = TemperatureScaling().fit(stream[old], truth[old])
    for name, fitted in (("calibrator of the start", scaling), ("fitted again on the 1000 before", again)):
        verdict = check_drift(fitted, stream[new], truth[new])
        ece = 100 * expected_calibration_error(fitted.transform(stream[new]), truth[new])
        print(f"  last {LATEST} rows, {name}: ECE {ece:.1f} %, T needed {verdict.change:.2f} times as high")
    if alarm is None:
        print("  the alarm was not raised")
    else:
        began = alarm - ROWS // 2
        print(f"  the alarm was raised {began} rows after the noise began, at a noise of {noise[alarm - 1]:.2f}")


def interval(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.2f} to {ends[1]:.2f}"


if __name__ == "__main__":
    main()
