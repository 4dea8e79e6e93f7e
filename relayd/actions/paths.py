"""Paths and templates: how a mapping reads its payload.

A path is written ``$.properties.products[0].name`` and kept as the tuple of its keys; the empty tuple is the whole
payload; what is not there is `UNDEFINED`. A template is text with ``{{ path }}`` in it.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

from relayd.actions.faults import Fault, MappingError
from relayd.actions.javascript import UNDEFINED, WHITESPACE, member, to_string

Path = tuple[str, ...]
Reader = Callable[[str, object], object]
"""`dict.get`, or what stands for it where there is no object: given a key (and `UNDEFINED`), the member."""

MAX_TEXT = 10_000_000
"""Characters that a directive may make of a payload's texts where they multiply."""

_SEPARATOR = re.compile(r"""\[(?=["'0-9])|\.|(?<=["'0-9])\]+""")
_RUN = {braces: re.compile(rf"([^}}]*)(\}}{{0,{braces}}})") for braces in (2, 3)}


@lru_cache(maxsize=4096)
def parse_path(text: str) -> Path:
    """The keys of a path that has lost its ``$.``.

    Dots separate keys; so do brackets around quotes or digits. Quotes vanish and empty keys are skipped, so there is no
    way to write a key that holds a dot.
    """
    if text in ("", "."):
        return ()
    return tuple([re.sub("['\"]", "", key) for key in _SEPARATOR.split(text) if key])


def parse_root_path(text: str) -> Path:
    """The keys of a path as ``@path`` takes it: the first ``$.`` in it is dropped."""
    return parse_path(text.replace("$.", "", 1))


def read(value: object, path: Path) -> object:
    """What is at ``path`` in ``value``."""
    for key in path:
        value = member(value, key)
    return value


def reader(value: object) -> Reader:
    """What reads the members of ``value``, which is not an object (those have their own ``get``)."""
    if value is UNDEFINED:
        return _nothing
    return lambda key, _: member(value, key)


def _nothing(_key: str, undefined: object) -> object:
    return undefined


class Placeholder(NamedTuple):
    """A part of a template: the text before a placeholder, and the placeholder's path (None after the last one)."""

    text: str
    path: Path | None


def split_template(template: str, braces: int) -> Iterator[Placeholder]:
    """The parts of a template whose placeholders have that many braces (2 or 3) a side, in one linear pass.

    A placeholder holds anything but ``}``, at least one character; blanks around its path do not count.
    """
    before = ""
    for match in _RUN[braces].finditer(template):
        run, closing = match.groups()
        opening = run.find("{" * braces) if len(closing) == braces else -1
        if 0 <= opening < len(run) - braces:
            path = parse_path(run[opening + braces :].strip(WHITESPACE))
            yield Placeholder(before + run[:opening], path)
            before = ""
        else:
            before += match[0]
    yield Placeholder(before, None)


def render(template: str, payload: object, at: tuple[str, ...]) -> str:
    """The template with its placeholders filled in; `MappingError` if that takes more than `MAX_TEXT` characters.

    ``{{{x}}}`` first, then ``{{x}}`` in the result: what the former brought in is expanded by the latter.
    """
    for braces in (3, 2):
        parts: list[str] = []
        left = MAX_TEXT
        for text, path in split_template(template, braces):
            parts += [text] if path is None else [text, fill(read(payload, path))]
            left -= len(text) + len(parts[-1])
            if left < 0:
                raise MappingError(Fault(at, f"gives more than {MAX_TEXT} characters"))
        template = "".join(parts)
    return template


def fill(value: object) -> str:
    """What a placeholder is replaced by: nothing for null and undefined."""
    if type(value) is str:
        return value
    return "" if value is None or value is UNDEFINED else to_string(value)
