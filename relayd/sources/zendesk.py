"""Zendesk: its events, as track; users as identify, organizations as group.

Facts (developer.zendesk.com: webhooks/verifying, webhooks/event-types):

- ``X-Zendesk-Webhook-Signature`` is the base64 of HMAC-SHA256 over the value of
  ``X-Zendesk-Webhook-Signature-Timestamp`` (ISO 8601) and the raw body, one behind the other.
- An event has ``id``, ``type`` ("zen:event-type:ticket.created"), ``time``, ``account_id``, ``subject``
  ("zen:ticket:35436"), the object in ``detail``, and what changed in ``event`` (``current``, ``previous``). Ids are
  texts or numbers; "0" and "" mean none.
- Zendesk tries again after 409, after 429 and 503 with a Retry-After below a minute, and after timeouts, under the
  same id.
- Webhooks of triggers and automations have bodies that their author wrote: take ``app = "webhook"`` for them.

A user is known by the ``external_id``, or else by Zendesk's id. A ticket's events are those of its requester, an
organization's of nobody: their anonymousId is the subject.
"""

from collections.abc import Mapping

from relayd.config.model import SourceSubscription
from relayd.event import parse_time
from relayd.sources import signatures
from relayd.sources.base import App, Headers
from relayd.sources.directives import at, filled, first
from relayd.sources.settings import SignedSettings

_SIGNATURE, _TIMESTAMP = "X-Zendesk-Webhook-Signature", "X-Zendesk-Webhook-Signature-Timestamp"
_PREFIX = "zen:event-type:"


def _of_detail(*names: str) -> dict[str, object]:
    return {name: at(f"body.detail.{name}") for name in names}


_COMMON: Mapping[str, object] = {
    "messageId": at("body.id"),
    "timestamp": at("body.time"),
    "context": {"integration": {"name": "Zendesk", "version": at("body.zendesk_event_version")}},
}
_EVENT = {
    "@replace": {
        "pattern": "zen:event-",  # @replace takes ten characters at most
        "replacement": "",
        "pattern2": "type:",
        "replacement2": "",
        "global": False,
        "value": at("body.type"),
    }
}
_USER = first("body.detail.external_id", "body.detail.id")
_CHANGE = {"subject": at("body.subject"), "current": at("body.event.current"), "previous": at("body.event.previous")}
_IS_USER = f'match(body.type, "{_PREFIX}user.*")'
_IS_TICKET = f'match(body.type, "{_PREFIX}ticket.*")'


class Zendesk(App[SignedSettings]):
    """Webhooks of Zendesk that are subscribed to events."""

    app = "zendesk"
    settings = SignedSettings
    subscriptions = (
        SourceSubscription(
            name="tickets",
            trigger=_IS_TICKET,
            mapping={
                **_COMMON,
                "type": "track",
                "event": _EVENT,
                "userId": filled(first("body.detail.requester_id", "body.detail.submitter_id")),
                "anonymousId": at("body.subject"),
                "properties": {
                    "ticket_id": at("body.detail.id"),
                    "comment": at("body.event.comment.body"),
                    "comment_is_public": at("body.event.comment.is_public"),
                    "channel": at("body.detail.via.channel"),
                    **_CHANGE,
                    **_of_detail("status", "priority", "type", "tags", "external_id", "assignee_id", "group_id"),
                    **_of_detail("organization_id", "brand_id", "form_id", "created_at", "updated_at"),
                },
            },
        ),
        SourceSubscription(
            name="user-events",
            trigger=_IS_USER,
            mapping={
                **_COMMON,
                "type": "track",
                "event": _EVENT,
                "userId": _USER,
                "properties": {**_CHANGE, **_of_detail("role", "organization_id")},
            },
        ),
        SourceSubscription(
            name="users",
            trigger=f'{_IS_USER} and !match(body.type, "*.deleted")',
            mapping={
                **_COMMON,
                "type": "identify",
                "userId": _USER,
                "traits": {
                    "zendesk_user_id": at("body.detail.id"),
                    "createdAt": at("body.detail.created_at"),
                    **_of_detail("email", "role", "organization_id", "external_id"),
                },
            },
        ),
        SourceSubscription(
            name="memberships",
            trigger=(
                f'(body.type = "{_PREFIX}user.created" or match(body.type, "*.organization_membership_created"))'
                ' and body.detail.organization_id != null and body.detail.organization_id != "0"'
                ' and body.detail.organization_id != ""'
            ),
            mapping={
                **_COMMON,
                "type": "group",
                "userId": _USER,
                "groupId": at("body.detail.organization_id"),
            },
        ),
        SourceSubscription(
            name="organizations",
            trigger=f'match(body.type, "{_PREFIX}organization.*") and !match(body.type, "*.deleted")',
            mapping={
                **_COMMON,
                "type": "group",
                "groupId": at("body.detail.id"),
                "anonymousId": at("body.subject"),
                "traits": {
                    "createdAt": at("body.detail.created_at"),
                    **_of_detail("name", "external_id", "shared_tickets", "shared_comments"),
                },
            },
        ),
        SourceSubscription(
            name="other-events",
            trigger=f"!{_IS_USER} and !{_IS_TICKET}",
            mapping={
                **_COMMON,
                "type": "track",
                "event": _EVENT,
                "anonymousId": at("body.subject"),
                "properties": {**_CHANGE, "detail": at("body.detail"), "event": at("body.event")},
            },
        ),
    )

    def verify(self, headers: Headers, body: bytes, now: float) -> None:
        time = headers.get(_TIMESTAMP.lower(), "")
        found = signatures.from_base64(headers.get(_SIGNATURE.lower(), ""))
        expected = signatures.digest(self._settings.secret, time.encode("latin-1") + body)
        signatures.require_any(expected, [found] if found else [], _SIGNATURE)
        at_ms = parse_time(time)
        signatures.require_recent(None if at_ms is None else at_ms / 1000, self._settings.tolerance, now, _TIMESTAMP)
