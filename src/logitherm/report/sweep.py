"""One offline HTML file from a temperature sweep: sample texts under a slider, and the curves.

The page is made as that of a calibration study is: nothing is loaded, everything is escaped, and no number is computed.
sweep.html, sweep.css and sweep.js beside this file are the page, with page.css.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import Any

from logitherm.report.figures import ThemeName
from logitherm.report.frame import export_buttons, page
from logitherm.report.words import DASH, MINUS, NBSP, as_count, as_number

SHOWN_PROMPTS, SHOWN_TEXTS = 40, 4  # in the page; the numbers are of all
# curve: heading, axis, unit or form, log axis, limits, dashed level, colour, words
CURVES: dict[str, dict[str, Any]] = {
    "loop_rate": {
        "name": "Repetition",
        "title": "share of texts that end in a loop",
        "role": "after",
        "form": ".0%",
        "limits": (-0.03, 1.03),
        "words": "Texts whose last tokens go round and round, three times at least. Too cold.",
    },
    "excess": {
        "name": "Gibberish",
        "title": "excess surprise, nats per token",
        "role": "before",
        "level": 0.0,
        "words": "How much stranger the model finds each token than it expects of its own writing, at T = 1. Above the "
        "line the text is too strange, below it too predictable.",
    },
    "score": {"name": "Score", "title": "mean score", "words": "What the scorer says of one text."},
    "best_of": {
        "name": "Best of {best_of}",
        "title": "expected best score of {best_of}",
        "words": "Of {best_of} texts the best one; for scores of 0 and 1 this is pass@{best_of}.",
    },
    "vote": {"name": "Majority vote", "title": "score of the vote", "words": "The answer that most texts give."},
    "entropy": {
        "name": "Entropy",
        "title": "nats per token",
        "words": "How undecided the law is that tokens are drawn from.",
    },
    "perplexity": {
        "name": "Perplexity at T = 1",
        "title": "equally likely tokens (log scale)",
        "log": True,
        "form": ".3s",
        "words": "How hard the text is to guess for the model as it came.",
    },
    "distinct_2": {
        "name": "Distinct pairs",
        "title": "distinct-2",
        "words": "Different pairs of tokens over all pairs, at equal numbers of tokens.",
    },
    "compression_ratio": {
        "name": "Compression",
        "title": "bytes over bytes after gzip",
        "words": "How many times smaller the texts of a prompt get. More is more repetitive.",
    },
    "self_bleu": {
        "name": "Sameness",
        "title": "self-BLEU",
        "words": "How alike the texts of one prompt are: 1 where all are equal.",
    },
    "heat_capacity": {
        "name": "Heat capacity",
        "title": "Var(z) / T\u00b2",
        "words": "How fast the entropy grows with log T. Its peak is where the law melts.",
    },
}
RULES = {  # what marks it in figures, what it says, and by what
    "turning_point": (
        "entropy turns",
        "The entropy of its texts turns",
        "Its logarithm bends upward: beyond, probability goes to tokens that make no sense (TURN).",
    ),
    "score": ("score peaks", "A text scores highest", "Mean score."),
    "best_of": (
        "best of {best_of} peaks",
        "The best of {best_of} texts scores highest",
        "For scores of 0 and 1: pass@{best_of}.",
    ),
    "vote": ("vote peaks", "The majority vote scores highest", "Of all texts of a prompt."),
}
PREFERRED = ("vote", "score", "best_of", "turning_point")  # whose choice is the headline, the first first
MARKED = '<tr class="chosen">'
SHADE = " In every chart the dotted line is the temperature of the headline, the grey block its interval."
TURNING = (
    "<dt>A turning point is no law of nature</dt><dd>It is a rule that needs no scores. Where a scorer exists, trust "
    "the scores.</dd>"
)


def render_sweep(contents: Mapping[str, Any], *, title: str | None = None) -> str:
    """A temperature sweep as one HTML file that needs nothing else.

    Parameters
    ----------
    contents : mapping
        What `logitherm sweep --json` prints: `temperatures`, `curves`, `choices`, `asked` and `texts`, among others.
    title : str, optional
        The heading; by default it names the model. It is escaped.

    Returns
    -------
    str
        The page; write it as UTF-8.

    Raises
    ------
    ValueError
        A NaN or an infinity among the numbers: undefined ones are None.

    Examples
    --------
    >>> import numpy as np
    >>> from logitherm.generation.runs import draw_texts
    >>> from logitherm.generation.sweep import measure
    >>> runs = draw_texts(lambda s: np.zeros((len(s), 9)), [[0], [1]], [0.5, 1.0], samples=2, tokens=5)
    >>> spelled = [[[str(text) for text in of_prompt] for of_prompt in at] for at in runs.texts]
    >>> about = {"model": "m", "file": "p.txt", "tokens": 5, "seed": 0, "best_of": 2, "choices": {}}
    >>> page = render_sweep(measure(runs).to_dict() | about | {"asked": ["a", "b"], "texts": spelled})
    >>> page.startswith("<!DOCTYPE html>")
    True
    """
    temperatures = contents["temperatures"]
    start = _start(contents)
    names = [name for name in _curves(contents) if name not in ("loop_rate", "excess")]
    data = {
        "study": contents,
        "stem": re.sub(r"[^A-Za-z0-9_-]+", "-", str(contents["model"])).strip("-") or "sweep",
        "tables": sweep_tables(contents),
        "readings": _readings(contents),
        "figures": _figures(contents),
        "asked": contents["asked"][:SHOWN_PROMPTS],
        "texts": [[of[:SHOWN_TEXTS] for of in at[:SHOWN_PROMPTS]] for at in contents["texts"]],
    }
    parts = {
        "verdict": _verdict(contents),
        "slider_max": len(temperatures) - 1,
        "slider_start": start,
        "prompts": "".join(
            f'<option value="{i}">{escape(_shortened(text))}</option>' for i, text in enumerate(data["asked"])
        ),
        "repetition": _figure("loop_rate", contents),
        "gibberish": _figure("excess", contents),
        "curves": "".join(f"<section>{_figure(name, contents)}</section>" for name in names),
        "choices": _choices(contents),
        "numbers": _numbers(contents),
        "numbers_export": export_buttons("numbers", image=False),
        "turning": TURNING if "turning_point" in contents["choices"] else "",
        "shade": SHADE if _headline(contents) else "",
        "replicates": contents["replicates"],
        "confidence": f"{100 * contents['confidence']:g}",
        "tokens": contents["tokens"],
        "counted": _range(contents["counted"]),
    }
    return page(
        "sweep",
        parts,
        kicker="Temperature sweep",
        title=title if title is not None else _question(contents),
        about=_about(contents),
        data=data,
        styles=("page.css", "sweep.css"),
        everything="All numbers and texts (JSON)",
    )


def sweep_tables(contents: Mapping[str, Any]) -> dict[str, dict[str, list[Any]]]:
    """All curves as columns, under "numbers", and each with its interval under its own name."""
    t = list(contents["temperatures"])
    numbers: dict[str, list[Any]] = {"temperature": t}
    tables = {}
    for name, curve in contents["curves"].items():
        numbers |= {name: curve["value"], f"{name}_low": curve["low"], f"{name}_high": curve["high"]}
        tables[name] = {"temperature": t, **{key: curve[key] for key in ("value", "low", "high")}}
    return {"numbers": numbers, **tables}


def _curves(contents: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is drawn: the name of the curve, and how."""
    found = {}
    for name, look in CURVES.items():
        key = f"best_of_{contents['best_of']}" if name == "best_of" else name
        if key in contents["curves"]:
            put = {k: v.format(best_of=contents["best_of"]) if isinstance(v, str) else v for k, v in look.items()}
            found[key] = put
    return found


def _figures(contents: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    from logitherm.report.sweep_figures import against_temperature

    themes: tuple[ThemeName, ...] = ("light", "dark")
    chosen = _marked(contents)
    found: dict[str, dict[str, Any]] = {}
    for name, look in _curves(contents).items():
        options = {key: value for key, value in look.items() if key not in ("name", "words")}
        found[name] = {
            str(theme): against_temperature(
                contents["temperatures"], contents["curves"][name], chosen=chosen, theme=theme, **options
            ).to_plotly_json()
            for theme in themes
        }
    return found


def _marked(contents: Mapping[str, Any]) -> dict[str, Any] | None:
    """What every figure marks: the choice of the headline, and no other."""
    rule = _headline(contents)
    if rule is None:
        return None
    choice = contents["choices"][rule]
    name = RULES[rule][0].format(best_of=contents["best_of"])
    return {**choice, "name": f"{name} at T = {choice['temperature']:.3g}"}


def _figure(name: str, contents: Mapping[str, Any]) -> str:
    look = _curves(contents)[name]
    return (
        f'<div class="head"><h2>{look["name"]}</h2>{export_buttons(name)}</div><p>{look["words"]}</p>'
        f'<figure><div class="chart" id="{name}" role="img" aria-label="{look["name"]} against temperature; its '
        'numbers are behind the CSV button"></div></figure>'
    )


# -- words -------------------------------------------------------------------------------------------------


def _question(contents: Mapping[str, Any]) -> str:
    if _headline(contents) is None:
        return f"What does {contents['model']} write, colder and hotter?"
    return f"At which temperature should {contents['model']} write?"


def _headline(contents: Mapping[str, Any]) -> str | None:
    """The choice to go by, of those that name a temperature: what a scorer says, or else where the entropy turns."""
    choices = contents["choices"]
    return next((name for name in PREFERRED if name in choices and choices[name]["temperature"] is not None), None)


def _silent(contents: Mapping[str, Any]) -> str:
    """Why rules that would come before the headline name no temperature."""
    chosen = _headline(contents)
    before = PREFERRED[: PREFERRED.index(chosen)] if chosen else PREFERRED
    mute = [CURVES[rule]["name"].format(best_of=contents["best_of"]) for rule in before if rule in contents["choices"]]
    said = []
    if mute:
        said.append(f"{' and '.join(mute).capitalize()} cannot choose: all temperatures tie.")
    if chosen is None and contents.get("no_turning_point"):
        said.append(f"For a turning point of the entropy {escape(contents['no_turning_point'])}.")
    if chosen is None and not mute:
        said.append("A scorer would name one, too.")
    return " ".join(said)


def _start(contents: Mapping[str, Any]) -> int:
    """Where the slider begins: next to the choice to go by, or else to T = 1."""
    t = contents["temperatures"]
    name = _headline(contents)
    aim = contents["choices"][name]["temperature"] if name else 1.0
    return min(range(len(t)), key=lambda i: abs(t[i] - aim))


def _about(contents: Mapping[str, Any]) -> str:
    t = contents["temperatures"]
    return (
        f"{contents['prompts']} prompts of {escape(str(contents['file']))}, {contents['samples']} texts of each at "
        f"{len(t)} temperatures from {t[0]:g} to {t[-1]:g}, {contents['tokens']} tokens at most"
    )


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.0f}{NBSP}%"


def _signed(value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:+.2f}".replace("-", MINUS)


def _at(choice: Mapping[str, Any]) -> str:
    if choice["temperature"] is None:
        return "no temperature: all of them tie" if choice.get("tied") else "no temperature of this grid"
    ends = choice["interval"]
    sure = (
        f", {100 * choice['confidence']:g}{NBSP}%{NBSP}interval{NBSP}{ends[0]:.3g}{NBSP}to{NBSP}{ends[1]:.3g}"
        if ends
        else ""
    )
    others = ", ".join(f"{each:.3g}" for each in choice.get("tied") or ())
    tied = f", tied with T{NBSP}={NBSP}{others}" if others else ""
    return f"T{NBSP}={NBSP}{choice['temperature']:.3g}{sure}{tied}"


def _verdict(contents: Mapping[str, Any]) -> str:
    t, curves, chosen = contents["temperatures"], contents["curves"], _headline(contents)
    first = "No temperature is named here."
    if chosen is not None:
        first = f"{_says(chosen, contents)} at {_at(contents['choices'][chosen])}."
    silent = _silent(contents)
    decided, heading = _decided(contents)
    rows = "".join(
        f"{MARKED if chosen and i == _start(contents) else '<tr>'}<th><b>T{NBSP}={NBSP}{t[i]:g}</b></th>"
        + "".join(_cell(curves[name], i, _two) for name in decided)
        + f"{_cell(curves['loop_rate'], i, _percent)}{_cell(curves['excess'], i, _signed)}</tr>"
        for i in sorted({0, _start(contents), len(t) - 1})
    )
    return (
        f'<p class="first">{first}</p>{f"<p>{silent}</p>" if silent else ""}<table><thead><tr><th></th>{heading}<th>'
        '<span class="key cold">Repetition</span>texts that end in a loop</th><th><span class="key hot">Gibberish'
        f"</span>excess surprise, nats</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _decided(contents: Mapping[str, Any]) -> tuple[list[str], str]:
    """The curve by which the headline was chosen, where that is a score, and the heading of its column."""
    rule = _headline(contents)
    if rule not in ("vote", "score", "best_of"):
        return [], ""
    name = f"best_of_{contents['best_of']}" if rule == "best_of" else rule
    look = _curves(contents)[name]
    return [name], f'<th><span class="key">{look["name"]}</span>{look["title"]}</th>'


def _two(value: float | None) -> str:
    return as_number(value, 2)


def _cell(curve: Mapping[str, Any], i: int, form: Any) -> str:
    low, high = curve["low"][i], curve["high"][i]
    within = "" if low is None or high is None else f"<small>{form(low)} to {form(high)}</small>"
    return f"<td><b>{form(curve['value'][i])}</b>{within}</td>"


def _says(rule: str, contents: Mapping[str, Any]) -> str:
    return RULES[rule][1].format(best_of=contents["best_of"])


def _choices(contents: Mapping[str, Any]) -> str:
    if not contents["choices"]:
        return ""
    rows = []
    for name, choice in contents["choices"].items():
        words = RULES[name][2].format(best_of=contents["best_of"])
        shares = choice["shares"] or []
        often = sorted(zip(shares, choice["temperatures"]), key=lambda each: (-each[0], each[1]))[:3]
        won = ", ".join(f"{at:g} in {_percent(share)}" for share, at in often if round(100 * share) > 0) or DASH
        resampled = "" if choice["temperature"] is None else f"<small>in resampled prompts: {won}</small>"
        rows.append(
            f"<tr><th><b>{_says(name, contents)}</b><small>{words}</small></th><td><b>{_at(choice)}</b>{resampled}"
            "</td></tr>"
        )
    if contents.get("no_turning_point"):
        why = f"no temperature: {escape(contents['no_turning_point'])}"
        rows.append(
            f"<tr><th><b>{_says('turning_point', contents)}</b><small>{RULES['turning_point'][2]}</small></th>"
            f"<td><b>{why}</b></td></tr>"
        )
    return (
        '<section id="choices" aria-labelledby="choices-heading"><h2 id="choices-heading">Which temperature</h2>'
        f"<table><tbody>{''.join(rows)}</tbody></table></section>"
    )


def _readings(contents: Mapping[str, Any]) -> list[dict[str, str]]:
    curves = contents["curves"]
    return [
        {
            "temperature": f"{t:g}",
            "loop_rate": _percent(curves["loop_rate"]["value"][i]),
            "excess": _signed(curves["excess"]["value"][i]),
            "distinct_2": as_number(curves["distinct_2"]["value"][i], 2),
        }
        for i, t in enumerate(contents["temperatures"])
    ]


def _numbers(contents: Mapping[str, Any]) -> str:
    """A table that reads without JavaScript."""
    looks = _curves(contents)
    head = "".join(f"<th>{look['name']}</th>" for look in looks.values())
    rows = []
    for i, t in enumerate(contents["temperatures"]):
        cells = []
        for name in looks:
            value = contents["curves"][name]["value"][i]
            cells.append(f"<td>{FORMS.get(name, as_number)(value)}</td>")
        rows.append(f"<tr><th>{t:g}</th>{''.join(cells)}</tr>")
    return f"<table class='small'><thead><tr><th>T</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _three(value: float | None) -> str:
    """No more than three digits that mean something, which a perplexity of thousands does not have."""
    return as_number(None if value is None else float(f"{value:.3g}"))


FORMS = {"loop_rate": _percent, "excess": _signed, "perplexity": _three}


def _shortened(text: str, most: int = 70) -> str:
    return text if len(text) <= most else text[: most - 1] + "\u2026"


def _range(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return as_count(low) if low == high else f"{as_count(low)} to {as_count(high)}"
