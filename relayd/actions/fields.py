"""Fields: what an action asks of a mapped payload, and how the payload is made to fit.

In this order, as Segment's engine does it (found by running it): empty values go, then each field's value is coerced to
its type and checked, and what is no field is dropped.

- null goes unless the field allows it; "" goes unless the field is a text, and at the top even then (but not in a
  batch).
- A required field must be left after that; a condition may make it required, by the values before coercion.
- Faults are found all at once. They name fields and types, never values.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from relayd.actions.coercion import coerce_to
from relayd.actions.faults import Fault, FieldError
from relayd.actions.formats import FORMATS
from relayd.actions.javascript import UNDEFINED, same, type_name

__all__ = ["FieldError", "Fields", "Fit", "compile_fields"]

Fields = Mapping[str, Mapping[str, Any]]
"""Definitions by key: a ``type``, and perhaps ``required``, ``multiple``, ``allowNull``, ``choices``, ``format``,
``minimum``, ``maximum``, ``properties`` and ``additionalProperties``. Others, such as ``default``, are ignored."""

Fit = Callable[[dict[str, object]], dict[str, object]]

At = tuple[str, ...]

_KINDS = {
    "string": ("string",),
    "text": ("string",),
    "password": ("string",),
    "number": ("number",),
    "integer": ("integer",),
    "boolean": ("boolean",),
    "datetime": ("string", "number"),
    "object": ("object",),
    "any": ("string", "number", "boolean", "array", "object"),  # relayd's own: a value of any type, as it is
}
_FORMATS = {"datetime": "date-like", "password": "password", "text": "text"}
_SURE = {"string": str, "text": str, "password": str, "number": int, "integer": int, "boolean": bool, "object": dict}
"""The Python type whose values fit without a closer look, if nothing but the type is asked for."""


def compile_fields(fields: Fields, *, batch: bool = False) -> Fit:
    """The function that makes a payload fit; ``batch`` if the payload goes out together with others.

    Raises `FieldError` if a definition is wrong. So does the function, with a fault for all that does not fit.
    """
    faults: list[Fault] = []
    root = _Object(fields, additional=False, at=(), faults=faults)
    if faults:
        raise FieldError(*faults)

    def fit(payload: dict[str, object]) -> dict[str, object]:
        if type(payload) is not dict:
            raise FieldError(Fault((), f"is {type_name(payload)}, must be an object"))
        faults: list[Fault] = []
        fitted = root.fit(root.prune(payload, top=True, blanks=batch), (), faults)
        if faults:
            raise FieldError(*faults)
        return fitted

    return fit


class _Object:
    """The fields of a payload, or of an object in it."""

    def __init__(self, fields: Fields, *, additional: bool, at: At, faults: list[Fault]) -> None:
        self.additional = additional
        self.fields: dict[str, _Field | _Array] = {}
        self.sure: dict[str, type] = {}
        self.required: list[str] = []
        self.conditions: list[_Condition] = []
        if not isinstance(fields, Mapping) or not all(isinstance(field, Mapping) for field in fields.values()):
            faults.append(Fault(at, "must be an object of field definitions"))
            return
        for key, definition in fields.items():
            field = (_Array if definition.get("multiple") else _Field)(definition, (*at, key), faults)
            self.fields[key] = field
            if field.sure is not None:
                self.sure[key] = field.sure
            for target, required in _requirements(key, definition):
                if isinstance(required, Mapping):
                    self.conditions.append(_Condition(target, required, at, faults))
                elif required and len(target) == 1:
                    self.required.append(key)
        if at and any(len(condition.target) == 1 for condition in self.conditions):
            self.required, self.conditions = [], []  # the engine leaves both to the object around this one

    def prune(self, value: dict[str, object], *, top: bool = False, blanks: bool = True) -> dict[str, object]:
        """Without empty values; at the ``top``, arrays made of single values. ``blanks`` keeps texts that are empty."""
        pruned: dict[str, object] = {}
        for key, item in value.items():
            if type(item) is not self.sure.get(key) and (field := self.fields.get(key)) is not None:
                item = field.prune(item)
                if top and isinstance(field, _Array) and type(item) is not list and item is not UNDEFINED:
                    item = [item]
            if item is not UNDEFINED and (blanks or item != ""):
                pruned[key] = item
        return pruned

    def fit(self, value: dict[str, object], at: At, faults: list[Fault]) -> dict[str, object]:
        """Every member coerced and checked; what is no field is dropped."""
        faults += [Fault((*at, key), "is missing, it is required") for key in self.required if key not in value]
        faults += [
            Fault((*at, *condition.target), f"is missing, it is required if {condition}")
            for condition in self.conditions
            if condition.is_broken(value)
        ]
        fitted: dict[str, object] = {}
        for key, item in value.items():
            if type(item) is self.sure.get(key):
                fitted[key] = item
            elif (field := self.fields.get(key)) is not None:
                fitted[key] = field.fit(item, (*at, key), faults)
            elif self.additional:
                fitted[key] = item
        return fitted


class _Field:
    """A field of one value."""

    def __init__(self, field: Mapping[str, Any], at: At, faults: list[Fault]) -> None:
        kind = field.get("type")
        if kind not in _KINDS:
            faults.append(Fault(at, f"has the unknown type {kind!r} (known: {', '.join(_KINDS)})"))
            kind = "string"
        self.object: _Object | None = None
        if kind == "object" and field.get("properties") is not None:
            additional = bool(field.get("additionalProperties"))
            self.object = _Object(field["properties"], additional=additional, at=at, faults=faults)
        nullable = bool(field.get("allowNull")) and self.object is None
        self.kinds = (*_KINDS[kind], "null") if nullable else _KINDS[kind]
        self.coerce = coerce_to(*self.kinds)
        self.choices = _choices(field, nullable)
        self.least, self.most = field.get("minimum"), field.get("maximum")
        if kind not in ("string", "number"):
            self.least = self.most = None
        self.format = _FORMATS.get(kind, field.get("format"))
        if self.format is not None and self.format not in FORMATS:
            faults.append(Fault(at, f"has the unknown format {self.format!r} (known: {', '.join(FORMATS)})"))
        asked = self.object or self.choices or self.least or self.most or self.format not in (None, "text", "password")
        self.sure = None if asked else _SURE.get(kind)

    def prune(self, value: object) -> object:
        if type(value) is dict and self.object is not None:
            return self.object.prune(value)
        gone = (value is None and "null" not in self.kinds) or (value == "" and "string" not in self.kinds)
        return UNDEFINED if gone else value

    def fit(self, value: object, at: At, faults: list[Fault]) -> object:
        coerced = self.coerce(value)
        if coerced is UNDEFINED:
            faults.append(Fault(at, f"is {type_name(value)}, must be {' or '.join(self.kinds)}"))
            return value
        if type(coerced) is dict and self.object is not None:
            coerced = self.object.fit(coerced, at, faults)
        if fault := self._refusal(coerced):
            faults.append(Fault(at, fault))
        return coerced

    def _refusal(self, value: object) -> str | None:
        """What is wrong with a value of the right type."""
        if self.choices is not None and not any(same(value, choice) for choice in self.choices):
            return f"is none of the choices: {', '.join(map(str, self.choices))}"
        if isinstance(value, str) and self.format is not None and not FORMATS[self.format](value):
            return f"is no {self.format.removesuffix('-like')}"
        if isinstance(value, str | int | float) and (self.least or self.most):
            size, unit = (len(value), " characters") if isinstance(value, str) else (value, "")
            if self.least and size < self.least:
                return f"is below {self.least}{unit}"
            if self.most and size > self.most:
                return f"is above {self.most}{unit}"
        return None


class _Array:
    """A field of many values; what is asked of each is its type and the choices."""

    sure: type | None = None

    def __init__(self, field: Mapping[str, Any], at: At, faults: list[Fault]) -> None:
        asked = ("type", "choices", "properties", "additionalProperties")
        self.item = _Field({key: field[key] for key in asked if key in field}, at, faults)
        if field.get("type") == "datetime":
            self.item.format = None
        self.coerce = coerce_to("array")

    def prune(self, value: object) -> object:
        if type(value) is list:
            return [item for item in value if self.item.prune(item) is not UNDEFINED]
        return UNDEFINED if value is None or value == "" else value

    def fit(self, value: object, at: At, faults: list[Fault]) -> object:
        items = self.coerce(value)
        if type(items) is not list:
            faults.append(Fault(at, f"is {type_name(value)}, must be array"))
            return value
        return [self.item.fit(item, (*at, str(index)), faults) for index, item in enumerate(items)]


def _choices(field: Mapping[str, Any], nullable: bool) -> list[object] | None:
    if not field.get("choices"):
        return None
    choices = [choice["value"] if isinstance(choice, Mapping) else choice for choice in field["choices"]]
    return [*choices, None] if nullable else choices


def _requirements(key: str, field: Mapping[str, Any]) -> Iterator[tuple[At, object]]:
    """What is required, and when: the field itself, and the members of the object that it is."""
    yield (key,), field.get("required")
    inner = field.get("properties")
    if field.get("type") == "object" and isinstance(inner, Mapping):
        for member, definition in inner.items():
            yield (key, member), definition.get("required")


_as_null = coerce_to("null")


class _Condition:
    """When a field is required: if all, or any, of some others are or are not as said."""

    def __init__(self, target: At, required: Mapping[str, Any], at: At, faults: list[Fault]) -> None:
        self.target = target
        self.tests = list(required["conditions"])
        self.any = required.get("match") == "any"
        unknown = {test["operator"] for test in self.tests} - {"is", "is_not"}
        faults += [
            Fault((*at, *target), f"is required by the operator {name!r} (known: is, is_not)") for name in unknown
        ]

    def __str__(self) -> str:
        tests = [
            f"{test['fieldKey']} {test['operator'].replace('_', ' ')} {test.get('value', 'missing')}"
            for test in self.tests
        ]
        return (" or " if self.any else " and ").join(tests)

    def is_broken(self, payload: dict[str, object]) -> bool:
        if not (any if self.any else all)([self._holds(test, payload) for test in self.tests]):
            return False
        outer = payload.get(self.target[0], UNDEFINED)
        return outer is UNDEFINED or (len(self.target) > 1 and type(outer) is dict and self.target[1] not in outer)

    def _holds(self, test: Mapping[str, Any], payload: dict[str, object]) -> bool:
        key, *inner = test["fieldKey"].split(".")
        value = payload.get(key, UNDEFINED)
        if inner and type(value) is dict:
            value = value.get(inner[0], UNDEFINED)
        elif inner and value is not UNDEFINED:
            return True  # JSON Schema asks nothing of what is no object
        wanted: bool = test["operator"] == "is"
        if "value" in test:
            return value is not UNDEFINED and same(value, test["value"]) is wanted
        absent = value is UNDEFINED or (len(self.tests) == 1 and _as_null(value) is None)
        return absent is wanted
