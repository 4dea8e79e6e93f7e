"""Webhook: every event, unchanged, to a URL of yours; or what a mapping makes of it, by Segment's action ``send``.

An event is sent as its JSON; a batch is a JSON array of events. Facts:

- Segment's Webhook (Actions) takes POST, PUT and PATCH, batches of 1,000 by default and of 4,000 at most, and signs
  with ``X-Signature``: HMAC-SHA1 in hex (segment.com/docs/connections/destinations/catalog/actions-webhook). Segment
  signs only the first event of a batch (segmentio/action-destinations#3989); relayd signs the body that it sends.
- Segment batches where a mapping says ``enable_batching``; relayd where ``delivery.batch_size`` says so.
- A payload without ``data`` is a request without a body, and null in a batch, as Segment's engine has it. Segment
  refuses URLs of private networks; relayd calls them, for they are yours. Where events name the URL, the type ``http``
  with its ``allowed_hosts`` is the safer one.
- Standard Webhooks 1.0 (github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md): headers
  ``webhook-id``, ``webhook-timestamp`` (Unix seconds of the attempt) and ``webhook-signature``: ``v1,`` and the base64
  of HMAC-SHA256 over ``ID.TIMESTAMP.BODY``. The secret is ``whsec_`` and the base64 of 24 to 64 bytes. An id that
  others choose must hold no full stop: it is percent-encoded there.
- ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header) is the messageId; for a batch, a digest of its
  messageIds, which holds for as long as the batch is retried as it is. With a mapping it is what the field
  ``idempotency_key`` says, by default the messageId; Segment has no such field, and its mappings send no such header.
"""

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Literal

import msgspec
from msgspec import field

from relayd.config.model import doc, secret
from relayd.destinations import fields
from relayd.destinations.action import Action, Batching, InvalidPayload, Payload
from relayd.destinations.base import InvalidSettings, Request
from relayd.destinations.endpoint import USER_AGENT, check_url
from relayd.destinations.fields import at, boolean, number, table, text
from relayd.destinations.headers import FRAMING, check_headers, mapped_headers
from relayd.destinations.idempotency import batch_key, event_key, joint_key, key_of
from relayd.destinations.identity import IdentityDestination
from relayd.destinations.settings import DestinationSettings

_OURS = FRAMING | {"idempotency-key", "x-signature", "webhook-id", "webhook-timestamp", "webhook-signature"}
_PREFIX = "whsec_"
_GROUPED = ["url", "method", "headers"]


class Settings(DestinationSettings, frozen=True, kw_only=True, rename="camel"):
    """What is called, and how the receiver knows who calls."""

    url: Annotated[
        str,
        doc("the http:// or https:// address that is called, if a mapping has none", example="http://127.0.0.1:8099/"),
    ] = ""
    method: Annotated[Literal["POST", "PUT", "PATCH"], doc("the HTTP method, if a mapping has none")] = "POST"
    headers: Annotated[Mapping[str, str], secret("headers to add, such as Authorization")] = field(default_factory=dict)
    shared_secret: Annotated[str, secret("signs every request; empty: requests are not signed")] = ""
    signing: Annotated[
        Literal["segment", "standard"],
        doc("segment: X-Signature is the body's HMAC-SHA1 in hex; standard: Standard Webhooks, with a whsec_ secret"),
    ] = "segment"


def _send(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """The request of one payload."""
    data = payload.get("data")
    body = b"" if data is None else msgspec.json.encode(data)
    key = payload.get("idempotency_key")
    return [_mapped(settings, payload, key and key_of(key), body, now)]


def _send_batch(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
    """One request for payloads that agree in where they go."""
    keys = [key for each in payloads if (key := each.get("idempotency_key"))]
    key = joint_key(keys) if len(keys) == len(payloads) else None
    body = msgspec.json.encode([each.get("data") for each in payloads])
    return [_mapped(settings, payloads[0], key, body, now)]


def _mapped(settings: Settings, payload: Payload, key: str | None, body: bytes, now: float) -> Request:
    url = payload.get("url") or settings.url
    if not url:
        raise InvalidPayload("url is missing, from the mapping and from the settings")
    if url != settings.url:
        try:
            check_url("url", url)
        except InvalidSettings as error:
            raise InvalidPayload(str(error)) from None
    headers = dict(fields.JSON)
    headers.update((name.lower(), value) for name, value in settings.headers.items())
    headers |= mapped_headers(payload.get("headers"), _OURS)
    if key:
        headers["idempotency-key"] = key
    _sign(settings, headers, key or blake2b(body, digest_size=16).hexdigest(), body, now)
    return Request(payload.get("method") or settings.method, url, headers, body)


_SEND = Action(
    name="send",
    title="Send",
    fields={
        "url": text(format="uri"),
        "method": text("POST", choices=("POST", "PUT", "PATCH")),
        "batch_size": number(0),
        "headers": table(),
        "data": table(at("")),
        "enable_batching": boolean(),
        "batch_keys": text(_GROUPED, multiple=True),
        "idempotency_key": text(at("messageId")),
    },
    perform=_send,
    batching=Batching(perform=_send_batch, size=1, max_size=4000, keys=tuple(_GROUPED)),
)
"""Segment requires ``url`` and ``method``; here the settings have them too. ``idempotency_key`` is relayd's."""


class Webhook(IdentityDestination[Settings]):
    """Calls a URL with events as JSON."""

    type = "webhook"
    title = "Webhook"
    names = ("Webhook", "Actions Webhook", "Webhooks")
    settings = Settings
    max_batch_size = 4000
    actions = {"send": _SEND}  # noqa: RUF012  a ClassVar of the base

    def check(self, settings: Settings) -> None:
        if not settings.url:
            raise InvalidSettings("url must be set, unless the mapping of every subscription has one")
        self.check_mapped(settings)

    def check_mapped(self, settings: Settings) -> None:
        if settings.url:
            check_url("url", settings.url)
        check_headers(settings.headers, _OURS)
        if settings.signing == "standard":
            _signing_key(settings.shared_secret)

    def pass_on(self, settings: Settings, events: Sequence[bytes], *, batch: bool, now: float) -> list[Request]:
        if batch:
            return [_request(settings, batch_key(events), b"[" + b",".join(events) + b"]", now)] if events else []
        return [_request(settings, event_key(event), event, now) for event in events]


def _request(settings: Settings, key: str, body: bytes, now: float) -> Request:
    headers = {"content-type": "application/json", "user-agent": USER_AGENT}
    headers.update((name.lower(), value) for name, value in settings.headers.items())
    headers["idempotency-key"] = key
    _sign(settings, headers, key, body, now)
    return Request(settings.method, settings.url, headers, body)


def _sign(settings: Settings, headers: dict[str, str], key: str, body: bytes, now: float) -> None:
    """Add the headers by which the receiver verifies ``body``, if it is to."""
    if settings.signing == "standard":
        headers |= standard_headers(settings.shared_secret, key.replace(".", "%2E"), int(now), body)
    elif settings.shared_secret:
        headers["x-signature"] = hmac.digest(settings.shared_secret.encode(), body, "sha1").hex()


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
            'sharedSecret must be "whsec_" and the base64 of 24 to 64 random bytes with signing = "standard"; '
            "make one with: echo whsec_$(openssl rand -base64 32)"
        )
    return key
