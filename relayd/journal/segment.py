"""The files of the journal: their names, their order, and what a scan finds in one.

    journal/00000000000000000000.jsonl                       JSON Lines; the file's name is its first byte's offset
    archive/2026-11-24/00000000000067108864.jsonl.zst        the same, sealed: zstd in the seekable format
    archive/segment-logs/SOURCE/DAY/00000000000067108864.gz  its events again, if wanted: see `relayd.journal.layout`

A deleted event leaves a line of spaces, as long as it was (`is_blank`): so all other events keep their offsets.

A segment covers ``[base, base + length)`` of the endless log. Between two segments there may be a gap (offsets that a
crash made unusable), never an overlap: where a crash left a segment in both places, the two are equal.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self, cast

import msgspec
from pyzstd import SeekableFormatError, SeekableZstdFile, ZstdError

from relayd.event import Head, decode_head

RAW, SEALED = ".jsonl", ".jsonl.zst"
SEGMENT_LOGS = "segment-logs"
"""The second layout's folder, as Segment calls it."""
DAMAGE = (ZstdError, SeekableFormatError, EOFError)
"""What reading a sealed segment raises when the disk did not keep it."""


class Damaged(Exception):
    """A segment that can not be read to its end; the text says which, and why."""


class Segment(NamedTuple):
    """One file of the log; segments sort by their first offset."""

    base: int
    path: Path

    @property
    def sealed(self) -> bool:
        return self.path.name.endswith(SEALED)

    def open(self) -> BinaryIO:
        """The segment's bytes, seekable by ``offset - base``. Raises ``FileNotFoundError`` when it has just moved.

        The active segment is read unbuffered: what lies behind the log's head may yet change.
        """
        return cast("BinaryIO", SeekableZstdFile(self.path) if self.sealed else self.path.open("rb", buffering=0))


class Folders(NamedTuple):
    """Where a log is kept."""

    journal: Path
    archive: Path
    segment_logs: Path | None = None
    """Where the second layout is; None: in the archive."""

    @classmethod
    def of(cls, state_dir: Path, segment_logs_in: str = "") -> Self:
        """Those of a state directory, with the configuration's ``archive.segment_logs_in``."""
        elsewhere = Path(segment_logs_in) / SEGMENT_LOGS if segment_logs_in else None
        return cls(state_dir / "journal", state_dir / "archive", elsewhere)

    @property
    def layout(self) -> Path:
        """The folder of the second layout, which need not be there."""
        return self.segment_logs or self.archive / SEGMENT_LOGS

    def raw_path(self, base: int) -> Path:
        return self.journal / f"{base:020d}{RAW}"

    def sealed_path(self, base: int, day: str) -> Path:
        """``day`` is the UTC day of the segment's first event, YYYY-MM-DD."""
        return self.archive / day / f"{base:020d}{SEALED}"

    def raw(self) -> list[Segment]:
        """The segments not yet in the archive, the active one last."""
        return sorted(_segments(self.journal.iterdir(), RAW))

    def sealed(self) -> list[Segment]:
        """The archive's segments."""
        return sorted(_segments(self.archive.glob(f"*/*{SEALED}"), SEALED))

    def all(self) -> list[Segment]:
        """Every segment once. The journal is listed first: what is sealed meanwhile is then seen twice, not never."""
        raw = self.raw()
        return sorted({segment.base: segment for segment in (*self.sealed(), *raw)}.values())


def _segments(paths: Iterator[Path], suffix: str) -> Iterator[Segment]:
    for path in paths:
        stem = path.name.removesuffix(suffix)
        if stem.isdigit() and path.name.endswith(suffix):
            yield Segment(int(stem), path)


def is_blank(line: bytes) -> bool:
    """Whether a line is what a deleted event left."""
    return line.startswith(b" ") and line.isspace()


def sync_folder(folder: Path) -> None:
    """Make a folder's entries (a file created, renamed, removed) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ends_with_event(path: Path, end: int) -> bool:
    """Whether the line of a raw segment that ends at byte ``end`` is a whole event, and not longer than 64 KB."""
    start = max(end - 64 * 1024, 0)
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(end - start)
    line = data[data.rfind(b"\n", 0, -1) + 1 :]
    return len(data) == end - start and (_whole_event(line) is not None or is_blank(line))


def scan(path: Path, start: int, visit: Callable[[Head], None]) -> tuple[int, int]:
    """Visit each whole event of a raw segment from byte ``start`` of the file, which begins a line.

    Returns where the last whole event ends, and how many lines before that are not events (they are left alone: a
    reader skips them). What follows that end is the torn tail of a write that was never acknowledged. What a deleted
    event left counts as one, and is not visited.
    """
    end, bad, doubtful = start, 0, []
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            doubtful.append(len(line))
            head = _whole_event(line)
            if head is not None or (is_blank(line) and line.endswith(b"\n")):
                end += sum(doubtful)
                bad += len(doubtful) - 1
                doubtful.clear()
            if head is not None:
                visit(head)
    return end, bad


def _whole_event(line: bytes) -> Head | None:
    try:
        return decode_head(line) if line.endswith(b"\n") else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
