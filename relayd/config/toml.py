"""What tomllib leaves out: the line on which each key stands, and values written as TOML."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping

from relayd.config.errors import Keys
from relayd.config.units import Duration, Rate, Size

_TOKEN = re.compile(
    r"""
      (?P<blank>   [ \t]+ | \#[^\n]* )
    | (?P<newline> \n )
    | (?P<string>  \"{3} (?:\\.|[^\\])*? \"{3,5} | '{3} .*? '{3,5} | "(?:\\.|[^"\\])*" | '[^']*' )
    | (?P<mark>    [\[\]{}=,.] )
    | (?P<bare>    [^\s\[\]{}=,."'\#]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def lines(text: str) -> dict[Keys, int]:
    """The line (from 1) on which each table, key and array element of a document begins.

    ``text`` must be a document that tomllib accepts: what this does not expect, it does not report.
    """
    return _Index(text).document()


class _Index:
    """A recursive descent over TOML 1.0 that keeps places and no values."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._lengths: dict[Keys, int] = {}  # of the arrays of tables
        self._lines: dict[Keys, int] = {}
        self._next()

    def document(self) -> dict[Keys, int]:
        table: Keys = ()
        while self._kind:
            if self._skip("newline"):
                continue
            if self._skip("["):
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _next(self) -> None:
        self._kind, self._text, self._line = next(self._tokens, ("", "", 0))

    def _skip(self, *kinds: str) -> bool:
        found = self._kind in kinds
        if found:
            self._next()
        return found

    def _header(self) -> Keys:
        """What follows ``[``. Each name on the way that is an array of tables stands for its last element."""
        line, is_array = self._line, self._skip("[")
        names = self._names()
        table: Keys = ()
        for depth, name in enumerate(names, 1):
            table = (*table, name)
            if is_array and depth == len(names):
                self._lengths[table] = self._lengths.get(table, 0) + 1
            if table in self._lengths:
                table = (*table, self._lengths[table] - 1)
        self._found(table, line)
        while self._skip("]"):
            pass
        return table

    def _pair(self, table: Keys) -> None:
        line = self._line
        keys = (*table, *self._names())
        self._found(keys, line)
        self._skip("=")
        self._value(keys)

    def _names(self) -> Keys:
        names: Keys = ()
        while self._kind in ("bare", "string", "."):
            if self._kind != ".":
                quoted = self._kind == "string"
                names += (tomllib.loads(f"name = {self._text}")["name"] if quoted else self._text,)
            self._next()
        return names

    def _value(self, keys: Keys) -> None:
        if self._skip("["):
            length = 0
            while not self._skip("]", ""):
                if self._skip(","):
                    length += 1
                elif not self._skip("newline"):
                    self._found((*keys, length), self._line)
                    self._value((*keys, length))
        elif self._skip("{"):
            while not self._skip("}", ""):
                if not self._skip(",", "newline"):
                    self._pair(keys)
        else:
            while self._skip("bare", "string", "."):  # a date and its time, or a float, are several
                pass

    def _found(self, keys: Keys, line: int) -> None:
        for depth in range(1, len(keys) + 1):
            self._lines.setdefault(keys[:depth], line)


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind (a mark is its own kind), text and line of each token."""
    line = 1
    for match in _TOKEN.finditer(text):
        kind, token = match.lastgroup or "", match[0]
        if kind != "blank":
            yield (token if kind == "mark" else kind), token, line
        line += token.count("\n")


def dotted(keys: Keys) -> str:
    """Keys as a user would write them: ``destinations.crm.sources[0]``."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{_name(key)}" if text else _name(key)
    return text


def render(value: object) -> str:
    """A value as TOML, on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case Duration() | Size() | Rate():
            return f'"{value}"'
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Mapping():
            pairs = ", ".join(f"{_name(name)} = {render(each)}" for name, each in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case list() | tuple():
            return f"[{', '.join(map(render, value))}]"
        case _:
            return str(value)


def _name(key: str) -> str:
    return key if _BARE.fullmatch(key) else render(key)
