"""Numbers and temperatures in words, for people. What comes out may stand in HTML as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NBSP, MINUS, TIMES, DASH = "\u00a0", "\u2212", "\u00d7", "\u2013"
BOUNDS = {"zero": "0", "infinite": "\u221e"}
SUPERSCRIPTS = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


def as_power(exponent: int) -> str:
    """A power of ten, as it stands on an axis; 1 and 10 are plain."""
    return {0: "1", 1: "10"}.get(exponent) or f"10{str(exponent).translate(SUPERSCRIPTS)}"


def as_number(value: float | None, decimals: int | None = None, *, digits: int = 3) -> str:
    """A number for people: fixed decimals, or significant digits where none are given; a power of ten where zeros
    would have to be counted."""
    if value is None:
        return "undefined"
    if decimals is None and value == 0:
        return "0"
    size = abs(value)
    if size >= 1e5 or (decimals is None and size < 1e-4):
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        text = f"{mantissa}{NBSP}{TIMES}{NBSP}{as_power(int(exponent))}"
    else:
        places = decimals if decimals is not None else max(digits - 1 - math.floor(math.log10(size)), 0)
        text = f"{value:.{places}f}"
    return text.replace("-", MINUS)


def as_count(value: int) -> str:
    """Thousands apart from 10 000 on."""
    return f"{value:,}".replace(",", "\u202f") if value >= 10000 else str(value)


def as_percent(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.4g}{NBSP}%"


def _interval(fit: Mapping[str, Any]) -> tuple[float | None, float | None]:
    low, high = fit.get("interval") or (None, None)
    return low, high


def fitted_temperature(fit: Mapping[str, Any]) -> float | None:
    """The fitted T; None where the fit ran to a bound, whichever way the bound itself is written."""
    return None if fit.get("at_bound") else fit["temperature"]


def as_temperature(value: float, fit: Mapping[str, Any]) -> str:
    """A temperature as it is written all over the page: three significant digits, more where the interval of the fit is
    too narrow to be told in three."""
    low, high = _interval(fit)
    digits = 3
    if low and high and high > low:
        digits = min(max(digits, 1 + math.floor(math.log10(high)) - math.floor(math.log10(high - low))), 8)
    return as_number(value, digits=digits)


def fitted_words(fit: Mapping[str, Any]) -> str:
    """The fitted T as it stands in a heading: a number, or the limit it runs to."""
    fitted = fitted_temperature(fit)
    if fitted is not None:
        return f"T{NBSP}={NBSP}{as_temperature(fitted, fit)}"
    bound = BOUNDS.get(fit.get("at_bound") or "")
    return f"T{NBSP}\u2192{NBSP}{bound}" if bound else "no temperature"


def interval_words(fit: Mapping[str, Any]) -> str:
    """The interval of T; an end that is open reaches 0 or infinity."""
    low, high = _interval(fit)
    if low is None and high is None:
        return "No interval: it is not defined for this fit."
    left = BOUNDS["zero"] if low is None else as_temperature(low, fit)
    right = BOUNDS["infinite"] if high is None else as_temperature(high, fit)
    return f'{as_percent(fit["confidence"])} interval <span class="nowrap"><b>{left} to {right}</b></span>'


def meaning(fit: Mapping[str, Any], *, mixed: Any = False) -> str:
    """What this T says about the model, and what T says in general; `mixed` says that most rows need the opposite."""
    temperature, bound = fitted_temperature(fit), fit.get("at_bound")
    low, high = _interval(fit)
    general = f"T divides the logits before the softmax; T{NBSP}={NBSP}1 changes nothing. "
    if bound == "zero":
        return general + (
            "Here every T is too large: the true class always has the top score, so the model can never be too sure. "
            "<b>No finite temperature fits; more rows, with some errors among them, would give one.</b>"
        )
    if bound == "infinite":
        return general + (
            "Here no T is large enough: the scores do not favour the true class. "
            "<b>The honest answer is to treat all classes alike; check that labels and columns match.</b>"
        )
    if temperature is None:
        return general
    general += (
        f"T{NBSP}&gt;{NBSP}1 means overconfident: too cold, it needs heating. "
        f"T{NBSP}&lt;{NBSP}1 means underconfident: too hot, it needs cooling. "
    )
    if (low or 0) <= 1 and (high is None or high >= 1) and (low, high) != (None, None):
        return general + "<b>Here the interval contains 1: these rows show no need of another temperature.</b>"
    if mixed:
        kind, wish = ("underconfident", "heating") if temperature > 1 else ("overconfident", "cooling")
        return general + (
            f"<b>Here the likelihood asks for {wish} though the model is {kind} on the whole: a few rows outweigh all "
            "others.</b>"
        )
    where = (
        "above 1: by likelihood the model is too cold" if temperature > 1 else "below 1: by likelihood it is too hot"
    )
    return general + f"<b>Here it lies {where}.</b>"


def slider_words(temperature: float, study: Mapping[str, Any], diagram: Mapping[str, Any]) -> str:
    """What a temperature does, in agreement with the verdict: by the interval of T to be trusted; and by what the rows
    of the diagram are on the whole, where a few of them rule the likelihood."""
    fit, state = study["fit"], study.get("state") or {}
    start = "The model as it came. " if temperature == 1 else ""
    if fitted_temperature(fit) is None:
        return start + "No finite temperature was fitted."
    low, high = state.get("interval") or _interval(fit)
    side = "too sure" if low and temperature < low else "too modest" if high and temperature > high else ""
    if state.get("mixed"):
        by_few = f"by likelihood, which a few rows rule, {side or 'about right'}"
        return start + f"On the whole {_on_the_whole(diagram, study['before']['accuracy'])}; {by_few}."
    if not side:
        return start + "Within the range the data supports."
    return start + f"{'Colder' if side == 'too sure' else 'Hotter'} than the fitted range: by likelihood, {side}."


def _on_the_whole(diagram: Mapping[str, Any], accuracy: Mapping[str, float]) -> str:
    rows = [(n, c) for n, c in zip(diagram["count"], diagram["confidence"], strict=True) if n]
    sure = sum(n * c for n, c in rows) / sum(n for n, _ in rows)
    side = "too modest" if sure < accuracy["low"] else "too sure" if sure > accuracy["high"] else "about right"
    return f"{side} ({100 * sure:.3g}{NBSP}% sure, {100 * accuracy['value']:.3g}{NBSP}% right)"
