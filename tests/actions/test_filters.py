"""Filters and transformers: what leaves an event and what stays, in which order, and that errors close."""

import hashlib
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.actions import sampling
from relayd.actions.filters import (
    FilterError,
    FilterResult,
    TransformerError,
    compile_filters,
    compile_transformers,
)
from tests.actions.json_values import EVENTS, VALUES

SALE: dict[str, Any] = {
    "type": "track",
    "event": "Ticket Bought",
    "userId": "u-7",
    "properties": {
        "email": "ann@example.com",
        "seats": 2,
        "price": 12.5,
        "void": None,
        "no": False,
        "buyer": {"name": "Ann", "phone": "1"},
        "tickets": [{"id": "a", "code": "x"}, {"id": "b"}, None, "c"],
    },
    "traits": {"email": "ann@example.com", "plan": "gold"},
}


def half() -> float:
    return 0.5


def transformed(kind: str, config: dict[str, Any] | None = None, event: dict[str, Any] = SALE) -> Any:
    """What one transformer leaves of an event, which stays as it was."""
    before = deepcopy(event)
    result = compile_transformers([{"type": kind, "config": config}])(event)
    assert event == before
    return result


def properties(kind: str, config: dict[str, Any]) -> Any:
    return transformed(kind, config)["properties"]


def filtered(*filters: dict[str, Any], event: dict[str, Any] = SALE) -> FilterResult:
    return compile_filters(filters, random=half)(event)


# Transformers


def test_drop_drops() -> None:
    assert transformed("drop") is None


def test_properties_are_dropped_from_objects_and_from_the_objects_of_lists() -> None:
    left = transformed(
        "drop_properties",
        {
            "drop": {
                "": ["userId"],
                "properties": ["email", "none"],
                "properties.buyer": ["phone"],
                "properties.tickets": ["code"],
            }
        },
    )
    assert "userId" not in left
    assert "email" not in left["properties"]
    assert left["properties"]["buyer"] == {"name": "Ann"}
    assert left["properties"]["tickets"] == [{"id": "a"}, {"id": "b"}, None, "c"]


def test_only_allowed_properties_stay_in_the_objects_named() -> None:
    left = transformed("allow_properties", {"allow": {"properties": ["seats", "none"], "missing.too": ["x"]}})
    assert left == {**SALE, "properties": {"seats": 2}}


def test_what_is_left_alone_is_shared_not_copied() -> None:
    assert transformed("drop_properties", {"drop": {"properties": ["none"], "context": ["x"]}}) is SALE
    assert transformed("drop_properties", {"drop": {"traits": ["email"]}})["properties"] is SALE["properties"]


@pytest.mark.parametrize(
    ("entries", "changed"),
    [
        ({"properties.mail": {"copy": "traits.email"}}, {"mail": "ann@example.com"}),
        ({"properties.mail": {"copy": "traits.none"}}, {}),
        ({"properties.seats": {"set": {"new": 1}}}, {"seats": {"new": 1}}),
        ({"properties.seats": {"to_string": True}}, {"seats": "2"}),
        ({"properties.void": {"to_string": True}, "properties.email": {"to_string": True}}, {"void": "null"}),
        ({"properties.none": {"to_string": True}}, {"none": "undefined"}),
        ({"properties.big": {"set": 1e21, "to_string": True}}, {"big": "1e+21"}),
        ({"properties.buyer.name": {"set": "Bo"}}, {"buyer": {"name": "Bo", "phone": "1"}}),
        ({"properties.none.x": {"set": 1}, "properties.email.x": {"set": 1}}, {}),
        ({"properties.tickets.1.id": {"set": "B"}}, {"tickets": [{"id": "a", "code": "x"}, {"id": "B"}, None, "c"]}),
        ({"properties.constructor.x": {"set": 1}, "properties.__proto__": {"set": 1}}, {}),
    ],
)
def test_map_properties_writes(entries: dict[str, Any], changed: dict[str, Any]) -> None:
    assert properties("map_properties", {"map": entries}) == {**SALE["properties"], **changed}


def test_map_properties_reads_what_was_there_before_and_moves() -> None:
    left = properties(
        "map_properties",
        {
            "map": {
                "properties.seats": {"set": 9},
                "properties.copy": {"copy": "properties.seats"},
                "properties.cost": {"move": "properties.price"},
                "properties.denied": {"move": "properties.no"},
            }
        },
    )
    assert (left["seats"], left["copy"], left["cost"], left["denied"]) == (9, 2, 12.5, False)
    assert "price" not in left
    assert "no" in left  # only what is truthy leaves its old place


def test_a_member_of_null_can_not_be_set() -> None:
    with pytest.raises(TransformerError, match="null"):
        transformed("map_properties", {"map": {"properties.void.x": {"set": 1}}})


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_hash_properties_hashes_texts_and_the_json_of_other_values(algorithm: str) -> None:
    config = {
        "hash": {"properties": ["email", "seats", "void", "none"], "properties.tickets": ["id"]},
        "algorithm": algorithm,
    }
    left = properties("hash_properties", config)
    assert left["email"] == hashlib.new(algorithm, b"ann@example.com").hexdigest()
    assert left["seats"] == hashlib.new(algorithm, b"2").hexdigest()
    assert left["tickets"][1] == {"id": hashlib.new(algorithm, b"b").hexdigest()}
    assert left["void"] is None
    assert "none" not in left


def test_hash_properties_is_sha256_unless_it_says_otherwise() -> None:
    left = properties("hash_properties", {"hash": {"properties": ["email"]}})
    assert left["email"] == hashlib.sha256(b"ann@example.com").hexdigest()


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("Drop", {}),
        ("drop_properties", {}),
        ("drop_properties", {"drop": {"properties": "email"}}),
        ("allow_properties", {"allow": {"properties": [1]}}),
        ("sample_event", {}),
        ("sample_event", {"sample": {"percent": "1", "path": ""}}),
        ("map_properties", {"map": {"properties.x": 1}}),
        ("hash_properties", {"hash": {"properties": ["email"]}, "algorithm": "crc32"}),
    ],
)
def test_what_is_no_transformer_is_refused_when_compiled(kind: str, config: dict[str, Any]) -> None:
    with pytest.raises(TransformerError):
        compile_transformers([{"type": kind, "config": config}])


def test_transformers_run_one_after_the_other_and_stop_at_a_drop() -> None:
    run = compile_transformers(
        [
            {"type": "map_properties", "config": {"map": {"properties.mail": {"copy": "traits.email"}}}},
            {"type": "allow_properties", "config": {"allow": {"properties": ["mail"]}}},
        ]
    )
    assert run(SALE) == {**SALE, "properties": {"mail": "ann@example.com"}}
    assert (
        compile_transformers([{"type": "drop"}, {"type": "sample_event", "config": {"sample": {"percent": 1}}}])(SALE)
        is None
    )


@given(
    EVENTS,
    st.dictionaries(st.sampled_from(["", "properties", "properties.x", "traits.0"]), st.lists(st.sampled_from("xy"))),
)
def test_dropping_and_allowing_part_an_objects_members(event: dict[str, Any], names: dict[str, list[str]]) -> None:
    before = deepcopy(event)
    dropped = compile_transformers([{"type": "drop_properties", "config": {"drop": names}}])
    allowed = compile_transformers([{"type": "allow_properties", "config": {"allow": names}}])
    for run in (dropped, allowed):
        once = run(event)
        assert once is not None
        assert run(once) == once
    if "" in names:
        assert names[""] == [] or not (dropped(event) or {}).keys() & set(names[""])
        assert (allowed(event) or {}).keys() <= set(names[""])
    assert event == before


# Sampling


def test_a_sample_keeps_about_its_share_and_the_same_users_always() -> None:
    keep = compile_filters([{"if": "true", "sample": {"percent": 0.25, "path": "userId"}}], random=half)
    users = [{"userId": f"user-{number}"} for number in range(4000)]
    kept = [user for user in users if keep(user).event is not None]
    assert 0.22 < len(kept) / len(users) < 0.28
    assert kept == [user for user in users if keep({**user, "event": "another"}).event is not None]


def test_a_larger_sample_keeps_what_a_smaller_one_keeps() -> None:
    shares = [0.0, 0.1, 0.5, 0.9, 1.0]
    samples = [
        compile_filters([{"if": "true", "sample": {"percent": share, "path": "userId"}}], random=half)
        for share in shares
    ]
    for number in range(200):
        kept = [sample({"userId": number}).event is not None for sample in samples]
        assert kept == sorted(kept)
        assert kept[0] is False
        assert kept[-1] is True


@given(VALUES)
def test_a_fraction_depends_on_the_value_alone(value: Any) -> None:
    assert 0 <= sampling.fraction(value) < 1
    assert sampling.fraction(value) == sampling.fraction(deepcopy(value))


def test_fractions_stay_what_they_are_across_versions() -> None:
    """They decide which users a sample keeps; a release that changed them would swap the users."""
    assert sampling.fraction("u-7") == 0.9245389228959797
    assert sampling.fraction(7.0) == sampling.fraction(7) == 0.5589125379473574
    assert sampling.fraction(None) == 0.21737895085312375


@pytest.mark.parametrize(("drawn", "kept"), [(0.0, True), (0.29, True), (0.3, False), (0.99, False)])
def test_a_sample_without_a_path_asks_the_random_source(drawn: float, kept: bool) -> None:
    keep = compile_filters([{"if": "true", "sample": {"percent": 0.3}}], random=lambda: drawn)
    assert (keep(SALE).event is SALE) is kept
    run = compile_transformers(
        [{"type": "sample_event", "config": {"sample": {"percent": 0.3, "path": ""}}}], random=lambda: drawn
    )
    assert (run(SALE) is SALE) is kept


def test_the_browser_engine_keeps_every_event_of_a_sample_by_path() -> None:
    sample = [{"type": "sample_event", "config": {"sample": {"percent": 0.01, "path": "userId"}}}]
    events = [{"userId": number} for number in range(100)]
    assert [compile_transformers(sample)(event) for event in events] == events
    assert [compile_transformers(sample, fraction=sampling.fraction)(event) for event in events] != events


# Filters


def test_an_event_that_no_filter_is_for_passes_as_it_is() -> None:
    assert filtered() == FilterResult(SALE)
    result = filtered({"if": "type = 'page'", "drop": True}, {"if": "userId = null", "drop_properties": {"": ["type"]}})
    assert result.event is SALE
    assert result.reason is None


def test_a_dropped_event_names_its_filter() -> None:
    result = filtered({"if": "type = 'page'", "drop": True}, {"if": "type = 'track'", "drop": True})
    assert result == FilterResult(None, filter=1)
    assert result.reason == "FILTERED_BY_RULES"


def test_samples_come_before_drops_before_dropped_before_allowed_properties() -> None:
    result = filtered(
        {"if": "true", "allow_properties": {"properties": ["email", "seats"]}},
        {"if": "true", "drop_properties": {"properties": ["email"]}},
    )
    assert result.event is not None
    assert result.event["properties"] == {"seats": 2}
    assert filtered({"if": "true", "drop": True}, {"if": "true", "sample": {"percent": 0}}).filter == 1


def test_a_filter_is_not_hidden_from_another() -> None:
    result = filtered(
        {"if": "contains(traits.email, '@example.com')", "drop_properties": {"traits": ["email"]}},
        {"if": "contains(traits.email, '@example.com')", "drop_properties": {"properties": ["email"]}},
    )
    assert result.event is not None
    assert "email" not in result.event["traits"]
    assert "email" not in result.event["properties"]


def test_a_filter_that_raises_closes_and_says_so() -> None:
    def broken() -> float:
        raise OSError("no entropy")

    result = compile_filters([{"if": "true", "sample": {"percent": 0.5}}], random=broken)(SALE)
    assert result == FilterResult(None, filter=0, error="OSError: no entropy")
    assert result.reason == "FILTER_FAILED"


def test_a_filter_may_have_several_actions() -> None:
    both = {"if": "true", "drop_properties": {"properties": ["email"]}, "sample": {"percent": 0.7}}
    kept = compile_filters([both], random=lambda: 0.6)(SALE).event
    assert kept is not None
    assert "email" not in kept["properties"]
    assert compile_filters([both], random=lambda: 0.8)(SALE).filter == 0


def test_filters_do_not_change_their_event() -> None:
    before = deepcopy(SALE)
    filtered({"if": "true", "drop_properties": {"properties": ["email"], "properties.tickets": ["id"], "": ["userId"]}})
    assert before == SALE


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "filters[1]: a filter has `if`"),
        ({"if": "true"}, "filters[1]: a filter has `if`"),
        ({"drop": True}, "filters[1]: a filter has `if`"),
        ({"if": "true", "drop": True, "then": 1}, "filters[1]: a filter has `if`"),
        ({"if": True, "drop": True}, "filters[1].if: has to be"),
        ({"if": "type = ", "drop": True}, "filters[1].if: column 8: expected a value after `=`"),
        ({"if": "true", "drop": False}, "filters[1].drop: true is its only value"),
        ({"if": "true", "sample": 0.5}, "filters[1].sample: has to be a table"),
        ({"if": "true", "sample": {"percent": 50}}, "filters[1].sample: percent is a share from 0 to 1, not 50"),
        ({"if": "true", "sample": {"percent": 0.5, "seed": 1}}, "filters[1].sample: has to be a table"),
        ({"if": "true", "drop_properties": ["email"]}, "filters[1].drop_properties: drop_properties needs a table"),
        ({"if": "true", "allow_properties": {"properties": "email"}}, "filters[1].allow_properties: "),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(table: dict[str, Any], message: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filters([{"if": "true", "drop": True}, table], random=half)
    assert str(caught.value).startswith(message)


@given(EVENTS)
def test_filters_never_raise(event: dict[str, Any]) -> None:
    before = deepcopy(event)
    result = filtered(
        {"if": "typeof(userId) = 'number'", "sample": {"percent": 0.5, "path": "properties.x"}},
        {
            "if": "length(properties.x) > 1",
            "drop_properties": {"properties": ["x"], "properties.x": ["y"], "": ["event"]},
        },
        {"if": "!contains(event, 'a')", "allow_properties": {"properties": ["x"], "traits": []}},
        event=event,
    )
    assert result.error is None
    assert event == before
