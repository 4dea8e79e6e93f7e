"""Transformers and compiled conditions against the answers of Segment's tsub engine."""

from copy import deepcopy
from typing import Any

import pytest

from relayd.actions.filters import TransformerError, compile_transformers
from relayd.actions.javascript import stringify
from relayd.actions.matcher import MatcherError, compile_ir, compile_matcher
from tests.conformance.cases import cases


def answer(row: dict[str, Any]) -> object:
    try:
        match row["kind"]:
            case "transform":
                return compile_transformers(row["transformers"])(row["event"])
            case "match":
                return compile_ir(row["ir"])(row["event"])
            case _:
                return compile_matcher(row["matcher"])(row["event"])
    except (TransformerError, MatcherError):
        return {"error": True}


@pytest.mark.parametrize("kind", ["transform", "match", "matcher"])
def test_tsub_answers_as_segments_engine_does(kind: str) -> None:
    failed = []
    for row in cases("tsub"):
        if row["kind"] == kind:
            before = deepcopy(row["event"])
            found = answer(row)
            if found != row["expect"] or sorted(str(stringify(found))) != sorted(str(stringify(row["expect"]))):
                failed.append(f"{row['id']}: {row.get('transformers') or row.get('ir')}: {found}")
            assert row["event"] == before, f"{row['id']} changed its event"
    assert failed == []
