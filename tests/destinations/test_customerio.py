"""Customer.io: what its actions send, and what its stand-in says to it."""

import base64
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from relayd.actions.fields import FieldError
from relayd.actions.trigger import compile_trigger
from relayd.destinations import InvalidSettings, get
from relayd.destinations.action import DELIVERED, InvalidPayload, Verdict, defaults
from relayd.destinations.base import Request
from relayd.destinations.customerio import Customerio, Settings, batch_verdicts
from relayd.listener.message import Request as Arrived
from relayd.listener.message import Response
from relayd.testing.vendors.customerio import MAX_BATCH, MAX_ENTITY
from relayd.testing.vendors.customerio import Customerio as Vendor

CIO = Customerio()
SETTINGS = {"siteId": "SITE", "apiKey": "KEY"}
NOW = 1_790_000_000.5
BASE: dict[str, Any] = {
    "type": "track",
    "event": "Lamp Lit",
    "messageId": "m-1",
    "userId": "ann",
    "anonymousId": "a-1",
    "timestamp": "2026-03-04T05:06:07.890Z",
    "properties": {"watts": 40, "since": "2026-03-01", "room": {"built": "1999-12-31T23:00:00+01:00"}},
}
DEVICE = {"device": {"token": "tok", "type": "android"}, "app": {"version": "2.0"}}


def event(**changes: Any) -> dict[str, Any]:
    return BASE | changes


def send(
    action: str, *events: dict[str, Any], batch: bool = False, settings: Any = None, **mapping: Any
) -> list[Request]:
    mapped = defaults(CIO.actions[action].fields, **mapping)
    return CIO.requests(action, settings or SETTINGS, mapped, events, batch=batch, now=NOW)


def sent(action: str, *events: dict[str, Any], batch: bool = False, **mapping: Any) -> dict[str, Any]:
    (request,) = send(action, *events, batch=batch, **mapping)
    body: dict[str, Any] = msgspec.json.decode(request.body)
    return body


def ask(vendor: Vendor, request: Request) -> Response:
    assert request.url.startswith("https://track.customer.io/")
    return vendor.answer(
        Arrived(request.method, urlsplit(request.url).path, headers=dict(request.headers), body=request.body)
    )


def test_an_event_is_one_entity_with_its_message_id() -> None:
    (request,) = send("trackEvent", event())
    assert (request.method, request.url) == ("POST", "https://track.customer.io/api/v2/entity")
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"SITE:KEY"
    assert msgspec.json.decode(request.body) == {
        "type": "person",
        "action": "event",
        "identifiers": {"id": "ann"},
        "name": "Lamp Lit",
        "id": "m-1",
        "timestamp": 1772600767,
        "attributes": {
            "watts": 40,
            "since": 1772323200,
            "room": {"built": 946677600},
            "anonymous_id": "a-1",
        },
    }


def test_dates_stay_texts_when_they_are_not_to_be_converted_but_the_timestamp_is() -> None:
    entity = sent("trackEvent", event(), convert_timestamp=False)
    assert entity["attributes"]["since"] == "2026-03-01"
    assert entity["timestamp"] == 1772600767


def test_what_is_no_iso_date_stays_a_text() -> None:
    texts = {"a": "2026", "b": "03/04/2026", "c": "2026-13-01", "d": "2026-03-01 10:00", "e": ["2026-03-01"]}
    entity = sent("trackEvent", event(properties=texts))
    assert entity["attributes"] == texts | {"anonymous_id": "a-1"}


@pytest.mark.parametrize(
    ("timestamp", "expected"), [("1772600767", "1772600767"), ("1772600767.5", "1772600767.5"), ("soon", "soon")]
)
def test_a_timestamp_of_digits_is_taken_for_unix_time_already(timestamp: str, expected: object) -> None:
    assert sent("trackEvent", event(timestamp=timestamp))["timestamp"] == expected


def test_the_events_own_data_is_not_changed() -> None:
    one = event()
    before = msgspec.json.encode(one)
    for action in CIO.actions:
        try:
            send(action, one)
        except (InvalidPayload, FieldError):
            continue
    assert msgspec.json.encode(one) == before


@pytest.mark.parametrize(
    ("who", "identifiers"),
    [
        ({"userId": "ann"}, {"id": "ann"}),
        ({"userId": "cio_0f1"}, {"cio_id": "0f1"}),
        ({"userId": "ann@example.com"}, {"email": "ann@example.com"}),
        ({"userId": None}, {"anonymous_id": "a-1"}),
    ],
)
def test_a_person_is_named_by_what_the_id_looks_like(who: dict[str, Any], identifiers: dict[str, str]) -> None:
    entity = sent("trackEvent", event(**who))
    assert entity["identifiers"] == identifiers
    assert ("anonymous_id" in entity["attributes"]) is ("anonymous_id" not in identifiers)


def test_page_and_screen_are_events_of_their_kind() -> None:
    page = sent("trackPageView", event(type="page", properties={"url": "https://shop.test/a"}))
    screen = sent("trackScreenView", event(type="screen", name="Hall"))
    assert (page["action"], page["name"], page["id"]) == ("page", "https://shop.test/a", "m-1")
    assert (screen["action"], screen["name"], screen["id"]) == ("screen", "Hall", "m-1")


def test_a_person_has_traits_as_attributes_but_those_with_a_field() -> None:
    traits = {
        "email": "ann@example.com",
        "createdAt": "2020-01-01T00:00:00Z",
        "plan": "pro",
        "objectId": "o-1",
        "objectTypeId": "3",
        "relationshipAttributes": {"since": "2020-01-01"},
    }
    assert sent("createUpdatePerson", event(type="identify", traits=traits)) == {
        "type": "person",
        "action": "identify",
        "identifiers": {"id": "ann"},
        "timestamp": 1772600767,
        "attributes": {
            "email": "ann@example.com",
            "created_at": 1577836800,
            "plan": "pro",
            "objectId": "o-1",
            "anonymous_id": "a-1",
        },
        "cio_relationships": [
            {
                "identifiers": {"object_type_id": "3", "object_id": "o-1"},
                "relationship_attributes": {"since": "2020-01-01"},
            }
        ],
    }


def test_a_person_without_an_id_is_known_by_the_address() -> None:
    entity = sent("createUpdatePerson", event(userId=None, traits={"email": "ann@example.com"}))
    assert entity["identifiers"] == {"email": "ann@example.com"}


def test_an_object_is_related_to_the_person_who_is_known_or_to_the_anonymous_one() -> None:
    traits = {
        "objectAttributes": {"name": "2026-01-01", "object_type_id": 9},
        "relationshipAttributes": {"on": "2026-01-01"},
    }
    group = event(type="group", groupId="g-1", traits=traits)
    known = sent("createUpdateObject", group)
    assert known == {
        "type": "object",
        "action": "identify",
        "identifiers": {"object_id": "g-1", "object_type_id": "1"},
        "attributes": {"name": 1767225600, "anonymous_id": "a-1"},
        "cio_relationships": [{"identifiers": {"id": "ann"}, "relationship_attributes": {"on": 1767225600}}],
    }
    unknown = sent("createUpdateObject", group | {"userId": None})
    assert unknown["action"] == "identify_anonymous"
    assert unknown["cio_relationships"][0]["identifiers"] == {"anonymous_id": "a-1"}
    alone = sent("createUpdateObject", group | {"userId": None, "anonymousId": None})
    assert alone["action"] == "identify"
    assert "cio_relationships" not in alone


def test_an_id_that_looks_like_a_date_stays_an_id() -> None:
    assert sent("createUpdateObject", event(groupId="2026-01-01"))["identifiers"]["object_id"] == "2026-01-01"


def test_a_device_is_added_with_the_apps_version_and_deleted_by_its_token() -> None:
    added = sent("createUpdateDevice", event(context=DEVICE, properties={"from_background": True}))
    assert added == {
        "type": "person",
        "action": "add_device",
        "identifiers": {"id": "ann"},
        "device": {
            "token": "tok",
            "platform": "android",
            "last_used": 1772600767,
            "attributes": {"from_background": True, "app_version": "2.0"},
        },
    }
    kept = sent("createUpdateDevice", event(context=DEVICE), convert_timestamp=False)
    assert kept["device"]["last_used"] == BASE["timestamp"]
    deleted = sent("deleteDevice", event(context=DEVICE))
    assert (deleted["action"], deleted["device"]) == ("delete_device", {"token": "tok"})


def test_what_is_deleted_suppressed_and_merged() -> None:
    gone = event(properties={"objectId": "o-1", "objectTypeId": "2"})
    assert sent("deleteRelationship", gone) == {
        "type": "object",
        "action": "delete_relationships",
        "identifiers": {"object_id": "o-1", "object_type_id": "2"},
        "cio_relationships": [{"identifiers": {"id": "ann"}}],
        "attributes": {"anonymous_id": "a-1"},
    }
    assert sent("deleteObject", gone) == {
        "type": "object",
        "action": "delete",
        "identifiers": {"object_id": "o-1", "object_type_id": "2"},
    }
    for action, verb in (
        ("deletePerson", "delete"),
        ("suppressPerson", "suppress"),
        ("unsuppressPerson", "unsuppress"),
    ):
        assert sent(action, event()) == {"type": "person", "action": verb, "identifiers": {"id": "ann"}}
    assert sent("mergePeople", event(previousId="old@example.com")) == {
        "type": "person",
        "action": "merge",
        "primary": {"id": "ann"},
        "secondary": {"email": "old@example.com"},
    }


def test_content_that_was_seen_is_an_event_of_that_kind() -> None:
    entity = sent("reportContentEvent", event(properties={"actionType": "viewed_content", "page": 3}))
    assert (entity["action"], entity["name"]) == ("viewed_content", "viewed_content")
    assert entity["identifiers"] == {"anonymous_id": "a-1"}
    assert entity["attributes"] == {"page": 3}


def test_a_delivery_is_reported_to_the_metrics() -> None:
    properties = {"deliveryId": "d-1", "metric": "clicked", "href": "https://shop.test", "actionName": "buy"}
    (request,) = send("reportDeliveryEvent", event(properties=properties))
    assert request.url == "https://track.customer.io/api/v1/metrics"
    assert msgspec.json.decode(request.body) == {
        "delivery_id": "d-1",
        "metric": "clicked",
        "timestamp": 1772600767,
        "href": "https://shop.test",
        "metadata": {"action_name": "buy"},
    }
    now = sent("reportDeliveryEvent", event(properties=properties, timestamp=None))
    assert now["timestamp"] == 1_790_000_000


def test_without_a_batch_each_event_is_a_request_and_with_one_all_are() -> None:
    events = [event(messageId=f"m-{number}") for number in range(3)]
    assert len(send("trackEvent", *events)) == 3
    (request,) = send("trackEvent", *events, batch=True)
    assert request.url == "https://track.customer.io/api/v2/batch"
    assert [each["id"] for each in msgspec.json.decode(request.body)["batch"]] == ["m-0", "m-1", "m-2"]


def test_persons_and_objects_of_both_kinds_share_one_batch() -> None:
    groups = [event(groupId="g-1"), event(groupId="g-2", userId=None)]
    assert [each["action"] for each in sent("createUpdateObject", *groups, batch=True)["batch"]] == [
        "identify",
        "identify_anonymous",
    ]


@pytest.mark.parametrize(
    ("action", "changes", "match"),
    [
        ("trackEvent", {"userId": None, "anonymousId": None}, "anonymous_id"),
        ("createUpdatePerson", {"userId": None, "anonymousId": None}, "anonymous_id"),
        ("reportContentEvent", {"anonymousId": None, "properties": {"actionType": "viewed_content"}}, "anonymous_id"),
        ("deleteObject", {"properties": {}}, "object_id"),
        ("trackEvent", {"event": None}, "name"),
        ("mergePeople", {"previousId": None}, "secondary"),
        ("reportDeliveryEvent", {"properties": {"deliveryId": "d", "metric": "eaten"}}, "metric"),
        ("createUpdateDevice", {}, "device_id"),
    ],
)
def test_what_can_not_be_sent_names_the_field_and_no_value(action: str, changes: dict[str, Any], match: str) -> None:
    with pytest.raises((InvalidPayload, FieldError), match=match) as found:
        send(action, event(**changes))
    for secret in ("Lamp", "eaten", "ann", "KEY"):
        assert secret not in str(found.value).replace("anonymous_id", "")


PRESET_EVENTS = [
    event(),
    event(type="identify", traits={"email": "ann@example.com", "plan": "pro", "objectId": "o-1"}),
    event(type="page", properties={"url": "https://shop.test/a"}),
    event(type="screen", name="Hall"),
    event(type="group", groupId="g-1", traits={"objectAttributes": {"name": "Ltd"}}),
    event(type="alias", previousId="a-1"),
    *(
        event(event=name, context=DEVICE, properties={})
        for name in (
            *("Application Installed", "Application Opened", "Device Created or Updated"),
            *("Application Uninstalled", "Device Deleted"),
        )
    ),
    event(event="Relationship Deleted", properties={"objectId": "o-1"}),
    event(event="Object Deleted", properties={"objectId": "o-1", "object_type_id": "2"}),
    event(event="User Deleted"),
    event(event="User Suppressed"),
    event(event="User Unsuppressed"),
    event(event="Report Delivery Event", properties={"deliveryId": "d-1", "metric": "opened"}),
    event(event="Report Content Event", properties={"actionType": "clicked_content"}),
]


@pytest.mark.parametrize("batch", [False, True])
def test_every_preset_makes_requests_that_the_vendor_takes(batch: bool) -> None:
    matched = set()
    for preset in CIO.presets:
        satisfied = compile_trigger(preset.trigger)
        events = [each for each in PRESET_EVENTS if satisfied(each)]
        together = batch and CIO.actions[preset.action].batching is not None
        vendor = Vendor()
        requests = CIO.requests(preset.action, SETTINGS, preset.mapping, events, batch=together, now=NOW)
        assert [ask(vendor, request).status for request in requests] == [200] * len(requests)
        assert vendor.accepted
        matched |= {(preset.name, id(each)) for each in events}
    assert {name for name, _ in matched} == {preset.name for preset in CIO.presets}
    assert len(CIO.presets) == len(CIO.actions) == 15
    assert len(matched) == len(PRESET_EVENTS), "an event has one preset"


def test_an_event_that_comes_twice_is_taken_once() -> None:
    vendor = Vendor()
    (first,) = send("trackEvent", event(), event(messageId="m-2"), batch=True)
    (again,) = send("trackEvent", event())
    assert [ask(vendor, each).status for each in (first, again)] == [200, 200]
    assert [each["id"] for each in vendor.accepted] == ["m-1", "m-2"]


@pytest.mark.parametrize("action", ["trackEvent", "trackPageView", "trackScreenView"])
def test_a_presets_event_id_is_the_message_id(action: str) -> None:
    (preset,) = [each for each in CIO.presets if each.action == action]
    (request,) = CIO.requests(
        action, SETTINGS, preset.mapping, [event(name="Hall", properties={"url": "u"})], batch=False, now=NOW
    )
    assert msgspec.json.decode(request.body)["id"] == "m-1"


def test_of_a_partial_answer_each_event_gets_its_own_verdict() -> None:
    action = CIO.actions["trackEvent"]
    events = [event(messageId="m-1"), event(messageId="m-2", event="x" * 101), event(messageId="m-3")]
    (request,) = send("trackEvent", *events, batch=True)
    vendor = Vendor()
    answer = ask(vendor, request)
    assert answer.status == 207
    assert action.batching is not None
    assert action.batching.verdicts is batch_verdicts
    assert batch_verdicts([{}, {}, {}], answer.status, answer.body) == [
        DELIVERED,
        Verdict("hold", "invalid", "name: name cannot be longer than 100 bytes"),
        DELIVERED,
    ]
    assert [each["id"] for each in vendor.accepted] == ["m-1", "m-3"]


def test_after_a_400_that_names_events_the_others_are_tried_again() -> None:
    body = msgspec.json.encode({"errors": [{"batch_index": 1, "reason": "required", "field": "name", "message": "?"}]})
    first, second, third = batch_verdicts([{}, {}, {}], 400, body) or []
    assert (first.kind, first.reason) == (third.kind, third.reason) == ("retry", "400")
    assert second == Verdict("hold", "required", "name: ?")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"{}"),
        (200, b'{"errors":[]}'),
        (200, b'{"errors":null}'),
        (207, b'{"errors":[{"reason":"invalid"}]}'),
        (207, b'{"errors":[{"batch_index":2},{"batch_index":-1},{"batch_index":"0"},{"batch_index":true}]}'),
        (400, b'{"meta":{"error":"malformed json"}}'),
        (500, b'{"errors":[{"batch_index":0,"reason":"invalid"}]}'),
        (429, b'{"errors":[{"batch_index":0,"reason":"invalid"}]}'),
        (207, b"<html>"),
        (207, b"[]"),
    ],
)
def test_an_answer_that_names_no_event_holds_for_all(status: int, body: bytes) -> None:
    assert batch_verdicts([{}, {}], status, body) is None


def test_an_unknown_reason_is_counted_as_invalid_and_told() -> None:
    body = b'{"errors":[{"batch_index":0,"reason":"moonlight"}]}'
    assert batch_verdicts([{}], 207, body) == [Verdict("hold", "invalid", "moonlight")]


def test_a_full_batch_is_within_the_vendors_limits() -> None:
    batching = CIO.actions["trackEvent"].batching
    assert batching is not None
    assert batching.max_bytes < MAX_BATCH
    vendor = Vendor()
    events = [event(messageId=f"m-{number}", properties={"text": "x" * 4000}) for number in range(batching.max_size)]
    (request,) = send("trackEvent", *events, batch=True)
    assert len(request.body) <= batching.max_bytes
    assert ask(vendor, request).status == 200
    assert len(vendor.accepted) == batching.max_size


def test_the_vendor_refuses_too_large_a_batch_and_of_a_batch_too_large_an_event() -> None:
    vendor = Vendor()
    (request,) = send("trackEvent", *[event(properties={"text": "x" * 26_000})] * 20, batch=True)
    assert ask(vendor, request).status == 413
    large = event(messageId="m-2", properties={"text": "x" * MAX_ENTITY})
    (request,) = send("trackEvent", event(), large, batch=True)
    answer = ask(vendor, request)
    assert [each.kind for each in batch_verdicts([{}, {}], answer.status, answer.body) or []] == ["delivered", "hold"]
    (request,) = send("trackEvent", large)
    assert ask(vendor, request).status == 400


def test_the_vendor_knows_its_key_its_paths_and_its_limit() -> None:
    vendor = Vendor(allowed=1)
    (request,) = send("trackEvent", event())
    (foreign,) = send("trackEvent", event(), settings={"siteId": "SITE", "apiKey": "OTHER"})
    assert ask(vendor, foreign).status == 401
    assert [ask(vendor, request).status for _ in range(2)] == [200, 429]
    assert Vendor().answer(Arrived("POST", "/api/v3/entity")).status == 404
    assert Vendor().answer(Arrived("GET", "/api/v2/entity")).status == 405


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("US 🇺🇸", "https://track.customer.io"),
        ("US", "https://track.customer.io"),
        ("EU 🇪🇺", "https://track-eu.customer.io"),
        ("EU", "https://track-eu.customer.io"),
    ],
)
def test_the_region_picks_the_host(region: str, host: str) -> None:
    (request,) = send("trackEvent", event(), settings=SETTINGS | {"accountRegion": region})
    assert request.url == f"{host}/api/v2/entity"


def test_settings_that_can_not_work_are_refused_and_secrets_are_not_shown() -> None:
    for changes in ({"siteId": "S:1"}, {"siteId": "S\n"}, {"apiKey": "s3cret\r"}):
        settings = msgspec.convert(SETTINGS | changes, Settings)
        with pytest.raises(InvalidSettings) as found:
            CIO.check(settings)
        assert "s3cret" not in str(found.value)
        assert "s3cret" not in repr(settings)
    shown = repr(msgspec.convert(SETTINGS, Settings))
    assert "SITE" not in shown
    assert "KEY" not in shown


def test_it_is_in_the_catalog_under_segments_names() -> None:
    assert get("customerio").names == ("Actions Customerio", "Customer.io (Actions)")
