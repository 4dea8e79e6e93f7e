"""FQL's trees as Python functions.

A tree becomes one Python expression, and that a function: `type = "track" and properties.total > 10` is

    event.get('type') == 'track' and (t1 := (t3.get('total') if (t3 := event.get('properties')).__class__ is dict
    else None)).__class__ in NUMBERS and t1 > 10

Nothing of the text reaches the Python source but the ``repr`` of strings, numbers, truth values and None: names are
those of a fixed table or made here. The function takes any event decoded from JSON, and never raises.
"""

import math
from collections.abc import Callable
from typing import Any, cast

from relayd.actions.fql_ast import And, Call, Compare, Items, Literal, Node, Not, Or, Path
from relayd.actions.fql_functions import FUNCTIONS, NUMBERS, among, same, step, walk
from relayd.actions.glob import compile_glob

Condition = Callable[[dict[str, Any]], bool]

_TESTS = frozenset({"contains", "match"})
_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_LONG_PATH = 4
"""Paths with more keys are walked in a loop: Python's parser has its own limit of nesting."""


def compile_condition(node: Node) -> Condition:
    """Whether an event satisfies the condition ``node``."""
    code = _Code()
    source = f"def condition(event):\n    return {code.condition(node)}\n"
    exec(compile(source, "<fql>", "exec"), code.names)  # noqa: S102  the module's docstring says why it is safe
    return cast(Condition, code.names["condition"])


class _Code:
    def __init__(self) -> None:
        self.names: dict[str, object] = {
            "__builtins__": {},
            "NUMBERS": NUMBERS,
            "among": among,
            "bool": bool,
            "dict": dict,
            "inf": math.inf,
            "same": same,
            "step": step,
            "str": str,
            "walk": walk,
            **{f"fql_{name}": function for name, function in FUNCTIONS.items()},
        }
        self._temporaries = 0

    def _temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def condition(self, node: Node) -> str:
        """An expression that is True or False."""
        match node:
            case And(nodes):
                return f"({' and '.join(map(self.condition, nodes))})"
            case Or(nodes):
                return f"({' or '.join(map(self.condition, nodes))})"
            case Not(negated):
                return f"(not {self.condition(negated)})"
            case Compare(operator, left, right):
                return self._comparison(operator, left, right)
            case Call("contains", (text, Literal(str() as part))):
                name = self._temporary()
                return f"(({name} := {self.value(text)}).__class__ is str and {part!r} in {name})"
            case Call("match", (text, Literal(str() as pattern))):
                name = self._temporary()
                self.names[f"glob_{name}"] = compile_glob(pattern)
                return f"(({name} := {self.value(text)}).__class__ is str and glob_{name}({name}))"
            case Call(name) if name in _TESTS:
                return self.value(node)
            case Literal(value):
                return repr(value is True)
            case _:
                return f"({self.value(node)} is True)"

    def value(self, node: Node) -> str:
        """An expression of any type, fit to be an operand."""
        match node:
            case Path(keys) if len(keys) > _LONG_PATH:
                return f"walk(event, {keys!r})"
            case Path((first, *keys)):
                value = f"event.get({first!r})"
                for key in keys:
                    value = self._member(value, key)
                return value
            case Literal(value):
                return f"({value!r})"
            case Items(nodes):
                return f"[{', '.join(map(self.value, nodes))}]"
            case Call(name, arguments):
                return f"fql_{name}({', '.join(map(self.value, arguments))})"
            case _:
                return self.condition(node)

    def _member(self, container: str, key: str) -> str:
        if key == "length" or key.isdecimal():
            return f"step({container}, {key!r})"
        name = self._temporary()
        return f"({name}.get({key!r}) if ({name} := {container}).__class__ is dict else None)"

    def _comparison(self, operator: str, left: Node, right: Node) -> str:
        if operator == "in":
            return self._membership(left, right)
        if isinstance(left, Literal) and not isinstance(right, Literal):
            operator, left, right = _MIRRORED[operator], right, left
        if operator == "=":
            return self._equality(left, right)
        if operator == "!=":
            return f"(not {self._equality(left, right)})"
        return self._order(operator, left, right)

    def _equality(self, left: Node, right: Node) -> str:
        match left, right:
            case Literal(one), Literal(other):
                return repr(same(one, other))
            case Call("typeof", (value,)), Literal("string"):
                return f"({self.value(value)}.__class__ is str)"
            case Call("typeof", (value,)), Literal("number"):
                return f"({self.value(value)}.__class__ in NUMBERS)"
            case _, Literal(None | True | False as constant):
                return f"({self.value(left)} is {constant})"
            case _, Literal(str() as text):
                return f"({self.value(left)} == {text!r})"
            case _, Literal(0 | 1 as number):  # which equal False and True
                name = self._temporary()
                return f"(({name} := {self.value(left)}) == {number!r} and {name}.__class__ is not bool)"
            case _, Literal(number):
                return f"({self.value(left)} == {number!r})"
            case _:
                return f"same({self.value(left)}, {self.value(right)})"

    def _order(self, operator: str, left: Node, right: Node) -> str:
        """Only numbers are less or more."""
        if isinstance(right, Literal) and right.value.__class__ not in NUMBERS:
            return "False"
        one, other = self._temporary(), self._temporary()
        test = f"({one} := {self.value(left)}).__class__ in NUMBERS"
        if isinstance(right, Literal):
            return f"({test} and {one} {operator} {right.value!r})"
        return f"({test} and ({other} := {self.value(right)}).__class__ in NUMBERS and {one} {operator} {other})"

    def _membership(self, left: Node, right: Node) -> str:
        if isinstance(right, Items) and all(
            isinstance(item, Literal) and isinstance(item.value, str) for item in right.nodes
        ):
            texts = tuple(item.value for item in right.nodes if isinstance(item, Literal))
            return f"({self.value(left)} in {texts!r})"
        return f"among({self.value(left)}, {self.value(right)})"
