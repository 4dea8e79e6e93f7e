"""Why a condition holds for an event, or does not: each part of it by itself, with the values that it looked at.

Every part is compiled and evaluated as the whole is, so that the two can not disagree. Conditions never raise.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from relayd.actions.fql_ast import And, Call, Compare, Items, Literal, Node, Not, Or, Path
from relayd.actions.fql_compiler import compile_condition
from relayd.actions.fql_functions import walk

__all__ = ["Part", "Value", "reasons"]


class Value(Struct, frozen=True):
    """What stands at a path of the event."""

    path: str
    value: object
    missing: bool
    """Whether the path is not there at all; ``value`` is then null, as which conditions see it."""


class Part(Struct, frozen=True):
    """A part of a condition."""

    text: str
    """In documented FQL, which says what a trigger means."""
    holds: bool
    values: list[Value]
    """What a single comparison or test looked at; empty for what is made of parts."""
    joined: str
    """How it is made of its parts: ``and``, ``or`` or ``not``; empty for a single comparison or test."""
    parts: list["Part"]


def reasons(node: Node, event: dict[str, Any]) -> Part:
    """The condition ``node`` taken apart. Every part is evaluated, also those that no longer matter."""
    inner: tuple[Node, ...]
    match node:
        case And(nodes):
            joined, inner = "and", nodes
        case Or(nodes):
            joined, inner = "or", nodes
        case Not(And() | Or() | Not() as negated):
            joined, inner = "not", (negated,)
        case _:
            joined, inner = "", ()
    return Part(
        text=str(node),
        holds=compile_condition(node)(event),
        values=[] if inner else [_value(path, event) for path in dict.fromkeys(_paths(node))],
        joined=joined,
        parts=[reasons(each, event) for each in inner],
    )


def _paths(node: Node) -> Iterator[Path]:
    """The fields that a node looks at."""
    match node:
        case Path():
            yield node
        case Literal():
            return
        case Not(negated):
            yield from _paths(negated)
        case Compare(_, left, right):
            yield from _paths(left)
            yield from _paths(right)
        case Items(nodes) | Call(_, nodes) | And(nodes) | Or(nodes):
            for each in nodes:
                yield from _paths(each)


def _value(path: Path, event: dict[str, Any]) -> Value:
    value = walk(event, path.keys)
    around = walk(event, path.keys[:-1])
    there = value is not None or (isinstance(around, dict) and path.keys[-1] in around)
    return Value(str(path), value, not there)
