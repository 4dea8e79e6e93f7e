"""Events and purchases: ``events`` and ``purchases`` of ``/users/track``.

A purchase is one product, so an order becomes as many objects as it has products. Braze takes 75 objects a request: a
batch with more raises `InvalidPayload`, at which delivery halves it; an order with more takes several requests.
"""

from collections.abc import Callable, Sequence
from typing import Any

from relayd.actions.fields import Fields
from relayd.destinations.action import Action, Batching, InvalidPayload, Payload, Verdict
from relayd.destinations.base import Request
from relayd.destinations.braze.answers import verdict, verdicts_by
from relayd.destinations.braze.settings import Settings, call
from relayd.destinations.braze.users import (
    BRAZE_ID,
    EVENT_EMAIL,
    EXTERNAL_ID,
    SYNC_MODE,
    alias,
    moment,
    sync_mode,
    user,
)
from relayd.destinations.fields import at, boolean, integer, number, table, text
from relayd.destinations.fields import moment as time_field

__all__ = ["BATCHING_FIELDS", "MAX_OBJECTS", "TRACK_ACTIONS", "track_action"]

MAX_OBJECTS = 75
"""Objects a request, of all kinds together (braze.com/docs/api/api_limits)."""
BATCHING_FIELDS: Fields = {"enable_batching": boolean(True), "batch_size": number(MAX_OBJECTS)}
UPDATE_ONLY: Fields = {"_update_existing_only": boolean(False)}
MODE: Fields = {SYNC_MODE: text(choices=("add", "update"))}

_TIME = time_field(at("receivedAt"), required=True)
_EVENT: Fields = {
    "external_id": EXTERNAL_ID,
    "user_alias": alias(),
    "email": EVENT_EMAIL,
    "braze_id": BRAZE_ID,
    "name": text(at("event"), required=True),
    "time": _TIME,
    "properties": table(at("properties")),
}
_PRODUCT: Fields = {
    "product_id": text(required=True),
    "currency": text(),
    "price": number(required=True),
    "quantity": integer(),
}
_PURCHASE: Fields = {
    "external_id": EXTERNAL_ID,
    "user_alias": alias(),
    "email": text(at("traits.email")),
    "braze_id": BRAZE_ID,
    "time": _TIME,
    "products": table(
        at("properties.products"), required=True, multiple=True, additionalProperties=True, properties=_PRODUCT
    ),
    "properties": table(at("properties")),
}

Objects = Callable[[Settings, Payload], list[dict[str, Any]]]
"""``(settings, payload) -> objects`` of the request; at least one."""


def track_action(
    name: str,
    title: str,
    fields: Fields,
    array: str,
    make: Objects,
    trigger: str = "",
    *,
    count: Callable[[Payload], int] | None = None,
    always_batch: bool = False,
) -> Action:
    """An action whose payloads become objects of ``array``: one each, unless ``count`` says how many.

    ``always_batch``: a batch is said to be one even if it carries a single object.
    """

    def perform(settings: Settings, payload: Payload, now: float) -> list[Request]:
        objects = make(settings, payload)
        parts = [objects[start : start + MAX_OBJECTS] for start in range(0, len(objects), MAX_OBJECTS)]
        return [call(settings, "POST", "users/track", {array: part}, batch=len(part) > 1) for part in parts]

    def perform_all(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
        objects = [each for payload in payloads for each in make(settings, payload)]
        if len(objects) > MAX_OBJECTS:
            if len(payloads) == 1:
                return perform(settings, payloads[0], now)
            raise InvalidPayload(f"the batch has more than {MAX_OBJECTS} {array}")
        return [call(settings, "POST", "users/track", {array: objects}, batch=always_batch or len(objects) > 1)]

    def verdicts(payloads: Sequence[Payload], status: int, body: bytes) -> Sequence[Verdict] | None:
        counts = [1 if count is None else count(payload) for payload in payloads]
        owners = [number for number, objects in enumerate(counts) for _ in range(objects)]
        return verdicts_by(owners, len(payloads), status, body)

    batching = Batching(perform_all, size=MAX_OBJECTS, max_size=MAX_OBJECTS, verdicts=verdicts)
    return Action(name, title, fields, perform, batching, trigger, verdict)


def update_only(payload: Payload) -> dict[str, object]:
    """Whether Braze is to leave users alone that it does not know; the newer actions have it as a mode."""
    if "_update_existing_only" in payload:
        return {"_update_existing_only": payload["_update_existing_only"]}
    return {}


def by_mode(payload: Payload) -> dict[str, object]:
    return {"_update_existing_only": sync_mode(payload, "add", "update") == "update"}


def _event(settings: Settings, payload: Payload, existing: dict[str, object]) -> list[dict[str, Any]]:
    event = user(payload) | {"name": payload["name"], "time": moment(payload, "time")} | existing
    if settings.app_id:
        event["app_id"] = settings.app_id
    if "properties" in payload:
        event["properties"] = payload["properties"]
    return [event]


def _purchases(settings: Settings, payload: Payload, existing: dict[str, object]) -> list[dict[str, Any]]:
    if not payload["products"]:
        raise InvalidPayload("products is empty")
    base = user(payload) | {"time": moment(payload, "time")} | existing
    if settings.app_id:
        base["app_id"] = settings.app_id
    shared = {key: value for key, value in payload.get("properties", {}).items() if key != "products"}
    return [base | _purchase(product, shared) for product in payload["products"]]


def _purchase(product: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """One product. The order's currency is not asked: without one of its own it is USD, as in Segment."""
    purchase: dict[str, Any] = {key: product[key] for key in ("product_id", "price", "quantity") if key in product}
    currency = product.get("currency")
    purchase["currency"] = "USD" if currency is None else currency
    purchase["properties"] = {key: value for key, value in product.items() if key not in _PRODUCT} | shared
    return purchase


def _products(payload: Payload) -> int:
    return len(payload["products"])


_EVENT_TRIGGER = 'type = "track" and event != "Order Completed"'
_PURCHASE_TRIGGER = 'event = "Order Completed"'
TRACK_ACTIONS = (
    track_action(
        "trackEvent",
        "Track Event",
        {**_EVENT, **UPDATE_ONLY, **BATCHING_FIELDS},
        "events",
        lambda settings, payload: _event(settings, payload, update_only(payload)),
        _EVENT_TRIGGER,
    ),
    track_action(
        "trackPurchase",
        "Track Purchase",
        {**_PURCHASE, **UPDATE_ONLY, **BATCHING_FIELDS},
        "purchases",
        lambda settings, payload: _purchases(settings, payload, update_only(payload)),
        _PURCHASE_TRIGGER,
        count=_products,
    ),
    track_action(
        "trackEvent2",
        "Track Event V2",
        {**_EVENT, **BATCHING_FIELDS, **MODE},
        "events",
        lambda settings, payload: _event(settings, payload, by_mode(payload)),
        _EVENT_TRIGGER,
    ),
    track_action(
        "trackPurchase2",
        "Track Purchase V2",
        {**_PURCHASE, **BATCHING_FIELDS, **MODE},
        "purchases",
        lambda settings, payload: _purchases(settings, payload, by_mode(payload)),
        _PURCHASE_TRIGGER,
        count=_products,
    ),
)
