"""Sealed segments: compressing them into the archive, and letting go of the oldest.

A segment is compressed beside its final place, synced, and renamed; only then does the raw one go. A crash leaves a
``.partial`` file, which the next run writes again, or both copies, of which the next run removes the raw one.
"""

import os
import time
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec
import structlog
from pyzstd import CParameter, SeekableZstdFile

from relayd.event import decode_head
from relayd.journal import layout
from relayd.journal.segment import Folders, Segment, sync_folder

_log = structlog.get_logger(__name__)

LEVEL = 3
OPTIONS: Mapping[int, int] = {CParameter.compressionLevel: LEVEL, CParameter.checksumFlag: 1}
"""Each frame ends with a checksum, so that a reader sees when the disk has changed it."""
FRAME = 2**20
"""Bytes of log in one zstd frame: what a reader that starts in the middle has to inflate at most."""


def seal(folders: Folders, segment: Segment) -> Path:
    """Compress a raw segment that is no longer written into the archive, and remove it. Blocks.

    Raises ``OSError`` when the disk refuses; the raw segment is then still whole.
    """
    modified = segment.path.stat().st_mtime
    final = folders.sealed_path(segment.base, _day(segment.path, modified))
    final.parent.mkdir(parents=True, exist_ok=True)
    with segment.path.open("rb") as raw:
        write_sealed(final, iter(partial(raw.read, FRAME), b""), modified)
    sync_folder(folders.archive)
    segment.path.unlink()
    _log.debug("segment sealed", segment=final.name)
    return final


def write_sealed(final: Path, pieces: Iterable[bytes], modified: float) -> None:
    """Compress ``pieces`` of a segment beside ``final``, and put that in its place, synced. Blocks.

    ``modified`` is the file's age, which is that of the segment's last event, in Unix seconds.
    """
    beside = final.with_name(final.name + ".partial")
    with beside.open("wb") as target:
        with SeekableZstdFile(target, "w", level_or_option=OPTIONS, max_frame_content_size=FRAME) as sealed:
            for data in pieces:
                sealed.write(data)
        target.flush()
        os.fsync(target.fileno())
    os.utime(beside, (modified, modified))
    beside.replace(final)
    sync_folder(final.parent)


def _day(path: Path, modified: float) -> str:
    """The UTC day on which the segment's first event was received."""
    with path.open("rb") as file:
        try:
            return decode_head(file.readline()).receivedAt.date().isoformat()
        except msgspec.DecodeError:
            return time.strftime("%Y-%m-%d", time.gmtime(modified))


def retire(folders: Folders, *, floor: float, retention: float, max_size: int, now: float) -> list[Segment]:
    """Remove the oldest archived segments that are too old or too much, and return them. Blocks.

    Nothing at or after ``floor`` (the least cursor of the enabled destinations) goes. ``retention`` is in seconds,
    ``max_size`` in bytes over journal and archive (0: no limit), ``now`` in Unix seconds. What the second layout has of
    a segment counts with it, and goes with it.
    """
    segments = folders.all()
    stats = {segment.base: segment.path.stat() for segment in segments}
    beside = layout.sizes(folders.layout)
    total = sum(stat.st_size for stat in stats.values()) + sum(beside.values())
    gone = []
    for segment, following in pairwise(segments):
        too_old = now - stats[segment.base].st_mtime > retention
        too_much = max_size and total > max_size
        if not segment.sealed or following.base > floor or not (too_old or too_much):
            break
        layout.remove(folders.layout, segment.base)  # the first to go: what is left of it is found with the segment
        segment.path.unlink()
        total -= stats[segment.base].st_size + beside.get(segment.base, 0)
        gone.append(segment)
        if not any(segment.path.parent.iterdir()):
            segment.path.parent.rmdir()
    if gone:
        _log.info("archived segments removed", segments=len(gone), oldest=gone[0].path.name, newest=gone[-1].path.name)
    return gone
