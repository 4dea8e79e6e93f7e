"""Fields: what goes, what is coerced, what is refused, in which order."""

from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relayd.actions.fields import FieldError, Fields, compile_fields
from tests.actions.json_values import VALUES

GONE = object()
"""The field is not in what comes out."""
REFUSED = object()


def fitted(field: dict[str, Any], value: object, *, batch: bool = False) -> object:
    try:
        return compile_fields({"f": field}, batch=batch)({"f": value}).get("f", GONE)
    except FieldError:
        return REFUSED


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "a", "a"),
        ("string", 1.0, "1"),
        ("string", 1e21, "1e+21"),
        ("string", True, "true"),
        ("string", ["a"], "a"),
        ("string", [None], ""),
        ("string", ["a", "b"], REFUSED),
        ("string", {}, REFUSED),
        ("string", "", GONE),
        ("string", None, GONE),
        ("text", 5, "5"),
        ("password", 5, "5"),
        ("number", "1.50", 1.5),
        ("number", " 0x10 ", 16),
        ("number", "1e3", 1000),
        ("number", False, 0),
        ("number", ["7"], 7),
        ("number", "", GONE),
        ("number", "seven", REFUSED),
        ("number", "Infinity", REFUSED),
        ("number", [], REFUSED),
        ("integer", 2.0, 2),
        ("integer", "2.0", 2),
        ("integer", 2.5, REFUSED),
        ("boolean", "true", True),
        ("boolean", 0, False),
        ("boolean", "1", REFUSED),
        ("object", {"a": None, "b": ""}, {"a": None, "b": ""}),
        ("object", [{"a": 1}], REFUSED),
        ("datetime", 1700000000, 1700000000),
        ("datetime", "2026-03-04T05:06:07+01:00", "2026-03-04T05:06:07+01:00"),
        ("datetime", "Wed, 4 Mar 2026 05:06 PM", "Wed, 4 Mar 2026 05:06 PM"),
        ("datetime", "4/3/2026", "4/3/2026"),
        ("datetime", "soon", REFUSED),
        ("datetime", ["5"], 5),
    ],
)
def test_a_value_is_coerced_to_the_fields_type(kind: str, value: object, expected: object) -> None:
    found = fitted({"type": kind}, value)
    assert found == expected
    assert type(found) is type(expected) or isinstance(found, int | float)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ({"type": "string", "allowNull": True}, None, None),
        ({"type": "number", "allowNull": True}, "", GONE),
        ({"type": "string", "multiple": True}, "a", ["a"]),
        ({"type": "number", "multiple": True}, ["1", None, "", 2], [1, 2]),
        ({"type": "string", "multiple": True, "choices": ["a", "b"]}, ["a", "c"], REFUSED),
        ({"type": "object", "multiple": True}, {"a": 1}, [{"a": 1}]),
        ({"type": "string", "choices": [{"label": "One", "value": "1"}]}, 1, "1"),
        ({"type": "string", "choices": ["1"]}, "2", REFUSED),
        ({"type": "number", "choices": [1]}, True, 1),
        ({"type": "string", "minimum": 2, "maximum": 3}, "Zoë", "Zoë"),
        ({"type": "string", "minimum": 2, "maximum": 3}, "Zoës", REFUSED),
        ({"type": "number", "minimum": 2}, "1", REFUSED),
        ({"type": "string", "format": "email"}, "zoe@example.com", "zoe@example.com"),
        ({"type": "string", "format": "email"}, "zoe", REFUSED),
        ({"type": "string", "format": "uri"}, "https://example.com/?q=1", "https://example.com/?q=1"),
        ({"type": "string", "format": "uri"}, "example", REFUSED),
        ({"type": "string", "format": "ipv4"}, "10.0.0.256", REFUSED),
        ({"type": "string", "format": "ipv6"}, "::1", "::1"),
        ({"type": "string", "format": "date"}, "2026-02-29", REFUSED),
        ({"type": "string", "format": "date-time"}, "2026-02-28 01:02:03Z", "2026-02-28 01:02:03Z"),
        ({"type": "string", "format": "hostname"}, "-a", REFUSED),
        (
            {"type": "string", "format": "uuid"},
            "9c1d3f7e-0000-4000-8000-000000000000",
            "9c1d3f7e-0000-4000-8000-000000000000",
        ),
    ],
)
def test_a_field_can_ask_for_more_than_a_type(field: dict[str, Any], value: object, expected: object) -> None:
    assert fitted(field, value) == expected


def test_an_empty_text_stays_only_in_a_batch() -> None:
    assert fitted({"type": "string"}, "") is GONE
    assert fitted({"type": "string"}, "", batch=True) == ""
    assert fitted({"type": "number"}, "", batch=True) is GONE


ADDRESS: dict[str, Any] = {
    "type": "object",
    "properties": {"zip": {"type": "string", "required": True}, "floor": {"type": "integer"}},
}


def test_an_object_keeps_its_own_fields() -> None:
    assert fitted(ADDRESS, {"zip": 75001, "floor": "3", "door": "B"}) == {"zip": "75001", "floor": 3}
    assert fitted(ADDRESS, {"zip": "", "floor": ""}) == {"zip": ""}
    assert fitted(ADDRESS, {"floor": 1}) is REFUSED
    assert fitted({**ADDRESS, "additionalProperties": True}, {"zip": 1, "door": "B"}) == {"zip": "1", "door": "B"}
    assert fitted({**ADDRESS, "multiple": True}, [{"zip": 1, "door": 2}]) == [{"zip": "1"}]


def test_what_is_no_field_is_dropped() -> None:
    assert compile_fields({"a": {"type": "string"}})({"a": "x", "b": 1}) == {"a": "x"}


def required_if(*conditions: dict[str, Any], **more: Any) -> Fields:
    phone = {"type": "string", "required": {"conditions": list(conditions), **more}}
    return {"by": {"type": "string"}, "o": {"type": "object", "properties": {"by": {"type": "string"}}}, "phone": phone}


IS_SMS = {"fieldKey": "by", "operator": "is", "value": "sms"}
IS_CALL = {"fieldKey": "by", "operator": "is", "value": "call"}


@pytest.mark.parametrize(
    ("fields", "payload", "fits"),
    [
        (required_if(IS_SMS), {"by": "sms"}, False),
        (required_if(IS_SMS), {"by": "sms", "phone": 1}, True),
        (required_if(IS_SMS), {"by": "mail"}, True),
        (required_if(IS_SMS), {}, True),
        (required_if({**IS_SMS, "operator": "is_not"}), {"by": "mail"}, False),
        (required_if({**IS_SMS, "operator": "is_not"}), {}, True),
        (required_if(IS_SMS, IS_CALL, match="any"), {"by": "call"}, False),
        (required_if(IS_SMS, IS_CALL), {"by": "call"}, True),
        (required_if({"fieldKey": "by", "operator": "is"}), {}, False),
        (required_if({"fieldKey": "by", "operator": "is_not"}), {"by": "mail"}, False),
        (required_if({"fieldKey": "o.by", "operator": "is", "value": "sms"}), {"o": {"by": "sms"}}, False),
        (required_if({"fieldKey": "o.by", "operator": "is", "value": "sms"}), {"o": {"by": "mail"}}, True),
    ],
)
def test_a_condition_may_make_a_field_required(fields: Fields, payload: dict[str, Any], fits: bool) -> None:
    if fits:
        compile_fields(fields)(payload)
    else:
        with pytest.raises(FieldError, match="/phone: is missing, it is required if "):
            compile_fields(fields)(payload)


def test_all_faults_are_found_at_once_without_the_values() -> None:
    fields: Fields = {
        "id": {"type": "string", "required": True},
        "n": {"type": "number"},
        "a": {**ADDRESS, "multiple": True},
        "c": {"type": "string", "choices": ["x"]},
    }
    with pytest.raises(FieldError) as caught:
        compile_fields(fields)({"n": "s3cret", "a": [{"zip": 1}, {"floor": "s3cret"}], "c": "s3cret"})
    assert str(caught.value).splitlines() == [
        "/id: is missing, it is required",
        "/n: is string, must be number",
        "/a/1/zip: is missing, it is required",
        "/a/1/floor: is string, must be integer",
        "/c: is none of the choices: x",
    ]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"f": {"type": "date"}}, "/f: has the unknown type 'date'"),
        ({"f": {"type": "string", "format": "colour"}}, "/f: has the unknown format 'colour'"),
        ({"f": {"type": "object", "properties": {"g": {"type": "?"}}}}, "/f/g: has the unknown type"),
        ({"f": {"type": "object", "properties": ["g"]}}, "/f: must be an object of field definitions"),
        (required_if({"fieldKey": "by", "operator": "gt", "value": 1}), "/phone: is required by the operator 'gt'"),
    ],
)
def test_a_wrong_definition_is_refused(fields: Any, fault: str) -> None:
    with pytest.raises(FieldError, match=fault):
        compile_fields(fields)


def test_only_an_object_can_be_fitted() -> None:
    with pytest.raises(FieldError, match="must be an object"):
        compile_fields({})([])  # type: ignore[arg-type]


KINDS = ["string", "text", "password", "number", "integer", "boolean", "datetime", "object"]
FIELD = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={
        "multiple": st.booleans(),
        "allowNull": st.booleans(),
        "required": st.booleans(),
        "choices": st.just(["a", "10"]),
        "properties": st.just({"x": {"type": "number"}, "y": {"type": "string", "multiple": True}}),
    },
)


@settings(max_examples=300, deadline=None)
@given(
    fields=st.dictionaries(st.sampled_from("abc"), FIELD),
    payload=st.dictionaries(st.sampled_from("abcd"), VALUES),
    batch=st.booleans(),
)
def test_any_payload_is_fitted_or_refused_and_left_alone(fields: Fields, payload: dict[str, Any], batch: bool) -> None:
    before = deepcopy(payload)
    fit = compile_fields(fields, batch=batch)
    try:
        once = fit(payload)
    except FieldError as error:
        assert error.faults  # noqa: PT017  an error is as good as a result here
    else:
        assert once.keys() <= fields.keys()
        assert {key for key, field in fields.items() if field.get("required")} <= once.keys()
    assert payload == before


def test_a_fitted_payload_can_be_encoded() -> None:
    fit = compile_fields({"n": {"type": "number"}, "s": {"type": "string"}})
    assert msgspec.json.encode(fit({"n": "100000000000000000000", "s": 10**400})) == b'{"n":1e20,"s":"Infinity"}'
