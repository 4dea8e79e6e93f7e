"""Stripe: its events, as track; customers as identify, connected accounts as group.

Facts (docs.stripe.com/webhooks, docs.stripe.com/api/events/object; the libraries stripe-python and stripe-node):

- ``Stripe-Signature: t=UNIX,v1=HEX[,v1=HEX][,v0=...]``. A v1 is the HMAC-SHA256, in hex, of ``t``, a full stop and the
  raw body; while a secret is being replaced there is one for each. Stripe's libraries allow 300 s.
- An event has ``id`` (evt_...), ``type`` ("invoice.paid"), ``created`` (Unix seconds), ``livemode``, ``account`` (with
  Connect), and the object it is about in ``data.object``, whose ``customer`` is an id, or an object if it is expanded.
- Any 2xx is success. Else Stripe sends the event again, for up to 3 days, under the same id.

A user is who ``metadata.user_id`` of the object names, or the ``client_reference_id`` of a checkout, or else the
Stripe customer. What is about no customer (a payout) has the object's own id as anonymousId. Amounts are in the
currency's smallest unit, as Stripe has them. ``Stripe-Account`` objects (``account.updated``) are groups.
"""

from collections.abc import Mapping

from relayd.config.model import SourceSubscription
from relayd.sources import signatures
from relayd.sources.base import App, Forged, Headers
from relayd.sources.directives import at, filled, first
from relayd.sources.settings import SignedSettings

_HEADER = "Stripe-Signature"
_OBJECT = "body.data.object"


def _of_object(*names: str) -> dict[str, object]:
    return {name: at(f"{_OBJECT}.{name}") for name in names}


_USER = first(
    f"{_OBJECT}.metadata.user_id",
    f"{_OBJECT}.client_reference_id",
    f"{_OBJECT}.customer.id",
    f"{_OBJECT}.customer",
)
_CUSTOMER = first(f"{_OBJECT}.metadata.user_id", f"{_OBJECT}.id")
_COMMON: Mapping[str, object] = {
    "messageId": at("body.id"),
    "timestamp": at("body.created"),
    "context": {"integration": {"name": "Stripe", "version": at("body.api_version")}},
}
_PROPERTIES = {
    "stripe_event_id": at("body.id"),
    "livemode": at("body.livemode"),
    "account": at("body.account"),
    **_of_object(
        *("id", "object", "status", "description", "metadata", "currency", "amount", "amount_due", "amount_paid"),
        *("amount_total", "amount_refunded", "total", "customer_email", "receipt_email", "email", "mode", "reason"),
        *("payment_status", "payment_intent", "payment_link", "invoice", "subscription", "charge", "number"),
        *("billing_reason", "collection_method", "hosted_invoice_url", "current_period_start", "current_period_end"),
        *("cancel_at_period_end", "canceled_at", "trial_end", "failure_code", "failure_message"),
    ),
    "plan": at(f"{_OBJECT}.items.data[0].price.id"),
    "quantity": at(f"{_OBJECT}.items.data[0].quantity"),
}


class Stripe(App[SignedSettings]):
    """Webhooks of Stripe."""

    app = "stripe"
    settings = SignedSettings
    subscriptions = (
        SourceSubscription(
            name="events",
            trigger=f'{_OBJECT}.object != "customer"',
            mapping={
                **_COMMON,
                "type": "track",
                "event": at("body.type"),
                "userId": filled(_USER),
                "anonymousId": first(f"{_OBJECT}.id", "body.id"),
                "properties": _PROPERTIES,
            },
        ),
        SourceSubscription(
            name="customer-events",
            trigger=f'{_OBJECT}.object = "customer"',
            mapping={
                **_COMMON,
                "type": "track",
                "event": at("body.type"),
                "userId": _CUSTOMER,
                "properties": _PROPERTIES,
            },
        ),
        SourceSubscription(
            name="customers",
            trigger='body.type in ["customer.created", "customer.updated"]',
            mapping={
                **_COMMON,
                "type": "identify",
                "userId": _CUSTOMER,
                "traits": {
                    "stripe_customer_id": at(f"{_OBJECT}.id"),
                    "createdAt": at(f"{_OBJECT}.created"),
                    **_of_object("email", "name", "phone", "description", "currency", "balance", "delinquent"),
                    **_of_object("address", "preferred_locales", "metadata", "livemode"),
                },
            },
        ),
        SourceSubscription(
            name="accounts",
            trigger='body.type = "account.updated"',
            mapping={
                **_COMMON,
                "type": "group",
                "groupId": at(f"{_OBJECT}.id"),
                "userId": first(f"{_OBJECT}.metadata.user_id"),
                "anonymousId": at(f"{_OBJECT}.id"),
                "traits": {
                    "name": first(f"{_OBJECT}.business_profile.name", f"{_OBJECT}.settings.dashboard.display_name"),
                    "website": at(f"{_OBJECT}.business_profile.url"),
                    "createdAt": at(f"{_OBJECT}.created"),
                    **_of_object("email", "country", "default_currency", "business_type", "charges_enabled"),
                    **_of_object("payouts_enabled", "details_submitted", "metadata"),
                },
            },
        ),
    )

    def verify(self, headers: Headers, body: bytes, now: float) -> None:
        time, found = _parse(headers.get(_HEADER.lower(), ""))
        if time is None:
            raise Forged(signatures.INVALID, f"{_HEADER} is missing, or has no t=SECONDS")
        expected = signatures.digest(self._settings.secret, f"{time}.".encode() + body)
        signatures.require_any(expected, found, _HEADER)
        signatures.require_recent(int(time), self._settings.tolerance, now, _HEADER)


def _parse(header: str) -> tuple[str | None, list[bytes]]:
    """The time as it is written, and the v1 signatures."""
    time, found = None, []
    for item in header.split(","):
        scheme, _, value = item.strip().partition("=")
        if scheme == "t" and time is None and value.isascii() and value.isdigit() and len(value) <= 12:
            time = value
        elif scheme == "v1":
            found.append(signatures.from_hex(value))
    return time, found
