"""The words of FQL.

A word is a field path, a function name, a keyword or bare text: letters, digits, ``_`` and ``-``, joined by dots; any
other character is escaped with ``\\`` (``properties.product\\ 1``). Texts stand in ``"`` or ``'`` and know no escapes.
Numbers are plain decimals. Keywords are ``and``, ``or`` and ``in``, in lower or upper case.

Nothing is skipped but blanks: a character that begins no word, and a text or number that another word touches, is a
`TriggerError`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from relayd.actions.fql_error import TriggerError

_BLANK = " \t\r\n"
_PARTING = _BLANK + ",])"
_KEYWORDS = frozenset({"and", "or", "in"})
_WORD = re.compile(
    r"""
    (?P<word>     (?: [A-Za-z_] | \\. ) (?: [A-Za-z0-9_-] | \\. )* (?: \. (?: [A-Za-z0-9_-] | \\. )+ )* )
  | (?P<number>   [+-]? [0-9]+ (?: \.[0-9]+ )? )
  | (?P<text>     "[^"]*" | '[^']*' )
  | (?P<operator> <= | >= | != | [=<>] )
  | (?P<mark>     [()\[\],!] )
    """,
    re.VERBOSE | re.DOTALL,
)
_HINTS = {
    "&": 'write "and"',
    "|": 'write "or"',
    "“": 'use straight quotes, "…"',
    "”": 'use straight quotes, "…"',
    "‘": "use straight quotes, '…'",
    "’": "use straight quotes, '…'",
    "{": "a list stands in [ ]",
}


@dataclass(frozen=True, slots=True)
class Token:
    """One word of ``source``, from ``start`` to ``end``.

    ``kind`` is word, text, number, operator, end, or the keyword or mark itself.
    """

    kind: str
    source: str
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.source[self.start : self.end]

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"`{self.text}`" if len(self.text) <= 40 else f"`{self.text[:40]}…`"

    def error(self, problem: str, expected: str = "") -> TriggerError:
        """The error that this word is."""
        return TriggerError(problem, self.source, self.start, expected)

    def unexpected(self, expected: str) -> TriggerError:
        """The error that this word stands where something else was expected."""
        return self.error(f"expected {expected}, found {self}", expected)


def tokenize(source: str) -> Iterator[Token]:
    """The words of ``source``, and one of kind ``end``. Raises `TriggerError` where none begins."""
    at = 0
    while True:
        while at < len(source) and source[at] in _BLANK:
            at += 1
        if at == len(source):
            yield Token("end", source, at, at)
            return
        match = _WORD.match(source, at)
        if match is None:
            raise _no_word(source, at)
        token = _token(match)
        yield token
        at = token.end


def _token(match: re.Match[str]) -> Token:
    source, group, (start, end) = match.string, match.lastgroup, match.span()
    following = source[end : end + 1]
    parted = following == "" or following in _PARTING
    if group == "text" and not parted:
        raise TriggerError("after a closing quote comes a blank, `,`, `]`, `)` or the end", source, end, "a blank")
    if group == "number" and not parted:
        raise TriggerError("a number is digits, with at most one decimal point between them", source, end, "a blank")
    if match[0] == "!" and (following == "" or following in _BLANK):
        raise TriggerError("`!` stands directly before what it negates", source, end, "a function or `(`")
    if group == "word" and match[0].lower() in _KEYWORDS:
        return Token(match[0].lower(), source, start, end)
    return Token(match[0] if group == "mark" else str(group), source, start, end)


def _no_word(source: str, at: int) -> TriggerError:
    char = source[at]
    if char in "\"'":
        return TriggerError(f"this {char} is not closed", source, at, f"a closing {char}")
    if char == ".":
        return TriggerError("a field name has to stand on both sides of a dot", source, at, "a field name")
    if char == "\\":
        return TriggerError("a backslash escapes the character after it", source, at, "a character")
    hint = _HINTS.get(char, "in a field name, write a backslash before it; in text, use quotes")
    return TriggerError(f"`{char}` means nothing here: {hint}", source, at, "a word")
