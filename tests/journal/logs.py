"""Logs on the disk, made without a daemon."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from relayd.event import format_time
from relayd.journal.archive import seal
from relayd.journal.segment import Folders, Segment
from tests.events import line

START = datetime(2026, 11, 24, 10, tzinfo=UTC)


def at(number: int, **fields: object) -> bytes:
    """A line that was received so many minutes after `START`."""
    moment = START + timedelta(minutes=number)
    return line(number, **({"receivedAt": format_time(round(moment.timestamp() * 1000))} | fields))


def make_log(root: Path, segments: Sequence[Sequence[bytes]], *, raw: int = 1, base: int = 0) -> Folders:
    """A log with these lines, the last ``raw`` segments not yet sealed."""
    folders = Folders.of(root)
    folders.journal.mkdir(parents=True, exist_ok=True)
    folders.archive.mkdir(exist_ok=True)
    for number, lines in enumerate(segments):
        segment = Segment(base, folders.raw_path(base))
        segment.path.write_bytes(b"".join(lines))
        base += segment.path.stat().st_size
        if number < len(segments) - raw:
            seal(folders, segment)
    return folders
