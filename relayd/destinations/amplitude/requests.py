"""How Amplitude's actions become requests."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from relayd.actions.javascript import UNDEFINED, stringify, truthy
from relayd.config.model import doc, secret
from relayd.destinations.action import InvalidPayload, Payload
from relayd.destinations.amplitude import user_agent
from relayd.destinations.base import Request
from relayd.destinations.fields import FORM, JSON, form
from relayd.destinations.moments import milliseconds
from relayd.destinations.settings import DestinationSettings

MAX_EVENTS = 2000
"""Of a request. A purchase is one event, and one more for each product."""

_HOSTS = {"north_america": "https://api2.amplitude.com", "europe": "https://api.eu.amplitude.com"}
_MAPPING_HOSTS = {"north_america": "https://api.amplitude.com", "europe": "https://api.eu.amplitude.com"}

_AGENT = ("userAgent", "userAgentParsing", "includeRawUserAgent", "userAgentData")
_NOT_SENT = frozenset({
    *("price", "quantity", "revenue", "productId", "revenueType", "trackRevenuePerProduct"),
    *("utm_properties", "referrer", "setOnce", "setAlways", "add"),
    *("time", "session_id", "min_id_length", "library", "library2"), *_AGENT,
})  # fmt: skip
"""Fields that are turned into others. The rest leaves as it is: also ``use_batch_endpoint``, and the ``products`` of
what is not a purchase, which Amplitude ignores and Segment sends."""
_NOT_IDENTIFYING = frozenset({"utm_properties", "referrer", "min_id_length", "library", *_AGENT})
_IOS = re.compile("ios", re.IGNORECASE | re.ASCII)
_ANDROID = re.compile("android", re.IGNORECASE | re.ASCII)


class Settings(DestinationSettings, frozen=True, kw_only=True, rename="camel"):
    """Which project of Amplitude's, and where it is kept."""

    api_key: Annotated[str, secret("the project's API key", min_length=1, example="API_KEY")]
    secret_key: Annotated[str, secret("the project's secret key; not needed to send events")] = ""
    endpoint: Annotated[Literal["north_america", "europe"], doc("where the project's data is kept")] = "north_america"


def log_event(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """An event, with the campaign and the referrer as the user's properties."""
    return log_events(settings, [payload], now)


def log_event_v2(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """An event, with what it sets of the user."""
    return log_events_v2(settings, [payload], now)


def log_purchase(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """An event with its revenue, and one for each product."""
    return log_purchases(settings, [payload], now)


def log_events(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
    return _upload(settings, payloads[0], [_logged(each, _members(each, _with_origin(each))) for each in payloads])


def log_events_v2(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
    return _upload(settings, payloads[0], [_logged(each, _members(each, _with_operations(each))) for each in payloads])


def log_purchases(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
    events = [event for payload in payloads for event in _purchase(payload)]
    if len(events) > MAX_EVENTS:
        raise InvalidPayload(f"products make {len(events)} events of a request, Amplitude takes {MAX_EVENTS}")
    return _upload(settings, payloads[0], events)


def purchase_events(payload: Payload) -> int:
    """How many events `log_purchase` makes."""
    return 1 + len(payload.get("products", ()))


def identify_user(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """A user's properties."""
    _check_who(payload)
    members = {key: value for key, value in payload.items() if key not in _NOT_IDENTIFYING}
    members |= _platform(payload)
    if (properties := _with_origin(payload, wins=True)) is not None:
        members["user_properties"] = properties
    identification = _said_by_agent(payload) | members | {"library": "segment"}
    return [_identify(settings, "identify", payload, identification)]


def group_identify_user(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """That a user is of a group, unless there is no user; and the group's properties."""
    group = {payload["group_type"]: payload["group_value"]}
    member = {
        "device_id": payload.get("device_id"),
        "groups": group,
        "insert_id": payload.get("insert_id"),
        "library": "segment",
        "time": _time(payload, "time") if payload.get("time") else int(now * 1000),
        "user_id": payload.get("user_id"),
        "user_properties": group,
    }
    member = {key: value for key, value in member.items() if value is not None or key in payload}
    about = {key: payload[key] for key in ("group_properties", "group_value", "group_type") if key in payload}
    requests = [_identify(settings, "groupidentify", payload, [about | {"library": "segment"}])]
    if payload.get("user_id") or payload.get("device_id"):
        requests.insert(0, _identify(settings, "identify", payload, [member]))
    return requests


def map_user(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """That one user id is another's."""
    if missing := [key for key in ("user_id", "global_user_id") if not payload.get(key)]:
        raise InvalidPayload(f"Amplitude maps no user without {' and '.join(missing)}")
    options = {"options": stringify(found) or ""} if (found := _options(payload)) else {}
    body = form(api_key=settings.api_key, mapping=stringify([payload]) or "", **options)
    return [Request("POST", f"{_MAPPING_HOSTS[settings.endpoint]}/usermap", FORM, body)]


def _upload(settings: Settings, payload: Payload, events: Sequence[Mapping[str, object]]) -> list[Request]:
    """The request with ``events``; ``payload`` is one of those they are made of, which agree on the rest."""
    body: dict[str, object] = {"api_key": settings.api_key, "events": events}
    if options := _options(payload):
        body["options"] = options
    path = "batch" if payload.get("use_batch_endpoint") else "2/httpapi"
    return [Request("POST", f"{_HOSTS[settings.endpoint]}/{path}", JSON, msgspec.json.encode(body))]


def _identify(settings: Settings, path: str, payload: Payload, identification: object) -> Request:
    options = _options(payload)
    body = form(
        api_key=settings.api_key,
        identification=stringify(identification) or "",
        options=(stringify(options) if options else None) or "undefined",  # the word, as Segment sends it
    )
    return Request("POST", f"{_HOSTS[settings.endpoint]}/{path}", FORM, body)


def _options(payload: Payload) -> dict[str, int]:
    length = payload.get("min_id_length")
    return {"min_id_length": length} if length and length > 0 else {}


def _members(payload: Payload, user_properties: Mapping[str, object] | None) -> dict[str, Any]:
    """An event's members, but for what the user agent says and the revenue."""
    _check_who(payload)
    members = {key: value for key, value in payload.items() if key not in _NOT_SENT}
    members |= _platform(payload)
    for key in ("time", "session_id"):
        if payload.get(key):
            members[key] = _time(payload, key)
    if user_properties is not None:
        members["user_properties"] = user_properties
    library = payload.get("library2") or {}
    if library.get("behavior") != "use_mapping":
        members["library"] = "segment"
    elif "mapping" in library:
        members["library"] = library["mapping"]
    return members


def _logged(payload: Payload, members: dict[str, Any]) -> dict[str, Any]:
    if not (said := _said_by_agent(payload)):
        return members
    return {key: value for key, value in (said | members).items() if value is not UNDEFINED}


def _purchase(payload: Payload) -> list[dict[str, Any]]:
    """Its event, and one for each product: these lack what the user agent says, as Segment's do."""
    members = _members(payload, _with_origin(payload))
    products = members.pop("products", [])
    each = payload.get("trackRevenuePerProduct")
    events = [_logged(payload, members) | ({} if products and each else _revenue(payload))]
    insert_id = members.get("insert_id")
    for number, product in enumerate(products, start=2):
        event = members | (_revenue(product) if each else {})
        event["event_properties"] = product
        event["event_type"] = "Product Purchased"
        if insert_id:
            event["insert_id"] = f"{insert_id}-{number}"
        events.append(event)
    return events


def _revenue(of: Mapping[str, Any]) -> dict[str, object]:
    price, quantity = of.get("price"), of.get("quantity")
    revenue = of.get("revenue") if price is None or quantity is None else price * quantity
    if not revenue:
        return {}
    found = {
        "revenue": revenue,
        "revenueType": of.get("revenueType", "Purchase"),
        "quantity": quantity,
        "price": price,
        "productId": of.get("productId"),
    }
    return {key: value for key, value in found.items() if value is not None}


def _with_origin(payload: Payload, *, wins: bool = False) -> dict[str, object] | None:
    """The user's properties together with campaign and referrer, if there are any: the last ones and the first ones.

    The properties may have the same operations; of one property that both set, ``wins`` says which value is kept.
    """
    last = dict(payload.get("utm_properties") or {})
    if payload.get("referrer"):
        last["referrer"] = payload["referrer"]
    given: dict[str, object] | None = payload.get("user_properties")
    if not last:
        return given
    merged = {key: value for key, value in (given or {}).items() if key not in ("utm_properties", "referrer")}
    first = {f"initial_{key}": value for key, value in last.items()}
    for operator, ours in (("$set", last), ("$setOnce", first)):
        theirs = merged.get(operator)
        theirs = theirs if isinstance(theirs, dict) else {}
        merged[operator] = theirs | ours if wins else ours | theirs
    return merged


def _with_operations(payload: Payload) -> dict[str, object] | None:
    """The user's properties and what is to be done to them: operations that would do nothing are left out."""
    operations = {
        operator: payload[key]
        for operator, key in (("$setOnce", "setOnce"), ("$set", "setAlways"), ("$add", "add"))
        if any(map(truthy, (payload.get(key) or {}).values()))
    }
    given: dict[str, object] | None = payload.get("user_properties")
    return {**(given or {}), **operations} if operations else given


def _said_by_agent(payload: Payload) -> dict[str, Any]:
    """What the user agent does not say is undefined; in what Segment sends, it keeps its place."""
    text = payload.get("userAgent")
    if not text:
        return {}
    said: dict[str, Any] = {}
    if payload.get("userAgentParsing"):
        agent, data = user_agent.parse(text), payload.get("userAgentData") or {}
        said = {
            "os_name": agent.system,
            "os_version": data.get("platformVersion", agent.browser_version),
            "device_manufacturer": agent.maker,
            "device_model": data.get("model", agent.model or agent.system),
            "device_type": agent.kind,
        }
        said = {key: UNDEFINED if value is None else value for key, value in said.items()}
    if payload.get("includeRawUserAgent"):
        said["user_agent"] = text
    return said


def _platform(payload: Payload) -> dict[str, str]:
    if platform := payload.get("platform"):
        return {"platform": _ANDROID.sub("Android", _IOS.sub("iOS", platform, count=1), count=1)}
    return {"platform": "Web"} if payload.get("library") == "analytics.js" else {}


def _time(payload: Payload, key: str) -> int:
    time = milliseconds(payload[key])
    if time is None:
        raise InvalidPayload(f"{key} is written in no way that relayd reads as a time; ISO 8601 is one")
    return time


def _check_who(payload: Payload) -> None:
    if not payload.get("user_id") and not payload.get("device_id"):
        raise InvalidPayload("Amplitude takes no event without user_id or device_id")
