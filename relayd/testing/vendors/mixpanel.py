"""Mixpanel's /import, /track, /engage and /groups (docs.mixpanel.com/reference, and /troubleshooting/errors there).

Not documented, and chosen here: the answers to a wrong method, path and content type, that an empty batch is refused,
that what a wrong token sends is answered 1 like all else, that an event which was seen before counts as imported, the
texts of messages, and what of a form's content makes it a 0. Left out: compression, and newline-delimited JSON.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from time import time
from typing import Any
from urllib.parse import parse_qs

import msgspec

from relayd.testing.vendors import Request, Response, Vendor, json_answer, names

MAX_EVENTS = 2000
MAX_DELETED = 2000
MAX_BYTES = 10_000_000
MAX_EVENT = 1_000_000
MAX_MEMBERS = 254
"""Of an event's properties, an object and an array."""
MAX_DEPTH = 3
FIRST = 31_536_000_000
"""1971-01-01 in milliseconds: no earlier event is taken."""
HOUR = 3_600_000
NO_IDS = frozenset({
    "00000000-0000-0000-0000-000000000000", "anon", "anonymous", "nil", "none", "null", "n/a", "na", "undefined",
    "unknown", "<nil>", "0", "-1", "true", "false", "[]", "{}",
})  # fmt: skip
_INSERT_ID = re.compile(r"[0-9A-Za-z-]{1,36}")
_STATUSES = {400: "Bad Request", 401: "Unauthorized", 413: "Request Entity Too Large", 429: "Too Many Requests"}
_FORM = "application/x-www-form-urlencoded"
_TEXT = (("Content-Type", "text/plain"),)
_OPERATIONS = ("$set", "$set_once", "$add", "$union", "$append", "$remove", "$unset", "$delete")


class Mixpanel(Vendor):
    """One project. ``accepted`` has events, and of forms ``{"path", ...what was in their data}``."""

    def __init__(self, token: str = "PT", secret: str = "AS", *, clock: Callable[[], float] = time) -> None:  # noqa: S107
        """``clock`` gives Unix seconds; ``busy`` set to true, it answers 429."""
        super().__init__()
        self.token = token
        self.gdpr_token = "GT"  # noqa: S105
        self.busy = False
        self._users = {f"Basic {b64encode(f'{name}:'.encode()).decode()}" for name in (token, secret)}
        self._clock = clock
        self._seen: set[tuple[object, ...]] = set()

    def answer(self, request: Request) -> Response:
        if request.method != "POST":
            return _refused(405, "the method is not allowed")
        if self.busy:
            return _refused(429, "the project is over its rate limit")
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if request.path == "/api/app/data-deletions/v3.0/":
            return self._delete(request)
        if request.path == "/import":
            if kind != "application/json":
                return _refused(400, "the content type is not supported")
            return self._import(request)
        if request.path in ("/track", "/engage", "/groups"):
            taken = kind == _FORM and self._form(request.path, request.body)
            return Response(200, b"1" if taken else b"0", _TEXT)
        return _refused(404, "there is nothing here")

    def _delete(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.gdpr_token}":
            return _refused(401, "the OAuth token is not valid")
        if parse_qs(request.query).get("token") != [self.token]:
            return _refused(400, "the project's token is missing")
        try:
            said = msgspec.json.decode(request.body, type=dict[str, Any])
        except msgspec.DecodeError:
            said = {}
        if not names(said.get("distinct_ids"), MAX_DELETED) or said.get("compliance_type") not in ("GDPR", "CCPA"):
            return _refused(400, "the distinct ids or the compliance type are not valid")
        self.deleted += said["distinct_ids"]
        return json_answer(200, {"status": "ok", "results": {"task_id": "1583958896131033662"}})

    def _import(self, request: Request) -> Response:
        if request.headers.get("authorization") not in self._users:
            return _refused(401, "the credentials are not valid")
        if len(request.body) > MAX_BYTES:
            return _refused(413, f"the request is larger than {MAX_BYTES} bytes")
        try:
            events = msgspec.json.decode(request.body)
        except msgspec.DecodeError:
            return _refused(400, "the body is no JSON")
        if not isinstance(events, list) or not 1 <= len(events) <= MAX_EVENTS:
            return _refused(400, f"the body is no array of 1 to {MAX_EVENTS} events")
        failed = []
        for index, event in enumerate(events):
            if fault := next(self._faults(event), None):
                failed.append({"index": index, "insert_id": _insert_id(event), "field": fault[0], "message": fault[1]})
            else:
                self._keep(event)
        imported = len(events) - len(failed)
        if failed and parse_qs(request.query).get("strict") == ["1"]:
            return _refused(400, "some events are not valid", failed_records=failed, num_records_imported=imported)
        return json_answer(200, {"code": 200, "num_records_imported": imported, "status": "OK"})

    def _faults(self, event: Any) -> Iterator[tuple[str, str]]:
        """What is wrong with an event: the field, and why."""
        if not isinstance(event, dict) or not isinstance(event.get("event"), str) or not event["event"]:
            yield "event", "has no name"
            return
        properties = event.get("properties")
        if not isinstance(properties, dict):
            yield "properties", "is no object"
            return
        if len(msgspec.json.encode(event)) >= MAX_EVENT:
            yield "event", f"has {MAX_EVENT} bytes or more"
        moment = properties.get("time")
        if isinstance(moment, bool) or not isinstance(moment, int):
            yield "properties.time", "is no Unix time"
        elif not FIRST <= (moment if moment > 10**11 else moment * 1000) <= self._clock() * 1000 + HOUR:
            yield "properties.time", "is before 1971, or in an hour or later"
        user = properties.get("distinct_id")
        if not isinstance(user, str) or user in NO_IDS:
            yield "properties.distinct_id", "is missing, or stands for nobody"
        own = properties.get("$insert_id")
        if not isinstance(own, str) or not _INSERT_ID.fullmatch(own) or own in NO_IDS:
            yield "properties.$insert_id", "is not 1 to 36 letters, digits and hyphens"
        for name, value in properties.items():
            if not _fits(value, 1):
                yield f"properties.{name}", "is nested too deeply, or has too many members"
        if len(properties) > MAX_MEMBERS:
            yield "properties", f"has more than {MAX_MEMBERS} members"

    def _keep(self, event: dict[str, Any]) -> None:
        properties = event["properties"]
        key = (event["event"], *(properties[name] for name in ("distinct_id", "time", "$insert_id")))
        if key not in self._seen:
            self._seen.add(key)
            self.accepted.append(event)

    def _form(self, path: str, body: bytes) -> bool:
        """Whether a form is one; what a project's token is with is kept."""
        try:
            data = msgspec.json.decode(parse_qs(body.decode(), strict_parsing=True)["data"][0])
        except (KeyError, ValueError):
            return False
        if not isinstance(data, dict):
            return False
        if path == "/track":
            properties = data.get("properties")
            if not isinstance(properties, dict) or not _is_identity(data.get("event"), properties):
                return False
            token = properties.get("token")
        else:
            who = ("$distinct_id",) if path == "/engage" else ("$group_key", "$group_id")
            if not all(data.get(name) for name in who) or not _is_update(data):
                return False
            token = data.get("$token")
        if token == self.token:
            self.accepted.append({"path": path, **data})
        return bool(token)


def _insert_id(event: Any) -> object:
    properties = event.get("properties") if isinstance(event, dict) else None
    return properties.get("$insert_id", "") if isinstance(properties, dict) else ""


def _fits(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    members = list(value.values()) if isinstance(value, dict) else value
    return depth <= MAX_DEPTH and len(members) <= MAX_MEMBERS and all(_fits(each, depth + 1) for each in members)


def _is_identity(event: object, properties: dict[str, Any]) -> bool:
    """Whether it says of two ids that they are one; relayd sends nothing else to /track."""
    needed = {"$identify": ("$identified_id", "$anon_id"), "$create_alias": ("distinct_id", "alias")}
    return event in needed and all(properties.get(name) for name in needed[str(event)])


def _is_update(data: dict[str, Any]) -> bool:
    operations = [data[name] for name in _OPERATIONS if name in data]
    added = data.get("$add", {})
    numbers = isinstance(added, dict) and all(
        isinstance(each, int | float) and not isinstance(each, bool) for each in added.values()
    )
    return len(operations) == 1 and isinstance(operations[0], dict) and numbers


def _refused(status: int, error: str, **more: object) -> Response:
    return json_answer(status, {"code": status, "error": error, "status": _STATUSES.get(status, "Error"), **more})
