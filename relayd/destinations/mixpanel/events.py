"""Events and purchases: what is sent to Mixpanel's /import, and what it answers of each.

One request carries the events of many payloads; a purchase makes one for the order and one for each of its products.

- ``$insert_id`` is the messageId where Mixpanel takes it: up to 36 letters, digits and hyphens, and no placeholder such
  as "null". Of another, and without one, it is a digest, the same for every attempt. A product's has its place in
  front, as Segment's has.
- An answer of 400 with ``failed_records`` means that the others were imported. An answer that accounts for fewer is not
  trusted: who is not named is sent again, which the ``$insert_id`` makes harmless.
"""

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct

from relayd.destinations.action import DELIVERED, InvalidPayload, Payload, Verdict
from relayd.destinations.base import Request
from relayd.destinations.fields import JSON
from relayd.destinations.mixpanel.browser import browser
from relayd.destinations.mixpanel.settings import Settings
from relayd.destinations.moments import milliseconds

MAX_EVENTS = 2000
MAX_BODY = 10_000_000
"""Bytes of a request's body, before compression."""
PLACEHOLDERS = frozenset({
    "00000000-0000-0000-0000-000000000000", "anon", "anonymous", "nil", "none", "null", "n/a", "na", "undefined",
    "unknown", "<nil>", "0", "-1", "true", "false", "[]", "{}",
})  # fmt: skip
"""What Mixpanel takes neither as a ``distinct_id`` nor as an ``$insert_id``."""
INSERT_ID = re.compile(r"[0-9A-Za-z-]{1,36}")

_PROPERTIES = {
    "ip": "ip",
    "distinct_id": "distinct_id",
    "anonymous_id": "$anon_id",
    "user_id": "$user_id",
    "group_id": "$group_id",
    "app_name": "$app_name",
    "app_namespace": "$app_namespace",
    "app_build": "$app_build_number",
    "app_version": "$app_version_string",
    "os_name": "$os",
    "os_version": "$os_version",
    "device_type": "$device_type",
    "device_name": "$device_name",
    "device_manufacturer": "$manufacturer",
    "device_model": "$model",
    "bluetooth": "$bluetooth_enabled",
    "carrier": "$carrier",
    "cellular": "$cellular_enabled",
    "wifi": "$wifi_enabled",
    "country": "mp_country_code",
    "language": "$locale",
    "library_version": "$lib_version",
    "idfa": "$ios_ifa",
    "url": "$current_url",
    "screen_width": "$screen_width",
    "screen_height": "$screen_height",
    "screen_density": "$screen_density",
    "referrer": "$referrer",
    "advertising_id": "advertising_id",
    "ad_tracking_enabled": "ad_tracking_enabled",
    "timezone": "timezone",
    "app_platform": "app_platform",
    "name": "event_original_name",
}
"""The properties that a field's value becomes unchanged."""
_TWICE = (
    ("distinct_id", "id"),
    ("anonymous_id", "$device_id"),
    ("user_id", "$identified_id"),
    ("device_name", "$device"),
)
"""The other properties that it becomes."""
_RESERVED = frozenset({"time", "id", "$anon_id", "distinct_id", "$group_id", "$insert_id", "$user_id"})
"""Who did what when: not for an event's own properties to say."""
_OF_THE_ORDER = frozenset({
    "affiliation", "subtotal", "total", "revenue", "shipping", "tax", "discount", "coupon", "currency", "order_number",
    "products",
})  # fmt: skip
"""Properties that the events of its products would count once more each."""

Event = dict[str, Any]


def track_event(settings: Settings, payload: Payload, now: float) -> list[Request]:
    return [_request(settings, [_event(settings, payload, now)])]


def track_events(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
    return [_request(settings, [_event(settings, payload, now) for payload in payloads])]


def track_purchase(settings: Settings, payload: Payload, now: float) -> list[Request]:
    return track_purchases(settings, [payload], now)


def track_purchases(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
    """One request; raises `InvalidPayload` when that would be of too many events."""
    events = [event for payload in payloads for event in _purchase(settings, payload, now)]
    if len(events) > MAX_EVENTS:
        raise InvalidPayload(f"products make {len(events)} events, Mixpanel takes {MAX_EVENTS} in a request")
    return [_request(settings, events)]


def _request(settings: Settings, events: list[Event]) -> Request:
    user = b64encode(f"{settings.api_secret or settings.project_token}:".encode()).decode()
    url = f"{settings.host}/import?strict={settings.strict_mode}"
    return Request("POST", url, JSON | {"authorization": f"Basic {user}"}, msgspec.json.encode(events))


def _event(settings: Settings, payload: Payload, now: float) -> Event:
    made: Event = {_PROPERTIES[key]: value for key, value in payload.items() if key in _PROPERTIES}
    for key, name in _TWICE:
        if key in payload:
            made[name] = payload[key]
    made["$source"] = "segment"
    time = milliseconds(payload["time"]) if payload.get("time") else None
    made["time"] = int(now * 1000) if time is None else time
    made["$insert_id"] = _insert_id(payload.get("insert_id") or msgspec.json.encode(payload, order="sorted").decode())
    if settings.source_name:
        made["segment_source_name"] = settings.source_name
    if library := payload.get("library_name"):
        made["mp_lib"] = f"Segment Actions: {library}"
    if user_agent := payload.get("userAgent"):
        made["$browser"], version = browser(user_agent)
        if version is not None:
            made["$browser_version"] = version
    for key in ("utm_properties", "userAgentData"):
        if parts := payload.get(key):
            made.update(parts)
    if own := payload.get("event_properties"):
        made.update(own if _RESERVED.isdisjoint(own) else {k: v for k, v in own.items() if k not in _RESERVED})
    return {"event": payload["event"], "properties": made}


def _purchase(settings: Settings, payload: Payload, now: float) -> list[Event]:
    """The order's event, and one for each product: a millisecond earlier each, so that they are told apart."""
    order = _event(settings, payload, now)
    if _event_count(payload) == 1:
        return [order]
    properties = order["properties"]
    shared = {key: value for key, value in properties.items() if key not in _OF_THE_ORDER}
    own_id = payload.get("insert_id") or properties["$insert_id"]
    products = [
        {
            "event": "Product Purchased",
            "properties": shared
            | {"$insert_id": _insert_id(f"{place}{own_id}"), "time": properties["time"] - place - 1}
            | product,
        }
        for place, product in enumerate(payload["products"])
    ]
    return [order, *products]


def _event_count(payload: Payload) -> int:
    """How many events a purchase makes."""
    return 1 + len(payload.get("products") or ()) if payload.get("generatePurchaseEventPerProduct") else 1


def _insert_id(text: str) -> str:
    """``text`` itself where it can be an ``$insert_id``, else a digest of it: 36 hexadecimal digits."""
    if INSERT_ID.fullmatch(text) and text not in PLACEHOLDERS:
        return text
    return blake2b(text.encode(), digest_size=18).hexdigest()


class _Failure(Struct):
    index: int
    field: str = ""
    message: str = ""


class _Answer(Struct):
    num_records_imported: int | None = None
    failed_records: list[_Failure] | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def _verdicts(counts: Sequence[int], status: int, body: bytes) -> list[Verdict] | None:
    """What an answer says of payloads that made so many events each; None when it does not tell them apart."""
    if status not in (200, 400):
        return None
    try:
        answer = _decode(body)
    except msgspec.DecodeError:
        return None
    if not answer.failed_records:
        return None
    failed: dict[int, Verdict] = {}
    for failure in answer.failed_records:
        failed.setdefault(failure.index, Verdict("hold", str(status), f"{failure.field}: {failure.message}"))
    others = DELIVERED
    imported, named = answer.num_records_imported, sum(0 <= index < sum(counts) for index in failed)
    if imported is not None and imported + named < sum(counts):
        said = f"{imported} of {sum(counts)} events were imported, and {named} named as refused"
        others = Verdict("retry", str(status), said)
    verdicts: list[Verdict] = []
    start = 0
    for count in counts:
        verdicts.append(next((failed[index] for index in range(start, start + count) if index in failed), others))
        start += count
    return verdicts


def events_verdicts(payloads: Sequence[Payload], status: int, body: bytes) -> Sequence[Verdict] | None:
    return _verdicts([1] * len(payloads), status, body)


def purchases_verdicts(payloads: Sequence[Payload], status: int, body: bytes) -> Sequence[Verdict] | None:
    return _verdicts([_event_count(payload) for payload in payloads], status, body)


def alone(
    verdicts: Callable[[Sequence[Payload], int, bytes], Sequence[Verdict] | None],
) -> Callable[[Payload, int, bytes], Verdict | None]:
    """The same of a payload that is sent alone."""

    def verdict(payload: Payload, status: int, body: bytes) -> Verdict | None:
        found = verdicts([payload], status, body)
        return None if found is None else found[0]

    return verdict
