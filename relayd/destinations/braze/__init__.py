"""Braze: events, purchases, profiles, aliases, catalogs and messages, by the REST API.

Facts (braze.com/docs/api)

- Authentication: ``Authorization: Bearer`` and a REST API key. The host is that of the workspace's instance.
- ``POST /users/track`` takes 75 objects of ``events``, ``purchases`` and ``attributes`` together (older workspaces: of
  each), 3,000 requests in 3 seconds. ``X-Braze-Batch: true`` says that there is more than one. How many bytes it takes
  is not documented where we looked; a request has 4 MB at most.
- 201 and ``errors`` is a partial answer, 400 is fatal, 429 is too much, with ``X-RateLimit-Reset`` in Unix seconds:
  see `answers`.
- Braze has no idempotency key. An event that is sent twice counts twice (not verified: whether Braze drops an event of
  the same user, name and time). The time is the event's ``receivedAt``, so a retry has the same.

Quirks of Segment's that are kept: the time of an event is when it was received; the currency of a purchase is its
product's, else USD, whatever the order says; the order's properties win over the product's. Not kept: the newer actions
may go without a sync mode, which then is the default; an order without products is held, not passed over; what names no
user is held alone, not with its batch.
"""

from collections.abc import Sequence

from relayd.destinations.action import ActionDestination
from relayd.destinations.base import InvalidSettings, Request
from relayd.destinations.braze.catalogs import CATALOG_ACTIONS
from relayd.destinations.braze.deletion import deletions
from relayd.destinations.braze.ecommerce import ECOMMERCE_ACTIONS
from relayd.destinations.braze.identities import IDENTITY_ACTIONS
from relayd.destinations.braze.messages import MESSAGE_ACTIONS
from relayd.destinations.braze.presets import presets
from relayd.destinations.braze.profile import PROFILE_ACTIONS
from relayd.destinations.braze.settings import Settings
from relayd.destinations.braze.track import TRACK_ACTIONS
from relayd.destinations.endpoint import check_url

__all__ = ["Braze", "Settings"]

_ACTIONS = {
    action.name: action
    for action in (
        *PROFILE_ACTIONS,
        *TRACK_ACTIONS,
        *IDENTITY_ACTIONS,
        *CATALOG_ACTIONS,
        *MESSAGE_ACTIONS,
        *ECOMMERCE_ACTIONS,
    )
}


class Braze(ActionDestination[Settings]):
    """Sends users, and what they do, to Braze."""

    type = "braze"
    title = "Braze"
    names = ("Braze Cloud Mode (Actions)", "Actions Braze Cloud")
    settings = Settings
    deletes = True
    actions = _ACTIONS
    presets = presets(_ACTIONS)

    def check(self, settings: Settings) -> None:
        check_url("endpoint", settings.endpoint)
        if not settings.api_key.isprintable() or not settings.api_key.isascii():
            raise InvalidSettings("api_key must be printable ASCII")

    def deletions(self, settings: Settings, ids: Sequence[str], now: float) -> list[Request]:
        """See `Destination.deletions`."""
        return deletions(settings, ids)
