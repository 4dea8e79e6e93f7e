"""The files of the journal: their names, their order, and what a scan finds in one.

    journal/00000000000000000000.jsonl                       JSON Lines; the file's name is its first byte's offset
    archive/2026-11-24/00000000000067108864.jsonl.zst        the same, sealed: zstd in the seekable format

A segment covers ``[base, base + length)`` of the endless log. Between two segments there may be a gap (offsets that a
crash made unusable), never an overlap: where a crash left a segment in both places, the two are equal.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import msgspec
from pyzstd import SeekableZstdFile

from relayd.event import Head, decode_head

RAW, SEALED = ".jsonl", ".jsonl.zst"


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


def scan(path: Path, start: int, visit: Callable[[Head], None]) -> tuple[int, int]:
    """Visit each whole event of a raw segment from byte ``start`` of the file, which begins a line.

    Returns where the last whole event ends, and how many lines before that are not events (they are left alone: a
    reader skips them). What follows that end is the torn tail of a write that was never acknowledged.
    """
    end, bad, doubtful = start, 0, []
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            doubtful.append(len(line))
            try:
                head = decode_head(line) if line.endswith(b"\n") else None
            except (msgspec.DecodeError, UnicodeDecodeError):
                head = None
            if head is not None:
                end += sum(doubtful)
                bad += len(doubtful) - 1
                doubtful.clear()
                visit(head)
    return end, bad
