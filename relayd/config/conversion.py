"""From plain TOML values to the model's types. Every error is reported, none is raised, and none shows a secret.

A value that is wrong is replaced by its default, or by `INVALID` where there is none, so that all others can still be
checked, against each other too. A document with problems gives no configuration.
"""

import math
import re
from collections.abc import Callable, Mapping, Sized
from datetime import date, time
from types import UnionType
from typing import Final, Literal, TypeVar, Union, cast, get_args, get_origin

from msgspec import Meta

from relayd.config.document import UNRESOLVED, Document
from relayd.config.errors import Keys, nearest, suggestion
from relayd.config.model import Section
from relayd.config.schema import REQUIRED, UNITS, describe, is_secret, keys, kind, members, unwrap
from relayd.config.toml import render
from relayd.config.units import Duration, Rate, Size

SectionT = TypeVar("SectionT", bound=Section)

INVALID: Final = object()


class Conversion:
    """Converts the values of one document, and reports there."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: list[tuple[Callable[[Keys, str], None], Keys, str]] = []

    def section(self, section: type[SectionT], value: object, at: Keys) -> SectionT:
        """The table at ``at`` as a section, with `INVALID` in required keys that are missing or wrong."""
        result = self._section(section, value if isinstance(value, dict) else {}, at, False)
        for report, where, message in self._found:
            report(where, message)
        self._found.clear()
        return result

    def _section(self, section: type[SectionT], table: dict[str, object], at: Keys, secret: bool) -> SectionT:
        known = keys(section)
        for name in [each for each in table if each not in known]:
            self._wrong((*at, name), f'unknown key "{name}"; {suggestion(name, known, "known keys")}')
        values: dict[str, object] = {}
        for key in known.values():
            here = (*at, key.name)
            if key.name in table:
                value = self._value(key.holds, table[key.name], here, key.meta, secret or key.secret)
            elif key.default is REQUIRED:
                value = INVALID
                self._found.append((self._document.miss, here, f"is required: {key.explanation}"))
            else:
                continue
            if value is not INVALID or key.default is REQUIRED:
                values[key.attribute] = value
        return section(**values)

    def _value(self, annotated: object, value: object, at: Keys, meta: tuple[Meta, ...], secret: bool) -> object:
        """The value as the type says, within the bounds of ``meta``; or `INVALID`, reported."""
        bare, own = unwrap(annotated)
        if bare is object:
            return value
        if value is UNRESOLVED:
            return INVALID
        meta += own
        secret = secret or is_secret(own)
        origin = get_origin(bare) or bare
        if origin in (Union, UnionType):
            return self._union(bare, value, at, meta, secret)
        if isinstance(bare, type) and issubclass(bare, Section) and isinstance(value, dict):
            return self._section(bare, value, at, secret)
        result: object
        if origin in (Mapping, dict) and isinstance(value, dict):
            inner = get_args(bare)[1]
            items = ((name, self._value(inner, each, (*at, name), (), secret)) for name, each in value.items())
            result = {name: each for name, each in items if each is not INVALID}
        elif origin in (tuple, list) and isinstance(value, list):
            inner = get_args(bare)[0]
            elements = [self._value(inner, each, (*at, index), (), secret) for index, each in enumerate(value)]
            result = tuple(elements) if origin is tuple else elements
        else:
            result = self._scalar(bare, value, at, secret)
        return result if result is INVALID else self._bounded(result, at, meta, secret)

    def _union(self, union: object, value: object, at: Keys, meta: tuple[Meta, ...], secret: bool) -> object:
        """The first member that the value fits."""
        before = self._found
        types = members(union)
        for each in types:
            self._found = []
            result = self._value(each, value, at, meta, secret)
            if not self._found or len(types) == 1:
                self._found = before + self._found
                return result
        self._found = before
        return self._wrong(at, f"must be {describe(union)}{self._but(value, at, secret)}")

    def _scalar(self, bare: object, value: object, at: Keys, secret: bool) -> object:
        if secret and isinstance(value, str):
            self._document.keep_secret(value)
        if get_origin(bare) is Literal:
            choices = get_args(bare)
            if any(value == each and type(value) is type(each) for each in choices):
                return value
            return self._wrong(at, f"must be {describe(bare)}{self._but(value, at, secret, choices)}")
        if bare in UNITS and isinstance(value, str):
            return self._unit(cast(type[Duration | Size | Rate], bare), value, at, secret)
        if bare in (Duration, Size) and type(value) in (int, float) and value == 0:
            return bare(0)
        if bare is float and type(value) in (int, float):
            number = float(cast(float, value))
            return number if math.isfinite(number) else self._wrong(at, f"must be a finite number, not {value}")
        if isinstance(bare, type) and type(value) is bare:
            return value
        what = f"{describe(bare)}{', a string with a unit' if bare in UNITS else ''}"
        hint = "; put it in quotes" if bare is str and isinstance(value, date | time) else ""
        return self._wrong(at, f"must be {what}, not {kind(value)}{hint}")

    def _unit(self, unit: type[Duration | Size | Rate], value: str, at: Keys, secret: bool) -> object:
        try:
            return unit.parse(value)
        except ValueError as error:
            return self._wrong(at, f"must be {describe(unit)}" if self._hides(at, secret) else str(error))
        except OverflowError:
            return self._wrong(at, f"must be {describe(unit)}, not that many")

    def _bounded(self, value: object, at: Keys, meta: tuple[Meta, ...], secret: bool) -> object:
        """The value, or `INVALID` when a bound says no."""
        for each in meta:
            allowed = _broken_bound(value, each)
            if allowed:
                but = "" if isinstance(value, Sized) else self._but(value, at, secret)
                return self._wrong(at, f"must {allowed}{but}")
        return value

    def _but(self, value: object, at: Keys, secret: bool, choices: tuple[object, ...] = ()) -> str:
        """What the value is instead, and which of the choices it is like; unless nobody may see it."""
        if self._hides(at, secret):
            return ""
        near = nearest(value, map(str, choices)) if isinstance(value, str) else ""
        return f", not {_plain(value)}{near and f'; {near}'}"

    def _hides(self, at: Keys, secret: bool) -> bool:
        return secret or at in self._document.referred

    def _wrong(self, at: Keys, message: str) -> object:
        self._found.append((self._document.report, at, message))
        return INVALID


def _broken_bound(value: object, meta: Meta) -> str | None:
    """What the value must be, when it is not."""
    if isinstance(value, int | float):
        if meta.gt is not None and value <= meta.gt:
            return f"be more than {_bound(meta.gt, value)}"
        if meta.ge is not None and value < meta.ge:
            return f"be at least {_bound(meta.ge, value)}"
        if meta.le is not None and value > meta.le:
            return f"be at most {_bound(meta.le, value)}"
    if isinstance(value, Sized):
        if meta.min_length is not None and len(value) < meta.min_length:
            return f"have a length of at least {meta.min_length}" if meta.min_length > 1 else "not be empty"
        if meta.max_length is not None and len(value) > meta.max_length:
            return f"have a length of at most {meta.max_length}"
    if isinstance(value, str) and meta.pattern is not None and not re.search(meta.pattern, value):
        return f"match {meta.pattern}"
    return None


def _bound(bound: float, value: object) -> str:
    """A bound in the units of the value."""
    return str(type(value)(bound)) if isinstance(value, Duration | Size | Rate) else f"{bound:,}"


def _plain(value: object) -> str:
    """A value in a sentence: a string in quotes, a number with a unit without, and of others only what they are."""
    if isinstance(value, Duration | Size | Rate):
        return str(value)
    return render(value) if isinstance(value, str | int | float) else kind(value)
