"""A Tracking API's ``/v1/batch`` (segment.com/docs/connections/sources/catalog/libraries/server/http-api).

Not verified: the texts of the refusals; that Segment drops an event which is too large or has no user behind its 200
(relayd's own listener does).
"""

import zlib
from base64 import b64decode
from binascii import Error
from typing import Any

import msgspec

from relayd.testing.vendors import Request, Response, Vendor, json_answer

_NEEDED = {"track": "event", "group": "groupId", "alias": "previousId"}
_TYPES = ("track", "identify", "page", "screen", "group", "alias")


class Segment(Vendor):
    """A source. ``accepted`` has its events, ``dropped`` the messageIds of those it could not use."""

    def __init__(self, write_key: str = "WK") -> None:
        super().__init__()
        self.write_key = write_key
        self.dropped: list[str] = []
        self.sent_at: list[str] = []
        self._seen: set[str] = set()

    def answer(self, request: Request) -> Response:
        if request.method != "POST" or request.path != "/v1/batch":
            return json_answer(404, {"success": False, "message": "no such path"})
        if _user(request.headers.get("authorization", "")) != self.write_key:
            return json_answer(401, {"success": False, "message": "invalid write key"})
        body = request.body
        if request.headers.get("content-encoding") == "gzip":
            body = zlib.decompress(body, wbits=31)
        try:
            batch = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError:
            return json_answer(400, {"success": False, "message": "malformed JSON"})
        events = batch.get("batch")
        if not isinstance(events, list) or len(body) > 500 * 1024 or len(events) > 2500:
            return json_answer(400, {"success": False, "message": "batch is missing or too large"})
        self.sent_at.append(batch.get("sentAt", ""))
        for event in events:
            self._take(event)
        return json_answer(200, {"success": True})

    def _take(self, event: dict[str, Any]) -> None:
        kind, message_id = event.get("type"), event.get("messageId", "")
        needed = _NEEDED.get(str(kind))
        usable = kind in _TYPES and (event.get("userId") or event.get("anonymousId"))
        if not usable or (needed and not event.get(needed)) or len(msgspec.json.encode(event)) > 32 * 1024:
            self.dropped.append(message_id)
        elif not message_id or message_id not in self._seen:
            self._seen.add(message_id)
            self.accepted.append(event)


def _user(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    try:
        return b64decode(credentials, validate=True).decode().removesuffix(":") if scheme == "Basic" else ""
    except (Error, UnicodeDecodeError):
        return ""
