"""Reading the log from an offset: through sealed, raw and active segments alike, up to what is synced.

A reader needs nothing but the folders, so an actor may live in another process than the journal. It never blocks on
a writer and never sees a half line; a segment that is sealed while it is read stays readable through the open file.
"""

import io
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from datetime import datetime
from typing import BinaryIO, NamedTuple

import msgspec

from relayd.event import decode_head
from relayd.journal.archive import FRAME
from relayd.journal.segment import DAMAGE, Damaged, Folders, Segment

CHUNK = 256 * 1024
"""Bytes read at once; a longer line is read whole all the same."""
LOOK = 4 * 1024
"""Bytes read where a line or two are of interest."""


class Chunk(NamedTuple):
    """Whole lines of the log, from ``start`` up to ``end``."""

    start: int
    data: bytes
    end: int
    counts: Mapping[str, int] = {}
    """What its reader counted on the way, to be kept with the cursor."""


class Reader:
    """One cursor in the log. Blocks on disk reads: call it from a thread. Not safe for two threads at once."""

    def __init__(self, folders: Folders, offset: int) -> None:
        self.offset = offset
        """Where the next chunk starts; set by `read`, or through `seek`."""
        self._folders = folders
        self._file: BinaryIO | None = None
        self._path = folders.journal
        self._base = 0
        self._limit: int | None = None
        """Where the open segment ends, when a later one is known to exist."""

    def seek(self, offset: int) -> None:
        """Go on at ``offset``, the start of a line."""
        self.offset = offset
        self.close()

    def seek_line(self, offset: int, head: int) -> None:
        """Go on at the first line that begins at ``offset`` or later, before ``head``."""
        self.seek(offset)
        if offset and self._open(head) is not None and self.offset == offset > self._base:
            self.offset -= 1  # the newline before it, if it begins a line
            chunk = self.read(head, LOOK)
            if chunk is None or chunk.start >= offset:
                self.offset = offset if chunk is None else chunk.start
            else:
                self.offset = chunk.start + chunk.data.index(b"\n") + 1

    @property
    def segment(self) -> int:
        """The first offset of the segment that the last chunk is of."""
        return self._base

    def read(self, head: int, size: int = CHUNK) -> Chunk | None:
        """The next whole lines, about ``size`` bytes, all before ``head``; None when there are none.

        Offsets that no longer exist (retention) or never did (a gap) are passed over: then the chunk's ``start`` lies
        behind the offset asked for. Raises `Damaged`, or ``OSError``.
        """
        try:
            return self._read(head, size)
        except DAMAGE as error:
            raise Damaged(f"{self._path}: can not be read to its end: {error}") from error

    def close(self) -> None:
        """Close the open segment; the offset is kept."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self, head: int, size: int) -> Chunk | None:
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
            self._path = segment.path
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

    Events are in the order of their receipt: bisections find the segment and the frame, and a scan the place in it. So
    at most a frame is read and thrown away for each of about 20 looks, however large the log is.
    """
    bases = [segment.base for segment in folders.all() if segment.base < head]
    if not bases:
        return head
    reader = Reader(folders, bases[0])

    def received(offset: int) -> datetime:
        reader.seek_line(offset, head)
        while (chunk := reader.read(head, LOOK)) is not None:  # deleted events may have left nothing in the first
            found = next(filter(None, map(_received, chunk.data.splitlines())), None)
            if found is not None:
                return found
        return moment

    try:
        place = max(bisect_left(bases, moment, key=received) - 1, 0)
        frames = range(bases[place], bases[place + 1] if place + 1 < len(bases) else head, FRAME)
        reader.seek_line(frames[bisect_left(frames[1:], moment, key=received)], head)
        while (chunk := reader.read(head)) is not None:
            offset = chunk.start
            for line in chunk.data.splitlines(keepends=True):
                time = _received(line)
                if time is not None and time >= moment:
                    return offset
                offset += len(line)
    finally:
        reader.close()
    return head


def find_end(folders: Folders) -> int:
    """The offset at which the log's files end, synced or not. Blocks."""
    segments = folders.all()
    return _end(segments[-1]) if segments else 0


def _end(segment: Segment) -> int:
    """The offset at which the last segment's file ends."""
    with segment.open() as file:
        return segment.base + file.seek(0, io.SEEK_END)


def _received(line: bytes) -> datetime | None:
    try:
        return decode_head(line).receivedAt
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
