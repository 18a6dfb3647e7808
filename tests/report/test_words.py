"""Numbers and temperatures as people read them."""

import pytest

from logitherm.report import words


def fit(temperature, interval, at_bound=None):
    return {"temperature": temperature, "interval": interval, "confidence": 0.95, "at_bound": at_bound}


def plain(text):
    return text.replace("\u00a0", " ").replace("&gt;", ">").replace("&lt;", "<")


@pytest.mark.parametrize(
    ("low", "high", "decimals"),
    [(1.98, 2.16, 2), (1.3, 3.1, 1), (100.0, 130.0, 0), (0.0130, 0.0141, 4), (1.0, 1.0, None), (None, 2.0, None)],
)
def test_decimals_show_the_width_to_two_digits(low, high, decimals):
    assert words.decimals_of(low, high) == decimals


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (None, 2, "undefined"),
        (2.0712, 2, "2.07"),
        (-0.5, 1, "\u22120.5"),
        (0.862, None, "0.862"),
        (1.23e-30, None, "1.23 \u00d7 10<sup>\u221230</sup>"),
        (4.5e-7, None, "4.5 \u00d7 10<sup>\u22127</sup>"),
        (6e12, None, "6 \u00d7 10<sup>12</sup>"),
    ],
)
def test_numbers(value, decimals, text):
    assert plain(words.as_number(value, decimals)) == text


def test_counts():
    assert words.as_count(5000) == "5000"
    assert words.as_count(25000) == "25\u202f000"


@pytest.mark.parametrize(
    ("result", "heading", "interval"),
    [
        (fit(2.0712, [1.98, 2.16]), "T = 2.07", "1.98 to 2.16"),
        (fit(2.0712, None), "T = 2.07", "No interval"),
        (fit(3e-8, [2e-8, 4e-8]), "T = 3 \u00d7 10<sup>\u22128</sup>", "2 \u00d7 10<sup>\u22128</sup> to 4"),
        (fit(None, [None, 0.4], "zero"), "T \u2192 0", "0 to 0.4"),
        (fit(None, [0.0, 0.4], "zero"), "T \u2192 0", "0 to 0.4"),
        (fit(None, [45.8, None], "infinite"), "T \u2192 \u221e", "45.8 to \u221e"),
        (fit(4.2, [1.7, None]), "T = 4.2", "1.7 to \u221e"),
        (fit(None, None), "no temperature", "No interval"),
    ],
)
def test_temperature_and_interval(result, heading, interval):
    assert plain(words.fitted_words(result)) == heading
    assert interval in plain(words.interval_words(result))


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (fit(2.07, [1.98, 2.16]), "above 1: by likelihood the model is too cold"),
        (fit(0.55, [0.50, 0.60]), "below 1: by likelihood it is too hot"),
        (fit(1.02, [0.95, 1.09]), "the interval contains 1"),
        (fit(4.2, [0.7, None]), "the interval contains 1"),
        (fit(4.2, None), "above 1"),
        (fit(None, [None, 0.4], "zero"), "No finite temperature fits"),
        (fit(None, [45.8, None], "infinite"), "treat all classes alike"),
    ],
)
def test_meaning(result, says):
    assert says in plain(words.meaning(result))


def test_meaning_explains_both_directions():
    text = plain(words.meaning(fit(2.07, [1.98, 2.16])))
    assert "T > 1 means overconfident: too cold" in text
    assert "T < 1 means underconfident: too hot" in text
