"""Who is who: ``/users/identify`` and ``/users/alias/new``. Neither takes batches here, as in Segment."""

from typing import Any

from relayd.actions.fields import Fields
from relayd.destinations.action import Action, InvalidPayload, Payload
from relayd.destinations.base import Request
from relayd.destinations.braze.answers import verdict
from relayd.destinations.braze.settings import Settings, call
from relayd.destinations.braze.users import SYNC_MODE, alias, sync_mode
from relayd.destinations.fields import table, text

__all__ = ["IDENTITY_ACTIONS", "priorities"]

_MERGE: Fields = {"merge_behavior": text(choices=("none", "merge"))}
_IDENTIFY: Fields = {
    "external_id": text(required=True),
    "user_alias": dict(alias(required=True)) | {"required": True},
    **_MERGE,
}


def _unless(field: str, operator: str = "is") -> dict[str, object]:
    """Required when the other field is (not) missing."""
    return {"match": "all", "conditions": [{"fieldKey": field, "operator": operator}]}


_PRIORITIES = ("unidentified", "most_recently_updated", "least_recently_updated")
_IDENTIFY2: Fields = {
    "external_id": text(required=True),
    "user_alias": dict(alias(required=True)) | {"required": _unless("email_to_identify")},
    "email_to_identify": text(required=_unless("user_alias")),
    "prioritization": table(
        required=_unless("email_to_identify", "is_not"),
        properties={"first_priority": text(choices=_PRIORITIES), "second_priority": text(choices=_PRIORITIES)},
    ),
    **_MERGE,
    SYNC_MODE: text(choices=("add", "upsert")),
}
_ALIAS: Fields = {
    "external_id": text(allowNull=True),
    "alias_name": text(required=True),
    "alias_label": text(required=True),
}


def priorities(payload: Payload) -> list[str]:
    """Which of several users is meant: the field's choices in their order."""
    given = payload.get("prioritization") or {}
    return [given[key] for key in ("first_priority", "second_priority") if given.get(key)]


def _identify(settings: Settings, payload: Payload, now: float) -> list[Request]:
    body: dict[str, Any] = {}
    who = {"external_id": payload["external_id"]}
    if known := payload.get("user_alias"):
        body["aliases_to_identify"] = [who | {"user_alias": known}]
    if email := payload.get("email_to_identify"):
        order = priorities(payload)
        if not order:
            raise InvalidPayload("prioritization.first_priority is missing, email_to_identify needs it")
        body["emails_to_identify"] = [who | {"email": email, "prioritization": order}]
    if "merge_behavior" in payload:
        body["merge_behavior"] = payload["merge_behavior"]
    return [call(settings, "POST", "users/identify", body)]


def _identify2(settings: Settings, payload: Payload, now: float) -> list[Request]:
    sync_mode(payload, "add", "upsert")
    return _identify(settings, payload, now)


def _create_alias(settings: Settings, payload: Payload, now: float) -> list[Request]:
    new = {key: payload[key] for key in _ALIAS if payload.get(key) is not None}
    return [call(settings, "POST", "users/alias/new", {"user_aliases": [new]})]


def _create_alias2(settings: Settings, payload: Payload, now: float) -> list[Request]:
    sync_mode(payload, "add")
    return _create_alias(settings, payload, now)


_ALIAS_TRIGGER = 'event = "Create Alias"'
IDENTITY_ACTIONS = (
    Action("identifyUser", "Identify User", _IDENTIFY, _identify, verdicts=verdict),
    Action("identifyUser2", "Identify User V2", _IDENTIFY2, _identify2, verdicts=verdict),
    Action("createAlias", "Create Alias", _ALIAS, _create_alias, trigger=_ALIAS_TRIGGER, verdicts=verdict),
    Action(
        "createAlias2",
        "Create Alias V2",
        {**_ALIAS, SYNC_MODE: text(choices=("add",))},
        _create_alias2,
        trigger=_ALIAS_TRIGGER,
        verdicts=verdict,
    ),
)
