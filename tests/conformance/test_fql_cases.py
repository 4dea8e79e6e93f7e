"""Triggers and filters against the answers of Segment's subscription engine, and the examples of its FQL page.

Where that engine's answer is an accident of its parser, the row says what a strict grammar answers, and that counts.
"""

from collections.abc import Callable
from typing import Any

import pytest

from relayd.actions.trigger import Condition, TriggerError, compile_filter, compile_trigger
from tests.conformance.cases import cases


def answer(compile_: Callable[[str], Condition], row: dict[str, Any]) -> bool | str:
    try:
        condition = compile_(row["fql"])
    except TriggerError:
        return "error"
    return condition(row["event"])


def failures(compile_: Callable[[str], Condition], rows: list[dict[str, Any]]) -> list[str]:
    failed = []
    for row in rows:
        expected, found = row.get("sane", row["expect"]), answer(compile_, row)
        if found is not expected and found != expected:
            failed.append(f"{row['id']}: {row['fql']}: {found}, not {expected}")
    return failed


@pytest.mark.parametrize("name", ["fql", "fql_nested"])
def test_a_trigger_answers_as_segments_engine_does(name: str) -> None:
    assert failures(compile_trigger, cases(name)) == []


def test_a_filter_answers_as_the_documentation_says() -> None:
    assert failures(compile_filter, cases("fql_docs")) == []


def test_a_trigger_answers_as_the_documentation_says_where_the_engine_does_not_refuse() -> None:
    refused = ("length(", "typeof(")
    assert failures(compile_trigger, [row for row in cases("fql_docs") if not row["fql"].startswith(refused)]) == []
