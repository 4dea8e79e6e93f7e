"""Segment's own facts: the batch endpoint's body, its authentication, its limits."""

import base64
import gzip
import json

import msgspec
import pytest

from relayd.destinations import InvalidSettings, Request
from relayd.destinations.segment import MAX_BODY, Segment, Settings

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
