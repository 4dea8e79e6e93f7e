"""PostHog's /batch/ and /i/v0/e/ (posthog.com/docs/api/capture and /docs/data/ingestion-warnings, and rust/capture).

Not documented, and chosen here: the answers to a wrong method and path, that an unknown key is refused (PostHog looks
only at its form), and that an event with an invalid UUID is dropped behind a 200, as one page says it is.
Left out: compression.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from relayd.testing.vendors import Request, Response, Vendor, json_answer, names

MAX_BYTES = 20_000_000
MAX_EVENT = 1_000_000
MAX_ID = 200
"""Characters of a distinct id; what is longer is cut off."""
MAX_DELETED = 1000
_BULK_DELETE = re.compile(r"/api/projects/[0-9]+/persons/bulk_delete/")
_TEXT = (("Content-Type", "text/plain"),)


class PostHog(Vendor):
    """One project. ``accepted`` has events as ``{"event", "distinct_id", "properties", ...}``."""

    def __init__(self, api_key: str = "phc_x", *, over_quota: bool = False) -> None:
        """``over_quota``: it drops all events, and says so behind a 200."""
        super().__init__()
        self.api_key = api_key
        self.personal_api_key = "phx_x"
        self.over_quota = over_quota
        self.warnings: list[str] = []
        """Why events were dropped or changed behind a 200, as PostHog shows it to its users."""
        self._seen: set[tuple[object, ...]] = set()

    def answer(self, request: Request) -> Response:
        if request.method != "POST":
            return _refused(405, "the method is not allowed")
        if _BULK_DELETE.fullmatch(request.path):
            return self._delete(request)
        if request.path not in ("/batch/", "/batch", "/i/v0/e/", "/i/v0/e"):
            return _refused(404, "there is nothing here")
        if len(request.body) > MAX_BYTES:
            return _refused(413, "the body is too large")
        if request.headers.get("content-type") != "application/json":
            return _refused(400, "the body can not be decoded")
        try:
            said = msgspec.json.decode(request.body, type=dict[str, Any])
        except msgspec.DecodeError:
            return _refused(400, "the body can not be parsed")
        events = said.get("batch") if request.path.startswith("/batch") else [said]
        if not isinstance(events, list) or not events:
            return _refused(400, "there is no event")
        if said.get("api_key") != self.api_key:
            return _refused(401, "the API key is not valid")
        for event in events:
            if fault := _fault(event):
                return _refused(400, fault)
        if self.over_quota:
            return json_answer(200, {"status": 1, "quota_limited": ["events"]})
        self._ingest(events)
        return json_answer(200, {"status": 1})

    def _delete(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.personal_api_key}":
            return _refused(401, "the personal API key is not valid")
        try:
            said = msgspec.json.decode(request.body, type=dict[str, Any])
        except msgspec.DecodeError:
            said = {}
        if not names(said.get("distinct_ids"), MAX_DELETED):
            return _refused(400, "the distinct ids are not valid")
        self.deleted += said["distinct_ids"]
        return json_answer(202, {})

    def _ingest(self, events: Iterable[Mapping[str, Any]]) -> None:
        for event in events:
            if "uuid" in event and not _is_uuid(event["uuid"]):
                self.warnings.append("the UUID is not valid")
                continue
            if len(msgspec.json.encode(event)) > MAX_EVENT:
                self.warnings.append("the event is too large")
                continue
            kept = {key: value for key, value in event.items() if key != "api_key"}
            kept["distinct_id"] = str(_distinct_id(event))[:MAX_ID]
            if "timestamp" in event and not _is_time(event["timestamp"]):
                self.warnings.append("the timestamp is not valid")
                del kept["timestamp"]
            key = (event.get("uuid"), event["event"], kept["distinct_id"], str(kept.get("timestamp"))[:10])
            if event.get("uuid") is None or key not in self._seen:
                self.accepted.append(kept)
            self._seen.add(key)


def _fault(event: object) -> str:
    if not isinstance(event, dict) or not isinstance(event.get("event"), str) or not event["event"]:
        return "an event has no name"
    if not isinstance(event.get("properties", {}), dict):
        return "an event's properties are no object"
    distinct_id = _distinct_id(event)
    if distinct_id is None or not str(distinct_id).strip():
        return "an event has no distinct_id"
    return ""


def _distinct_id(event: Mapping[str, Any]) -> object:
    own = event.get("distinct_id")
    return event.get("properties", {}).get("distinct_id") if own is None else own


def _is_uuid(text: object) -> bool:
    try:
        return isinstance(text, str) and UUID(text) is not None
    except ValueError:
        return False


def _is_time(text: object) -> bool:
    try:
        return isinstance(text, str) and datetime.fromisoformat(text) is not None
    except ValueError:
        return False


def _refused(status: int, why: str) -> Response:
    return Response(status, why.encode(), _TEXT)
