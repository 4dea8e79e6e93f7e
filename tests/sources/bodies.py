"""Webhooks as the three apps document them, written for these tests, and signed as they sign."""

import hmac
from base64 import b64encode
from typing import Any

import msgspec

NOW = 1_764_000_000.0
SECRET = "whsec_5f2b7a"
CUSTOMER = {
    "id": "cus_N1",
    "object": "customer",
    "created": 1_763_990_000,
    "email": "ada@example.com",
    "name": "Ada Lovelace",
    "phone": None,
    "metadata": {},
    "livemode": False,
}
INVOICE = {
    "id": "in_1",
    "object": "invoice",
    "customer": "cus_N1",
    "amount_paid": 1900,
    "currency": "eur",
    "status": "paid",
    "subscription": "sub_1",
    "lines": {"object": "list", "data": [{"id": "il_1", "amount": 1900}] * 50},
    "metadata": {},
}
USER = {
    "created_at": "2025-11-24T15:00:00Z",
    "email": "ada@example.com",
    "external_id": "ada",
    "default_group_id": "0",
    "id": "6596848315901",
    "organization_id": "360001",
    "role": "end-user",
    "updated_at": "2025-11-24T15:59:59Z",
}
TICKET = {
    "actor_id": "8447388090494",
    "assignee_id": "8447388090494",
    "brand_id": "8447346621310",
    "created_at": "2025-11-24T15:00:00Z",
    "custom_status": "8447320465790",
    "description": "It does not start",
    "external_id": None,
    "form_id": "8646151517822",
    "group_id": "8447320466430",
    "id": "5158",
    "is_public": True,
    "organization_id": "8447346622462",
    "priority": "LOW",
    "requester_id": 8447388090494,
    "status": "OPEN",
    "subject": "Help",
    "submitter_id": "8447388090494",
    "tags": ["billing"],
    "type": "TASK",
    "updated_at": "2025-11-24T15:59:59Z",
    "via": {"channel": "web_service"},
}
OPENED = {
    "event_type": "users.messages.email.Open",
    "id": "a1b2c3",
    "time": 1_763_999_000,
    "user": {"user_id": "5c8f", "external_user_id": "ada", "device_id": "d-1", "timezone": "Europe/London"},
    "properties": {"campaign_id": "c-1", "campaign_name": "Welcome", "email_address": "ada@example.com"},
}
OPENED_FLAT = {
    "event_type": "users.messages.pushnotification.Send",
    "id": "a1b2c4",
    "time": 1_763_999_100,
    "user_id": "5c8f",
    "external_user_id": "",
    "platform": "ios",
    "campaign_id": "c-1",
}


def encode(body: object) -> bytes:
    return msgspec.json.encode(body)


def stripe(kind: str, of: dict[str, Any], *, number: int = 1, **fields: Any) -> dict[str, Any]:
    """An event of Stripe."""
    return {
        "id": f"evt_{number}",
        "object": "event",
        "api_version": "2025-10-29.clover",
        "created": 1_763_999_999,
        "livemode": False,
        "pending_webhooks": 1,
        "type": kind,
        "data": {"object": of},
        "request": {"id": None, "idempotency_key": None},
    } | fields


def stripe_headers(body: bytes, *, secret: str = SECRET, at: float = NOW, more: str = "") -> dict[str, str]:
    digest = hmac.digest(secret.encode(), f"{int(at)}.".encode() + body, "sha256").hex()
    return {"stripe-signature": f"t={int(at)},{more}v1={digest},v0=6ffbb59b"}


def zendesk(kind: str, detail: dict[str, Any], *, subject: str, number: int = 1, **event: Any) -> dict[str, Any]:
    """An event of Zendesk."""
    return {
        "type": f"zen:event-type:{kind}",
        "account_id": 12514403,
        "id": f"2b24ef10-19d4-4740-93cf-{number:012d}",
        "time": "2025-11-24T15:59:59Z",
        "zendesk_event_version": "2022-06-20",
        "subject": subject,
        "detail": detail,
        "event": event,
    }


def zendesk_headers(body: bytes, *, secret: str = SECRET, at: str = "2025-11-24T16:00:00Z") -> dict[str, str]:
    digest = b64encode(hmac.digest(secret.encode(), at.encode() + body, "sha256")).decode()
    return {"x-zendesk-webhook-signature": digest, "x-zendesk-webhook-signature-timestamp": at}
