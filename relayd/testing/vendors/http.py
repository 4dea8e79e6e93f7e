"""Any API: it asks for a bearer token, reads what its content type says, and knows what it was sent before.

It is no vendor's. ``Idempotency-Key`` is that of draft-ietf-httpapi-idempotency-key-header: the same key with another
body is 422.
"""

from typing import Any
from urllib.parse import parse_qsl

import msgspec

from relayd.testing.vendors import Request, Response, Vendor, json_answer

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Http(Vendor):
    """``accepted`` has ``method``, ``path``, ``query`` and ``body`` of each request, the body as it was read."""

    def __init__(self, token: str = "") -> None:
        super().__init__()
        self.token = token
        self._keys: dict[str, bytes] = {}

    def answer(self, request: Request) -> Response:
        if request.method not in METHODS:
            return json_answer(405, {"error": "method not allowed"})
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return json_answer(401, {"error": "unauthorized"})
        try:
            body = _read(request)
        except ValueError as error:
            return json_answer(400, {"error": str(error)})
        key = request.headers.get("idempotency-key")
        if key is not None:
            if self._keys.setdefault(key, request.body) != request.body:
                return json_answer(422, {"error": "the key was used for another request"})
            if any(each["key"] == key for each in self.accepted):
                return json_answer(200, {"ok": True})
        query = parse_qsl(request.query, keep_blank_values=True)
        self.accepted.append({"method": request.method, "path": request.path, "query": query, "body": body, "key": key})
        return json_answer(200, {"ok": True})


def _read(request: Request) -> Any:
    kind = request.headers.get("content-type", "").partition(";")[0]
    if not request.body:
        return None
    if kind == "application/json":
        return msgspec.json.decode(request.body)
    if kind == "application/x-www-form-urlencoded":
        return parse_qsl(request.body.decode(), strict_parsing=True)
    if not kind:
        raise ValueError("a body without a content-type")
    return request.body.decode()
