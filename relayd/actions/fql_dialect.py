"""The two dialects of FQL: what each allows, and how a trigger is said in documented FQL.

`FilterDialect` is the documented language (of destination filters). `TriggerDialect` is the language of subscriptions,
as Segment's engine runs it; it allows less, and what it means differently it rewrites, so that the compiler knows one
language only. The differences are listed in `relayd.actions.trigger`.
"""

import math
import re
from difflib import get_close_matches

from relayd.actions.fql_ast import And, Call, Compare, Items, Literal, Node, Not, Path
from relayd.actions.fql_lexer import Token
from relayd.actions.glob import GlobError, compile_glob
from relayd.actions.javascript import number_to_string, to_number

_ARITIES = {
    "contains": 2,
    "match": 2,
    "length": 1,
    "lowercase": 1,
    "uppercase": 1,
    "snakecase": 1,
    "kebabcase": 1,
    "titlecase": 1,
    "typeof": 1,
    "bool": 1,
    "string": 1,
    "number": 1,
}
_FIELDS = frozenset(
    {"type", "event", "name", "category", "userId", "anonymousId", "groupId", "previousId", "messageId", "version"}
    | {"properties", "traits", "context", "integrations", "channel", "projectId", "_metadata"}
    | {"timestamp", "originalTimestamp", "sentAt", "receivedAt"}
)
"""The top-level fields of events."""
_TESTS = ("contains", "match")
_CONTAINERS = ("properties", "traits", "context")
_SCALARS = ("type", "event", "name", "userId")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_KEY = re.compile(r"(?:[^.\\]|\\.)+", re.DOTALL)


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = get_close_matches(name, names, 1) or get_close_matches(name.lower(), names, 1)
    return f"; did you mean {near[0]}?" if near else ""


class FilterDialect:
    """Documented FQL: any field, any function, anywhere; an operand alone holds where it is true."""

    def path(self, at: Token) -> Node:
        return Path(tuple(_ESCAPE.sub(r"\1", key) for key in _KEY.findall(at.text)))

    def word(self, at: Token) -> Node:
        if "." not in at.text and at.text not in _FIELDS:
            raise at.error(f"{at} is no field of an event; a text stands in quotes", "a value")
        return self.path(at)

    def function(self, at: Token) -> None:
        if at.text.lower() == "not":
            raise at.error("a condition is negated with `!( … )`", "`!(`")
        if at.text not in _ARITIES:
            known = ", ".join(_ARITIES)
            raise at.error(f"no function {at}; there are {known}{_nearest(at.text, tuple(_ARITIES))}", "a function")

    def call(self, name: str, arguments: list[tuple[Node, Token]], at: Token) -> Node:
        arity = _ARITIES[name]
        if len(arguments) != arity:
            raise at.error(f"{name}() takes {arity} value{'s' * (arity > 1)}, not {len(arguments)}", "a value")
        if name == "match":
            self._check_pattern(*arguments[1])
        return Call(name, tuple(node for node, _ in arguments))

    def compare(self, operator: str, left: Node, right: Node, at: Token) -> Node:
        if operator == "in" and not isinstance(right, Items | Path):
            raise at.error("`in` needs a list or a field on its right", "a list or a field")
        return Compare(operator, left, right)

    def alone(self, node: Node, at: Token) -> Node:
        match node:
            case Path() | Literal(True | False) | Call("contains" | "match" | "bool"):
                return node
            case Call(name):
                raise at.error(f"{name}() is no condition; compare it with something", "a condition")
            case _:
                raise at.unexpected("a condition")

    def negate(self, node: Node, at: Token) -> Node:
        return Not(self.alone(node, at))

    @staticmethod
    def _check_pattern(pattern: Node, at: Token) -> None:
        if isinstance(pattern, Literal) and isinstance(pattern.value, str):
            try:
                compile_glob(pattern.value)
            except GlobError as error:
                raise at.error(f"this pattern matches nothing: {error}", "a pattern") from None


class TriggerDialect(FilterDialect):
    """The language of subscriptions, said in documented FQL."""

    def path(self, at: Token) -> Node:
        """Brackets and dots part the keys, also where they are escaped; only some fields can be tested."""
        root, *keys = [key for key in re.split(r"[\[\].]+", _ESCAPE.sub(r"\1", at.text)) if key] or [""]
        if root in (_CONTAINERS if keys else _SCALARS):
            return Path((root, *keys))
        allowed = "type, event, name, userId, properties.…, traits.… or context.…"
        raise at.error(
            f"a trigger can not test {at}; it can test {allowed}{_nearest(root, _SCALARS + _CONTAINERS)}", allowed
        )

    def word(self, at: Token) -> Node:
        """A bare word is text; one with dots is a field."""
        return self.path(at) if len(_KEY.findall(at.text)) > 1 else Literal(_ESCAPE.sub(r"\1", at.text))

    def function(self, at: Token) -> None:
        super().function(at)
        if at.text not in _TESTS:
            raise at.error(f"{at.text}() is for filters; a trigger has contains() and match()", "contains() or match()")

    def call(self, name: str, arguments: list[tuple[Node, Token]], at: Token) -> Node:
        call = super().call(name, arguments, at)
        wanted, found = arguments[1]
        if not (isinstance(wanted, Literal) and isinstance(wanted.value, str)):
            raise found.unexpected("a text in quotes")
        return call

    def compare(self, operator: str, left: Node, right: Node, at: Token) -> Node:
        compared = super().compare(operator, left, right, at)
        if operator == "in":
            return compared
        if not isinstance(left, Path):
            raise at.unexpected("a field")
        if not isinstance(right, Literal):
            return compared
        if operator not in ("=", "!="):
            return Compare(operator, left, _number(right.value, scalar=left.keys[0] in _SCALARS))
        if isinstance(right.value, bool):
            strict = operator == "=" and left.keys[0] not in ("type", "event", "name")
            return compared if strict else Compare(operator, left, Literal(str(right.value).lower()))
        if isinstance(right.value, int | float):
            if left.keys[0] in _SCALARS:
                return Compare(operator, left, Literal(number_to_string(right.value)))
            if operator == "!=":
                return And((Compare("=", Call("typeof", (left,)), Literal("number")), compared))
        return compared

    def alone(self, node: Node, at: Token) -> Node:
        if not isinstance(node, Call):
            raise at.unexpected('a condition such as type = "track"')
        return node

    def negate(self, node: Node, at: Token) -> Node:
        """Neither a test nor its negation holds for what is no text."""
        if not isinstance(node, Call):
            raise at.error("`!` negates a function or a group, `!( … )`", "a function or `(`")
        return And((Compare("=", Call("typeof", (node.arguments[0],)), Literal("string")), Not(node)))


def _number(value: str | float | bool | None, *, scalar: bool) -> Literal:
    """What ``<`` and its like compare a field with: null, than which no number is less or more, for no number."""
    match value:
        case bool():
            number = math.nan if scalar else int(value)
        case str():
            number = to_number(value)
        case None:
            number = math.nan
        case _:
            number = value
    return Literal(None if math.isnan(number) else number)
