"""One offline HTML file from a calibration study: words, table, figures, and a slider over a precomputed grid of T.

What the user chose (title, file names, verdict) is escaped. page.html, page.css and page.js beside this file are the
page itself, in the frame that all reports have.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import Any, Protocol

from logitherm._words import counted
from logitherm.report.enough import enough, parted
from logitherm.report.frame import export_buttons, page
from logitherm.report.groups import group_table
from logitherm.report.tables import export_tables
from logitherm.report.trust import FIGURE as TRUST_FIGURE
from logitherm.report.trust import trust
from logitherm.report.words import (
    BOUNDS,
    DASH,
    MINUS,
    NBSP,
    TIMES,
    as_count,
    as_number,
    as_percent,
    as_power,
    as_temperature,
    fitted_temperature,
    fitted_words,
    interval_words,
    meaning,
    slider_words,
)

# key, name, unit, decimals, which way is better, what it is in plain words
SCORES = (
    (
        "accuracy",
        "Accuracy",
        "%",
        2,
        "higher is better",
        "how often the top answer is right; one temperature leaves it as it is",
    ),
    ("nll", "Negative log-likelihood", "", 4, "lower is better", "surprise at the true class, in nats per row"),
    ("brier", "Brier score", "", 4, "lower is better", "squared distance between probabilities and outcome"),
    ("ece", "Calibration error (ECE)", "%", 2, "lower is better", "average gap between confidence and accuracy"),
    (
        "ece_equal_mass",
        "ECE, equal-mass bins",
        "%",
        2,
        "lower is better",
        "the same, with equally many rows in every bin",
    ),
    (
        "classwise_ece",
        "Class-wise ECE",
        "%",
        3,  # an average over classes, which shrinks as they grow in number
        "lower is better",
        "the gap of every class's probability, averaged over classes",
    ),
    (
        "smooth_ece",
        "Smooth ECE",
        "%",
        2,
        "lower is better",
        "the gap smoothed over confidence, without bins",
    ),
    (
        "mce",
        "Maximum calibration error",
        "%",
        2,
        "lower is better",
        "the largest gap of any bin; noisy where rows are few",
    ),
)

USE = """<p>Save the calibrator with <code>logitherm calibrate &hellip; --save calibrator.json</code>,
then apply it to new logits:</p>
<pre>logitherm apply calibrator.json logits.npz$option -o probs.npz</pre>
$groups<p>The same in Python:</p>
<pre>from logitherm.calibration import load_calibrator
probabilities = load_calibrator("calibrator.json").predict_proba(logits$argument)</pre>
<p>Or divide the logits by $temperature before the softmax: that is all it does.</p>"""

USE_GROUPS = """<p><code>groups.npy</code> names the group of every row of the logits. Without it, and in groups that
were not in the fit, rows get the common temperature, T&nbsp;=&nbsp;$common.</p>
"""

NOTHING_TO_USE = {
    "zero": "At T = 0 every answer would be given with full certainty, the wrong ones too: fit again on more rows, "
    "some of them errors.",
    "infinite": "As T grows all classes become equally likely, whatever the logits say: mend the data and fit again.",
}


LIKELIHOOD_RATIO = "Likelihood ratio against T&nbsp;=&nbsp;1"
INTERVAL = "Profile likelihood: all T that a likelihood-ratio test"
ROBUST_INTERVAL = (
    "Normal approximation of log T by the sandwich error, as a few rows decide; the profile likelihood alone gives "
)
PRIOR_INTERVAL = "Normal approximation of log T under the prior."


class Study(Protocol):
    """What the report needs of a calibration study."""

    def to_dict(self) -> Mapping[str, Any]:
        """The study in JSON-ready types; None where undefined."""
        ...


# ---- fragments ------------------------------------------------------------------------------------------------------


def _about(study: Mapping[str, Any]) -> str:
    return escape(
        f"Fitted on {_counted(study['n_fit'], 'row')} of {study['name']} with {_counted(study['classes'], 'class')}; "
        f"scores: {study['scored_on']}."
    )


def _counted(count: int, what: str) -> str:
    return counted(count, what, as_count(count))


def _sentence(text: str) -> str:
    """A sentence of the verdict: powers of ten written out, and no line break inside a number."""
    text = re.sub(r"(?<=\d)e([+-]\d+)\b", lambda e: f"{NBSP}{TIMES}{NBSP}{as_power(int(e[1]))}", text)
    return escape(text).replace("T = ", f"T{NBSP}={NBSP}").replace(" %", f"{NBSP}%")


def _verdict(study: Mapping[str, Any]) -> str:
    sentences = [_sentence(text) for text in study["verdict"] or ["No verdict was given."]]
    classes = [' class="first"'] + [""] * (len(sentences) - 1)
    return "\n".join(f"<p{which}>{text}</p>" for which, text in zip(classes, sentences, strict=True))


def _gauge(fit: Mapping[str, Any]) -> str:
    """T on a log axis of powers of two, or of ten where it is far from 1, with its interval and T = 1."""
    low, high = fit.get("interval") or (None, None)
    fitted = fitted_temperature(fit)
    known = [t for t in (low, fitted, high) if t]
    base, most = (2, 8) if all(1 / 8 <= t <= 8 for t in known) else (10, 6)
    start = min(-2, *(math.floor(math.log(t, base) - 0.3) for t in (*known, 1.0)))
    stop = max(2, *(math.ceil(math.log(t, base) + 0.3) for t in (*known, 1.0)))

    def place(t: float | None, limit: float) -> float:
        return round(100 * (math.log(t, base) - start) / (stop - start), 2) if t else limit

    parts = ['<div class="track"></div>']
    if fitted or fit.get("at_bound"):
        left, right = place(low, 0.0), place(high, 100.0)
        if low is not None or high is not None:
            parts.append(f'<div class="range" style="left:{left}%;width:{round(right - left, 2)}%"></div>')
        at = place(fitted, 0.0 if fit.get("at_bound") == "zero" else 100.0)
        parts.append(f'<div class="dot" style="left:{at}%"></div>')
    one = place(1.0, 0.0)
    parts.append(f'<div class="one" style="left:{one}%"></div>')
    # shifted by its own share of the width, the label stays on the axis wherever 1 is
    parts.append(f'<div class="one-label" style="left:{one}%;transform:translateX(-{one}%)">1: honest as it is</div>')
    step = math.ceil((stop - start) / most)
    powers = [power for power in range(start, stop + 1) if power % step == 0]
    ticks = {power: as_power(power) if base == 10 else f"{2.0**power:g}" for power in powers}
    if fit.get("at_bound"):  # the mark stands at the end of the axis, which then means the bound itself
        ticks[start if fit["at_bound"] == "zero" else stop] = BOUNDS[fit["at_bound"]]
    for power, label in ticks.items():
        parts.append(
            f'<div class="tick" style="left:{round(100 * (power - start) / (stop - start), 2)}%">{label}</div>'
        )
    parts.append('<div class="side left">needs cooling</div><div class="side right">needs heating</div>')
    return f'<div class="gauge" aria-hidden="true">{"".join(parts)}</div>'


def _saved(study: Mapping[str, Any]) -> str:
    """What was saved, where that is not one temperature: its name as the big one, and its scores."""
    if study["method"] == "temperature":
        return ""
    shown = {key: (name, unit, decimals) for key, name, unit, decimals, _, _ in SCORES}
    cells = []
    for key, name in (("nll", "NLL"), ("ece", "ECE"), ("brier", "Brier")):
        _, unit, decimals = shown[key]
        before, after = (_score_text(study[side][key]["value"], unit, decimals) for side in ("before", "after"))
        before = before.removesuffix(NBSP + unit)
        cells.append(f"<span><b><i>{before}</i> \u2192 {after}</b><small>{name}</small></span>")
    return (
        f'<div class="saved"><div><p class="value words">{escape(study["method"]).capitalize()}</p>'
        f'<p class="interval">{escape(study.get("words", "")).capitalize()}</p></div>'
        f'<p class="cells">{"".join(cells)}</p></div>{group_table(study, export_buttons)}'
        "<h3>One temperature instead</h3>"
    )


def _temperature(study: Mapping[str, Any]) -> str:
    fit, state = study["fit"], study.get("state") or {}
    robust, prior = bool(state.get("robust")), study.get("prior")
    shown = _trusted(study)
    value_class = "value" if fitted_temperature(fit) is not None else "value words"
    facts = [
        ("Standard error, if the calibrated model is right", as_number(fit.get("standard_error"))),
        ("Standard error, even if it is not (sandwich)", _sandwich(fit)),
        ("Against T&nbsp;=&nbsp;1", _robust_chance(state)) if robust else (LIKELIHOOD_RATIO, _likelihood_ratio(fit)),
    ]
    if prior:
        facts = [
            ("Prior of T", f"{as_number(prior['centre'])}, deviation of log T {as_number(prior['deviation'])}"),
            ("Standard error under it", as_number(fit.get("standard_error"))),
            ("T by these rows alone", _number_or_bound(prior["without"])),
        ]
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    note = '<p class="trust">by the sandwich error: a few rows decide</p>' if robust else ""
    second = "" if study["method"] == "temperature" else " second"
    return (
        f'{_saved(study)}<div class="temperature{second}"><div><p class="{value_class}">{fitted_words(fit)}</p>'
        f'<p class="interval">{interval_words(shown)}</p>{note}</div>{_gauge(shown)}</div>'
        f'<dl class="facts">{rows}</dl><p class="meaning">{meaning(shown, mixed=state.get("mixed"))}</p>'
    )


def _trusted(study: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fit with the interval to be trusted: that of the sandwich error where a few rows decide."""
    fit, state = study["fit"], study.get("state") or {}
    return {**fit, "interval": fit["sandwich_interval"]} if state.get("robust") else fit


def _number_or_bound(fit: Mapping[str, Any]) -> str:
    return BOUNDS[fit["at_bound"]] if fit["at_bound"] else as_number(fit["temperature"])


def _sandwich(fit: Mapping[str, Any]) -> str:
    low, high = fit.get("sandwich_interval") or (None, None)
    ends = f" ({_ends((low, high), fit)})" if low and high else ""
    return as_number(fit.get("sandwich_error")) + ends


def _ends(interval: Sequence[float | None] | None, fit: Mapping[str, Any]) -> str:
    low, high = interval or (None, None)
    left = BOUNDS["zero"] if low is None else as_temperature(low, fit)
    return f"{left} to {BOUNDS['infinite'] if high is None else as_temperature(high, fit)}"


def _likelihood_ratio(fit: Mapping[str, Any]) -> str:
    ratio, p = fit.get("likelihood_ratio"), fit.get("p_value")
    if ratio is None:
        return "undefined"
    if p is None:
        return f"{as_number(ratio, 1)} (no p-value)"
    return f"{as_number(ratio, 1)} ({_chance(p)})"


def _robust_chance(state: Mapping[str, Any]) -> str:
    p = state.get("p_value")
    return "no p-value" if p is None else f"{_chance(p)} (robust, by the sandwich error)"


def _chance(p: float) -> str:
    """In two digits, as in the terminal."""
    return f"p{NBSP}&lt;{NBSP}{as_power(-300)}" if p < 1e-300 else f"p{NBSP}={NBSP}{as_number(p, digits=2)}"


def _score_text(value: float | None, unit: str, decimals: int) -> str:
    if value is None or not unit:
        return as_number(value, decimals)
    return f"{as_number(100 * value, decimals)}{NBSP}{unit}"


def _cell(
    score: Mapping[str, float | None],
    unit: str,
    decimals: int,
    which: str,
    change: Mapping[str, float | None] | None = None,
) -> str:
    value, low, high = (_score_text(score.get(key), unit, decimals) for key in ("value", "low", "high"))
    known = score.get("low") is not None and score.get("high") is not None
    interval = f"{low.removesuffix(NBSP + unit)}{DASH}{high.removesuffix(NBSP + unit)}" if known else "no interval"
    more = f"<small>{_change_text(change, unit, decimals)}</small>" if change and change.get("low") is not None else ""
    return f'<td class="{which}"><b>{value}</b><small>{interval}</small>{more}</td>'


def _change_text(change: Mapping[str, float | None], unit: str, decimals: int) -> str:
    """The difference with its own interval, which compares the same rows."""
    value, low, high = (_score_text(change[key], unit, decimals).removesuffix(NBSP + unit) for key in change)
    signs = [text if text.startswith(MINUS) else f"+{text}" for text in (value, low, high)]
    return f"change {signs[0]} ({signs[1]} to {signs[2]})"


def _scores(study: Mapping[str, Any]) -> str:
    rows, changes = [], study.get("changes") or {}
    for key, name, unit, decimals, better, words in SCORES:
        before, after = study["before"].get(key), study["after"].get(key)
        if before is None or after is None:
            continue
        rows.append(
            f'<tr><th scope="row"><b>{name}</b><small>{words}; {better}</small></th>'
            f"{_cell(before, unit, decimals, 'before')}{_cell(after, unit, decimals, 'after', changes.get(key))}</tr>"
        )
    after = _after_words(study).replace(f"={NBSP}", "= ")  # a narrow column may break there, never in the number
    head = (
        f'<tr><th scope="col">Score<small>{escape(study["scored_on"])}</small></th>'
        f'<th scope="col">Before<small>T{NBSP}={NBSP}1</small></th>'
        f'<th scope="col">After<small>{after}</small></th></tr>'
    )
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _after_words(study: Mapping[str, Any]) -> str:
    """What the logits went through."""
    method = study["method"]
    return fitted_words(study["fit"]) if method == "temperature" else f"method {escape(method)}"


def _slider_hint(study: Mapping[str, Any]) -> str:
    fit = study["fit"]
    hint = "Heat spreads the probabilities out, cold sharpens them. Move the slider and watch the dots come to the line"
    missing = "" if fitted_temperature(fit) is not None else " No finite temperature was fitted, so none is marked."
    other = f" Method {escape(study['method'])} is not on this scale." if study["method"] != "temperature" else ""
    return f"{hint} or leave it.{missing}{other}"


def _likelihood_words(study: Mapping[str, Any]) -> str:
    fit = study["fit"]
    words = "The surprise at the true labels for every T, on the rows of the fit. "
    if fitted_temperature(fit) is None:
        where = {"zero": "towards T = 0", "infinite": "as T grows"}.get(fit.get("at_bound") or "")
        return words + (f"It keeps falling {where}: there is no lowest point." if where else "")
    if study.get("prior"):
        return words + "The prior draws T away from the lowest point; shaded: its interval under the prior."
    lowest, interval = "The fitted T is the lowest point; shaded: its ", f"{as_percent(fit['confidence'])} interval"
    if (study.get("state") or {}).get("robust"):
        return words + (
            f"{lowest}robust {interval}, by the sandwich error. That of the likelihood, "
            f"{_ends(fit['interval'], fit)}, is too narrow: a few rows decide."
        )
    return words + f"{lowest}{interval}."


def _use(study: Mapping[str, Any]) -> str:
    """How to apply the fit; at a bound, or where it does harm, there is nothing worth applying."""
    fit = study["fit"]
    fitted = fitted_temperature(fit)
    if fitted is None:
        why = NOTHING_TO_USE.get(fit.get("at_bound") or "", "No temperature was fitted.")
        return f"<p>There is nothing here to apply. {why}</p>"
    if study.get("wrong_tool"):
        what = "temperature" if study["method"] == "temperature" else "calibrator"
        return f"<p>Do not apply this {what}: the calibration error grows by more than chance allows.</p>"
    common = study.get("common")
    grouped = {"option": "", "groups": "", "argument": ""}
    if common:
        words = Template(USE_GROUPS).substitute(common=as_number(common["temperature"]))
        grouped = {"option": " --groups groups.npy", "groups": words, "argument": ", groups"}
    words = Template(USE).substitute(temperature=as_temperature(fitted, fit), **grouped)
    return words if study["method"] == "temperature" else words[: words.rindex("<p>")]  # a division is not all it does


def _interval_by(study: Mapping[str, Any]) -> str:
    fit = study["fit"]
    if study.get("prior"):
        return PRIOR_INTERVAL
    if (study.get("state") or {}).get("robust"):
        return f"{ROBUST_INTERVAL}{_ends(fit['interval'], fit)}."
    return f"{INTERVAL} at {as_percent(1 - fit['confidence'])} does not reject."


def _zero_labels(fit: Mapping[str, Any]) -> str:
    zero = fit.get("zero_labels") or fit.get("excluded") or 0
    words = f"<dt>Zero labels</dt><dd>{_counted(zero, 'row')} whose true label has probability zero at every T.</dd>"
    return words if zero else ""


def _fitted_by(study: Mapping[str, Any]) -> str:
    kind = (
        "Most probable temperature under the prior" if study.get("prior") else "Maximum likelihood of one temperature"
    )
    other = "" if study["method"] == "temperature" else f" Method {escape(study['method'])} is fitted to the same rows."
    return f"{kind}{_solver(study['fit'])}{other}"


def _solver(fit: Mapping[str, Any]) -> str:
    passes = f" in {fit['passes']} passes over the rows" if fit.get("passes") else ""
    if not passes and fit.get("iterations"):
        passes = f" in {fit['iterations']} passes over the rows"
    return passes + ("." if fit.get("converged", True) else ". <b>The solver did not converge.</b>")


# ---- data -----------------------------------------------------------------------------------------------------------


def _figures(study: Mapping[str, Any], start: int) -> dict[str, dict[str, Any]]:
    """Every figure in both themes, as Plotly's JSON."""
    from logitherm.report import figures  # here, so that importing logitherm.report does not load Plotly

    reliability, rows, classes = study["reliability"], study["n_scored"], study["classes"]
    drawn: dict[str, dict[str, Any]] = {}
    for theme in figures.THEMES:
        common: dict[str, Any] = {"rows": rows, "classes": classes, "theme": theme}
        themed = {
            "reliability-before": figures.reliability(reliability["before"], role="before", **common),
            "reliability-after": figures.reliability(reliability["after"], role="after", **common),
            "slider-diagram": figures.reliability(reliability["grid"]["diagrams"][start], role="live", **common),
            "confidence-histogram": figures.confidence_histogram(
                reliability["before"], reliability["after"], theme=theme
            ),
            "nll-curve": figures.likelihood(study["nll_curve"], _trusted(study), theme=theme),
        }
        if study.get("selective"):
            sides = (study["selective"][side] for side in ("before", "after"))
            themed[TRUST_FIGURE] = figures.risk_coverage(*sides, theme=theme)
        goodness = study.get("goodness") or {}
        for name, (parts, axis) in parted(goodness).items():
            themed[name] = figures.temperature_by_part(parts, goodness["temperature"], axis, theme=theme)
        for name, figure in themed.items():
            drawn.setdefault(name, {})[theme] = json.loads(figure.to_json())
    return drawn


def _readings(study: Mapping[str, Any]) -> list[dict[str, str]]:
    """What stands beside the slider at each temperature, written as in the table, and in words."""
    grid, fit = study["reliability"]["grid"], study["fit"]
    shown = {key: (unit, decimals) for key, _, unit, decimals, _, _ in SCORES}
    readings = []
    for i, temperature in enumerate(grid["temperature"]):
        reading = {key: _score_text(grid[key][i], *shown[key]) for key in ("ece", "nll", "brier")}
        words = slider_words(temperature, study, grid["diagrams"][i])
        readings.append({"temperature": as_temperature(temperature, fit), "words": words, **reading})
    return readings


def render_report(study: Study, *, title: str | None = None) -> str:
    """A calibration study as one HTML file that needs nothing else: no network, no other file.

    Limits: a fit at a bound (T = 0 or infinite) is reported as such, without a number; undefined scores say so.

    Parameters
    ----------
    study : Study
        Anything whose `to_dict()` gives the study in JSON-ready types, such as the result of
        `logitherm.calibration.calibrate`.
    title : str, optional
        The heading; by default it names the study. It is escaped.

    Returns
    -------
    str
        The page, about 5 MB, nearly all of it Plotly; write it as UTF-8.

    Raises
    ------
    ValueError
        A NaN or an infinity in the study: undefined numbers are None.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.calibration import calibrate
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(300, 4))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    >>> page = render_report(calibrate(2.0 * z, labels, bootstrap=100), title="Release 3")
    >>> page.startswith("<!DOCTYPE html>")
    True
    """
    contents = study.to_dict()
    fit, temperatures = contents["fit"], contents["reliability"]["grid"]["temperature"]
    heading = title if title is not None else f"How honest is {contents['name']}?"
    start = min(range(len(temperatures)), key=lambda i: abs(math.log(temperatures[i])))
    data = {
        "study": contents,
        "stem": re.sub(r"[^A-Za-z0-9_-]+", "-", str(contents["name"])).strip("-") or "study",
        "tables": export_tables(contents),
        "readings": _readings(contents),
        "figures": _figures(contents, start),
    }
    single = contents["method"] == "temperature"
    parts = {
        "verdict": _verdict(contents),
        "temperature_heading": "The temperature" if single else "The calibrator",
        "temperature": _temperature(contents),
        "scores": _scores(contents),
        "after_label": _after_words(contents),
        "slider_max": len(temperatures) - 1,
        "slider_start": start,
        "slider_words": _slider_hint(contents),
        "likelihood_heading": "Why this temperature" if single else "Which temperature alone",
        "likelihood_words": _likelihood_words(contents),
        "use": _use(contents),
        "enough": enough(contents, export_buttons),
        "trust": trust(contents, export_buttons),
        "scored_on": escape(contents["scored_on"]),
        "fitted_by": _fitted_by(contents),
        "interval_by": _interval_by(contents),
        "bins": len(contents["reliability"]["before"]["count"]),
        "zero_labels": _zero_labels(fit),
        "scores_export": export_buttons("scores", image=False),
        "before_export": export_buttons("reliability-before"),
        "after_export": export_buttons("reliability-after"),
        "slider_export": export_buttons("slider-diagram"),
        "histogram_export": export_buttons("confidence-histogram"),
        "likelihood_export": export_buttons("nll-curve"),
    }
    return page(
        "page",
        parts,
        kicker="Calibration report",
        title=heading,
        about=_about(contents),
        data=data,
        styles=("page.css",),
    )
