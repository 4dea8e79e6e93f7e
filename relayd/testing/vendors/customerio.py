"""Customer.io's Track API (docs.customer.io/integrations/api/track, and "Invalid Track API Requests").

Not documented, and chosen here: the answers to a wrong method, path and content type; that a batch is answered 207 even
when all of it is refused; that 32 kB is refused by entity; which limits of the v1 API hold for v2. An event id that is
no ULID is taken, as it must be for Segment's requests to work.
"""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import msgspec

from relayd.testing.vendors import Request, Response, Vendor, json_answer

MAX_BATCH = 500_000
MAX_ENTITY = 32_000
MAX_ATTRIBUTES = 300
MAX_ATTRIBUTE_NAME = 150
MAX_ATTRIBUTE = 1000
MAX_EVENT_NAME = 100
MAX_EVENT_DATA = 100_000
EVENTS = ("event", "page", "screen", "viewed_content", "clicked_content")
ACTIONS = {
    "person": {
        *("identify", "delete", "merge", "suppress", "unsuppress", "add_device", "delete_device"),
        *("add_relationships", "delete_relationships", *EVENTS),
    },
    "object": {"identify", "identify_anonymous", "delete", "add_relationships", "delete_relationships"},
}
METRICS = {"delivered", "opened", "clicked", "converted", "spammed", "bounced", "dropped", "deferred"}
_PERSON = ("id", "email", "cio_id")

Found = dict[str, str]
"""What is wrong with an entity: ``reason``, ``field``, ``message``."""


class Customerio(Vendor):
    """One workspace. ``accepted`` has entities, each event id once, and metrics."""

    def __init__(self, site_id: str = "SITE", api_key: str = "KEY", *, allowed: int | None = None) -> None:
        """``allowed``: as many requests are answered, then it is 429."""
        super().__init__()
        self.allowed = allowed
        self._credentials = f"Basic {b64encode(f'{site_id}:{api_key}'.encode()).decode()}"
        self._seen: set[str] = set()

    def answer(self, request: Request) -> Response:
        take = {"/api/v2/entity": self._single, "/api/v2/batch": self._batch, "/api/v1/metrics": self._metric}.get(
            request.path
        )
        if take is None:
            return _failed(404, "not found")
        if request.method != "POST":
            return _failed(405, "method not allowed")
        if request.headers.get("authorization") != self._credentials:
            return _failed(401, "Unauthorized request")
        if self.allowed is not None:
            if not self.allowed:
                return _failed(429, "too many requests")
            self.allowed -= 1
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            return _failed(400, "the content type must be application/json")
        return _parsed(request.body, take)

    def _single(self, entity: dict[str, Any], size: int) -> Response:
        if found := self._take(entity, size):
            return json_answer(400, {"errors": [found]})
        return json_answer(200, {})

    def _batch(self, body: dict[str, Any], size: int) -> Response:
        if size >= MAX_BATCH:
            return _failed(413, "the batch is too large")
        batch = body.get("batch")
        if not isinstance(batch, list) or not batch:
            return json_answer(400, {"errors": [_fault("required", "batch", "batch must be an array of entities")]})
        errors = []
        for index, entity in enumerate(batch):
            if found := self._take(entity, len(msgspec.json.encode(entity))):
                errors.append({"batch_index": index, **found})
        return json_answer(207, {"errors": errors}) if errors else json_answer(200, {})

    def _take(self, entity: object, size: int) -> Found | None:
        if not isinstance(entity, dict):
            return _fault("invalid", "type", "an entity must be an object")
        if found := _wrong_with(entity, size):
            return found
        if (entity["type"], entity["action"]) == ("person", "delete"):
            self.deleted += entity["identifiers"].values()
        key = entity.get("id") if entity["action"] in EVENTS else None
        if key is None or key not in self._seen:
            self.accepted.append(entity)
        if key is not None:
            self._seen.add(key)
        return None

    def _metric(self, metric: dict[str, Any], size: int) -> Response:
        if not isinstance(metric.get("delivery_id"), str):
            return _failed(400, "delivery_id must be present")
        if metric.get("metric") not in METRICS:
            return _failed(400, "metric is not valid")
        if not _is_time(metric.get("timestamp", 0)):
            return _failed(400, "timestamp must be a unix timestamp")
        self.accepted.append(metric)
        return json_answer(200, {})


def _wrong_with(entity: dict[str, Any], size: int) -> Found | None:
    kind, action = entity.get("type"), entity.get("action")
    if kind not in ACTIONS:
        return _fault("required", "type", "type must be person or object")
    if action not in ACTIONS[kind]:
        return _fault("invalid", "action", "the action is not one of the type's")
    if size > MAX_ENTITY:
        return _fault("invalid", "attributes", "the entity is too large")
    if not _is_time(entity.get("timestamp", 0)):
        return _fault("invalid", "timestamp", "timestamp must be a unix timestamp")
    attributes = entity.get("attributes", {})
    if not isinstance(attributes, dict):
        return _fault("invalid", "attributes", "attributes must be an object")
    if action == "merge":
        fault = _merge_fault(entity)
    elif action in EVENTS:
        fault = _person_fault(entity) or _event_fault(entity)
    elif kind == "person":
        fault = _person_fault(entity) or _device_fault(entity, str(action)) or _attributes_fault(attributes)
    else:
        fault = _object_fault(entity) or _attributes_fault(attributes)
    return fault or _relationships_fault(entity)


def _person_fault(entity: dict[str, Any]) -> Found | None:
    who = entity.get("identifiers")
    names = (*_PERSON, "anonymous_id")
    if not isinstance(who, dict) or len(who) != 1 or not all(who.get(name) for name in who) or {*who} - {*names}:
        return _fault("required", "identifiers", "exactly one identifier must be present")
    return None


def _object_fault(entity: dict[str, Any]) -> Found | None:
    which = entity.get("identifiers")
    if not isinstance(which, dict) or not which.get("object_id") or not which.get("object_type_id"):
        return _fault("required", "identifiers", "object_id and object_type_id must be present")
    return None


def _merge_fault(entity: dict[str, Any]) -> Found | None:
    for field in ("primary", "secondary"):
        who = entity.get(field)
        if not isinstance(who, dict) or len(who) != 1 or not any(who.get(name) for name in _PERSON):
            return _fault("required", field, "exactly one identifier must be present")
    return None


def _event_fault(entity: dict[str, Any]) -> Found | None:
    name = entity.get("name")
    if not isinstance(name, str) or not name.strip():
        return _fault("required", "name", "name must not be blank")
    if len(name.encode()) > MAX_EVENT_NAME:
        return _fault("invalid", "name", f"name cannot be longer than {MAX_EVENT_NAME} bytes")
    if len(msgspec.json.encode(entity.get("attributes"))) > MAX_EVENT_DATA:
        return _fault("invalid", "attributes", f"event data cannot be longer than {MAX_EVENT_DATA} bytes")
    return None


def _device_fault(entity: dict[str, Any], action: str) -> Found | None:
    if not action.endswith("_device"):
        return None
    device = entity.get("device")
    if not isinstance(device, dict) or not device.get("token"):
        return _fault("required", "device", "device.token must be present")
    if action == "add_device" and device.get("platform") not in ("ios", "android"):
        return _fault("invalid", "device", "device.platform must be ios or android")
    if not _is_time(device.get("last_used", 0)):
        return _fault("invalid", "device", "device.last_used must be a unix timestamp")
    return None


def _attributes_fault(attributes: dict[str, Any]) -> Found | None:
    if len(attributes) > MAX_ATTRIBUTES:
        return _fault("invalid", "attributes", f"cannot identify more than {MAX_ATTRIBUTES} attributes in one request")
    for name, value in attributes.items():
        if len(name.encode()) > MAX_ATTRIBUTE_NAME:
            return _fault("invalid", "attributes", f"attribute name cannot be longer than {MAX_ATTRIBUTE_NAME} bytes")
        if isinstance(value, str) and len(value.encode()) > MAX_ATTRIBUTE:
            return _fault("invalid", "attributes", f"value for attribute cannot be longer than {MAX_ATTRIBUTE} bytes")
    return None


def _relationships_fault(entity: dict[str, Any]) -> Found | None:
    for relationship in entity.get("cio_relationships", []):
        if not isinstance(relationship, dict) or not relationship.get("identifiers"):
            return _fault("required", "cio_relationships", "identifiers must be present")
    return None


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fault(reason: str, field: str, message: str) -> Found:
    return {"reason": reason, "field": field, "message": message}


def _failed(status: int, error: str) -> Response:
    return json_answer(status, {"meta": {"error": error}})


def _parsed(body: bytes, take: Callable[[dict[str, Any], int], Response]) -> Response:
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return _failed(400, "malformed json")
    return take(decoded, len(body)) if isinstance(decoded, dict) else _failed(400, "malformed json")
