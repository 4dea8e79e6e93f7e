"""Events are validated and normalised by the Tracking API's rules, whatever clients send."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from relayd.event import (
    Arrival,
    Event,
    Invalid,
    decode_head,
    encode_lines,
    format_time,
    normalise,
    parse_time,
    repair,
)

RECEIVED = "2026-11-24T12:00:00.000Z"
ARRIVAL = Arrival("web", parse_time(RECEIVED) or 0)
COMPACT = msgspec.structs.replace(ARRIVAL, compact=True)
TRACK = {"type": "track", "event": "Order Completed", "userId": "ada", "messageId": "m1"}


def kept(sent: dict[str, Any] | bytes, arrival: Arrival = ARRIVAL, kind: str | None = None) -> dict[str, Any]:
    """What the journal keeps of an event. Raises `Invalid`."""
    raw = sent if isinstance(sent, bytes) else msgspec.json.encode(sent)
    event, extra = repair(Raw(raw))
    normalised(event, arrival, kind)
    lines = encode_lines([event], arrival, {} if extra is None else {0: extra})
    assert lines.endswith(b"\n")
    assert lines.count(b"\n") == 1
    decoded: dict[str, Any] = msgspec.json.decode(lines)
    assert decode_head(lines).messageId == decoded["messageId"]
    return decoded


def normalised(event: Event, arrival: Arrival = ARRIVAL, kind: str | None = None) -> Event:
    rejected: Counter[str] = Counter()
    if not normalise([event], arrival, kind, rejected):
        raise Invalid(next(iter(rejected)), "")
    return event


def code(sent: dict[str, Any] | bytes, kind: str | None = None) -> str:
    """The code that an event is rejected with."""
    with pytest.raises(Invalid) as caught:
        kept(sent, kind=kind)
    return caught.value.code


def test_what_the_client_sent_is_kept_and_what_the_relay_knows_is_added() -> None:
    sent = TRACK | {
        "properties": {"total": 12.5, "nested": {"ä": [1, None]}},
        "context": {"library": {"name": "x"}},
        "anonymousId": None,
        "custom": {"top": "level"},
        "_metadata": {"bundled": ["Segment.io"]},
        "channel": "server",
    }
    assert kept(sent) == sent | {"timestamp": RECEIVED, "receivedAt": RECEIVED, "projectId": "web"}


def test_properties_keep_their_very_bytes() -> None:
    event, _ = repair(
        Raw(b'{"type":"track","event":"e","userId":"u","properties":{"n":1.10,"big":12345678901234567890}}')
    )
    normalised(event)
    assert b'{"n":1.10,"big":12345678901234567890}' in encode_lines([event], ARRIVAL, {})


def test_pretty_printed_json_becomes_one_line() -> None:
    sent = msgspec.json.format(msgspec.json.encode(TRACK | {"properties": {"a": ["\n", {"b": "\r"}]}, "x": {"y": 1}}))
    assert kept(sent)["properties"] == {"a": ["\n", {"b": "\r"}]}


def test_a_message_id_is_given_when_it_is_missing_and_kept_when_it_is_not() -> None:
    assert kept(TRACK)["messageId"] == "m1"
    for missing in ({}, {"messageId": None}, {"messageId": ""}):
        first, second = (kept({"type": "track", "event": "e", "userId": "u"} | missing)["messageId"] for _ in range(2))
        assert len(first) == 36
        assert first != second


def test_the_write_key_is_not_kept() -> None:
    assert "writeKey" not in kept(TRACK | {"writeKey": "secret"})


@pytest.mark.parametrize(
    ("timestamp", "sent_at", "expected"),
    [
        ("2026-11-24T11:00:00.000Z", "2026-11-24T11:00:05.000Z", "2026-11-24T11:59:55.000Z"),  # a slow clock
        ("2026-11-24T14:00:00.500+00:00", "2026-11-24T14:00:00.600Z", "2026-11-24T11:59:59.900Z"),  # a fast one
        ("2026-11-24T12:00:00+02:00", "2026-11-24T12:00:00+02:00", RECEIVED),
        ("2026-11-24T12:00:00", "2026-11-24T12:00:01", "2026-11-24T11:59:59.000Z"),  # no zone is UTC
        ("2026-11-24T11:00:00.123456Z", "2026-11-24T11:00:00.123456Z", RECEIVED),
        ("2020-01-01T00:00:00.000Z", None, "2020-01-01T00:00:00.000Z"),  # without sentAt nothing is known of the clock
        ("2020-01-01T00:00:00.000Z", "nonsense", "2020-01-01T00:00:00.000Z"),
        ("nonsense", "2026-11-24T11:00:00.000Z", RECEIVED),
        ("9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00.000Z", RECEIVED),
    ],
)
def test_the_timestamp_is_corrected_by_the_clients_clock(timestamp: str, sent_at: str | None, expected: str) -> None:
    event = kept(TRACK | {"timestamp": timestamp, "sentAt": sent_at})
    assert event["timestamp"] == expected
    assert event["originalTimestamp"] == timestamp
    assert event["sentAt"] == sent_at


def test_the_batchs_sent_at_wins_over_an_events_own() -> None:
    sent_at = "2026-11-24T11:00:00.000Z"
    arrival = msgspec.structs.replace(ARRIVAL, sent_at=sent_at)
    event = kept(TRACK | {"timestamp": "2026-11-24T10:59:00.000Z", "sentAt": "2001-01-01T00:00:00Z"}, arrival)
    assert event["timestamp"] == "2026-11-24T11:59:00.000Z"
    assert event["sentAt"] == sent_at


def test_original_timestamp_counts_where_timestamp_is_missing() -> None:
    sent = {"originalTimestamp": "2026-11-24T10:00:00.000Z", "sentAt": "2026-11-24T11:00:00.000Z"}
    event = kept(TRACK | sent)
    assert event["timestamp"] == "2026-11-24T11:00:00.000Z"
    assert event["originalTimestamp"] == sent["originalTimestamp"]


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_times_are_read_as_they_are_written(milliseconds: int) -> None:
    assert parse_time(format_time(milliseconds)) == milliseconds


@given(st.text())
def test_no_text_breaks_the_reading_of_times(text: str) -> None:
    assert parse_time(text) is None or isinstance(parse_time(text), int)


def test_batch_context_and_integrations_lie_under_the_events_own() -> None:
    arrival = msgspec.structs.replace(
        ARRIVAL, context=Raw(b'{"locale":"de","app":{"v":1}}'), integrations=Raw(b'{"All":false}')
    )
    event = kept(TRACK | {"context": {"locale": "fr"}, "integrations": {"Slack": True}}, arrival)
    assert event["context"] == {"locale": "fr", "app": {"v": 1}}
    assert event["integrations"] == {"All": False, "Slack": True}
    assert kept(TRACK | {"context": None}, arrival)["context"] == {"locale": "de", "app": {"v": 1}}


@pytest.mark.parametrize(
    ("client_side", "context", "expected"),
    [
        (False, {"direct": True}, "203.0.113.9"),
        (False, {"direct": False}, None),
        (False, {}, None),
        (False, {"direct": True, "ip": "1.2.3.4"}, "1.2.3.4"),
        (True, {}, "203.0.113.9"),
        (True, None, "203.0.113.9"),
        (True, {"ip": "1.2.3.4"}, "1.2.3.4"),
    ],
)
def test_the_ip_is_filled_for_client_side_sources_and_where_direct_asks_for_it(
    client_side: bool, context: dict[str, Any] | None, expected: str | None
) -> None:
    arrival = msgspec.structs.replace(ARRIVAL, client_side=client_side, ip="203.0.113.9")
    assert (kept(TRACK | {"context": context}, arrival)["context"] or {}).get("ip") == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"type": "track", "event": "e"}, "no_user_anon_id"),
        ({"type": "track", "event": "e", "userId": "", "anonymousId": None}, "no_user_anon_id"),
        ({"type": "page"}, "no_user_anon_id"),
        ({"type": "track", "userId": "u"}, "event_not_defined"),
        ({"type": "track", "userId": "u", "event": ""}, "event_not_defined"),
        ({"type": "track", "userId": "u", "event": 5}, "event_not_string"),
        ({"type": "track", "userId": 5, "event": "e"}, "id_not_string"),
        ({"type": "track", "userId": "u", "event": "e", "anonymousId": {}}, "id_not_string"),
        ({"type": "track", "userId": "u", "event": "e", "messageId": 5}, "id_not_string"),
        ({"type": "track", "userId": "u", "event": "e", "messageId": "m" * 101}, "id_too_long"),
        ({"type": "track", "userId": "u", "event": "e", "properties": "x"}, "properties_not_object"),
        ({"type": "track", "userId": "u", "event": "e", "properties": [1]}, "properties_not_object"),
        ({"type": "identify", "userId": "u", "traits": 1}, "traits_not_object"),
        ({"type": "identify", "userId": "u", "context": "x"}, "context_not_object"),
        ({"type": "page", "userId": "u", "name": 1}, "name_not_string"),
        ({"type": "screen", "userId": "u", "category": []}, "category_not_string"),
        ({"type": "group", "userId": "u"}, "id_required"),
        ({"type": "alias", "userId": "u"}, "id_required"),
        ({"type": "alias", "previousId": "u", "anonymousId": "a"}, "id_required"),
        ({"type": "nonsense", "userId": "u"}, "bad_request"),
        ({"type": 1, "userId": "u"}, "bad_request"),
        ({"userId": "u"}, "bad_request"),
        (b"[]", "bad_request"),
        (b'"text"', "bad_request"),
        (b"null", "bad_request"),
    ],
)
def test_what_breaks_a_rule_is_rejected_with_segments_code(sent: dict[str, Any] | bytes, expected: str) -> None:
    assert code(sent) == expected


@pytest.mark.parametrize("kind", ["track", "identify", "page", "screen", "group", "alias"])
def test_the_route_names_the_type(kind: str) -> None:
    sent = {"type": "nonsense", "userId": "u", "event": "e", "groupId": "g", "previousId": "p"}
    assert kept(sent, kind=kind)["type"] == kind


def test_what_php_makes_of_empty_maps_is_mended() -> None:
    event = kept(TRACK | {"properties": [], "context": [], "integrations": [], "traits": []})
    assert event["properties"] == event["context"] == event["integrations"] == event["traits"] == {}


def test_a_time_that_is_no_text_counts_as_missing() -> None:
    event = kept(TRACK | {"timestamp": 1795521600, "sentAt": 5})
    assert event["timestamp"] == RECEIVED
    assert "sentAt" not in event


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([each.encode_name for each in msgspec.structs.fields(Event)] + ["x", "ünknown"]), json_values
    )
)
def test_any_object_is_kept_as_one_json_line_or_rejected_with_a_code(sent: dict[str, Any]) -> None:
    try:
        event = kept(sent)
    except Invalid:
        return
    for name in ("x", "ünknown", "channel", "version", "userId"):
        assert event.get(name) == sent.get(name)


@given(st.dictionaries(st.sampled_from(["x", "properties", "context", "userId", "anonymousId"]), json_values))
def test_the_quick_way_and_the_slow_way_agree(sent: dict[str, Any]) -> None:
    raw = msgspec.json.encode(TRACK | sent)
    try:
        quick = msgspec.json.decode(raw, type=Event)
        normalised(quick)
    except (msgspec.ValidationError, Invalid):
        return
    slow, extra = repair(Raw(raw))
    normalised(slow)
    assert extra is None
    assert encode_lines([quick], COMPACT, {}) == encode_lines([slow], ARRIVAL, {})
