"""Google Analytics 4's Measurement Protocol (developers.google.com/analytics/devguides/collection/protocol/ga4).

``/mp/collect`` answers 204 to whatever it gets, and keeps what is right; ``/debug/mp/collect`` says what is wrong, in
the words of "validating-events", and keeps nothing. `GoogleAnalytics4.messages` has what the latter would have said of
each event that was not kept.

Not verified: which of the limits lead to an event being dropped and which to a parameter being dropped (here an event
with any fault is dropped); the wording of the messages other than NAME_INVALID's; that a method other than POST gives
404; that a wrong secret goes unnoticed (the pages say that the validation server does not look at it; here the event is
then not kept).
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import msgspec

from relayd.testing.vendors import Request, Response, Vendor, json_answer

_NOTHING = Response(204, b"", ())
_NAME = re.compile(r"[^\W\d_]\w*")
_RESERVED = {
    "ad_activeview", "ad_click", "ad_exposure", "ad_query", "ad_reward", "adunit_exposure", "app_clear_data",
    "app_exception", "app_remove", "app_store_refund", "app_update", "app_upgrade", "dynamic_link_app_open",
    "dynamic_link_app_update", "dynamic_link_first_open", "error", "firebase_campaign", "first_open", "first_visit",
    "in_app_purchase", "notification_dismiss", "notification_foreground", "notification_open", "notification_receive",
    "os_update", "session_start", "user_engagement",
}  # fmt: skip
_RESERVED_STARTS = ("_", "firebase_", "ga_", "google_", "gtag.")
_RESERVED_USER = {
    "first_open_time", "first_visit_time", "last_deep_link_referrer", "user_id", "first_open_after_install",
}  # fmt: skip
_LONG = {"page_location": 1000, "page_referrer": 420, "page_title": 300}
"""Characters of parameters that may have more than the others."""
_ITEM = {
    "item_id", "item_name", "affiliation", "coupon", "currency", "discount", "index", "item_brand", "item_category",
    "item_category2", "item_category3", "item_category4", "item_category5", "item_list_id", "item_list_name",
    "item_variant", "location_id", "price", "quantity", "creative_name", "creative_slot", "promotion_id",
    "promotion_name",
}  # fmt: skip
_NEEDED = {
    "purchase": ("currency", "items", "transaction_id"),
    "refund": ("transaction_id",),
    "search": ("search_term",),
    **dict.fromkeys(
        ("add_payment_info", "add_to_cart", "add_to_wishlist", "begin_checkout", "remove_from_cart", "select_item",
         "view_cart", "view_item", "view_item_list", "view_promotion"),
        ("items",),
    ),
}  # fmt: skip
_DAY = 86400 * 1_000_000

Message = dict[str, str]


class GoogleAnalytics4(Vendor):
    """A property with a web stream and an app's. ``accepted`` has its events, each with the ``client_id``, the
    ``app_instance_id`` and what else the request says of all of them.
    """

    def __init__(
        self,
        api_secret: str = "S",  # noqa: S107  a stand-in's
        *,
        measurement_id: str = "G-XXX",
        firebase_app_id: str = "1:23:android:45",
        now: float = 0.0,
    ) -> None:
        """With ``now``, in Unix seconds, events are refused that are more than 72 hours older, or later."""
        super().__init__()
        self.messages: list[list[Message]] = []
        self._secret = api_secret
        self._streams = {"measurement_id": measurement_id, "firebase_app_id": firebase_app_id}
        self._now = now * 1_000_000
        self._purchases: set[tuple[str, str]] = set()

    def answer(self, request: Request) -> Response:
        debug = request.path == "/debug/mp/collect"
        if request.method != "POST" or not (debug or request.path == "/mp/collect"):
            return Response(404, b"", ())
        query = {name: values[0] for name, values in parse_qs(request.query).items()}
        stream = "firebase_app_id" if "firebase_app_id" in query else "measurement_id"
        messages = [*self._of_query(query, stream), *self._of_body(request.body, stream)]
        if debug:
            return json_answer(200, {"validationMessages": messages})
        if messages:
            self.messages.append(messages)
        elif query.get("api_secret") == self._secret and query[stream] == self._streams[stream]:
            self._keep(msgspec.json.decode(request.body))
        return _NOTHING

    def _keep(self, body: dict[str, Any]) -> None:
        rest = {key: value for key, value in body.items() if key != "events"}
        for event in body["events"]:
            if event["name"] == "purchase":
                purchase = (body.get("client_id", ""), event["params"]["transaction_id"])
                if purchase in self._purchases:
                    continue
                self._purchases.add(purchase)
            self.accepted.append(rest | event)

    def _of_query(self, query: dict[str, str], stream: str) -> Iterator[Message]:
        for name in ("api_secret", stream):
            if not query.get(name):
                yield _message(name, "VALUE_REQUIRED", f"The query parameter [{name}] is missing.")

    def _of_body(self, raw: bytes, stream: str) -> Iterator[Message]:
        try:
            body = msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError:
            yield _message("", "VALUE_INVALID", "Unable to parse the body as JSON.")
            return
        if len(raw) >= 130_000:
            yield _message("", "VALUE_OUT_OF_BOUNDS", "The body is larger than 130 kB.")
        identity = "client_id" if stream == "measurement_id" else "app_instance_id"
        if not isinstance(body.get(identity), str) or not body[identity]:
            yield _message(identity, "VALUE_REQUIRED", f"[{identity}] is missing.")
        at = body.get("timestamp_micros")
        if at is not None:
            if isinstance(at, bool) or not isinstance(at, int) or not 10**15 <= at < 10**16:
                yield _message("timestamp_micros", "VALUE_INVALID", "It must be a Unix time in microseconds.")
            elif self._now and not self._now - 3 * _DAY <= at <= self._now:
                yield _message("timestamp_micros", "VALUE_INVALID", "It must be of the last 72 hours.")
        for name, state in body.get("consent", {}).items():
            if name not in ("ad_user_data", "ad_personalization") or state not in ("GRANTED", "DENIED"):
                yield _message(f"consent.{name}", "VALUE_INVALID", "It must be GRANTED or DENIED.")
        yield from _of_user(body.get("user_properties", {}))
        events = body.get("events")
        if not isinstance(events, list) or not events:
            yield _message("events", "VALUE_REQUIRED", "There must be at least one event.")
        elif len(events) > 25:
            yield _message("events", "EXCEEDED_MAX_ENTITIES", "There are more than 25 events.")
        else:
            for index, event in enumerate(events):
                yield from _of_event(index, event)


def _of_user(properties: dict[str, Any]) -> Iterator[Message]:
    if len(properties) > 25:
        yield _message("user_properties", "EXCEEDED_MAX_ENTITIES", "There are more than 25 user properties.")
    for name, holder in properties.items():
        path = f"user_properties.{name}"
        yield from _of_name(path, name, 24)
        if name in _RESERVED_USER:
            yield _message(path, "NAME_RESERVED", "The name is reserved.")
        value = holder.get("value", holder) if isinstance(holder, dict) else holder
        if not isinstance(holder, dict) or isinstance(value, dict | list):
            yield _message(path, "VALUE_INVALID", "It must be an object with a value.")
        elif isinstance(value, str) and len(value) > 36:
            yield _message(path, "VALUE_OUT_OF_BOUNDS", "The value has more than 36 characters.")


def _of_event(index: int, event: dict[str, Any]) -> Iterator[Message]:
    name, params = event.get("name", ""), event.get("params", {})
    at = f"Event at index: [{index}]"
    if not _NAME.fullmatch(name):
        start = "" if _NAME.match(name) else " Names must start with an alphabetic character."
        yield _message("events", "NAME_INVALID", f"{at} has invalid name [{name}].{start}")
    if len(name) > 40:
        yield _message("events", "NAME_INVALID", f"{at} has a name with more than 40 characters.")
    if name in _RESERVED:
        yield _message("events", "NAME_RESERVED", f"{at} has the reserved name [{name}].")
    if len(params) > 25:
        yield _message("events.params", "EXCEEDED_MAX_ENTITIES", f"{at} has more than 25 parameters.")
    for needed in _NEEDED.get(name, ()):
        if params.get(needed) in (None, [], ""):
            yield _message(f"events.params.{needed}", "VALUE_REQUIRED", f"{at} has no [{needed}].")
    if params.get("value") and not params.get("currency"):
        yield _message("events.params.currency", "VALUE_REQUIRED", f"{at} has a value and no currency.")
    for key, value in params.items():
        if key == "items":
            yield from _of_items(value)
        else:
            yield from _of_parameter(f"events.params.{key}", key, value)


def _of_items(items: Any) -> Iterator[Message]:
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        yield _message("events.params.items", "VALUE_INVALID", "It must be a list of objects.")
        return
    if len(items) > 200:
        yield _message("events.params.items", "EXCEEDED_MAX_ENTITIES", "There are more than 200 items.")
    for item in items:
        if not item.get("item_id") and not item.get("item_name"):
            yield _message("events.params.items", "VALUE_REQUIRED", "An item needs item_id or item_name.")
        if len(item.keys() - _ITEM) > 10:
            yield _message("events.params.items", "EXCEEDED_MAX_ENTITIES", "There are more than 10 own parameters.")
        for key, value in item.items():
            yield from _of_parameter(f"events.params.items.{key}", key, value)


def _of_parameter(path: str, name: str, value: Any) -> Iterator[Message]:
    yield from _of_name(path, name, 40)
    if value is None or isinstance(value, dict | list):
        yield _message(path, "VALUE_INVALID", "It must be a text or a number.")
    elif isinstance(value, str) and len(value) > _LONG.get(name, 100):
        yield _message(path, "VALUE_OUT_OF_BOUNDS", f"It has more than {_LONG.get(name, 100)} characters.")


def _of_name(path: str, name: str, longest: int) -> Iterator[Message]:
    if name.startswith(_RESERVED_STARTS):
        yield _message(path, "NAME_RESERVED", "The name starts with a reserved prefix.")
    elif not _NAME.fullmatch(name) or len(name) > longest:
        yield _message(path, "NAME_INVALID", "The name is invalid.")


def _message(path: str, code: str, description: str) -> Message:
    return {"fieldPath": path, "description": description, "validationCode": code}
