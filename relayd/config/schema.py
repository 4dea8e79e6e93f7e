"""What a `Section` declares: its keys, with their types, bounds, defaults and explanations."""

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from msgspec import NODEFAULT, Meta, Struct
from msgspec.structs import fields

from relayd.config.model import Section
from relayd.config.toml import render
from relayd.config.units import Duration, Rate, Size

REQUIRED = NODEFAULT
UNITS: Mapping[object, str] = {
    Duration: 'a duration such as "10s" or "4h"',
    Size: 'a size such as "500KB" or "64MB"',
    Rate: 'a rate such as "100/s"',
}
_NAMES: Mapping[object, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    **UNITS,
}


class Key(Struct, frozen=True):
    """One key of a section."""

    name: str
    attribute: str
    holds: object
    """The type without its annotations."""
    default: object
    """`REQUIRED` when there is none."""
    meta: tuple[Meta, ...]

    @property
    def explanation(self) -> str:
        return next((each.description for each in self.meta if each.description), "")

    @property
    def example(self) -> object:
        return next((each.examples[0] for each in self.meta if each.examples), None)

    @property
    def secret(self) -> bool:
        return is_secret(self.meta)

    @property
    def public(self) -> bool:
        """Whether `model.public` marks the value; what is secret never is."""
        return not self.secret and any((each.extra or {}).get("public") for each in self.meta)

    @property
    def section(self) -> type[Section] | None:
        """The section that this key holds, if it holds one."""
        return self.holds if isinstance(self.holds, type) and issubclass(self.holds, Section) else None


@cache
def keys(section: type[Section]) -> Mapping[str, Key]:
    """The keys of a section by their names, in their order."""
    found = {}
    for field in fields(section):
        default = field.default if field.default_factory is NODEFAULT else field.default_factory()
        bare, meta = unwrap(field.type)
        found[field.encode_name] = Key(field.encode_name, field.name, bare, default, meta)
    return found


def unwrap(annotated: object) -> tuple[object, tuple[Meta, ...]]:
    """A type without its annotations, and those that are `Meta`."""
    if get_origin(annotated) is not Annotated:
        return annotated, ()
    bare, *meta = get_args(annotated)
    return bare, tuple(each for each in meta if isinstance(each, Meta))


def is_secret(meta: tuple[Meta, ...]) -> bool:
    """Whether `model.secret` marks the value."""
    return any((each.extra or {}).get("secret") for each in meta)


def members(bare: object) -> list[object]:
    """The types of a union, None left out as TOML has no null; of any other type, itself."""
    if get_origin(bare) not in (Union, UnionType):
        return [bare]
    return [each for each in get_args(bare) if each is not NoneType]


def describe(bare: object) -> str:
    """What may be written for a type, for a sentence that says so."""
    bare, _ = unwrap(bare)
    origin = get_origin(bare) or bare
    if origin in (Union, UnionType):
        return alternatives(list(dict.fromkeys(describe(each) for each in members(bare))))
    if origin is Literal:
        return alternatives([render(each) for each in get_args(bare)])
    if origin in (tuple, list):
        return "an array"
    return _NAMES.get(bare, "a table")


def alternatives(words: list[str]) -> str:
    """``a, b or c``."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def kind(value: object) -> str:
    """What a TOML value is, for a sentence that says so."""
    match value:
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int():
            return "an integer"
        case float():
            return "a float"
        case list():
            return "an array"
        case dict():
            return "a table"
        case _:
            return "a date or time"
