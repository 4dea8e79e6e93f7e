"""What FQL's functions and comparisons make of JSON values. None raises, whatever the values are."""

import math
import re
from collections.abc import Callable
from functools import lru_cache

from relayd.actions.glob import GlobError, compile_glob
from relayd.actions.javascript import stringify

NUMBERS = frozenset({int, float})
"""The classes of JSON's numbers; a bool is none."""

_TYPES = {str: "string", int: "number", float: "number", list: "list", bool: "bool", type(None): "null", dict: "object"}
_NUMBER = re.compile(r"[+-]?[0-9]{1,300}(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_MAX_PATTERN = 256
"""Characters of a glob pattern that comes out of an event; a longer one matches nothing."""


def step(container: object, key: str) -> object:
    """A member of an object, an item of a list by its index, or a list's length; None where there is none."""
    if isinstance(container, dict):
        return container.get(key)
    if isinstance(container, list):
        if key == "length":
            return len(container)
        if key.isdecimal() and key.isascii() and str(int(key[:9])) == key and int(key) < len(container):
            return container[int(key)]
    return None


def walk(event: object, keys: tuple[str, ...]) -> object:
    """What stands at the end of a path."""
    for key in keys:
        event = step(event, key)
    return event


def same(one: object, other: object) -> bool:
    """Strict equality: of the same type (numbers are one type, bool another), and equal all the way down."""
    pending = [(one, other)]
    while pending:
        one, other = pending.pop()
        if one.__class__ is not other.__class__:
            if not (one.__class__ in NUMBERS and other.__class__ in NUMBERS and one == other):
                return False
        elif isinstance(one, dict):
            assert isinstance(other, dict)
            if one.keys() != other.keys():
                return False
            pending += [(member, other[key]) for key, member in one.items()]
        elif isinstance(one, list):
            assert isinstance(other, list)
            if len(one) != len(other):
                return False
            pending += zip(one, other, strict=True)
        elif one != other:
            return False
    return True


def among(value: object, items: object) -> bool:
    """Whether a list has the value."""
    return isinstance(items, list) and any(same(value, item) for item in items)


def contains(text: object, part: object) -> bool:
    return isinstance(text, str) and isinstance(part, str) and part in text


def matches(text: object, pattern: object) -> bool:
    if not isinstance(text, str) or not isinstance(pattern, str) or len(pattern) > _MAX_PATTERN:
        return False
    test = _glob(pattern)
    return test is not None and test(text)


@lru_cache(256)
def _glob(pattern: str) -> Callable[[str], bool] | None:
    try:
        return compile_glob(pattern)
    except GlobError:
        return None


def length(value: object) -> int | None:
    """Items of a list, bytes of a text, 0 of null."""
    match value:
        case None:
            return 0
        case list():
            return len(value)
        case str():
            return len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
        case _:
            return None


def _of_text(change: Callable[[str], str]) -> Callable[[object], str | None]:
    return lambda value: change(value) if isinstance(value, str) else None


def titlecase(text: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def typeof(value: object) -> str:
    return _TYPES.get(value.__class__, "object")


def to_bool(value: object) -> bool:
    """False for null, 0, an empty list or object, and the texts "", "0" and "false"; else true."""
    return value.lower() not in ("", "0", "false") if isinstance(value, str) else bool(value)


def to_string(value: object) -> str | None:
    """A text as it is, nothing for null, else its JSON; null for what is nested too deep to write."""
    if isinstance(value, str):
        return value
    try:
        return "" if value is None else stringify(value) or ""
    except RecursionError:
        return None


def to_number(value: object) -> float | None:
    """A number as it is, a decimal text's value, else null."""
    if value.__class__ in NUMBERS:
        return value  # type: ignore[return-value]
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        number = float(value)
        return number if math.isfinite(number) else None
    return None


FUNCTIONS: dict[str, Callable[..., object]] = {
    "contains": contains,
    "match": matches,
    "length": length,
    "lowercase": _of_text(str.lower),
    "uppercase": _of_text(str.upper),
    "snakecase": _of_text(lambda text: text.replace(" ", "_")),
    "kebabcase": _of_text(lambda text: text.replace(" ", "-")),
    "titlecase": _of_text(titlecase),
    "typeof": typeof,
    "bool": to_bool,
    "string": to_string,
    "number": to_number,
}
"""The functions of documented FQL. Where it does not say: snake- and kebabcase replace blanks only; an object is
"object" and has no length; null is the empty string; a text that is no number is null."""
