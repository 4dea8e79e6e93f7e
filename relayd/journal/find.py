"""Finding an event in the log by its messageId. It goes by the files alone, so that no daemon is needed."""

import io

import msgspec

from relayd.event import decode_head
from relayd.journal.reader import Chunk, Reader
from relayd.journal.segment import Folders, Segment


def find_message(folders: Folders, message_id: str) -> tuple[int, bytes] | None:
    """The newest event of a messageId, as its offset and its line; None when there is none. Blocks; scans the log.

    Segments are read from the newest to the oldest, the active one up to its last whole line. Raises ``OSError``, or
    `relayd.journal.segment.Damaged` for one that the disk did not keep.
    """
    needle = msgspec.json.encode(message_id)
    segments = folders.all() if folders.journal.exists() else []
    ends = [segment.base for segment in segments[1:]] + [_end(segment) for segment in segments[-1:]]
    for segment, end in zip(reversed(segments), reversed(ends), strict=True):
        found: tuple[int, bytes] | None = None
        reader = Reader(folders, segment.base)
        try:
            while (chunk := reader.read(end)) is not None:
                if needle in chunk.data:
                    found = _newest(chunk, message_id) or found
        finally:
            reader.close()
        if found is not None:
            return found
    return None


def _end(segment: Segment) -> int:
    """The offset at which a segment's file ends."""
    with segment.open() as file:
        return segment.base + file.seek(0, io.SEEK_END)


def _newest(chunk: Chunk, message_id: str) -> tuple[int, bytes] | None:
    """The last event of a messageId in a chunk."""
    found, offset = None, chunk.start
    for line in chunk.data.splitlines(keepends=True):
        try:
            if decode_head(line).messageId == message_id:
                found = offset, line
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # no event
        offset += len(line)
    return found
