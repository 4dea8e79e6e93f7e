"""What is wrong in a configuration, and where: every error of it at once, in the order of its files and lines."""

from collections.abc import Iterable
from difflib import get_close_matches

from msgspec import Struct

Keys = tuple[str | int, ...]
"""The way to a value, such as ``("destinations", "crm", "sources", 0)``."""


class Place(Struct, frozen=True):
    """Where something is written; ``line`` None is the file as a whole."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


class Problem(Struct, frozen=True):
    """One error or warning, printed as ``FILE:LINE: KEY: what is wrong, what is allowed``."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(Place(self.file, self.line)), self.key, self.message)))


class ConfigError(Exception):
    """A configuration that can not be used; ``problems`` are all its errors, and ``str()`` prints one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def suggestion(name: str, known: Iterable[str], what: str) -> str:
    """The end of a sentence about an unknown ``name``: the nearest known one, or else all of them."""
    known = list(known)
    return nearest(name, known) or (f"{what} are {', '.join(known)}" if known else f"there are no {what}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A question for the nearest known name; empty if none is near."""
    near = get_close_matches(name, list(known), n=1)
    return f'did you mean "{near[0]}"?' if near else ""
