"""Users, groups and aliases: forms that Mixpanel's /track, /engage and /groups take.

None of them knows an idempotency key. To set a profile twice does no harm; to increment it twice counts twice, which
happens when an answer is lost and the request is sent again.
"""

from math import isfinite

from relayd.actions.javascript import UNDEFINED, stringify, to_number, to_string
from relayd.destinations.action import InvalidPayload, Payload, Verdict
from relayd.destinations.base import Request
from relayd.destinations.fields import FORM, form
from relayd.destinations.mixpanel.settings import Settings

_CREATED = ("created", "created_at", "createdAt")
_RENAMED = {
    "email": "$email",
    "firstName": "$first_name",
    "lastName": "$last_name",
    "name": "$name",
    "username": "$username",
    "phone": "$phone",
}
"""Traits that Mixpanel has names of its own for."""
_REFUSED = b"0"


def identify_user(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """That a user and an anonymous one are the same, where both are known; then, what is known of the user."""
    user, anonymous = payload.get("user_id"), payload.get("anonymous_id")
    if not user and not anonymous:
        raise InvalidPayload("user_id and anonymous_id: one of them must be set")
    requests = []
    if user and anonymous:
        properties = {"$identified_id": user, "$anon_id": anonymous}
        requests.append(_request(settings, "/track", _by_token(settings, "$identify", properties)))
    if traits := payload.get("traits"):
        requests.append(_request(settings, "/engage", _person(settings, payload) | {"$set": _user(traits)}))
    return requests


def group_identify_user(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """What is known of a group; a trait that is called as the group key says its id."""
    key, traits = payload.get("group_key") or "$group_id", payload.get("traits")
    if traits is None:
        raise InvalidPayload("traits: is missing, Mixpanel has nothing to set without")
    properties = {name: value for name, value in traits.items() if name != "name"}
    if "name" in traits:
        properties["$name"] = traits["name"]
    return [
        _request(
            settings,
            "/groups",
            {
                "$token": settings.project_token,
                "$group_key": key,
                "$group_id": traits.get(key) or payload["group_id"],
                "$set": properties,
            },
        )
    ]


def alias(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """That an id is another name of a user; for projects with Mixpanel's original way of merging ids."""
    if not payload.get("alias") or not payload.get("distinct_id"):
        raise InvalidPayload("alias and distinct_id: both must be set")
    properties = {"distinct_id": payload["distinct_id"], "alias": payload["alias"]}
    return [_request(settings, "/track", _by_token(settings, "$create_alias", properties))]


def increment_properties(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """Numbers to add to a user's properties; without any there is no request. What is no number is refused."""
    added: dict[str, float] = {}
    for key, value in payload["increment"].items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            continue
        number = to_number(value) if isinstance(value, str) else value
        if not isfinite(number):
            raise InvalidPayload(f"increment: {key} is no number")
        added[key] = number
    if not added:
        return []
    person = _person(settings, payload)
    if not person["$distinct_id"]:
        raise InvalidPayload("user_id and anonymous_id: one of them must be set")
    return [_request(settings, "/engage", person | {"$add": added})]


def verdict(payload: Payload, status: int, body: bytes) -> Verdict | None:
    """Mixpanel answers 200 with a 0 to what it does not take."""
    if status == 200 and body.strip() == _REFUSED:
        return Verdict("hold", "REFUSED", "Mixpanel answered 0: it did not take what it was sent")
    return None


def _request(settings: Settings, path: str, data: dict[str, object]) -> Request:
    return Request("POST", settings.host + path, FORM, form(data=str(stringify(data))))


def _by_token(settings: Settings, event: str, properties: dict[str, object]) -> dict[str, object]:
    """An event for /track, where the token says whose it is."""
    properties["token"] = settings.project_token
    if settings.source_name:
        properties["segment_source_name"] = settings.source_name
    return {"event": event, "properties": properties}


def _person(settings: Settings, payload: Payload) -> dict[str, object]:
    """Whose profile it is; an address is only used to find out where it is."""
    return {
        "$token": settings.project_token,
        "$distinct_id": payload.get("user_id") or payload.get("anonymous_id"),
        "$ip": payload.get("ip", UNDEFINED),
    }


def _user(traits: dict[str, object]) -> dict[str, object]:
    """A user's traits, those that Mixpanel knows by its names for them; a name is made of its halves if need be."""
    named = {"$created": next((traits[key] for key in _CREATED if traits.get(key) is not None), UNDEFINED)}
    named |= {ours: traits.get(key, UNDEFINED) for key, ours in _RENAMED.items()}
    if traits.get("name") is None:
        halves = traits.get("firstName"), traits.get("lastName")
        named["$name"] = " ".join(map(to_string, halves)) if all(halves) else UNDEFINED
    others = {key: value for key, value in traits.items() if key not in _RENAMED and key not in _CREATED}
    return others | {name: value for name, value in named.items() if value is not UNDEFINED}
