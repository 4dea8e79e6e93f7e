"""Slack: messages, and what its stand-in says to them."""

from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from relayd.actions.fields import FieldError
from relayd.destinations import get
from relayd.destinations.action import InvalidPayload, defaults
from relayd.destinations.base import Request
from relayd.destinations.slack import Slack
from relayd.listener.message import Request as Arrived
from relayd.listener.message import Response
from relayd.testing.vendors.slack import Slack as Vendor

SLACK = Slack()
WEBHOOK = "https://hooks.slack.com/services/T0/B0/XXX"
EVENT: dict[str, object] = {
    "type": "track",
    "event": "Order Refunded",
    "messageId": "m-1",
    "properties": {"why": 'torn "bag" & <wet>'},
}
TEXT = {"@template": "{{event}}: {{properties.why}}"}


def requests(**mapping: Any) -> list[Request]:
    mapped = defaults(SLACK.actions["postToChannel"].fields, url=WEBHOOK, text=TEXT) | mapping
    return SLACK.requests("postToChannel", {}, mapped, [EVENT], batch=False, now=0.0)


def ask(vendor: Vendor, request: Request) -> Response:
    return vendor.answer(
        Arrived(request.method, urlsplit(request.url).path, headers=dict(request.headers), body=request.body)
    )


def test_a_message_is_posted_as_it_was_written() -> None:
    vendor = Vendor()
    (request,) = requests(channel="#general")
    answer = ask(vendor, request)
    assert (answer.status, answer.body) == (200, b"ok")
    assert vendor.accepted == [
        {
            "channel": "#general",
            "text": 'Order Refunded: torn "bag" & <wet>',
            "username": "Segment",
            "icon_url": "https://logo.clearbit.com/segment.com",
        }
    ]
    assert get("slack").type == "slack"


def test_without_a_channel_the_webhooks_own_is_left_to_slack() -> None:
    (request,) = requests(channel={"@path": "$.nowhere"})
    assert "channel" not in msgspec.json.decode(request.body)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.example/services/T0/B0/SECRET",
        "http://hooks.slack.com/services/T0/B0/SECRET",
        "https://slack.com.evil.example/hooks.slack.com/SECRET",
        "https://hooksXslack.com/services/T0/B0/SECRET",
        "https://hooks.slackXcom/services/T0/B0/SECRET",
        "https://hooks.slack.com/services/T0/B0/SECRET\n",
        "https://user@hooks.slack.com/services/SECRET",
        "https://hooks.slack.com/services/T0?x=SECRET",
    ],
)
def test_no_other_host_is_called_and_the_url_is_not_told(url: str) -> None:
    with pytest.raises(InvalidPayload, match="url") as refused:
        requests(url={"@literal": url})
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("field", ["url", "text"])
def test_a_message_needs_a_webhook_and_a_text(field: str) -> None:
    with pytest.raises(FieldError, match=field):
        requests(**{field: {"@path": "$.nowhere"}})


def test_it_takes_no_batches_and_has_no_presets() -> None:
    with pytest.raises(InvalidPayload, match="no batches"):
        SLACK.requests("postToChannel", {}, {"url": WEBHOOK, "text": "t"}, [EVENT], batch=True, now=0.0)
    assert SLACK.presets == ()


def test_the_stand_in_answers_with_slacks_words() -> None:
    vendor = Vendor()

    def answer(request: Request) -> tuple[int, bytes]:
        found = ask(vendor, request)
        return found.status, found.body

    (request,) = requests()
    assert answer(requests(channel="nowhere")[0]) == (404, b"channel_not_found")
    assert answer(requests(channel="old")[0]) == (410, b"channel_is_archived")
    assert answer(requests(url=WEBHOOK + "Y")[0]) == (404, b"no_service")
    assert answer(Request("POST", WEBHOOK, request.headers, b"{")) == (400, b"invalid_payload")
    assert answer(Request("POST", WEBHOOK, request.headers, b"{}")) == (400, b"no_text")
    vendor.retry_after = 30
    limited = ask(vendor, request)
    assert limited.status == 429
    assert ("Retry-After", "30") in limited.headers
    assert answer(request) == (200, b"ok")
    assert len(vendor.accepted) == 1
