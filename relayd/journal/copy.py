"""Further copies of the archive, made in the background, segment by segment, as they are sealed.

Guarantees
- Neither sealing nor the log waits for a copy. Retention does: a segment that is yet to be copied stays, as long as the
  disk has twice ``journal.min_free``; with less, what is due to go goes uncopied, and that is logged as an error.
- A segment is copied again when a crash came before that was noted; the same segment makes the same copy.
- A segment that was written anew (events were deleted from it) is copied anew when `Copy.again` asks for it, which a
  crash does not forget. What an earlier copy left in a bucket that keeps versions is beyond its reach.
- A copy that fails is tried again, after `FIRST_WAIT` and then ever later up to `LONGEST_WAIT`, until it succeeds. What
  the disk did not keep is logged and passed over where it has to be read, so that it holds up nothing.

How far a copy has come is kept in ``copies/NAME.json`` below the state directory. It belongs to one place: a copy that
is made elsewhere begins with the oldest segment that is there, and so does one whose note is lost.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import random
from typing import Protocol

import msgspec
import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from relayd.config import model
from relayd.journal.layout import write_segment
from relayd.journal.segment import Damaged, Folders, Segment, sync_folder

_log = structlog.get_logger(__name__)

FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0
"""Seconds before a copy that failed is tried again; doubled with each failure in a row, half of it at random."""
_LOOK = 1.0
"""Seconds within which `Copy.again` is heard."""


class CopyFailed(Exception):
    """A segment was not copied; the text says why, without any secret."""


class Target(Protocol):
    """Where a copy goes."""

    name: str
    """What status and note call it."""
    place: str
    """Where that is, for people; another place is another copy."""

    def put(self, segment: Segment) -> None:
        """Copy a sealed segment: it is there whole, or not at all. Blocks, in a thread that may be given up.

        Raises `CopyFailed`, `Damaged`, or ``OSError``.
        """

    def rewrite(self, log: Folders, before: int, work: Callable[[Segment], bool], scratch: Path) -> None:
        """See `Copy.rewrite`."""


class CopyStatus(Struct):
    """A copy in ``relayd status --json``."""

    place: str
    up_to: int
    """The log's offset up to which the archive is copied."""
    received_at: datetime | None
    """When the last event was received that is copied."""
    waiting: int
    """Archived segments that are yet to be copied."""
    last_failure: str | None


class _Note(Struct, frozen=True):
    place: str
    up_to: int = 0
    received_at: datetime | None = None
    again: dict[int, int] = {}
    """Segments that are to be copied once more, by their first offsets, and how often that was asked for."""


class SegmentLogs:
    """The second layout, as Segment writes it: `relayd.journal.layout`."""

    name = "segment_logs"

    def __init__(self, root: Path) -> None:
        self._root = root
        self.place = str(root)

    def put(self, segment: Segment) -> None:
        """See `Target.put`."""
        write_segment(self._root, segment)

    def rewrite(self, log: Folders, before: int, work: Callable[[Segment], bool], scratch: Path) -> None:
        """See `Target.rewrite`. What retention lets go goes here too, so there is nothing to do."""


class Copy:
    """One copy. Keep `run` running."""

    def __init__(self, target: Target, folders: Folders, notes: Path, *, redact: Callable[[str], str] = str) -> None:
        """``notes`` is the folder of the notes. Blocks."""
        self._target = target
        self._folders = folders
        self._path = notes / f"{target.name}.json"
        self._redact = redact
        self._note = _read(self._path, target.place)
        self._noting = threading.Lock()
        self._waiting = 0
        self._last_failure: str | None = None

    @property
    def name(self) -> str:
        return self._target.name

    @property
    def up_to(self) -> int:
        """The log's offset up to which the archive is copied."""
        return self._note.up_to

    def again(self, bases: Iterable[int]) -> None:
        """Have these segments copied once more: they were written anew. Blocks; raises ``OSError``.

        It is begun within a second; `behind` tells when it is done. For any thread.
        """
        with self._noting:
            asked = self._note.again
            self._keep(replace(self._note, again=asked | {base: asked.get(base, 0) + 1 for base in bases}))

    def behind(self) -> frozenset[int]:
        """The segments, by their first offsets, of which there may be a copy from before they were written anew."""
        return frozenset(self._note.again)

    def rewrite(self, before: int, work: Callable[[Segment], bool], scratch: Path) -> None:
        """Have ``work`` change segments that begin before an offset, and that only the copy has: retention let them go.

        Each is brought to the folder ``scratch``, and put back if ``work`` says that it has changed it. Blocks. Raises
        `CopyFailed`, or what ``work`` does.
        """
        self._target.rewrite(self._folders, before, work, scratch)

    def status(self) -> CopyStatus:
        """How far it has come."""
        note = self._note
        return CopyStatus(note.place, note.up_to, note.received_at, self._waiting, self._last_failure)

    async def run(self, next_sealing: Callable[[], trio.Event]) -> None:
        """Copy what is sealed, until cancelled. ``next_sealing`` gives what is set when there may be more."""
        wait = FIRST_WAIT
        while True:
            sealing, note = next_sealing(), self._note
            found = await trio.to_thread.run_sync(self._next)
            if found is None:
                while self._note is note and not sealing.is_set():
                    with trio.move_on_after(_LOOK):
                        await sealing.wait()
                continue
            try:
                await trio.to_thread.run_sync(self._copy, *found, abandon_on_cancel=True)
            except (CopyFailed, OSError) as error:
                self._last_failure = self._redact(str(error))
                seconds = wait * (1 - random() / 2)  # noqa: S311  not a secret
                _log.warning(
                    "a copy of the archive failed; it is tried again",
                    copy=self.name,
                    segment=found[0].path.name,
                    error=self._last_failure,
                    seconds=round(seconds, 1),
                )
                await trio.sleep(seconds)
                wait = min(wait * 2, LONGEST_WAIT)
            else:
                wait, self._last_failure = FIRST_WAIT, None

    def _next(self) -> tuple[Segment, int] | None:
        """The next segment to copy, and the offset up to which the archive is then copied."""
        segments = self._folders.all()
        self._waiting = sum(segment.sealed and segment.base >= self._note.up_to for segment in segments)
        there = {segment.base: segment for segment in segments}
        for base in list(self._note.again):
            if base not in there:  # retention let it go
                self._forget(base)
            elif base < self._note.up_to:
                return there[base], self._note.up_to
        for segment, following in pairwise([*segments, None]):
            if segment is not None and segment.base >= self._note.up_to:
                end = segment.base + 1 if following is None else following.base
                return (segment, end) if segment.sealed else None
        return None

    def _copy(self, segment: Segment, up_to: int) -> None:
        """Copy a segment, and note it."""
        asked = self._note.again.get(segment.base)
        try:
            modified = segment.path.stat().st_mtime
        except FileNotFoundError:
            return  # the disk reserve needed its room
        try:
            self._target.put(segment)
        except Damaged as error:
            _log.error("a damaged segment is not copied", copy=self.name, error=str(error))
        with self._noting:
            note = self._note
            if up_to > note.up_to:
                note = replace(note, up_to=up_to, received_at=datetime.fromtimestamp(modified, UTC))
                self._waiting -= 1
            again = {base: times for base, times in note.again.items() if (base, times) != (segment.base, asked)}
            self._keep(replace(note, again=again))

    def _forget(self, base: int) -> None:
        with self._noting:
            self._keep(replace(self._note, again={each: n for each, n in self._note.again.items() if each != base}))

    def _keep(self, note: _Note) -> None:
        _write(self._path, note)
        self._note = note


def copies(
    config: model.Archive, folders: Folders, state_dir: Path, *, redact: Callable[[str], str] = str
) -> list[Copy]:
    """The copies that are configured. Blocks."""
    targets: list[Target] = []
    if config.segment_logs:
        targets.append(SegmentLogs(folders.layout))
    if config.s3.bucket:
        from relayd.journal.bucket import Bucket  # the only one that needs relayd[s3]

        targets.append(Bucket(config.s3))
    return [Copy(target, folders, state_dir / "copies", redact=redact) for target in targets]


def least(made: Sequence[Copy]) -> float:
    """The offset up to which all copies have come; infinity when there are none."""
    return min((each.up_to for each in made), default=float("inf"))


def _read(path: Path, place: str) -> _Note:
    """The note of an earlier run, if it is of the same place."""
    try:
        note = msgspec.json.decode(path.read_bytes(), type=_Note)
    except FileNotFoundError:
        return _Note(place)
    except (OSError, msgspec.DecodeError) as error:
        _log.warning("the note of a copy can not be read; the copy is made again", path=str(path), error=str(error))
        return _Note(place)
    if note.place != place:
        _log.info("the archive is copied to another place, from the beginning", place=place, before=note.place)
        return _Note(place)
    return note


def _write(path: Path, note: _Note) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(msgspec.json.encode(note))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
