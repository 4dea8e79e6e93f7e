"""FQL: what triggers and filters mean, what they refuse and how, and that nothing makes them crash."""

import time
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relayd.actions.fql_ast import And, Call, Compare, Items, Literal, Node, Not, Or, Path
from relayd.actions.fql_dialect import _ARITIES
from relayd.actions.fql_functions import FUNCTIONS
from relayd.actions.trigger import (
    MAX_BYTES,
    MAX_DEPTH,
    TriggerError,
    compile_filter,
    compile_trigger,
    parse_filter,
    parse_trigger,
)
from tests.actions.json_values import EVENTS

SALE = {
    "type": "track",
    "event": "Ticket Bought",
    "userId": "u-7",
    "anonymousId": "a-7",
    "properties": {
        "seats": 2,
        "price": 12.5,
        "zero": 0,
        "one": 1,
        "yes": True,
        "no": False,
        "void": None,
        "text": "12",
        "tags": ["front", "aisle"],
        "rows": [{"id": "r1"}, {"id": "r2"}],
        "seat row": {"a.b": "dotted"},
        "and": "keyword",
        "größe": "ü",
    },
    "traits": {"plan": "Gold Member", "email": "Ann@Example.com"},
}


def triggered(text: str, event: dict[str, Any] = SALE) -> bool:
    return compile_trigger(text)(event)


def filtered(text: str, event: dict[str, Any] = SALE) -> bool:
    return compile_filter(text)(event)


# What triggers mean


@pytest.mark.parametrize(
    "text",
    [
        'type = "track"',
        "type='track'",
        "type = track",
        'type="track" AND event = "Ticket Bought"',
        'type = "page" OR event = "Ticket Bought"',
        'type = "track"\r\n\tand event != "Ticket Refunded"',
        'type = "track" or type = "page" and event = "none"',
        'event = "none" and type = "page" or type = "track"',
        '((type = "track" and (event = "none" or userId = "u-7")))',
        '!(type = "page" or event = "none")',
        '!(!(type = "track"))',
        "properties.seats = 2",
        "properties.seats = 2.0",
        "properties.seats = 02",
        "properties.seats>=2 and properties.price<13",
        'properties.seats < "10"',
        "properties.zero = 0",
        "properties.yes = true",
        "properties.no = false",
        "properties.void = null and properties.missing = null and traits.plan.deeper = null",
        "properties.price != null",
        "properties.seats != 3",
        'properties.seats != "2"',
        "properties.text = '12'",
        "properties.seat\\ row.a = null",
        "properties.rows.1.id = 'r2'",
        "properties.rows\\[1\\].id = 'r2'",
        "properties.tags.length = 2",
        "properties.and = keyword",
        "properties.gr\\ö\\ße = 'ü'",
        "traits.plan = Gold\\ Member",
        "properties.seats = properties.rows.length",
        "'front' in properties.tags",
        "event in ['Ticket Sold', \"Ticket Bought\"]",
        'contains(event, "Bought") and contains (event, "")',
        '!contains(event, "Sold") and !match(event, "Coupon*")',
        'match(event, "Ticket*") and match(event, "*Bought") and match(event, "T*k?t*[A-C]ought")',
    ],
)
def test_a_trigger_holds(text: str) -> None:
    assert triggered(text) is True


@pytest.mark.parametrize(
    "text",
    [
        'type = "Track"',
        'type = "track" and event = "none" or type = "page"',
        '(type = "track" or type = "page") and event = "none"',
        '!(type = "track")',
        "properties.text = 12",
        "properties.yes = 1",
        "properties.one = true",
        "properties.zero = false",
        "properties.seats = '2'",
        "properties.text > 5",
        'properties.seats > "many"',
        "properties.seats > null",
        "properties.zero.deeper = 0",
        "traits.plan.length = 11",
        "properties.tags.7 = 'front'",
        "properties.tags.01 = 'aisle'",
        "'front' in properties.seats",
        'match(event, "Ticket")',
        'match(event, "")',
        'contains(properties.seats, "2")',
    ],
)
def test_a_trigger_does_not_hold(text: str) -> None:
    assert triggered(text) is False


@pytest.mark.parametrize(
    ("text", "event", "holds"),
    [
        # type, event, name and userId are compared as texts
        ("event = 5", {"event": "5"}, True),
        ("event = 5", {"event": 5}, False),
        ("userId != 5", {}, True),
        ("name = 1.50", {"name": "1.5"}, True),
        ("event = true", {"event": "true"}, True),
        ("userId = true", {"userId": True}, True),
        ("userId = true", {"userId": "true"}, False),
        ("event < 5", {"event": 4}, True),
        # a number differs only from numbers; what is no text neither contains nor lacks anything
        ("properties.n != 5", {"properties": {"n": "5"}}, False),
        ("properties.n != 5", {}, False),
        ('!contains(properties.n, "x")', {"properties": {"n": 5}}, False),
        ('!(contains(properties.n, "x"))', {"properties": {"n": 5}}, True),
        ("properties.n != true", {"properties": {"n": True}}, True),
        ("properties.n < true", {"properties": {"n": 0}}, True),
    ],
)
def test_a_trigger_keeps_to_segments_engine(text: str, event: dict[str, Any], holds: bool) -> None:
    assert triggered(text, event) is holds


# What filters mean


@pytest.mark.parametrize(
    "text",
    [
        "anonymousId = 'a-7' and groupId = null",
        "properties.yes and !properties.no and !properties.missing",
        "true and !(false)",
        "properties.missing != 5",
        "properties.yes != false",
        "properties.seat\\ row.a\\.b = 'dotted'",
        "properties.tags = ['front', 'aisle'] and properties.tags != ['aisle', 'front']",
        "'Gold Member' = traits.plan and 3 > properties.seats",
        "properties.seats in [1, 2] and !(properties.yes in [1]) and null in [properties.void]",
        "length(properties.tags) = 2 and length(groupId) = 0 and length('größe') = 7",
        "length(properties.seats) = null and length(properties) = null",
        "lowercase(traits.email) = 'ann@example.com' and uppercase('ß') = 'SS' and lowercase(null) = null",
        "snakecase(traits.plan) = 'Gold_Member' and kebabcase(traits.plan) = 'Gold-Member'",
        "titlecase('two words') = 'Two Words'",
        "typeof(event) = 'string' and typeof(properties.price) = 'number' and typeof(properties.tags) = 'list'",
        "typeof(properties.yes) = 'bool' and typeof(groupId) = 'null' and typeof(properties) != 'string'",
        "match(lowercase(traits.email), '*@example.com') and match('a*b', 'a\\*b')",
        "match(event, properties.pattern) or contains(event, 'Ticket')",
        "contains(lowercase(event), lowercase('TICKET'))",
        "bool('yes') and !bool('false') and !bool(0) and !bool(groupId) and bool(properties.tags)",
        "string(properties.seats) = '2' and string(properties.yes) = 'true' and string(null) = ''",
        'string(properties.tags) = \'["front","aisle"]\'',
        "number('12.5') = properties.price and number('x') = null and number(properties.yes) = null",
        "5 != true and 1 != true and 0 != false and null = null",
    ],
)
def test_a_filter_holds(text: str) -> None:
    assert filtered(text) is True


@given(EVENTS, st.sampled_from(["!=", "="]), st.sampled_from(["10", "'a'", "true", "null", "traits.x", "[1, 'a']"]))
def test_in_a_filter_unequal_is_the_opposite_of_equal(event: dict[str, Any], sign: str, value: str) -> None:
    opposite = {"=": "!=", "!=": "="}[sign]
    assert filtered(f"properties.x {sign} {value}", event) is not filtered(f"properties.x {opposite} {value}", event)


# What is refused


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("", 1, "a condition"),
        ("  ", 3, "a condition"),
        ("type", 1, "a condition"),
        ("type =", 7, "a value"),
        ('type "track"', 6, "an operator"),
        ('type == "track"', 7, "a value"),
        ('type <> "track"', 7, "a value"),
        ('type = "track', 8, 'a closing "'),
        ('type = "track" and', 19, "a condition"),
        ('type = "track" and and event = "x"', 20, "a condition"),
        ('and type = "track"', 1, "a condition"),
        ('type = "track", event = "x"', 15, '"and", "or" or the end'),
        ('type = "track" event = "x"', 16, '"and", "or" or the end'),
        ('(type = "track"', 16, '"and", "or" or `)`'),
        ('(type = "track"))', 17, '"and", "or" or the end'),
        ("()", 2, "a condition"),
        ('type = "track"or event = "x"', 15, "a blank"),
        ('type = "track" && event = "x"', 16, "a word"),
        ("event = “x”", 9, "a word"),
        ("properties.größe = 1", 14, "a word"),
        ("properties..x = 1", 11, "a field name"),
        ("properties. = 1", 11, "a field name"),
        ("properties.x = 1e5", 17, "a blank"),
        ("properties.x = 4.", 17, "a blank"),
        ("properties.x = --4", 16, "a word"),
        ("event = x\\", 10, "a character"),
        ('!type = "track"', 1, "`!(`"),
        ('! contains(event, "x")', 2, "a function or `(`"),
        ('!!contains(event, "x")', 2, "a function or `(`"),
        ('not(type = "track")', 1, "`!(`"),
        ('starts(event, "x")', 1, "a function"),
        ('contains(event, "x"', 20, "`,` or `)`"),
        ('contains(event "x")', 16, "`,` or `)`"),
        ('contains(event, "x", "y")', 1, "a value"),
        ('match(event, "a[b")', 14, "a pattern"),
        ('match(event, "a\\")', 14, "a pattern"),
        ('event in "Ticket"', 1, "a list or a field"),
        ("event = [x", 11, "`,` or `]`"),
    ],
)
def test_what_is_no_fql_is_refused_where_it_stops_being_fql(text: str, column: int, expected: str) -> None:
    with pytest.raises(TriggerError) as caught:
        compile_trigger(text)
    assert (caught.value.line, caught.value.column) == (1, column)
    assert caught.value.expected.startswith(expected)


@pytest.mark.parametrize(
    "text",
    [
        'anonymousId = "a-7"',
        'Type = "track"',
        "properties != null",
        'event.name = "x"',
        '"track" = type',
        "properties.yes",
        "true",
        '!properties.yes = "x"',
        "!properties.yes",
        "contains(event, 10)",
        "contains(event, Ticket)",
        "match(event, properties.x)",
        "length(event) > 3",
        "contains(lowercase(event), 'ticket')",
    ],
)
def test_a_trigger_refuses_what_segments_engine_ignores_or_refuses(text: str) -> None:
    with pytest.raises(TriggerError):
        compile_trigger(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("type = track", "no field of an event; a text stands in quotes"),
        ("lowercase(event)", "no condition"),
        ("contain(event, 'x')", "did you mean contains?"),
        ("'x'", "expected a condition"),
        ("!type = 'x'", "negated with `!("),
    ],
)
def test_a_filter_refuses_with_advice(text: str, problem: str) -> None:
    with pytest.raises(TriggerError) as caught:
        compile_filter(text)
    assert problem in caught.value.problem


def test_an_error_shows_the_line_with_a_caret_under_the_fault() -> None:
    with pytest.raises(TriggerError) as caught:
        compile_trigger('type = "track"\n  and evnt = "x"')
    assert str(caught.value) == (
        "line 2, column 7: a trigger can not test `evnt`; it can test type, event, name, userId, properties.…,"
        ' traits.… or context.…; did you mean event?\n      and evnt = "x"\n          ^'
    )


def test_an_error_message_has_no_control_characters_of_the_text() -> None:
    with pytest.raises(TriggerError) as caught:
        compile_trigger('event = "\x1b[31m" ?')
    assert str(caught.value).replace("\n", "").isprintable()


# Limits


@pytest.mark.parametrize(
    "text",
    [
        "(" * 4000,
        "!(" * 2000,
        "[" * 4000,
        "contains(" * 500,
        "(" * (MAX_DEPTH + 1) + "type = x" + ")" * (MAX_DEPTH + 1),
        "event = '" + "x" * MAX_BYTES + "'",
        "properties.x = " + "9" * 4500,
        "\\" * 5001,
        "!" * 5000,
        "\ud800",
        "\x00",
    ],
)
def test_hostile_texts_are_refused(text: str) -> None:
    for compile_ in (compile_trigger, compile_filter):
        with pytest.raises(TriggerError):
            compile_(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * MAX_DEPTH + "type = 'track'" + ")" * MAX_DEPTH,
        "!(" * MAX_DEPTH + "type = 'track'" + ")" * MAX_DEPTH,
        "(type = 'x' or " * MAX_DEPTH + "type = 'track'" + ")" * MAX_DEPTH,
        "type = 'track'" + " and type = 'track'" * 260,
        "properties" + ".a" * 2500 + " = null",
        "event != '" + "".join(chr(code) for code in range(1000) if code != 39) + "'",
        "event != '\ud800\x00{event}%s\\'",
        "properties.x" + "\\'\\\"\\\n\\{\\}" * 400 + " = null",
    ],
)
def test_texts_at_the_limits_compile(text: str) -> None:
    assert triggered(text) is True
    assert filtered(text) is True


def test_functions_nest_up_to_the_limit() -> None:
    assert filtered("lowercase(" * MAX_DEPTH + "properties.a.b.c.d" + ")" * MAX_DEPTH + " = null")


def test_a_trigger_is_evaluated_a_million_times_a_second() -> None:
    """The budget; measured here with much room, as the machine may be busy."""
    conditions = [
        compile_trigger('type = "track" and event = "Order Completed"'),
        compile_trigger('type = "identify" or type = "group"'),
    ]
    fastest = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for condition, _ in product(conditions, range(10_000)):
            condition(SALE)
        fastest = min(fastest, time.perf_counter() - start)
    assert 20_000 / fastest > 1_000_000


# Laws


@st.composite
def formulas(draw: st.DrawFn, depth: int = 3) -> str:
    """Conditions over T and F as Python writes them."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(["T", "F"]))
    left, right = draw(formulas(depth - 1)), draw(formulas(depth - 1))
    return draw(
        st.sampled_from(
            [f"{left} and {right}", f"{left} or {right}", f"({left})", f"(not ({left}))", f"({left} or {right})"]
        )
    )


@given(formulas())
def test_precedence_and_negation_are_those_of_python(formula: str) -> None:
    text = formula.replace("not ", "!").replace("T", "type = 'track'").replace("F", "type = 'page'")
    assert triggered(text) is eval(formula, {"T": True, "F": False})
    assert filtered(text) is eval(formula, {"T": True, "F": False})


_PATHS = st.builds(
    Path, st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=6).map(tuple)
) | st.sampled_from(
    [
        Path(("type",)),
        Path(("event",)),
        Path(("properties", "x")),
        Path(("properties", "x", "0")),
        Path(("traits", "y")),
    ]
)
_LITERALS = st.builds(
    Literal,
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(-1e9, 1e9)
    | st.text(max_size=6).filter(lambda text: not ("'" in text and '"' in text)),
)


def _calls(operands: st.SearchStrategy[Node], names: list[str]) -> st.SearchStrategy[Node]:
    plain = st.text("ab*?cé", max_size=4)
    return st.sampled_from(names).flatmap(
        lambda name: st.builds(
            lambda text, pattern, value: Call(name, (text, Literal(pattern)) if _ARITIES[name] == 2 else (value,)),
            operands,
            plain,
            operands,
        )
    )


_OPERANDS: st.SearchStrategy[Node] = st.recursive(
    _PATHS | _LITERALS,
    lambda inner: _calls(inner, list(_ARITIES)) | st.builds(Items, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=4,
)
_ATOMS: st.SearchStrategy[Node] = (
    _PATHS
    | st.booleans().map(Literal)
    | _calls(_OPERANDS, ["contains", "match", "bool"])
    | st.builds(Compare, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), _OPERANDS, _OPERANDS)
    | st.builds(
        Compare, st.just("in"), _OPERANDS, _PATHS | st.builds(Items, st.lists(_OPERANDS, max_size=3).map(tuple))
    )
)


def _several(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Any]:
    return st.lists(inner, min_size=2, max_size=3).map(tuple)


CONDITIONS: st.SearchStrategy[Node] = st.recursive(
    _ATOMS,
    lambda inner: st.builds(And, _several(inner)) | st.builds(Or, _several(inner)) | st.builds(Not, inner),
    max_leaves=6,
)


@given(CONDITIONS)
def test_a_tree_printed_and_parsed_is_the_same_tree(node: Node) -> None:
    assert parse_filter(str(node)) == node


@given(CONDITIONS, EVENTS)
def test_a_filter_never_raises_and_gives_a_truth_value(node: Node, event: dict[str, Any]) -> None:
    assert type(filtered(str(node), event)) is bool


_FIELD = st.sampled_from(
    [
        "type",
        "event",
        "name",
        "userId",
        "properties.x",
        "properties.x.y",
        "traits.length",
        "context.0",
        "properties.a\\.b",
    ]
)
_VALUE = st.sampled_from(
    [
        '"track"',
        "'10'",
        "track",
        "10",
        "-1.5",
        "0",
        "1",
        "true",
        "false",
        "null",
        '""',
        "properties.x",
        "['a', 1, true]",
    ]
)
_ATOM = st.one_of(
    st.builds("{} {} {}".format, _FIELD, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), _VALUE),
    st.builds(
        "{}{}({}, '{}')".format, st.sampled_from(["", "!"]), st.just("contains"), _FIELD, st.text("ab1", max_size=2)
    ),
    st.builds(
        "{}{}({}, '{}')".format, st.sampled_from(["", "!"]), st.just("match"), _FIELD, st.text("ab1*?", max_size=4)
    ),
    st.builds("{} in {}".format, _FIELD, st.sampled_from(["properties.x", "traits.y", "['a', 'track', 1, null]"])),
)
TRIGGERS = st.recursive(
    _ATOM,
    lambda inner: (
        st.builds("{} {} {}".format, inner, st.sampled_from(["and", "or"]), inner)
        | st.builds("{}({})".format, st.sampled_from(["", "!"]), inner)
    ),
    max_leaves=5,
)


@given(TRIGGERS, EVENTS)
def test_a_trigger_never_raises_and_is_what_its_documented_fql_is(text: str, event: dict[str, Any]) -> None:
    holds = triggered(text, event)
    assert type(holds) is bool
    assert filtered(str(parse_trigger(text)), event) is holds


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*"()[],!=<>.\"'\\", " and ", " or ", "type", "x", "1", " "])).map("".join)
)
@example("5 = true")
@example("'a' = null or [1] = null")
def test_any_text_is_a_condition_or_a_trigger_error(text: str) -> None:
    for compile_ in (compile_trigger, compile_filter):
        try:
            condition = compile_(text)
        except TriggerError:
            continue
        assert type(condition(SALE)) is bool


def test_values_nested_deeper_than_pythons_stack_do_no_harm() -> None:
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    event = {"type": "track", "properties": {"x": deep, "y": [deep]}}
    text = "properties.x != properties.y.0 or string(properties.x) != null or properties.x in properties.y"
    assert filtered(text, event)


def test_a_condition_does_not_change_its_event() -> None:
    event = {"type": "track", "properties": {"x": [1]}}
    filtered("properties.x = [1] and length(properties.x) = 1", event)
    assert event == {"type": "track", "properties": {"x": [1]}}


def test_the_dialects_know_the_functions_that_the_compiler_knows() -> None:
    assert _ARITIES.keys() == FUNCTIONS.keys()
