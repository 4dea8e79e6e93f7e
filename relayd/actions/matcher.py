"""Segment's compiled conditions (tsub's intermediate representation of FQL), as functions.

A condition is JSON: ``["=", "type", {"value": "track"}]``. A text is a path, ``{"value": …}`` a constant, and a list an
operation: and, or, !, =, !=, <, <=, >, >=, in, contains, match, lowercase, typeof, length, semver. Anything else raises
`MatcherError` when it is compiled; a compiled condition never raises.

Behaviour is that of the JavaScript engine (@segment/tsub 2.0.1) as executed, which is not quite that of documented FQL:
typeof has JavaScript's names, a missing field is not null, length counts UTF-16 units, and lowercase, typeof, length,
contains, match and semver have their value only to the left and right of a comparison. Two of its accidents are left
out: members inherited from prototypes do not exist, and nothing in an event is ever taken for an operation or a path.
"""

import json
import operator
import re
from collections.abc import Callable, Mapping
from math import nan
from typing import Any

from relayd.actions.fql_functions import NUMBERS, matches
from relayd.actions.javascript import UNDEFINED, length, stringify, truthy, type_name
from relayd.actions.transformers import Event, read

Value = Callable[[Event], object]
Matcher = Callable[[Event], bool]

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EQUALITIES = {"=": operator.eq, "!=": operator.ne}
_SEMVER_TESTS = _ORDERS | _EQUALITIES
_INTEGER = re.compile(r"\s*([+-]?[0-9]{1,18})")


class MatcherError(ValueError):
    """A condition that is none."""


def compile_matcher(matcher: Mapping[str, Any]) -> Matcher:
    """A matcher of type ``all``, or of type ``fql`` with its condition encoded in ``ir``. Raises `MatcherError`."""
    match matcher.get("type"):
        case "all":
            return lambda event: True
        case "fql":
            encoded = matcher.get("ir")
            if not encoded:
                return lambda event: False
            try:
                condition = json.loads(encoded)
            except (TypeError, ValueError) as error:
                raise MatcherError(f"the condition {encoded!r} is no JSON: {error}") from error
            return compile_ir(condition)
        case kind:
            raise MatcherError(f"a matcher of type {kind!r} is unsupported")


def compile_ir(condition: object) -> Matcher:
    """Whether an event satisfies a decoded condition. Raises `MatcherError`."""
    evaluate = _evaluation(condition)
    return lambda event: evaluate(event) is True


def _evaluation(node: object) -> Value:
    """What a condition evaluates to. A path or a constant alone is a condition that holds where it is true."""
    if not isinstance(node, list):
        value = _value(node)
        return lambda event: value(event) is True
    match node:
        case ["!", negated]:
            evaluate = _evaluation(negated)
            return lambda event: not truthy(evaluate(event))
        case ["and", *nodes]:
            conditions = [_evaluation(each) for each in nodes]
            return lambda event: all(truthy(each(event)) for each in conditions)
        case ["or", *nodes]:
            conditions = [_evaluation(each) for each in nodes]
            return lambda event: any(truthy(each(event)) for each in conditions)
        case ["=" | "!=" as sign, one, other]:
            return _equality(sign == "=", _operand(one), _operand(other))
        case ["<" | "<=" | ">" | ">=" as sign, one, other]:
            return _order(_ORDERS[sign], _operand(one), _operand(other))
        case ["in", one, {"value": list(items)}]:
            return _membership(_value(one), [_value(item) for item in items])
        case ["in", one, str(path)]:
            return _listed(_value(one), _value(path))
        case [str(name), *arguments] if len(arguments) == _ARITIES.get(name):
            function, values = _FUNCTIONS[name], [_value(each) for each in arguments]
            return lambda event: function(*[value(event) for value in values])
        case _:
            raise MatcherError(f"{json.dumps(node)[:80]} is no operation")


def _operand(node: object) -> Value:
    """A side of a comparison: here functions have their value."""
    match node:
        case [str(name), *arguments] if len(arguments) == _ARITIES.get(name):
            return _evaluation(node)
        case _:
            return _value(node)


def _value(node: object) -> Value:
    """A path's value in the event, or a constant; an operation that is not evaluated here counts as a list."""
    match node:
        case str(path):
            keys = tuple(path.split("."))
            return lambda event: read(event, keys)
        case {"value": constant}:
            return lambda event: constant
        case {}:
            return lambda event: UNDEFINED
        case list():
            return lambda event: node
        case _:
            raise MatcherError(f"{json.dumps(node)} is neither a path, nor a value, nor an operation")


def _equality(wanted: bool, one: Value, other: Value) -> Value:
    return lambda event: _identical(one(event), other(event)) is wanted


def _identical(one: object, other: object) -> bool:
    """JavaScript's ``===``, but objects, lists and null by their JSON, in the order of their members."""
    if isinstance(one, dict | list | None) and isinstance(other, dict | list | None):
        return stringify(one) == stringify(other)
    if one.__class__ in NUMBERS and other.__class__ in NUMBERS:
        return one == other
    return one.__class__ is other.__class__ and one == other


def _order(test: Callable[[Any, Any], bool], one: Value, other: Value) -> Value:
    def evaluate(event: Event) -> bool:
        left, right = one(event), other(event)
        return left.__class__ in NUMBERS and right.__class__ in NUMBERS and test(left, right)

    return evaluate


def _membership(wanted: Value, items: list[Value]) -> Value:
    def evaluate(event: Event) -> bool:
        value = wanted(event)
        return not isinstance(value, dict | list) and any(_identical(value, item(event)) for item in items)

    return evaluate


def _listed(wanted: Value, items: Value) -> Value:
    def evaluate(event: Event) -> bool:
        value, found = wanted(event), items(event)
        return (
            isinstance(found, list)
            and not isinstance(value, dict | list)
            and any(_identical(value, item) for item in found)
        )

    return evaluate


def _contains(text: object, part: object) -> bool:
    return isinstance(text, str) and isinstance(part, str) and part in text


def _matches(text: object, pattern: object) -> bool:
    return isinstance(text, str) and isinstance(pattern, str) and matches(_units(text), _units(pattern))


def _units(text: str) -> str:
    """The text as JavaScript counts it: a character above U+FFFF becomes two."""
    if not text or max(text) <= "\uffff":
        return text
    units = text.encode("utf-16-le", errors="surrogatepass")
    return "".join(chr(units[at] | units[at + 1] << 8) for at in range(0, len(units), 2))


def _lowercase(value: object) -> str | None:
    return value.lower() if isinstance(value, str) else None


def _typeof(value: object) -> str:
    return "object" if isinstance(value, dict | list | None) else type_name(value)


def _length(value: object) -> float:
    match value:
        case None:
            return 0
        case str():
            return length(value)
        case list():
            return len(value)
        case _:
            return nan


def _semver(version: object, sign: object, other: object) -> bool:
    """Compares versions of one to three numbers; what follows a number's digits does not count."""
    if not (isinstance(version, str) and isinstance(sign, str) and isinstance(other, str)):
        return False
    one, two, test = _version(version), _version(other), _SEMVER_TESTS.get(sign)
    return bool(one and two and test and test(one, two))


def _version(text: str) -> list[int] | None:
    parts = [_INTEGER.match(part) for part in text.split(".")]
    if len(parts) > 3 or None in parts:
        return None
    return [int(part[1]) for part in parts if part] + [0] * (3 - len(parts))


_FUNCTIONS: dict[str, Callable[..., object]] = {
    "contains": _contains,
    "match": _matches,
    "lowercase": _lowercase,
    "typeof": _typeof,
    "length": _length,
    "semver": _semver,
}
_ARITIES = {"contains": 2, "match": 2, "lowercase": 1, "typeof": 1, "length": 1, "semver": 3}
