"""A receiver of webhooks that verifies who calls, and knows what it was sent before.

It is no vendor's: signatures are those of segment.com/docs/connections/destinations/catalog/actions-webhook and of
Standard Webhooks 1.0, repetition is told by ``Idempotency-Key``.
"""

import hmac
from base64 import b64decode, b64encode

import msgspec

from relayd.testing.vendors import Request, Response, Vendor, json_answer


class Webhook(Vendor):
    """``accepted`` has the objects that came, those of a batch one by one."""

    def __init__(self, secret: str = "") -> None:
        """With a ``secret``, requests must be signed: by Standard Webhooks if it begins with ``whsec_``."""
        super().__init__()
        self.secret = secret
        self._keys: set[str] = set()

    def answer(self, request: Request) -> Response:
        if request.method not in ("POST", "PUT", "PATCH"):
            return json_answer(405, {"error": "method not allowed"})
        if self.secret and not self._is_signed(request):
            return json_answer(401, {"error": "the signature is missing or wrong"})
        if not request.headers.get("content-type", "").startswith("application/json"):
            return json_answer(415, {"error": "send application/json"})
        try:
            body = msgspec.json.decode(request.body)
        except msgspec.DecodeError:
            return json_answer(400, {"error": "not JSON"})
        key = request.headers.get("idempotency-key", "")
        if not key or key not in self._keys:
            self._keys.add(key)
            self.accepted += body if isinstance(body, list) else [body]
        return json_answer(200, {"ok": True})

    def _is_signed(self, request: Request) -> bool:
        get = request.headers.get
        if not self.secret.startswith("whsec_"):
            digest = hmac.digest(self.secret.encode(), request.body, "sha1").hex()
            return hmac.compare_digest(digest, get("x-signature", ""))
        signed = f"{get('webhook-id')}.{get('webhook-timestamp')}.".encode() + request.body
        digest = b64encode(hmac.digest(b64decode(self.secret[6:]), signed, "sha256")).decode()
        return f"v1,{digest}" in get("webhook-signature", "").split(" ")
