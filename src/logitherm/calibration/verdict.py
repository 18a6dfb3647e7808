"""The finding of a study in plain sentences that claim no more than the intervals allow; the first one is the
headline."""

from __future__ import annotations

from logitherm.metrics import Evaluation
from logitherm.thermometer import TemperatureFit

WRONG_BEYOND = 2.0  # ratio of sandwich to model-based error from which the model errs in more than its temperature
MUCH = 0.03  # calibration error that is worth a word if it remains


def verdict(fit: TemperatureFit, before: Evaluation, after: Evaluation) -> list[str]:
    """What the model is, what one temperature does about it, and what to beware of."""
    if fit.classes == 1:
        return ["There is only one class: no temperature changes anything."]
    if fit.at_bound == "zero":
        return [
            "Every label is the model's first choice: these rows cannot tell how sure the model should be (T = 0).",
            "Collect rows on which the model errs before calibrating.",
        ]
    if fit.at_bound == "infinite" or (fit.interval and fit.interval[1] == float("inf")):
        return [
            "The logits say nothing about these labels that an infinite temperature would not say as well.",
            "Check that labels and logits belong together and that the columns are in the order of the labels.",
        ]
    found = [_state(fit), _effect(before, after), *_warnings(fit, before, after)]
    if after.ece.low > before.ece.high:
        found[0] = (
            f"By likelihood the best single temperature is T = {fit.temperature:.3g}, but it is the wrong tool here."
        )
        found.insert(2, "The calibration error grows beyond its interval: the model errs in more than its temperature.")
    return found


def _state(fit: TemperatureFit) -> str:
    low, high = fit.interval or (0.0, float("inf"))
    t = f"T = {fit.temperature:.3g}"
    if low > 1:
        return f"The model is overconfident: too cold, it needs heating to {t}."
    if high < 1:
        return f"The model is underconfident: too hot, it needs cooling to {t}."
    return f"The model's temperature cannot be told from 1 on {fit.n} rows ({t}, interval {low:.3g} to {high:.3g})."


def _effect(before: Evaluation, after: Evaluation) -> str:
    scores = f"NLL {before.nll.value:.4f} to {after.nll.value:.4f}, ECE {before.ece.value:.2%} to {after.ece.value:.2%}"
    better_nll, better_ece = after.nll.value < before.nll.value, after.ece.value < before.ece.value
    if better_nll and better_ece:
        return f"One temperature improves both scores on rows it was not fitted to: {scores}."
    if better_nll:
        return f"One temperature improves the likelihood but not the calibration error: {scores}."
    if better_ece:
        return f"One temperature lowers the calibration error but not the likelihood: {scores}."
    return f"One temperature improves neither score on rows it was not fitted to: {scores}."


def _warnings(fit: TemperatureFit, before: Evaluation, after: Evaluation) -> list[str]:
    found = []
    if before.ece.value / 2 < after.ece.low <= before.ece.high and after.ece.value > MUCH:
        found.append("Much of the calibration error remains: it is not a matter of one temperature.")
    if fit.standard_error and fit.sandwich_error and fit.sandwich_error > WRONG_BEYOND * fit.standard_error:
        ratio = fit.sandwich_error / fit.standard_error
        found.append(
            f"The robust standard error is {ratio:.1f} times the model-based one: a few rows decide, or the model "
            "is wrong in more than its temperature. Trust the robust error."
        )
    if fit.excluded:
        found.append(
            f"{fit.excluded} rows were left out because their label has probability zero at every temperature."
        )
    return found
