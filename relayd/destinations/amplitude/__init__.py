"""Amplitude: events, purchases, and the properties of users and groups. Segment's Amplitude (Actions).

Facts (amplitude.com/docs/apis/analytics/http-v2, /batch-event-upload, /identify, /group-identify, /user-mapping):

- ``POST /2/httpapi`` takes ``{"api_key", "events", "options"?}`` as JSON, at api2.amplitude.com or
  api.eu.amplitude.com; 2,000 events and 1 MB a request. ``/batch`` takes the same, in up to 20 MB. A user or a device
  may send 30 events a second to the one, 1,000 to the other. Amplitude advises small plans to send no more than 10
  events a request.
- ``/identify`` and ``/groupidentify`` take a form with ``api_key`` and JSON in ``identification``; ``/usermap``, at
  api.amplitude.com, one with ``mapping``.
- Every event needs ``event_type`` and one of ``user_id`` and ``device_id``, of 5 characters or what ``min_id_length``
  says; ``time`` in milliseconds. An ``insert_id`` seen within 7 days is dropped.
- 400 and 429 name the events that are at fault (`relayd.destinations.amplitude.verdicts`).

Segment sends one request an event; relayd sends many in one, those of equal ``use_batch_endpoint`` and
``min_id_length``. What it keeps of Segment's ways, found by running its engine or read in
segmentio/action-destinations: ``use_batch_endpoint`` and ``products`` leak into events; an event that is no purchase
has no revenue; a form without options says ``options=undefined``; a product's event lacks what the user agent says.
What it does otherwise: ``insert_id`` is the messageId by default; an event that names no user and no device, and a
mapping that lacks a side, are refused before they are sent; that a user is of a group is only said where there is one.

Left out: the preset "Browser Session Tracking", which runs in the browser and not in Segment's cloud.
"""

from collections.abc import Sequence
from types import MappingProxyType

from relayd.destinations.action import Action, ActionDestination, Batching, Preset, defaults
from relayd.destinations.amplitude import definitions, requests
from relayd.destinations.amplitude.deletion import deletions
from relayd.destinations.amplitude.requests import Settings
from relayd.destinations.amplitude.verdicts import Verdicts
from relayd.destinations.base import Request

__all__ = ["Amplitude", "Settings"]

_KEYS = ("use_batch_endpoint", "min_id_length")
_MAX_BYTES = 1_000_000
_ONE_EVENT = Verdicts(lambda payload: 1)
_PURCHASE = Verdicts(requests.purchase_events)
_VIEWED = {"@template": "Viewed {{name}}"}

ACTIONS = (
    Action(
        "logEvent",
        "Log Event",
        definitions.LOG_EVENT,
        requests.log_event,
        Batching(requests.log_events, 100, requests.MAX_EVENTS, _MAX_BYTES, _KEYS, _ONE_EVENT.of_batch),
        trigger='type = "track"',
        verdicts=_ONE_EVENT.of_one,
    ),
    Action(
        "logEventV2",
        "Log Event V2",
        definitions.LOG_EVENT_V2,
        requests.log_event_v2,
        Batching(requests.log_events_v2, 100, requests.MAX_EVENTS, _MAX_BYTES, _KEYS, _ONE_EVENT.of_batch),
        trigger='type = "track"',
        verdicts=_ONE_EVENT.of_one,
    ),
    Action(
        "logPurchase",
        "Log Purchase",
        definitions.LOG_PURCHASE,
        requests.log_purchase,
        Batching(requests.log_purchases, 50, requests.MAX_EVENTS, _MAX_BYTES, _KEYS, _PURCHASE.of_batch),
        trigger='type = "track"',
        verdicts=_PURCHASE.of_one,
    ),
    Action(
        "identifyUser",
        "Identify User",
        definitions.IDENTIFY_USER,
        requests.identify_user,
        trigger='type = "identify"',
    ),
    Action(
        "groupIdentifyUser",
        "Group Identify User",
        definitions.GROUP_IDENTIFY_USER,
        requests.group_identify_user,
        trigger='type = "group"',
    ),
    Action("mapUser", "Map User", definitions.MAP_USER, requests.map_user, trigger='type = "alias"'),
)
PRESETS = (
    Preset("Track Calls", "logEventV2", 'type = "track" and event != "Order Completed"'),
    Preset("Order Completed Calls", "logPurchase", 'type = "track" and event = "Order Completed"'),
    Preset("Page Calls", "logEventV2", 'type = "page"', defaults(definitions.LOG_EVENT_V2, event_type=_VIEWED)),
    Preset("Screen Calls", "logEventV2", 'type = "screen"', defaults(definitions.LOG_EVENT_V2, event_type=_VIEWED)),
    Preset("Identify Calls", "identifyUser", 'type = "identify"'),
)


class Amplitude(ActionDestination[Settings]):
    """Amplitude, product analytics."""

    type = "amplitude"
    title = "Amplitude"
    names = ("Actions Amplitude", "Amplitude (Actions)", "Amplitude")
    settings = Settings
    deletes = True
    actions = MappingProxyType({action.name: action for action in ACTIONS})
    presets = PRESETS

    def deletions(self, settings: Settings, ids: Sequence[str], now: float) -> list[Request]:
        """See `Destination.deletions`."""
        return deletions(settings, ids)
