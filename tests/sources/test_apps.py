"""What becomes of the webhooks of each app, as they are documented."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from relayd.config.model import Source, SourceSubscription
from relayd.event import Event, require
from relayd.sources import APPS, App, app_of, faults
from relayd.sources.base import message_id
from tests.sources import bodies


def app(kind: str, name: str = "in", *, settings: Mapping[str, Any] | None = None, **fields: Any) -> App[Any]:
    given = ({} if kind == "webhook" else {"secret": bodies.SECRET}) | dict(settings or {})
    converted = APPS[kind].settings(**given)
    source = Source(type="cloud_app", app=kind, settings=converted, **fields)
    assert list(faults(source)) == []
    return app_of(name, source)


def events(kind: str, body: object, headers: Mapping[str, str] | None = None, **fields: Any) -> list[dict[str, Any]]:
    """The events of one webhook; each is one that the Tracking API takes."""
    mapped = app(kind, **fields).events(msgspec.json.decode(bodies.encode(body)), headers or {})
    assert mapped.faults == []
    assert not mapped.rejected
    for event in mapped.events:
        require(msgspec.json.decode(msgspec.json.encode(event), type=Event))
    return mapped.events


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in found]


def test_a_payment_is_a_track_of_the_customer_and_small_whatever_the_invoice_holds() -> None:
    (event,) = events("stripe", bodies.stripe("invoice.paid", bodies.INVOICE))
    assert event["event"] == "invoice.paid"
    assert event["userId"] == "cus_N1"
    assert event["messageId"] == "in/events/evt_1"
    assert event["timestamp"] == "2025-11-24T15:59:59.000Z"
    assert event["properties"]["amount_paid"] == 1900
    assert event["properties"]["livemode"] is False
    assert "lines" not in event["properties"]


@pytest.mark.parametrize(
    ("more", "user"),
    [
        ({"metadata": {"user_id": "ada"}}, "ada"),
        ({"metadata": {"user_id": ""}, "client_reference_id": "ada-2"}, "ada-2"),
        ({"customer": {"id": "cus_E", "object": "customer"}}, "cus_E"),
        ({"metadata": None}, "cus_N1"),
    ],
)
def test_the_user_is_whom_the_shop_named_or_the_customer(more: dict[str, Any], user: str) -> None:
    (event,) = events("stripe", bodies.stripe("checkout.session.completed", bodies.INVOICE | more))
    assert event["userId"] == user


def test_what_is_about_no_customer_is_anonymous() -> None:
    payout = {"id": "po_1", "object": "payout", "amount": 5}
    (event,) = events("stripe", bodies.stripe("payout.paid", payout))
    assert "userId" not in event
    assert event["anonymousId"] == "po_1"


def test_a_customer_is_identified_too_but_not_one_that_is_deleted() -> None:
    found = events("stripe", bodies.stripe("customer.created", bodies.CUSTOMER))
    assert kinds(found) == ["track", "identify"]
    assert {event["userId"] for event in found} == {"cus_N1"}
    assert found[1]["traits"]["email"] == "ada@example.com"
    assert len({event["messageId"] for event in found}) == 2
    assert kinds(events("stripe", bodies.stripe("customer.deleted", bodies.CUSTOMER))) == ["track"]
    subscription = {"id": "sub_1", "object": "subscription", "customer": "cus_N1"}
    subscription["items"] = {"data": [{"price": {"id": "price_1"}, "quantity": 3}]}  # type: ignore[assignment]
    (event,) = events("stripe", bodies.stripe("customer.subscription.updated", subscription))
    assert (event["userId"], event["properties"]["plan"], event["properties"]["quantity"]) == ("cus_N1", "price_1", 3)


def test_a_connected_account_is_a_group() -> None:
    account = {"id": "acct_1", "object": "account", "business_profile": {"name": "Shop"}, "email": "s@example.com"}
    found = events("stripe", bodies.stripe("account.updated", account))
    assert kinds(found) == ["track", "group"]
    assert (found[1]["groupId"], found[1]["traits"]["name"]) == ("acct_1", "Shop")


def test_a_ticket_is_a_track_of_its_requester() -> None:
    body = bodies.zendesk(
        "ticket.status_changed", bodies.TICKET, subject="zen:ticket:5158", current="OPEN", previous="NEW"
    )
    (event,) = events("zendesk", body)
    assert event["event"] == "ticket.status_changed"
    assert event["userId"] == "8447388090494"
    assert event["messageId"] == f"in/tickets/{body['id']}"
    assert event["timestamp"] == "2025-11-24T15:59:59Z"
    assert (event["properties"]["current"], event["properties"]["channel"]) == ("OPEN", "web_service")


def test_a_user_is_identified_by_the_external_id_and_put_in_the_organization() -> None:
    body = bodies.zendesk("user.created", bodies.USER, subject="zen:user:6596848315901")
    found = events("zendesk", body)
    assert kinds(found) == ["track", "identify", "group"]
    assert {event["userId"] for event in found} == {"ada"}
    assert found[1]["traits"]["email"] == "ada@example.com"
    assert found[2]["groupId"] == "360001"
    loner = bodies.USER | {"organization_id": "0", "external_id": ""}
    found = events("zendesk", bodies.zendesk("user.created", loner, subject="zen:user:6596848315901"))
    assert kinds(found) == ["track", "identify"]
    assert {event["userId"] for event in found} == {"6596848315901"}
    assert kinds(events("zendesk", bodies.zendesk("user.deleted", bodies.USER, subject="zen:user:1"))) == ["track"]


def test_an_organization_is_a_group_and_what_else_there_is_a_track() -> None:
    detail = {"id": "6607619104125", "name": "Acme", "shared_tickets": False}
    found = events("zendesk", bodies.zendesk("organization.created", detail, subject="zen:organization:6607619104125"))
    assert kinds(found) == ["group", "track"]
    assert (found[0]["groupId"], found[0]["traits"]["name"]) == ("6607619104125", "Acme")
    assert found[0]["anonymousId"] == "zen:organization:6607619104125"
    (event,) = events("zendesk", bodies.zendesk("article.published", {"id": "1"}, subject="zen:article:1", locale="de"))
    assert (event["event"], event["properties"]["event"]) == ("article.published", {"locale": "de"})


def test_currents_become_tracks_in_either_shape() -> None:
    nested, flat = events("braze", {"events": [bodies.OPENED, bodies.OPENED_FLAT]})
    assert nested["event"] == "users.messages.email.Open"
    assert (nested["userId"], nested["messageId"]) == ("ada", "in/currents/a1b2c3")
    assert nested["timestamp"] == "2025-11-24T15:43:20.000Z"
    assert nested["properties"]["campaign_name"] == "Welcome"
    assert nested["properties"]["device_id"] == "d-1"
    assert "userId" not in flat
    assert (flat["anonymousId"], flat["properties"]["platform"]) == ("5c8f", "ios")
    assert events("braze", bodies.OPENED)[0] == nested


def test_a_braze_webhook_in_the_form_of_users_track() -> None:
    body = {
        "attributes": [{"external_id": "ada", "first_name": "Ada", "id": "d1-ada"}],
        "events": [{"external_id": "ada", "name": "Signed Up", "time": "2025-11-24T15:00:00Z", "properties": {"a": 1}}],
        "purchases": [
            {"braze_id": "b1", "product_id": "p", "currency": "EUR", "price": 9.5, "time": "2025-11-24T15:00:00Z"}
        ],
    }
    signed_up, bought, ada = events("braze", body)
    assert (signed_up["event"], signed_up["properties"], signed_up["userId"]) == ("Signed Up", {"a": 1}, "ada")
    assert "messageId" not in signed_up
    assert (bought["event"], bought["anonymousId"], bought["properties"]["price"]) == ("Order Completed", "b1", 9.5)
    assert (ada["type"], ada["traits"]["first_name"], ada["messageId"]) == ("identify", "Ada", "in/attributes/d1-ada")


PUSH = {
    "type": "track",
    "event": {"@path": "$.headers.x-github-event"},
    "userId": {"@path": "$.body.sender.id"},
    "messageId": {"@path": "$.headers.x-github-delivery"},
}


def test_any_app_by_a_trigger_and_a_mapping() -> None:
    hook = app("webhook", trigger='headers.x-github-event = "push" and body.ref != null', mapping=PUSH)
    mapped = hook.events({"ref": "main", "sender": {"id": 7}}, {"x-github-event": "push", "x-github-delivery": "d-1"})
    assert mapped.events == [{"type": "track", "event": "push", "userId": "7", "messageId": "in/d-1"}]
    mapped = hook.events({"ref": "main"}, {"x-github-event": "ping"})
    assert (mapped.events, mapped.rejected) == ([], {"no_matching_subscription": 1})


def test_several_subscriptions_make_several_events_and_arrays_are_mapped_item_by_item() -> None:
    mapping = {"userId": {"@path": "$.body.user"}, "messageId": {"@path": "$.body.id"}}
    two = (
        SourceSubscription(name="all", mapping=mapping | {"event": "Seen"}),
        SourceSubscription(name="people", trigger="body.mail != null", mapping=mapping | {"type": "identify"}),
    )
    items = [{"id": 1, "user": "a"}, {"id": 2, "user": "b", "mail": "b@example.com"}]
    hook = app("webhook", subscriptions=two)
    for body, given in (
        (items, hook),
        ({"list": items}, app("webhook", subscriptions=two, settings={"items": "$.list"})),
    ):
        found = given.events(body, {}).events
        assert [event["messageId"] for event in found] == ["in/all/1", "in/all/2", "in/people/2"]
        assert kinds(found) == ["track", "track", "identify"]
    without = app("webhook", subscriptions=two, settings={"items": "$.nope"}).events({"list": items}, {})
    assert (without.events, without.rejected) == ([], {"empty_batch": 1})


def test_a_mapping_that_fails_or_gives_no_object_is_counted_and_named_without_values() -> None:
    hook = app("webhook", mapping={"a": {"@template": {"@path": "$.body.x"}}})
    mapped = hook.events({"x": ["s3cret"]}, {})
    assert mapped.rejected == {"mapping_failed": 1}
    assert mapped.faults
    assert "s3cret" not in str(mapped.faults)
    assert app("webhook", mapping={"@path": "$.body"}).events("text", {}).rejected == {"bad_request": 1}


@pytest.mark.parametrize("body", [None, 5, "text", [], {}, {"data": None}, {"events": [None, 3]}, {"type": 5}])
def test_no_body_whatever_it_holds_makes_an_app_fail(body: object) -> None:
    for kind in ("stripe", "zendesk", "braze"):
        app(kind).events(body, {})


def test_subscriptions_of_the_configuration_replace_those_of_the_app() -> None:
    own = SourceSubscription(name="own", trigger='body.type = "invoice.paid"', mapping={"event": "Paid", "userId": "u"})
    (event,) = events("stripe", bodies.stripe("invoice.paid", bodies.INVOICE), subscriptions=(own,))
    assert event == {"type": "track", "event": "Paid", "userId": "u"}


def test_a_long_id_is_known_by_its_digest() -> None:
    short, long = message_id("in", "s", "x"), message_id("in" * 30, "s", "x" * 90)
    assert short == "in/s/x"
    assert len(long) <= 100
    assert long != message_id("in" * 30, "s", "x" * 91)


def test_what_is_wrong_with_a_source_has_its_place() -> None:
    def wrong(**fields: Any) -> list[tuple[tuple[str | int, ...], str]]:
        kind = fields.pop("app", "webhook")
        return [
            (keys, message.splitlines()[0]) for keys, message in faults(Source(type="cloud_app", app=kind, **fields))
        ]

    assert wrong()[0][0] == ("mapping",)
    assert wrong(trigger="body.a = 1")[0] == (("trigger",), "needs a mapping beside it")
    assert [keys for keys, _ in wrong(trigger="body.a =", mapping={"a": {"@pth": "$.x"}})] == [
        ("trigger",),
        ("mapping", "a"),
    ]
    one = SourceSubscription(name="a", mapping={}, trigger="nope nope")
    assert [keys for keys, _ in wrong(app="stripe", subscriptions=(one, one), mapping={})] == [
        ("mapping",),
        ("subscriptions", 0, "trigger"),
        ("subscriptions", 1, "name"),
        ("subscriptions", 1, "trigger"),
    ]
