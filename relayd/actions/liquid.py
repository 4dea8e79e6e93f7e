"""``@liquid``: Shopify's template language, as far as Segment allows it in a mapping.

python-liquid parses and runs the templates. It is restricted here as Segment's engine restricts liquidjs: no loops, no
other templates, no filters that work through arrays, 1000 characters. Numbers, texts and arrays print and calculate as
in JavaScript; dates are in UTC. As there, an unknown filter has no effect, but one that liquidjs has and relayd has not
is a fault.
"""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache, wraps
from hashlib import sha256
from hmac import HMAC
from math import ceil, copysign, floor, inf, isfinite, nan
from typing import Any, TextIO

from liquid import Environment, RenderContext
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags.echo_tag import EchoNode, EchoTag
from liquid.exceptions import LiquidError

from relayd.actions.directives import Step
from relayd.actions.faults import Fault, MappingError
from relayd.actions.javascript import UNDEFINED, characters, length, stringify, to_number, to_string

MAX_LENGTH = 1000
"""Characters in a template."""

MAX_RENDERED = 1_000_000
"""Bytes that a template may render, and that its variables may take."""

# fmt: off
_DISABLED_TAGS = {"case", "for", "include", "layout", "render", "tablerow"}
_UNKNOWN_TAGS = {"doc", "ifchanged"}
_DISABLED_FILTERS = {
    "array_to_sentence_string", "concat", "find", "find_exp", "find_index", "find_index_exp", "group_by",
    "group_by_exp", "has", "has_exp", "map", "newline_to_br", "reject", "reject_exp", "reverse", "sort", "sort_natural",
    "type", "uniq", "where_exp",
}
_MISSING_FILTERS = {
    "cgi_escape", "date_to_long_string", "date_to_rfc822", "date_to_string", "date_to_xmlschema", "inspect",
    "number_of_words", "pop", "push", "sample", "shift", "slugify", "unshift", "uri_escape",
}
_TEXT_FILTERS = {
    "append", "base64_decode", "base64_encode", "capitalize", "downcase", "escape", "escape_once", "lstrip", "prepend",
    "remove", "remove_first", "remove_last", "replace", "replace_first", "replace_last", "rstrip", "squish", "strip",
    "strip_html", "strip_newlines", "truncate", "truncatewords", "upcase", "url_decode", "url_encode",
}
"""Filters of python-liquid whose input, and texts among their arguments, are to be as JavaScript prints them."""
# fmt: on

_MARKUP = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_KEYWORD = re.compile(r"""("[^"]*"|'[^']*')|\.(blank|empty|false|nil|null|true)\b""")


@lru_cache
def compile_liquid(template: str, at: tuple[str, ...]) -> Step:
    """The function that renders a template with a payload.

    Raises `MappingError` if the template is too long or wrong; so does the function where a filter refuses its input.
    ``at`` is the template's place in the mapping, for messages.
    """
    if len(template) > MAX_LENGTH:
        raise MappingError(Fault(at, f"has {len(template)} characters, {MAX_LENGTH} are allowed"))
    try:
        compiled = _ENVIRONMENT.from_string(_MARKUP.sub(_quote_keywords, template))
        filters = compiled.analyze().filters.keys()
    except LiquidError as error:
        raise MappingError(Fault(at, f"is no template: {error.message}")) from None
    faults = [Fault(at, f"uses the filter {name}, which is disabled") for name in filters & _DISABLED_FILTERS]
    faults += [Fault(at, f"uses the filter {name}, which relayd lacks") for name in filters & _MISSING_FILTERS]
    if faults:
        raise MappingError(*faults)

    def render(payload: object) -> str:
        try:
            return compiled.render(payload if isinstance(payload, dict) else {})
        except RecursionError:
            raise
        except Exception as error:  # whatever python-liquid's filters make of an odd payload is the template's fault
            raise MappingError(Fault(at, f"can not be rendered: {type(error).__name__}")) from None

    return render


def _quote_keywords(markup: re.Match[str]) -> str:
    """``a.empty`` as ``a["empty"]``: python-liquid takes no keyword after a dot."""
    return _KEYWORD.sub(lambda found: found[1] or f'["{found[2]}"]', markup[0])


def _value(value: object) -> object:
    """A value of python-liquid's as one of JavaScript's."""
    if isinstance(value, tuple | range):
        return list(value)
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, str | int | float | list | dict) else UNDEFINED


def _text(value: object) -> str:
    """What liquidjs prints: nothing for nil, an array without separators, all else as JavaScript does."""
    value = _value(value)
    if value is None or value is UNDEFINED:
        return ""
    return "".join(map(_text, value)) if isinstance(value, list) else to_string(value)


def _number(value: object) -> float:
    """What liquidjs calculates with: 0 for what is no number."""
    number = value if isinstance(value, int | float) else to_number(to_string(_value(value)))
    return 0 if number != number else number


class _OutputNode(OutputNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        return buffer.write(_text(self.expression.evaluate(context)))


class _EchoNode(_OutputNode, EchoNode):
    pass


class _Output(Output):
    node_class = _OutputNode


class _Echo(EchoTag):
    node_class = _EchoNode


def _on_text(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)  # and so its marks, by which python-liquid hands it the environment
    def run(value: object, *arguments: object, **options: Any) -> Any:
        return function(
            _text(value), *[item if isinstance(item, int) else _text(item) for item in arguments], **options
        )

    return run


def _on_numbers(function: Callable[..., float]) -> Callable[..., float]:
    def run(*operands: object) -> float:
        result = function(*map(_number, operands))
        return int(result) if isfinite(result) and result == floor(result) else result

    return run


def _divide(dividend: float, divisor: float, whole: float = 0) -> float:
    if not divisor:
        return dividend * inf if dividend else nan
    return floor(dividend / divisor) if whole else dividend / divisor


def _round(number: float, digits: float = 0) -> float:
    scale: float = 10.0 ** int(digits)
    return copysign(floor(abs(number) * scale + 0.5) / scale, number)


def _items(value: object) -> list[object]:
    value = _value(value)
    if isinstance(value, list):
        return value
    return [] if value is None or value is UNDEFINED else [value]


def _join(value: object, separator: object = " ") -> str:
    nothing = (None, UNDEFINED)
    return _text(separator).join("" if _value(item) in nothing else to_string(item) for item in _items(value))


def _split(value: object, separator: object) -> list[str]:
    text, between = _text(value), _text(separator)
    parts: Iterable[str] = text.split(between) if between else characters(text)
    return re.sub("\0+$", "", "\0".join(parts)).split("\0") if any(parts) else []


def _size(value: object) -> int:
    value = _value(value)
    if isinstance(value, str):
        return length(value)
    return len(value) if isinstance(value, list) else 0


def _date(value: object, pattern: object = "%A, %B %-e, %Y at %-l:%M %P %z") -> object:
    """A time as text. Takes ISO 8601, Unix seconds and "now"; anything else is left alone."""
    try:
        if value in ("now", "today"):
            time = datetime.now(UTC)
        elif isinstance(value, str) and not value.isdecimal():
            time = datetime.fromisoformat(value)
            time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        elif isinstance(value, str | int | float):
            time = datetime.fromtimestamp(float(value), UTC)
        else:
            return value
    except (ValueError, OverflowError, OSError):
        return value
    return time.strftime(_text(pattern).replace("%L", f"{time.microsecond // 1000:03d}"))


class _Restricted(Environment):
    output_stream_limit = MAX_RENDERED
    local_namespace_limit = MAX_RENDERED
    suppress_blank_control_flow_blocks = False


def _environment() -> Environment:
    environment = _Restricted(strict_filters=False)
    environment.add_tag(_Output)
    environment.add_tag(_Echo)
    for name in (_DISABLED_TAGS | _UNKNOWN_TAGS) & environment.tags.keys():
        del environment.tags[name]
    filters = environment.filters
    filters |= {name: _on_text(filters[name]) for name in _TEXT_FILTERS}
    filters |= {
        "abs": _on_numbers(abs),
        "at_least": _on_numbers(max),
        "at_most": _on_numbers(min),
        "ceil": _on_numbers(ceil),
        "compact": lambda value: [item for item in _items(value) if item is not None],
        "date": _date,
        "divided_by": _on_numbers(_divide),
        "floor": _on_numbers(floor),
        "hmac_sha256": lambda value, key: HMAC(_text(key).encode(), _text(value).encode(), sha256).hexdigest(),
        "join": _join,
        "json": lambda value, *_: stringify(_value(value)),
        "jsonify": lambda value, *_: stringify(_value(value)),
        "minus": _on_numbers(lambda one, other: one - other),
        "modulo": _on_numbers(lambda one, other: one % other if other else nan),
        "normalize_whitespace": lambda value: re.sub(r"\s+", " ", _text(value)),
        "plus": _on_numbers(lambda one, other: one + other),
        "raw": lambda value: value,
        "round": _on_numbers(_round),
        "sha256": lambda value: sha256(_text(value).encode()).hexdigest(),
        "size": _size,
        "split": _split,
        "times": _on_numbers(lambda one, other: one * other),
        "to_integer": _number,
        "xml_escape": filters["escape"],
    }
    return environment


_ENVIRONMENT = _environment()
