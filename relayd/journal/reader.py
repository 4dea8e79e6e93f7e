"""Reading the log from an offset: through sealed, raw and active segments alike, up to what is synced.

A reader needs nothing but the folders, so an actor may live in another process than the journal. It never blocks on
a writer and never sees a half line; a segment that is sealed while it is read stays readable through the open file.
"""

from bisect import bisect_left, bisect_right
from datetime import datetime
from typing import BinaryIO, NamedTuple

import msgspec

from relayd.event import decode_head
from relayd.journal.segment import Folders

CHUNK = 256 * 1024
"""Bytes read at once; a longer line is read whole all the same."""


class Chunk(NamedTuple):
    """Whole lines of the log, from ``start`` up to ``end``."""

    start: int
    data: bytes
    end: int


class Reader:
    """One cursor in the log. Blocks on disk reads: call it from a thread. Not safe for two threads at once."""

    def __init__(self, folders: Folders, offset: int) -> None:
        self.offset = offset
        """Where the next chunk starts; set by `read`, or through `seek`."""
        self._folders = folders
        self._file: BinaryIO | None = None
        self._base = 0
        self._limit: int | None = None
        """Where the open segment ends, when a later one is known to exist."""

    def seek(self, offset: int) -> None:
        """Go on at ``offset``, the start of a line."""
        self.offset = offset
        self.close()

    def read(self, head: int, size: int = CHUNK) -> Chunk | None:
        """The next whole lines, about ``size`` bytes, all before ``head``; None when there are none.

        Offsets that no longer exist (retention) or never did (a gap) are passed over: then the chunk's ``start`` lies
        behind the offset asked for.
        """
        while self.offset < head:
            file = self._file or self._open(head)
            if file is None:
                return None
            end = head if self._limit is None else min(head, self._limit)
            data = self._whole_lines(file, end - self.offset, size)
            if data:
                chunk = Chunk(self.offset, data, self.offset + len(data))
                self.offset = chunk.end
                return chunk
            if not self._next_segment():
                return None
        return None

    def close(self) -> None:
        """Close the open segment; the offset is kept."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _whole_lines(self, file: BinaryIO, available: int, size: int) -> bytes:
        file.seek(self.offset - self._base)
        data = b""
        while available > len(data):
            more = file.read(min(size, available - len(data)))
            if not more:
                break
            data += more
            cut = data.rfind(b"\n") + 1
            if cut:
                return data[:cut]
        return b""

    def _open(self, head: int) -> BinaryIO | None:
        """Open the segment that holds the offset, or the first one after it."""
        for _ in range(3):  # a segment may be sealed or removed between the listing and the opening
            segments = self._folders.all()
            if not segments:
                return None
            at = max(bisect_right([segment.base for segment in segments], self.offset) - 1, 0)
            segment = segments[at]
            if segment.base >= head:
                return None
            try:
                self._file = segment.open()
            except FileNotFoundError:
                continue
            self._base = segment.base
            self._limit = segments[at + 1].base if at + 1 < len(segments) else None
            self.offset = max(self.offset, segment.base)
            return self._file
        return None

    def _next_segment(self) -> bool:
        """The open segment is read to its end: whether there is a later one."""
        later = [segment.base for segment in self._folders.all() if segment.base > self._base]
        if not later:
            return False
        self.offset = max(self.offset, later[0])
        self.close()
        return True


def find_time(folders: Folders, head: int, moment: datetime) -> int:
    """The offset of the first event received at ``moment`` or later; ``head`` when there is none. Blocks.

    Events are in the order of their receipt: a bisection finds the segment, and a scan the place in it.
    """
    bases = [segment.base for segment in folders.all()]
    later = bisect_left(bases, moment, key=lambda base: _received_after(folders, base, head) or moment)
    reader = Reader(folders, bases[max(later - 1, 0)] if bases else head)
    try:
        while (chunk := reader.read(head)) is not None:
            offset = chunk.start
            for line in chunk.data.splitlines(keepends=True):
                received = _received(line)
                if received is not None and received >= moment:
                    return offset
                offset += len(line)
    finally:
        reader.close()
    return head


def _received_after(folders: Folders, offset: int, head: int) -> datetime | None:
    reader = Reader(folders, offset)
    try:
        chunk = reader.read(head, 1)
    finally:
        reader.close()
    return _received(chunk.data) if chunk is not None else None


def _received(line: bytes) -> datetime | None:
    try:
        return decode_head(line).receivedAt
    except msgspec.DecodeError:
        return None
