"""JavaScript's rules, as far as a mapping's author sees them."""

from math import inf, nan
from typing import Any

import msgspec
import pytest

from relayd.actions.javascript import (
    UNDEFINED,
    is_blank,
    member,
    number_to_string,
    parse,
    same,
    spread,
    stringify,
    to_number,
    to_string,
    truthy,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (7.0, "7"),
        (-1.25, "-1.25"),
        (0.000001, "0.000001"),
        (0.00000125, "0.00000125"),
        (1.25e-7, "1.25e-7"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (-1.5e300, "-1.5e+300"),
        (5e-324, "5e-324"),
        (2**53 + 1, "9007199254740992"),
        (10**400, "Infinity"),
        (nan, "NaN"),
    ],
)
def test_numbers_print_as_in_javascript(number: float, text: str) -> None:
    assert number_to_string(number) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [("", 0), (" 12\n", 12), ("1.50", 1.5), (".5", 0.5), ("5.", 5), ("-1e3", -1000), ("0x1F", 31), ("Infinity", inf)],
)
def test_texts_are_read_as_numbers(text: str, number: float) -> None:
    assert to_number(text) == number


@pytest.mark.parametrize("text", ["x", "1_0", "inf", "nan", "1,5", "0x", "--1", "1e", "٣"])
def test_other_texts_are_no_numbers(text: str) -> None:
    assert to_number(text) != to_number(text)


def test_values_print_as_in_javascript() -> None:
    assert to_string([1, None, [True, {}], UNDEFINED, "x"]) == "1,,true,[object Object],,x"


@pytest.mark.parametrize("value", [None, UNDEFINED, False, 0, 0.0, nan, ""])
def test_what_is_falsy(value: object) -> None:
    assert not truthy(value)


@pytest.mark.parametrize("value", [[], {}, "0", -1, True])
def test_what_is_truthy(value: object) -> None:
    assert truthy(value)


@pytest.mark.parametrize("value", ["", 0, False, [], [[]], [None]])
def test_what_is_blank(value: object) -> None:
    assert is_blank(value)


@pytest.mark.parametrize("value", [" ", "0", {}, None, UNDEFINED, ["x"], nan])
def test_what_is_not_blank(value: object) -> None:
    assert not is_blank(value)


def test_true_is_not_one() -> None:
    assert same({"a": [1]}, {"a": [1.0]})
    assert not same({"a": [1]}, {"a": [True]})
    assert not same([1], [1, 2])


@pytest.mark.parametrize(
    ("value", "key", "found"),
    [
        ({"a": 1}, "a", 1),
        ({"a": 1}, "b", UNDEFINED),
        (["x", "y"], "1", "y"),
        (["x", "y"], "01", UNDEFINED),
        (["x", "y"], "-1", UNDEFINED),
        (["x"], "²", UNDEFINED),
        ("a🐙b", "length", 4),
        ("a🐙b", "3", "b"),
        ("a🐙b", "1", "\ufffd"),
        (5, "x", UNDEFINED),
        (0, "x", 0),
        (None, "x", None),
        (UNDEFINED, "x", UNDEFINED),
    ],
)
def test_members(value: object, key: str, found: object) -> None:
    assert member(value, key) == found


def test_spreading_counts_in_utf_16() -> None:
    assert spread("é🐙") == {"0": "é", "1": "\ufffd", "2": "\ufffd"}
    assert spread([1, UNDEFINED]) == {"0": 1, "1": UNDEFINED}
    assert spread(5) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "2": 2, "a": UNDEFINED, "10": 3, "1": [UNDEFINED, nan]}, '{"1":[null,null],"2":2,"10":3,"b":1}'),
        ('\x00"\\/\n\x7fé\u2028', '"\\u0000\\"\\\\/\\n\x7fé\u2028"'),
        (1.0, "1"),
        (None, "null"),
        (UNDEFINED, UNDEFINED),
    ],
)
def test_json_is_written_as_in_javascript(value: object, text: object) -> None:
    assert stringify(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [(" [1e2] ", [100]), ("nope", "nope"), ("NaN", "NaN"), ("01", "01"), ("", ""), ("1e999", "1e999")],
)
def test_json_is_read_or_left_alone(text: str, value: Any) -> None:
    assert parse(text) == value


def test_undefined_is_encoded_as_null() -> None:
    assert msgspec.json.encode([UNDEFINED]) == b"[null]"
