"""FQL as a tree. A node printed is FQL again: parsed with `compile_filter`'s dialect, it gives the same tree."""

import re
from dataclasses import dataclass
from decimal import Decimal

_SPECIAL = re.compile(r"[^A-Za-z0-9_-]")
_FIRST = re.compile(r"[^A-Za-z_\\]")


@dataclass(frozen=True, slots=True)
class Path:
    """A field of the event; what is missing is null."""

    keys: tuple[str, ...]

    def __str__(self) -> str:
        keys = [_SPECIAL.sub(r"\\\g<0>", key) for key in self.keys]
        if _FIRST.match(keys[0]) or keys[0].lower() in ("and", "or", "in", "true", "false", "null"):
            keys[0] = "\\" + keys[0]
        return ".".join(keys)


@dataclass(frozen=True, slots=True)
class Literal:
    """A text, number, truth value or null."""

    value: str | int | float | bool | None

    def __str__(self) -> str:
        match self.value:
            case None:
                return "null"
            case bool():
                return str(self.value).lower()
            case str():
                quote = '"' if "'" in self.value else "'"
                return f"{quote}{self.value}{quote}"
            case _:
                return format(Decimal(repr(self.value)), "f")


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    nodes: "tuple[Node, ...]"

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.nodes))}]"


@dataclass(frozen=True, slots=True)
class Call:
    """A function of its arguments."""

    name: str
    arguments: "tuple[Node, ...]"

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.arguments))})"


@dataclass(frozen=True, slots=True)
class Compare:
    """``left operator right``; the operator is ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=`` or ``in``."""

    operator: str
    left: "Node"
    right: "Node"

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True, slots=True)
class Not:
    """True where its operand is not."""

    node: "Node"

    def __str__(self) -> str:
        return f"!{self.node}" if isinstance(self.node, Call | Path) else f"!({self.node})"


@dataclass(frozen=True, slots=True)
class And:
    """True where all its operands are; at least two."""

    nodes: "tuple[Node, ...]"

    def __str__(self) -> str:
        return " and ".join(f"({node})" if isinstance(node, And | Or) else str(node) for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Or:
    """True where any of its operands is; at least two."""

    nodes: "tuple[Node, ...]"

    def __str__(self) -> str:
        return " or ".join(f"({node})" if isinstance(node, Or) else str(node) for node in self.nodes)


Node = Path | Literal | Items | Call | Compare | Not | And | Or
