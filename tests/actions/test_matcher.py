"""Compiled conditions as Segment's browser engine evaluates them, and what is refused as none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.actions.matcher import MatcherError, compile_ir, compile_matcher
from tests.actions.json_values import EVENTS, VALUES

EVENT: dict[str, Any] = {
    "type": "track",
    "event": "Ticket Bought",
    "nothing": None,
    "properties": {
        "seats": 2,
        "yes": True,
        "tags": ["front"],
        "row": {"a": 1, "b": 2},
        "version": "2.10.1",
        "face": "🎫",
    },
}


def value(constant: object) -> dict[str, object]:
    return {"value": constant}


@pytest.mark.parametrize(
    "condition",
    [
        "properties.yes",
        value(True),
        ["and"],
        ["!", ["or"]],
        ["and", ["=", "type", value("track")], ["!", "properties.no"]],
        ["=", "nothing", value(None)],
        ["=", "missing", "also.missing"],
        ["!=", "missing", value(None)],
        ["=", "properties.row", value({"a": 1, "b": 2})],
        ["!=", "properties.row", value({"b": 2, "a": 1})],
        ["!=", "properties.yes", value(1)],
        ["<=", "properties.seats", value(2.0)],
        ["in", "type", value([value("page"), value("track")])],
        ["in", value("front"), "properties.tags"],
        ["contains", "event", value("Bought")],
        ["=", ["contains", "event", value("Sold")], value(False)],
        ["match", "event", value("T*[a-t]")],
        ["match", "properties.face", value("??")],
        ["=", ["lowercase", "event"], value("ticket bought")],
        ["=", ["typeof", "properties.tags"], value("object")],
        ["=", ["typeof", "missing"], value("undefined")],
        ["=", ["typeof", "properties.yes"], value("boolean")],
        ["=", ["length", "properties.face"], value(2)],
        ["=", ["length", "nothing"], value(0)],
        ["=", "properties.tags.length", value(1)],
        ["semver", "properties.version", value(">"), value("2.9")],
        ["semver", "properties.version", value("="), value("2.10.1-rc")],
    ],
)
def test_a_condition_holds(condition: object) -> None:
    assert compile_ir(condition)(EVENT) is True


@pytest.mark.parametrize(
    "condition",
    [
        "type",
        value("true"),
        ["or"],
        ["lowercase", "event"],
        ["length", "event"],
        ["match", ["lowercase", "event"], value("ticket*")],
        ["match", "event", value("[")],
        ["=", "missing", value(None)],
        [">", "event", value(0)],
        [">", ["length", "missing"], value(-1)],
        ["in", "missing", value([value(None)])],
        ["in", "type", "properties.seats"],
        ["semver", "properties.version", value("~"), value("2")],
        ["semver", "properties.version", value("="), value("2.10.1.0")],
        ["semver", value("x"), value("!="), value("1")],
    ],
)
def test_a_condition_does_not_hold(condition: object) -> None:
    assert compile_ir(condition)(EVENT) is False


@pytest.mark.parametrize(
    "condition", [[], ["nope", 1], ["=", "type"], ["!", 5], ["and", ["nope"]], ["=", None, value(1)], 5]
)
def test_what_is_no_condition_is_refused_when_compiled(condition: object) -> None:
    with pytest.raises(MatcherError):
        compile_ir(condition)


def test_a_matcher_holds_its_condition_as_json() -> None:
    assert compile_matcher({"type": "all"})(EVENT)
    assert compile_matcher({"type": "fql", "ir": json.dumps(["=", "type", value("track")])})(EVENT)
    assert not compile_matcher({"type": "fql", "ir": ""})(EVENT)


@pytest.mark.parametrize(
    "matcher", [{}, {"type": "sql"}, {"type": "fql", "ir": "{bad"}, {"type": "fql", "ir": ["and"]}]
)
def test_what_is_no_matcher_is_refused(matcher: dict[str, Any]) -> None:
    with pytest.raises(MatcherError):
        compile_matcher(matcher)


_VALUE = st.sampled_from(["type", "properties.x", "properties.x.0", "traits", ""]) | VALUES.map(value)
_SIGNS = st.sampled_from(["<", "<=", "=", "!=", ">", ">="])
_FUNCTION = st.one_of(
    st.tuples(st.sampled_from(["lowercase", "typeof", "length"]), _VALUE).map(list),
    st.tuples(st.sampled_from(["contains", "match"]), _VALUE, _VALUE).map(list),
    st.tuples(st.just("semver"), _VALUE, _SIGNS.map(value), _VALUE).map(list),
)
_SIDE = _VALUE | _FUNCTION
CONDITIONS = st.recursive(
    _SIDE
    | st.tuples(_SIGNS, _SIDE, _SIDE).map(list)
    | st.tuples(st.just("in"), _VALUE, st.lists(_VALUE, max_size=3).map(value)).map(list),
    lambda inner: (
        st.tuples(st.sampled_from(["and", "or"]), inner, inner).map(list) | st.tuples(st.just("!"), inner).map(list)
    ),
    max_leaves=5,
)


@given(CONDITIONS, EVENTS)
def test_a_condition_never_raises_and_gives_a_truth_value(condition: object, event: dict[str, Any]) -> None:
    assert type(compile_ir(condition)(event)) is bool


def test_nothing_in_an_event_is_evaluated() -> None:
    event = {"properties": {"x": ["typeof", "type"], "y": ["type"]}, "type": "track"}
    assert not compile_ir(["=", "properties.x", value("string")])(event)
    assert not compile_ir(["in", value("track"), "properties.y"])(event)
