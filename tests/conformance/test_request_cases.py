"""The requests that destinations make, against those that Segment's engine made of the same events."""

from typing import Any

import msgspec
import pytest

from relayd.destinations import CATALOG, Request, get
from tests.conformance.cases import cases

_SEGMENT = "Segment's actions make no HTTP request; relayd sends what they return to the public API, see test_segment"
TYPES = (
    "amplitude", "braze", "customerio", "google-analytics-4", "mixpanel", "posthog", "segment", "slack", "webhook"
)  # fmt: skip
DEVIATIONS: dict[str, str] = dict.fromkeys(("req-0150", "req-0154", "req-0155"), _SEGMENT)
"""Rows that relayd answers otherwise, on purpose, and why."""


def answer(row: dict[str, Any]) -> object:
    events = row["events"] if row.get("batch") else [row["event"]]
    try:
        requests = get(row["dest"]).requests(
            row["action"], row["settings"], row["mapping"], events, batch=bool(row.get("batch")), now=row["now"]
        )
    except ValueError:
        return "error"
    return [plain(request) for request in requests]


def plain(request: Request) -> dict[str, object]:
    headers = {name.lower(): value for name, value in request.headers.items()}
    body: object = request.body.decode()
    if headers.get("content-type") == "application/json":
        body = msgspec.json.decode(request.body)
    return {"method": request.method, "url": request.url, "headers": headers, "body": body}


def expected(row: dict[str, Any]) -> object:
    return "error" if "error" in row["expect"] else row["expect"]["requests"]


@pytest.mark.parametrize("type_", TYPES)
def test_a_destination_makes_the_requests_that_segment_makes(type_: str) -> None:
    rows = [row for row in cases("request") if row["dest"] == type_]
    assert rows
    judged = [row for row in rows if row["id"] not in DEVIATIONS]
    assert {row["id"]: answer(row) for row in judged} == {row["id"]: expected(row) for row in judged}


def test_every_destination_that_has_cases_is_judged() -> None:
    assert {row["dest"] for row in cases("request")} & CATALOG.keys() == set(TYPES)
