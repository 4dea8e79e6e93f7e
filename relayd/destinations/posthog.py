"""PostHog: events, and what is known of people. Segment's PostHog (Actions).

Facts (posthog.com/docs/api/capture, /docs/data/anonymous-vs-identified-events, /docs/data/ingestion-warnings; PostHog's
rust/capture for status codes):

- ``POST /batch/`` takes ``{"api_key", "historical_migration", "batch": [...]}`` as JSON: any number of events, 20 MB in
  all and 1 MB each. ``POST /i/v0/e/`` takes one event, with ``api_key`` in it. The key is the project's, which is no
  secret to PostHog: it can only write.
- An event needs ``event`` and a ``distinct_id``, there or in its properties. A ``timestamp`` that is no ISO 8601 is
  ignored. A ``uuid`` must be one; of events that agree in it, their name, their distinct id and their day, ClickHouse
  keeps one.
- An event with ``$process_person_profile`` false is anonymous: no person is made of it.
- A request is taken or refused (400, 401, 413, 429, 503) as a whole. A 200 with ``quota_limited`` took no events.

Segment's ways that are kept (read in segmentio/action-destinations, and its requests): ``$process_person_profile`` is
the field ``anonymous_event_capture``, whose name promises the opposite, so by default all events are anonymous; time is
``receivedAt``; a page's and a screen's names are ``$pageview`` and ``$screen``.

What relayd does otherwise: an event without a userId is anonymous and of its anonymousId, where Segment's fails; an
identify without one sets properties (``$set``) of that id and does not call it a known user, so that PostHog can still
merge it into one; an event has a ``uuid``, made of its messageId, when the mapping has ``message_id``, as the presets
do. ``anonymous_id`` is implied in any mapping; Segment has neither field. ``endpoint`` may be one's own PostHog.

Not verified: that ``geoip_disable`` is sent as ``$geoip_disable``.
"""

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote
from uuid import UUID, uuid5

import msgspec
from msgspec import Struct

from relayd.actions.fields import Fields
from relayd.config.model import doc, secret
from relayd.destinations.action import (
    Action,
    ActionDestination,
    Batching,
    InvalidPayload,
    Payload,
    Preset,
    Verdict,
    defaults,
)
from relayd.destinations.base import Request
from relayd.destinations.endpoint import check_url
from relayd.destinations.fields import JSON, at, boolean, moment, number, table, text
from relayd.destinations.moments import iso
from relayd.destinations.settings import DestinationSettings
from relayd.event import parse_time

MAX_BODY = 20_000_000
"""Bytes of a request's body."""
_MAX_EVENTS = 10_000
"""relayd's own limit; PostHog has none."""
_MAX_DELETED = 1000
"""People that one request may delete."""
_NAMESPACE = UUID("6b2f1c0e-5d0a-5d43-9a43-5b0c6b8a1f57")
"""Of the UUIDs that are made of messageIds. It must never change: a retry would no longer be known."""


class Settings(DestinationSettings, frozen=True, kw_only=True):
    """Which project, and where it is."""

    api_key: Annotated[str, secret("the project's API key", min_length=1, example="phc_KEY")]
    project_id: Annotated[str, doc("the project's number; only needed to delete users")] = ""
    personal_api_key: Annotated[
        str, secret("a personal API key that may write persons; only needed to delete users with `--forward`")
    ] = ""
    endpoint: Annotated[
        str, doc("where events go; in the EU https://eu.i.posthog.com; a PostHog of your own is fine too")
    ] = "https://us.i.posthog.com"
    historical_migration: Annotated[bool, doc("true: old events, which set off no alarm for a sudden rise")] = False
    geoip_disable: Annotated[bool, doc("true: no place is looked up for an event's address")] = False


_WHO: Fields = {
    "distinct_id": text(at("userId"), required={"conditions": [{"fieldKey": "anonymous_id", "operator": "is"}]}),
    "anonymous_id": text(at("anonymousId"), implied=True),
    "message_id": text(at("messageId")),
    "ip_address": text(at("context.ip"), allowNull=True),
}
"""``distinct_id`` is required when there is no ``anonymous_id``."""

EVENT: Fields = {
    "event_type": text("track", required=True, choices=["track", "page", "screen"]),
    "event_name": text(at("event"), required=True),
    **_WHO,
    "properties": table(at("properties")),
    "current_url": text(
        at("context.page.url"),
        required={"conditions": [{"fieldKey": "event_type", "operator": "is", "value": "page"}]},
    ),
    "screen_name": text(
        at("name"), required={"conditions": [{"fieldKey": "event_type", "operator": "is", "value": "screen"}]}
    ),
    "anonymous_event_capture": boolean(False, required=True),
    "timestamp": moment(at("receivedAt")),
    "enable_batching": boolean(False, required=True),
    "batch_size": number(100),
}
IDENTIFY: Fields = {**_WHO, "properties": table(at("traits"), required=True), "timestamp": moment(at("timestamp"))}


def capture(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """One event. Raises `InvalidPayload`."""
    return capture_batch(settings, [payload], now)


def capture_batch(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
    """The events in one request. Raises `InvalidPayload`."""
    body = {
        "api_key": settings.api_key,
        "historical_migration": settings.historical_migration,
        "batch": [_event(settings, payload) for payload in payloads],
    }
    return [_request(settings, "/batch/", body)]


def identify(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """What is known of a person; without a userId, of an anonymous one. Raises `InvalidPayload`."""
    distinct_id, anonymous = _who(payload)
    body: dict[str, object] = {
        "event": "$set" if anonymous else "$identify",
        "api_key": settings.api_key,
        "distinct_id": distinct_id,
        "properties": {"$set": payload["properties"], **_place(settings, payload)},
        **_when(payload),
    }
    return [_request(settings, "/i/v0/e/", body)]


def _request(settings: Settings, path: str, body: dict[str, object]) -> Request:
    return Request("POST", settings.endpoint.rstrip("/") + path, JSON, msgspec.json.encode(body))


def _event(settings: Settings, payload: Payload) -> dict[str, object]:
    distinct_id, anonymous = _who(payload)
    properties = dict(payload.get("properties", {}))
    match payload["event_type"]:
        case "page":
            name = "$pageview"
            properties["$current_url"] = payload["current_url"]
        case "screen":
            name = "$screen"
            properties["$screen_name"] = payload["screen_name"]
        case _:
            name = payload["event_name"]
    properties["distinct_id"] = distinct_id
    properties["$process_person_profile"] = not anonymous and payload["anonymous_event_capture"]
    properties |= _place(settings, payload)
    return {"event": name, "properties": properties, **_when(payload)}


def _who(payload: Payload) -> tuple[str, bool]:
    """The distinct id, and whether it is an anonymousId."""
    if distinct_id := payload.get("distinct_id"):
        return distinct_id, False
    if anonymous_id := payload.get("anonymous_id"):
        return anonymous_id, True
    raise InvalidPayload("distinct_id and anonymous_id: one of them must be set")


def _place(settings: Settings, payload: Payload) -> dict[str, object]:
    """The address, by which PostHog finds the place, and whether it may."""
    place = {"$ip": payload["ip_address"]} if "ip_address" in payload else {}
    return place | {"$geoip_disable": True} if settings.geoip_disable else place


def _when(payload: Payload) -> dict[str, object]:
    """The time, in ISO 8601 if it can be, and the UUID by which PostHog knows an event that comes again."""
    made: dict[str, object] = {}
    time = payload.get("timestamp")
    if time is not None:
        made["timestamp"] = time if isinstance(time, str) and parse_time(time) is not None else iso(time) or time
    if message_id := payload.get("message_id"):
        made["uuid"] = _uuid(message_id)
    return made


def _uuid(message_id: str) -> str:
    """The messageId itself, if it is a UUID, else one that is made of it."""
    try:
        return str(UUID(message_id))
    except ValueError:
        return str(uuid5(_NAMESPACE, message_id))


class _Answer(Struct):
    quota_limited: list[str] | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def verdict(payload: Payload, status: int, body: bytes) -> Verdict | None:
    """PostHog answers 200 to events that it drops because the plan's quota is used up."""
    try:
        limited = status == 200 and _decode(body).quota_limited
    except msgspec.DecodeError:
        return None
    return (
        Verdict("hold", "QUOTA_LIMITED", f"PostHog dropped it: over the quota of {', '.join(limited)}")
        if limited
        else None
    )


def verdicts(payloads: Sequence[Payload], status: int, body: bytes) -> Sequence[Verdict] | None:
    """As `verdict`, which holds for all events of a request."""
    one = verdict({}, status, body)
    return None if one is None else [one] * len(payloads)


_ACTIONS = (
    Action(
        "event",
        "Track Event",
        EVENT,
        capture,
        Batching(capture_batch, 100, _MAX_EVENTS, max_bytes=MAX_BODY, verdicts=verdicts),
        trigger='type = "track"',
        verdicts=verdict,
    ),
    Action("identify", "Identify", IDENTIFY, identify, trigger='type = "identify"', verdicts=verdict),
)
ACTIONS = {action.name: action for action in _ACTIONS}
PRESETS = (
    Preset("Track Event", "event", 'type = "track"'),
    Preset("Page View", "event", 'type = "page"', defaults(EVENT, event_type="page", event_name="$pageview")),
    Preset("Screen View", "event", 'type = "screen"', defaults(EVENT, event_type="screen", event_name="$screenview")),
    Preset("Identify", "identify", 'type = "identify"'),
)


class PostHog(ActionDestination[Settings]):
    """PostHog, product analytics."""

    type = "posthog"
    title = "PostHog"
    names = ("Actions Posthog", "Actions PostHog", "Posthog", "PostHog")
    settings = Settings
    deletes = True
    actions = ACTIONS
    presets = PRESETS

    def check(self, settings: Settings) -> None:
        check_url("endpoint", settings.endpoint)

    def deletions(self, settings: Settings, ids: Sequence[str], now: float) -> list[Request]:
        """See `Destination.deletions`.

        ``POST /api/projects/ID/persons/bulk_delete/`` takes up to 1,000 distinct ids, at us.posthog.com, eu.posthog.com
        or one's own PostHog (posthog.com/docs/api/persons, /docs/privacy/data-deletion).
        """
        if not settings.personal_api_key or not settings.project_id:
            raise ValueError("personal_api_key and project_id are not both set, which PostHog's deletion needs")
        host = settings.endpoint.rstrip("/").replace(".i.posthog.com", ".posthog.com")
        url = f"{host}/api/projects/{quote(settings.project_id, safe='')}/persons/bulk_delete/"
        headers = JSON | {"authorization": f"Bearer {settings.personal_api_key}"}
        return [
            Request(
                "POST",
                url,
                headers,
                msgspec.json.encode({"distinct_ids": ids[start : start + _MAX_DELETED], "delete_events": True}),
            )
            for start in range(0, len(ids), _MAX_DELETED)
        ]
