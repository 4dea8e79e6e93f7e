"""The request that an action makes: one event, with who did it and when."""

import re
from functools import lru_cache
from math import isfinite
from typing import Any
from urllib.parse import quote

import msgspec

from relayd.actions.fields import Fields
from relayd.actions.javascript import to_number
from relayd.destinations.action import Action, InvalidPayload, Payload
from relayd.destinations.base import Request
from relayd.destinations.fields import JSON
from relayd.destinations.google_analytics_4 import parameters
from relayd.destinations.google_analytics_4.currencies import CURRENCIES
from relayd.destinations.google_analytics_4.definitions import SHARED
from relayd.destinations.google_analytics_4.settings import Settings
from relayd.destinations.moments import milliseconds

Parameters = dict[str, Any]


def event_action(name: str, title: str, fields: Fields, trigger: str, *, promoted: bool = False) -> Action:
    """An action for one of Google's events, which is called as the action is, but add_to_cart and not addToCart.

    ``promoted`` if its items have to name a promotion.
    """
    event = re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name)
    own = tuple(key for key in fields if key not in SHARED)

    def perform(settings: Settings, payload: Payload, now: float) -> list[Request]:
        params = {key: payload[key] for key in own if key in payload}
        _check_money(params)
        if "items" in params:
            params["items"] = [_item(item, promoted) for item in params["items"]]
        return [_request(settings, payload, event, params)]

    return Action(name=name, title=title, fields=fields, perform=perform, trigger=trigger)


def custom_event(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """An event of any name, with an event's properties as parameters."""
    name = parameters.event_name(payload["name"], lowercase=payload.get("lowercase", False))
    fitted = parameters.fit(payload.get("properties", {}), {"engagement_time_msec", *payload.get("params", {})})
    return [_request(settings, payload, name, fitted)]


def _request(settings: Settings, payload: Payload, name: str, params: Parameters) -> Request:
    if (engagement := payload.get("engagement_time_msec")) is not None:
        params["engagement_time_msec"] = engagement
    if more := payload.get("params"):
        parameters.check("params", more)
        params |= more
    url, body = _stream(settings, payload)
    body["events"] = [{"name": name, "params": params}]
    if user_id := payload.get("user_id"):
        body["user_id"] = user_id
    if at := payload.get("timestamp_micros"):
        body["timestamp_micros"] = _micros(at)
    if properties := payload.get("user_properties"):
        parameters.check("user_properties", properties, nulls=True)
        body["user_properties"] = {key: {"value": value} for key, value in properties.items()}
    consent = {
        of: payload[f"{of}_consent"] for of in ("ad_user_data", "ad_personalization") if f"{of}_consent" in payload
    }
    if consent:
        body["consent"] = consent
    return Request("POST", url, JSON, msgspec.json.encode(body))


def _stream(settings: Settings, payload: Payload) -> tuple[str, dict[str, Any]]:
    """Where the event goes, and the body with the id of the client or of the app's installation."""
    if payload.get("data_stream_type") == "Mobile App":
        instance = payload.get("app_instance_id")
        if not instance:
            raise InvalidPayload("app_instance_id is missing, an app stream requires it")
        if not settings.firebase_app_id:
            raise InvalidPayload("firebaseAppId is not set, an app stream requires it")
        url = _url(settings.endpoint, settings.api_secret, "firebase_app_id", settings.firebase_app_id)
        return url, {"app_instance_id": instance}
    client = payload.get("client_id") or payload.get("clientId")
    if not client:
        raise InvalidPayload("client_id is missing, a web stream requires it")
    if not settings.measurement_id:
        raise InvalidPayload("measurementId is not set, a web stream requires it")
    return _url(settings.endpoint, settings.api_secret, "measurement_id", settings.measurement_id), {
        "client_id": client
    }


@lru_cache
def _url(endpoint: str, api_secret: str, name: str, stream: str) -> str:
    return f"{endpoint}?api_secret={quote(api_secret, safe='')}&{name}={quote(stream, safe=':')}"


def _micros(text: str) -> float:
    """Unix microseconds of an ISO 8601 time; a number is taken to be just that."""
    number = to_number(text)
    if isfinite(number):
        return number
    time = milliseconds(text)
    if time is None:
        raise InvalidPayload("timestamp_micros is no time")
    return time * 1000


def _check_money(params: Parameters) -> None:
    if currency := params.get("currency"):
        params["currency"] = _currency(currency, "currency")
    elif params.get("value"):
        raise InvalidPayload("currency is missing, it is required if there is a value")


def _currency(text: str, field: str) -> str:
    code = text.upper()
    if code not in CURRENCIES:
        raise InvalidPayload(f"{field} is no currency code of ISO 4217")
    return code


def _item(item: dict[str, Any], promoted: bool) -> dict[str, Any]:
    if "item_id" not in item and "item_name" not in item:
        raise InvalidPayload("items has one without item_id and item_name, one of them is required")
    if promoted and "promotion_id" not in item and "promotion_name" not in item:
        raise InvalidPayload("items has one without promotion_id and promotion_name, one of them is required")
    if currency := item.get("currency"):
        return item | {"currency": _currency(currency, "items.currency")}
    return item
