"""Mixpanel: events, purchases, and the profiles of users and groups. Segment's Mixpanel (Actions).

Facts (docs.mixpanel.com/reference: import-events, track-event, profile-set, profile-numerical-add, group-set-property,
event-deduplication; docs.mixpanel.com/troubleshooting/errors):

- Hosts are api.mixpanel.com, api-eu and api-in; a project is in one of them.
- ``POST /import?strict=1`` takes a JSON array of events: 2,000 and 10 MB (formerly 2 MB) a request, 1 MB each. Basic
  authentication's user name is the project's secret or its token, the password is empty. Each event needs ``event``,
  ``time`` in milliseconds, ``distinct_id`` and ``$insert_id``. Events that agree in these four are one.
- 400 has ``failed_records``; the others were imported. 413 is a body too large; 429, 502 and 503 are to be retried.
- ``POST /track``, ``/engage`` and ``/groups`` take a form with JSON in ``data``, and the token in that. They answer 200
  with "1", or with "0" to what they do not take.

Segment's ways that are kept, found by running its engine or read in segmentio/action-destinations: ``$device_id`` is
the anonymousId; ``device_id`` and ``region`` are fields that nothing is made of; a product's event is a millisecond
earlier than the one before it; ``mp_lib`` is "Segment Actions: LIBRARY".

What relayd does otherwise: a messageId that Mixpanel would not take becomes a digest, where Segment's event is refused;
without one there is no random id; an alias or a profile update that names nobody is refused before it is sent.

Not verified: that the parts of ``userAgentData`` are sent under their own names; which of ``created``, ``created_at``
and ``createdAt`` wins.
"""

from collections.abc import Sequence

from relayd.destinations.action import Action, ActionDestination, Batching, Preset, defaults
from relayd.destinations.base import Request
from relayd.destinations.mixpanel import definitions, events, profiles
from relayd.destinations.mixpanel.deletion import deletions
from relayd.destinations.mixpanel.settings import Settings

__all__ = ["Mixpanel", "Settings"]

_PURCHASES = 400
"""Orders a request when the configuration does not say: of up to four products on average."""
_VIEWED = {"@template": "Viewed {{name}}"}

_ACTIONS = (
    Action(
        "trackEvent",
        "Track Event",
        definitions.TRACK_EVENT,
        events.track_event,
        Batching(
            events.track_events, 1000, events.MAX_EVENTS, max_bytes=events.MAX_BODY, verdicts=events.events_verdicts
        ),
        trigger='type = "track"',
        verdicts=events.alone(events.events_verdicts),
    ),
    Action(
        "trackPurchase",
        "Track Purchase",
        definitions.TRACK_PURCHASE,
        events.track_purchase,
        Batching(
            events.track_purchases,
            _PURCHASES,
            events.MAX_EVENTS,
            max_bytes=events.MAX_BODY,
            verdicts=events.purchases_verdicts,
        ),
        trigger='type = "track"',
        verdicts=events.alone(events.purchases_verdicts),
    ),
    Action(
        "identifyUser",
        "Identify User",
        definitions.IDENTIFY_USER,
        profiles.identify_user,
        trigger='type = "identify"',
        verdicts=profiles.verdict,
    ),
    Action(
        "groupIdentifyUser",
        "Group Identify User",
        definitions.GROUP_IDENTIFY_USER,
        profiles.group_identify_user,
        trigger='type = "group"',
        verdicts=profiles.verdict,
    ),
    Action("alias", "Alias", definitions.ALIAS, profiles.alias, trigger='type = "alias"', verdicts=profiles.verdict),
    Action(
        "incrementProperties",
        "Increment Properties",
        definitions.INCREMENT_PROPERTIES,
        profiles.increment_properties,
        trigger='type = "track"',
        verdicts=profiles.verdict,
    ),
)
ACTIONS = {action.name: action for action in _ACTIONS}
PRESETS = (
    Preset("Track Calls", "trackEvent", 'type = "track" and event != "Order Completed"'),
    Preset("Order Completed Calls", "trackPurchase", 'type = "track" and event = "Order Completed"'),
    Preset("Page Calls", "trackEvent", 'type = "page"', defaults(definitions.TRACK_EVENT, event=_VIEWED)),
    Preset("Screen Calls", "trackEvent", 'type = "screen"', defaults(definitions.TRACK_EVENT, event=_VIEWED)),
    Preset("Identify Calls", "identifyUser", 'type = "identify"'),
    Preset("Group Calls", "groupIdentifyUser", 'type = "group"'),
)


class Mixpanel(ActionDestination[Settings]):
    """Mixpanel, product analytics."""

    type = "mixpanel"
    title = "Mixpanel"
    names = ("Actions Mixpanel", "Mixpanel (Actions)", "Mixpanel")
    settings = Settings
    deletes = True
    actions = ACTIONS
    presets = PRESETS

    def deletions(self, settings: Settings, ids: Sequence[str], now: float) -> list[Request]:
        """See `Destination.deletions`."""
        return deletions(settings, ids)
