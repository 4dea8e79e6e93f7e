"""Braze: Currents, as track; and webhooks in the form of ``/users/track``, as track and identify.

Facts (braze.com/docs: custom HTTP connector, the Currents event glossary, /users/track, webhooks):

- Nothing is signed. A Currents connector sends ``Authorization: Bearer TOKEN``; a webhook of a campaign or Canvas has
  whatever headers its author gives it.
- Currents sends ``{"events": [...]}``, events with ``event_type`` ("users.messages.email.Open"), ``id`` (unique),
  ``time`` (Unix seconds), ``user`` (``user_id`` is Braze's, ``external_user_id`` the customer's) and ``properties``;
  or, by the glossary, with all of these beside each other. Both are read. Up to 900 KB: raise ``listener.max_body``.
- A "Braze-to-Braze" webhook sends ``{"attributes": [...], "events": [...], "purchases": [...]}`` as ``/users/track``
  takes them. These have no id of their own: with an ``id`` in them, such as ``{{campaign.${dispatch_id}}}`` and the
  user, a webhook that is sent again is known; without, it is kept again.
- Any 2xx is success. Other answers are tried again for days (Currents), or a few times (webhooks).

A user is the external id, or else the Braze id as anonymousId.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

from relayd.config import model
from relayd.config.model import Section, SourceSubscription, doc
from relayd.sources import signatures
from relayd.sources.base import App, Headers
from relayd.sources.directives import at, filled, first
from relayd.sources.settings import MASK

_LISTS = ("events", "purchases", "attributes")


class Settings(Section, frozen=True, kw_only=True):
    """How Braze shows that it is Braze."""

    secret: Annotated[
        str,
        model.secret(
            "the bearer token of the Currents connector, or of a webhook", min_length=1, example="a-long-token"
        ),
    ]
    header: Annotated[
        str, doc("where it is; a Bearer before it may be there or not", min_length=1, example="a-token")
    ] = "Authorization"

    def __repr__(self) -> str:
        return f"Settings(secret={MASK}, header={self.header!r})"


def _kind(kind: str) -> str:
    return f'body.kind = "{kind}"'


_COMMON: Mapping[str, object] = {
    "messageId": at("body.item.id"),
    "timestamp": at("body.item.time"),
    "context": {"integration": {"name": "Braze"}},
}
_CURRENTS_USER: Mapping[str, object] = {
    "userId": filled(first("body.item.user.external_user_id", "body.item.external_user_id")),
    "anonymousId": first("body.item.user.user_id", "body.item.user_id"),
}
_USER: Mapping[str, object] = {
    "userId": first("body.item.external_id", "body.item.email"),
    "anonymousId": first("body.item.braze_id", "body.item.user_alias.alias_name", "body.item.phone"),
}
_FLAT = (
    *("app_id", "platform", "campaign_id", "campaign_name", "message_variation_id", "canvas_id", "canvas_name"),
    *("canvas_step_id", "send_id", "dispatch_id", "email_address", "link_url", "device_id", "name", "timezone"),
)
_IS_CURRENTS = "body.item.event_type != null"


class Braze(App[Settings]):
    """Webhooks and Currents of Braze."""

    app = "braze"
    settings = Settings
    subscriptions = (
        SourceSubscription(
            name="currents",
            trigger=f"{_kind('events')} and {_IS_CURRENTS}",
            mapping={
                **_COMMON,
                **_CURRENTS_USER,
                "type": "track",
                "event": at("body.item.event_type"),
                "properties": {
                    "@merge": {
                        "direction": "right",
                        "objects": [
                            {name: at(f"body.item.{name}") for name in _FLAT},
                            {"device_id": at("body.item.user.device_id"), "timezone": at("body.item.user.timezone")},
                            at("body.item.properties"),
                        ],
                    }
                },
            },
        ),
        SourceSubscription(
            name="events",
            trigger=f"{_kind('events')} and !({_IS_CURRENTS})",
            mapping={
                **_COMMON,
                **_USER,
                "type": "track",
                "event": at("body.item.name"),
                "properties": at("body.item.properties"),
            },
        ),
        SourceSubscription(
            name="purchases",
            trigger=_kind("purchases"),
            mapping={
                **_COMMON,
                **_USER,
                "type": "track",
                "event": "Order Completed",
                "properties": {
                    "@merge": {
                        "direction": "right",
                        "objects": [
                            at("body.item.properties"),
                            {
                                "product_id": at("body.item.product_id"),
                                "currency": at("body.item.currency"),
                                "price": at("body.item.price"),
                                "quantity": at("body.item.quantity"),
                            },
                        ],
                    }
                },
            },
        ),
        SourceSubscription(
            name="attributes",
            trigger=_kind("attributes"),
            mapping={
                **_COMMON,
                **_USER,
                "type": "identify",
                "traits": at("body.item"),
            },
        ),
    )

    def verify(self, headers: Headers, body: bytes, now: float) -> None:
        given = headers.get(self._settings.header.lower(), "")
        signatures.require_secret(self._settings.secret, given, self._settings.header)

    def parts(self, body: object) -> Sequence[object]:
        """The items of the lists, each with the ``kind`` of its list; a single event may come without a list."""
        if not isinstance(body, dict) or not any(isinstance(body.get(name), list) for name in _LISTS):
            return [{"kind": "events", "item": body}]
        lists = ((name, body.get(name)) for name in _LISTS)
        return [{"kind": name, "item": item} for name, items in lists if isinstance(items, list) for item in items]
