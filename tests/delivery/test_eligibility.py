"""Each event of the journal is matched, or filtered for the first reason that holds; what is stored is what passed."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from relayd.actions.filters import compile_filters
from relayd.config import model
from relayd.delivery.eligibility import SOURCE_NOT_CONNECTED, SUPPRESSED_USER, Eligibility, Match, Selection
from relayd.destinations import get
from relayd.destinations.subscription import Subscription, compile_subscriptions
from relayd.destinations.webhook import Settings
from relayd.event import decode_head
from tests.events import line

SEND_ALL = model.Subscription(name="All", action="send")
ORDERS = model.Subscription(name="Orders", action="send", trigger='event = "Order Completed"')
BIG = model.Subscription(name="Big", action="send", trigger="properties.number >= 10")


def subscriptions(*specs: model.Subscription) -> list[Subscription[Any]]:
    return compile_subscriptions(get("webhook"), Settings(), specs, model.Delivery())


def rules(
    *specs: model.Subscription,
    filters: Sequence[Mapping[str, object]] = (),
    names: frozenset[str] = frozenset({"hook", "webhook", "Webhook"}),
    methods: frozenset[str] = frozenset({"track", "identify"}),
    sources: frozenset[str] | None = None,
    source_types: frozenset[str] = frozenset({"web", "server"}),
    by_user: bool = False,
    suppressed: frozenset[str] = frozenset(),
) -> Eligibility:
    """A webhook's rules; without ``specs`` it passes events on."""
    return Eligibility(
        names=names,
        methods=methods,
        sources=sources,
        source_types=source_types,
        type_of_source={"web": "web", "app": "mobile", "api": "server"},
        filters=compile_filters(filters, random=lambda: 0.5) if filters else None,
        subscriptions=subscriptions(*specs),
        by_user=by_user,
        suppressed=suppressed,
    )


def reason(eligibility: Eligibility, **fields: object) -> str | None:
    """Why one event is not for the destination."""
    selection = eligibility.select(line(1, **fields))
    assert selection.received == 1 == selection.matched + len(selection.filtered)
    assert bool(selection.matches) == bool(selection.matched)
    return next(iter(selection.filtered), None)


def check(selection: Selection) -> None:
    """The law."""
    assert selection.received == selection.matched + sum(selection.filtered.values())
    assert len({each.message_id for each in selection.matches}) == selection.matched


# Refusals


def test_the_first_refusal_counts_in_the_documented_order() -> None:
    eligibility = rules(
        ORDERS,
        BIG,
        sources=frozenset({"web", "app", "api"}),
        source_types=frozenset({"server"}),
        methods=frozenset({"track"}),
        filters=[
            {"if": "properties.items.length = 0", "map_properties": {"properties.items.5000": {"set": 1}}},
            {"if": "event = 'Heartbeat'", "drop": True},
        ],
    )
    event: dict[str, object] = {
        "projectId": "elsewhere",
        "type": "page",
        "_metadata": {"bundled": ["Webhook"]},
        "integrations": {"All": False},
        "event": "Heartbeat",
    }
    reasons = [reason(eligibility, **event)]
    repairs: tuple[dict[str, object], ...] = (
        {"projectId": "app"},
        {"projectId": "api"},
        {"type": "track"},
        {"_metadata": {}},
        {"integrations": {}},
        {"event": "Opened", "properties": {"items": []}},
        {"properties": {}},
        {"event": "Order Completed"},
    )
    for repaired in repairs:
        event |= repaired
        reasons.append(reason(eligibility, **event))
    assert reasons == [
        "SOURCE_NOT_CONNECTED",
        "UNSUPPORTED_SOURCE_TYPE",
        "UNSUPPORTED_EVENT_TYPE",
        "MESSAGE_SENT_CLIENT_SIDE",
        "FILTERED_BY_INTEGRATIONS_OBJECT",
        "FILTERED_BY_RULES",
        "FILTER_FAILED",
        "NO_MATCHING_MAPPING",
        None,
    ]


def test_a_user_who_was_suppressed_since_the_event_came_comes_first() -> None:
    eligibility = rules(sources=frozenset({"app"}), suppressed=frozenset({"ada"}))
    assert reason(eligibility, userId="ada") == SUPPRESSED_USER
    assert reason(eligibility, userId="bob") == SOURCE_NOT_CONNECTED
    assert reason(rules(suppressed=frozenset({"ada"})), userId="bob") is None


def test_what_a_deleted_event_left_is_not_counted() -> None:
    selection = rules().select(line(1) + b" " * 100 + b"\n" + line(2))
    assert (selection.received, selection.matched, selection.filtered) == (2, 2, {})


def test_without_a_list_of_sources_all_are_connected() -> None:
    assert reason(rules(), projectId="whatever") is None
    assert reason(rules(sources=frozenset()), projectId="web") == "SOURCE_NOT_CONNECTED"


def test_a_source_that_left_the_configuration_counts_as_a_server() -> None:
    assert reason(rules(source_types=frozenset({"server"})), projectId="gone") is None
    assert reason(rules(source_types=frozenset({"web"})), projectId="gone") == "UNSUPPORTED_SOURCE_TYPE"


FED = rules(sources=frozenset({"web", "app"}), source_types=frozenset({"web"}), methods=frozenset({"track"}))


@pytest.mark.parametrize("project", ["web", "app", "elsewhere"])
@pytest.mark.parametrize("kind", ["track", "page"])
@pytest.mark.parametrize("metadata", [{}, {"bundled": ["Webhook"]}])
@pytest.mark.parametrize("integrations", [None, {"All": False}, {"hook": False}, {"All": False, "hook": {"a": 1}}])
def test_what_is_explained_is_what_is_done(
    project: str, kind: str, metadata: dict[str, object], integrations: dict[str, object] | None
) -> None:
    fields = {"projectId": project, "type": kind, "_metadata": metadata, "integrations": integrations}
    head = decode_head(line(1, **fields))
    failed = [each.reason for each in FED.checks(head) if not each.passed]
    assert FED.refusal(head) == (failed[0] if failed else None) == reason(FED, **fields)


# integrations


@pytest.mark.parametrize(
    ("integrations", "on"),
    [
        (None, True),
        ({}, True),
        ({"All": True}, True),
        ({"All": False}, False),
        ({"All": False, "Segment.io": True}, False),
        ({"Segment.io": False}, True),
        ({"All": False, "Webhook": True}, True),
        ({"All": False, "webhook": True}, True),
        ({"All": False, "hook": True}, True),
        ({"All": False, "hook": {}}, True),
        ({"All": False, "hook": {"sessionId": 7, "enabled": False}}, True),
        ({"All": False, "hook": None}, True),
        ({"All": False, "hook": 0}, True),
        ({"hook": False}, False),
        ({"All": True, "Webhook": False}, False),
        ({"HOOK": False, "Web": False}, True),
        ({"All": None}, True),
        ({"All": {"any": False}}, True),
    ],
)
def test_integrations_switch_a_destination_by_any_of_its_names(integrations: object, on: bool) -> None:
    expected = None if on else "FILTERED_BY_INTEGRATIONS_OBJECT"
    assert reason(rules(), integrations=integrations) == expected


@pytest.mark.parametrize("off", ["hook", "webhook", "Webhook"])
def test_of_several_names_one_false_is_enough_whatever_their_order(off: str) -> None:
    integrations = dict.fromkeys(("hook", "webhook", "Webhook"), True) | {off: False, "All": True}
    assert reason(rules(), integrations=integrations) == "FILTERED_BY_INTEGRATIONS_OBJECT"


# _metadata


@pytest.mark.parametrize(
    ("metadata", "sent"),
    [
        ({"bundled": ["Segment.io", "Webhook"]}, True),
        ({"bundled": ["hook"]}, True),
        ({"bundled": [], "bundledIds": ["hook"]}, True),
        ({"bundled": ["Segment.io"], "bundledIds": []}, False),
        ({"bundled": ["Other"], "unbundled": ["Webhook"]}, False),
        ({"unbundled": ["Webhook"]}, False),
        ({"bundled": ["Webhook"], "failedInitializations": ["Webhook"]}, False),
        ({"bundled": ["Webhook"], "bundledIds": ["hook"], "failedInitializations": ["Webhook"]}, False),
        ({"bundled": ["Webhook"], "failedInitializations": ["Other"]}, True),
        ({"bundled": ["Webhook", "hook"], "failedInitializations": ["Webhook"]}, True),
        ({"bundled": ["Webhook"], "failedInitializations": [], "retryCount": 3}, True),
        ({"bundled": ["Webhook"], "bundledIds": ["hook"], "failedInitializations": ["Other"]}, True),
        ({}, False),
        (None, False),
    ],
)
def test_what_the_device_delivered_itself_is_not_sent_again(metadata: object, sent: bool) -> None:
    assert reason(rules(), _metadata=metadata) == ("MESSAGE_SENT_CLIENT_SIDE" if sent else None)


@pytest.mark.parametrize(
    "metadata",
    [
        {"bundled": "Webhook"},
        {"bundled": {"Webhook": True}},
        {"bundled": ["Webhook", 7]},
        {"bundled": None, "bundledIds": ["hook"]},
        {"bundled": ["Webhook"], "failedInitializations": "Webhook"},
        [{"bundled": ["Webhook"]}],
        '"bundled',
        7,
    ],
)
def test_metadata_that_no_sdk_writes_costs_no_event(metadata: object) -> None:
    assert reason(rules(), _metadata=metadata) is None


# Filters


def test_a_filter_that_changes_nothing_leaves_the_very_bytes() -> None:
    odd = line(1).replace(b'"number":1', b'"number" : 1.50e0').rstrip(b"\n")
    filters: list[dict[str, object]] = [
        {"if": "event = 'Order Completed'", "drop_properties": {"properties": ["secret"], "context": ["ip"]}},
        {"if": "event = 'Other'", "drop": True},
    ]
    for specs in ((), (ORDERS,)):
        (match,) = rules(*specs, filters=filters).select(odd + b"\n").matches
        assert match.payload == odd


def test_what_is_stored_is_the_event_as_the_filters_left_it() -> None:
    eligibility = rules(ORDERS, filters=[{"if": "type = 'track'", "drop_properties": {"properties": ["text"]}}])
    original = line(1)
    (match,) = eligibility.select(original).matches
    expected = msgspec.json.decode(original)
    del expected["properties"]["text"]
    assert msgspec.json.decode(match.payload) == expected
    assert b"t\xc3\xa4xt" not in match.payload


def test_triggers_look_at_the_filtered_event() -> None:
    hidden = [{"if": "type = 'track'", "drop_properties": {"properties": ["number"]}}]
    assert reason(rules(BIG), properties={"number": 10}) is None
    assert reason(rules(BIG, filters=hidden), properties={"number": 10}) == "NO_MATCHING_MAPPING"


def test_a_filter_that_can_not_be_applied_keeps_the_event_from_being_sent() -> None:
    eligibility = rules(filters=[{"if": "type = 'track'", "map_properties": {"properties.items.5000": {"set": 1}}}])
    selection = eligibility.select(line(1, properties={"items": []}) + line(2, properties={"items": {}}))
    assert selection.filtered == {"FILTER_FAILED": 1}
    assert [each.message_id for each in selection.matches] == ["id-2"]
    check(selection)


# Subscriptions


def test_an_event_gives_rise_to_one_delivery_for_each_subscription_that_matches() -> None:
    lines = (
        b"".join(line(number) for number in (1, 10, 11))
        + line(12, event="Opened")
        + line(13, event="Opened", properties={})
    )
    selection = rules(ORDERS, BIG).select(lines)
    assert [(each.message_id, each.subscription) for each in selection.matches] == [
        ("id-1", "Orders"),
        ("id-10", "Orders"),
        ("id-10", "Big"),
        ("id-11", "Orders"),
        ("id-11", "Big"),
        ("id-12", "Big"),
    ]
    assert (selection.received, selection.matched, selection.filtered) == (5, 4, {"NO_MATCHING_MAPPING": 1})
    assert len(selection.matches) > selection.matched
    check(selection)


def test_when_every_subscription_is_disabled_nothing_matches() -> None:
    disabled = model.Subscription(name="All", action="send", enabled=False)
    assert reason(rules(disabled)) == "NO_MATCHING_MAPPING"


def test_a_subscription_for_all_events_is_named_in_each_match() -> None:
    assert [each.subscription for each in rules(SEND_ALL).select(line(1)).matches] == ["All"]
    assert [each.subscription for each in rules().select(line(1)).matches] == [None]


# Lines


NOT_DECODABLE = line(1, properties={"x": 7}).replace(b'"x":7', b'"x":1e999')
"""Its head can be read, and it can be passed on; its properties can not be decoded."""


@pytest.mark.parametrize("specs", [(), (SEND_ALL,)], ids=["identity", "one subscription for all"])
def test_what_is_not_looked_at_is_not_decoded(specs: Sequence[model.Subscription]) -> None:
    selection = rules(*specs).select(NOT_DECODABLE)
    assert [each.payload for each in selection.matches] == [NOT_DECODABLE[:-1]]


@pytest.mark.parametrize(
    "eligibility",
    [rules(ORDERS), rules(ORDERS, SEND_ALL), rules(filters=[{"if": "event = 'x'", "drop": True}])],
    ids=["trigger", "two subscriptions", "filter"],
)
def test_what_has_to_be_looked_at_and_can_not_be_is_unreadable(eligibility: Eligibility) -> None:
    assert eligibility.select(NOT_DECODABLE).filtered == {"UNREADABLE": 1}


@pytest.mark.parametrize("specs", [(), (ORDERS,)], ids=["identity", "subscription"])
def test_lines_that_are_no_events_are_counted_and_cost_no_other(specs: Sequence[model.Subscription]) -> None:
    bad = [
        b"",
        b"garbage",
        b"null",
        b"[]",
        b'{"type":"track"}',
        line(7)[:-20],
        line(7, messageId=7)[:-1],
        line(7, receivedAt="yesterday")[:-1],
        line(7, userId="U")[:-1].replace(b'"U"', b'"\xff"'),
        line(7, integrations="All")[:-1],
        line(7).replace(b'"number":7', b'"deep":' + b'{"a":' * 5000 + b"1" + b"}" * 5000)[:-1],
    ]
    lines = line(1) + b"".join(each + b"\n" for each in bad) + line(2)
    selection = rules(*specs).select(lines)
    assert selection.filtered == {"UNREADABLE": len(bad)}
    assert [each.message_id for each in selection.matches] == ["id-1", "id-2"]
    check(selection)


def test_nothing_gives_nothing() -> None:
    assert rules().select(b"") == Selection(0, 0, [], {})


def test_a_match_tells_when_the_event_was_received_and_whose_it_is_if_order_matters() -> None:
    fields = {"receivedAt": "2026-11-24T10:00:00.123Z"}
    lines = line(1, **fields) + line(2, **fields, userId=None, anonymousId="anon") + line(3, **fields, userId="")
    for by_user, users in ((True, ["user-1", "anon", None]), (False, [None, None, None])):
        matches = rules(by_user=by_user).select(lines).matches
        assert [each.user_key for each in matches] == users
        assert {each.received for each in matches} == {1_795_514_400_123}
    assert Match("id", b"{}", 1, None).subscription is None


# From the configuration


def test_the_configuration_sets_the_rules() -> None:
    config = model.Destination(
        type="webhook",
        sources=("web", "api"),
        delivery=model.Delivery(ordering="user"),
        filters=(
            model.Filter(condition="event = 'Heartbeat'", drop=True),
            model.Filter(condition="event = 'Sampled'", sample={"percent": 0.5}),
        ),
        subscriptions=(ORDERS,),
    )
    draws = iter([0.49, 0.5])
    eligibility = Eligibility.of(
        "crm",
        config,
        subscriptions(SEND_ALL),
        sources={"web": model.Source(type="web", write_key="k")},
        random=lambda: next(draws),
    )
    assert reason(eligibility, projectId="other") == "SOURCE_NOT_CONNECTED"
    assert reason(eligibility, event="Heartbeat") == "FILTERED_BY_RULES"
    assert [reason(eligibility, event="Sampled") for _ in range(2)] == [None, "FILTERED_BY_RULES"]
    for name in ("crm", "webhook", *get("webhook").names):
        assert reason(eligibility, integrations={name: False}) == "FILTERED_BY_INTEGRATIONS_OBJECT"
    (match,) = eligibility.select(line(1)).matches
    assert (match.subscription, match.user_key) == ("All", "user-1")
