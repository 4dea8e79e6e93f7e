"""Whose an event is. Pure.

An event is a user's that has the ``userId``; so is an alias that has it as its ``previousId``. With anonymousIds, so is
an event that has one of them and no userId: who else uses the same device keeps what is theirs.
"""

import re
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec
from msgspec import Struct

_FEW = 4
"""Up to so many ids are looked for as bytes, before a line is decoded."""
_TELLING = 8
"""From so many characters on, an id is looked for as it is."""


class _Ids(Struct):
    type: str = ""
    messageId: str = ""  # noqa: N815  the field's name
    userId: str | None = None  # noqa: N815
    anonymousId: str | None = None  # noqa: N815
    previousId: str | None = None  # noqa: N815


_decode = msgspec.json.Decoder(_Ids).decode


class People:
    """Some users, by their ids."""

    def __init__(self, users: Iterable[str], anonymous: Iterable[str] = ()) -> None:
        self.users = frozenset(users)
        self.anonymous = frozenset(anonymous)
        ids = self.users | self.anonymous
        words = sorted({form for each in ids for form in (each.encode(), msgspec.json.encode(each)[1:-1])})
        self._words = re.compile(rb"(?<!\w)(?:" + b"|".join(map(re.escape, words)) + rb")(?!\w)" if words else rb"(?!)")
        self._needles = tuple(map(msgspec.json.encode, ids)) if len(ids) <= _FEW else ()

    def own(self, event: bytes) -> bool:
        """Whether an encoded event is theirs; what is no event is nobody's."""
        ids = _ids(event)
        return ids is not None and self._own(ids)

    @property
    def texts(self) -> list[str]:
        """What to look for in what is no event: the ids as JSON has them, and as they are if they are long enough not
        to be part of much else."""
        ids = sorted(self.users | self.anonymous)
        return [f'"{each}"' for each in ids] + [each for each in ids if len(each) >= _TELLING]

    def named(self, text: bytes) -> bool:
        """Whether any text has one of the ids in it, as a word."""
        return self._words.search(text) is not None

    def pick(self, text: bytes) -> list[bytes]:
        """The lines of a stretch of the journal that are theirs, without their ends."""
        return [line for line, ids in self._lines(text) if self._own(ids)]

    def tied(self, text: bytes) -> set[str]:
        """The anonymousIds that an identify in a stretch of the journal has beside one of the userIds."""
        return {
            ids.anonymousId
            for _, ids in self._lines(text)
            if ids.type == "identify" and ids.userId in self.users and ids.anonymousId
        }

    def _own(self, ids: _Ids) -> bool:
        if ids.userId:
            return ids.userId in self.users or (ids.type == "alias" and ids.previousId in self.users)
        return ids.anonymousId in self.anonymous

    def _lines(self, text: bytes) -> Iterable[tuple[bytes, _Ids]]:
        needles = self._needles
        if needles and not any(needle in text for needle in needles):
            return
        for line in text.splitlines():
            if not needles or any(needle in line for needle in needles):
                ids = _ids(line)
                if ids is not None:
                    yield line, ids


def message_id(line: bytes) -> str:
    """The messageId of a line that `People.pick` returned."""
    return _decode(line).messageId


def _ids(event: bytes) -> _Ids | None:
    try:
        return _decode(event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Row(Protocol):
    """A delivery in an outbox, as far as this goes."""

    @property
    def message_id(self) -> str: ...

    @property
    def received(self) -> int: ...

    @property
    def payload(self) -> bytes: ...


class Removal(Struct, frozen=True):
    """What is to be removed from outboxes."""

    theirs: Callable[[Row], bool]
    reason: str
    """What is counted as failed for it, where it was pending."""
    scrub: bool
    """Whether nothing of it may stay in an outbox's files, nor of what was delivered before."""
