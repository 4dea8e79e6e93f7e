"""Mappings: each directive, the faults found beforehand, and what no event can make them do."""

from copy import deepcopy
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relayd.actions.mapping import UNDEFINED, MappingError, compile_mapping
from relayd.actions.mapping_check import DIRECTIVES, MAX_DEPTH
from tests.actions.json_values import EVENTS, VALUES

ORDER: dict[str, Any] = {
    "type": "track",
    "event": "Order Paid",
    "userId": "u-7",
    "properties": {
        "total": 12.0,
        "discount": 0,
        "note": "",
        "coupon": None,
        "items": [{"sku": "A", "price": 5}, {"sku": "B"}],
        "tags": ["new", None, ["x", "y"]],
        "packed": '{"b":[1.50,null],"a":"\\u00e9"}',
        "first name": "Zoë 🐙",
        "2": "two",
        "1": "one",
    },
    "context": {"device": {"id": "d-1", "os": {"name": "iOS"}}},
}


def value_of(node: object, payload: dict[str, Any] = ORDER) -> object:
    """What a node gives as the member of an object; UNDEFINED if it gives none."""
    result = compile_mapping({"v": node})(payload)
    assert isinstance(result, dict)
    return result.get("v", UNDEFINED)


def path(text: str) -> dict[str, object]:
    return {"@path": text}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$.userId", "u-7"),
        ("$.context.device.os.name", "iOS"),
        ("$.properties.items[1].sku", "B"),
        ("$.properties.items.0.price", 5),
        ("$.properties['first name']", "Zoë 🐙"),
        ('$.properties["first name"].length', 6),
        ("$.properties.items.length", 2),
        ("$.userId[2]", "7"),
        ("$.properties.coupon.code", None),
        ("$.properties.discount.rate", 0),
        ("$.properties.items[2]", UNDEFINED),
        ("$.properties.total.x", UNDEFINED),
        ("$.toString", UNDEFINED),
        ("$", UNDEFINED),
        ("$.", ORDER),
        (path("$.properties.nope"), MappingError),
        ({"@literal": "$.event"}, "Order Paid"),
    ],
)
def test_a_path_reads_as_javascript_would(text: object, expected: object) -> None:
    if expected is MappingError:
        with pytest.raises(MappingError, match="/v/@path: holds a directive that gave undefined"):
            value_of({"@path": text})
    else:
        assert value_of({"@path": text}) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{event}} by {{ userId }}", "Order Paid by u-7"),
        ("{{properties.total}}/{{properties.discount}}/{{properties.coupon}}/{{nope}}", "12/0//"),
        ("{{properties.tags}} {{context}}", "new,,x,y [object Object]"),
        ("{{{event}}}", "Order Paid"),
        ("{{}} {{a}b}} {x}", "{{}} {{a}b}} {x}"),
        ("", ""),
        (path("$.event"), "Order Paid"),
    ],
)
def test_a_template_prints_values_as_javascript_does(template: object, expected: str) -> None:
    assert value_of({"@template": template}) == expected


def test_what_three_braces_bring_in_is_expanded_again() -> None:
    payload = {"a": "<{{b}}>", "b": 1}
    assert value_of({"@template": "{{{a}}} {{a}}"}, payload) == "<1> <{{b}}>"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"exists": path("$.userId"), "then": path("$.userId"), "else": path("$.anonymousId")}, "u-7"),
        ({"exists": path("$.properties.coupon"), "then": 1, "else": path("$.event")}, "Order Paid"),
        ({"exists": path("$.properties.note"), "then": "kept", "else": "lost"}, "kept"),
        ({"blank": path("$.properties.note"), "then": "filled", "else": "blank"}, "blank"),
        ({"blank": path("$.properties.discount"), "then": "filled", "else": "blank"}, "blank"),
        ({"blank": path("$.properties.items"), "then": "filled", "else": "blank"}, "filled"),
        ({"blank": {"@literal": [[]]}, "then": "filled", "else": "blank"}, "blank"),
        ({"exists": path("$.userId"), "else": 1}, UNDEFINED),
        ({"exists": path("$.nope"), "then": 1, "else": 0}, UNDEFINED),
        (
            {"exists": path("$.userId"), "then": {"id": path("$.userId"), "no": path("$.nope")}, "else": 1},
            {"id": "u-7"},
        ),
        (
            {"exists": path("$.nope"), "then": {"a": path("$.nope")}, "else": {"b": path("$.event")}},
            {"b": "Order Paid"},
        ),
    ],
)
def test_a_condition_chooses(options: object, expected: object) -> None:
    assert value_of({"@if": options}) == expected


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"@case": {"operator": "upper", "value": path("$.userId")}}, "U-7"),
        ({"@case": {"operator": "lower", "value": path("$.properties.items[0].price")}}, 5),
        ({"@case": {"operator": "lower"}}, UNDEFINED),
        ({"@replace": {"pattern": "d", "replacement": "[$&$$]", "value": path("$.event")}}, "Or[d$]er Pai[d$]"),
        ({"@replace": {"pattern": "D", "value": path("$.event"), "ignorecase": True, "global": False}}, "Orer Paid"),
        ({"@replace": {"pattern": ".", "replacement": ",", "value": {"@literal": 1.5}}}, "1,5"),
        ({"@replace": {"pattern": "a", "value": "aba", "pattern2": "b", "replacement2": "$`$'"}}, ""),
        ({"@replace": {"pattern": "x", "value": path("$.properties")}}, ""),
        ({"@json": {"mode": "encode", "value": path("$.context.device")}}, '{"id":"d-1","os":{"name":"iOS"}}'),
        ({"@json": {"mode": "encode", "value": [path("$.nope"), 1.0]}}, "[null,1]"),
        (
            {"@json": {"mode": "encode", "value": {"b": 1, "10": 2, "9": path("$.nope"), "a": 3}}},
            '{"10":2,"b":1,"a":3}',
        ),
        ({"@json": {"mode": "decode", "value": path("$.properties.packed")}}, {"b": [1.5, None], "a": "é"}),
        ({"@json": {"mode": "decode", "value": path("$.event")}}, "Order Paid"),
        ({"@flatten": {"separator": "_", "value": path("$.context")}}, {"device_id": "d-1", "device_os_name": "iOS"}),
        ({"@flatten": {"separator": ".", "value": {"a": [1, [2]], "b": {}}}}, {"a.0": 1, "a.1.0": 2}),
        ({"@flatten": {"separator": ".", "omitArrays": True, "value": {"a": [1]}}}, {"a": [1]}),
        ({"@flatten": {"separator": ".", "value": path("$.nope")}}, {}),
        ({"@excludeWhenNull": path("$.properties.coupon")}, UNDEFINED),
        ({"@excludeWhenNull": {"a": None, "b": {"c": None}, "d": [None]}}, {"b": {}, "d": [None]}),
        ({"@literal": {"@path": "$.event", "x": 1}}, MappingError),
        ({"@literal": {"a": {"@path": "$.event", "x": 1}}}, {"a": {"@path": "$.event", "x": 1}}),
        ([path("$.nope"), {"a": path("$.nope")}, path("$.userId")], [UNDEFINED, {}, "u-7"]),
        ({"@liquid": "{{ event | upcase }}: {{ properties.total }}"}, "ORDER PAID: 12"),
    ],
)
def test_a_directive_gives(node: object, expected: object) -> None:
    if expected is MappingError:
        with pytest.raises(MappingError):
            value_of(node)
    else:
        assert value_of(node) == expected


def test_each_item_of_an_array_becomes_the_payload_of_the_shape() -> None:
    shape = {"id": path("$.sku"), "price": path("$.price"), "label": {"@template": "{{sku}}!"}}
    shaped = value_of({"@arrayPath": ["$.properties.items", shape]})
    assert shaped == [{"id": "A", "price": 5, "label": "A!"}, {"id": "B", "label": "B!"}]
    assert value_of({"@arrayPath": ["$.context.device", {"id": path("$.id")}]}) == [{"id": "d-1"}]
    assert value_of({"@arrayPath": ["$.event", shape]}) == "Order Paid"
    assert value_of({"@arrayPath": ["$.properties.items"]}) == ORDER["properties"]["items"]


def test_in_a_merge_an_undefined_member_replaces_a_defined_one() -> None:
    objects = [{"a": 1, "b": 1}, {"a": path("$.nope"), "c": {"d": path("$.nope")}}]
    assert value_of({"@merge": {"direction": "right", "objects": objects}}) == {"b": 1, "c": {}}
    assert value_of({"@merge": {"direction": "left", "objects": objects}}) == {"a": 1, "b": 1, "c": {}}


def test_a_transform_maps_what_another_mapping_made() -> None:
    transform = {
        "apply": {"order": path("$.properties")},
        "mapping": {"sum": path("$.order.total"), "no": path("$.event")},
    }
    assert value_of({"@transform": transform}) == {"sum": 12.0}
    with pytest.raises(MappingError, match="is applied to string, must be an object"):
        value_of({"@arrayPath": ["$.properties.tags", {"x": {"@transform": transform}}]})


def test_the_internal_directive_wraps_the_rest_of_the_root() -> None:
    root = {"@transform": {"apply": {"who": path("$.userId")}}}
    assert compile_mapping({"__segment_internal_directive": root, "id": path("$.who")})(ORDER) == {"id": "u-7"}


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (path("$.nope"), UNDEFINED),
        (path("$.event"), "Order Paid"),
        ({}, {}),
        (["x"], {"0": "x"}),
        ("ab", {"0": "a", "1": "b"}),
    ],
)
def test_the_root_may_be_other_than_an_object(root: object, expected: object) -> None:
    assert compile_mapping(root)(ORDER) == expected


@pytest.mark.parametrize(
    ("mapping", "faults"),
    [
        (None, ["/: is null, must be an object"]),
        ({"a": {"@pth": "x"}}, ["/a: has the unknown directive @pth, did you mean @path? "]),
        ({"a": {"@path": "x", "b": 1}}, ["/a: has b beside @path, a directive stands alone"]),
        ({"a": {"@path": "x", "@if": {}}}, ["/a: has @path and @if, one directive is allowed"]),
        ({"a": {"@path": 1}, "b": {"@template": []}}, ["/a/@path: is a number", "/b/@template: is an array"]),
        ({"a": {"@if": {"then": 1}}}, ["/a/@if: needs exists or blank"]),
        (
            {"a": {"@if": {"exists": {"@no": 1}, "then": {"@path": None}}}},
            ["/a/@if/exists: has", "/a/@if/then/@path: is null"],
        ),
        (
            {"a": {"@case": {"operator": "title", "value": 1}}},
            ["operator: is 'title', must be lower or upper", "value: is a"],
        ),
        (
            {"a": {"@replace": {"pattern": "12345678901"}}},
            ["/a/@replace/pattern: has 11 characters", "/a/@replace/value: is"],
        ),
        ({"a": [{"@arrayPath": {}}]}, ["/a/0/@arrayPath: is an object, must be an array"]),
        ({"a": {"@json": {"mode": "x"}}}, ["mode: is 'x', must be encode or decode", "value: is missing"]),
        ({"a": {"@flatten": {"separator": "", "value": 1}}}, ["/a/@flatten/separator: has 0 characters"]),
        ({"a": {"@merge": {"direction": "up", "objects": [1]}}}, ["direction: is 'up'", "/objects/0: is a number"]),
        ({"a": {"@transform": {"apply": 1}}}, ["apply: is a number", "mapping: is missing"]),
        ({"a": {"@liquid": "{{ x | sort }}"}}, ["/a/@liquid: uses the filter sort, which is disabled"]),
        (
            {"__segment_internal_directive": {"@transform": 1}},
            ["/__segment_internal_directive/@transform: is a number"],
        ),
        ({"a": {1, 2}}, ["/a: is a set, must be a JSON value"]),
        ({"a": {1: "x"}, "b": {"@path": {2: "x"}}}, ["/a: has a key that is no string", "/b/@path: is an object"]),
    ],
)
def test_all_faults_are_found_at_once_with_their_places(mapping: object, faults: list[str]) -> None:
    with pytest.raises(MappingError) as caught:
        compile_mapping(mapping)
    assert len(caught.value.faults) == len(faults)
    for found, expected in zip(caught.value.faults, faults, strict=True):
        assert expected in str(found)


@pytest.mark.parametrize("payload", [None, [], "x", 1, True, UNDEFINED])
def test_only_an_object_can_be_mapped(payload: Any) -> None:
    with pytest.raises(MappingError, match="must be an object"):
        compile_mapping({})(payload)


def refusal(mapping: object, payload: dict[str, Any] = ORDER) -> str:
    """What the mapping, or applying it, is refused for; nothing if it is not."""
    try:
        compile_mapping(mapping)(payload)
    except MappingError as error:
        return str(error)
    return ""


def nested(wrap: Any, levels: int) -> object:
    node: object = path("$.userId")
    for _ in range(levels):
        node = wrap(node)
    return node


@pytest.mark.parametrize(
    "wrap",
    [
        lambda node: [node],
        lambda node: {"k": node, "u": path("$.nope")},
        lambda node: {"@path": node},
        lambda node: {"@template": node},
        lambda node: {"@excludeWhenNull": node},
        lambda node: {"@if": {"exists": path("$.nope"), "then": 1, "else": node}},
        lambda node: {"@if": {"exists": node, "then": {"k": path("$.event"), "u": path("$.nope")}}},
        lambda node: {"@if": {"blank": path("$.event"), "then": {"k": node, "u": path("$.nope")}}},
        lambda node: {"@merge": {"direction": "left", "objects": [{"k": node}]}},
        lambda node: {"@arrayPath": ["$.context", {"k": node}]},
    ],
)
def test_a_tree_is_compiled_up_to_a_depth_and_then_refused(wrap: Any) -> None:
    assert "nested too deeply" not in refusal({"v": nested(wrap, 12)})
    assert "nested too deeply" in refusal({"v": nested(wrap, 400)})
    for levels in range(12, MAX_DEPTH + 1):  # whichever the last one is that is compiled, Python takes it
        refusal({"v": nested(wrap, levels)})


def test_a_long_template_and_a_wide_object_are_compiled() -> None:
    assert value_of({"@template": "{{userId}}," * 5000}) == "u-7," * 5000
    wide = {str(index): path(f"$.context.device{index}.id") for index in range(5000)}
    assert compile_mapping(wide)(ORDER) == {}


@pytest.mark.parametrize(
    "node",
    [
        {"@flatten": {"separator": ".", "value": path("$.objects")}},
        {"@flatten": {"separator": ".", "value": path("$.arrays")}},
        {"@json": {"mode": "encode", "value": path("$.objects")}},
        {"@json": {"mode": "encode", "value": path("$.arrays")}},
        {"@json": {"mode": "decode", "value": path("$.text")}},
        {"@excludeWhenNull": path("$.objects")},
        {"@template": "{{arrays}}"},
        {"@if": {"blank": path("$.arrays"), "then": 1}},
        {"@liquid": "{{ objects | json }}"},
        {"@liquid": "{{ arrays }}"},
    ],
)
def test_a_payload_nested_deeper_than_the_stack_is_refused(node: object) -> None:
    objects: dict[str, object] = {}
    arrays: list[object] = []
    for _ in range(5000):
        objects, arrays = {"k": objects}, [arrays]
    payload = {"objects": objects, "arrays": arrays, "text": "[" * 100_000}
    assert "nested too deeply" in refusal({"v": node}, payload)


def test_a_template_is_read_in_linear_time() -> None:
    hostile = "{{" * 200_000 + "}"
    assert value_of({"@template": "{{{a}}}"}, {"a": hostile}) == hostile


@pytest.mark.parametrize(
    "node",
    [
        {"@template": "{{{many}}}"},
        {"@template": path("$.many")},
        {"@replace": {"pattern": "a", "replacement": "$`$'", "value": path("$.long")}},
    ],
)
def test_texts_can_not_multiply_without_bounds(node: object) -> None:
    payload = {"many": "{{long}}" * 10_000, "long": "a" * 10_000}
    assert "gives more than 10000000 characters" in refusal({"v": node}, payload)


@st.composite
def trees(draw: st.DrawFn, levels: int = 3) -> object:
    """Mappings, mostly well-formed."""
    paths = st.sampled_from(
        ["$.type", "$.properties", "$.properties.x", "$.properties.y[0]", "$.", "$.a.length", "$.context.x.y"]
    )
    leaf = (
        st.builds(path, paths) | VALUES | st.builds(lambda text: {"@template": f"{{{{{text}}}}} {{{{{{x}}}}}}"}, paths)
    )
    if not levels:
        return draw(leaf)
    inner = trees(levels - 1)
    objects = st.dictionaries(st.sampled_from(["x", "y", "0"]), inner, max_size=3)
    text = st.builds(path, paths) | st.sampled_from(["aXa", "1"])
    return draw(
        st.one_of(
            leaf,
            objects,
            st.lists(inner, max_size=3),
            st.fixed_dictionaries({"@literal": inner}),
            st.fixed_dictionaries({"@excludeWhenNull": inner}),
            st.builds(
                lambda *parts: {"@if": dict(zip(("exists", "then", "else"), parts, strict=True))},
                st.builds(path, paths),
                inner,
                inner,
            ),
            st.builds(lambda value, then: {"@if": {"blank": value, "then": then}}, objects, inner),
            st.builds(lambda value: {"@case": {"operator": "upper", "value": value}}, text),
            st.builds(lambda value: {"@replace": {"pattern": "a", "replacement": "$&", "value": value}}, text),
            st.builds(lambda at, shape: {"@arrayPath": [at, shape]}, paths, objects),
            st.builds(
                lambda mode, value: {"@json": {"mode": mode, "value": value}},
                st.sampled_from(["encode", "decode"]),
                inner,
            ),
            st.builds(lambda value: {"@flatten": {"separator": ".", "value": value}}, inner),
            st.builds(
                lambda first, second: {"@merge": {"direction": "left", "objects": [first, second]}},
                objects,
                st.builds(path, paths),
            ),
            st.builds(lambda apply, mapping: {"@transform": {"apply": apply, "mapping": mapping}}, objects, objects),
            st.just({"@liquid": "{{ properties.x | append: '!' }}{{ context | json }}"}),
        )
    )


def assert_json(value: object) -> None:
    """No undefined member, no text that is not UTF-8."""
    if isinstance(value, dict):
        for key, item in value.items():
            assert item is not UNDEFINED
            msgspec.json.encode(key)
            assert_json(item)
    elif isinstance(value, list):
        for item in value:
            assert_json(item)
    elif not isinstance(value, int):  # msgspec decodes integers that it can not encode
        msgspec.json.encode(value)


@settings(max_examples=200, deadline=None)
@given(tree=trees(), payload=EVENTS)
def test_a_mapping_gives_json_or_a_mapping_error_and_leaves_the_payload_alone(
    tree: object, payload: dict[str, Any]
) -> None:
    before = deepcopy(payload)
    try:
        result = compile_mapping(tree)(payload)
    except MappingError:
        pass
    else:
        assert_json(result)
    assert payload == before


ANYTHING = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*DIRECTIVES, "@x", "exists", "then", "value", "objects", "mode"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(tree=ANYTHING, payload=EVENTS)
def test_any_tree_is_compiled_or_refused(tree: object, payload: dict[str, Any]) -> None:
    refusal(tree, payload)
