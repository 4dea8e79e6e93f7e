"""JavaScript's view of JSON values: what a mapping's author sees.

Segment runs mappings in JavaScript, so how a number prints, what counts as empty and what a missing member is are that
language's rules (ECMA-262). These functions apply them to values as decoded from JSON, and to `UNDEFINED`. They never
raise, except `RecursionError` on values nested about as deep as Python's stack.

Three things are not imitated: members every JavaScript object inherits (``toString``, ``__proto__``) are undefined;
half of a surrogate pair is U+FFFD, as it becomes on the way to UTF-8; a number passed on unchanged keeps its digits.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from enum import Enum
from json import JSONEncoder
from math import inf, isfinite, nan
from typing import Final, Literal

import msgspec


class Undefined(Enum):
    """The type of `UNDEFINED`. An enumeration for mypy, and because msgspec encodes it as its value: null."""

    UNDEFINED = None

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED: Final = Undefined.UNDEFINED
"""What a missing member is. Objects drop it; in arrays it stays, and is null once encoded."""

WHITESPACE: Final = (
    "\t\n\v\f\r \xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
"""What ``trim()`` strips; it is not what `str.strip` strips."""

_SAFE_INTEGER = 2**53
_LAST_INDEX = 2**32 - 2
_TYPE_NAMES = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?Infinity")
_PREFIXED = re.compile(r"0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)")
_quote = JSONEncoder(ensure_ascii=False).encode


def type_name(value: object) -> str:
    """What the value is called in messages: null, boolean, number, string, array, object or undefined."""
    return "undefined" if value is UNDEFINED else _TYPE_NAMES.get(type(value), "object")


def truthy(value: object) -> bool:
    """``Boolean(value)``: empty arrays and objects are true, NaN is false."""
    return type(value) in (list, dict) or (bool(value) and value == value)


def is_blank(value: object) -> bool:
    """``value == ''``: also true of 0, false, [] and [[]]; null and undefined are not blank."""
    if type(value) is list:
        return not to_string(value)
    return value is not None and value is not UNDEFINED and type(value) is not dict and not value


def same(one: object, other: object) -> bool:
    """Whether two JSON values are equal, member by member; 1 is 1.0 but not true."""
    if type(one) is list and type(other) is list:
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict and type(other) is dict:
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return (type(one) is bool) == (type(other) is bool) and one == other


def number_to_string(number: float) -> str:
    """``String(number)``: 1.0 prints 1, 1e21 prints 1e+21, 1e-7 prints 1e-7; beyond 2**53 as the nearest double."""
    if type(number) is int and -_SAFE_INTEGER <= number <= _SAFE_INTEGER:
        return str(number)
    number = to_double(number)
    if not isfinite(number):
        return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"
    if number == 0:
        return "0"
    sign, shortest, exponent = Decimal(repr(number)).as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, shortest)).rstrip("0")
    point = exponent + len(shortest)  # where the decimal point stands, counted from the first digit
    if len(digits) <= point <= 21:
        text = digits.ljust(point, "0")
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{fraction}e{point - 1:+d}"
    return f"-{text}" if sign else text


def to_double(number: float) -> float:
    """The nearest double; an integer beyond them all is infinite."""
    try:
        return float(number)
    except OverflowError:
        return inf if number > 0 else -inf


def to_number(text: str) -> float:
    """``Number(text)``: blanks are 0, what is no number is NaN. Safe integers are `int`, and encode as such."""
    text = text.strip(WHITESPACE)
    if not text:
        return 0
    if _PREFIXED.fullmatch(text):
        number = to_double(int(text, 0))
    elif _DECIMAL.fullmatch(text):
        number = float(text)
    else:
        return nan
    return int(number) if number.is_integer() and abs(number) <= _SAFE_INTEGER else number


def to_string(value: object) -> str:
    """``String(value)``: arrays are joined with commas, objects are "[object Object]"."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[return-value]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number_to_string(value)
    if isinstance(value, list):
        return ",".join(["" if item is None or item is UNDEFINED else to_string(item) for item in value])
    return "[object Object]" if kind is dict else type_name(value)


def characters(text: str) -> Iterable[str]:
    """The text's UTF-16 code units, as indexes into it and its length count them."""
    if text.isascii():
        return text
    return [character for whole in text for character in (whole if whole <= "\uffff" else "\ufffd\ufffd")]


def length(text: str) -> int:
    """``text.length``: in UTF-16 code units."""
    return len(text) if text.isascii() else len(text) + sum(character > "\uffff" for character in text)


def member(value: object, key: str) -> object:
    """``value && value[key]``: a member, an item or a character; what is falsy is returned as it is."""
    if type(value) is dict:
        return value.get(key, UNDEFINED)
    if not truthy(value):
        return value
    if type(value) is not list and type(value) is not str:
        return UNDEFINED
    if key == "length":
        return length(value) if type(value) is str else len(value)
    if not _is_index(key):
        return UNDEFINED
    items = list(characters(value)) if type(value) is str else value
    return items[int(key)] if int(key) < len(items) else UNDEFINED


def entries(value: dict[str, object]) -> Iterable[tuple[str, object]]:
    """The object's members in JavaScript's order: indexes first, by size, then as they were added."""
    if not any("0" <= key[:1] <= "9" for key in value):
        return value.items()
    indexes = sorted((key for key in value if _is_index(key)), key=int)
    return [(key, value[key]) for key in indexes] + [item for item in value.items() if not _is_index(item[0])]


def spread(value: object) -> dict[str, object]:
    """``{...value}``: an object itself (not a copy), an array or a text by index, nothing of anything else."""
    if type(value) is dict:
        return value
    if type(value) is list:
        return {str(index): item for index, item in enumerate(value)}
    if type(value) is str:
        return {str(index): item for index, item in enumerate(characters(value))}
    return {}


def stringify(value: object) -> str | Undefined:
    """``JSON.stringify(value)``: undefined members are left out, undefined items are null; of undefined, undefined."""
    return UNDEFINED if value is UNDEFINED else _json(value)


def _json(value: object) -> str:
    if isinstance(value, str):
        return _quote(value)
    if type(value) is dict:
        members = [f"{_quote(key)}:{_json(item)}" for key, item in entries(value) if item is not UNDEFINED]
        return f"{{{','.join(members)}}}"
    if type(value) is list:
        return f"[{','.join([_json(item) for item in value])}]"
    if value is None or value is UNDEFINED:
        return "null"
    text = to_string(value)
    return "null" if text in ("NaN", "Infinity", "-Infinity") else text


def parse(text: str) -> object:
    """``JSON.parse(text)``, or ``text`` itself where that throws (and where a number is beyond a double)."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _is_index(key: str) -> bool:
    """Whether the key is an array index as JavaScript writes it: 0 or 10, not 010."""
    if not ("0" <= key[:1] <= "9" and key.isascii() and key.isdecimal() and len(key) <= 10):
        return False
    return key == "0" or (key[0] != "0" and int(key) <= _LAST_INDEX)
