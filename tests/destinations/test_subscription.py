"""Subscriptions are what the configuration says, or what the destination comes with; all that is wrong is named."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from relayd.actions.fields import FieldError
from relayd.config import model
from relayd.config.units import Size
from relayd.destinations import CATALOG, get, webhook
from relayd.destinations.base import Destination
from relayd.destinations.subscription import (
    Identity,
    InvalidSubscription,
    Mapped,
    Subscription,
    compile_subscriptions,
    pick,
)
from tests.delivery.tool import MAX_BODY, MESSAGE_ID, Settings, Tool, subscription
from tests.events import line

HOOK = webhook.Settings(url="http://hook.test/")
NOW = 1_795_514_400.0


def compiled(
    *specs: model.Subscription,
    of: Destination[Any] | None = None,
    delivery: Mapping[str, object] = MappingProxyType({}),
) -> list[Subscription[Any]]:
    """The tool's subscriptions, or those of a webhook."""
    settings = HOOK if of is not None else Settings()
    return compile_subscriptions(of or Tool(), settings, specs, model.Delivery(**delivery))  # type: ignore[arg-type]


def mapped(spec: model.Subscription, **delivery: object) -> Mapped:
    (found,) = compiled(spec, delivery=delivery)
    assert isinstance(found, Mapped)
    return found


def faults(*specs: model.Subscription, of: Destination[Any] | None = None) -> dict[tuple[str | int, ...], str]:
    """What is wrong, by where."""
    with pytest.raises(ExceptionGroup) as group:
        compiled(*specs, of=of)
    assert all(isinstance(each, InvalidSubscription) for each in group.value.exceptions)
    found = [(each.keys, str(each)) for each in group.value.exceptions if isinstance(each, InvalidSubscription)]
    assert len(dict(found)) == len(found)
    return dict(found)


# Which


def test_without_subscriptions_a_destination_has_its_presets() -> None:
    orders, people = compiled()
    assert (orders.name, people.name) == ("Orders", "People")
    assert orders.trigger is not None
    assert people.trigger is not None
    assert orders.trigger({"type": "track", "event": "Order Completed"})
    assert not people.trigger({"type": "track", "event": "Order Completed"})
    event = line(1, properties={"mail": "ada@x.example"})
    assert orders.payload(event) == {"messageId": "id-1", "mail": "ada@x.example"}
    assert people.payload(event) == {"messageId": "id-1"}, "its own mapping, and not the defaults of the fields"


def test_configured_subscriptions_stand_in_for_the_presets() -> None:
    assert [each.name for each in compiled(subscription("mine", "one"))] == ["mine"]


def test_what_passes_events_on_has_the_identity_unless_subscriptions_say_otherwise() -> None:
    (identity,) = compiled(of=get("webhook"))
    assert isinstance(identity, Identity)
    assert (identity.name, identity.trigger, identity.max_body) == (None, None, None)
    odd = b'{ "messageId" : "id-1", "x": 1.50e0 }'
    assert identity.payload(odd) is odd
    (request,) = identity.requests([odd], now=NOW)
    assert (request.url, request.body) == (HOOK.url, odd)
    (send,) = compiled(subscription("All", "send"), of=get("webhook"))
    assert isinstance(send, Mapped)
    assert msgspec.json.decode(send.requests([send.payload(odd)], now=NOW)[0].body) == msgspec.json.decode(odd)


@pytest.mark.parametrize("of", [Tool(), get("webhook")], ids=["presets", "identity"])
def test_when_all_subscriptions_are_disabled_neither_presets_nor_the_identity_step_in(of: Destination[Any]) -> None:
    action = next(iter(of.actions))
    assert compile_subscriptions(of, HOOK, [subscription("off", action, enabled=False)], model.Delivery()) == []


def test_a_disabled_subscription_is_left_out_whatever_is_in_it() -> None:
    wrong = subscription("a", "nope", trigger="no = FQL =", mapping={"x": {"@pth": 1}}, enabled=False)
    assert [each.name for each in compiled(wrong, subscription("a", "one"), wrong)] == ["a"]


def test_an_empty_trigger_matches_every_event() -> None:
    assert mapped(subscription("a", "one")).trigger is None
    assert mapped(subscription("a", "one", trigger='type = "track"')).condition == 'type = "track"'


@pytest.mark.parametrize("type_", sorted(CATALOG))
def test_the_presets_of_every_destination_compile(type_: str) -> None:
    destination = get(type_)
    found = compile_subscriptions(destination, model.Section(), (), model.Delivery())
    if destination.passes_on:
        assert [type(each) for each in found] == [Identity]
    else:
        assert [each.name for each in found] == [each.name for each in destination.presets]
    specs = [subscription(name, name, trigger=action.trigger) for name, action in destination.actions.items()]
    if specs:
        assert len(compile_subscriptions(destination, model.Section(), specs, model.Delivery())) == len(specs)


# What is wrong


def test_everything_that_is_wrong_is_said_at_once_with_its_keys() -> None:
    found = faults(
        subscription("a", "mny", trigger='type = "track" adn', mapping={"list": {"@pth": "$.x"}}),
        subscription("b", "one"),
        subscription("b", "two", trigger="typ = 1"),
        subscription("c", "one", mapping={"list": {"@path": 5}, "mail": ["x", {"@if": {"then": 1}}], "pad": "fine"}),
    )
    assert found[0, "action"] == 'unknown action "mny"; did you mean "many"?'
    assert found[0, "trigger"].startswith("column 16: ")
    assert "did you mean @path?" in found[0, "mapping", "list"]
    assert found[2, "name"] == '"b" is there twice; each needs its own'
    assert "did you mean type?" in found[2, "trigger"]
    assert sorted(str(keys) for keys in found if keys[0] == 3) == [
        "(3, 'mapping', 'list', '@path')",
        "(3, 'mapping', 'mail', 1, '@if')",
    ]
    assert {keys[0] for keys in found} == {0, 2, 3}


def test_an_unknown_action_that_is_like_none_is_told_all_of_them() -> None:
    assert faults(subscription("a", "xyz")) == {(0, "action"): 'unknown action "xyz"; actions are one, two, many'}


def test_a_destination_without_actions_has_none_to_suggest() -> None:
    assert faults(subscription("a", "send"), of=get("file")) == {
        (0, "action"): 'unknown action "send"; there are no actions'
    }


def test_one_fault_spoils_the_whole_configuration_and_counts_disabled_ones() -> None:
    off = subscription("off", "nope", enabled=False)
    assert set(faults(subscription("a", "one"), off, subscription("b", "nope"))) == {(2, "action")}


# Batches


@pytest.mark.parametrize(
    ("action", "delivery", "size", "most"),
    [
        ("many", {}, 10, MAX_BODY),
        ("many", {"batch_size": 7}, 7, MAX_BODY),
        ("many", {"batch_size": 5000}, 100, MAX_BODY),
        ("many", {"batch_bytes": Size(100)}, 10, 100),
        ("many", {"batch_bytes": Size(10**9)}, 10, MAX_BODY),
        ("one", {"batch_size": 7, "batch_bytes": Size(100)}, 1, 0),
    ],
)
def test_batches_are_as_large_as_configured_within_the_actions_limits(
    action: str, delivery: Mapping[str, object], size: int, most: int
) -> None:
    found = mapped(subscription("a", action), **delivery)
    assert (found.batch_size, found.batch_bytes, found.max_body) == (size, most, most)


def test_the_identitys_batches_are_within_its_own_limits() -> None:
    hook = get("webhook")
    assert [each.batch_size for each in compiled(of=hook)] == [1]
    (found,) = compiled(of=hook, delivery={"batch_size": 50_000, "batch_bytes": Size(10**9)})
    assert (found.batch_size, found.batch_bytes) == (4000, hook.batch_bytes)
    assert [each.batch_bytes for each in compiled(of=hook, delivery={"batch_bytes": Size(99)})] == [99]


def groups(spec: model.Subscription, *payloads: dict[str, object], **delivery: object) -> list[int]:
    """For each payload, the first that it may share a request with."""
    keys = [mapped(spec, **delivery).group(each) for each in payloads]
    return [keys.index(each) for each in keys]


def test_payloads_share_a_request_when_the_actions_keys_agree() -> None:
    payloads: Sequence[dict[str, object]] = [
        {"list": "a", "mail": "1"},
        {"list": "b"},
        {"list": "a", "mail": "2"},
        {},
        {"list": None},
        {"list": ""},
        {"list": "1"},
        {"list": 1},
    ]
    assert groups(subscription("a", "many"), *payloads) == [0, 1, 0, 3, 3, 5, 6, 7]


def test_batch_keys_of_the_mapping_are_keys_too() -> None:
    first: dict[str, object] = {"list": "a", "mail": "1", "batch_keys": ["mail"]}
    others: list[dict[str, object]] = [first | {"mail": "2"}, first | {"pad": "x"}, first | {"list": "b"}]
    assert groups(subscription("a", "many"), first, *others) == [0, 1, 0, 3]
    unnamed = [{**each, "batch_keys": []} for each in (first, *others)]
    assert groups(subscription("a", "many"), *unnamed) == [0, 0, 0, 3]


def test_batch_keys_reach_the_payload_through_the_mapping() -> None:
    names = {"messageId": MESSAGE_ID, "mail": {"@path": "$.properties.mail"}}
    found = mapped(subscription("a", "many", mapping=names | {"batch_keys": ["mail"]}))
    same, other = (line(1, properties={"mail": f"{name}@x.example"}) for name in ("ada", "bob"))
    assert found.group(found.payload(same)) == found.group(found.payload(same))
    assert found.group(found.payload(same)) != found.group(found.payload(other))


def test_what_is_sent_one_by_one_has_no_groups() -> None:
    payloads: tuple[dict[str, object], ...] = ({"list": "a"}, {"list": "b"})
    assert groups(subscription("a", "one"), *payloads) == [0, 0]
    assert groups(subscription("a", "many"), *payloads, batch_size=1) == [0, 0]


def test_an_action_with_batches_takes_single_events_when_the_configuration_has_it_so() -> None:
    found = mapped(subscription("a", "many"), batch_size=1)
    (request,) = found.requests([found.payload(line(1))], now=NOW)
    assert msgspec.json.decode(request.body) == {"messageId": "id-1"}
    assert found.verdicts([{}], 200, b'["ok"]') is None, "verdicts of a batch say nothing of a single event"


# Events


def test_a_payload_fits_the_fields_or_is_refused_by_their_names() -> None:
    found = mapped(subscription("a", "one"))
    with pytest.raises(FieldError) as refused:
        found.payload(line(1, messageId=None, properties={"mail": "private", "list": {"private": 1}}))
    assert "private" not in str(refused.value)
    assert {each.path for each in refused.value.faults} == {("messageId",), ("mail",), ("list",)}


@pytest.mark.parametrize("event", [b"", b"[]", b"{", b"null", b'{"x":1e999}', b'{"x":"\xff"}'])
def test_what_is_no_event_is_refused(event: bytes) -> None:
    found = mapped(subscription("a", "one"))
    with pytest.raises(ValueError):  # noqa: PT011  of whatever kind: the attempt holds the event
        found.payload(event)


def test_a_delivery_finds_its_own_subscription_or_the_first_that_matches() -> None:
    specs = (
        subscription("orders", "one", trigger='event = "Order Completed"'),
        subscription("rest", "one", trigger='event != "Refunded"'),
    )
    by_name = {each.name: each for each in compiled(*specs)}
    assert pick(by_name, "rest", b"not even JSON").name == "rest"
    assert pick(by_name, "gone", line(1)).name == "orders"
    assert pick(by_name, None, line(1, event="Opened")).name == "rest"
    with pytest.raises(ValueError, match="no other one matches"):
        pick(by_name, "gone", line(1, event="Refunded"))
    with pytest.raises(ValueError, match="no other one matches"):
        pick({}, None, line(1))
