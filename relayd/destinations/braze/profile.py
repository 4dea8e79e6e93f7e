"""Profiles: ``attributes`` of ``/users/track``.

Custom attributes are sent beside the fields, without those that have a field or that say of an event what it is. The
set of the latter is Segment's, which takes the fields of Track Purchase: ``products`` and ``time`` are not sent.
"""

from typing import Any

from relayd.actions.fields import Fields
from relayd.destinations.action import Payload
from relayd.destinations.braze.settings import Settings
from relayd.destinations.braze.track import BATCHING_FIELDS, UPDATE_ONLY, track_action, update_only
from relayd.destinations.braze.users import BRAZE_ID, EXTERNAL_ID, SYNC_MODE, alias, sync_mode, user
from relayd.destinations.fields import Definition, at, boolean, integer, moment, number, table, text
from relayd.destinations.moments import iso

__all__ = ["PROFILE_ACTIONS"]


def _clearable(path: str = "", **more: object) -> Definition:
    """A text that null takes away from the profile."""
    return text(at(path) if path else None, allowNull=True, **more)


_PROFILE: Fields = {
    "external_id": EXTERNAL_ID,
    "user_alias": alias(),
    "braze_id": BRAZE_ID,
    "country": _clearable("context.location.country"),
    "current_location": table(
        {"latitude": at("context.location.latitude"), "longitude": at("context.location.longitude")},
        allowNull=True,
        properties={"latitude": number(), "longitude": number()},
    ),
    "date_of_first_session": moment(allowNull=True),
    "date_of_last_session": moment(allowNull=True),
    "dob": moment(allowNull=True),
    "email": _clearable("traits.email"),
    "email_subscribe": text(),
    "email_open_tracking_disabled": boolean(),
    "email_click_tracking_disabled": boolean(),
    "facebook": table(properties={"id": text(), "likes": text(multiple=True), "num_friends": integer()}),
    "first_name": _clearable("traits.firstName"),
    "gender": _clearable("traits.gender"),
    "home_city": _clearable("traits.address.city"),
    "image_url": _clearable("traits.avatar", format="uri"),
    "language": _clearable(),
    "last_name": text(at("traits.lastName")),
    "marked_email_as_spam_at": moment(allowNull=True),
    "phone": _clearable("traits.phone"),
    "push_subscribe": text(),
    "push_tokens": table(
        multiple=True,
        properties={"app_id": text(required=True), "token": text(required=True), "device_id": text()},
    ),
    "time_zone": text(),
    "twitter": table(
        properties={
            "id": text(),
            "screen_name": text(),
            "followers_count": integer(),
            "friends_count": integer(),
            "statuses_count": integer(),
        }
    ),
    "subscription_groups": table(
        multiple=True,
        properties={
            "subscription_group_id": text(required=True),
            "subscription_state": text(required=True, choices=("subscribed", "unsubscribed")),
        },
    ),
    "custom_attributes": table(at("traits")),
}
_MOMENTS = ("date_of_first_session", "date_of_last_session", "marked_email_as_spam_at")
_PLAIN = tuple(
    key
    for key in _PROFILE
    if key not in (*_MOMENTS, "user_alias", "current_location", "dob", "gender", "custom_attributes")
)
_NOT_CUSTOM = (_PROFILE.keys() - {"custom_attributes"}) | {
    *("time", "products", "properties", "_update_existing_only", "enable_batching", "batch_size"),
    *("firstName", "lastName", "avatar"),
}
_GENDERS = {
    **dict.fromkeys(("man", "male", "m"), "M"),
    **dict.fromkeys(("woman", "female", "w", "f"), "F"),
    **dict.fromkeys(("other", "o"), "O"),
    **dict.fromkeys(("not applicable", "n"), "N"),
    **dict.fromkeys(("prefer not to say", "p"), "P"),
}


def _attributes(payload: Payload, existing: dict[str, object]) -> list[dict[str, Any]]:
    custom: dict[str, Any] = payload.get("custom_attributes", {})
    profile = {key: value for key, value in custom.items() if key not in _NOT_CUSTOM}
    profile |= {key: payload[key] for key in _PLAIN if key in payload}
    profile |= user(payload)
    for key in _MOMENTS:
        _put_moment(profile, key, payload, 24)
    _put_moment(profile, "dob", payload, len("2026-01-02"))
    if "gender" in payload:
        gender: str | None = payload["gender"]
        profile["gender"] = _GENDERS.get(gender.lower(), gender) if gender else gender
    if "current_location" in payload and payload["current_location"] != {}:
        profile["current_location"] = payload["current_location"]
    return [profile | existing]


def _put_moment(profile: dict[str, Any], key: str, payload: Payload, length: int) -> None:
    """A time, as far as ``length`` characters of ISO 8601 say it; null stays null, and what is no time is left out."""
    if key in payload:
        value = payload[key]
        text = None if value is None else iso(value)
        if value is None or text is not None:
            profile[key] = text if text is None else text[:length]


def _update(settings: Settings, payload: Payload) -> list[dict[str, Any]]:
    return _attributes(payload, update_only(payload))


def _update2(settings: Settings, payload: Payload) -> list[dict[str, Any]]:
    sync_mode(payload, "update")
    return _attributes(payload, {"_update_existing_only": True})


PROFILE_ACTIONS = (
    track_action(
        "updateUserProfile",
        "Update User Profile",
        {**_PROFILE, **UPDATE_ONLY, **BATCHING_FIELDS},
        "attributes",
        _update,
        'type = "identify"',
    ),
    track_action(
        "updateUserProfile2",
        "Update User Profile V2",
        {**_PROFILE, **BATCHING_FIELDS, SYNC_MODE: text(choices=("update",))},
        "attributes",
        _update2,
        'type = "identify"',
    ),
)
