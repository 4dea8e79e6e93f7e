"""Google Analytics 4: what is sent, and what Google would say of it."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from relayd.actions.faults import FieldError
from relayd.actions.trigger import compile_trigger
from relayd.destinations import InvalidSettings, get
from relayd.destinations.action import InvalidPayload, defaults
from relayd.destinations.base import Request
from relayd.destinations.google_analytics_4 import GoogleAnalytics4, Settings
from relayd.listener.message import Request as Arrived
from relayd.listener.message import Response
from relayd.testing.vendors.google_analytics_4 import GoogleAnalytics4 as Vendor

GA4 = GoogleAnalytics4()
SECRET = "s3cr3t/+ &x"
SETTINGS = Settings(api_secret=SECRET, measurement_id="G-XXX", firebase_app_id="1:23:android:45")
NOW = 1_767_323_100.0
TIME = "2026-01-02T03:04:05.678Z"
MUG: dict[str, object] = {"product_id": "sku-1", "name": "Mug", "price": 7.5, "quantity": 2, "position": 3}
MONEY: dict[str, object] = {"currency": "chf", "value": 15}


def event(name: str | None = None, properties: dict[str, object] | None = None, **more: object) -> dict[str, object]:
    base = {"messageId": "m-1", "timestamp": TIME, "userId": "u-1", "anonymousId": "a-1"}
    return base | {"type": "track", "event": name, "properties": properties or {}} | more


def send(action: str, what: dict[str, object], **mapping: object) -> Request:
    mapped = defaults(GA4.actions[action].fields, **mapping)
    (request,) = GA4.requests(action, SETTINGS, mapped, [what], batch=False, now=NOW)
    return request


def ask(vendor: Vendor, request: Request, path: str = "") -> Response:
    parts = urlsplit(request.url)
    return vendor.answer(
        Arrived(request.method, path or parts.path, parts.query, headers=dict(request.headers), body=request.body)
    )


def kept(request: Request) -> dict[str, Any]:
    """The event, once Google has found nothing wrong with it."""
    vendor = Vendor(SECRET, now=NOW)
    assert ask(vendor, request, "/debug/mp/collect").body == b'{"validationMessages":[]}'
    assert ask(vendor, request).status == 204
    (accepted,) = vendor.accepted
    return accepted


def test_the_secret_and_the_stream_are_in_the_query_and_nowhere_else() -> None:
    request = send("login", event())
    assert request.url.startswith("https://www.google-analytics.com/mp/collect?")
    assert parse_qs(urlsplit(request.url).query) == {"api_secret": [SECRET], "measurement_id": ["G-XXX"]}
    assert SECRET not in repr(SETTINGS) + repr(dict(request.headers)) + request.body.decode()


def test_an_app_stream_has_its_own_ids_whose_colons_stay() -> None:
    request = send("login", event(), data_stream_type="Mobile App", app_instance_id="abc")
    assert request.url.endswith("&firebase_app_id=1:23:android:45")
    assert kept(request)["app_instance_id"] == "abc"
    assert "client_id" not in msgspec.json.decode(request.body)


def test_who_when_and_consent_are_of_the_whole_request() -> None:
    request = send(
        "login",
        event(),
        user_id={"@path": "$.userId"},
        user_properties={"plan": "pro", "gone": None},
        ad_user_data_consent="GRANTED",
        ad_personalization_consent="DENIED",
    )
    assert kept(request) == {
        "name": "login",
        "params": {"engagement_time_msec": 1},
        "client_id": "u-1",
        "user_id": "u-1",
        "timestamp_micros": 1_767_323_045_678_000,
        "user_properties": {"plan": {"value": "pro"}, "gone": {"value": None}},
        "consent": {"ad_user_data": "GRANTED", "ad_personalization": "DENIED"},
    }


@pytest.mark.parametrize(
    ("at", "micros"),
    [
        ("2026-01-02T03:04:05+01:00", 1_767_319_445_000_000),
        ("1767323045678000", 1_767_323_045_678_000),
        (1_767_323_045_678_000, 1_767_323_045_678_000),
    ],
)
def test_times_become_microseconds_unless_they_are(at: object, micros: int) -> None:
    assert msgspec.json.decode(send("login", event(timestamp=at)).body)["timestamp_micros"] == micros


def test_the_client_is_the_user_and_else_the_anonymous_one() -> None:
    assert msgspec.json.decode(send("search", event(properties={"query": "mugs"})).body)["client_id"] == "u-1"
    anonymous = event(properties={"query": "mugs"}, userId=None)
    assert msgspec.json.decode(send("search", anonymous).body)["client_id"] == "a-1"


MANY = {"products": [MUG, {"product_id": "sku-2", "price": 1}]}
ITEMS = [
    {"item_id": "sku-1", "item_name": "Mug", "price": 7.5, "quantity": 2, "index": 3},
    {"item_id": "sku-2", "price": 1},
]
ONE = [{"item_id": "sku-1", "item_name": "Mug", "price": 7.5, "quantity": 2}]
ACTIONS: list[tuple[str, str, dict[str, object], dict[str, object]]] = [
    # action, Google's event, properties, parameters
    (
        "purchase",
        "purchase",
        {"order_id": "o-1", "total": 9, "tax": 1, "shipping": 2, "currency": "eur", "coupon": "c", **MANY},
        {
            "transaction_id": "o-1",
            "value": 9,
            "tax": 1,
            "shipping": 2,
            "currency": "EUR",
            "coupon": "c",
            "items": ITEMS,
        },
    ),
    (
        "refund",
        "refund",
        {"order_id": "o-1", "total": 9, "currency": "EUR"},
        {"transaction_id": "o-1", "value": 9, "currency": "EUR"},
    ),
    ("addToCart", "add_to_cart", {**MUG, **MONEY}, {"items": ONE, "currency": "CHF", "value": 15}),
    ("addToWishlist", "add_to_wishlist", {**MUG, **MONEY}, {"items": ONE, "currency": "CHF", "value": 15}),
    ("removeFromCart", "remove_from_cart", {**MUG}, {"items": ONE}),
    ("viewItem", "view_item", {**MUG, "value": 0}, {"items": ONE, "value": 0}),
    ("viewCart", "view_cart", {**MANY, **MONEY}, {"items": ITEMS, "currency": "CHF", "value": 15}),
    (
        "beginCheckout",
        "begin_checkout",
        {**MANY, **MONEY, "coupon": "c"},
        {"items": ITEMS, "currency": "CHF", "value": 15, "coupon": "c"},
    ),
    (
        "addPaymentInfo",
        "add_payment_info",
        {**MANY, "payment_method": "visa"},
        {"items": ITEMS, "payment_type": "visa"},
    ),
    ("selectItem", "select_item", {**MUG}, {"items": ONE}),
    (
        "viewItemList",
        "view_item_list",
        {**MANY, "list_id": "l", "category": "mugs"},
        {"items": ITEMS, "item_list_id": "l", "item_list_name": "mugs"},
    ),
    (
        "viewPromotion",
        "view_promotion",
        {"promotion_id": "p", "name": "Spring", "creative": "top", "position": "home"},
        {
            "promotion_id": "p",
            "promotion_name": "Spring",
            "creative_slot": "top",
            "location_id": "home",
            "items": [{"item_name": "Spring"}],
        },
    ),
    ("search", "search", {"query": "mugs"}, {"search_term": "mugs"}),
    ("signUp", "sign_up", {"type": "Google"}, {"method": "Google"}),
    ("login", "login", {"type": "Google"}, {}),
    ("generateLead", "generate_lead", {**MONEY}, {"currency": "CHF", "value": 15}),
]


@pytest.mark.parametrize(("action", "name", "properties", "parameters"), ACTIONS, ids=[each[0] for each in ACTIONS])
def test_an_action_is_one_event_of_google(
    action: str, name: str, properties: dict[str, object], parameters: dict[str, object]
) -> None:
    found = kept(send(action, event("Any", properties)))
    assert (found["name"], found["params"]) == (name, parameters | {"engagement_time_msec": 1})


def test_a_selected_promotion_names_it_in_each_item() -> None:
    items = {"@arrayPath": ["$.properties", {"item_id": {"@path": "$.sku"}, "promotion_id": {"@path": "$.promo"}}]}
    what = event(properties={"sku": "s", "promo": "p", "name": "Spring"})
    found = kept(send("selectPromotion", what, items=items))
    assert found["params"]["items"] == [{"item_id": "s", "promotion_id": "p"}]
    assert found["params"]["promotion_name"] == "Spring"


def test_a_page_view_is_of_the_page_in_the_context() -> None:
    page = {"url": "https://x.example/a", "referrer": "https://y.example/", "title": "A"}
    found = kept(send("pageView", event(type="page", context={"page": page})))
    assert found["name"] == "page_view"
    assert found["params"] == {
        "page_location": "https://x.example/a",
        "page_referrer": "https://y.example/",
        "page_title": "A",
        "engagement_time_msec": 1,
    }


def test_every_action_of_segment_is_there() -> None:
    assert set(GA4.actions) == {each[0] for each in ACTIONS} | {"pageView", "customEvent", "selectPromotion"}
    assert len(GA4.actions) == 19
    for action in GA4.actions.values():
        compile_trigger(action.trigger)
    assert get("google-analytics-4").type == GA4.type


@pytest.mark.parametrize(
    ("given", "sent", "lowercase"),
    [
        ("Plan Changed", "Plan_Changed", False),
        (" Plan\tChanged ", "plan_changed", True),
        ("Clicked: 'Buy!'", "Clicked___Buy__", False),
        ("Größe gewählt", "Größe_gewählt", False),
    ],
)
def test_a_custom_events_name_is_made_fit(given: str, sent: str, lowercase: bool) -> None:
    assert kept(send("customEvent", event(given), lowercase=lowercase))["name"] == sent


@pytest.mark.parametrize("name", ["4th Step", "_internal", "session_start", "x" * 41, "???"])
def test_a_name_that_google_drops_is_refused_without_being_told(name: str) -> None:
    with pytest.raises(InvalidPayload, match=r"^name ") as refusal:
        send("customEvent", event(name))
    assert name not in str(refusal.value)


def test_properties_become_parameters_as_far_as_google_takes_them() -> None:
    properties: dict[str, object] = {
        "Plan Name": "pro",
        "yes": True,
        "nested": {"deep": {"count": 3}},
        "tags": ["a", "b"],
        "products": [{"id": 1}],
        "none": None,
        "_private": 1,
        "ga_reserved": 1,
        "2nd": "two",
        "long": "x" * 300,
        "n" * 60: 1,
        "": "nameless",
    }
    params = kept(send("customEvent", event("Any", properties)))["params"]
    assert params == {
        "Plan_Name": "pro",
        "yes": "true",
        "nested_deep_count": 3,
        "tags": "a,b",
        "private": 1,
        "nd": "two",
        "long": "x" * 100,
        "n" * 40: 1,
        "engagement_time_msec": 1,
    }


def test_parameters_are_25_at_most_and_those_of_the_mapping_come_first() -> None:
    properties: dict[str, object] = {f"p{number}": number for number in range(40)}
    found = kept(send("customEvent", event("Any", properties), params={"session_id": "1", "p0": "mine"}))
    assert len(found["params"]) == 25
    assert found["params"]["p0"] == "mine"
    assert found["params"]["session_id"] == "1"


@pytest.mark.parametrize(
    ("action", "what", "mapping", "why"),
    [
        ("login", event(userId=None, anonymousId=None), {}, "client_id is missing"),
        ("login", event(timestamp="s3cr3t"), {}, "timestamp_micros is no time"),
        ("login", event(), {"params": {"a": ["s3cr3t"]}}, r"params\.a is an array"),
        ("login", event(), {"params": {"a": {"b": "s3cr3t"}}}, r"params\.a is an object"),
        ("login", event(), {"params": {"a": {"@literal": None}}}, r"params\.a is null"),
        ("login", event(), {"user_properties": {"a": ["s3cr3t"]}}, r"user_properties\.a is an array"),
        ("login", event(), {"data_stream_type": "Mobile App"}, "app_instance_id is missing"),
        ("addToCart", event(properties={"product_id": "p", "value": 5}), {}, "currency is missing"),
        ("addToCart", event(properties={"product_id": "p", "currency": "s3cr3t"}), {}, "currency is no currency"),
        ("addToCart", event(properties={"price": 5}), {}, "without item_id and item_name"),
        ("addToCart", event(), {"items": [{"item_id": "p", "currency": "s3cr3t"}]}, r"items\.currency is no currency"),
        ("selectPromotion", event(properties={"product_id": "p"}), {}, "without promotion_id and promotion_name"),
        ("purchase", event(properties={"order_id": "o", "currency": "EUR"}), {}, "/items: is missing"),
        ("search", event(), {}, "/search_term: is missing"),
        ("login", event(), {"ad_user_data_consent": "s3cr3t"}, "/ad_user_data_consent: is none of the choices"),
    ],
)
def test_what_google_would_drop_is_refused_and_no_value_is_told(
    action: str, what: dict[str, object], mapping: dict[str, object], why: str
) -> None:
    with pytest.raises((InvalidPayload, FieldError), match=why) as refusal:
        send(action, what, **mapping)
    assert "s3cr3t" not in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_a_stream_that_is_not_set_is_named() -> None:
    for settings, mapping, why in (
        (Settings(api_secret=SECRET, firebase_app_id="1:2"), {}, "measurementId is not set"),
        (
            Settings(api_secret=SECRET, measurement_id="G"),
            {"data_stream_type": "Mobile App", "app_instance_id": "a"},
            "firebaseAppId is not set",
        ),
    ):
        mapped = defaults(GA4.actions["login"].fields, **mapping)
        with pytest.raises(InvalidPayload, match=why):
            GA4.requests("login", settings, mapped, [event()], batch=False, now=NOW)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "measurementId must be set"),
        ({"measurementId": "G", "endpoint": "https://x.example/?a=1"}, "endpoint must have no query"),
        ({"measurementId": "G", "endpoint": "ftp://x.example/"}, "endpoint must be http"),
    ],
)
def test_settings_that_can_not_work_are_refused(settings: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidSettings, match=why) as refusal:
        GA4.check(msgspec.convert({"apiSecret": SECRET, **settings}, Settings))
    assert SECRET not in str(refusal.value)


def test_settings_have_segments_names_and_the_eu_is_an_endpoint() -> None:
    eu = "https://region1.google-analytics.com/mp/collect"
    settings = msgspec.convert({"apiSecret": "S", "measurementId": "G-XXX", "endpoint": eu}, Settings)
    GA4.check(settings)
    (request,) = GA4.requests("login", settings, None, [event()], batch=False, now=NOW)
    assert request.url == f"{eu}?api_secret=S&measurement_id=G-XXX"


def test_it_takes_no_batches() -> None:
    assert all(action.batching is None for action in GA4.actions.values())
    with pytest.raises(InvalidPayload, match="takes no batches"):
        GA4.requests("login", SETTINGS, None, [event(), event()], batch=True, now=NOW)


PAGE = event(type="page", properties={"url": "https://x.example/", "title": "T"})
MATCHED: dict[str, dict[str, object]] = {
    "Page View": PAGE,
    "Purchase": event("Order Completed", {"order_id": "o-1", "currency": "EUR", "total": 9, **MANY}),
    "Add to Cart": event("Product Added", MUG),
    "Select Item": event("Product Clicked", MUG),
    "Begin Checkout": event("Checkout Started", {"order_id": "o", **MANY}),
    "Select Promotion": event("Promotion Clicked", {"promotion_id": "p", "name": "Spring", "position": "top"}),
    "View Item": event("Product Viewed", MUG | MONEY),
    "Remove from Cart": event("Product Removed", MUG),
    "View Cart": event("Cart Viewed", {"cart_id": "c", **MANY}),
    "Search": event("Products Searched", {"query": "mugs"}),
    "View Item List": event("Product List Viewed", {"list_id": "l", **MANY}),
    "Sign Up": event("Signed Up", {"type": "organic"}),
    "View Promotion": event("Promotion Viewed", {"promotion_id": "p", "creative": "c", "name": "Spring"}),
    "Add Payment Info": event("Payment Info Entered", {"payment_method": "visa", **MANY}),
    "Refund": event("Order Refunded", {"order_id": "o-1"}),
    "Login": event("Signed In", {"method": "password"}),
    "Add to Wishlist": event("Product Added to Wishlist", MUG),
    "Custom Event": event("Plan Changed", {"plan": "pro", "old": {"plan": "free"}, "seats": [1, 2], "none": None}),
}


def matching(what: dict[str, object]) -> list[str]:
    return [preset.name for preset in GA4.presets if compile_trigger(preset.trigger)(what)]


@pytest.mark.parametrize("preset", GA4.presets, ids=lambda preset: preset.name)
def test_a_preset_makes_of_its_event_what_google_takes(preset: Any) -> None:
    what = MATCHED[preset.name]
    assert matching(what) == [preset.name], "an event is sent once"
    (request,) = GA4.requests(preset.action, SETTINGS, preset.mapping, [what], batch=False, now=NOW)
    found = kept(request)
    if preset.name == "Select Promotion":
        assert found["params"]["items"] == [
            {"item_name": "Spring", "promotion_id": "p", "promotion_name": "Spring", "location_id": "top"}
        ]
    if preset.name == "Page View":
        assert found["params"]["page_location"] == "https://x.example/"
    if preset.name == "Custom Event":
        assert found["params"] == {"plan": "pro", "old_plan": "free", "seats": "1,2", "engagement_time_msec": 1}


def test_payment_info_without_products_is_a_custom_event() -> None:
    what = event("Payment Info Entered", {"payment_method": "visa"})
    assert matching(what) == ["Custom Event"]
    (preset,) = [each for each in GA4.presets if each.name == "Custom Event"]
    (request,) = GA4.requests(preset.action, SETTINGS, preset.mapping, [what], batch=False, now=NOW)
    assert kept(request)["name"] == "Payment_Info_Entered"


def test_other_types_are_nobodys() -> None:
    assert all(matching(event(type=kind)) == [] for kind in ("identify", "group", "screen", "alias"))


def test_the_stand_in_says_yes_to_all_and_keeps_what_is_right() -> None:
    vendor = Vendor("S", now=NOW)
    good = {"client_id": "c", "events": [{"name": "login", "params": {}}]}
    bad: list[tuple[dict[str, Any], str, str]] = [
        ({"events": [{"name": "login"}]}, "client_id", "VALUE_REQUIRED"),
        ({**good, "events": []}, "events", "VALUE_REQUIRED"),
        ({**good, "events": good["events"] * 26}, "events", "EXCEEDED_MAX_ENTITIES"),  # type: ignore[operator]
        ({**good, "timestamp_micros": 1_767_323_045_678}, "timestamp_micros", "VALUE_INVALID"),
        ({**good, "timestamp_micros": int(NOW - 73 * 3600) * 10**6}, "timestamp_micros", "VALUE_INVALID"),
        ({**good, "events": [{"name": "_badEventName", "params": {}}]}, "events", "NAME_INVALID"),
        ({**good, "events": [{"name": "first_visit", "params": {}}]}, "events", "NAME_RESERVED"),
        (
            {**good, "events": [{"name": "a", "params": {f"p{n}": n for n in range(26)}}]},
            "events.params",
            "EXCEEDED_MAX_ENTITIES",
        ),
        ({**good, "events": [{"name": "a", "params": {"b": "x" * 101}}]}, "events.params.b", "VALUE_OUT_OF_BOUNDS"),
        ({**good, "events": [{"name": "a", "params": {"b": [1]}}]}, "events.params.b", "VALUE_INVALID"),
        ({**good, "events": [{"name": "add_to_cart", "params": {}}]}, "events.params.items", "VALUE_REQUIRED"),
        ({**good, "user_properties": {"x" * 25: {"value": 1}}}, f"user_properties.{'x' * 25}", "NAME_INVALID"),
        ({**good, "user_properties": {"x": {"value": "y" * 37}}}, "user_properties.x", "VALUE_OUT_OF_BOUNDS"),
    ]
    for body, path, code in bad:
        request = Arrived("POST", "/mp/collect", "api_secret=S&measurement_id=G-XXX", body=msgspec.json.encode(body))
        assert vendor.answer(request).status == 204
        assert (vendor.messages[-1][0]["fieldPath"], vendor.messages[-1][0]["validationCode"]) == (path, code)
    for query in ("api_secret=other&measurement_id=G-XXX", "api_secret=S&measurement_id=G-other"):
        assert vendor.answer(Arrived("POST", "/mp/collect", query, body=msgspec.json.encode(good))).status == 204
    assert vendor.accepted == []
    assert len(vendor.messages) == len(bad)


def test_a_purchase_that_comes_twice_counts_once_and_all_else_twice() -> None:
    vendor = Vendor(SECRET, now=NOW)
    for request in (send("purchase", MATCHED["Purchase"]), send("login", event())):
        assert [ask(vendor, request).status for _ in range(2)] == [204, 204]
    assert [each["name"] for each in vendor.accepted] == ["purchase", "login", "login"]
