"""Reading the events that are meant out of the log, from the moment asked for on, with flat memory.

Events are in the order of their receipt but for what a clock that was set back makes of it; so a minute (`SLACK`) more
is read at both ends than was asked for, and each event's own time decides.

Lines that are no events are passed over and counted, but for what deleted events left. A segment that can not be read
to its end raises `Damaged`, after what comes before.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from relayd.journal import layout
from relayd.journal.reader import Chunk, Reader, find_time
from relayd.journal.segment import SEGMENT_LOGS, Damaged, Folders, is_blank
from relayd.journal.selection import Line, Matcher, NotAnEvent, Selection

SLACK = timedelta(minutes=1)


class Batch(NamedTuple):
    """What was found in some of the log."""

    segment: int
    """The first offset of the segment that it is of."""
    events: list[tuple[bytes, Line]]
    """Each event's line, its newline included, and what is known of it."""
    end: int
    """The offset up to which the log has been read."""


class Export:
    """The events of a selection, up to ``limit`` of them, before the offset ``head``. Iterate over it once. Blocks."""

    def __init__(self, folders: Folders, selection: Selection, *, head: int, limit: int | None = None) -> None:
        """Finds the place to start at. Raises `Damaged`, or ``OSError``."""
        self.events = 0
        """Found so far."""
        self.skipped = 0
        """Lines passed over that are no events."""
        self._folders = folders
        self._matcher = Matcher(selection)
        self._limit = limit
        since, until = selection.since, selection.until
        self.start = find_time(folders, head, since - SLACK) if since else 0
        """Where reading begins."""
        self.end = find_time(folders, head, until + SLACK) if until else head
        """Where it ends."""

    def __iter__(self) -> Iterator[Batch]:
        """What is found, as it is found. Raises `Damaged`, or ``OSError``."""
        reader = Reader(self._folders, self.start)
        try:
            while self._limit is None or self.events < self._limit:
                chunk = reader.read(self.end)
                if chunk is None:
                    return
                yield Batch(reader.segment, self._pick(chunk), chunk.end)
        finally:
            reader.close()

    def _pick(self, chunk: Chunk) -> list[tuple[bytes, Line]]:
        found: list[tuple[bytes, Line]] = []
        if not self._matcher.may_match(chunk.data):
            return found
        for line in chunk.data.splitlines(keepends=True):
            try:
                event = self._matcher.match(line)
            except NotAnEvent:
                self.skipped += not is_blank(line)
                continue
            if event is not None:
                found.append((line, event))
                self.events += 1
                if self.events == self._limit:
                    break
        return found


def write_folder(export: Export, folder: Path, progress: Callable[[int], object]) -> list[Path]:
    """Write all of an export below ``folder``, as `relayd.journal.layout` says; returns the files. Blocks.

    The files of a segment come in one go. Raises `Damaged` after what comes before, or ``OSError``, which leaves the
    files of earlier segments. ``progress`` is told how many more bytes of the log have been read.
    """
    root = folder / SEGMENT_LOGS
    files: list[Path] = []
    done = export.start
    for segment, batches in groupby(export, key=lambda batch: batch.segment):
        with layout.LogWriter(root, layout.file_name(segment)) as writer:
            try:
                for batch in batches:
                    for line, event in batch.events:
                        writer.write(line, event.project_id, event.received_at)
                    progress(batch.end - done)
                    done = batch.end
            except Damaged:
                writer.commit()
                raise
            files += writer.commit()
    return files
