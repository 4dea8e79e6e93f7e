"""Looks at everything that a log keeps, and says what is there and what is wrong with it. Repairs nothing.

What is a fault
- a line that is no event, where events follow, or in a segment that is no longer written;
- offsets that are missing between two segments, or are in two of them;
- a frame of a sealed segment that is not whole, or fails its checksum; a seek table that is not right;
- a segment that is both raw and sealed, and not the same in both.

What is none: lines of spaces, which deleted events left. The end of the segment being written, up to its last whole
event, may be in flight, and is cut off at the next start when it is not. Segments may be sealed, or let go, while this
looks at them.
"""

import os
import struct
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct, field
from pyzstd import ZstdDecompressor, ZstdError

from relayd.event import TYPES, decode_head
from relayd.journal.segment import DAMAGE, Folders, Segment, is_blank

MAX_LINES = 20
"""Lines of a segment that are named when they are no events; more are counted."""

_READ = 2**20
_FOOTER = struct.Struct("<IBI")
_PAIR = struct.Struct("<II")
_TABLE_MAGIC, _SEEKABLE_MAGIC = 0x184D2A5E, 0x8F92EAB1
"""Of zstd's seekable format: https://github.com/facebook/zstd/blob/dev/contrib/seekable_format"""


class Fault(Struct, frozen=True):
    """Something that is wrong, and where: a file, or a line of it."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class Found(Struct):
    """One file of the log. ``bytes`` are those of its lines, ``end`` is None when the damage leaves it unknown."""

    path: str
    sealed: bool
    base: int
    end: int | None = None
    first_received_at: datetime | None = None
    last_received_at: datetime | None = None
    events: int = 0
    deleted: int = 0
    """Lines of spaces, which deleted events left."""
    bytes: int = 0
    compressed_bytes: int | None = None


class Report(Struct):
    """``notes`` say what is there besides, and is no fault."""

    segments: list[Found] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.faults


def verify(folders: Folders, progress: Callable[[int], object] = lambda size: None) -> Report:
    """Look at every file. Blocks; ``progress`` is told the bytes of each file that is done. Raises ``OSError``."""
    return _Verification(folders, progress).report


class _Verification:
    def __init__(self, folders: Folders, progress: Callable[[int], object]) -> None:
        self.report = Report()
        self._folders = folders
        self._previous: Found | None = None
        raw, sealed = folders.raw(), folders.sealed()  # in this order: what is sealed meanwhile is seen twice
        active = raw[-1].base if raw else None
        twice = {segment.base: segment for segment in raw}
        for segment in sorted([*sealed, *raw], key=lambda each: (each.base, not each.sealed)):
            size = _size(segment.path)
            self._look_at(segment, active)
            if segment.sealed and segment.base in twice:
                self._compare(twice[segment.base], segment)
            progress(size)
        for path in sorted(folders.archive.glob("*/*.partial")):
            self.report.notes.append(Fault(str(path), "half of a segment that is being sealed, or was at a crash"))

    def _look_at(self, segment: Segment, active: int | None) -> None:
        """Report on one file, or what became of it."""
        try:
            found = self._read(segment, is_active=segment.base == active and not segment.sealed)
        except FileNotFoundError:
            moved = [each for each in self._folders.sealed() if each.base == segment.base and not segment.sealed]
            known = {each.path for each in self.report.segments}
            for each in moved:
                if str(each.path) not in known:
                    self._look_at(each, None)
            if not moved:
                self._previous = None  # retention let it go, and all before it
            return
        self.report.segments.append(found)
        previous, self._previous = self._previous, found
        if previous is None or previous.end is None or previous.base == found.base:
            return
        if found.base > previous.end:
            self._fault(
                found.path,
                f"what comes before it is missing, {found.base - previous.end:,} bytes from offset {previous.end} on: "
                'a segment was lost, or a power cut cost them (which it can unless journal.fsync is "always")',
            )
        elif found.base < previous.end:
            self._fault(found.path, f"begins at offset {found.base}, before {previous.path} ends ({previous.end})")

    def _read(self, segment: Segment, *, is_active: bool) -> Found:
        found = Found(str(segment.path), segment.sealed, segment.base)
        lines = _Lines(found, self._fault)
        with segment.path.open("rb") as file:
            if segment.sealed:
                found.compressed_bytes = os.fstat(file.fileno()).st_size
                whole = self._frames(found, file, lines)
            else:
                whole = True
                while data := file.read(_READ):
                    lines.feed(data)
        tail = lines.finish(torn_is_fault=not is_active)
        if tail:
            self.report.notes.append(
                Fault(
                    found.path, f"its last {tail:,} bytes are no whole event: in flight, or cut off at the next start"
                )
            )
        found.bytes = lines.end
        found.end = segment.base + lines.end if whole else None
        return found

    def _frames(self, found: Found, file: BinaryIO, lines: "_Lines") -> bool:
        """Feed what the frames hold; whether the segment's length is known."""
        try:
            table = _seek_table(file)
        except ValueError as error:
            read = _without_table(file, lines)
            self._fault(found.path, f"its seek table can not be read: {error}; without it, {read} frames can be read")
            return False
        start = 0
        for number, (compressed, size) in enumerate(table, start=1):
            file.seek(start)
            try:
                lines.feed(_frame(file.read(compressed), size))
            except ValueError as error:
                where = f"frame {number} of {len(table)} (bytes {start} to {start + compressed} of the file)"
                self._fault(found.path, f"{where} {error}; the events in it are lost")
                lines.skip(size)
            start += compressed
        return True

    def _compare(self, raw: Segment, sealed: Segment) -> None:
        """A segment that is in both places: a crash came before the raw one was removed."""
        try:
            with raw.path.open("rb") as one, sealed.open() as other:
                at = 0
                while True:
                    left, right = one.read(_READ), other.read(_READ)
                    while len(right) < len(left) and (more := other.read(len(left) - len(right))):
                        right += more
                    if left != right:
                        at += next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(right))
                        self._fault(str(raw.path), f"is not the same as {sealed.path}, from offset {raw.base + at} on")
                        return
                    if not left:
                        return
                    at += len(left)
        except (FileNotFoundError, *DAMAGE):
            return  # it is removed now, or its damage is reported already

    def _fault(self, place: str, message: str) -> None:
        self.report.faults.append(Fault(place, message))


class _Lines:
    """Takes a segment's bytes as they come, and counts its events into ``found``."""

    def __init__(self, found: Found, fault: Callable[[str, str], None]) -> None:
        self.end = 0
        """Bytes up to the end of what counts."""
        self._found = found
        self._fault = fault
        self._rest = b""
        self._at = 0
        self._number: int | None = 0
        """The last line's; None once frames were lost."""
        self._in_line = False
        """Whether a lost frame leaves us in the middle of a line."""
        self._doubtful: list[tuple[str, str]] = []
        """Lines that are no events, and since which there was none."""
        self._doubtful_count = 0
        self._bad = 0

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)

    def skip(self, size: int) -> None:
        """So many bytes are lost."""
        self._at += len(self._rest) + size
        self._rest = b""
        self._number = None
        self._in_line = True

    def finish(self, *, torn_is_fault: bool) -> int:
        """The segment ends; returns how many bytes of it are a tail that does not count."""
        size = self._at + len(self._rest)
        if not torn_is_fault:
            return size - self.end
        self._confirm()
        if self._rest and not self._in_line:
            self._fault(self._found.path, f"ends in the middle of a line, {len(self._rest):,} bytes long")
        if self._bad > MAX_LINES:
            self._fault(self._found.path, f"{self._bad - MAX_LINES:,} more lines are no events")
        self.end = size
        return 0

    def _line(self, line: bytes) -> None:
        at, self._at = self._at, self._at + len(line) + 1
        if self._number is not None:
            self._number += 1
        if self._in_line:
            self._in_line = False
            return
        if is_blank(line):
            if self._doubtful_count:
                self._confirm()
            self._found.deleted += 1
            self.end = self._at
            return
        try:
            head = decode_head(line)
            line.decode()
            if head.type not in TYPES:
                raise ValueError(f"unknown type {head.type!r}")  # noqa: TRY301
        except (msgspec.DecodeError, ValueError) as error:
            self._doubtful_count += 1
            if len(self._doubtful) < MAX_LINES:
                place = self._found.path if self._number is None else f"{self._found.path}:{self._number}"
                self._doubtful.append((place, f"not an event (offset {self._found.base + at}): {error}"))
            return
        if self._doubtful_count:
            self._confirm()
        found = self._found
        found.events += 1
        if found.first_received_at is None:
            found.first_received_at = head.receivedAt
        found.last_received_at = head.receivedAt
        self.end = self._at

    def _confirm(self) -> None:
        """What was doubtful is wrong."""
        for fault in self._doubtful[: max(MAX_LINES - self._bad, 0)]:
            self._fault(*fault)
        self._bad += self._doubtful_count
        self._doubtful.clear()
        self._doubtful_count = 0


def _seek_table(file: BinaryIO) -> list[tuple[int, int]]:
    """The frames' compressed and plain sizes. Raises ``ValueError`` with what is wrong with the table."""
    total = file.seek(0, os.SEEK_END)
    if total == 0:
        return []  # what is made of an empty segment
    file.seek(max(total - _FOOTER.size, 0))
    footer = file.read()
    if len(footer) < _FOOTER.size or _FOOTER.unpack(footer)[2] != _SEEKABLE_MAGIC:
        raise ValueError("the file does not end with one")
    count, descriptor, _ = _FOOTER.unpack(footer)
    width = 12 if descriptor & 0x80 else 8
    size = 2 * _PAIR.size + 1 + count * width
    if size > total:
        raise ValueError(f"it has {count:,} entries, more than there is room for")
    file.seek(total - size)
    table = file.read(size)
    if _PAIR.unpack_from(table) != (_TABLE_MAGIC, size - _PAIR.size):
        raise ValueError("its header is wrong")
    sizes = [_PAIR.unpack_from(table, _PAIR.size + number * width) for number in range(count)]
    if sum(compressed for compressed, _ in sizes) != total - size:
        raise ValueError("its frames do not add up to the file's size")
    return [(compressed, plain) for compressed, plain in sizes]


def _frame(data: bytes, size: int) -> bytes:
    """What a frame holds. Raises ``ValueError`` with what is wrong with it."""
    decompressor = ZstdDecompressor()
    try:
        plain = decompressor.decompress(data)
    except ZstdError as error:
        raise ValueError(f"is damaged: {error}") from None
    if not decompressor.eof:
        raise ValueError("is not whole")
    if decompressor.unused_data:
        raise ValueError(f"ends {len(decompressor.unused_data)} bytes before the seek table says")
    if len(plain) != size:
        raise ValueError(f"holds {len(plain)} bytes, and {size} by the seek table")
    return plain


def _without_table(file: BinaryIO, lines: _Lines) -> int:
    """Feed what can be read from the beginning on; how many frames that is."""
    count = 0
    for plain in _stream(file):
        lines.feed(plain)
        count += 1
    return count


def _stream(file: BinaryIO) -> Iterator[bytes]:
    """Frame after frame, until something is none. A frame is kept in memory whole."""
    file.seek(0)
    data = b""
    while True:
        decompressor, parts = ZstdDecompressor(), []
        try:
            while not decompressor.eof:
                data = data or file.read(_READ)
                if not data:
                    return
                parts.append(decompressor.decompress(data))
                data = b""
        except ZstdError:
            return
        data = decompressor.unused_data
        if any(parts):
            yield b"".join(parts)


def log_size(folders: Folders) -> int:
    """Bytes of all files, for a progress bar."""
    return sum(_size(segment.path) for segment in (*folders.raw(), *folders.sealed()))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
