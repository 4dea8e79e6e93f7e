"""A configuration as it is written: its files, merged into one tree in which every key knows its place.

Includes are relative to the file that names them and may include more; the tables of all files merge. References in
strings are replaced. What is wrong does not stop the reading: it is kept as a problem.
"""

import re
import tomllib
from collections.abc import Mapping
from glob import escape, glob
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from relayd.config import toml
from relayd.config.errors import Keys, Place, Problem
from relayd.config.references import Unresolved, resolve

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")  # how tomllib says where
_MAGIC = re.compile(r"[*?[]")
_LEAST_SECRET = 4
"""Characters; a shorter value protects nothing, and redacting it would garble the text around it."""


class Document:
    """A tree of plain TOML values, and what is known about them."""

    def __init__(self, file: str) -> None:
        self.tree: dict[str, object] = {}
        self.places: dict[Keys, Place] = {(): Place(file)}
        self.files: list[str] = []
        self.unread = False
        """Whether a file could not be read; then nothing can be said to be missing."""
        self.referred: set[Keys] = set()
        """Where a string came from a reference, wholly or in part."""
        self.secrets: set[str] = set()
        self._problems: list[Problem] = []
        self._wrong: set[Keys] = set()

    @property
    def problems(self) -> list[Problem]:
        """In the order of the files and their lines; no message has a secret in it."""
        order = {file: index for index, file in enumerate(self.files)}
        problems = sorted(self._problems, key=lambda each: (order.get(each.file, -1), each.line or 0))
        return [replace(each, message=self._redacted(each.message)) for each in problems]

    def report(self, keys: Keys, message: str, place: Place | None = None) -> None:
        """Keep a problem of a value; its place is the value's own unless said otherwise."""
        self._problems.append(self.problem(keys, message, place))
        if keys:
            self._wrong.add(keys)

    def miss(self, keys: Keys, message: str) -> None:
        """`report` what is wrong only because something is not written, which might be in a file that was not read."""
        if self.unread:
            self._wrong.add(keys)
        else:
            self.report(keys, message)

    def problem(self, keys: Keys, message: str, place: Place | None = None) -> Problem:
        place = place or self.place(keys)
        return Problem(place.file, place.line, toml.dotted(keys), message)

    def place(self, keys: Keys) -> Place:
        """Where the value, or else the nearest table around it, is written."""
        while keys not in self.places:
            keys = keys[:-1]
        return self.places[keys]

    def sound(self, *keys: str | int) -> bool:
        """Whether no problem is known of the value, of what is in it, and of the tables around it."""
        return not any(keys[: len(wrong)] == wrong[: len(keys)] for wrong in self._wrong)

    def wrong(self, *keys: str | int) -> bool:
        """Whether a problem is known of the value itself."""
        return keys in self._wrong

    def has(self, *keys: str | int) -> bool:
        """Whether the value is written, and not a default."""
        return keys in self.places

    def keep_secret(self, value: str) -> None:
        if len(value) >= _LEAST_SECRET:
            self.secrets.add(value)

    def _redacted(self, text: str) -> str:
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


def read(path: Path, environ: Mapping[str, str]) -> Document:
    """Read a configuration and all that it includes. Does not raise; look at the ``problems``."""
    document = Document(str(path))
    _Reader(document, environ).read(path)
    return document


class _Reader:
    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self._document = document
        self._environ = environ
        self._seen: set[Path] = set()

    def read(self, path: Path) -> None:
        self._document.tree["include"] = self._file(path, (), Place(str(path)), ())

    def _file(self, path: Path, keys: Keys, named_at: Place, chain: tuple[Path, ...]) -> list[str]:
        """Merge one file and what it includes; returns its includes. A file that is included twice is read once."""
        identity = path.resolve()
        if identity in (each.resolve() for each in chain):
            circle = " -> ".join(map(str, (*chain, path)))
            self._document.report(keys, f"files include each other in a circle: {circle}", named_at)
            return []
        if identity in self._seen:
            return []
        self._seen.add(identity)
        self._document.files.append(str(path))
        parsed = self._parse(path, keys, named_at)
        if parsed is None:
            self._document.unread = True
            return []
        tree, lines = parsed
        places = {found: Place(str(path), line) for found, line in lines.items()}
        tree = cast(dict[str, object], self._resolved(tree, (), path.parent, places))
        includes = self._includes(tree.pop("include", []), places)
        self._merge(self._document.tree, tree, (), places)
        for found, place in places.items():
            self._document.places.setdefault(found, place)
        for index, pattern in includes.items():
            self._include(path, pattern, ("include", index), places, (*chain, path))
        return list(includes.values())

    def _parse(self, path: Path, keys: Keys, named_at: Place) -> tuple[dict[str, object], dict[Keys, int]] | None:
        report = self._document.report
        try:
            raw = path.read_bytes()
        except OSError as error:
            report(keys, f"{f'{path} ' if keys else ''}can not be read: {error.strerror}", named_at)
            return None
        try:
            text = raw.decode()
            return tomllib.loads(text), toml.lines(text)
        except UnicodeDecodeError as error:
            report((), "not UTF-8 text", Place(str(path), raw.count(b"\n", 0, error.start) + 1))
        except (ValueError, RecursionError) as error:
            message = str(error)
            at = _AT.search(message)
            line = int(at[1]) if at and at[1] else raw.rstrip().count(b"\n") + 1
            what = _AT.sub(f" (column {at[2]})" if at and at[1] else " (the file ends)", message)
            report((), f"not valid TOML: {what}", Place(str(path), line))
        return None

    def _resolved(self, value: object, keys: Keys, folder: Path, places: Mapping[Keys, Place]) -> object:
        """The value with the references in its strings replaced; without strings that refer to nothing."""
        match value:
            case dict():
                return {name: self._resolved(each, (*keys, name), folder, places) for name, each in value.items()}
            case list():
                return [self._resolved(each, (*keys, index), folder, places) for index, each in enumerate(value)]
            case str() if "${" in value:
                try:
                    text, found = resolve(value, folder, self._environ)
                except Unresolved as error:
                    self._document.report(keys, str(error), places.get(keys))
                    return UNRESOLVED
                if found:
                    self._document.referred.add(keys)
                for secret in found:
                    self._document.keep_secret(secret)
                return text
            case _:
                return value

    def _includes(self, value: object, places: Mapping[Keys, Place]) -> dict[int, str]:
        if not isinstance(value, list) or not all(isinstance(each, str) or each is UNRESOLVED for each in value):
            self._document.report(("include",), "must be an array of strings", places.get(("include",)))
            return {}
        return {index: each for index, each in enumerate(value) if isinstance(each, str)}

    def _include(
        self, path: Path, pattern: str, keys: Keys, places: Mapping[Keys, Place], chain: tuple[Path, ...]
    ) -> None:
        if not _MAGIC.search(pattern):
            found = [path.parent / pattern]
        else:
            matches = map(Path, sorted(glob(str(Path(escape(str(path.parent))) / pattern), recursive=True)))
            found = [each for each in matches if each.is_file()]
        for each in found:
            self._file(each, keys, places[keys], chain)

    def _merge(
        self, into: dict[str, object], tree: dict[str, object], keys: Keys, places: Mapping[Keys, Place]
    ) -> None:
        for name, value in tree.items():
            here, there = (*keys, name), into.get(name)
            if name not in into:
                into[name] = value
            elif isinstance(there, dict) and isinstance(value, dict):
                self._merge(there, value, here, places)
            else:
                self._document.report(here, f"is also set at {self._document.place(here)}; remove one", places[here])


class _Unresolved:
    """Stands where a reference was that is already reported."""


UNRESOLVED = _Unresolved()
