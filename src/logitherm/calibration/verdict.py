"""The finding of a study in plain sentences that claim no more than the intervals allow; the first one is the
headline."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from logitherm.calibration.association import Association
from logitherm.calibration.goodness import GoodnessOfFit
from logitherm.calibration.selection import AS_IT_IS, WORDS, Selection
from logitherm.metrics import Evaluation
from logitherm.metrics.comparison import Comparison
from logitherm.thermometer import TemperatureFit

WRONG_BEYOND = 2.0  # ratio of sandwich to model-based error from which the model errs in more than its temperature
MUCH = 0.03  # calibration error that is worth a word if it remains
SURE = 0.01  # p-value below which groups are said to differ
TWO = 2.0  # standard errors of a difference beyond which it is not chance
FEW = 30  # rows below which the intervals themselves are not to be trusted
CHECK = "Check that labels and logits belong together, that labels count from 0 and columns are in their order."
PRIOR = "draw T to what is expected of it by a prior: prior=(1, 0.5) in Python, --prior 1,0.5 on the command line."


def verdict(
    fit: TemperatureFit,
    before: Evaluation,
    after: Evaluation,
    changes: Comparison,
    bins: int,
    *,
    method: str = "temperature",
    selection: Selection | None = None,
    goodness: GoodnessOfFit | None = None,
    confidence: float | None = None,
    alone: TemperatureFit | None = None,
    prior: tuple[float, float] | None = None,
    labels: Association | None = None,
) -> list[str]:
    """What the model is, what the calibrator does about it, what would do better, and what to beware of.

    `confidence` is the mean one before; with a prior, `fit` is the one under it and `alone` that of the likelihood;
    `labels` says how far labels and logits belong together.
    """
    alone = alone or fit
    if fit.classes == 1:
        return ["There is only one class: no temperature changes anything."]
    if min(fit.n, before.n) < FEW:
        return [
            f"{min(fit.n, before.n)} rows are too few to say what a temperature does; at least {FEW} are needed, "
            "better hundreds.",
            *_prior(alone, prior),
            *_excluded(fit),
        ]
    if fit.at_bound == "zero":
        return [
            "Every label is the model's first choice: these rows cannot tell how sure the model should be (T = 0).",
            f"Collect rows on which the model errs before calibrating; or {PRIOR}",
        ]
    if alone.at_bound == "infinite" or (alone.interval and alone.interval[1] == float("inf")):
        return [
            "The logits say nothing about these labels that an infinite temperature would not say as well.",
            CHECK,
            *_prior(alone, prior),
        ]
    effect = _effect(before, after, changes, WORDS[method] if method == "temperature" else f"method {method}")
    found = [_state(fit, before, confidence), *_prior(alone, prior), effect]
    if method != "temperature":
        found = [effect, found[0]]  # the headline is that of what is saved
    certain = math.isinf(after.nll.value) and math.isfinite(before.nll.value)
    if is_wrong_tool(changes):
        wrong = f"Method {method} is the wrong tool here."
        if method == "temperature":
            t = f"T = {fit.temperature:.3g}"
            wrong = f"By likelihood the best single temperature is {t}, but it is the wrong tool here."
            if not state_of(fit, before, confidence).mixed:
                del found[0]
        found.insert(0, wrong)
        found.append(
            "The calibration error grows by more than chance allows: the model errs in ways that this method cannot "
            "mend."
        )
    if selection is not None and alone.at_bound is None:  # at a bound there is nothing to compare
        grouped = goodness is not None and _groups_differ(goodness)
        found.append(_compared(selection, improved=changes.nll.sign < 0, grouped=grouped))
        certain = certain or math.isinf(selection.of(selection.best).nll)
    if certain and prior is None:
        found.append(f"Without a few of the rows the rest ask for T = 0: collect more rows, or {PRIOR}")
    if goodness is not None:
        found += _groups(goodness, method)
    return _shuffled(labels) + found + _warnings(fit, before, after, bins, method)


def _shuffled(labels: Association | None) -> list[str]:
    """Whether the labels might as well be in another order."""
    if labels is None or not labels.none:
        return []
    right, chance = 100 * labels.accuracy, 100 * labels.by_chance
    return [
        f"These labels cannot be told from shuffled ones: {right:.3g} % of the predictions are right, {chance:.3g} % "
        "would be by chance.",
        CHECK,
    ]


def _compared(selection: Selection, *, improved: bool, grouped: bool) -> str:
    """What cross-validation allows to be said of one temperature against everything else; the methods compared know no
    groups."""
    best, single, nothing = (selection.of(name) for name in (selection.best, "temperature", AS_IT_IS))
    if math.isinf(best.nll):
        return "In cross-validation every method is certain of something wrong."
    of_all = "no method without groups" if grouped else "no method"
    if nothing.behind <= TWO * nothing.error:
        mend = "" if improved or grouped else "There is hardly anything to mend: by"
        return f"{mend or 'By'} cross-validation {of_all} compared lowers the NLL by more than chance allows."
    if single.behind <= TWO * single.error:
        if grouped:
            return "By cross-validation no method without groups does better than one temperature beyond chance."
        return "One temperature is all there is to gain: by cross-validation no other method does better beyond chance."
    share = (nothing.nll - single.nll) / (nothing.nll - best.nll)
    kept = "keeps every prediction" if best.keeps_predictions else "may change predictions"
    ece = f"{100 * single.ece:.2f} % to {100 * best.ece:.2f} %"
    gain = f"{100 * share:.0f} %" if share > 0 else "nothing"
    return (
        f"By cross-validation one temperature brings {gain} of what the methods compared gain; method {best.method}, "
        f"{WORDS[best.method]}, brings the rest and {kept}: NLL {single.nll:.4g} to {best.nll:.4g}, ECE {ece}."
    )


def _groups_differ(goodness: GoodnessOfFit) -> bool:
    return any(test.family == "group" and test.trusted_p_value <= SURE for test in goodness.tests)


def _groups(goodness: GoodnessOfFit, method: str) -> list[str]:
    """Whether groups differ in temperature."""
    test = next((test for test in goodness.tests if test.family == "group"), None)
    known = sorted((part for part in goodness.by_group if part.temperature), key=lambda part: part.temperature or 0)
    if test is None or len(known) < 2:
        return []
    if test.trusted_p_value > SURE:
        p = f"p = {test.trusted_p_value:.2g}"
        return [f"The groups do not differ in temperature by more than chance allows ({p})."]
    low, high = known[0], known[-1]
    advice = "" if method == "group" else " Method group fits one for each."
    return [
        f"The groups differ in temperature (p = {test.trusted_p_value:.2g}): from T = {low.temperature:.3g} "
        f"({low.name}) to {high.temperature:.3g} ({high.name}).{advice}"
    ]


def absent_classes(labels: np.ndarray, classes: int) -> list[str]:
    """What to beware of where some classes have no rows."""
    absent = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if not len(absent) or classes < 2:
        return []
    which = f"Class {absent[0]} has" if len(absent) == 1 else f"{len(absent)} of {classes} classes have"
    return [
        f"{which} no rows among those fitted: methods with biases or a matrix learn to rule out what is absent, so "
        "none of them is recommended."
    ]


def is_wrong_tool(changes: Comparison) -> bool:
    """Whether the calibration error rises beyond chance, and the Brier score does not make up for it."""
    return changes.ece.sign > 0 and changes.brier.sign >= 0


def few_decide(fit: TemperatureFit) -> bool:
    """Whether the model-based error and interval are not to be trusted."""
    return bool(fit.standard_error and fit.sandwich_error and fit.sandwich_error > WRONG_BEYOND * fit.standard_error)


class State(NamedTuple):
    """What the model is before anything is done about it."""

    kind: str  # "overconfident", "underconfident" or "undecided"
    mixed: bool  # whether the likelihood, ruled by a few rows, asks for the opposite of what most rows need
    robust: bool  # whether the interval is that of the sandwich error
    interval: tuple[float, float]  # of T, the one to be trusted


def state_of(fit: TemperatureFit, before: Evaluation, confidence: float | None) -> State:
    """Judged by the interval of T; by accuracy and mean confidence where these contradict it."""
    robust = few_decide(fit)
    low, high = (fit.sandwich_interval if robust else fit.interval) or (0.0, math.inf)
    kind = "overconfident" if low > 1 else "underconfident" if high < 1 else "undecided"
    mixed = confidence is not None and (
        (low > 1 and confidence < before.accuracy.low) or (high < 1 and confidence > before.accuracy.high)
    )
    if mixed:
        kind = "underconfident" if low > 1 else "overconfident"
    return State(kind, mixed, robust, (low, high))


def _state(fit: TemperatureFit, before: Evaluation, confidence: float | None) -> str:
    state, t = state_of(fit, before, confidence), f"T = {fit.temperature:.3g}"
    low, high = state.interval
    if state.mixed and confidence is not None:
        sure, right = 100 * confidence, 100 * before.accuracy.value
        return (
            f"On the whole the model is {state.kind} ({sure:.3g} % sure, {right:.3g} % right), yet its likelihood "
            f"asks for {'heating' if low > 1 else 'cooling'} to {t}: a few rows outweigh all others."
        )
    if state.kind == "undecided":
        return f"The model's temperature cannot be told from 1 on {fit.n} rows ({t}, interval {low:.3g} to {high:.3g})."
    wish = "too cold, it needs heating" if low > 1 else "too hot, it needs cooling"
    return f"The model is {state.kind}: {wish} to {t}."


def _effect(before: Evaluation, after: Evaluation, changes: Comparison, calibrator: str) -> str:
    """Judged by the intervals of the differences, which compare the same rows."""
    ece_before, ece_after = (f"{100 * side.ece.value:.2f} %" for side in (before, after))
    scores = f"NLL {before.nll.value:.4g} to {after.nll.value:.4g}, ECE {ece_before} to {ece_after}"
    nll, ece = _nll_sign(before, after, changes), changes.ece.sign
    if ece < 0 and after.ece_equal_mass.value >= before.ece_equal_mass.value:
        ece = 0  # other bins, other answer
    words = {-1: "falls", 0: "does not change by more than chance allows", 1: "rises"}
    if math.isinf(after.nll.value):
        certain = f"{calibrator} is certain of something wrong, so the NLL becomes infinite"
        if nll == 0:
            certain = "some labels have probability 0, so the NLL is infinite before and after"
        return f"On rows it was not fitted to, {certain}; the calibration error {words[ece]}: {scores}."
    if nll < 0 and ece < 0:
        return f"{calibrator.capitalize()} improves both scores on rows it was not fitted to: {scores}."
    if nll == ece == 0:
        return f"On rows it was not fitted to, neither score changes by more than chance allows: {scores}."
    return f"On rows it was not fitted to, the NLL {words[nll]} and the calibration error {words[ece]}: {scores}."


def _nll_sign(before: Evaluation, after: Evaluation, changes: Comparison) -> int:
    """That of the change, which has no interval where a side is infinite."""
    return changes.nll.sign or int(math.isinf(after.nll.value)) - int(math.isinf(before.nll.value))


def _prior(alone: TemperatureFit, prior: tuple[float, float] | None) -> list[str]:
    """What the prior does to T."""
    if prior is None:
        return []
    t = "infinity" if math.isinf(alone.temperature) else f"{alone.temperature:.3g}"
    return [
        f"T is drawn to {prior[0]:g} by the prior (deviation {prior[1]:g} of log T); the rows alone ask for T = {t}."
    ]


def _warnings(fit: TemperatureFit, before: Evaluation, after: Evaluation, bins: int, method: str) -> list[str]:
    found = []
    chance = 0.4 * math.sqrt(bins / after.n)  # at most the mean ECE of an honest model: sqrt(2 / pi) / 2 a bin
    if max(before.ece.value / 2, chance) < after.ece.low <= before.ece.high and after.ece.value > MUCH:
        found.append(f"Much of the calibration error remains: it is not a matter of {WORDS[method]}.")
    if few_decide(fit) and fit.sandwich_interval:
        ratio = (fit.sandwich_error or 0) / (fit.standard_error or 1)
        low, high = fit.sandwich_interval
        found.append(
            f"The robust standard error is {ratio:.1f} times the model-based one: a few rows decide, or the model "
            f"is wrong in more than its temperature. Trust the robust interval of T, {low:.3g} to {high:.3g}."
        )
    return found + _excluded(fit)


def _excluded(fit: TemperatureFit) -> list[str]:
    if not fit.excluded:
        return []
    rows = "1 row was" if fit.excluded == 1 else f"{fit.excluded} rows were"
    return [f"{rows} left out: the label has probability zero at every temperature."]
