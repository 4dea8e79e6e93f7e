"""Webhook: every event, unchanged, to a URL of yours.

An event is sent as its JSON; a batch is a JSON array of events. Facts:

- Segment's Webhook (Actions) takes POST, PUT and PATCH, batches of 1,000 by default and of 4,000 at most, and signs
  with ``X-Signature``: HMAC-SHA1 in hex (segment.com/docs/connections/destinations/catalog/actions-webhook). Segment
  signs only the first event of a batch (segmentio/action-destinations#3989); relayd signs the body that it sends.
- Standard Webhooks 1.0 (github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md): headers
  ``webhook-id``, ``webhook-timestamp`` (Unix seconds of the attempt) and ``webhook-signature``: ``v1,`` and the base64
  of HMAC-SHA256 over ``ID.TIMESTAMP.BODY``. The secret is ``whsec_`` and the base64 of 24 to 64 bytes. An id that
  others choose must hold no full stop: it is percent-encoded there.
- ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header) is the messageId; for a batch, a digest of its
  messageIds, which holds for as long as the batch is retried as it is.
"""

import binascii
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import field

from relayd.config.model import doc, secret
from relayd.destinations.base import Destination, InvalidSettings, Request
from relayd.destinations.endpoint import USER_AGENT, check_url
from relayd.destinations.idempotency import batch_key, event_key
from relayd.destinations.settings import DestinationSettings

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110 section 5.6.2
_VALUE = re.compile(r"([!-~]([\t -~]*[!-~])?)?")
_HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
_OURS = frozenset({
    "content-encoding", "content-length", "expect", "host", "idempotency-key", "x-signature", "webhook-id",
    "webhook-timestamp", "webhook-signature",
})  # fmt: skip
_PREFIX = "whsec_"


class Settings(DestinationSettings, frozen=True, kw_only=True):
    """What is called, and how the receiver knows who calls."""

    url: Annotated[str, doc("the http:// or https:// address that is called", example="http://127.0.0.1:8099/")]
    method: Annotated[Literal["POST", "PUT", "PATCH"], doc("the HTTP method")] = "POST"
    headers: Annotated[Mapping[str, str], secret("headers to add, such as Authorization")] = field(default_factory=dict)
    shared_secret: Annotated[str, secret("signs every request; empty: requests are not signed")] = ""
    signing: Annotated[
        Literal["segment", "standard"],
        doc("segment: X-Signature is the body's HMAC-SHA1 in hex; standard: Standard Webhooks, with a whsec_ secret"),
    ] = "segment"


class Webhook(Destination[Settings]):
    """Calls a URL with events as JSON."""

    type = "webhook"
    settings = Settings
    max_batch_size = 4000

    def check(self, settings: Settings) -> None:
        check_url("url", settings.url)
        _check_headers(settings.headers)
        if settings.signing == "standard":
            _signing_key(settings.shared_secret)

    def requests(
        self,
        action: str,
        settings: Settings,
        mapping: Mapping[str, object] | None,
        events: Sequence[bytes],
        *,
        batch: bool,
        now: float,
    ) -> list[Request]:
        assert mapping is None, "the webhook passes events on as they are"
        if batch:
            return [_request(settings, batch_key(events), b"[" + b",".join(events) + b"]", now)] if events else []
        return [_request(settings, event_key(event), event, now) for event in events]


def _request(settings: Settings, key: str, body: bytes, now: float) -> Request:
    headers = {"content-type": "application/json", "user-agent": USER_AGENT}
    headers.update((name.lower(), value) for name, value in settings.headers.items())
    headers["idempotency-key"] = key
    if settings.signing == "standard":
        headers |= standard_headers(settings.shared_secret, key.replace(".", "%2E"), int(now), body)
    elif settings.shared_secret:
        headers["x-signature"] = hmac.digest(settings.shared_secret.encode(), body, "sha1").hex()
    return Request(settings.method, settings.url, headers, body)


def standard_headers(secret: str, key: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers by which a Standard Webhooks receiver verifies ``body``. Raises `InvalidSettings` for the secret."""
    signed = f"{key}.{timestamp}.".encode() + body
    signature = b64encode(hmac.digest(_signing_key(secret), signed, "sha256")).decode()
    return {"webhook-id": key, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{signature}"}


def _signing_key(secret: str) -> bytes:
    """The key in a Standard Webhooks secret. Raises `InvalidSettings`."""
    try:
        key = b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise InvalidSettings(
            'shared_secret must be "whsec_" and the base64 of 24 to 64 random bytes with signing = "standard"; '
            "make one with: echo whsec_$(openssl rand -base64 32)"
        )
    return key


def _check_headers(headers: Mapping[str, str]) -> None:
    """Raise `InvalidSettings` for a header that can not be sent, or that is not the user's to set."""
    seen = set()
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise InvalidSettings(f"headers: {name!r} is not a header name")
        if not _VALUE.fullmatch(value):
            raise InvalidSettings(
                f"headers: the value of {name} must be visible ASCII, with no line break and no space around it"
            )
        lower = name.lower()
        if lower in _HOP_BY_HOP:
            raise InvalidSettings(f"headers: {name} belongs to the connection, which relayd manages; remove it")
        if lower in _OURS:
            raise InvalidSettings(f"headers: {name} is set by relayd; remove it")
        if lower in seen:
            raise InvalidSettings(f"headers: {name} is there twice; header names have no case")
        seen.add(lower)
