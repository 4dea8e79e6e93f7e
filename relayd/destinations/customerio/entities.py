"""What Customer.io's Track API v2 is sent of a payload: one change of a person or of an object.

Whoever an entity is about is found as Segment finds it: ``cio_...`` is Customer.io's own id, what looks like an e-mail
address is one, anything else is an id; without any of these an anonymous id.
"""

import re
from collections.abc import Mapping
from typing import Any

from relayd.actions.formats import FORMATS
from relayd.destinations.action import InvalidPayload, Payload
from relayd.destinations.moments import seconds

__all__ = ["Entity", "metric"]

Entity = dict[str, Any]

_DIGITS = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_OF_FIELDS = frozenset({"createdAt", "created_at", "object_type_id", "objectTypeId", "relationshipAttributes"})
"""Traits that have a field of their own, and are no attributes."""
_is_email = FORMATS["email"]


def person_entity(payload: Payload) -> Entity:
    """A person, created or updated, perhaps in relation to an object."""
    attributes = {key: value for key, value in payload.get("custom_attributes", {}).items() if key not in _OF_FIELDS}
    if created := payload.get("created_at"):
        attributes["created_at"] = created
    if email := payload.get("email"):
        attributes["email"] = email
    entity = _of_person(payload, "identify", payload.get("id"), email=email)
    _put_attributes(entity, payload, attributes)
    _put_timestamp(entity, payload)
    if group := payload.get("group_id"):
        relationship: Entity = {"identifiers": _object(group, payload)}
        if "relationship_attributes" in payload:
            relationship["relationship_attributes"] = payload["relationship_attributes"]  # its dates stay texts
        entity["cio_relationships"] = [relationship]
    return entity


def object_entity(payload: Payload) -> Entity:
    """An object, created or updated, in relation to a person where the event has one."""
    who = person_identifiers(payload.get("user_id"))
    anonymous = payload.get("anonymous_id")
    entity: Entity = {"type": "object", "action": "identify", "identifiers": _object(payload["id"], payload)}
    if not who and anonymous:
        entity["action"] = "identify_anonymous"
        who = {"anonymous_id": anonymous}
    if created := payload.get("created_at"):
        entity["created_at"] = unix_if_iso(created) if _converts(payload) else created
    attributes = payload.get("custom_attributes")
    if attributes is not None:
        attributes = {key: value for key, value in attributes.items() if key != "object_type_id"}
    _put_attributes(entity, payload, attributes)
    if who:
        relationship: Entity = {"identifiers": who}
        if "relationship_attributes" in payload:
            related = payload["relationship_attributes"]
            relationship["relationship_attributes"] = unix_dates(related) if _converts(payload) else related
        entity["cio_relationships"] = [relationship]
    return entity


def event_entity(payload: Payload) -> Entity:
    return _event(payload, "event", payload["name"])


def page_entity(payload: Payload) -> Entity:
    return _event(payload, "page", payload["url"])


def screen_entity(payload: Payload) -> Entity:
    return _event(payload, "screen", payload["name"])


def content_entity(payload: Payload) -> Entity:
    kind = payload["actionType"]
    entity = _of_person(payload, kind, None)
    entity["name"] = kind
    data = payload.get("data")
    if data is not None:
        data = {key: value for key, value in data.items() if key != "actionType"}
    _put_attributes(entity, payload, data)
    _put_timestamp(entity, payload)
    return entity


def device_entity(payload: Payload) -> Entity:
    """A device, added to a person or updated."""
    attributes = payload.get("attributes", {})
    if _converts(payload):
        attributes = unix_dates(attributes)
    if version := payload.get("app_version"):
        attributes = attributes | {"app_version": version}
    device: Entity = {"token": payload["device_id"], "platform": payload["platform"]}
    if used := payload.get("last_used"):
        device["last_used"] = unix(used) if payload.get("convert_timestamp") is not False else used
    if attributes:
        device["attributes"] = attributes
    return _of_person(payload, "add_device", payload["person_id"]) | {"device": device}


def lost_device_entity(payload: Payload) -> Entity:
    return _of_person(payload, "delete_device", payload["person_id"]) | {"device": {"token": payload["device_id"]}}


def lost_relationship_entity(payload: Payload) -> Entity:
    entity: Entity = {
        "type": "object",
        "action": "delete_relationships",
        "identifiers": _object(payload["object_id"], payload),
        "cio_relationships": [{"identifiers": person_identifiers(payload["person_id"])}],
    }
    _put_attributes(entity, payload, None)
    return entity


def lost_object_entity(payload: Payload) -> Entity:
    if not (key := payload.get("object_id")):
        raise InvalidPayload("object_id is missing")
    return {"type": "object", "action": "delete", "identifiers": _object(key, payload)}


def lost_person_entity(payload: Payload) -> Entity:
    return _of_person(payload, "delete", payload["person_id"])


def suppressed_person_entity(payload: Payload) -> Entity:
    return _of_person(payload, "suppress", payload["person_id"])


def unsuppressed_person_entity(payload: Payload) -> Entity:
    return _of_person(payload, "unsuppress", payload["person_id"])


def merge_entity(payload: Payload) -> Entity:
    primary, secondary = person_identifiers(payload["primary"]), person_identifiers(payload["secondary"])
    if not primary or not secondary:
        raise InvalidPayload("primary and secondary must not be empty")
    return {"type": "person", "action": "merge", "primary": primary, "secondary": secondary}


def metric(payload: Payload, now: float) -> Entity:
    """What became of a message, in the form of ``/api/v1/metrics``."""
    time = unix(payload.get("timestamp"))
    if isinstance(time, str):
        time = float(time) if _DIGITS.fullmatch(time) else None
    body: Entity = {"delivery_id": payload["delivery_id"], "metric": payload["metric"]}
    body["timestamp"] = int(now) if time is None else time
    body |= {key: payload[key] for key in ("recipient", "reason", "href") if payload.get(key)}
    if details := {key: payload[key] for key in ("action_name", "action_value") if payload.get(key)}:
        body["metadata"] = details
    return body


def person_identifiers(key: str | None) -> dict[str, str] | None:
    """How a person is named; None for no key."""
    if not key:
        return None
    if key.startswith("cio_"):
        return {"cio_id": key[4:]}
    return {"email": key} if _is_email(key) else {"id": key}


def unix(value: object) -> object:
    """Unix seconds of a text that is a date; digits, and what is no date, are returned as they are."""
    if not isinstance(value, str) or _DIGITS.fullmatch(value):
        return value
    time = seconds(value)
    return value if time is None else time


def unix_if_iso(value: str) -> object:
    """As `unix`, for ISO 8601 alone: that is what counts as a date where any text may stand."""
    return unix(value) if value[4:5] == "-" and _ISO.fullmatch(value) else value


def unix_dates(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes with their ISO 8601 dates as Unix seconds, in objects too, but not in arrays."""
    converted = {}
    for key, value in attributes.items():
        if type(value) is str:
            converted[key] = unix_if_iso(value)
        else:
            converted[key] = unix_dates(value) if type(value) is dict else value
    return converted


def _event(payload: Payload, action: str, name: str) -> Entity:
    entity = _of_person(payload, action, payload.get("id"))
    entity["name"] = name
    if key := payload.get("event_id"):
        entity["id"] = key
    _put_attributes(entity, payload, payload.get("data"))
    _put_timestamp(entity, payload)
    return entity


def _of_person(payload: Payload, action: str, key: str | None, *, email: str | None = None) -> Entity:
    who = person_identifiers(key)
    if who is None and email:
        who = {"email": email}
    if who is None and (anonymous := payload.get("anonymous_id")):
        who = {"anonymous_id": anonymous}
    if who is None:
        raise InvalidPayload("it says of no person: id and anonymous_id are missing")
    return {"type": "person", "action": action, "identifiers": who}


def _object(key: str, payload: Payload) -> dict[str, str]:
    if not key:
        raise InvalidPayload("the object's id is empty")
    return {"object_id": key, "object_type_id": payload.get("object_type_id") or "1"}


def _converts(payload: Payload) -> bool:
    return bool(payload.get("convert_timestamp", False))


def _put_attributes(entity: Entity, payload: Payload, attributes: dict[str, Any] | None) -> None:
    """The anonymous id is an attribute, too, unless the entity is identified by it."""
    if attributes is not None and _converts(payload):
        attributes = unix_dates(attributes)
    if anonymous := payload.get("anonymous_id"):
        attributes = dict(attributes or {})
        if "anonymous_id" in entity["identifiers"]:
            attributes.pop("anonymous_id", None)
        else:
            attributes["anonymous_id"] = anonymous
    if attributes is not None:
        entity["attributes"] = attributes


def _put_timestamp(entity: Entity, payload: Payload) -> None:
    """Customer.io takes Unix seconds alone, so it is converted whatever ``convert_timestamp`` says."""
    if time := payload.get("timestamp"):
        entity["timestamp"] = unix(time)
