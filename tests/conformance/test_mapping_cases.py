"""Mappings against the answers of Segment's engine."""

from math import isfinite
from typing import Any

from relayd.actions.javascript import number_to_string, same
from relayd.actions.mapping import UNDEFINED, MappingError, compile_mapping
from tests.conformance.cases import cases

ACCIDENTS = {
    "map-0090": "$.toString is a function that every JavaScript object inherits; here it is a member that is not there",
    "map-0092": "$.__proto__ is the object that JavaScript objects inherit from; here it is a member that is not there",
}
"""Rows that relayd does not follow, and why."""


def plain(value: Any) -> Any:
    """A result as the cases write it."""
    if value is UNDEFINED:
        return {"$undefined": True}
    if isinstance(value, float) and not isfinite(value):
        return {"$number": number_to_string(value)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def answer(mapping: object, payload: Any) -> object:
    try:
        return plain(compile_mapping(mapping)(payload))
    except MappingError:
        return {"error": True}


def test_mappings_give_what_segments_engine_gives() -> None:
    rows = cases("mapping")
    differing = {row["id"] for row in rows if not same(answer(row["mapping"], row["payload"]), row["expect"])}
    assert differing == ACCIDENTS.keys() & {row["id"] for row in rows}
    assert len(differing) <= len(rows) / 100
