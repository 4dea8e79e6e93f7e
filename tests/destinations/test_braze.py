"""Braze: what its actions send, and what its stand-in says to it."""

from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from relayd.actions.fields import FieldError
from relayd.actions.trigger import compile_trigger
from relayd.destinations import InvalidSettings, get
from relayd.destinations.action import DELIVERED, Action, InvalidPayload, Payload, Verdict, defaults
from relayd.destinations.base import Request
from relayd.destinations.braze import Braze, Settings
from relayd.listener.message import Request as Arrived
from relayd.listener.message import Response
from relayd.testing.vendors.braze import MAX_ITEMS, MAX_OBJECTS
from relayd.testing.vendors.braze import Braze as Vendor

BRAZE = Braze()
SETTINGS = {"api_key": "BK", "app_id": "APP", "endpoint": "https://rest.fra-01.braze.eu"}
NOW = 1_790_000_000.5
TIME = "2026-03-04T05:06:08.000Z"
BASE: dict[str, Any] = {
    "type": "track",
    "event": "Lamp Lit",
    "messageId": "m-1",
    "userId": "ann",
    "timestamp": "2026-03-04T05:06:07.890Z",
    "receivedAt": TIME,
    "properties": {"watts": 40},
}
PRODUCTS = [
    {"product_id": "p-1", "name": "Lamp", "price": 12.5, "quantity": 2, "currency": "EUR"},
    {"product_id": "p-2", "name": "Bulb", "price": 3},
]
ORDER = BASE | {"event": "Order Completed", "properties": {"order_id": "o-1", "name": "Home", "products": PRODUCTS}}
CATALOG = {"outputs": {"catalog_name": "lamps"}}
MODE = "__segment_internal_sync_mode"


def event(**changes: Any) -> dict[str, Any]:
    return BASE | changes


def send(
    action: str, *events: dict[str, Any], batch: bool = False, settings: Any = None, **mapping: Any
) -> list[Request]:
    mapped = defaults(BRAZE.actions[action].fields, **mapping)
    return BRAZE.requests(action, settings or SETTINGS, mapped, events, batch=batch, now=NOW)


def sent(action: str, *events: dict[str, Any], batch: bool = False, **mapping: Any) -> dict[str, Any]:
    (request,) = send(action, *events, batch=batch, **mapping)
    body: dict[str, Any] = msgspec.json.decode(request.body)
    return body


def ask(vendor: Vendor, request: Request) -> Response:
    assert request.url.startswith("https://rest.fra-01.braze.eu/")
    return vendor.answer(
        Arrived(request.method, urlsplit(request.url).path, headers=dict(request.headers), body=request.body)
    )


def verdicts(action: str, payloads: list[Payload], answer: Response) -> list[Verdict] | None:
    batching = BRAZE.actions[action].batching
    assert batching is not None
    assert batching.verdicts is not None
    found = batching.verdicts(payloads, answer.status, answer.body)
    return None if found is None else list(found)


def alone(action: Action, answer: Response, payload: Payload | None = None) -> Verdict | None:
    assert action.verdicts is not None
    return action.verdicts(payload or {}, answer.status, answer.body)


def test_an_event_is_sent_with_the_app_and_the_time_it_was_received() -> None:
    (request,) = send("trackEvent", event())
    assert (request.method, request.url) == ("POST", "https://rest.fra-01.braze.eu/users/track")
    assert request.headers["authorization"] == "Bearer BK"
    assert "x-braze-batch" not in request.headers
    assert msgspec.json.decode(request.body) == {
        "events": [
            {
                "external_id": "ann",
                "app_id": "APP",
                "name": "Lamp Lit",
                "time": TIME,
                "properties": {"watts": 40},
                "_update_existing_only": False,
            }
        ]
    }


def test_without_an_app_id_none_is_sent() -> None:
    (request,) = send("trackEvent", event(), settings={"api_key": "BK"})
    assert request.url == "https://rest.iad-01.braze.com/users/track"
    assert "app_id" not in msgspec.json.decode(request.body)["events"][0]


@pytest.mark.parametrize(("mode", "existing"), [("add", False), ("update", True), (None, False)])
def test_the_newer_actions_have_a_mode(mode: str | None, existing: bool) -> None:
    chosen: dict[str, Any] = {} if mode is None else {MODE: mode}
    assert sent("trackEvent2", event(), **chosen)["events"][0]["_update_existing_only"] is existing
    assert sent("trackPurchase2", ORDER, **chosen)["purchases"][0]["_update_existing_only"] is existing


@pytest.mark.parametrize("action", ["trackEvent2", "updateUserProfile2", "createAlias2", "identifyUser2", "ecommerce"])
def test_a_mode_that_an_action_does_not_have_is_refused(action: str) -> None:
    unknown: dict[str, Any] = {MODE: "mirror"}
    with pytest.raises(FieldError, match=MODE):
        send(action, event(), **unknown)


def test_an_incomplete_alias_does_not_count() -> None:
    whole = {"alias_name": "a", "alias_label": "l"}
    nobody = event(userId=None)
    assert sent("trackEvent", nobody, user_alias=whole)["events"][0]["user_alias"] == whole
    with pytest.raises(InvalidPayload, match="external_id"):
        send("trackEvent", nobody, user_alias={"alias_name": "a"})
    assert "user_alias" not in sent("trackEvent", event(), user_alias={"alias_name": "a"})["events"][0]


def test_an_order_is_as_many_purchases_as_it_has_products() -> None:
    (request,) = send("trackPurchase", ORDER)
    assert request.headers["x-braze-batch"] == "true"
    base = {"external_id": "ann", "app_id": "APP", "time": TIME, "_update_existing_only": False}
    assert msgspec.json.decode(request.body) == {
        "purchases": [
            {
                **base,
                "product_id": "p-1",
                "currency": "EUR",
                "price": 12.5,
                "quantity": 2,
                "properties": {"order_id": "o-1", "name": "Home"},
            },
            {
                **base,
                "product_id": "p-2",
                "currency": "USD",
                "price": 3,
                "properties": {"order_id": "o-1", "name": "Home"},
            },
        ]
    }


def test_an_order_of_one_product_is_no_batch() -> None:
    (request,) = send("trackPurchase", event(properties={"products": PRODUCTS[:1]}))
    assert "x-braze-batch" not in request.headers


def test_a_large_order_takes_several_requests_and_a_batch_of_too_many_products_is_refused() -> None:
    order = event(properties={"products": [PRODUCTS[0] | {"product_id": f"p-{number}"} for number in range(160)]})
    vendor = Vendor()
    for batch in (False, True):
        requests = send("trackPurchase", order, batch=batch)
        assert [len(msgspec.json.decode(each.body)["purchases"]) for each in requests] == [75, 75, 10]
        assert [ask(vendor, each).status for each in requests] == [201, 201, 201]
    with pytest.raises(InvalidPayload, match="75 purchases"):
        send("trackPurchase", *[ORDER] * 38, batch=True)


def test_a_profile_has_custom_attributes_beside_its_fields() -> None:
    traits = {
        "email": "ann@example.com",
        "firstName": "Ann",
        "lastName": "Lee",
        "avatar": "https://shop.test/ann.png",
        "gender": "Woman",
        "phone": "+33123",
        "plan": "pro",
        "country": "FR",
        "time": "noon",
        "address": {"city": "Lyon"},
        "nothing": None,
    }
    context = {"location": {"latitude": 45.7, "longitude": 4.8}}
    (profile,) = sent(
        "updateUserProfile",
        event(type="identify", traits=traits, context=context),
        dob="1990-02-03T10:00:00Z",
        date_of_first_session=1_772_600_767_890,
        subscription_groups=[{"subscription_group_id": "s-1", "subscription_state": "subscribed"}],
    )["attributes"]
    assert profile == {
        "external_id": "ann",
        "email": "ann@example.com",
        "first_name": "Ann",
        "last_name": "Lee",
        "image_url": "https://shop.test/ann.png",
        "gender": "F",
        "phone": "+33123",
        "home_city": "Lyon",
        "current_location": {"latitude": 45.7, "longitude": 4.8},
        "dob": "1990-02-03",
        "date_of_first_session": "2026-03-04T05:06:07.890Z",
        "subscription_groups": [{"subscription_group_id": "s-1", "subscription_state": "subscribed"}],
        "plan": "pro",
        "address": {"city": "Lyon"},
        "nothing": None,
        "_update_existing_only": False,
    }


def test_null_takes_a_field_away_from_a_profile() -> None:
    traits = {"firstName": None, "gender": None}
    (profile,) = sent("updateUserProfile", event(traits=traits), dob=None)["attributes"]
    assert (profile["first_name"], profile["gender"], profile["dob"]) == (None, None, None)
    assert "country" not in profile
    assert "current_location" not in profile


def test_the_newer_profile_action_updates_who_is_known() -> None:
    (profile,) = sent("updateUserProfile2", event(traits={"plan": "pro"}))["attributes"]
    assert profile == {"external_id": "ann", "plan": "pro", "_update_existing_only": True}


def shop(name: str, /, **properties: Any) -> dict[str, Any]:
    products = [{**PRODUCTS[0], "variant": "v", "color": "red"}]
    common = {"currency": "EUR", "source": "web", "total": 25, "products": products}
    return event(event=name, properties=common | properties)


def test_an_order_placed_has_what_the_schema_asks() -> None:
    (placed,) = sent(
        "ecommerce",
        shop(
            "Order Completed",
            order_id="o-1",
            discount=1,
            tax=2,
            reason="no",
            discount_items=[{"code": "C", "amount": 1}],
        ),
        name="ecommerce.order_placed",
    )["events"]
    assert placed == {
        "external_id": "ann",
        "app_id": "APP",
        "name": "ecommerce.order_placed",
        "time": "2026-03-04T05:06:07.890Z",
        "properties": {
            "currency": "EUR",
            "source": "web",
            "total_value": 25,
            "order_id": "o-1",
            "tax": 2,
            "total_discounts": 1,
            "discounts": [{"code": "C", "amount": 1}],
            "products": [
                {"product_id": "p-1", "product_name": "Lamp", "variant_id": "v", "quantity": 2, "price": 12.5}
            ],
        },
    }


def test_what_a_product_has_besides_the_schema_is_its_metadata() -> None:
    product = {"product_id": "p", "product_name": "n", "variant_id": "v", "quantity": 1, "price": 1, "color": "red"}
    (placed,) = sent(
        "ecommerce", shop("Order Completed", order_id="o-1"), name="ecommerce.order_placed", products=[product]
    )["events"]
    assert placed["properties"]["products"][0]["metadata"] == {"color": "red"}


def test_a_user_known_by_an_alias_is_only_updated() -> None:
    whole = {"alias_name": "a", "alias_label": "l"}
    cart = shop("Product Added", cart_id="c-1")
    (updated,) = sent("ecommerce", cart, name="ecommerce.cart_updated", user_alias=whole)["events"]
    assert updated["_update_existing_only"] is True
    (added,) = sent("ecommerce", cart, name="ecommerce.cart_updated")["events"]
    assert "_update_existing_only" not in added


@pytest.mark.parametrize(
    ("action", "name", "one", "match"),
    [
        ("ecommerce", "ecommerce.order_placed", shop("x"), "order_id"),
        ("ecommerce", "ecommerce.cart_updated", shop("x"), "cart_id"),
        ("ecommerce", "ecommerce.order_cancelled", shop("x", order_id="o-1"), "cancel_reason"),
        ("ecommerce", "ecommerce.order_placed", shop("x", order_id="o-1", currency="EURO"), "currency"),
        ("ecommerce", "ecommerce.product_viewed", shop("x"), "ecommerceSingleProduct"),
        ("ecommerceSingleProduct", "ecommerce.cart_updated", shop("x", cart_id="c", **PRODUCTS[0]), "ecommerce"),
        ("ecommerce", "ecommerce.order_placed", shop("x", order_id="o-1") | {"userId": None}, "external_id"),
    ],
)
def test_what_an_ecommerce_event_lacks_is_named(action: str, name: str, one: dict[str, Any], match: str) -> None:
    with pytest.raises((FieldError, InvalidPayload), match=match):
        send(action, one, name=name, product={"product_id": "p", "product_name": "n", "variant_id": "v", "price": 1})


def test_a_batch_of_one_shop_event_is_said_to_be_a_batch_as_by_segment() -> None:
    (request,) = send("ecommerce", shop("x", cart_id="c-1"), name="ecommerce.cart_updated", batch=True)
    assert request.headers["x-braze-batch"] == "true"


def test_an_alias_is_created_and_identified() -> None:
    whole: dict[str, Any] = {"alias_name": "a", "alias_label": "l"}
    for action in ("createAlias", "createAlias2"):
        (request,) = send(action, event(), external_id=None, **whole)
        assert request.url.endswith("/users/alias/new")
        assert msgspec.json.decode(request.body) == {"user_aliases": [whole]}
        assert ask(Vendor(), request).status == 201
    for action in ("identifyUser", "identifyUser2"):
        (request,) = send(action, event(), external_id="ann", user_alias=whole, merge_behavior="merge")
        assert msgspec.json.decode(request.body) == {
            "aliases_to_identify": [{"external_id": "ann", "user_alias": whole}],
            "merge_behavior": "merge",
        }
        assert ask(Vendor(), request).status == 201


def test_a_user_can_be_identified_by_the_address() -> None:
    order = {"first_priority": "unidentified", "second_priority": "most_recently_updated"}
    (request,) = send("identifyUser2", event(), external_id="ann", email_to_identify="a@b.test", prioritization=order)
    assert msgspec.json.decode(request.body) == {
        "emails_to_identify": [{"external_id": "ann", "email": "a@b.test", "prioritization": list(order.values())}]
    }
    with pytest.raises(FieldError, match="prioritization"):
        send("identifyUser2", event(), external_id="ann", email_to_identify="a@b.test")
    with pytest.raises(InvalidPayload, match="first_priority"):
        send("identifyUser2", event(), external_id="ann", email_to_identify="a@b.test", prioritization={})


def test_a_catalogs_item_is_put_alone_or_with_others_the_last_of_one_id_wins() -> None:
    item = {"item": at("properties"), "item_id": at("properties.id"), "onMappingSave": CATALOG}
    vendor = Vendor(catalogs={"lamps": ["watts"]})
    (request,) = send("upsertCatalogItem", event(), item=at("properties"), item_id="l-1", onMappingSave=CATALOG)
    assert (request.method, urlsplit(request.url).path) == ("PUT", "/catalogs/lamps/items/l-1")
    assert ask(vendor, request).status == 200
    events = [event(properties={"id": key, "watts": watts}) for key, watts in (("l-2", 1), ("l-3", 2), ("l-2", 3))]
    (request,) = send("upsertCatalogItem", *events, batch=True, **item)
    assert (request.method, urlsplit(request.url).path) == ("PUT", "/catalogs/lamps/items/")
    assert ask(vendor, request).status == 202
    assert vendor.catalogs["lamps"] == {"l-1": {"watts": 40}, "l-2": {"watts": 3}, "l-3": {"watts": 2}}
    gone: dict[str, Any] = {"item_id": at("properties.id"), "onMappingSave": CATALOG, MODE: "delete"}
    (request,) = send("upsertCatalogItem", *events, batch=True, **gone)
    assert (request.method, ask(vendor, request).status) == ("DELETE", 202)
    assert vendor.catalogs["lamps"] == {"l-1": {"watts": 40}}


def at(path: str) -> dict[str, str]:
    return {"@path": f"$.{path}"}


def test_deleting_an_item_that_is_gone_is_a_success() -> None:
    gone: dict[str, Any] = {"item_id": "l-9", "onMappingSave": CATALOG, MODE: "delete"}
    (request,) = send("upsertCatalogItem", event(), **gone)
    answer = ask(Vendor(catalogs={"lamps": []}), request)
    action = BRAZE.actions["upsertCatalogItem"]
    assert (answer.status, alone(action, answer)) == (404, DELIVERED)
    elsewhere = ask(Vendor(), request)
    assert (elsewhere.status, alone(action, elsewhere)) == (404, None), "there is no such catalog"


@pytest.mark.parametrize(
    ("mapping", "match"),
    [
        ({"item_id": "l/1", "item": {"a": 1}, "onMappingSave": CATALOG}, "item_id"),
        ({"item_id": "l-1", "item": {}, "onMappingSave": CATALOG}, "item is missing"),
        ({"item_id": "l-1", "item": {"a": 1}}, "catalog_name"),
        ({"item_id": "l-1", "item": {"a": 1}, "onMappingSave": {"outputs": {"catalog_name": "../x"}}}, "catalog_name"),
    ],
)
@pytest.mark.parametrize("batch", [False, True])
def test_an_item_that_can_not_be_put_is_refused(mapping: dict[str, Any], match: str, batch: bool) -> None:
    with pytest.raises(InvalidPayload, match=match):
        send("upsertCatalogItem", event(), batch=batch, **mapping)


def test_an_item_is_required_when_it_is_to_be_put() -> None:
    put: dict[str, Any] = {"item_id": "l-1", "onMappingSave": CATALOG, MODE: "upsert"}
    with pytest.raises(FieldError, match="item"):
        send("upsertCatalogItem", event(), **put)


def test_of_a_refused_catalog_batch_the_named_item_is_held_and_the_others_are_tried_again() -> None:
    mapping = {"item": at("properties"), "item_id": at("messageId"), "onMappingSave": CATALOG}
    events = [event(), event(messageId="m-2", properties={"volts": 1})]
    (request,) = send("upsertCatalogItem", *events, batch=True, **mapping)
    vendor = Vendor(catalogs={"lamps": ["watts"]})
    answer = ask(vendor, request)
    retried, held = verdicts("upsertCatalogItem", [{"item_id": "m-1"}, {"item_id": "m-2"}], answer) or []
    assert (retried.kind, retried.reason) == ("retry", "400")
    assert held == Verdict("hold", "invalid-fields", "Some of the fields given do not exist in the catalog")
    assert not vendor.accepted


@pytest.mark.parametrize(
    "body",
    [
        b'{"errors":[{"id":"items-missing-ids","parameter_values":[]}]}',
        b'{"errors":[{"id":"x","parameter_values":null},"text"]}',
        b'{"errors":null}',
        b"oops",
    ],
)
def test_a_catalog_answer_that_names_no_item_holds_for_all(body: bytes) -> None:
    assert verdicts("upsertCatalogItem", [{"item_id": "a"}, {"item_id": "b"}], Response(400, body)) is None


def test_a_campaign_and_a_canvas_are_sent_to_recipients_or_to_all() -> None:
    recipient = [{"email": "a@b.test", "external_user_id": ""}]
    order = {"first_priority": "identified"}
    for action, key, properties in (
        ("triggerCampaign", "campaign_id", "trigger_properties"),
        ("triggerCanvas", "canvas_id", "canvas_entry_properties"),
    ):
        vendor, which = Vendor(), dict[str, Any]({key: "c-1"})
        (request,) = send(action, event(), recipients=recipient, prioritization=order, **which)
        assert msgspec.json.decode(request.body) == {
            key: "c-1",
            properties: {"watts": 40},
            "recipients": [{"email": "a@b.test", "external_user_id": "", "prioritization": ["identified"]}],
        }
        (everybody,) = send(action, event(), broadcast=True, **which)
        assert [ask(vendor, each).status for each in (request, everybody)] == [201, 201]
        with pytest.raises(InvalidPayload, match="broadcast"):
            send(action, event(), broadcast=True, recipients=recipient, **which)
        with pytest.raises((FieldError, InvalidPayload), match="broadcast"):
            send(action, event(), **which)


@pytest.mark.parametrize(
    ("action", "changes", "match"),
    [
        ("trackEvent", {"userId": None}, "external_id"),
        ("trackPurchase", {"userId": None, "properties": {"products": PRODUCTS}}, "external_id"),
        ("updateUserProfile", {"userId": None}, "external_id"),
        ("trackEvent", {"event": None}, "name"),
        ("trackEvent", {"receivedAt": None}, "time"),
        ("trackPurchase", {"properties": {"products": []}}, "products"),
        ("trackPurchase", {"properties": {"products": [{"product_id": "p"}]}}, "price"),
        ("createAlias", {}, "alias_name"),
    ],
)
def test_what_can_not_be_sent_names_the_field_and_no_value(action: str, changes: dict[str, Any], match: str) -> None:
    with pytest.raises((InvalidPayload, FieldError), match=match) as found:
        send(action, event(**changes))
    assert not any(value in str(found.value) for value in ("Lamp", "ann", "BK", "p-1"))


PRESET_EVENTS = [
    event(),
    event(type="identify", traits={"firstName": "Ann", "plan": "pro"}),
    shop("Order Completed", order_id="o-1"),
    shop("Checkout Started", checkout_id="k-1"),
    shop("Order Refunded", order_id="o-1"),
    shop("Order Cancelled", order_id="o-1", reason="late"),
    shop("Product Viewed", variant="v", type=["price_drop"], **PRODUCTS[0]),
    shop("Product Added", cart_id="c-1", variant="v", **PRODUCTS[0]),
    shop("Product Removed", cart_id="c-1", variant="v", **PRODUCTS[0]),
]


@pytest.mark.parametrize("batch", [False, True])
def test_every_preset_makes_requests_that_the_vendor_takes(batch: bool) -> None:
    matched = set()
    for preset in BRAZE.presets:
        satisfied = compile_trigger(preset.trigger)
        events = [each for each in PRESET_EVENTS if satisfied(each)]
        vendor = Vendor()
        requests = BRAZE.requests(preset.action, SETTINGS, preset.mapping, events, batch=batch, now=NOW)
        assert [ask(vendor, request).status for request in requests] == [201] * len(requests)
        assert len(vendor.accepted) == len(events) == 1
        matched |= {(preset.name, id(each)) for each in events}
    assert {name for name, _ in matched} == {preset.name for preset in BRAZE.presets}
    assert len(matched) == len(PRESET_EVENTS), "an event has one preset"


def test_what_the_cart_presets_say() -> None:
    said = {}
    for preset in BRAZE.presets:
        if preset.name.startswith("Product"):
            (one,) = [each for each in PRESET_EVENTS if compile_trigger(preset.trigger)(each)]
            (request,) = BRAZE.requests(preset.action, SETTINGS, preset.mapping, [one], batch=False, now=NOW)
            said[preset.name] = msgspec.json.decode(request.body)["events"][0]
    assert said["Product Added (beta)"]["properties"]["action"] == "add"
    assert said["Product Removed (beta)"]["properties"]["action"] == "remove"
    assert said["Product Viewed (beta)"]["properties"]["type"] == ["price_drop"]
    assert said["Product Viewed (beta)"]["properties"]["product_id"] == "p-1"


def test_of_a_partial_answer_each_event_gets_its_own_verdict() -> None:
    events = [event(), event(messageId="m-2", event="ecommerce.cart_updated"), event(messageId="m-3")]
    (request,) = send("trackEvent", *events, batch=True)
    vendor = Vendor()
    answer = ask(vendor, request)
    assert answer.status == 201
    assert msgspec.json.decode(answer.body)["errors"][0]["index"] == 1
    first, second, third = verdicts("trackEvent", [{}, {}, {}], answer) or []
    assert first == third == DELIVERED
    assert (second.kind, second.reason) == ("hold", "400")
    assert "cart_id" in second.detail
    assert len(vendor.accepted) == 2


def test_an_error_of_one_product_is_the_orders() -> None:
    wrong = event(properties={"products": [PRODUCTS[1], PRODUCTS[0] | {"quantity": 101}]})
    (request,) = send("trackPurchase", ORDER, wrong, ORDER, batch=True)
    answer = ask(Vendor(), request)
    payloads: list[Payload] = [{"products": PRODUCTS}] * 3
    found = verdicts("trackPurchase", payloads, answer)
    assert found is not None
    assert [each.kind for each in found] == ["delivered", "hold", "delivered"]


def test_after_a_fatal_answer_that_names_objects_the_others_are_tried_again() -> None:
    errors = [{"type": "'name' is required", "input_array": "events", "index": 1}]
    answer = Response(400, msgspec.json.encode({"message": "fatal", "errors": errors}))
    retried, held = verdicts("trackEvent", [{}, {}], answer) or []
    assert (retried.kind, retried.reason) == ("retry", "400")
    assert held == Verdict("hold", "400", "'name' is required")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (201, b'{"message":"success"}'),
        (201, b'{"message":"success","errors":[]}'),
        (201, b'{"errors":[{"type":"?","index":2},{"type":"?","index":-1},{"index":true},"text"]}'),
        (201, b'{"errors":"text"}'),
        (400, b'{"message":"fatal"}'),
        (401, b'{"errors":[{"type":"?","index":0}]}'),
        (429, b'{"errors":[{"type":"?","index":0}]}'),
        (503, b"<html>"),
    ],
)
def test_an_answer_that_names_no_event_holds_for_all(status: int, body: bytes) -> None:
    assert verdicts("trackEvent", [{}, {}], Response(status, body)) is None


def test_an_event_sent_alone_is_held_when_braze_says_success_and_means_no() -> None:
    (request,) = send("trackEvent", event(event="ecommerce.cart_updated"))
    answer = Response(201, b'{"message":"success","errors":[{"type":"no cart","input_array":"events","index":0}]}')
    assert alone(BRAZE.actions["trackEvent"], answer) == Verdict("hold", "400", "no cart")
    assert alone(BRAZE.actions["identifyUser"], answer) == Verdict("hold", "400", "no cart")
    fatal = ask(Vendor(), request)
    found = alone(BRAZE.actions["trackEvent"], fatal)
    assert (fatal.status, found and found.kind) == (400, "hold")
    assert alone(BRAZE.actions["trackEvent"], Response(201, b'{"message":"success"}')) is None


def test_a_full_batch_is_within_the_vendors_limits() -> None:
    for name, action in BRAZE.actions.items():
        limit = MAX_ITEMS if name == "upsertCatalogItem" else MAX_OBJECTS
        assert action.batching is None or action.batching.size == action.batching.max_size == limit
    vendor = Vendor()
    (request,) = send("trackEvent", *[event()] * MAX_OBJECTS, batch=True)
    assert request.headers["x-braze-batch"] == "true"
    assert (ask(vendor, request).status, vendor.batches) == (201, 1)
    (request,) = send("trackEvent", *[event()] * MAX_OBJECTS, batch=True)
    body = msgspec.json.decode(request.body)
    body["events"].append(body["events"][0])
    refused = vendor.answer(
        Arrived("POST", "/users/track", headers=dict(request.headers), body=msgspec.json.encode(body))
    )
    assert refused.status == 400


def test_an_event_that_is_sent_again_has_the_same_time_though_braze_has_no_key() -> None:
    first, again = (
        BRAZE.requests("trackEvent", SETTINGS, None, [event()], batch=False, now=now) for now in (NOW, NOW + 3600)
    )
    assert first == again


def test_the_vendor_knows_its_key_and_its_limit() -> None:
    vendor = Vendor(allowed=1)
    (request,) = send("trackEvent", event())
    (foreign,) = send("trackEvent", event(), settings=SETTINGS | {"api_key": "OTHER"})
    assert ask(vendor, foreign).status == 401
    taken, throttled = ask(vendor, request), ask(vendor, request)
    assert (taken.status, throttled.status) == (201, 429)
    assert dict(throttled.headers)["X-RateLimit-Remaining"] == "0"


def test_settings_that_can_not_work_are_refused_and_secrets_are_not_shown() -> None:
    for changes in ({"api_key": "s3cret\n"}, {"api_key": "s3crét"}, {"endpoint": "rest.iad-01.braze.com"}):
        settings = msgspec.convert(SETTINGS | changes, Settings)
        with pytest.raises(InvalidSettings) as found:
            BRAZE.check(settings)
        assert "s3cr" not in str(found.value)
    assert "BK" not in repr(msgspec.convert(SETTINGS, Settings))
    BRAZE.check(msgspec.convert(SETTINGS, Settings))


def test_it_is_in_the_catalog_under_segments_name() -> None:
    assert "Braze Cloud Mode (Actions)" in get("braze").names
