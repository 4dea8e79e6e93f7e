"""Which events of the log are meant: by time of receipt, source, type, name and user. Pure.

`Matcher` looks for the wanted names in the bytes first, and decodes only lines that have them; that is right for lines
as relayd writes them, where a text is always encoded the same way.
"""

from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from relayd.config.units import Duration


class Line(Struct, rename="camel"):
    """What is looked at of a journal's line."""

    type: str
    message_id: str
    project_id: str
    received_at: datetime
    user_id: str | None = None
    anonymous_id: str | None = None
    event: str | None = None
    name: str | None = None


_decode = msgspec.json.Decoder(Line).decode


class NotAnEvent(ValueError):
    """A line that is none; the text says why."""


class Selection(Struct, frozen=True):
    """What all has to hold; of each, empty or None is any. ``since`` is included, ``until`` is not."""

    since: datetime | None = None
    until: datetime | None = None
    sources: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    """Names of tracked events, pages and screens."""
    users: tuple[str, ...] = ()
    """userIds or anonymousIds."""


class Matcher:
    """Tells which lines a selection means, for many of them."""

    def __init__(self, selection: Selection) -> None:
        self._since, self._until = selection.since, selection.until
        self._sources, self._types = frozenset(selection.sources), frozenset(selection.types)
        self._events, self._users = frozenset(selection.events), frozenset(selection.users)
        given = (selection.users, selection.events, selection.types, selection.sources)  # the rarest first
        self._needles = [tuple(map(msgspec.json.encode, texts)) for texts in given if texts]

    def may_match(self, data: bytes) -> bool:
        """Whether any of the lines in ``data`` can be meant; much faster than to look at each."""
        for needles in self._needles:
            for needle in needles:
                if needle in data:
                    break
            else:
                return False
        return True

    def match(self, line: bytes) -> Line | None:
        """The event of a line, if it is meant. Raises `NotAnEvent`."""
        if not self.may_match(line):
            return None
        try:
            found = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotAnEvent(str(error)) from None
        if (
            (self._since is not None and found.received_at < self._since)
            or (self._until is not None and found.received_at >= self._until)
            or (self._sources and found.project_id not in self._sources)
            or (self._types and found.type not in self._types)
            or (self._events and (found.event if found.type == "track" else found.name) not in self._events)
            or (self._users and found.user_id not in self._users and found.anonymous_id not in self._users)
        ):
            return None
        return found


def parse_moment(text: str, now: datetime) -> datetime:
    """An ISO 8601 time (without a zone in UTC), or a duration before ``now`` such as "2h".

    Raises ``ValueError`` with what is allowed.
    """
    try:
        return now - timedelta(seconds=Duration.parse(text))
    except (ValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f'{text!r} is neither an ISO 8601 time such as "2026-11-24T10:00:00Z" nor a duration ago such as "2h"'
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
