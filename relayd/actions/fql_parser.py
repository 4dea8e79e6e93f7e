"""FQL's grammar, the same for both dialects; `and` binds tighter than `or`.

    condition   = conjunction { "or" conjunction }
    conjunction = term { "and" term }
    term        = "(" condition ")" | "!" "(" condition ")" | "!" operand | operand [ comparison ]
    comparison  = ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) operand | "in" operand
    operand     = text | number | "true" | "false" | "null" | list | path | function "(" operand { "," operand } ")"
    list        = "[" [ operand { "," operand } ] "]"

What a dialect decides is asked of its `Dialect` at each place: which fields exist, what may stand where, and what it
means in documented FQL. Every character counts: what is left over at the end is an error.
"""

import math
from typing import Protocol

from relayd.actions.fql_ast import And, Items, Literal, Node, Not, Or
from relayd.actions.fql_error import TriggerError
from relayd.actions.fql_lexer import Token, tokenize

MAX_BYTES = 5 * 1024
"""A longer text is refused, as at Segment."""
MAX_DEPTH = 32
"""Groups, lists and functions inside each other."""
_MAX_DIGITS = 400
"""Enough for any double written out."""
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


class Dialect(Protocol):
    """What one dialect of FQL makes of the grammar. Each method may raise the error that ``at`` gives."""

    def path(self, at: Token) -> Node:
        """The field that a word names."""

    def word(self, at: Token) -> Node:
        """What a word means to the right of an operator."""

    def function(self, at: Token) -> None:
        """Refuses a function that there is not."""

    def call(self, name: str, arguments: list[tuple[Node, Token]], at: Token) -> Node:
        """The value of a function that there is."""

    def compare(self, operator: str, left: Node, right: Node, at: Token) -> Node:
        """A comparison, ``at`` its left side."""

    def alone(self, node: Node, at: Token) -> Node:
        """An operand that is a condition by itself."""

    def negate(self, node: Node, at: Token) -> Node:
        """A condition of one operand behind ``!``."""


def parse(text: str, dialect: Dialect) -> Node:
    """The tree of a condition. Raises `TriggerError`."""
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise TriggerError(f"a condition has at most {MAX_BYTES} bytes", text, 0, "a shorter condition")
    return _Parser(text, dialect).parse()


class _Parser:
    def __init__(self, text: str, dialect: Dialect) -> None:
        self._tokens = list(tokenize(text))
        self._at = 0
        self._depth = 0
        self._dialect = dialect

    def parse(self) -> Node:
        node = self._condition()
        if self._next.kind != "end":
            raise self._next.unexpected('"and", "or" or the end')
        return node

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        self._at += 1
        return token

    def _accept(self, kind: str) -> bool:
        accepted = self._next.kind == kind
        self._at += accepted
        return accepted

    def _expect(self, kind: str, expected: str) -> None:
        if not self._accept(kind):
            raise self._next.unexpected(expected)

    def _enter(self, at: Token) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise at.error(f"more than {MAX_DEPTH} levels of nesting", "less nesting")

    def _condition(self) -> Node:
        nodes = [self._conjunction()]
        while self._accept("or"):
            nodes.append(self._conjunction())
        return nodes[0] if len(nodes) == 1 else Or(tuple(nodes))

    def _conjunction(self) -> Node:
        nodes = [self._term()]
        while self._accept("and"):
            nodes.append(self._term())
        return nodes[0] if len(nodes) == 1 else And(tuple(nodes))

    def _term(self) -> Node:
        at = self._next
        if at.kind == "(":
            return self._group()
        if not self._accept("!"):
            return self._comparison()
        if self._next.kind == "(":
            return Not(self._group())
        operand = self._operand(self._dialect.path, "a function or `(`")
        if self._next.kind in ("operator", "in"):
            raise at.error("a comparison is negated with `!( … )`", "`!(`")
        return self._dialect.negate(operand, at)

    def _group(self) -> Node:
        self._enter(self._take())
        node = self._condition()
        self._expect(")", '"and", "or" or `)`')
        self._depth -= 1
        return node

    def _comparison(self) -> Node:
        at = self._next
        left = self._operand(self._dialect.path, "a condition")
        if self._next.kind in ("and", "or", ")", "end"):
            return self._dialect.alone(left, at)
        if self._next.kind not in ("operator", "in"):
            raise self._next.unexpected('an operator, such as = or "and"')
        operator = self._take()
        if operator.kind == "in":
            right = self._operand(self._dialect.path, "a list or a field")
        else:
            right = self._operand(self._dialect.word, f"a value after {operator}")
        return self._dialect.compare(operator.text.lower(), left, right, at)

    def _operand(self, word: "_Word", expected: str) -> Node:
        """A value; ``word`` says what a bare word is here."""
        at = self._take()
        match at.kind:
            case "text":
                return Literal(at.text[1:-1])
            case "number":
                return _number(at)
            case "[":
                return Items(tuple(node for node, _ in self._list(at, "]", self._dialect.word)))
            case "word" if self._next.kind == "(":
                self._dialect.function(at)
                arguments = self._list(self._take(), ")", self._dialect.path)
                return self._dialect.call(at.text, arguments, at)
            case "word" if at.text in _CONSTANTS:
                return Literal(_CONSTANTS[at.text])
            case "word":
                return word(at)
            case _:
                raise at.unexpected(expected)

    def _list(self, opening: Token, closing: str, word: "_Word") -> list[tuple[Node, Token]]:
        """Operands up to ``closing``, each with the token it begins with."""
        self._enter(opening)
        nodes: list[tuple[Node, Token]] = []
        if not self._accept(closing):
            while True:
                at = self._next
                nodes.append((self._operand(word, "a value"), at))
                if self._accept(closing):
                    break
                self._expect(",", f"`,` or `{closing}`")
        self._depth -= 1
        return nodes


class _Word(Protocol):
    def __call__(self, at: Token, /) -> Node: ...


def _number(at: Token) -> Literal:
    value = float(at.text)
    if at.end - at.start > _MAX_DIGITS or math.isinf(value):
        raise at.error(f"a number has at most {_MAX_DIGITS} digits, and 308 before the point", "a shorter number")
    return Literal(int(at.text) if "." not in at.text else int(value) if value.is_integer() else value)
