"""Names and values that Google Analytics 4 takes.

It answers 204 to what it then drops, so what it can not take is made fit here, or refused before it is sent. The limits
are of developers.google.com/analytics/devguides/collection/protocol/ga4/sending-events ("Limitations"), the reserved
names of the page "reference" beside it.
"""

import re
from collections.abc import Iterator, Mapping, Set
from math import isfinite

from relayd.actions.javascript import to_string
from relayd.destinations.action import InvalidPayload

MAX_PARAMETERS = 25
MAX_NAME = 40
MAX_VALUE = 100
"""Characters of a text; 500 in a property of Analytics 360, which relayd can not know of."""

RESERVED = frozenset({
    "ad_activeview", "ad_click", "ad_exposure", "ad_query", "ad_reward", "adunit_exposure", "app_clear_data",
    "app_exception", "app_remove", "app_store_refund", "app_update", "app_upgrade", "dynamic_link_app_open",
    "dynamic_link_app_update", "dynamic_link_first_open", "error", "firebase_campaign",
    "firebase_in_app_message_action", "firebase_in_app_message_dismiss", "firebase_in_app_message_impression",
    "first_open", "first_visit", "in_app_purchase", "notification_dismiss", "notification_foreground",
    "notification_open", "notification_receive", "os_update", "session_start", "user_engagement",
})  # fmt: skip
"""Names of events that Google makes itself. From memory of the reference page, as of 2025."""
_RESERVED_STARTS = ("firebase_", "ga_", "google_", "gtag")

_OTHER = re.compile(r"\W")
_START = re.compile(r"[\W\d_]*")


def event_name(name: str, *, lowercase: bool) -> str:
    """The name of a custom event. What is no letter, digit or underscore becomes an underscore.

    Segment replaces white space alone; what has other characters is then dropped by Google. Raises `InvalidPayload` for
    a name that is too long or reserved, or that begins with something else than a letter.
    """
    name = _OTHER.sub("_", name.strip())
    if lowercase:
        name = name.lower()
    if not name[:1].isalpha():
        raise InvalidPayload("name must begin with a letter")
    if len(name) > MAX_NAME:
        raise InvalidPayload(f"name has {len(name)} characters, Google Analytics takes {MAX_NAME}")
    if name in RESERVED:
        raise InvalidPayload("name is reserved by Google Analytics for its own events")
    return name


def check(field: str, values: Mapping[str, object], *, nulls: bool = False) -> None:
    """Raise `InvalidPayload` for values that parameters and user properties can not have."""
    for name, value in values.items():
        if isinstance(value, list | dict) or (value is None and not nulls):
            kind = "null" if value is None else "an array" if isinstance(value, list) else "an object"
            raise InvalidPayload(f"{field}.{name} is {kind}, must be a text, a number or a truth value")


def fit(properties: Mapping[str, object], taken: Set[str]) -> dict[str, object]:
    """As many of an event's properties as there is room for, as parameters, beside those whose names are ``taken``.

    Members of objects are joined to their names with an underscore, lists of single values become one text; null, and
    lists of objects, are left out. Names and values are shortened to what Google Analytics takes.
    """
    fitted: dict[str, object] = {}
    room = MAX_PARAMETERS - len(taken)
    for name, value in _flat("", properties):
        name = _START.sub("", _OTHER.sub("_", name), count=1)[:MAX_NAME]
        if name and not name.startswith(_RESERVED_STARTS) and name not in taken and len(fitted) < room:
            fitted.setdefault(name, value)
    return fitted


def _flat(start: str, members: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in members.items():
        if isinstance(value, dict):
            yield from _flat(f"{start}{name}_", value)
        elif isinstance(value, list):
            if value and not any(isinstance(item, list | dict) for item in value):
                yield start + name, to_string(value)[:MAX_VALUE]
        elif isinstance(value, str | bool):
            yield start + name, to_string(value)[:MAX_VALUE]
        elif isinstance(value, int | float) and isfinite(value):
            yield start + name, value
