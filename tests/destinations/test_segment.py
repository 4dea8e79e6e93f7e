"""Segment's own facts: the batch endpoint's body, its authentication, its limits."""

import base64
import gzip
import json
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from relayd.actions.faults import FieldError
from relayd.actions.trigger import compile_trigger
from relayd.destinations import InvalidSettings, Request
from relayd.destinations.action import InvalidPayload
from relayd.destinations.segment import MAX_BODY, Segment, Settings
from relayd.listener.message import Request as Arrived
from relayd.testing.vendors.segment import Segment as Source
from tests.conformance.cases import cases

NOW = 1_764_000_000.25


def event(number: int) -> bytes:
    return msgspec.json.encode({"type": "track", "messageId": f"m-{number}", "sentAt": "2020-01-01T00:00:00.000Z"})


def send(settings: Settings, *events: bytes, batch: bool = True) -> list[Request]:
    Segment().check(settings)
    return Segment().requests("send", settings, None, events, batch=batch, now=NOW)


def test_body_is_batch_and_sent_at_and_nothing_else() -> None:
    (request,) = send(Settings(write_key="wk"), event(1), event(2))
    assert (request.method, request.url) == ("POST", "https://api.segment.io/v1/batch")
    assert json.loads(gzip.decompress(request.body)) == {
        "batch": [json.loads(event(1)), json.loads(event(2))],
        "sentAt": "2025-11-24T16:00:00.250Z",
    }


def test_write_key_is_the_user_name_of_basic_authentication() -> None:
    (request,) = send(Settings(write_key="wk"), event(1))
    scheme, credentials = request.headers["authorization"].split()
    assert scheme == "Basic"
    assert base64.b64decode(credentials) == b"wk:"
    assert b"wk" not in gzip.decompress(request.body)


def test_gzip_is_said_deterministic_and_can_be_switched_off() -> None:
    (zipped,) = send(Settings(write_key="wk"), event(1))
    (again,) = send(Settings(write_key="wk"), event(1))
    (plain,) = send(Settings(write_key="wk", gzip=False), event(1))
    assert zipped.headers["content-encoding"] == "gzip"
    assert zipped.body == again.body
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(zipped.body) == plain.body


def test_the_largest_batch_fits_into_segments_limit() -> None:
    size = Segment.batch_bytes // Segment.max_batch_size
    events = [event(number).ljust(size) for number in range(Segment.max_batch_size - 1)]
    events.append(event(2500).ljust(Segment.batch_bytes - size * len(events)))
    assert sum(map(len, events)) == Segment.batch_bytes
    (request,) = send(Settings(write_key="wk", gzip=False), *events)
    assert len(request.body) == MAX_BODY == 500 * 1024


@pytest.mark.parametrize("batch", [False, True])
def test_an_event_that_the_receiver_would_drop_is_refused_instead(batch: bool) -> None:
    largest, larger = event(1).ljust(32 * 1024), event(2).ljust(32 * 1024 + 1)
    assert send(Settings(write_key="wk"), largest, batch=batch)
    with pytest.raises(ValueError, match=r"event 'm-2' has 32769 bytes, a Tracking API takes 32768"):
        send(Settings(write_key="wk"), largest, larger, batch=batch)


def test_without_batch_it_is_still_the_batch_endpoint() -> None:
    first, second = send(Settings(write_key="wk", gzip=False), event(1), event(2), batch=False)
    assert [len(json.loads(each.body)["batch"]) for each in (first, second)] == [1, 1]


@pytest.mark.parametrize("write_key", ["a:b", "a\nb"])
def test_a_write_key_that_basic_authentication_can_not_hold_is_refused(write_key: str) -> None:
    with pytest.raises(InvalidSettings, match="write_key"):
        Segment().check(Settings(write_key=write_key))


SEGMENT = Segment()
PLAIN = Settings(write_key="WK", gzip=False)
WHO: dict[str, object] = {"user_id": {"@path": "$.userId"}, "message_id": {"@path": "$.messageId"}}
SIGNUP: dict[str, object] = {
    "messageId": "m-1",
    "userId": "u-1",
    "type": "track",
    "event": "Signed Up",
    "properties": {"plan": "pro"},
}


def act(
    action: str, *events: object, settings: Settings = PLAIN, batch: bool = False, **mapping: object
) -> list[Request]:
    return SEGMENT.requests(action, settings, WHO | mapping, events, batch=batch, now=NOW)  # type: ignore[arg-type]


def ask(source: Source, request: Request) -> int:
    path = urlsplit(request.url).path
    return source.answer(Arrived(request.method, path, headers=dict(request.headers), body=request.body)).status


def made(action: str, event: dict[str, object], **mapping: Any) -> dict[str, Any]:
    """The event that a source then has."""
    source = Source()
    (request,) = act(action, event, **mapping)
    assert ask(source, request) == 200
    assert source.sent_at == ["2025-11-24T16:00:00.250Z"]
    (accepted,) = source.accepted
    return accepted


def test_segments_actions_return_what_relayd_sends() -> None:
    """They make no request; beside what they return, a batch has only the time at which it was sent."""
    rows = [row for row in cases("request") if row["dest"] == "segment"]
    assert rows
    for row in rows:
        (request,) = SEGMENT.requests(
            row["action"],
            row["settings"] | {"gzip": False},
            row["mapping"],
            [row["event"]],
            batch=False,
            now=row["now"],
        )
        (returned,) = row["expect"]["returned"]
        assert json.loads(request.body) == returned | {"sentAt": row["now"]}


def test_a_track_event_is_made_of_fields() -> None:
    assert made(
        "sendTrack",
        SIGNUP,
        event_name={"@path": "$.event"},
        properties={"@path": "$.properties"},
        traits={"vip": True},
        group_id="g-1",
        timestamp="2026-01-02T03:04:05Z",
        application={"name": "shop", "other": 1},
        campaign_parameters={"source": "s"},
        device={"id": "d", "adTracking_Enabled": True},
        operating_system={"name": "iOS"},
        user_agent="UA",
        screen={"width": "390"},
        consent={"categoryPreferences": {"ads": False}},
    ) == {
        "type": "track",
        "messageId": "m-1",
        "userId": "u-1",
        "timestamp": "2026-01-02T03:04:05Z",
        "event": "Signed Up",
        "properties": {"plan": "pro"},
        "context": {
            "traits": {"vip": True},
            "groupId": "g-1",
            "app": {"name": "shop"},
            "campaign": {"source": "s"},
            "device": {"id": "d", "adTracking_Enabled": True},
            "os": {"name": "iOS"},
            "userAgent": "UA",
            "screen": {"width": 390},
            "consent": {"categoryPreferences": {"ads": False}},
        },
    }


def test_the_other_types_have_their_own_members() -> None:
    base = {"messageId": "m-1", "userId": "u-1", "context": {"consent": {}}}
    assert made("sendIdentify", SIGNUP, traits={"a": 1}, address={"city": "Bern"}) == base | {
        "type": "identify",
        "traits": {"a": 1, "address": {"city": "Bern"}},
    }
    assert made("sendGroup", SIGNUP, group_id="g", traits={"a": 1}) == base | {
        "type": "group",
        "groupId": "g",
        "traits": {"a": 1},
    }
    assert made("sendScreen", SIGNUP, screen_name="Home", properties={"a": 1}) == base | {
        "type": "screen",
        "name": "Home",
        "properties": {"name": "Home", "a": 1},
    }
    page = {"url": "https://x.example/", "path": "/"}
    assert made(
        "sendPage", SIGNUP, page_name="Home", page_category="c", page=page, properties={"path": "/mine"}
    ) == base | {
        "type": "page",
        "name": "Home",
        "properties": {"name": "Home", "category": "c", "url": "https://x.example/", "path": "/mine"},
        "context": {"consent": {}, "page": page},
    }


def test_an_action_for_each_type_with_its_trigger() -> None:
    assert set(SEGMENT.actions) == {"sendTrack", "sendIdentify", "sendPage", "sendScreen", "sendGroup"}
    for action in SEGMENT.actions.values():
        kind = action.name.removeprefix("send").lower()
        assert compile_trigger(action.trigger)({"type": kind})
    assert not SEGMENT.presets, "without subscriptions events go on as they are"
    assert SEGMENT.passes_on


@pytest.mark.parametrize(
    ("action", "mapping", "why"),
    [
        ("sendTrack", {"event_name": "e", "user_id": {"@path": "$.nowhere"}}, "user_id and anonymous_id are missing"),
        ("sendTrack", {}, "/event_name: is missing"),
        ("sendGroup", {}, "/group_id: is missing"),
        ("sendTrack", {"event_name": "e", "properties": {"s3cr3t": "x" * 33_000}}, r"have \d+ bytes, .* takes 32768"),
    ],
)
def test_what_a_tracking_api_drops_is_refused(action: str, mapping: dict[str, Any], why: str) -> None:
    with pytest.raises((InvalidPayload, FieldError), match=why) as refusal:
        act(action, SIGNUP, **mapping)
    assert "s3cr3t" not in str(refusal.value)


def test_mapped_events_share_a_request_and_come_once() -> None:
    events = [SIGNUP | {"messageId": f"m-{number}"} for number in range(3)]
    source = Source()
    for _ in range(2):
        (request,) = act("sendTrack", *events, settings=Settings(write_key="WK"), batch=True, event_name="e")
        assert request.headers["content-encoding"] == "gzip"
        assert ask(source, request) == 200
    assert [each["messageId"] for each in source.accepted] == ["m-0", "m-1", "m-2"]
    assert source.dropped == []
    batching = SEGMENT.actions["sendTrack"].batching
    assert batching is not None
    assert (batching.size, batching.max_size) == (Segment.batch_size, 2500)


def test_a_mapped_batch_that_grew_too_large_is_refused_whole() -> None:
    events = [SIGNUP | {"messageId": f"m-{number}"} for number in range(20)]
    with pytest.raises(ValueError, match=r"the batch would have \d+ bytes, a Tracking API takes 512000"):
        act("sendTrack", *events, batch=True, event_name="e", properties={"note": "x" * 30_000})


def test_the_write_key_has_segments_name_in_a_configuration() -> None:
    assert msgspec.convert({"source_write_key": "WK", "gzip": False}, Settings) == PLAIN
    assert "WK" not in repr(PLAIN)
    source = Source("other")
    (request,) = act("sendTrack", SIGNUP, event_name="e")
    assert ask(source, request) == 401
