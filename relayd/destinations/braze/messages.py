"""Messages that an event sends: ``/campaigns/trigger/send`` and ``/canvas/trigger/send``.

They go to ``recipients``, or to all of the audience with ``broadcast``. Braze knows no idempotency key for them: a
retry after a lost answer sends a second message.
"""

from typing import Any

from relayd.actions.fields import Fields
from relayd.destinations.action import Action, InvalidPayload, Payload
from relayd.destinations.base import Request
from relayd.destinations.braze.identities import priorities
from relayd.destinations.braze.settings import Settings, call
from relayd.destinations.braze.users import alias
from relayd.destinations.fields import Definition, at, boolean, table, text

__all__ = ["MESSAGE_ACTIONS"]

_PRIORITIES = ("identified", "unidentified", "most_recently_updated", "least_recently_updated")
_PRIORITIZATION = table(
    properties={"first_priority": text(choices=_PRIORITIES), "second_priority": text(choices=_PRIORITIES)}
)


def _recipients(properties: str, known_as: Definition, **more: object) -> Definition:
    """Whom it goes to, each with ``properties`` of its own."""
    return table(
        multiple=True,
        properties={
            "external_user_id": text(at("userId")),
            "user_alias": known_as,
            "email": text(at("traits.email")),
            properties: table(),
            "send_to_existing_only": boolean(),
            "attributes": table(),
        },
        **more,
    )


_CAMPAIGN: Fields = {
    "campaign_id": text(required=True),
    "send_id": text(),
    "trigger_properties": table(at("properties")),
    "broadcast": boolean(
        required={
            "match": "all",
            "conditions": [{"fieldKey": field, "operator": "is"} for field in ("recipients", "audience")],
        }
    ),
    "attachments": table(multiple=True, properties={"file_name": text(required=True), "url": text(required=True)}),
    "recipients": _recipients("trigger_properties", table()),
    "prioritization": _PRIORITIZATION,
    "audience": table(),
}
_CANVAS: Fields = {
    "canvas_id": text(required=True),
    "canvas_entry_properties": table(at("properties")),
    "broadcast": boolean(),
    "recipients": _recipients(
        "canvas_entry_properties",
        alias(),
        required={
            "match": "all",
            "conditions": [{"fieldKey": "broadcast", "operator": "is_not", "value": True}],
        },
    ),
    "prioritization": _PRIORITIZATION,
    "audience": table(),
}


def _message(payload: Payload) -> dict[str, Any]:
    """The request's body; the priorities, which a mapping has once, belong to each recipient."""
    recipients = payload.get("recipients") or []
    if bool(payload.get("broadcast")) == bool(recipients):
        raise InvalidPayload("either broadcast must be true or there must be recipients, and not both")
    body = dict(payload)
    if recipients:
        body.pop("prioritization", None)
        if order := priorities(payload):
            body["recipients"] = [recipient | {"prioritization": order} for recipient in recipients]
    return body


def _campaign(settings: Settings, payload: Payload, now: float) -> list[Request]:
    return [call(settings, "POST", "campaigns/trigger/send", _message(payload))]


def _canvas(settings: Settings, payload: Payload, now: float) -> list[Request]:
    return [call(settings, "POST", "canvas/trigger/send", _message(payload))]


MESSAGE_ACTIONS = (
    Action("triggerCampaign", "Trigger Campaign", _CAMPAIGN, _campaign, trigger='type = "track"'),
    Action("triggerCanvas", "Trigger Canvas", _CANVAS, _canvas, trigger='type = "track"'),
)
