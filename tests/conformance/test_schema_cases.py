"""Fields against the answers of Segment's engine."""

from typing import Any

from relayd.actions.fields import FieldError, compile_fields
from relayd.actions.javascript import same
from tests.conformance.cases import cases
from tests.conformance.test_mapping_cases import plain


def answer(row: dict[str, Any]) -> object:
    try:
        return plain(compile_fields(row["fields"])(row["payload"]))
    except FieldError:
        return {"error": True}


def test_payloads_are_fitted_as_segments_engine_fits_them() -> None:
    assert [row["id"] for row in cases("schema") if not same(answer(row), row["expect"])] == []
