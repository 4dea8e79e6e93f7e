"""What a mapping's directives do to resolved values; `mapping` compiles calls of these.

The functions take any JSON value and `UNDEFINED`. Where a directive has options they are bound first, once, and the
function that comes back runs for each event.
"""

import re
from collections.abc import Callable, Mapping
from typing import NoReturn

from relayd.actions.faults import Fault, MappingError
from relayd.actions.javascript import UNDEFINED, entries, is_blank, number_to_string, parse, spread, type_name
from relayd.actions.paths import MAX_TEXT

Step = Callable[[object], object]

_SPECIAL = re.compile(r"\$([$&`'])")


def is_filled(value: object) -> bool:
    """``@if blank``, which despite its name holds where the value exists and is not blank (nor 0, false or [])."""
    return value is not None and value is not UNDEFINED and not is_blank(value)


def bind_case(operator: str) -> Step:
    """``@case``: "lower" or "upper" texts; other values pass."""
    change = str.lower if operator == "lower" else str.upper
    return lambda value: change(value) if isinstance(value, str) else value


def bind_replace(options: Mapping[str, object], at: tuple[str, ...]) -> Step:
    """``@replace``: one or two literal patterns in a text, number or boolean; of anything else, the empty text.

    ``MappingError`` where a replacement that repeats what is beside each match would make `MAX_TEXT` characters of it.
    """
    count = 1 if options.get("global") is False else 0
    flags = re.IGNORECASE if options.get("ignorecase") is True else re.NOFLAG
    replacements = []
    for pattern, replacement in (("pattern", "replacement"), ("pattern2", "replacement2")):
        text, substitute = options.get(pattern), options.get(replacement)
        if isinstance(text, str) and text and (substitute is None or isinstance(substitute, str)):
            substitute = substitute or ""
            repeats = substitute.count("$`") + substitute.count("$'")
            replacements.append((re.compile(re.escape(text), flags), _substitution(substitute), repeats))

    def replace(value: object) -> str:
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, (int, float)):
            value = number_to_string(value)
        elif not isinstance(value, str):
            return ""
        for pattern, substitute, repeats in replacements:
            if repeats and repeats * len(value) * len(pattern.findall(value)) > MAX_TEXT:
                refuse(at, f"gives more than {MAX_TEXT} characters")
            value = pattern.sub(substitute, value, count)
        return value

    return replace


def _substitution(text: str) -> Callable[[re.Match[str]], str]:
    """A replacement as JavaScript writes it: ``$$`` a dollar, ``$&`` the match, ``$` `` and ``$'`` its sides."""
    if "$" not in text:
        return lambda _: text

    def substitute(match: re.Match[str]) -> str:
        parts = {"$": "$", "&": match[0], "`": match.string[: match.start()], "'": match.string[match.end() :]}
        return _SPECIAL.sub(lambda special: parts[special[1]], text)

    return substitute


def each(root: object, shape: Step) -> object:
    """``@arrayPath``: every item of an array (an object counts as one) through ``shape``; other values pass."""
    if type(root) is list:
        return [shape(item) for item in root]
    return [shape(root)] if type(root) is dict else root


def bind_flatten(separator: str, *, omit_arrays: bool, keep: bool) -> Step:
    """``@flatten``: nested members, and items, as members of one object, their keys joined by the separator.

    With ``keep`` undefined ones too.
    """

    def flatten(value: object) -> object:
        flat: dict[str, object] = {}
        add(flat, "", value)
        return flat

    def add(flat: dict[str, object], prefix: str, value: object) -> None:
        if type(value) is dict or (type(value) is list and not omit_arrays):
            for key, item in entries(spread(value)):
                add(flat, f"{prefix}{separator}{key}" if prefix else key, item)
        elif keep or value is not UNDEFINED:
            flat[prefix] = value

    return flatten


def decode(value: object) -> object:
    """``@json`` decode: the JSON in a text; what is no JSON, or no text, passes."""
    return parse(value) if isinstance(value, str) else value


def merge(*values: object) -> dict[str, object]:
    """``@merge``: the members of all, later ones over earlier; arrays and texts by index, other values have none."""
    merged: dict[str, object] = {}
    for value in values:
        merged.update(spread(value))
    return merged


def without_undefined(value: object) -> object:
    """The value itself, after its undefined members were removed in place, at any depth.

    Only objects that a mapping built have such members, so nothing of the payload changes.
    """
    pending = [value]
    while pending:
        current = pending.pop()
        if type(current) is dict:
            for key in [key for key, item in current.items() if item is UNDEFINED]:
                del current[key]
            pending += current.values()
        elif type(current) is list:
            pending += current
    return value


def bind_exclude_nulls(*, keep: bool) -> Step:
    """``@excludeWhenNull``: undefined for null; an object without its null members, at any depth but in arrays.

    With ``keep`` null members become undefined ones.
    """

    def exclude(value: object) -> object:
        return UNDEFINED if value is None else clean(value)

    def clean(value: object) -> object:
        if type(value) is not dict:
            return value
        return {
            key: UNDEFINED if item is None else clean(item) for key, item in value.items() if keep or item is not None
        }

    return exclude


def need_text(value: object, at: tuple[str, ...]) -> str:
    """The value, which a directive in place of a text gave; `MappingError` if it is none."""
    if isinstance(value, str):
        return value
    raise MappingError(Fault(at, f"holds a directive that gave {type_name(value)}, must be a string"))


def need_object(value: object, at: tuple[str, ...]) -> object:
    """What a ``@transform`` is applied to; `MappingError` if it is no object."""
    if type(value) is dict:
        return value
    if value is UNDEFINED:
        return {}
    raise MappingError(Fault(at, f"is applied to {type_name(value)}, must be an object"))


def refuse(at: tuple[str, ...], message: str) -> NoReturn:
    """What the engine finds wrong only when an event gets there."""
    raise MappingError(Fault(at, message))
