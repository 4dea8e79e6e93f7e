"""Amplitude: what its actions send, what its stand-in says to that, and what is read of the answer."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from relayd.actions.fields import FieldError, compile_fields
from relayd.actions.mapping import compile_mapping
from relayd.actions.trigger import compile_trigger
from relayd.destinations import get
from relayd.destinations.action import InvalidPayload, Payload, Verdict, defaults
from relayd.destinations.amplitude import Amplitude, Settings, user_agent
from relayd.destinations.amplitude.requests import MAX_EVENTS
from relayd.destinations.base import Request
from relayd.listener.message import Request as Arrived
from relayd.listener.message import Response
from relayd.testing.vendors.amplitude import Amplitude as Vendor

AMPLITUDE = Amplitude()
KEY = "key-of-the-project"
SETTINGS = {"apiKey": KEY, "secretKey": "other-secret"}
NOW = 1_790_000_000.5
LOGS = pytest.mark.parametrize("action", ["logEvent", "logEventV2", "logPurchase"])
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.4 Mobile/15E148 Safari/604.1"
)


def event(kind: str = "track", number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "messageId": f"message-{number}",
        "userId": f"customer-{number}",
        "anonymousId": f"browser-{number}",
        "timestamp": "2026-09-01T10:00:00.250Z",
        "context": {"library": {"name": "analytics.js"}, "ip": "192.0.2.7", "userAgent": IPHONE},
        **({"event": "Chair Rotated", "properties": {"turns": 3}} if kind == "track" else {}),
        **({"name": "Chairs"} if kind in ("page", "screen") else {}),
        **({"traits": {"plan": "gold"}} if kind in ("identify", "group") else {}),
        **({"previousId": f"browser-{number}"} if kind == "alias" else {}),
        **fields,
    }


def requests(action: str, *events: dict[str, Any], batch: bool = False, **mapping: Any) -> list[Request]:
    """By the default mapping, with ``mapping`` over it."""
    mapped = defaults(AMPLITUDE.actions[action].fields, **mapping)
    return AMPLITUDE.requests(action, SETTINGS, mapped, events, batch=batch, now=NOW)


def sent(action: str, *events: dict[str, Any], batch: bool = False, **mapping: Any) -> dict[str, Any]:
    """What is in the body of the one request."""
    (request,) = requests(action, *events, batch=batch, **mapping)
    body: dict[str, Any] = msgspec.json.decode(request.body)
    return body


def form(request: Request) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(request.body.decode(), strict_parsing=True).items()}


def ask(vendor: Vendor, request: Request) -> Response:
    return vendor.answer(
        Arrived(request.method, urlsplit(request.url).path, headers=dict(request.headers), body=request.body)
    )


def payloads(action: str, *events: dict[str, Any], **mapping: Any) -> list[Payload]:
    """What the action takes of events."""
    fit = compile_fields(AMPLITUDE.actions[action].fields)
    mapped = compile_mapping(defaults(AMPLITUDE.actions[action].fields, **mapping))
    found = [mapped(each) for each in events]
    return [fit(each) for each in found if isinstance(each, dict)]


def verdicts(action: str, vendor: Vendor, *events: dict[str, Any], **mapping: Any) -> list[Verdict] | None:
    """What the action reads of the stand-in's answer to a batch."""
    (request,) = requests(action, *events, batch=True, **mapping)
    answer = ask(vendor, request)
    batching = AMPLITUDE.actions[action].batching
    assert batching is not None
    assert batching.verdicts is not None
    found = batching.verdicts(payloads(action, *events, **mapping), answer.status, answer.body)
    return None if found is None else list(found)


def test_it_is_in_the_catalog_and_presets_use_actions_that_exist() -> None:
    assert get("amplitude").type == "amplitude"
    assert all(preset.action in AMPLITUDE.actions for preset in AMPLITUDE.presets)


@pytest.mark.parametrize("kind", ["track", "page", "screen", "identify"])
def test_what_a_preset_makes_of_the_events_it_is_for_is_accepted(kind: str) -> None:
    vendor = Vendor(KEY)
    matched = 0
    for preset in AMPLITUDE.presets:
        for each in (event(kind), event(kind, event="Order Completed") if kind == "track" else event(kind, 2)):
            if not compile_trigger(preset.trigger)(each):
                continue
            matched += 1
            for request in AMPLITUDE.requests(preset.action, SETTINGS, preset.mapping, [each], batch=False, now=NOW):
                assert ask(vendor, request).status == 200, preset.name
    assert matched == 2
    assert vendor.accepted


@LOGS
def test_an_event_is_sent_with_its_time_its_platform_and_its_device(action: str) -> None:
    (body,) = sent(action, event())["events"]
    assert body["event_type"] == "Chair Rotated"
    assert body["event_properties"] == {"turns": 3}
    assert body["time"] == 1_788_256_800_250
    assert (body["platform"], body["library"]) == ("Web", "analytics.js")
    assert {key: body[key] for key in body if key.startswith(("os_", "device_"))} == {
        "device_id": "browser-1",
        "os_name": "iOS",
        "os_version": "17",
        "device_manufacturer": "Apple",
        "device_model": "iPhone",
        "device_type": "mobile",
    }
    assert "userAgent" not in body


def test_what_the_event_says_of_its_device_wins_over_the_user_agent() -> None:
    context = {"userAgent": IPHONE, "os": {"name": "visionOS"}, "device": {"type": "android", "model": "Vision"}}
    (body,) = sent("logEvent", event(context=context), includeRawUserAgent=True)["events"]
    assert (body["os_name"], body["device_model"], body["platform"]) == ("visionOS", "Vision", "Android")
    assert body["user_agent"] == IPHONE
    data = {"model": "Folding", "platformVersion": "15.1"}
    (body,) = sent("logEvent", event(), userAgentData=data)["events"]
    assert (body["os_version"], body["device_model"]) == ("15.1", "Folding")
    (body,) = sent("logEvent", event(), userAgentParsing=False)["events"]
    assert "os_name" not in body


@LOGS
def test_the_messageid_is_the_key_by_which_an_event_that_is_sent_twice_counts_once(action: str) -> None:
    vendor = Vendor(KEY)
    for _ in range(2):
        (request,) = requests(action, event(number=1), event(number=2), batch=True)
        assert ask(vendor, request).status == 200
    assert [each["insert_id"] for each in vendor.accepted] == ["message-1", "message-2"]


def test_group_and_identify_have_the_messageid_too() -> None:
    (identify,) = requests("identifyUser", event("identify"))
    assert msgspec.json.decode(form(identify)["identification"])["insert_id"] == "message-1"
    (member, _) = requests("groupIdentifyUser", event("group"), group_type="company", group_value="acme")
    assert msgspec.json.decode(form(member)["identification"])[0]["insert_id"] == "message-1"


def test_session_and_time_are_milliseconds_however_they_are_written() -> None:
    for said in (1_788_256_800_250, "1788256800250", "2026-09-01T12:00:00.250+02:00"):
        (body,) = sent("logEvent", event(), time={"@literal": said}, session_id={"@literal": said})["events"]
        assert (body["time"], body["session_id"]) == (1_788_256_800_250, 1_788_256_800_250)
    (body,) = sent("logEvent", event(), session_id={"@literal": -1})["events"]
    assert body["session_id"] == -1


def test_campaign_and_referrer_are_set_as_last_and_as_first_but_what_the_user_sets_wins() -> None:
    context = {"campaign": {"source": "post", "name": "autumn"}, "page": {"referrer": "https://a.example/"}}
    said = {"@literal": {"age": 7, "$set": {"utm_source": "own"}, "$add": {"visits": 1}}}
    (body,) = sent("logEvent", event(context=context), user_properties=said)["events"]
    assert body["user_properties"] == {
        "age": 7,
        "$add": {"visits": 1},
        "$set": {"utm_source": "own", "utm_campaign": "autumn", "referrer": "https://a.example/"},
        "$setOnce": {
            "initial_utm_source": "post",
            "initial_utm_campaign": "autumn",
            "initial_referrer": "https://a.example/",
        },
    }
    (request,) = requests("identifyUser", event("identify", context=context), user_properties=said)
    identified = msgspec.json.decode(form(request)["identification"])["user_properties"]
    assert identified["$set"]["utm_source"] == "post", "an identify is the other way round, as Segment's"


def test_operations_on_the_user_that_do_nothing_are_left_out() -> None:
    nothing: dict[str, Any] = {"setOnce": {"initial_referrer": ""}, "setAlways": {}, "add": {"@literal": {"visits": 0}}}
    (body,) = sent("logEventV2", event(), **nothing)["events"]
    assert "user_properties" not in body
    (body,) = sent("logEventV2", event(), **nothing | {"add": {"@literal": {"visits": 2}}})["events"]
    assert body["user_properties"] == {"$add": {"visits": 2}}


CHAIRS = [{"price": 20, "quantity": 2, "productId": "c-1"}, {"revenue": 7.5, "productId": "c-2"}]


def test_a_purchase_is_an_event_with_the_revenue_and_one_for_each_product() -> None:
    order = event(event="Order Completed", properties={"revenue": 47.5, "products": CHAIRS})
    whole, *products = sent("logPurchase", order)["events"]
    assert (whole["revenue"], whole["revenueType"]) == (47.5, "Purchase")
    assert [each["event_type"] for each in products] == ["Product Purchased"] * 2
    assert [each["event_properties"] for each in products] == CHAIRS
    assert [each["insert_id"] for each in (whole, *products)] == ["message-1", "message-1-2", "message-1-3"]
    assert not any("revenue" in each for each in products)


def test_revenue_is_tracked_by_product_when_asked_for() -> None:
    order = event(event="Order Completed", properties={"revenue": 47.5, "products": CHAIRS})
    whole, one, two = sent("logPurchase", order, trackRevenuePerProduct=True)["events"]
    assert "revenue" not in whole
    assert (one["revenue"], one["quantity"], one["price"], one["productId"]) == (40, 2, 20, "c-1")
    assert two["revenue"] == 7.5
    assert "quantity" not in two


@LOGS
def test_endpoint_region_and_options_are_chosen_by_mapping_and_settings(action: str) -> None:
    mapping = defaults(AMPLITUDE.actions[action].fields, use_batch_endpoint=True, min_id_length=2)
    settings = SETTINGS | {"endpoint": "europe"}
    (request,) = AMPLITUDE.requests(action, settings, mapping, [event(userId="ab")], batch=False, now=NOW)
    assert request.url == "https://api.eu.amplitude.com/batch"
    assert msgspec.json.decode(request.body)["options"] == {"min_id_length": 2}
    assert ask(Vendor(KEY), request).status == 200
    (usual,) = requests(action, event())
    assert usual.url == "https://api2.amplitude.com/2/httpapi"
    batching = AMPLITUDE.actions[action].batching
    assert batching is not None
    assert set(batching.keys) == {"use_batch_endpoint", "min_id_length"}, "a request has one of each"


def test_a_users_properties_are_a_form_that_amplitude_takes() -> None:
    (request,) = requests("identifyUser", event("identify", traits={"plan": "gold", "note": "ä&b=c ~*"}))
    assert request.url == "https://api2.amplitude.com/identify"
    said = form(request)
    assert said["options"] == "undefined", "the word is what Segment sends"
    assert msgspec.json.decode(said["identification"])["user_properties"] == {"plan": "gold", "note": "ä&b=c ~*"}
    assert ask(Vendor(KEY), request).status == 200


def test_a_group_is_said_of_its_member_and_then_described() -> None:
    vendor = Vendor(KEY)
    found = requests("groupIdentifyUser", event("group"), group_type="company", group_value="acme", time="")
    assert [ask(vendor, request).status for request in found] == [200, 200]
    member, group = vendor.accepted
    assert (member["path"], member["groups"], member["time"]) == ("/identify", {"company": "acme"}, int(NOW * 1000))
    assert (group["path"], group["group_properties"]) == ("/groupidentify", {"plan": "gold"})


def test_a_group_without_a_member_is_only_described() -> None:
    alone = event("group", userId=None, anonymousId=None)
    (request,) = requests("groupIdentifyUser", alone, group_type="company", group_value="acme")
    assert request.url.endswith("/groupidentify")
    with pytest.raises(FieldError, match="group_type"):
        requests("groupIdentifyUser", alone, group_value="acme")


def test_an_alias_maps_the_earlier_id_to_the_later() -> None:
    vendor = Vendor(KEY)
    (request,) = requests("mapUser", event("alias"), min_id_length=3)
    assert request.url == "https://api.amplitude.com/usermap"
    assert form(request)["options"] == '{"min_id_length":3}'
    assert ask(vendor, request).status == 200
    assert vendor.accepted[0]["global_user_id"] == "customer-1"
    with pytest.raises(InvalidPayload, match="without user_id"):
        requests("mapUser", event("alias", previousId=None))


@pytest.mark.parametrize(
    ("action", "fields", "names"),
    [
        ("logEvent", {"userId": None, "anonymousId": None}, "user_id or device_id"),
        ("logEventV2", {"userId": "", "anonymousId": ""}, "user_id or device_id"),
        ("identifyUser", {"userId": None, "anonymousId": None}, "user_id or device_id"),
        ("logEventV2", {"event": None}, "event_type"),
        ("logPurchase", {"timestamp": "sometime"}, "time"),
    ],
)
def test_what_amplitude_would_refuse_is_refused_here_by_the_fields_name(
    action: str, fields: dict[str, Any], names: str
) -> None:
    with pytest.raises((InvalidPayload, FieldError), match=names) as refused:
        requests(action, event(**fields))
    for value in (KEY, "other-secret", "customer-1", "sometime"):
        assert value not in str(refused.value)


def test_settings_that_are_printed_hide_the_keys() -> None:
    shown = repr(msgspec.convert(SETTINGS, Settings))
    assert KEY not in shown
    assert "other-secret" not in shown


@LOGS
def test_a_full_batch_is_one_request_within_the_limits(action: str) -> None:
    batching = AMPLITUDE.actions[action].batching
    assert batching is not None
    assert batching.size <= batching.max_size == MAX_EVENTS
    vendor = Vendor(KEY)
    (request,) = requests(action, *(event(number=number) for number in range(batching.max_size)), batch=True)
    assert ask(vendor, Request("POST", "https://api2.amplitude.com/batch", request.headers, request.body)).status == 200
    assert len(vendor.accepted) == MAX_EVENTS
    (request,) = requests(action, *(event(number=number) for number in range(batching.size)), batch=True)
    assert len(request.body) < batching.max_bytes
    assert ask(Vendor(KEY), request).status == 200


def test_more_products_than_a_request_holds_are_refused_together_and_not_apart() -> None:
    orders = [event(number=number, properties={"products": CHAIRS * 400}) for number in range(3)]
    with pytest.raises(InvalidPayload, match="products"):
        requests("logPurchase", *orders, batch=True)
    assert [ask(Vendor(KEY), request).status for request in requests("logPurchase", *orders)] == [200] * 3


@LOGS
def test_of_a_refused_batch_the_faulty_are_held_and_the_others_retried_and_then_delivered(action: str) -> None:
    vendor = Vendor(KEY, throttled=["customer-3"], silenced=["browser-2"])
    events = [event(number=number) for number in range(1, 4)]
    found = verdicts(action, vendor, *events)
    assert found is not None
    assert [(verdict.kind, verdict.reason) for verdict in found] == [
        ("retry", "batch_refused"),
        ("hold", "silenced"),
        ("retry", "throttled"),
    ]
    assert vendor.accepted == [], "it takes all or none"
    assert verdicts(action, vendor, events[0]) is None
    assert [each["insert_id"] for each in vendor.accepted] == ["message-1"]
    assert found[1].detail == "Events silenced for device_id"


@pytest.mark.parametrize(
    ("fields", "reason", "detail"),
    [
        ({"userId": "unknown"}, "invalid_field", "user_id"),
        ({"event": "[Amplitude] Revenue"}, "invalid_field", "event_type"),
        ({"userId": "x", "anonymousId": "y"}, "invalid_id_length", "device_id"),
    ],
)
def test_an_event_with_a_fault_is_held_with_the_fields_name(fields: dict[str, str], reason: str, detail: str) -> None:
    found = verdicts("logEventV2", Vendor(KEY), event(number=1), event(number=2, **fields))
    assert found is not None
    assert [(verdict.kind, verdict.reason) for verdict in found] == [("retry", "batch_refused"), ("hold", reason)]
    assert found[1].detail.endswith(detail)


def test_a_missing_field_is_held_also_when_it_is_invalid_as_well() -> None:
    batching = AMPLITUDE.actions["logEvent"].batching
    assert batching is not None
    assert batching.verdicts is not None
    body = b'{"error":"E","events_with_invalid_fields":{"time":[0]},"events_with_missing_fields":{"event_type":[0]}}'
    (found,) = batching.verdicts([{}], 400, body) or ()
    assert (found.kind, found.reason, found.detail) == ("hold", "missing_field", "E: event_type")


def test_users_over_the_limits_are_retried_for_what_they_exceed() -> None:
    vendor = Vendor(KEY, throttled=["customer-1"], over_quota=["browser-2"])
    found = verdicts("logEvent", vendor, event(number=1), event(number=2), event(number=3))
    assert found is not None
    assert [verdict.kind for verdict in found] == ["retry"] * 3
    assert [verdict.reason for verdict in found] == ["throttled", "daily_quota", "batch_refused"]


def test_a_purchase_is_held_for_any_of_its_events_and_those_after_it_are_told_apart() -> None:
    batching = AMPLITUDE.actions["logPurchase"].batching
    assert batching is not None
    assert batching.verdicts is not None
    orders: list[Payload] = [{"products": [{}, {}]}, {}, {"products": [{}]}]
    body = msgspec.json.encode({"error": "E", "events_with_invalid_fields": {"price": [2, 5]}, "throttled_events": [0]})
    found = batching.verdicts(orders, 400, body)
    assert found is not None
    assert [(each.kind, each.reason) for each in found] == [
        ("hold", "invalid_field"),
        ("retry", "batch_refused"),
        ("hold", "invalid_field"),
    ]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"error":"Invalid API key: K"}', b'{"silenced_events":[7]}'])
def test_a_refusal_that_names_no_event_is_left_to_its_status(body: bytes) -> None:
    action = AMPLITUDE.actions["logEvent"]
    assert action.batching is not None
    assert action.batching.verdicts is not None
    assert action.batching.verdicts([{}, {}], 400, body) is None
    assert action.verdicts is not None
    assert action.verdicts({}, 429, body) is None
    assert action.verdicts({}, 503, b'{"throttled_events":[0]}') is None


def test_an_event_that_was_sent_alone_has_the_same_reasons() -> None:
    vendor = Vendor(KEY, silenced=["browser-1"])
    (request,) = requests("logEvent", event())
    answer = ask(vendor, request)
    read = AMPLITUDE.actions["logEvent"].verdicts
    assert read is not None
    verdict = read(payloads("logEvent", event())[0], answer.status, answer.body)
    assert verdict is not None
    assert (verdict.kind, verdict.reason) == ("hold", "silenced")


def test_the_stand_in_refuses_what_amplitude_refuses() -> None:
    (request,) = requests("logEvent", event())
    vendor = Vendor("another key")
    assert ask(vendor, request).status == 400
    vendor = Vendor(KEY)
    wrong = {**request.headers, "content-type": "text/plain"}
    assert ask(vendor, Request("POST", request.url, wrong, request.body)).status == 400
    assert ask(vendor, Request("GET", request.url, request.headers, b"")).status == 405
    assert ask(vendor, Request("POST", request.url, request.headers, b" " * 1_000_001)).status == 413
    assert ask(vendor, Request("POST", request.url, request.headers, b'{"api_key":"a"}')).status == 400
    (request,) = requests("identifyUser", event("identify"))
    assert ask(Vendor(KEY, throttled=["customer-1"]), request).status == 429
    assert vendor.accepted == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (IPHONE, ("iOS", "17", "Apple", "iPhone", "mobile")),
        (
            "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/120.0 "
            "Mobile/15E148 Safari/604.1",
            ("iOS", "120", "Apple", "iPad", "tablet"),
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/121.0.0.0 "
            "Safari/537.36 Edg/121.0.2277.83",
            ("Windows", "121", None, None, None),
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:122.0) Gecko/20100101 Firefox/122.0",
            ("Linux", "122", None, None, None),
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_2) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 "
            "Safari/605.1.15",
            ("Mac OS", "17", None, None, None),
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Mobile "
            "Safari/537.36",
            ("Android", "122", None, None, "mobile"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; SM-S921B Build/UP1A; wv) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Version/4.0 Chrome/123.0.0.0 Mobile Safari/537.36",
            ("Android", "123", "Samsung", "SM-S921B", "mobile"),
        ),
        (
            "Mozilla/5.0 (Linux; Android 13; SM-T970) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/23.0 "
            "Chrome/115.0.0.0 Safari/537.36",
            ("Android", "23", "Samsung", "SM-T970", "tablet"),
        ),
        ("curl/8.5.0", (None, None, None, None, None)),
    ],
)
def test_a_user_agent_says_system_browser_version_maker_model_and_kind(text: str, expected: tuple[str, ...]) -> None:
    agent = user_agent.parse(text)
    assert (agent.system, agent.browser_version, agent.maker, agent.model, agent.kind) == expected
