"""Numbers and temperatures in words, for people. What comes out may stand in HTML as it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NBSP, MINUS, TIMES, DASH = "\u00a0", "\u2212", "\u00d7", "\u2013"
BOUNDS = {"zero": "0", "infinite": "\u221e"}


def decimals_of(low: float | None, high: float | None, *, most: int = 6) -> int | None:
    """The decimals that show an interval's width to two digits, `most` at most; None without a width."""
    if low is None or high is None or not high > low:
        return None
    return min(max(1 - math.floor(math.log10(high - low)), 0), most)


def as_number(value: float | None, decimals: int | None = None) -> str:
    """A number for people: fixed decimals, or three significant digits where none are given or none would be left."""
    if value is None:
        return "undefined"
    text = f"{value:.{decimals}f}" if decimals is not None else f"{value:.3g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}{NBSP}{TIMES}{NBSP}10<sup>{int(exponent)}</sup>"
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


def _one_temperature(value: float, decimals: int | None) -> str:
    if value == 0:
        return "0"
    return as_number(value, decimals if decimals is not None and value >= 10.0 ** (1 - decimals) else None)


def as_temperature(fit: Mapping[str, Any]) -> str:
    """The fitted temperature, as many digits as its interval supports."""
    return _one_temperature(fit["temperature"], decimals_of(*_interval(fit)))


def fitted_words(fit: Mapping[str, Any]) -> str:
    """The fitted T as it stands in a heading: a number, or the limit it runs to."""
    if fitted_temperature(fit) is not None:
        return f"T{NBSP}={NBSP}{as_temperature(fit)}"
    bound = BOUNDS.get(fit.get("at_bound") or "")
    return f"T{NBSP}\u2192{NBSP}{bound}" if bound else "no temperature"


def interval_words(fit: Mapping[str, Any]) -> str:
    """The interval of T; an end that is open reaches 0 or infinity."""
    low, high = _interval(fit)
    if low is None and high is None:
        return "No interval: it is not defined for this fit."
    decimals = decimals_of(low, high)
    left = BOUNDS["zero"] if low is None else _one_temperature(low, decimals)
    right = BOUNDS["infinite"] if high is None else _one_temperature(high, decimals)
    return f'{as_percent(fit["confidence"])} interval <span class="nowrap"><b>{left} to {right}</b></span>'


def meaning(fit: Mapping[str, Any]) -> str:
    """What this T says about the model, and what T says in general."""
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
    where = (
        "above 1: by likelihood the model is too cold" if temperature > 1 else "below 1: by likelihood it is too hot"
    )
    return general + f"<b>Here it lies {where}.</b>"
