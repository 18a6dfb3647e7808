"""Numbers and temperatures as people read them."""

import pytest

from logitherm.report import words


def fit(temperature, interval, at_bound=None):
    return {"temperature": temperature, "interval": interval, "confidence": 0.95, "at_bound": at_bound}


def plain(text):
    return text.replace("\u00a0", " ").replace("&gt;", ">").replace("&lt;", "<")


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (None, 2, "undefined"),
        (2.0712, 2, "2.07"),
        (-0.5, 1, "\u22120.5"),
        (0.862, None, "0.862"),
        (0.3, None, "0.300"),
        (123.4, None, "123"),
        (1234.5, None, "1234"),
        (0.0, None, "0"),
        (4405358.31, 4, "4.41 \u00d7 10\u2076"),
        (1.23e-30, None, "1.23 \u00d7 10\u207b\u00b3\u2070"),
        (4.5e-7, None, "4.50 \u00d7 10\u207b\u2077"),
        (4.5e-7, 4, "0.0000"),
        (6e12, None, "6.00 \u00d7 10\u00b9\u00b2"),
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
        (fit(1.3667, [1.36641, 1.36702]), "T = 1.3667", "1.3664 to 1.3670"),
        (fit(0.3, [0.25, 0.401]), "T = 0.300", "0.250 to 0.401"),
        (fit(3e-8, [2e-8, 4e-8]), "T = 3.00 \u00d7 10\u207b\u2078", "2.00 \u00d7 10\u207b\u2078 to 4.00"),
        (fit(None, [None, 0.4], "zero"), "T \u2192 0", "0 to 0.400"),
        (fit(None, [0.0, 0.4], "zero"), "T \u2192 0", "0 to 0.400"),
        (fit(None, [45.8, None], "infinite"), "T \u2192 \u221e", "45.8 to \u221e"),
        (fit(4.2, [1.7, None]), "T = 4.20", "1.70 to \u221e"),
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


MIXED = {"interval": [1.05, 1.8], "mixed": True, "robust": True, "kind": "underconfident"}


def study(state=None, interval=(1.3, 1.44)):
    accuracy = {"value": 0.93, "low": 0.92, "high": 0.94}
    return {"fit": fit(1.37, list(interval)), "state": state, "before": {"accuracy": accuracy}}


def diagram(confidence):
    return {"count": [100, 0, 100], "confidence": [confidence - 0.02, None, confidence + 0.02]}


@pytest.mark.parametrize(
    ("t", "state", "confidence", "says"),
    [
        (1.0, None, 0.7, "The model as it came. Colder than the fitted range: by likelihood, too sure."),
        (1.4, None, 0.7, "Within the range the data supports."),
        (1.6, None, 0.7, "Hotter than the fitted range: by likelihood, too modest."),
        (1.6, {**MIXED, "mixed": False}, 0.7, "Within the range the data supports."),
        (
            1.0,
            MIXED,
            0.7,
            "On the whole too modest (70 % sure, 93 % right); by likelihood, which a few rows rule, too sure",
        ),
        (0.5, MIXED, 0.93, "On the whole about right (93 % sure, 93 % right); by likelihood"),
        (0.1, MIXED, 0.97, "On the whole too sure (97 % sure"),
    ],
)
def test_the_words_of_the_slider_agree_with_the_verdict(t, state, confidence, says):
    assert says in plain(words.slider_words(t, study(state), diagram(confidence)))


def test_meaning_where_a_few_rows_outweigh_all_others():
    text = plain(words.meaning(fit(1.37, [1.05, 1.8]), mixed=True))
    assert "asks for heating though the model is underconfident on the whole" in text
