"""@liquid: what its templates print, and what they may not use."""

import pytest

from relayd.actions.faults import MappingError
from relayd.actions.liquid import MAX_LENGTH, compile_liquid

PAYLOAD = {
    "name": " Zoë <z> ",
    "total": 12.5,
    "count": 3.0,
    "vip": True,
    "nothing": None,
    "tags": ["a", None, 2.0, {"b": 1}],
    "is": {"empty": ""},
    "at": "2026-03-04T05:06:07.089+02:00",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain {{ nope }}{{ nothing }}", "plain "),
        ("{{ total }} {{ count }} {{ vip }} {{ tags }}", "12.5 3 true a2[object Object]"),
        ("{{ name | strip | escape | upcase }}", "ZOË &LT;Z&GT;"),
        (
            "{{ total | plus: 1 }} {{ total | times: 2 }} {{ 7 | divided_by: 2 }} {{ 7 | divided_by: 0 }}",
            "13.5 25 3.5 Infinity",
        ),
        ("{{ total | round }} {{ -2.4 | round }} {{ 1.005 | times: 3 | round: 1 }} {{ -7 | modulo: 3 }}", "13 -2 3 2"),
        ("{{ 'x' | plus: 1 }} {{ nope | minus: 1 }} {{ '4' | at_most: 3 }} {{ 2.1 | ceil }}", "1 -1 3 3"),
        (
            "{{ tags | join: '-' }} {{ tags | compact | size }} {{ 'a,b,,' | split: ',' | size }}",
            "a--2-[object Object] 3 2",
        ),
        ("{{ '🐙' | size }} {{ 'ab' | split: '' | join: ' ' }}", "2 a b"),
        ("{{ tags | json }} {{ nope | json }}", '["a",null,2,{"b":1}] '),
        (
            "{{ is.empty | default: 'none' }}{{ empty }} {{ at | date: '%Y-%m-%d %H:%M:%S.%L' }}",
            "none 2026-03-04 03:06:07.089",
        ),
        ("{{ 0 | date: '%Y' }} {{ 'never' | date: '%Y' }}", "1970 never"),
        ("{% if vip and total > 12 %}yes{% else %}no{% endif %}{% unless vip %}!{% endunless %}", "yes"),
        ("{% assign twice = count | times: 2 %}{% capture all %}<{{ twice }}>{% endcapture %}{{ all }}", "<6>"),
        ("{% echo total %} {{ 'a' | no_such_filter }} {% comment %}x{% endcomment %}", "12.5 a "),
        ("{{ 'a' | sha256 | slice: 0, 8 }} {{ 'a' | hmac_sha256: 'k' | slice: 0, 8 }}", "ca978112 78da9151"),
    ],
)
def test_a_template_prints_as_liquidjs_does(template: str, text: str) -> None:
    assert compile_liquid(template, ())(PAYLOAD) == text


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ name", "/v: is no template"),
        ("{% for tag in tags %}{% endfor %}", "/v: is no template: unexpected tag 'for'"),
        ("{% include 'x' %}", "/v: is no template: unexpected tag 'include'"),
        ("{{ tags | sort | uniq }}", "/v: uses the filter sort, which is disabled"),
        ("{{ tags | push: 1 }}", "/v: uses the filter push, which relayd lacks"),
        ("x" * (MAX_LENGTH + 1), "/v: has 1001 characters, 1000 are allowed"),
    ],
)
def test_what_is_not_allowed_is_found_beforehand(template: str, fault: str) -> None:
    with pytest.raises(MappingError, match=fault):
        compile_liquid(template, ("v",))


def test_a_template_can_not_grow_without_bounds() -> None:
    doubling = "{% assign a = 'xxxxxxxxxx' %}" + "{% assign a = a | append: a %}" * 30
    with pytest.raises(MappingError, match="can not be rendered: LocalNamespaceLimitError"):
        compile_liquid(doubling, ())({})


def test_what_is_no_object_has_no_members() -> None:
    assert compile_liquid("[{{ name }}]", ())(["x"]) == "[]"
