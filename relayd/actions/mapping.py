"""Mappings: what an event becomes before it is sent, written as a tree of directives.

`compile_mapping` reads a tree once and writes a Python function for it, which then runs for every event: a path is a
`dict.get`, a condition a conditional expression, an object some assignments, and what many paths lead through
(``context.device``) is looked up once. The function's text is the mapping's ``__doc__``.

The meaning is that of Segment's engine (@segment/actions-core 3.170, found by running it), where a value can also be
undefined: objects lose such members, arrays keep them, and a mapping that is a single directive may give it.
What comes out shares parts with the payload that went in; treat both as read-only.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple, cast

from relayd.actions.directives import (
    bind_case,
    bind_exclude_nulls,
    bind_flatten,
    bind_replace,
    decode,
    each,
    is_filled,
    merge,
    need_object,
    need_text,
    refuse,
    without_undefined,
)
from relayd.actions.faults import Fault, MappingError
from relayd.actions.javascript import UNDEFINED, stringify, truthy, type_name
from relayd.actions.mapping_check import check, directive_of, root_of
from relayd.actions.paths import Path, fill, parse_root_path, read, reader, render, split_template

__all__ = ["UNDEFINED", "Mapper", "MappingError", "compile_mapping"]

Mapper = Callable[[dict[str, object]], object]

_LITERAL = 2**63


def compile_mapping(tree: object) -> Mapper:
    """The function that makes what a destination gets of an event.

    Raises `MappingError` with every fault in ``tree``. The function raises it, and nothing else, if the event is no
    object, is nested too deeply, or gives a directive what it can not work with.
    """
    if faults := check(tree):
        raise MappingError(*faults)
    writer = _Writer()
    run = writer.build(tree)

    def mapping(payload: dict[str, object]) -> object:
        if type(payload) is not dict:
            raise MappingError(Fault((), f"is applied to {type_name(payload)}, must be an object"))
        try:
            return run(payload)
        except RecursionError:
            raise MappingError(Fault((), "is applied to an object that is nested too deeply")) from None

    mapping.__doc__ = writer.source
    return mapping


class _Code(NamedTuple):
    """An expression in a written function. Evaluating it may change the variable v."""

    text: str
    defined: bool = True
    """Whether its value can not be UNDEFINED."""


_UNDEFINED = _Code("U", defined=False)


class _Scope:
    """A function while it is written; its only parameter is the payload, p."""

    def __init__(self, names: "count[int]") -> None:
        self.head: list[str] = []
        self.body: list[str] = []
        self._names = names
        self._indent = " "
        self._readers: dict[Path, str] = {}

    def name(self, kind: str) -> str:
        return f"{kind}{next(self._names)}"

    def line(self, text: str) -> None:
        self.body.append(self._indent + text)

    @contextmanager
    def block(self) -> Iterator[list[str]]:
        """What is written meanwhile goes into a list of its own, one level deeper."""
        outer = self.body
        self.body, self._indent = [], self._indent + " "
        yield self.body
        self.body, self._indent = outer, self._indent[:-1]

    def read(self, path: Path) -> _Code:
        """What is at a path of the payload."""
        if not path:
            return _Code("p", defined=False)
        return _Code(f"{self._reader(path[:-1])}({path[-1]!a}, U)", defined=False)

    def _reader(self, parent: Path) -> str:
        """The variable that reads the members of what is at ``parent``; assigned once, at the top of the function."""
        if parent not in self._readers:
            value = self.read(parent).text
            name = self._readers[parent] = self.name("get")
            self.head.append(f" {name} = v.get if type(v := {value}) is dict else reader(v)")
        return self._readers[parent]


class _Writer:
    """Writes the functions of a mapping that has been checked.

    Its methods give the code of one node each. ``at`` is where the node is, for messages. ``keep`` holds inside a
    ``@merge``: there an undefined member replaces a defined one before it is dropped.
    """

    def __init__(self) -> None:
        self.source = ""
        self._names = count()
        self._globals: dict[str, object] = dict(_RUNTIME)

    def build(self, tree: object) -> Mapper:
        name = self.function(root_of(tree), (), keep=False)
        exec(compile(self.source, "<mapping>", "exec"), self._globals)  # noqa: S102  all its names and literals are ours
        return cast(Mapper, self._globals[name])

    def function(self, node: object, at: Path, *, keep: bool) -> str:
        """The name of a new function, which gives the value of a node for a payload of its own."""
        scope = _Scope(self._names)
        result = self.value(node, scope, at, keep)
        name = scope.name("f")
        self.source += "\n".join([f"def {name}(p):", *scope.head, *scope.body, f" return {result.text}", ""])
        return name

    def constant(self, value: object) -> str:
        name = f"c{next(self._names)}"
        self._globals[name] = value
        return name

    def value(self, node: object, scope: _Scope, at: Path, keep: bool) -> _Code:
        if isinstance(node, list):
            items = [self.value(item, scope, (*at, str(index)), keep) for index, item in enumerate(node)]
            return _Code(f"[{', '.join([item.text for item in items])}]")
        if not isinstance(node, dict):
            literal = isinstance(node, str | bool | None) or (isinstance(node, int) and -_LITERAL < node < _LITERAL)
            return _Code(ascii(node) if literal else self.constant(node))
        directive = directive_of(node)
        if directive is None:
            return self.members(node, scope, at, keep)
        return _EMIT[directive](self, node[directive], scope, (*at, directive), keep)

    def members(self, node: dict[str, object], scope: _Scope, at: Path, keep: bool) -> _Code:
        codes = {key: self.value(item, scope, (*at, key), keep) for key, item in node.items()}
        if keep or all(code.defined for code in codes.values()):
            return _Code(f"{{{', '.join([f'{key!a}: {code.text}' for key, code in codes.items()])}}}")
        name = scope.name("o")
        scope.line(f"{name} = {{}}")
        for key, code in codes.items():
            if code.defined:
                scope.line(f"{name}[{key!a}] = {code.text}")
            elif code is not _UNDEFINED:
                scope.line(f"if (v := {code.text}) is not U: {name}[{key!a}] = v")
        return _Code(name)

    def text(self, node: object, scope: _Scope, at: Path) -> str:
        """A text that a directive gives."""
        return f"need_text({self.value(node, scope, at, keep=False).text}, {at!a})"

    def path(self, path: object, scope: _Scope, at: Path, keep: bool) -> _Code:
        if isinstance(path, str):
            return scope.read(parse_root_path(path))
        return _Code(f"read(p, parse_root_path({self.text(path, scope, at)}))", defined=False)

    def template(self, template: object, scope: _Scope, at: Path, keep: bool) -> _Code:
        if not isinstance(template, str):
            return _Code(f"render({self.text(template, scope, at)}, p, {at!a})")
        if any(path is not None for _, path in split_template(template, 3)):
            return _Code(f"render({template!a}, p, {at!a})")
        parts: list[str] = []
        for text, path in split_template(template, 2):
            parts += [ascii(text)] if text else []
            parts += [f"fill({scope.read(path).text})"] if path is not None else []
        return _Code(parts[0] if len(parts) == 1 else f"''.join([{', '.join(parts)}])")

    def condition(self, options: Any, scope: _Scope, at: Path, keep: bool) -> _Code:
        key = "exists" if "exists" in options else "blank"
        subject = self.value(options[key], scope, (*at, key), keep=False)
        test = f"(v := {subject.text}) is not U and v is not None" if key == "exists" else f"is_filled({subject.text})"
        with scope.block() as then_lines:
            then = self.value(options["then"], scope, (*at, "then"), keep) if "then" in options else _UNDEFINED
        with scope.block() as else_lines:
            given = truthy(options.get("else"))
            other = self.value(options["else"], scope, (*at, "else"), keep) if given else _UNDEFINED
        if key == "exists" and then == subject:
            then = _Code("v")  # read a moment ago
        defined = then.defined and other.defined
        if not then_lines and not else_lines:
            return _Code(f"({then.text} if {test} else {other.text})", defined)
        name = scope.name("x")
        for keyword, lines, code in ((f"if {test}", then_lines, then), ("else", else_lines, other)):
            scope.line(f"{keyword}:")
            scope.body += lines
            scope.line(f" {name} = {code.text}")
        return _Code(name, defined)

    def case(self, options: Any, scope: _Scope, at: Path, keep: bool) -> _Code:
        if not truthy(options.get("value")):
            return _UNDEFINED
        value = self.value(options["value"], scope, (*at, "value"), keep)
        return _Code(f"{self.constant(bind_case(options['operator']))}({value.text})", value.defined)

    def replace(self, options: Any, scope: _Scope, at: Path, keep: bool) -> _Code:
        if not options["value"]:
            return _UNDEFINED
        value = self.value(options["value"], scope, (*at, "value"), keep=False)
        return _Code(f"{self.constant(bind_replace(options, at))}({value.text})")

    def array_path(self, argument: Any, scope: _Scope, at: Path, keep: bool) -> _Code:
        root = (
            self.path(argument[0], scope, (*at, "0"), keep=False)
            if isinstance(argument[0], str)
            else self.value(argument[0], scope, (*at, "0"), keep)
        )
        shape = argument[1] if len(argument) > 1 else None
        if not isinstance(shape, dict) or not shape:
            return root
        return _Code(f"each({root.text}, {self.function(shape, (*at, '1'), keep=keep)})", root.defined)

    def json(self, options: Any, scope: _Scope, at: Path, keep: bool) -> _Code:
        function = {"encode": "stringify", "decode": "decode"}.get(options["mode"])
        if not truthy(options["value"]):
            return _Code(f"refuse({at!a}, 'has an empty value, must have one that is not')")
        if function is None:  # the engine takes ENCODE, and then does nothing
            return _UNDEFINED
        value = self.value(options["value"], scope, (*at, "value"), keep=False)
        return _Code(f"{function}({value.text})", value.defined)

    def flatten(self, options: Any, scope: _Scope, at: Path, keep: bool) -> _Code:
        flatten = bind_flatten(options["separator"], omit_arrays=truthy(options.get("omitArrays")), keep=keep)
        return _Code(f"{self.constant(flatten)}({self.value(options['value'], scope, (*at, 'value'), keep).text})")

    def merge(self, options: Any, scope: _Scope, at: Path, keep: bool) -> _Code:
        objects = [
            self.value(item, scope, (*at, "objects", str(index)), keep=True)
            for index, item in enumerate(options["objects"])
        ]
        if options["direction"] == "left":
            objects.reverse()
        merged = f"merge({', '.join([code.text for code in objects])})"
        return _Code(merged if keep else f"without_undefined({merged})")

    def transform(self, options: Any, scope: _Scope, at: Path, keep: bool) -> _Code:
        apply = self.function(options["apply"], (*at, "apply"), keep=False)
        mapping = self.function(options["mapping"], (*at, "mapping"), keep=keep)
        return _Code(f"{mapping}({apply}(need_object(p, {at!a})))", defined=False)

    def exclude_nulls(self, node: object, scope: _Scope, at: Path, keep: bool) -> _Code:
        exclude = self.constant(bind_exclude_nulls(keep=keep))
        return _Code(f"{exclude}({self.value(node, scope, at, keep).text})", defined=False)

    def liquid(self, template: Any, scope: _Scope, at: Path, keep: bool) -> _Code:
        from relayd.actions.liquid import compile_liquid  # here, since few mappings use it and it is slow to import

        return _Code(f"{self.constant(compile_liquid(template, at))}(p)")


_RUNTIME = {
    function.__name__: function
    for function in (
        decode,
        each,
        fill,
        is_filled,
        merge,
        need_object,
        need_text,
        parse_root_path,
        read,
        reader,
        refuse,
        render,
        stringify,
        without_undefined,
    )
} | {"U": UNDEFINED}
"""What the written functions may call."""

_EMIT: dict[str, Callable[[_Writer, Any, _Scope, Path, bool], _Code]] = {
    "@path": _Writer.path,
    "@template": _Writer.template,
    "@literal": _Writer.value,
    "@if": _Writer.condition,
    "@case": _Writer.case,
    "@replace": _Writer.replace,
    "@arrayPath": _Writer.array_path,
    "@json": _Writer.json,
    "@flatten": _Writer.flatten,
    "@merge": _Writer.merge,
    "@transform": _Writer.transform,
    "@excludeWhenNull": _Writer.exclude_nulls,
    "@liquid": _Writer.liquid,
}
