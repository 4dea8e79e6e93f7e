"""Glob patterns, in a time bound by the length of the text times that of the pattern.

``*`` is any characters, also none; ``?`` one; ``[abc]`` and ``[a-z]`` one of these; ``[^a]`` one other; ``\\x`` is x.
Case counts, and the whole text has to match. A pattern is cut at its stars into pieces of fixed length: the first
stands at the start of the text, the last at its end, and each between at the first place after the one before, which is
never worse than a later one; so nothing is tried twice.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_ATOM = re.compile(r"(?P<star>\*+)|(?P<any>\?)|(?P<set>\[)|\\(?P<escaped>.)|(?P<literal>[^\\])", re.DOTALL)
_RANGE = re.compile(r"(?:\\(?P<low>.)|(?P<Low>[^\]\\-]))(?:-(?:\\(?P<high>.)|(?P<High>[^\]\\-])))?", re.DOTALL)


class GlobError(ValueError):
    """A pattern that matches nothing, because it breaks off or has an empty set."""


@dataclass(slots=True)
class _Piece:
    """What stands between two stars: as a regular expression, as a text if it is one, and how long it is."""

    expression: str = ""
    literal: str | None = ""
    length: int = 0

    def add(self, expression: str, literal: str | None = None) -> None:
        self.expression += expression
        self.literal = None if self.literal is None or literal is None else self.literal + literal
        self.length += 1

    def compile(self) -> re.Pattern[str]:
        return re.compile(self.expression, re.DOTALL)


def compile_glob(pattern: str) -> Callable[[str], bool]:
    """Whether a text matches ``pattern``. Raises `GlobError` where the pattern is malformed."""
    pieces = list(_pieces(pattern))
    match [piece.literal for piece in pieces]:
        case [str(whole)]:
            return whole.__eq__
        case [str(head), ""]:
            return lambda text: text.startswith(head)
        case ["", str(tail)]:
            return lambda text: text.endswith(tail)
        case ["", str(middle), ""]:
            return lambda text: middle in text
    if len(pieces) == 1:
        only = pieces[0].compile()
        return lambda text: only.fullmatch(text) is not None
    return _in_order(pieces)


def _in_order(pieces: list[_Piece]) -> Callable[[str], bool]:
    first, *between, last = (piece.compile() for piece in pieces)
    tail = pieces[-1].length

    def matches(text: str) -> bool:
        found = first.match(text)
        for piece in between:
            if found is None:
                return False
            found = piece.search(text, found.end())
        start = len(text) - tail
        return found is not None and found.end() <= start and last.fullmatch(text, start) is not None

    return matches


def _pieces(pattern: str) -> Iterator[_Piece]:
    piece = _Piece()
    at = 0
    while at < len(pattern):
        atom = _ATOM.match(pattern, at)
        if atom is None:
            raise GlobError("a backslash at the end of a pattern escapes nothing")
        at = atom.end()
        match atom.lastgroup:
            case "star":
                yield piece
                piece = _Piece()
            case "any":
                piece.add(".")
            case "set":
                expression, at = _set(pattern, at)
                piece.add(expression)
            case _:
                char = atom["escaped"] or atom["literal"]
                piece.add(re.escape(char), char)
    yield piece


def _set(pattern: str, at: int) -> tuple[str, int]:
    """The set that is open before ``at`` as a regular expression, and where the pattern goes on."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges = ""
    empty = True
    while empty or not pattern.startswith("]", at):
        part = _RANGE.match(pattern, at)
        if part is None or part.end() == len(pattern):
            raise GlobError("a set is `[`, characters or ranges such as a-z, and `]`; in it, escape `-` and `]`")
        at = part.end()
        empty = False
        low = part["low"] or part["Low"]
        high = part["high"] or part["High"] or low
        if low <= high:
            ranges += f"{re.escape(low)}-{re.escape(high)}"
    if not ranges:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{ranges}]", at + 1
