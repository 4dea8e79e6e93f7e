"""Amplitude's event, identify and mapping APIs (amplitude.com/docs/apis/analytics).

Not documented, and chosen here: the answers to a wrong method and a wrong content type, the text of a form's answers,
that an event which was seen before counts as ingested, and that ``options=undefined`` is ignored, as it must be for
Segment's requests to work.
"""

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import msgspec

from relayd.testing.vendors import Request, Response, Vendor, json_answer, names

MB = 1_000_000
MAX_EVENTS = 2000
MAX_DELETED = 100
MAX_BYTES = {"/2/httpapi": MB, "/batch": 20 * MB}
TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("user_id", "device_id", "insert_id", "event_type", "platform", "os_name", "country", "ip"), str),
    **dict.fromkeys(("event_properties", "user_properties", "groups"), dict),
    **dict.fromkeys(("time", "session_id", "quantity", "event_id"), int),
    **dict.fromkeys(("price", "revenue", "location_lat", "location_lng"), (int, float)),
}
"""Of the fields of an event that relayd sends, and that are checked."""
NO_IDS = frozenset({
    *("anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown", "{}", "lmy47d", "0", "-1", ""),
    "00000000-0000-0000-0000-000000000000",
})  # fmt: skip
RESERVED = frozenset(
    f"[Amplitude] {name}"
    for name in ("Start Session", "End Session", "Revenue", "Revenue (Verified)", "Revenue (Unverified)", "Merged User")
)
_FORM = "application/x-www-form-urlencoded"
_TEXT = (("Content-Type", "text/html;charset=utf-8"),)


class Amplitude(Vendor):
    """One project. ``accepted`` has events, and forms as ``{"path", ...what was in the form}``."""

    def __init__(
        self,
        api_key: str = "AK",
        secret_key: str = "SK",  # noqa: S107
        *,
        throttled: Collection[str] = (),
        silenced: Collection[str] = (),
        over_quota: Collection[str] = (),
    ) -> None:
        """``throttled`` and ``over_quota`` are user and device ids, ``silenced`` device ids."""
        super().__init__()
        self.api_key = api_key
        self.secret_key = secret_key
        self.throttled = set(throttled)
        self.silenced = set(silenced)
        self.over_quota = set(over_quota)
        self._seen: set[str] = set()

    def answer(self, request: Request) -> Response:
        if request.method != "POST":
            return json_answer(405, {"code": 405, "error": "Method not allowed"})
        kind = request.headers.get("content-type", "").split(";")[0].strip()
        if request.path == "/api/2/deletions/users":
            return self._delete(request)
        if request.path in MAX_BYTES:
            if kind != "application/json":
                return _refused("Invalid content type")
            return self._upload(request.path, request.body)
        if request.path in ("/identify", "/groupidentify", "/usermap"):
            if kind != _FORM:
                return _refused("Invalid content type")
            return self._form(request.path, request.body)
        return json_answer(404, {"code": 404, "error": "Invalid request path"})

    def _delete(self, request: Request) -> Response:
        credentials = b64encode(f"{self.api_key}:{self.secret_key}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {credentials}":
            return json_answer(401, {"error": {"http_code": 401, "type": "unauthorized"}})
        try:
            said = msgspec.json.decode(request.body, type=dict[str, Any])
        except msgspec.DecodeError:
            said = {}
        if not names(said.get("user_ids"), MAX_DELETED):
            return json_answer(400, {"error": {"http_code": 400, "type": "invalid_user_ids"}})
        self.deleted += said["user_ids"]
        return json_answer(200, {"day": "2026-12-05", "status": "staging", "amplitude_ids": []})

    def _upload(self, path: str, body: bytes) -> Response:
        if len(body) > MAX_BYTES[path]:
            return _too_large()
        try:
            upload = msgspec.json.decode(body)
        except msgspec.DecodeError:
            return _refused("Invalid JSON request body")
        if not isinstance(upload, dict):
            return _refused("Invalid JSON request body")
        for field in ("api_key", "events"):
            if not upload.get(field):
                return _refused("Request missing required field", missing_field=field)
        if upload["api_key"] != self.api_key:
            return _refused(f"Invalid API key: {upload['api_key']}")
        events = upload["events"]
        if len(events) > MAX_EVENTS:
            return _too_large()
        return self._refusal(events, upload.get("options") or {}) or self._ingest(events, len(body))

    def _refusal(self, events: Sequence[dict[str, Any]], options: Mapping[str, int]) -> Response | None:
        """Of all events, when one of them is at fault."""
        missing: dict[str, list[int]] = {}
        invalid: dict[str, list[int]] = {}
        short: dict[str, list[int]] = {}
        for place, event in enumerate(events):
            for field in _missing(event):
                missing.setdefault(field, []).append(place)
            for field in _invalid(event):
                invalid.setdefault(field, []).append(place)
            for field in _short(event, options.get("min_id_length", 5)):
                short.setdefault(field, []).append(place)
        if missing:
            return _refused(
                "Request missing required field", events_with_missing_fields=missing, events_with_invalid_fields=invalid
            )
        if invalid:
            return _refused("Invalid field values on some events", events_with_invalid_fields=invalid)
        if short:
            return _refused("Invalid id length for user_id or device_id", events_with_invalid_id_lengths=short)
        return self._limited(events)

    def _limited(self, events: Sequence[dict[str, Any]]) -> Response | None:
        throttled = [
            place for place, event in enumerate(events) if self._ids(event) & (self.throttled | self.over_quota)
        ]
        silenced = [place for place, event in enumerate(events) if event.get("device_id") in self.silenced]
        if not throttled and not silenced:
            return None
        ids = {key: {event[f"{key}_id"] for event in events if event.get(f"{key}_id")} for key in ("user", "device")}
        answer: dict[str, Any] = {"eps_threshold": 30, "throttled_events": throttled}
        for key, found in ids.items():
            answer[f"throttled_{key}s"] = dict.fromkeys(found & self.throttled, 31)
            answer[f"exceeded_daily_quota_{key}s"] = dict.fromkeys(found & self.over_quota, 500_200)
        if silenced:
            answer |= {"silenced_events": silenced, "silenced_devices": sorted(ids["device"] & self.silenced)}
            return _refused("Events silenced for device_id", **answer)
        return json_answer(429, {"code": 429, "error": "Too many requests for some devices and users"} | answer)

    def _ids(self, event: Mapping[str, Any]) -> set[str]:
        return {event[key] for key in ("user_id", "device_id") if event.get(key)}

    def _ingest(self, events: Sequence[dict[str, Any]], size: int) -> Response:
        for event in events:
            insert_id = event.get("insert_id")
            if insert_id is None or insert_id not in self._seen:
                self.accepted.append(event)
            if insert_id is not None:
                self._seen.add(insert_id)
        return json_answer(
            200,
            {
                "code": 200,
                "events_ingested": len(events),
                "payload_size_bytes": size,
                "server_upload_time": 1_767_323_046_000,
            },
        )

    def _form(self, path: str, body: bytes) -> Response:
        if len(body) > MB:
            return _text(413, "Payload too large")
        values = {key: found[0] for key, found in parse_qs(body.decode(), keep_blank_values=True).items()}
        if values.get("api_key") != self.api_key:
            return _text(400, "invalid_api_key")
        name = "mapping" if path == "/usermap" else "identification"
        try:
            said = msgspec.json.decode(values.get(name, ""))
        except msgspec.DecodeError:
            return _text(400, "missing_event")
        said = said if isinstance(said, list) else [said]
        if not said or not all(isinstance(each, dict) and _is_complete(path, each) for each in said):
            return _text(400, "missing_event")
        if path == "/identify" and any(self._ids(each) & self.throttled for each in said):
            return _text(429, "too_many_requests")
        self.accepted += [{"path": path, **each} for each in said]
        return _text(200, "success")


def _is_complete(path: str, said: Mapping[str, Any]) -> bool:
    """Whether what a form says has what its path asks for."""
    if path == "/identify":
        return bool(said.get("user_id") or said.get("device_id"))
    if path == "/groupidentify":
        return bool(said.get("group_type") and said.get("group_value"))
    return bool(said.get("user_id") and (said.get("global_user_id") or said.get("unmap")))


def _missing(event: Mapping[str, Any]) -> list[str]:
    missing = [] if event.get("event_type") else ["event_type"]
    return missing if event.get("user_id") or event.get("device_id") else [*missing, "user_id", "device_id"]


def _invalid(event: Mapping[str, Any]) -> list[str]:
    invalid = [
        field
        for field, kind in TYPES.items()
        if event.get(field) is not None and (not isinstance(event[field], kind) or isinstance(event[field], bool))
    ]
    invalid += [field for field in ("user_id", "device_id") if str(event.get(field)).lower() in NO_IDS - {"none"}]
    return [*invalid, "event_type"] if event.get("event_type") in RESERVED else invalid


def _short(event: Mapping[str, Any], least: int) -> list[str]:
    """The ids that are too short, where no other is left: one alone is dropped."""
    given = [field for field in ("user_id", "device_id") if event.get(field)]
    short = [field for field in given if len(event[field]) < least]
    return short if len(short) == len(given) else []


def _refused(error: str, **more: object) -> Response:
    return json_answer(400, {"code": 400, "error": error, **more})


def _too_large() -> Response:
    return json_answer(413, {"code": 413, "error": "Payload too large"})


def _text(status: int, text: str) -> Response:
    return Response(status, text.encode(), _TEXT)
