"""Segment: events go on to a Tracking API, of Segment or of another relayd; as they are, or as a mapping makes them.

Facts (segment.com/docs/connections/sources/catalog/libraries/server/http-api):

- ``POST /v1/batch`` takes ``{"batch": [...], "sentAt": ISO 8601}``. Basic authentication's user name is the write key.
- A batch has at most 500 KB (before compression) and 2,500 events, an event 32 KB. A KB is 1,024 bytes, as in Segment's
  SDKs (analytics-python: ``MAX_MSG_SIZE = 32 << 10``). What is larger may be dropped behind a 200; relayd does that
  to an event of a batch. So it is not sent: `Segment.requests` raises ``ValueError``, and delivery holds the event.
- ``sentAt`` is the time of the attempt: the receiver corrects an event's ``timestamp`` by how far it is from its own
  clock. It wins over a ``sentAt`` that an event has from its first hop.
- The receiver drops an event whose messageId it has seen within a day, so a retry does no harm. No header is needed.

Segment's own destination of this type (Segment Connections) makes no HTTP request: its actions hand
``{"batch": [event]}`` to Segment's pipeline. relayd sends that event to the public API, many in a batch. What the
actions make of a payload is kept: members of ``device`` go on under the fields' names (``advertising_id``), and
``properties`` win over the page's or screen's name. Where ``address`` goes is not verified: to ``traits.address``, as
in Segment's spec of traits.
"""

import gzip
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from relayd.actions.fields import Fields
from relayd.config.model import KB, doc, secret
from relayd.destinations.action import Action, Batching, InvalidPayload, Payload
from relayd.destinations.base import InvalidSettings, Request
from relayd.destinations.endpoint import USER_AGENT, check_url
from relayd.destinations.fields import Definition, at, boolean, number, table, text
from relayd.destinations.idempotency import message_id
from relayd.destinations.identity import IdentityDestination
from relayd.destinations.settings import DestinationSettings

MAX_EVENTS = 2500
MAX_BODY = 500 * KB
"""Bytes of a body before compression, at most."""
MAX_EVENT = 32 * KB
"""Bytes of an event, at most."""

_HEAD = b'{"batch":['
_TAIL = b'],"sentAt":"%s"}'
_ENVELOPE = len(_HEAD) + len(_TAIL % b"2026-01-01T00:00:00.000Z")
_ROOM = MAX_BODY - _ENVELOPE - (MAX_EVENTS - 1)
"""Bytes of events with which a full batch, its commas and its envelope fit into `MAX_BODY`."""


class Settings(DestinationSettings, frozen=True, kw_only=True, rename={"write_key": "source_write_key"}):
    """Which Tracking API, and as which of its sources."""

    write_key: Annotated[str, secret("the write key of the source there", min_length=1, example="WRITE_KEY")]
    endpoint: Annotated[
        str,
        doc("its /v1/batch; in the EU https://events.eu1.segmentapis.com/v1/batch; another relayd's is fine too"),
    ] = "https://api.segment.io/v1/batch"
    gzip: Annotated[bool, doc("whether bodies are compressed")] = True


def _texts(*names: str) -> dict[str, Definition]:
    return {name: text() for name in names}


def _numbers(*names: str) -> dict[str, Definition]:
    return {name: number() for name in names}


def _flags(*names: str) -> dict[str, Definition]:
    return {name: boolean() for name in names}


_USER = _texts("user_id", "anonymous_id", "timestamp")
_CONTEXT: dict[str, Definition] = {
    "application": table(properties=_texts("name", "version", "build", "namespace")),
    "campaign_parameters": table(properties=_texts("name", "source", "medium", "term", "content")),
    "device": table(
        properties=_texts("id", "advertising_id", "manufacturer", "model", "name", "type", "token")
        | _flags("adTracking_Enabled")
    ),
    "ip_address": text(),
    "locale": text(),
    "location": table(properties=_texts("city", "country") | _numbers("latitude", "longitude", "speed")),
    "network": table(properties=_texts("carrier") | _flags("bluetooth", "cellular", "wifi")),
    "operating_system": table(properties=_texts("name", "version")),
    "page": table(properties=_texts("path", "referrer", "search", "title", "url")),
    "screen": table(properties=_numbers("density", "height", "width")),
    "user_agent": text(),
    "timezone": text(),
}
_HIDDEN = {"message_id": text(at("messageId")), "consent": table(at("context.consent"))}
_GROUP, _TRAITS, _PROPERTIES = {"group_id": text()}, {"traits": table()}, {"properties": table()}
_ADDRESS = {"address": table(properties=_texts("street", "city", "state", "country", "postalCode"))}

_TO_CONTEXT = {
    "app": "application", "campaign": "campaign_parameters", "device": "device", "ip": "ip_address",
    "locale": "locale", "location": "location", "network": "network", "os": "operating_system", "page": "page",
    "screen": "screen", "userAgent": "user_agent", "timezone": "timezone",
}  # fmt: skip
_TO_EVENT = {"userId": "user_id", "anonymousId": "anonymous_id", "timestamp": "timestamp", "messageId": "message_id"}
_PAGE = ("path", "referrer", "search", "title", "url")


def _renamed(payload: Payload, names: dict[str, str]) -> dict[str, Any]:
    return {name: payload[key] for name, key in names.items() if key in payload}


def _start(kind: str, payload: Payload, *, group: bool = True) -> dict[str, Any]:
    """What events of all types have; ``group`` puts the group's id into the context."""
    if not payload.get("user_id") and not payload.get("anonymous_id"):
        raise InvalidPayload("user_id and anonymous_id are missing, one of them is required")
    context = _renamed(payload, _TO_CONTEXT) | {"consent": payload.get("consent", {})}
    if group and "group_id" in payload:
        context["groupId"] = payload["group_id"]
    return {"type": kind, "context": context, **_renamed(payload, _TO_EVENT)}


def _track(payload: Payload) -> dict[str, Any]:
    event = _start("track", payload)
    event["context"]["traits"] = payload.get("traits", {})
    return event | {"event": payload["event_name"], "properties": payload.get("properties", {})}


def _identify(payload: Payload) -> dict[str, Any]:
    address = {"address": payload["address"]} if "address" in payload else {}
    return _start("identify", payload) | {"traits": address | payload.get("traits", {})}


def _page(payload: Payload) -> dict[str, Any]:
    page = payload.get("page", {})
    seen = _renamed(payload, {"name": "page_name", "category": "page_category"})
    seen |= {name: page[name] for name in _PAGE if name in page}
    event = _start("page", payload) | {"properties": seen | payload.get("properties", {})}
    return event | _renamed(payload, {"name": "page_name"})


def _screen(payload: Payload) -> dict[str, Any]:
    name = _renamed(payload, {"name": "screen_name"})
    return _start("screen", payload) | {"properties": name | payload.get("properties", {})} | name


def _group(payload: Payload) -> dict[str, Any]:
    event = _start("group", payload, group=False)
    return event | {"groupId": payload["group_id"], "traits": payload.get("traits", {})}


def _encoded(make: Callable[[Payload], dict[str, Any]], payload: Payload) -> bytes:
    event = msgspec.json.encode(make(payload))
    if len(event) > MAX_EVENT:
        raise InvalidPayload(f"the event would have {len(event)} bytes, a Tracking API takes {MAX_EVENT}")
    return event


def _action(kind: str, make: Callable[[Payload], dict[str, Any]], fields: Fields) -> Action:
    """An action that sends one type of event."""

    def perform(settings: Settings, payload: Payload, now: float) -> list[Request]:
        return _requests(settings, [[_encoded(make, payload)]], now)

    def perform_batch(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
        return _requests(settings, [[_encoded(make, payload) for payload in payloads]], now)

    return Action(
        name=f"send{kind.title()}",
        title=f"Send {kind.title()}",
        fields=fields,
        perform=perform,
        batching=Batching(perform=perform_batch, size=100, max_size=MAX_EVENTS, max_bytes=_ROOM),
        trigger=f'type = "{kind}"',
    )


_BASE = {**_USER, **_CONTEXT, **_HIDDEN}
_ACTIONS = (
    _action("identify", _identify, {**_BASE, **_GROUP, **_TRAITS, **_ADDRESS}),
    _action("group", _group, {**_BASE, "group_id": text(required=True), **_TRAITS}),
    _action("screen", _screen, {**_BASE, **_texts("screen_name"), **_GROUP, **_PROPERTIES}),
    _action("page", _page, {**_BASE, **_texts("page_name", "page_category"), **_GROUP, **_PROPERTIES}),
    _action("track", _track, {**_BASE, "event_name": text(required=True), **_GROUP, **_PROPERTIES, **_TRAITS}),
)


class Segment(IdentityDestination[Settings]):
    """Forwards events to a Tracking API."""

    type = "segment"
    title = "Segment"
    names = ("Segment", "Actions Segment", "Segment Connections")
    settings = Settings
    batch_size = 100
    max_batch_size = MAX_EVENTS
    batch_bytes = _ROOM
    actions = {each.name: each for each in _ACTIONS}  # noqa: RUF012  a ClassVar of the base

    def check(self, settings: Settings) -> None:
        check_url("endpoint", settings.endpoint)
        if ":" in settings.write_key or not settings.write_key.isprintable():
            raise InvalidSettings("source_write_key must not hold a colon or a control character")

    def pass_on(self, settings: Settings, events: Sequence[bytes], *, batch: bool, now: float) -> list[Request]:
        for event in events:
            if len(event) > MAX_EVENT:
                raise ValueError(
                    f"event {message_id(event)!r} has {len(event)} bytes, a Tracking API takes {MAX_EVENT}"
                )
        if not events:
            return []
        return _requests(settings, [events] if batch else [[event] for event in events], now)


def _requests(settings: Settings, batches: Sequence[Sequence[bytes]], now: float) -> list[Request]:
    """A request for each batch of encoded events."""
    credentials = b64encode(f"{settings.write_key}:".encode()).decode()
    headers = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "authorization": f"Basic {credentials}",
    }
    if settings.gzip:
        headers["content-encoding"] = "gzip"
    sent_at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    tail = _TAIL % sent_at.encode()
    bodies = [_HEAD + b",".join(each) + tail for each in batches]
    for body in bodies:
        if len(body) > MAX_BODY:
            raise ValueError(f"the batch would have {len(body)} bytes, a Tracking API takes {MAX_BODY}")
    return [
        Request("POST", settings.endpoint, headers, gzip.compress(body, 1, mtime=0) if settings.gzip else body)
        for body in bodies
    ]
