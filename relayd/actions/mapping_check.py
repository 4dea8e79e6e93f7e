"""What a mapping may look like: the rules of every directive, checked all at once before anything is compiled.

A directive is an object with one key that starts with ``@`` (and perhaps ``_metadata``, which is ignored). Arrays and
the objects in ``@literal`` and ``@excludeWhenNull`` are data first: there, an object with an ``@`` key and others is no
directive but stands for itself.

Segment's engine throws for some of these faults only when an event meets them; here they are found beforehand.
"""

from collections.abc import Callable
from difflib import get_close_matches
from typing import NamedTuple

from relayd.actions.faults import Fault, MappingError
from relayd.actions.javascript import UNDEFINED, length, spread, truthy, type_name

MAX_DEPTH = 50
"""Keys and indexes in a row, from the root of a mapping; well below what Python's parser and stack can take."""

MAX_PATTERN = 10
"""UTF-16 code units in a pattern or a replacement of ``@replace``."""

_ROOT = "__segment_internal_directive"
_JSON_TYPES = frozenset({dict, list, str, int, float, bool, type(None)})
_NAMES = {"array": "an array", "object": "an object", "null": "null", "undefined": "missing"}


def check(tree: object) -> list[Fault]:
    """Everything that is wrong with a mapping; nothing if it can be compiled."""
    faults: list[Fault] = []
    _root(tree, _Place((), False, faults))
    return faults


def directive_of(node: dict[str, object]) -> str | None:
    """The ``@`` key of an object that is a directive."""
    names = _at_keys(node)
    return names[0] if names and not node.keys() - {*names, "_metadata"} else None


def _at_keys(node: dict[str, object]) -> list[str]:
    return [key for key in node if str(key).startswith("@")]


def root_of(tree: object) -> object:
    """What a whole mapping stands for: an array or a text is an object of its items, a scalar an empty one.

    A mapping with ``__segment_internal_directive`` is that directive; what is beside it becomes its ``mapping``.
    """
    members = spread(tree)
    if _ROOT not in members:
        return members
    rest = {key: value for key, value in members.items() if key != _ROOT}
    ((name, options),) = spread(members[_ROOT]).items()
    return {name: options if isinstance(options, list) else {**spread(options), "mapping": rest}}


class _Place(NamedTuple):
    """Where in a mapping a rule is applied."""

    at: tuple[str, ...]
    raw: bool
    """Whether an object with ``@`` and other keys is data here."""
    faults: list[Fault]

    def inside(self, key: str, *, raw: bool | None = None) -> "_Place":
        return _Place((*self.at, key), self.raw if raw is None else raw, self.faults)

    def fault(self, message: str) -> None:
        self.faults.append(Fault(self.at, message))

    def expect(self, allowed: str, value: object) -> None:
        """The fault of a value of the wrong type."""
        kind = type_name(value)
        self.fault(f"is {_NAMES.get(kind, f'a {kind}')}, must be {allowed}")


Rule = Callable[[object, _Place], None]
"""Adds to the place's faults what is wrong with a value; `UNDEFINED` is an option that is not given."""


def _node(value: object, place: _Place) -> None:
    """Any JSON value, with directives in it."""
    if len(place.at) > MAX_DEPTH:
        place.fault(f"is nested too deeply, {MAX_DEPTH} levels are allowed")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _node(item, place.inside(str(index), raw=True))
    elif isinstance(value, dict) and all(type(key) is str for key in value):
        _object_or_directive(value, place)
    elif value is UNDEFINED:
        place.fault("is missing")
    elif type(value) not in _JSON_TYPES:
        place.fault(f"is a {type(value).__name__}, must be a JSON value")
    elif isinstance(value, dict):
        place.fault("has a key that is no string")


def _object_or_directive(value: dict[str, object], place: _Place) -> None:
    names = _at_keys(value)
    directive = directive_of(value)
    if not names or (place.raw and directive is None):
        for key, item in value.items():
            _node(item, place.inside(key))
    elif directive is None:
        others = [key for key in value if key not in names and key != "_metadata"]
        place.fault(f"has {', '.join(others)} beside {names[0]}, a directive stands alone")
    elif len(names) > 1 and not place.raw:
        place.fault(f"has {' and '.join(names)}, one directive is allowed")
    elif directive not in DIRECTIVES:
        close = get_close_matches(directive, DIRECTIVES, 1)
        hint = f", did you mean {close[0]}?" if close else ""
        place.fault(f"has the unknown directive {directive}{hint} (known: {' '.join(DIRECTIVES)})")
    else:
        DIRECTIVES[directive](value[directive], place.inside(directive))


def _root(value: object, place: _Place) -> None:
    """A whole mapping."""
    if value is None:
        return place.expect("an object", value)
    if isinstance(value, dict) and _ROOT in value:
        directive = value[_ROOT]
        if not isinstance(directive, dict) or len(directive) != 1:
            return place.inside(_ROOT).fault("must be an object with one key, a directive")
        ((name, options),) = directive.items()
        if not isinstance(options, dict | list):
            return place.inside(_ROOT).inside(name).expect("an object", options)
    return _node(root_of(value), place)


def _text(value: object, place: _Place) -> None:
    if isinstance(value, dict) and directive_of(value):
        _node(value, place)
    elif not isinstance(value, str):
        place.expect("a string, or a directive that gives one", value)


def _object(value: object, place: _Place) -> None:
    if isinstance(value, dict):
        _node(value, place)
    else:
        place.expect("an object or a directive", value)


def _applied(value: object, place: _Place) -> None:
    _object(value, place._replace(raw=False))  # the engine checks it as a mapping of its own


def _data(value: object, place: _Place) -> None:
    is_directive = isinstance(value, dict) and bool(_at_keys(value))
    _node(value, place if is_directive else place._replace(raw=True))


def _boolean(value: object, place: _Place) -> None:
    if not isinstance(value, bool):
        place.expect("true or false", value)


def _sized(least: int, most: int) -> Rule:
    """A text of so many UTF-16 code units."""

    def rule(value: object, place: _Place) -> None:
        if not isinstance(value, str):
            place.expect(f"a string of {least} to {most} characters", value)
        elif not least <= length(value) <= most:
            place.fault(f"has {length(value)} characters, must have {least} to {most}")

    return rule


def _one_of(*allowed: str, any_case: bool = False) -> Rule:
    def rule(value: object, place: _Place) -> None:
        if not isinstance(value, str):
            place.expect(" or ".join(allowed), value)
        elif (value.lower() if any_case else value) not in allowed:
            place.fault(f"is {value!r}, must be {' or '.join(allowed)}")

    return rule


def _if_text(rule: Rule) -> Rule:
    """Checks texts; the engine ignores options of other types."""
    return lambda value, place: rule(value, place) if isinstance(value, str) else None


def _optional(rule: Rule) -> Rule:
    return lambda value, place: None if value is UNDEFINED else rule(value, place)


def _options(rules: dict[str, Rule]) -> Rule:
    """An object with these members; others may be there, and are ignored."""

    def rule(value: object, place: _Place) -> None:
        if not isinstance(value, dict):
            return place.expect("an object", value)
        if _at_keys(value):
            return place.fault("is a directive, must be an object of options")
        for key in rules | value:
            rules.get(key, _node)(value.get(key, UNDEFINED), place.inside(key))
        return None

    return rule


def _condition(value: object, place: _Place) -> None:
    _options({})(value, place)
    if isinstance(value, dict) and not truthy(value.get("exists")) and not truthy(value.get("blank")):
        place.fault("needs exists or blank, a directive or a value that is not empty")


def _objects(value: object, place: _Place) -> None:
    if not isinstance(value, list):
        return place.expect("an array of objects", value)
    for index, item in enumerate(value):
        _object(item, place.inside(str(index)))
    return None


def _array_path(value: object, place: _Place) -> None:
    if not isinstance(value, list):
        return place.expect("an array: a path, and perhaps the shape of an item", value)
    path, shape, *_ = [*value, UNDEFINED, UNDEFINED]
    _text(path, place.inside("0"))
    _optional(_node)(shape, place.inside("1"))
    return None


def _liquid(value: object, place: _Place) -> None:
    if not isinstance(value, str):
        return place.expect("a string", value)
    from relayd.actions.liquid import compile_liquid  # here, since few mappings use it and it is slow to import

    try:
        compile_liquid(value, place.at)
    except MappingError as error:
        place.faults.extend(error.faults)
    return None


DIRECTIVES: dict[str, Rule] = {
    "@path": _text,
    "@template": _text,
    "@literal": _data,
    "@if": _condition,
    "@case": _options({"operator": _one_of("lower", "upper"), "value": _optional(_text)}),
    "@replace": _options(
        {
            "pattern": _sized(1, MAX_PATTERN),
            "replacement": _optional(_sized(0, MAX_PATTERN)),
            "pattern2": _if_text(_sized(0, MAX_PATTERN)),
            "replacement2": _if_text(_sized(0, MAX_PATTERN)),
            "ignorecase": _optional(_boolean),
            "global": _optional(_boolean),
            "value": _text,
        }
    ),
    "@arrayPath": _array_path,
    "@json": _options({"mode": _one_of("encode", "decode", any_case=True), "value": _node}),
    "@flatten": _options({"separator": _sized(1, 1000), "value": _node}),
    "@merge": _options({"direction": _one_of("left", "right", any_case=True), "objects": _objects}),
    "@transform": _options({"apply": _applied, "mapping": _object}),
    "@excludeWhenNull": _data,
    "@liquid": _liquid,
}
"""The rule of each directive's argument."""
