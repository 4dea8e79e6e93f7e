"""What a replay reads: the events of a log that fit its criteria, addressed to its destination alone.

For the delivery actor it is journal and reader in one. ``integrations`` becomes ``{"All": false, NAME: true}``, as in
Segment's replays.
"""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import trio
from msgspec import Raw

from relayd.journal.archive import FRAME
from relayd.journal.export import SLACK
from relayd.journal.reader import Chunk, Reader, find_time
from relayd.journal.segment import Damaged, Folders, is_blank
from relayd.journal.selection import Matcher, NotAnEvent
from relayd.replay.formats import Bad, Piece
from relayd.replay.job import Criteria

_LOOK = 0.05
"""Seconds between looks at whether there is room again."""
_CHUNK = 2**20
_END = 2**62

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class Lines(Protocol):
    """A log in pieces."""

    @property
    def offset(self) -> int: ...

    @property
    def share(self) -> float:
        """How much of it was read, 0 to 1."""

    def next(self) -> Piece | None:
        """The next events; None at the end. ``offset`` moves behind them."""

    def seek(self, offset: int) -> None: ...

    def close(self) -> None: ...


class JournalLines:
    """relayd's own journal and archive, up to an offset.

    A frame of a sealed segment that the disk did not keep is passed over, told and counted.
    """

    def __init__(self, folders: Folders, start: int, end: int, *, offset: int, report: Callable[[Bad], None]) -> None:
        """It is the log from ``start`` to ``end``, read from ``offset`` on."""
        self._folders = folders
        self._reader = Reader(folders, offset)
        self._start, self._end = start, end
        self._report = report
        self._in_line = False
        """Whether a line goes on here whose beginning was passed over."""

    @property
    def offset(self) -> int:
        return self._reader.offset

    @property
    def share(self) -> float:
        return share(self._start, self.offset, self._end)

    def next(self) -> Piece | None:
        offset = self._reader.offset
        try:
            chunk = self._reader.read(self._end, _CHUNK)
        except Damaged as damage:
            return self._at_damage(offset, damage)
        return None if chunk is None else self._piece(offset, chunk)

    def seek(self, offset: int) -> None:
        self._reader.seek(offset)
        self._in_line = False

    def close(self) -> None:
        self._reader.close()

    def _piece(self, offset: int, chunk: Chunk) -> Piece:
        begins_in_line, self._in_line = self._in_line and chunk.start == offset, False
        return Piece(chunk.data[chunk.data.index(b"\n") + 1 :] if begins_in_line else chunk.data)

    def _at_damage(self, offset: int, damage: Damaged) -> Piece:
        """What is left of the frame that ``offset`` is in, if the damage is in the next one; else nothing."""
        end = self._after_frame(offset)
        self._reader.seek(offset)
        try:
            chunk = self._reader.read(end, _CHUNK)
        except Damaged:
            pass
        else:
            if chunk is not None:
                return self._piece(offset, chunk)
            end = self._after_frame(end)  # of the one line that begins here, the rest is damaged
        self._reader.seek(end)
        self._in_line = all(each.base != end for each in self._folders.all())
        self._report(Bad(str(self._folders.archive), None, f"{damage}; offsets {offset} to {end} are passed over"))
        return Piece(b"", 1)

    def _after_frame(self, offset: int) -> int:
        """Where the frame ends that ``offset`` is in, or its segment if that is before."""
        bases = [each.base for each in self._folders.all()]
        base = max((each for each in bases if each <= offset), default=offset)
        following = min((each for each in bases if each > offset), default=self._end)
        return min(base + ((offset - base) // FRAME + 1) * FRAME, following, self._end)


def share(start: int, offset: int, end: int) -> float:
    """How much lies before ``offset``, 0 to 1."""
    return min((offset - start) / (end - start), 1.0) if end > start else 1.0


def span(folders: Folders, head: int, criteria: Criteria) -> tuple[int, int]:
    """The stretch of the journal, before ``head``, in which the criteria can be met. Blocks."""
    since, until = criteria.selection.since, criteria.selection.until
    try:
        start = 0 if since is None else find_time(folders, head, since - SLACK)
        return start, head if until is None else find_time(folders, head, until + SLACK)
    except Damaged:
        return 0, head  # all is read, and the time of each event decides


class Choice:
    """Which journal lines meet criteria."""

    def __init__(self, criteria: Criteria) -> None:
        self._matcher = Matcher(criteria.selection)
        self._all = criteria == Criteria()
        self._unreadable = criteria == Criteria(since=criteria.since, until=criteria.until)
        """Whether a line that can not be read is chosen: if no more than its time is asked for, what becomes of it is
        for eligibility to count."""

    def of(self, data: bytes) -> list[bytes]:
        """The lines in ``data`` that are chosen, without their ends."""
        if not self._matcher.may_match(data):
            return []
        lines = [line for line in data.splitlines() if not is_blank(line)]
        return lines if self._all else [line for line in lines if self._chooses(line)]

    def _chooses(self, line: bytes) -> bool:
        try:
            return self._matcher.match(line) is not None
        except NotAnEvent:
            return self._unreadable


class Scan:
    """The log as the actor of a replay sees it."""

    def __init__(self, lines: Lines, criteria: Criteria, destination: str, *, has_room: Callable[[], bool]) -> None:
        """``has_room`` says whether more may be read: not while much waits, nor while live events do."""
        self.finished = False
        """Whether the log was read to its end."""
        self._lines = lines
        self._choice = Choice(criteria)
        self._integrations = Raw(_encode({"All": False, destination: True}))
        self._has_room = has_room

    # as the journal

    @property
    def head(self) -> int:
        """The end of what may be read, which the reader finds out by itself."""
        return _END

    async def wait_beyond(self, offset: int) -> None:
        """Return when more may be read; never once all was."""
        if self.finished:
            await trio.sleep_forever()
        while not self._has_room():  # noqa: ASYNC110  what makes room is a database's counter
            await trio.sleep(_LOOK)

    # as the reader

    @property
    def offset(self) -> int:
        return self._lines.offset

    def seek(self, offset: int) -> None:
        self.finished = False
        self._lines.seek(offset)

    def close(self) -> None:
        self._lines.close()

    def read(self, head: int) -> Chunk | None:
        """The events of the next stretch that are wanted; None at the end."""
        start = self.offset
        piece = self._lines.next()
        if piece is None:
            self.finished = True
            return None
        deleted = piece.data.startswith(b" ") + piece.data.count(b"\n ")
        counts = {"scanned": piece.data.count(b"\n") - deleted, "bad_lines": piece.bad}
        chosen = b"".join(map(self._addressed, self._choice.of(piece.data)))
        return Chunk(start, chosen, self.offset, counts)

    def _addressed(self, line: bytes) -> bytes:
        try:
            fields: dict[str, Any] = _decode_fields(line)
        except msgspec.DecodeError:
            return line + b"\n"  # for eligibility to count
        fields["integrations"] = self._integrations
        return _encode(fields) + b"\n"
