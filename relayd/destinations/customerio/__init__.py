"""Customer.io: people, objects, their events and devices, by the Track API.

Facts

- ``POST /api/v2/entity`` takes one entity, ``POST /api/v2/batch`` takes ``{"batch": [entity, ...]}`` of less than
  500 kB, whose entities may be of any kinds (Customer.io's Track API reference). An entity has 32 kB at most (not
  verified: from others' notes). ``POST /api/v1/metrics`` takes what became of a message. In the EU the host is
  track-eu.
- Basic authentication: the site id and the API key.
- A batch is answered 200, or 207 when entities of it are refused: ``errors`` of ``batch_index``, ``reason`` (required,
  invalid), ``field`` and ``message``. An entity that no error names was taken (segmentio/action-destinations#3657).
- 100 requests a second is fair use; above it, 429.
- Customer.io drops an event whose ``id`` it has had. It asks for a ULID; Segment sends the messageId as it is, and so
  does relayd. Other entities say what is so, and may come twice.

Quirks of Segment's that are kept: dates in a person's relationship attributes stay texts, those in an object's do not;
an object gets the anonymous id as an attribute. Not kept: ids and names that look like a date stay texts; and what
names neither a person nor an object is held, where Segment sends it to be refused.
"""

from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import msgspec

from relayd.actions.fields import Fields
from relayd.config.model import doc, secret
from relayd.destinations.action import (
    DELIVERED,
    Action,
    ActionDestination,
    Batching,
    Payload,
    Preset,
    Verdict,
)
from relayd.destinations.base import InvalidSettings, Request
from relayd.destinations.customerio import definitions, entities
from relayd.destinations.customerio.definitions import TRIGGERS
from relayd.destinations.fields import JSON
from relayd.destinations.settings import DestinationSettings

__all__ = ["Customerio", "Settings"]

MAX_BODY = 500_000 - 1
"""Bytes of a batch, at most."""
REASONS = frozenset({"required", "invalid"})
"""Why Customer.io refuses an entity of a batch; another reason is counted as invalid."""


class Settings(DestinationSettings, frozen=True, kw_only=True, rename="camel"):
    """Which workspace, and where it is."""

    site_id: Annotated[str, secret("the site id of the workspace's Track API credentials", min_length=1, example="ID")]
    api_key: Annotated[str, secret("the API key of the same credentials", min_length=1, example="KEY")]
    account_region: Annotated[
        Literal["US 🇺🇸", "EU 🇪🇺", "US", "EU"], doc("where the account's data is kept; the flag is Segment's spelling")
    ] = "US 🇺🇸"


class _Answer(msgspec.Struct):
    """Of a batch."""

    errors: list[dict[str, Any]] | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def batch_verdicts(payloads: Sequence[Payload], status: int, body: bytes) -> Sequence[Verdict] | None:
    """One for each entity of a batch, by the errors that name it.

    After a 400 that names some, the others are tried again: they are not known to have been taken.
    """
    if not 200 <= status < 300 and status != 400:
        return None
    try:
        errors = _decode(body).errors or []
    except msgspec.DecodeError:
        return None
    refused: dict[int, Verdict] = {}
    for error in errors:
        index = error.get("batch_index")
        if type(index) is int and 0 <= index < len(payloads):
            refused.setdefault(index, _refusal(error))
    if not refused:
        return None
    others = DELIVERED if status < 300 else Verdict("retry", str(status), "another event of its batch was refused")
    return [refused.get(index, others) for index in range(len(payloads))]


def _refusal(error: dict[str, Any]) -> Verdict:
    reason = str(error.get("reason") or "")
    said = [str(error[key]) for key in ("field", "message") if error.get(key)]
    return Verdict("hold", reason if reason in REASONS else "invalid", ": ".join(said) or reason)


def _request(settings: Settings, path: str, body: object) -> Request:
    europe = settings.account_region.startswith("EU")
    host = "https://track-eu.customer.io" if europe else "https://track.customer.io"
    credentials = b64encode(f"{settings.site_id}:{settings.api_key}".encode()).decode()
    headers = JSON | {"authorization": f"Basic {credentials}"}
    return Request("POST", f"{host}/api/{path}", headers, msgspec.json.encode(body))


def _report(settings: Settings, payload: Payload, now: float) -> list[Request]:
    return [_request(settings, "v1/metrics", entities.metric(payload, now))]


def _action(name: str, title: str, fields: Fields, make: Callable[[Payload], entities.Entity]) -> Action:
    """An action that sends one entity of a payload, or many of many."""

    def perform(settings: Settings, payload: Payload, now: float) -> list[Request]:
        return [_request(settings, "v2/entity", make(payload))]

    def perform_all(settings: Settings, payloads: Sequence[Payload], now: float) -> list[Request]:
        return [_request(settings, "v2/batch", {"batch": [make(payload) for payload in payloads]})]

    batching = Batching(perform_all, size=50, max_size=100, max_bytes=MAX_BODY, verdicts=batch_verdicts)
    return Action(name, title, fields, perform, batching, TRIGGERS[name])


_ACTIONS = (
    _action("createUpdatePerson", "Create or Update Person", definitions.CREATE_UPDATE_PERSON, entities.person_entity),
    _action("createUpdateDevice", "Create or Update Device", definitions.CREATE_UPDATE_DEVICE, entities.device_entity),
    _action("deleteDevice", "Delete Device", definitions.DELETE_DEVICE, entities.lost_device_entity),
    _action(
        "deleteRelationship",
        "Delete Relationship",
        definitions.DELETE_RELATIONSHIP,
        entities.lost_relationship_entity,
    ),
    _action("deletePerson", "Delete Person", definitions.PERSON_ONLY, entities.lost_person_entity),
    _action("deleteObject", "Delete Object", definitions.DELETE_OBJECT, entities.lost_object_entity),
    _action("trackEvent", "Track Event", definitions.TRACK_EVENT, entities.event_entity),
    _action("trackPageView", "Track Page View", definitions.TRACK_PAGE_VIEW, entities.page_entity),
    _action("trackScreenView", "Track Screen View", definitions.TRACK_SCREEN_VIEW, entities.screen_entity),
    _action("createUpdateObject", "Create or Update Object", definitions.CREATE_UPDATE_OBJECT, entities.object_entity),
    _action("mergePeople", "Merge People", definitions.MERGE_PEOPLE, entities.merge_entity),
    _action("suppressPerson", "Suppress Person", definitions.PERSON_ONLY, entities.suppressed_person_entity),
    _action("unsuppressPerson", "Unsuppress Person", definitions.PERSON_ONLY, entities.unsuppressed_person_entity),
    Action(
        "reportDeliveryEvent",
        "Report Delivery Event",
        definitions.REPORT_DELIVERY_EVENT,
        _report,
        trigger=TRIGGERS["reportDeliveryEvent"],
    ),
    _action("reportContentEvent", "Report Content Event", definitions.REPORT_CONTENT_EVENT, entities.content_entity),
)
_BY_NAME = {action.name: action for action in _ACTIONS}


class Customerio(ActionDestination[Settings]):
    """Sends people, objects and events to Customer.io."""

    type = "customerio"
    title = "Customer.io"
    names = ("Actions Customerio", "Customer.io (Actions)")
    settings = Settings
    deletes = True
    actions = _BY_NAME
    presets = tuple(Preset(each.title, each.name, each.trigger) for each in _ACTIONS)

    def check(self, settings: Settings) -> None:
        if ":" in settings.site_id or not settings.site_id.isprintable():
            raise InvalidSettings("siteId must not hold a colon or a control character")
        if not settings.api_key.isprintable():
            raise InvalidSettings("apiKey must not hold a control character")

    def deletions(self, settings: Settings, ids: Sequence[str], now: float) -> list[Request]:
        """See `Destination.deletions`. One person a request, whose answer is then clear."""
        return [
            _request(settings, "v2/entity", {"type": "person", "action": "delete", "identifiers": {"id": each}})
            for each in ids
        ]
