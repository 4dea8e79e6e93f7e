"""How a value is made to fit a field's type.

The rules are those of ajv with ``coerceTypes: "array"``: a value of a right type stays; an array of one item counts as
that item; then each type in turn takes what it can read: numbers and booleans become texts, "10" and true numbers,
"true" and 1 true, null the empty value of a scalar type, and a scalar an array of itself. Unlike there, "Infinity" is
no number, since JSON can not carry it.
"""

from collections.abc import Callable
from math import isfinite

from relayd.actions.javascript import UNDEFINED, to_number, to_string

Coerce = Callable[[object], object]
"""Gives a value of the wanted type, or UNDEFINED where there is none."""


def coerce_to(*kinds: str) -> Coerce:
    """The coercion to any of some JSON types; ``kinds`` are the keys of `KINDS`, in the order to try."""
    checks = [KINDS[kind] for kind in kinds]
    converters = [_CONVERTERS[kind] for kind in kinds if kind in _CONVERTERS]

    def coerce(value: object) -> object:
        if any(check(value) for check in checks):
            return value
        if not converters:
            return UNDEFINED
        if type(value) is list and len(value) == 1:
            value = value[0]
            if len(checks) == 1 and checks[0](value):  # with more types than one, ajv misses this
                return value
        return next((result for convert in converters if (result := convert(value)) is not UNDEFINED), UNDEFINED)

    return coerce


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and isfinite(value))


def _is_integer(value: object) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


KINDS: dict[str, Callable[[object], bool]] = {
    "string": lambda value: type(value) is str,
    "number": _is_number,
    "integer": _is_integer,
    "boolean": lambda value: type(value) is bool,
    "null": lambda value: value is None,
    "array": lambda value: type(value) is list,
    "object": lambda value: type(value) is dict,
}
"""Whether a value is of a JSON type."""


def _string(value: object) -> object:
    if value is None:
        return ""
    return to_string(value) if type(value) in (bool, int, float) else UNDEFINED


def _number(value: object) -> object:
    if value is None or type(value) is bool:
        return int(value or 0)
    if type(value) is not str or not value:
        return UNDEFINED
    number = to_number(value)
    return number if isfinite(number) else UNDEFINED


def _integer(value: object) -> object:
    number = _number(value)
    return UNDEFINED if type(number) is float and not number.is_integer() else number


def _boolean(value: object) -> object:
    if value is None or value == "false" or (type(value) in (int, float) and value == 0):
        return False
    return True if value == "true" or (type(value) in (int, float) and value == 1) else UNDEFINED


def _null(value: object) -> object:
    return None if value == "" or value is False or (type(value) in (int, float) and value == 0) else UNDEFINED


def _array(value: object) -> object:
    return [value] if value is None or type(value) in (str, bool, int, float) else UNDEFINED


_CONVERTERS: dict[str, Coerce] = {
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "null": _null,
    "array": _array,
}
