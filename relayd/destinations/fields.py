"""Short forms for the definitions of an action's fields and for the mappings they begin with."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

USER_AGENT = "Segment (Actions)"
"""Vendors and receivers know the requests of Destination Actions by it."""

JSON = {"content-type": "application/json", "user-agent": USER_AGENT}
FORM = {"content-type": "application/x-www-form-urlencoded;charset=UTF-8", "user-agent": USER_AGENT}

Definition = Mapping[str, Any]


def at(path: str) -> dict[str, object]:
    """The value at a path of the event, such as ``context.ip``."""
    return {"@path": f"$.{path}"}


def first(path: str, *others: str) -> dict[str, object]:
    """The value at the first of the paths that is there."""
    if not others:
        return at(path)
    return {"@if": {"exists": at(path), "then": at(path), "else": first(*others)}}


def field(kind: str, default: object = None, **more: object) -> Definition:
    """A field of a type; ``default`` None is none. ``more`` are keys such as ``required`` and ``multiple``."""
    return {"type": kind, **({} if default is None else {"default": default}), **more}


def text(default: object = None, **more: object) -> Definition:
    return field("string", default, **more)


def number(default: object = None, **more: object) -> Definition:
    return field("number", default, **more)


def integer(default: object = None, **more: object) -> Definition:
    return field("integer", default, **more)


def boolean(default: object = None, **more: object) -> Definition:
    return field("boolean", default, **more)


def moment(default: object = None, **more: object) -> Definition:
    """A date and time: a text or a Unix time."""
    return field("datetime", default, **more)


def table(default: object = None, **more: object) -> Definition:
    """An object. Give ``properties``, or all of it is kept."""
    return field("object", default, **more)


def form(**values: str) -> bytes:
    """The body of a form, percent-encoded as JavaScript's URLSearchParams does it (WHATWG URL, section 5.2)."""
    return "&".join(f"{_quoted(key)}={_quoted(value)}" for key, value in values.items()).encode()


def _quoted(text: str) -> str:
    return quote_plus(text, safe="*").replace("~", "%7E")
