"""Mixpanel: what its actions send, what its stand-in says to that, and what is read of the answer."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from relayd.actions.fields import FieldError, compile_fields
from relayd.actions.mapping import compile_mapping
from relayd.actions.trigger import compile_trigger
from relayd.destinations import get
from relayd.destinations.action import DELIVERED, InvalidPayload, Payload, Verdict, defaults
from relayd.destinations.base import Request
from relayd.destinations.mixpanel import Mixpanel, Settings
from relayd.destinations.mixpanel.browser import browser
from relayd.destinations.mixpanel.events import MAX_BODY, MAX_EVENTS
from relayd.listener.message import Request as Arrived
from relayd.listener.message import Response
from relayd.testing.vendors.mixpanel import Mixpanel as Vendor

MIXPANEL = Mixpanel()
TOKEN, SECRET = "token-of-the-project", "secret-of-the-project"
SETTINGS = {"projectToken": TOKEN, "apiSecret": SECRET}
NOW = 1_790_000_000.5
TIME = 1_788_256_800_250
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.4 Mobile/15E148 Safari/604.1"
)
CHAIRS = [{"sku": "ch-1", "price": 80, "coupon": "half"}, {"sku": "ch-2", "price": "120.5", "note": "oak"}]


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
        **({"groupId": "acme"} if kind == "group" else {}),
        **({"previousId": f"browser-{number}"} if kind == "alias" else {}),
        **fields,
    }


def order(number: int = 1, products: object = CHAIRS, **properties: Any) -> dict[str, Any]:
    return event(number=number, event="Order Completed", properties={"products": products, **properties})


def requests(
    action: str, *events: dict[str, Any], batch: bool = False, settings: dict[str, Any] = SETTINGS, **mapping: Any
) -> list[Request]:
    """By the default mapping, with ``mapping`` over it."""
    mapped = defaults(MIXPANEL.actions[action].fields, **mapping)
    return MIXPANEL.requests(action, settings, mapped, events, batch=batch, now=NOW)


def imported(action: str, *events: dict[str, Any], batch: bool = False, **more: Any) -> list[dict[str, Any]]:
    """The events in the one request to /import."""
    (request,) = requests(action, *events, batch=batch, **more)
    found: list[dict[str, Any]] = msgspec.json.decode(request.body)
    return found


def properties(*events: dict[str, Any], **more: Any) -> dict[str, Any]:
    (made,) = imported("trackEvent", *events, **more)
    found: dict[str, Any] = made["properties"]
    return found


def data(request: Request) -> dict[str, Any]:
    (text,) = parse_qs(request.body.decode(), strict_parsing=True)["data"]
    found: dict[str, Any] = msgspec.json.decode(text)
    return found


def mixpanel() -> Vendor:
    return Vendor(TOKEN, SECRET, clock=lambda: NOW)


def ask(vendor: Vendor, request: Request) -> Response:
    url = urlsplit(request.url)
    return vendor.answer(Arrived(request.method, url.path, url.query, dict(request.headers), request.body))


def payloads(action: str, *events: dict[str, Any]) -> list[Payload]:
    fit = compile_fields(MIXPANEL.actions[action].fields)
    mapped = compile_mapping(defaults(MIXPANEL.actions[action].fields))
    return [fit(found) for each in events if isinstance(found := mapped(each), dict)]


def verdicts(action: str, answer: Response, *events: dict[str, Any]) -> list[Verdict] | None:
    """What the action reads of an answer to these events in a batch."""
    batching = MIXPANEL.actions[action].batching
    assert batching is not None
    assert batching.verdicts is not None
    found = batching.verdicts(payloads(action, *events), answer.status, answer.body)
    return None if found is None else list(found)


def answer_of(status: int, **body: Any) -> Response:
    return Response(status, msgspec.json.encode({"code": status, **body}))


def test_it_is_in_the_catalog_and_presets_use_actions_that_exist() -> None:
    assert get("mixpanel").type == "mixpanel"
    assert len(MIXPANEL.actions) == 6
    assert all(preset.action in MIXPANEL.actions for preset in MIXPANEL.presets)


@pytest.mark.parametrize("kind", ["track", "page", "screen", "identify", "group"])
def test_what_a_preset_makes_of_the_events_it_is_for_is_accepted(kind: str) -> None:
    vendor = mixpanel()
    events = [event(kind), order() if kind == "track" else event(kind, 2)]
    matched = 0
    for preset in MIXPANEL.presets:
        for each in filter(compile_trigger(preset.trigger), events):
            matched += 1
            for request in MIXPANEL.requests(preset.action, SETTINGS, preset.mapping, [each], batch=False, now=NOW):
                assert ask(vendor, request).body != b"0", preset.name
                assert ask(vendor, request).status == 200, preset.name
    assert matched == 2
    assert vendor.accepted


def test_an_event_says_who_did_it_when_and_with_what() -> None:
    made = properties(event())
    assert {key: made[key] for key in ("distinct_id", "id", "$user_id", "$identified_id")} == dict.fromkeys(
        ("distinct_id", "id", "$user_id", "$identified_id"), "customer-1"
    )
    assert made["$device_id"] == made["$anon_id"] == "browser-1"
    assert made["time"] == TIME
    assert (made["$browser"], made["$browser_version"]) == ("Mobile Safari", "17.4")
    assert (made["mp_lib"], made["turns"]) == ("Segment Actions: analytics.js", 3)
    assert (made["$source"], made["event_original_name"]) == ("segment", "Chair Rotated")


def test_an_anonymous_event_is_of_its_anonymous_id() -> None:
    made = properties(event(userId=None))
    assert made["distinct_id"] == made["id"] == made["$device_id"] == "browser-1"
    assert "$user_id" not in made


def test_campaigns_devices_and_hints_have_properties_of_their_own() -> None:
    context = {
        "campaign": {"name": "autumn", "source": "letter"},
        "device": {"name": "phone of Jo", "advertisingId": "ad-1", "adTrackingEnabled": True},
        "network": {"wifi": False, "carrier": "Tele"},
        "screen": {"width": "390"},
        "userAgentData": {"mobile": True, "platform": "iOS", "brands": []},
    }
    made = properties(event(context=context))
    assert (made["utm_campaign"], made["utm_source"]) == ("autumn", "letter")
    assert made["$device"] == made["$device_name"] == "phone of Jo"
    assert (made["$ios_ifa"], made["ad_tracking_enabled"]) == ("ad-1", "true")
    assert (made["$wifi_enabled"], made["$carrier"], made["$screen_width"]) == (False, "Tele", 390)
    assert (made["mobile"], made["platform"]) == (True, "iOS")
    assert "brands" not in made
    assert "$browser" not in made


def test_an_events_own_properties_do_not_say_who_did_it_or_when() -> None:
    own = {"distinct_id": "other", "time": 1, "$insert_id": "x", "$user_id": "other", "$os": "BeOS", "name": "Ann"}
    made = properties(event(properties=own))
    assert made["distinct_id"] == made["$user_id"] == "customer-1"
    assert (made["time"], made["$insert_id"]) == (TIME, "message-1")
    assert (made["$os"], made["name"]) == ("BeOS", "Ann")


def test_the_time_of_an_event_without_one_is_that_of_the_attempt() -> None:
    assert properties(event(timestamp=None))["time"] == 1_790_000_000_500
    assert properties(event(timestamp=1_700_000_000_000))["time"] == 1_700_000_000_000


@pytest.mark.parametrize("own", ["message-1", "5b1f0b1e-2f0e-4f43-9d92-2f9fd7a1a6d4"])
def test_the_insert_id_is_the_message_id(own: str) -> None:
    assert properties(event(messageId=own))["$insert_id"] == own
    (first, *_) = imported("trackPurchase", order() | {"messageId": own})
    assert first["properties"]["$insert_id"] == own


@pytest.mark.parametrize("own", ["ajs-next-1764000000000-5b1f0b1e-2f0e-4f43-9d92-2f9fd7a1a6d4", "a:b", "null", "ä"])
def test_a_message_id_that_mixpanel_would_not_take_becomes_the_same_digest_every_time(own: str) -> None:
    one, again = (properties(event(messageId=own))["$insert_id"] for _ in range(2))
    assert one == again != properties(event(messageId=own + "-"))["$insert_id"]
    vendor = mixpanel()
    (request,) = requests("trackEvent", event(messageId=own))
    assert ask(vendor, request).status == 200


def test_an_event_without_an_insert_id_has_one_that_is_made_of_it() -> None:
    one, again, other = (
        properties(event(number=number), insert_id={"@path": "$.nothing"})["$insert_id"] for number in (1, 1, 2)
    )
    assert one == again != other
    assert len(one) == 36


def test_an_event_that_is_sent_twice_is_kept_once() -> None:
    vendor = mixpanel()
    for action, each in [("trackEvent", event()), ("trackPurchase", order(2))] * 2:
        (request,) = requests(action, each)
        assert ask(vendor, request).status == 200
    assert len(vendor.accepted) == 4


def test_a_purchase_makes_an_event_for_the_order_and_one_for_each_product() -> None:
    whole, *parts = imported("trackPurchase", order(total=200, coupon="ten", order_id="o-1", gift=True))
    assert (whole["event"], whole["properties"]["total"]) == ("Order Completed", 200)
    assert [part["event"] for part in parts] == ["Product Purchased"] * 2
    one, two = (part["properties"] for part in parts)
    assert (one["sku"], one["price"], one["coupon"]) == ("ch-1", 80, "half")
    assert (two["sku"], two["price"], two["order_id"], two["gift"]) == ("ch-2", 120.5, "o-1", True)
    assert not {"total", "products", "coupon", "note"} & two.keys()
    assert [each["time"] for each in (whole["properties"], one, two)] == [TIME, TIME - 1, TIME - 2]
    assert [each["$insert_id"] for each in (one, two)] == ["0message-1", "1message-1"]


@pytest.mark.parametrize(
    ("each", "mapping"),
    [(order(), {"generatePurchaseEventPerProduct": False}), (order(products=[]), {}), (order(products=None), {})],
)
def test_a_purchase_is_one_event_when_products_are_not_wanted_or_there_are_none(
    each: dict[str, Any], mapping: dict[str, Any]
) -> None:
    assert [made["event"] for made in imported("trackPurchase", each, **mapping)] == ["Order Completed"]


def test_products_of_orders_with_long_message_ids_have_ids_of_their_own() -> None:
    vendor = mixpanel()
    (request,) = requests("trackPurchase", order() | {"messageId": "5b1f0b1e-2f0e-4f43-9d92-2f9fd7a1a6d4"})
    assert ask(vendor, request).status == 200
    assert len({made["properties"]["$insert_id"] for made in vendor.accepted}) == 3


@pytest.mark.parametrize(
    ("region", "host"),
    [("US 🇺🇸", "api"), ("EU 🇪🇺", "api-eu"), ("IN 🇮🇳", "api-in"), ("EU", "api-eu")],
)
def test_every_request_goes_to_the_region(region: str, host: str) -> None:
    for action, kind in [("trackEvent", "track"), ("identifyUser", "identify"), ("groupIdentifyUser", "group")]:
        for request in requests(action, event(kind), settings=SETTINGS | {"apiRegion": region}):
            assert urlsplit(request.url).netloc == f"{host}.mixpanel.com"


def test_the_token_authenticates_when_there_is_no_secret() -> None:
    vendor = mixpanel()
    (request,) = requests("trackEvent", event(), settings={"projectToken": TOKEN})
    assert ask(vendor, request).status == 200
    (request,) = requests("trackEvent", event(), settings={"projectToken": "another"})
    assert ask(vendor, request).status == 401


def test_the_source_is_named_where_it_has_a_name() -> None:
    named = SETTINGS | {"sourceName": "shop"}
    assert properties(event(), settings=named)["segment_source_name"] == "shop"
    assert "segment_source_name" not in properties(event())
    for action, kind in [("identifyUser", "identify"), ("alias", "alias")]:
        request = requests(action, event(kind), settings=named)[0]
        assert data(request)["properties"]["segment_source_name"] == "shop"


def test_identify_joins_the_ids_and_sets_the_traits_under_mixpanels_names() -> None:
    traits = {"firstName": "Jo", "lastName": "Doe", "email": "jo@example.com", "createdAt": "2025-01-01", "seats": 3}
    joined, update = requests("identifyUser", event("identify", traits=traits))
    assert (urlsplit(joined.url).path, urlsplit(update.url).path) == ("/track", "/engage")
    assert data(joined)["event"] == "$identify"
    assert data(joined)["properties"] == {"$identified_id": "customer-1", "$anon_id": "browser-1", "token": TOKEN}
    assert data(update)["$distinct_id"] == "customer-1"
    assert data(update)["$set"] == {
        "seats": 3,
        "$created": "2025-01-01",
        "$email": "jo@example.com",
        "$first_name": "Jo",
        "$last_name": "Doe",
        "$name": "Jo Doe",
    }


@pytest.mark.parametrize("missing", ["userId", "anonymousId"])
def test_identify_joins_nothing_when_one_id_is_known(missing: str) -> None:
    (update,) = requests("identifyUser", event("identify") | {missing: None})
    assert urlsplit(update.url).path == "/engage"
    assert data(update)["$distinct_id"] == ("customer-1" if missing == "anonymousId" else "browser-1")


def test_a_profile_has_the_name_that_is_given_or_none() -> None:
    (_, update) = requests("identifyUser", event("identify", traits={"name": "J.", "firstName": "Jo", "lastName": "D"}))
    assert data(update)["$set"]["$name"] == "J."
    (_, update) = requests("identifyUser", event("identify", traits={"firstName": "Jo"}))
    assert "$name" not in data(update)["$set"]
    assert len(requests("identifyUser", event("identify", traits={}))) == 1


def test_a_group_is_known_by_its_key_and_a_trait_of_that_name_is_its_id() -> None:
    (request,) = requests("groupIdentifyUser", event("group", traits={"name": "Acme", "seats": 9}))
    assert data(request) == {
        "$token": TOKEN,
        "$group_key": "$group_id",
        "$group_id": "acme",
        "$set": {"seats": 9, "$name": "Acme"},
    }
    (request,) = requests("groupIdentifyUser", event("group", traits={"company": "c-1"}), group_key="company")
    assert (data(request)["$group_key"], data(request)["$group_id"]) == ("company", "c-1")


def test_an_alias_is_another_name_of_a_user() -> None:
    vendor = mixpanel()
    (request,) = requests("alias", event("alias"))
    assert ask(vendor, request).body == b"1"
    (kept,) = vendor.accepted
    assert kept["event"] == "$create_alias"
    assert kept["properties"] == {"distinct_id": "browser-1", "alias": "customer-1", "token": TOKEN}


def test_increments_are_numbers_to_add() -> None:
    vendor = mixpanel()
    by = {"seats": 2, "credit": "-1.5", "plan": None, "gold": True}
    (request,) = requests("incrementProperties", event(userId=None, properties={"increment": by}))
    assert ask(vendor, request).body == b"1"
    assert data(request)["$distinct_id"] == "browser-1"
    assert data(request)["$add"] == {"seats": 2, "credit": -1.5}
    assert requests("incrementProperties", event(properties={"increment": {}})) == []


@pytest.mark.parametrize(
    ("action", "each"),
    [
        ("identifyUser", event("identify", userId=None, anonymousId=None)),
        ("groupIdentifyUser", event("group", traits=None)),
        ("alias", event("alias", previousId=None)),
        ("alias", event("alias", userId=None, anonymousId=None)),
        ("incrementProperties", event(properties={"increment": {"seats": "c0nfidential"}})),
        ("incrementProperties", event(userId=None, anonymousId=None, properties={"increment": {"seats": 1}})),
        ("trackPurchase", order(products=[{"sku": "c0nfidential"}] * MAX_EVENTS)),
    ],
)
def test_what_can_not_be_sent_is_refused_without_a_value_or_a_secret(action: str, each: dict[str, Any]) -> None:
    with pytest.raises(InvalidPayload) as caught:
        requests(action, each)
    for hidden in ("c0nfidential", TOKEN, SECRET, "customer"):
        assert hidden not in str(caught.value)


@pytest.mark.parametrize(
    ("action", "each"),
    [
        ("trackEvent", event(event=None)),
        ("trackPurchase", order() | {"event": None}),
        ("groupIdentifyUser", event("group", groupId=None)),
        ("incrementProperties", event()),
    ],
)
def test_what_lacks_a_required_field_is_refused(action: str, each: dict[str, Any]) -> None:
    with pytest.raises(FieldError, match="is missing, it is required"):
        requests(action, each)


@pytest.mark.parametrize("action", ["trackEvent", "trackPurchase"])
def test_a_full_batch_is_one_request_that_is_taken(action: str) -> None:
    batching = MIXPANEL.actions[action].batching
    assert batching is not None
    assert (batching.max_size, batching.max_bytes) == (MAX_EVENTS, MAX_BODY)
    vendor = mixpanel()
    events = [event(number=number) for number in range(batching.max_size)]
    (request,) = requests(action, *events, batch=True)
    assert ask(vendor, request).status == 200
    assert len(vendor.accepted) == MAX_EVENTS
    assert len(request.body) < MAX_BODY


def test_purchases_whose_products_do_not_fit_one_request_are_refused_to_be_sent_in_halves() -> None:
    events = [order(number, products=[{"sku": "x"}] * 10) for number in range(200)]
    with pytest.raises(InvalidPayload, match="2200 events"):
        requests("trackPurchase", *events, batch=True)
    assert len(imported("trackPurchase", *events[:100], batch=True)) == 1100


def test_of_a_batch_what_mixpanel_refuses_is_held_and_the_rest_is_delivered() -> None:
    vendor = mixpanel()
    events = [event(), event(number=2, userId="undefined"), event(number=3)]
    (request,) = requests("trackEvent", *events, batch=True)
    answer = ask(vendor, request)
    assert answer.status == 400
    delivered, held, also = verdicts("trackEvent", answer, *events) or []
    assert delivered == also == DELIVERED
    assert (held.kind, held.reason) == ("hold", "400")
    assert "properties.distinct_id" in held.detail
    assert [made["properties"]["$insert_id"] for made in vendor.accepted] == ["message-1", "message-3"]


def test_of_an_answer_that_does_not_add_up_who_is_not_named_is_sent_again() -> None:
    failed = [{"index": 1, "insert_id": "message-2", "field": "event", "message": "no"}]
    answer = answer_of(400, failed_records=failed, num_records_imported=1)
    one, held, two = verdicts("trackEvent", answer, event(), event(number=2), event(number=3)) or []
    assert one == two
    assert (one.kind, one.reason) == ("retry", "400")
    assert "1 of 3" in one.detail
    assert (held.kind, held.detail) == ("hold", "event: no")


def test_an_order_is_held_when_one_of_its_products_is_refused() -> None:
    vendor = mixpanel()
    events = [order(), order(2, products=[{"sku": "ok"}]), order(3)]
    (request,) = requests("trackPurchase", *events, batch=True)
    made = msgspec.json.decode(request.body)
    made[7]["properties"]["distinct_id"] = "null"  # the last product of the third order
    tampered = Request(request.method, request.url, request.headers, msgspec.json.encode(made))
    answer = ask(vendor, tampered)
    assert [each.kind for each in verdicts("trackPurchase", answer, *events) or []] == [
        "delivered",
        "delivered",
        "hold",
    ]
    assert len(vendor.accepted) == 7


@pytest.mark.parametrize(
    "answer",
    [
        answer_of(200, num_records_imported=2),
        answer_of(400, error="no array"),
        Response(400, b"<html>"),
        answer_of(401),
        answer_of(413),
        answer_of(429),
        answer_of(503, failed_records=[{"index": 0}]),
    ],
)
def test_an_answer_that_does_not_tell_events_apart_is_left_to_its_status(answer: Response) -> None:
    assert verdicts("trackEvent", answer, event(), event(number=2)) is None


def test_an_event_alone_that_is_refused_says_why() -> None:
    vendor = mixpanel()
    (request,) = requests("trackEvent", event(timestamp="1969-01-01T00:00:00.000Z"))
    answer = ask(vendor, request)
    verdict = MIXPANEL.actions["trackEvent"].verdicts
    assert verdict is not None
    found = verdict(payloads("trackEvent", event())[0], answer.status, answer.body)
    assert found is not None
    assert (found.kind, found.reason) == ("hold", "400")
    assert found.detail.startswith("properties.time: ")


def test_an_answer_of_0_is_a_no() -> None:
    verdict = MIXPANEL.actions["alias"].verdicts
    assert verdict is not None
    refused = verdict({}, 200, b"0\n")
    assert refused is not None
    assert (refused.kind, refused.reason) == ("hold", "REFUSED")
    assert verdict({}, 200, b"1") is None
    assert verdict({}, 500, b"0") is None


def test_secrets_are_not_shown() -> None:
    shown = repr(msgspec.convert(SETTINGS, Settings))
    assert TOKEN not in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("user_agent", "found"),
    [
        ("Mozilla/5.0 (X11; Linux) AppleWebKit/537.36 Chrome/120.0.0.0 Safari/537.36 OPR/106.0", ("Opera", "106.0")),
        ("Opera/9.8 (Android; Opera Mini/36.2/119.132; U; en) Presto/2.12 OPR/36.2", ("Opera Mini", None)),
        ("Mozilla/5.0 Chrome/120.0.6099.5 Safari/537.36 Edg/120.0.2210.61", ("Microsoft Edge", "120.0.2210.61")),
        ("Mozilla/5.0 (Linux; Android 13) SamsungBrowser/23.0 Chrome/115.0.0.0", ("Samsung Internet", "23.0")),
        ("Mozilla/5.0 (Macintosh) Version/17.2 Safari/605.1.15", ("Safari", "17.2")),
        ("Mozilla/5.0 (Macintosh) Version/17 Safari/605.1.15", ("Safari", None)),
        ("Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko", ("Internet Explorer", "11.0")),
        ("Mozilla/5.0 (X11; rv:121.0) Gecko/20100101 Firefox/121.0", ("Firefox", "121.0")),
        ("Mozilla/5.0 (BB10; Touch) Version/10.3 Mobile Safari/537.35", ("BlackBerry", None)),
        ("UCWEB/2.0 (Java; U) U2/1.0.0 UCBrowser/9.4.1.482", ("UC Browser", "2.0")),
        ("curl/8.4.0", ("", None)),
        ("Chrome/1.2 " + "x" * 1000, ("Chrome", "1.2")),
    ],
)
def test_a_browser_is_known_by_its_user_agent(user_agent: str, found: tuple[str, str | None]) -> None:
    assert browser(user_agent) == found
