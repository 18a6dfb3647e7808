"""Answers line by line: what is taken, and what is refused by the number of its line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitherm.io import InputError, read_answers

GOOD = '{"logprobs": {"A": -0.1, "B": -2.5}, "answer": "A"}'


def refuse(response):
    raise ValueError("no logprobs")


def read(tmp_path, *lines, response=refuse, **options):
    path = tmp_path / "answers.jsonl"
    path.write_bytes("\n".join(lines).encode())
    return read_answers(path, response, **options)


@given(
    rows=st.lists(
        st.tuples(
            st.dictionaries(st.text(max_size=3), st.floats(-50, -3), min_size=1, max_size=8), st.text(max_size=3)
        ),
        min_size=1,
        max_size=5,
    ),
    blanks=st.integers(0, 2),
)
def test_what_is_written_is_read(tmp_path_factory, rows, blanks):
    lines = [json.dumps({"logprobs": listed, "answer": answer, "more": [1]}) for listed, answer in rows]
    found = read(tmp_path_factory.mktemp("a"), *[""] * blanks, *lines)
    assert [(each.listed, each.answer) for each in found] == rows
    assert [each.line for each in found] == [blanks + 1 + i for i in range(len(rows))]


def test_a_response_alone_or_under_its_name(tmp_path):
    made = lambda response: {response["choices"]: -0.5}  # noqa: E731
    lines = '{"choices": "B", "answer": "C"}', '{"response": {"choices": "B"}, "answer": "C"}'
    found = read(tmp_path, *lines, response=made)
    assert [each.listed for each in found] == [{"B": -0.5}] * 2


def test_an_answer_is_looked_at_only_where_it_is_needed(tmp_path):
    assert read(tmp_path, '{"logprobs": {"A": -1}}', need_answer=False)[0].answer is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "must be a JSON object; cannot be read"),
        ("[" * 100_000, "must be a JSON object; cannot be read"),
        ("[1]", "must be a JSON object; got a list"),
        ('{"tokens": 1}', r"must have `logprobs`, or the response .* got tokens \(no logprobs\)"),
        ('{"logprobs": {}, "answer": "A"}', "must list tokens; lists none"),
        ('{"logprobs": {"A": 0.5}, "answer": "A"}', "must be natural logarithms of probabilities; 'A' has 0.5"),
        ('{"logprobs": {"A": NaN}, "answer": "A"}', "'A' has nan"),
        ('{"logprobs": {"A": -Infinity}, "answer": "A"}', "'A' has -inf"),
        ('{"logprobs": {"A": "-1"}, "answer": "A"}', "'A' has '-1'"),
        ('{"logprobs": {"A": true}, "answer": "A"}', "'A' has True"),
        ('{"logprobs": {"A": -0.1, "B": -0.1}, "answer": "A"}', "must be at most 1 together; these are 1.81"),
        ('{"logprobs": {"A": -1}}', "must have an `answer`, a token; got None"),
        ('{"logprobs": {"A": -1}, "answer": 1}', "must have an `answer`, a token; got 1"),
        ('{"logprobs": {"A": -1}, "answer": "C"}', "the answer must be one of the choices 'A', 'B'; got 'C'"),
        (
            '{"logprobs": {" A": -1}, "answer": "A"}',
            "must list one of the choices 'A', 'B'; lists ' A'; leave the line out",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    with pytest.raises(InputError, match=rf"answers.jsonl, line 3: .*{message}") as error:
        read(tmp_path, GOOD, "", line, choices=("A", "B"))
    assert "\n" not in str(error.value)


def test_a_file_without_lines_or_text_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"answers.jsonl: must have a line for every answer; it has none"):
        read(tmp_path, "", " ")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bytes.jsonl: must be text in UTF-8"):
        read_answers(tmp_path / "bytes.jsonl", refuse)
    with pytest.raises(InputError, match="no such file"):
        read_answers(tmp_path / "gone.jsonl", refuse)
