"""What all that says something of a user has in common: who it is, and how the request is to be read.

Segment's fields name a user by ``external_id``, ``user_alias``, ``braze_id`` or ``email``; an alias counts if both its
parts are there. ``__segment_internal_sync_mode`` is where Segment keeps what a user chose for a mapping; without it the
action's default counts.
"""

from typing import Any

from relayd.destinations.action import InvalidPayload, Payload
from relayd.destinations.fields import Definition, at, first, table, text
from relayd.destinations.moments import iso

__all__ = ["SYNC_MODE", "alias", "moment", "sync_mode", "user", "user_alias"]

SYNC_MODE = "__segment_internal_sync_mode"

EXTERNAL_ID = text(at("userId"))
BRAZE_ID = text(at("properties.braze_id"), allowNull=True)
EVENT_EMAIL = text(first("context.traits.email", "properties.email"))
_NAMES = ("external_id", "braze_id", "email")


def alias(*, required: bool = False) -> Definition:
    """The field of a user's alias, whose parts may both be ``required``."""
    part = text(required=True) if required else text()
    return table(properties={"alias_name": part, "alias_label": part})


def sync_mode(payload: Payload, *choices: str) -> str:
    """How the action is to go about it; the first of ``choices`` when the mapping does not say."""
    mode: str = payload.get(SYNC_MODE) or choices[0]
    if mode not in choices:
        raise InvalidPayload(f"{SYNC_MODE} must be {' or '.join(choices)}")
    return mode


def user_alias(payload: Payload) -> dict[str, str] | None:
    """The alias, if it is complete."""
    given = payload.get("user_alias") or {}
    if not given.get("alias_name") or not given.get("alias_label"):
        return None
    return {"alias_name": given["alias_name"], "alias_label": given["alias_label"]}


def user(payload: Payload) -> dict[str, Any]:
    """The members that say whom an object is about. Raises `InvalidPayload` where they say nobody."""
    who: dict[str, Any] = {name: payload[name] for name in _NAMES if name in payload}
    if found := user_alias(payload):
        who["user_alias"] = found
    if not any(who.values()):
        raise InvalidPayload("one of external_id, user_alias, braze_id and email is needed")
    return who


def moment(payload: Payload, field: str) -> str:
    """A time that Braze must have, in ISO 8601."""
    time = iso(payload[field])
    if time is None:
        raise InvalidPayload(f"{field} is no time that Braze can be told")
    return time
