"""Glob patterns: what they match, that they are as quick as they promise, and what is no pattern."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.actions.glob import GlobError, compile_glob


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("", ""),
        ("ticket", "ticket"),
        ("*", ""),
        ("**", "anything\nat all"),
        ("tick*", "ticket"),
        ("*ket", "ticket"),
        ("*ick*", "ticket"),
        ("t*c*t", "ticket"),
        ("*t*t*", "ticket"),
        ("t?cket", "t\ncket"),
        ("[t-v]icket", "uicket"),
        ("[xyt]*", "ticket"),
        ("[^a-c]icket", "ticket"),
        ("[^z-a]*", "ticket"),
        ("[\\]\\-a]*", "-"),
        ("[*?]", "?"),
        ("a\\*b\\?\\[\\\\", "a*b?[\\"),
        ("*.+$(ü)", "x.+$(ü)"),
        ("*aab", "aaab"),
    ],
)
def test_a_pattern_matches(pattern: str, text: str) -> None:
    assert compile_glob(pattern)(text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("", "t"),
        ("ticket", "Ticket"),
        ("tick", "ticket"),
        ("?", ""),
        ("t*t", "t"),
        ("*t*e*k*", "ticket"),
        ("ab*ba", "aba"),
        ("[a-c]icket", "ticket"),
        ("[z-a]", "z"),
        ("[^t]icket", "ticket"),
        ("a.c", "abc"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, text: str) -> None:
    assert not compile_glob(pattern)(text)


@pytest.mark.parametrize(
    "pattern", ["\\", "a\\", "[", "[a", "[]", "[]a]", "[-a]", "[a-]", "[^", "[^]", "[a\\", "x*[a-b"]
)
def test_what_breaks_off_is_no_pattern(pattern: str) -> None:
    with pytest.raises(GlobError):
        compile_glob(pattern)


@given(st.text("ab*?", max_size=8), st.text("abc", max_size=10))
def test_stars_and_question_marks_are_those_of_regular_expressions(pattern: str, text: str) -> None:
    expression = pattern.replace("?", ".").replace("*", ".*")
    assert compile_glob(pattern)(text) == bool(re.fullmatch(expression, text))


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_an_escaped_text_matches_itself(head: str, body: str, tail: str) -> None:
    literal = "".join(f"\\{char}" for char in body)
    assert compile_glob(literal)(body)
    assert compile_glob(f"*{literal}*")(head + body + tail)


def test_many_stars_take_no_time() -> None:
    matches = compile_glob("*" + "a*?" * 80 + "b")
    start = time.perf_counter()
    assert not matches("a" * 30_000)
    assert time.perf_counter() - start < 0.5
