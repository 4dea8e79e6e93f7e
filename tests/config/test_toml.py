"""The line index against tomllib: the same keys, each on the line where its value is."""

import re
import tomllib
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.config.errors import Keys
from relayd.config.toml import dotted, lines, render
from relayd.config.units import Duration, Rate, Size

KEYS = st.lists(
    st.sampled_from(["a", "b", "c-1", "1979", '"d.e"', "'f # g'", r'"\u0041\""', '""']), min_size=1, max_size=3
)
BLANKS = st.sampled_from(["", "\n", ' # ] } """ \'\n', "\t\n\n"])
MARKER = re.compile(r"[1-9]\d{5}")
"""Six digits that stand once in a document, in one value, and so give its line away."""


@st.composite
def values(draw: st.DrawFn, numbers: Iterator[int], depth: int = 0) -> str:
    """A value as TOML, in any of the forms that can lead a scanner astray."""
    marker = next(numbers)
    scalars = [
        f"{marker}",
        f"{marker}.5e-2",
        f"1979-05-27 07:32:00.{marker}",
        f'"{marker} # \\" [x] = {{"',
        f"'{marker} # \\'",
        f'"""{marker} \\""" ""\n[a]\nb = 1 # ]\n\\\n"""""',
        f'"""{marker}\n# " \\\\""""',
        f"'''{marker}\n[[a]] ''\n''''",
        f'["""{marker}""", """"""]',
    ]
    if depth > 2:
        return draw(st.sampled_from(scalars))
    form = draw(st.sampled_from(["scalar", "scalar", "array", "table"]))
    if form == "array":
        between = draw(st.lists(BLANKS, min_size=1, max_size=3))
        return (
            f"[{between[0]}"
            + f",{between[-1]}".join(draw(values(numbers, depth + 1)) for _ in between)
            + between[-1]
            + "]"
        )
    if form == "table":
        pairs = [
            f"{name} = {draw(values(numbers, depth + 1))}" for name in draw(st.sets(st.sampled_from(["x", "'y.z'"])))
        ]
        return "{ " + ", ".join(pairs) + " }"
    return draw(st.sampled_from(scalars))


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Tables, arrays of tables and pairs; one that TOML does not allow in its place is left out."""
    text = ""
    numbers = count(100_001)
    for form in draw(st.lists(st.sampled_from(["pair", "pair", "table", "array of tables", "blank"]), max_size=15)):
        keys = draw(st.sampled_from([".", " . "])).join(draw(KEYS))
        match form:
            case "pair":
                line = f"{keys} = {draw(values(numbers))}"
            case "table":
                line = f"[ {keys} ] # [x]"
            case "array of tables":
                line = f"[[{keys}]]"
            case _:
                line = draw(BLANKS).rstrip("\n")
        try:
            tomllib.loads(f"{text}{line}\n")
        except tomllib.TOMLDecodeError:
            continue
        text += f"{line}\n"
    return text


def paths(value: object, at: Keys = ()) -> Iterator[tuple[Keys, object]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield (*at, key), each
        yield from paths(each, (*at, key))


def marker_of(value: object) -> str | None:
    match value:
        case datetime():
            return f"{value.microsecond}"
        case float():
            return f"{int(value * 100)}"
        case str() | int():
            match = MARKER.search(str(value))
            return match[0] if match else None
        case _:
            return None


@given(documents())
def test_every_key_is_on_the_line_of_its_value(text: str) -> None:
    index = lines(text)
    expected = dict(paths(tomllib.loads(text)))
    assert index.keys() == expected.keys()
    for keys, value in expected.items():
        marker = marker_of(value)
        if marker:
            assert marker in text.split("\n")[index[keys] - 1], keys
    for keys, line in index.items():
        assert index.get(keys[:-1], 1) <= line, "a table begins with, or before, what is in it"


@given(documents())
def test_line_ends_of_windows_make_no_difference(text: str) -> None:
    assert lines(text.replace("\n", "\r\n")) == lines(text)


def test_each_form_of_a_key_has_its_line() -> None:
    text = """\
top = 1
[a.b]
c.d = 2
"e.f" = [
  3,
  # a comment
  { g = 4, h = { i = 5 } },
]
[[j]]
k = \"\"\"
[not.a.table]
\"\"\"
[j.l]
[[j]]
m = 6
[[j.n]]
[[j.n]]
o = 7
"""
    assert lines(text) == {
        ("top",): 1,
        ("a",): 2,
        ("a", "b"): 2,
        ("a", "b", "c"): 3,
        ("a", "b", "c", "d"): 3,
        ("a", "b", "e.f"): 4,
        ("a", "b", "e.f", 0): 5,
        ("a", "b", "e.f", 1): 7,
        ("a", "b", "e.f", 1, "g"): 7,
        ("a", "b", "e.f", 1, "h"): 7,
        ("a", "b", "e.f", 1, "h", "i"): 7,
        ("j",): 9,
        ("j", 0): 9,
        ("j", 0, "k"): 10,
        ("j", 0, "l"): 13,
        ("j", 1): 14,
        ("j", 1, "m"): 15,
        ("j", 1, "n"): 16,
        ("j", 1, "n", 0): 16,
        ("j", 1, "n", 1): 17,
        ("j", 1, "n", 1, "o"): 18,
    }


def test_the_index_has_the_keys_of_a_real_document() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert lines(text).keys() == dict(paths(tomllib.loads(text))).keys()


PLAIN = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN)
def test_what_is_rendered_reads_the_same(value: object) -> None:
    text = f"key = {render(value)}"
    assert tomllib.loads(text) == {"key": value}
    assert "\n" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Duration(90), '"90s"'),
        (Size(64 * 2**20), '"64MB"'),
        (Rate(100), '"100/s"'),
        (True, "true"),
        ((), "[]"),
        (("a", 1), '["a", 1]'),
        ({}, "{}"),
        ({"a b": 1.5, "c": "\x7f"}, '{ "a b" = 1.5, c = "\\u007f" }'),
    ],
)
def test_rendered(value: object, text: str) -> None:
    assert render(value) == text


def test_keys_are_dotted_as_a_user_would_write_them() -> None:
    assert dotted(("sources", "my app", "list", 0, "key")) == 'sources."my app".list[0].key'
    assert dotted(()) == ""
