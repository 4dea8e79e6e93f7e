"""Slack: a message to a channel, by an incoming webhook. Segment's Slack (Actions).

Facts:

- ``POST https://hooks.slack.com/services/...`` takes ``{"text", "channel"?, "username"?, "icon_url"?}`` as JSON and
  answers 200 ``ok`` (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks). The URL is the credential.
  Webhooks of Slack apps ignore channel, username and icon_url; those of the older integration take them.
- An error is a word: 400 invalid_payload, no_text or user_not_found, 403 action_prohibited or invalid_token, 404
  channel_not_found or no_service, 410 channel_is_archived, 500 rollup_error (api.slack.com changelog of 2016-05-17).
- About one message a second is taken; more is answered 429 with Retry-After (docs.slack.dev/apis/web-api/rate-limits).
  Set ``delivery.rate`` accordingly.
- There are no batches, and nothing by which Slack knows a message again: one that is retried after a timeout may be
  there twice.

The action sends to Slack's hosts only, as Segment's does. There are no presets: it needs the webhook's URL.
"""

import re
from types import MappingProxyType

import msgspec

from relayd.destinations.action import Action, ActionDestination, InvalidPayload, Payload
from relayd.destinations.base import Request
from relayd.destinations.fields import JSON, field, text
from relayd.destinations.settings import DestinationSettings

_URL = re.compile(r"https://[a-zA-Z0-9.-]+\.slack\.com[/a-zA-Z0-9]+")


class Settings(DestinationSettings, frozen=True, kw_only=True, rename="camel"):
    """None: the mapping says which webhook is called."""


def post_to_channel(settings: Settings, payload: Payload, now: float) -> list[Request]:
    """A message."""
    if not _URL.fullmatch(payload["url"]):
        raise InvalidPayload("url is no incoming webhook of Slack's; one begins with https://hooks.slack.com/services/")
    message = {key: payload[key] for key in ("channel", "text", "username", "icon_url") if key in payload}
    return [Request("POST", payload["url"], JSON, msgspec.json.encode(message))]


POST_TO_CHANNEL = Action(
    "postToChannel",
    "Post Message",
    {
        "url": text(required=True),
        "text": field("text", required=True),
        "channel": text(),
        "username": text("Segment"),
        "icon_url": text("https://logo.clearbit.com/segment.com"),
    },
    post_to_channel,
)


class Slack(ActionDestination[Settings]):
    """Slack, messages for people."""

    type = "slack"
    title = "Slack"
    names = ("Slack", "Slack (Actions)", "Actions Slack")
    settings = Settings
    actions = MappingProxyType({POST_TO_CHANNEL.name: POST_TO_CHANNEL})
