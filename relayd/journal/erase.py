"""Overwriting events of sealed segments: each becomes a line of spaces, as long as it was; so all others keep their
offsets.

A segment is written anew beside its place, synced, and renamed, and keeps its age. A crash leaves it as it was, or as
it shall be, and at most a ``.partial`` file, which the next run writes again. Who has the old file open still reads
what it held: readers are to be closed afterwards (`relayd.journal.reader.Reader.close`), and copies to be made again.
"""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from relayd.journal.archive import FRAME, write_sealed
from relayd.journal.segment import DAMAGE, Damaged, Segment


def find(segment: Segment, pick: Callable[[bytes], list[bytes]]) -> list[bytes]:
    """The lines that ``pick`` finds in a segment's text, which it is given in whole lines, about a mebibyte at a time.

    Blocks. Raises `Damaged`, or ``OSError``.
    """
    return [line for piece in _pieces(segment) for line in pick(piece)]


def erase(segment: Segment, lines: Collection[bytes], *, into: Path | None = None) -> None:
    """Overwrite ``lines`` (without their ends) of a sealed segment, in its place or ``into`` another. Blocks.

    Raises `Damaged`, or ``OSError``; the segment is then as it was.
    """
    gone = frozenset(lines)

    def blanked() -> Iterator[bytes]:
        for piece in _pieces(segment):
            yield b"\n".join(b" " * len(line) if line in gone else line for line in piece.split(b"\n"))

    write_sealed(into or segment.path, blanked(), segment.path.stat().st_mtime)


def _pieces(segment: Segment) -> Iterator[bytes]:
    """A segment's text in whole lines; what follows the last line's end comes as it is."""
    try:
        with segment.open() as file:
            rest = b""
            while data := file.read(FRAME):
                whole, newline, rest = (rest + data).rpartition(b"\n")
                if newline:
                    yield whole + newline
            if rest:
                yield rest
    except DAMAGE as error:
        raise Damaged(f"{segment.path}: can not be read to its end: {error}") from error
