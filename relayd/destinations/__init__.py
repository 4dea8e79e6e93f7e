"""The catalog: every destination type by its name."""

from typing import Any

from relayd.destinations.amplitude import Amplitude
from relayd.destinations.base import Destination, InvalidSettings, Request
from relayd.destinations.braze import Braze
from relayd.destinations.customerio import Customerio
from relayd.destinations.device import Device
from relayd.destinations.file import File
from relayd.destinations.function import Function
from relayd.destinations.google_analytics_4 import GoogleAnalytics4
from relayd.destinations.http import Http
from relayd.destinations.mixpanel import Mixpanel
from relayd.destinations.posthog import PostHog
from relayd.destinations.segment import Segment
from relayd.destinations.slack import Slack
from relayd.destinations.webhook import Webhook

__all__ = ["CATALOG", "Destination", "InvalidSettings", "Request", "get"]

CATALOG: dict[str, Destination[Any]] = {
    each.type: each
    for each in (
        Webhook(),
        Segment(),
        Mixpanel(),
        PostHog(),
        File(),
        Http(),
        GoogleAnalytics4(),
        Amplitude(),
        Slack(),
        Customerio(),
        Braze(),
        Device(),
        Function(),
    )
}


def get(type: str) -> Destination[Any]:  # noqa: A002  the name users and checks rely on
    """The destination of this type. Raises ``KeyError`` for a type that is not in the catalog."""
    return CATALOG[type]
