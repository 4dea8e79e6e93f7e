"""The journal: one append-only log, synced by group commit.

Guarantees
- `append` returns once its lines are as durable as ``fsync`` says: with "always", on the disk. Lines that arrive
  while a sync runs share the next one.
- An offset is never used twice. Readers are told only of what is synced (``head``); if a crash left the log shorter
  than some cursor (possible under "interval" and "never"), the log goes on behind the highest cursor.
- A commit that fails leaves no trace: the file is cut back, all that wait get the error, their ids are forgotten, and
  the next append tries again.
- Memory is bounded: above ``max_buffered`` bytes awaiting their commit, and with less than ``min_free`` on the disk,
  `append` raises `Overloaded` before it takes anything.

On disk: see `relayd.journal.segment`. A segment that has reached ``segment_size`` is closed at the end of a commit and
handed to the archiver; the next one is named for the offset at which it starts.

At the start the last segment is scanned from the last commit that the dedupe index covers (after a power cut, from its
beginning): its ids are added again, and a tail that is no whole event, so was never acknowledged, is cut off. The work
is bounded by one segment, whatever the log's size.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
import trio
from msgspec import Struct, field

from relayd.config import model
from relayd.event import Head
from relayd.journal import layout
from relayd.journal.archive import retire, seal
from relayd.journal.dedupe import Dedupe
from relayd.journal.segment import Folders, Segment, ends_with_event, scan, sync_folder

_log = structlog.get_logger(__name__)

RETRY_AFTER = 5
"""Seconds after which a client that was refused may try again."""
_SWEEP = 60
"""Seconds between looks for archived segments to let go."""


class Overloaded(Exception):
    """The journal can not take more now; the text says why. Nothing was taken."""


class _Group(Struct, eq=False):
    """What shares one commit."""

    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    events: dict[str, int] = field(default_factory=dict)
    done: trio.Event = field(default_factory=trio.Event)
    error: OSError | None = None


class Statistics(Struct, frozen=True):
    """``bytes`` is what journal and archive take on the disk; the second layout counts as the archiver last saw it."""

    head: int
    bytes: int
    segments: int
    commits: int
    pending_bytes: int
    refusing: str | None


class Journal:
    """The log's one writer. Make it with `open_journal`, keep `run` running, append, and `close` it."""

    def __init__(
        self, folders: Folders, config: model.Journal, dedupe: Dedupe, *, active: Segment, size: int, max_buffered: int
    ) -> None:
        self.folders = folders
        self.dedupe = dedupe
        self.commits = 0
        self.received: dict[str, int] = {}
        """Events by source, all in the log; who keeps account of earlier runs puts their numbers in."""
        self.floor: Callable[[], float] = lambda: 0
        """The least cursor that still needs the log; set by who knows the destinations."""
        self.uncopied: Callable[[], float] = lambda: math.inf
        """The offset from which on the archive has copies yet to be made; set by who makes them."""
        self.files = threading.Lock()
        """Held while sealed segments are made, removed, or written anew."""
        self._config = config
        self._max_buffered = max_buffered
        self._base = active.base
        self._file = os.open(active.path, os.O_WRONLY | os.O_CREAT, 0o640)
        self._written = active.base + size
        self._head = self._written
        self._pending = _Group()
        self._in_commit = 0
        self._wake = trio.Event()
        self._advanced = trio.Event()
        self._sealable = trio.Event()
        self._sealed = trio.Event()
        self._copied_bytes = 0
        self._running = False
        self._closing = False
        self._io = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        self._refusing: str | None = None
        self._next_look = 0.0

    @property
    def written(self) -> int:
        """The end of what was acknowledged: what ``received`` counts."""
        return self._written

    @property
    def head(self) -> int:
        """The end of what is synced, and may be read."""
        return self._head

    async def append(self, lines: bytes, source: str, events: int) -> None:
        """Keep ``lines`` (whole lines: ``events`` events of a source); returns when they are as durable as configured.

        Raises `Overloaded`, or ``OSError`` when the disk failed. A caller that is cancelled while it waits leaves its
        lines in the commit.
        """
        group = self._pending
        group.chunks.append(lines)
        group.size += len(lines)
        if events:
            group.events[source] = group.events.get(source, 0) + events
        self._wake.set()
        await group.done.wait()
        if group.error is not None:
            raise group.error

    def check_room(self, size: int) -> None:
        """Raise `Overloaded` unless ``size`` more bytes can be taken now."""
        if self._pending.size + self._in_commit + size > self._max_buffered:
            raise Overloaded("the disk does not keep up with what arrives")
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + 1
            self._look_at_disk()
        if self._refusing is not None:
            raise Overloaded(self._refusing)

    async def settle(self) -> None:
        """Return once all that was appended before is committed; raises as `append` does."""
        if self._pending.chunks or self._in_commit:
            await self.append(b"", "", 0)

    async def wait_beyond(self, offset: int) -> None:
        """Return once ``head`` is beyond ``offset``."""
        while self._head <= offset:
            await self._advanced.wait()

    async def cut(self) -> int:
        """Close the active segment, if there is anything in it, and return the offset at which the next one begins.

        All that was appended before lies before that. Raises ``OSError`` when the disk refuses.
        """
        await self.settle()
        async with self._io:
            if self._written > self._base:
                await self._rotate()
            if self._written > self._base:
                raise OSError("no new segment could be made")
            return self._base

    @property
    def active(self) -> Segment:
        """The segment that is written."""
        return Segment(self._base, self.folders.raw_path(self._base))

    async def sealed_before(self, offset: int) -> None:
        """Return once no segment before ``offset``, where one begins, is still raw."""
        while True:
            sealing = self.next_sealing()
            raw = await trio.to_thread.run_sync(self.folders.raw)
            if not raw or raw[0].base >= offset:
                return
            self.look_again()
            await sealing.wait()

    def look_again(self) -> None:
        """Have the archiver look now for what is to be sealed, and then those who make copies."""
        self._sealable.set()

    def next_sealing(self) -> trio.Event:
        """Set once the archiver has looked again for what is to be sealed, and sealed it."""
        return self._sealed

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit, sync, seal and retire until `close`. Cancelling it loses no lines that were acknowledged."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._archive_forever)
            if self._config.fsync == "interval":
                nursery.start_soon(self._sync_forever)
            self._running = True
            task_status.started()
            try:
                while not self._closing or self._pending.chunks:
                    await self._wake.wait()
                    self._wake = trio.Event()
                    if self._pending.chunks:
                        await self._commit()
            finally:
                self._running = False
            nursery.cancel_scope.cancel()

    async def close(self) -> None:
        """Commit and sync what is pending, and let `run` end. Nothing may be appended after."""
        with trio.CancelScope(shield=True):
            if self._running:
                await self.settle()
            self._closing = True
            self._wake.set()
            async with self._io:
                await trio.to_thread.run_sync(os.fdatasync, self._file)
                self._advance(self._written)
                os.close(self._file)
                await trio.to_thread.run_sync(self.dedupe.close)

    def statistics(self) -> Statistics:
        """A look at the files; costs a listing of the folders."""
        segments = self.folders.all()
        used = self._copied_bytes
        for segment in segments:
            try:
                used += segment.path.stat().st_size
            except FileNotFoundError:
                continue
        waiting = self._pending.size + self._in_commit
        return Statistics(self._head, used, len(segments), self.commits, waiting, self._refusing)

    async def _commit(self) -> None:
        with trio.CancelScope(shield=True):
            async with self._io:
                group, self._pending = self._pending, _Group()
                mark = self.dedupe.mark()
                self._in_commit = group.size
                try:
                    await trio.to_thread.run_sync(self._write, group.chunks, limiter=self._thread)
                except OSError as error:
                    self._fail(group, error)
                else:
                    self.commits += 1
                    self._written += group.size
                    for source, events in group.events.items():
                        self.received[source] = self.received.get(source, 0) + events
                    self.dedupe.commit(mark, self._written)
                    if self._config.fsync != "interval":
                        self._advance(self._written)
                    group.done.set()
                finally:
                    self._in_commit = 0
                if self._written - self._base >= self._config.segment_size:
                    await self._rotate()

    def _fail(self, group: _Group, error: OSError) -> None:
        """The disk refused a commit: it fails, and with it what was to follow, since their ids are interleaved."""
        _log.error("commit failed; senders are told to try again", error=str(error), bytes=group.size)
        later, self._pending = self._pending, _Group()
        self.dedupe.rollback()
        self._next_look = 0.0
        for each in (group, later):
            each.error = error
            each.done.set()

    def _write(self, chunks: Sequence[bytes]) -> None:
        data = memoryview(b"".join(chunks))
        end = self._written - self._base
        at = end
        try:
            while data:
                count = os.pwrite(self._file, data, at)
                at, data = at + count, data[count:]
            if self._config.fsync == "always":
                os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, end)
            raise

    def _advance(self, offset: int) -> None:
        if offset > self._head:
            self._head = offset
            self._advanced.set()
            self._advanced = trio.Event()

    async def _sync_forever(self) -> None:
        while True:
            await trio.sleep(self._config.fsync_interval)
            if self._head == self._written:
                continue
            with trio.CancelScope(shield=True):
                async with self._io:
                    written = self._written
                    try:
                        await trio.to_thread.run_sync(os.fdatasync, self._file, limiter=self._thread)
                    except OSError as error:
                        _log.error("sync failed", error=str(error))
                    else:
                        self._advance(written)

    async def _rotate(self) -> None:
        """Close the active segment and go on in the next. A failure is logged; the segment then grows further."""
        following, began = self.folders.raw_path(self._written), self.dedupe.segment_start
        mark = self.dedupe.committed
        try:
            file = await trio.to_thread.run_sync(self._open_next, following, mark, limiter=self._thread)
        except OSError as error:
            _log.error("no new segment could be made", error=str(error), path=str(following))
            self.dedupe.segment_start = began
            return
        os.close(self._file)
        self._file, self._base = file, self._written
        self._advance(self._written)
        self._sealable.set()

    def _open_next(self, path: Path, mark: int) -> int:
        os.fdatasync(self._file)
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o640)
        sync_folder(path.parent)
        self.dedupe.segment_start = mark  # after the file is there: a crash between makes ids new, never lost
        self.dedupe.flush()  # from here on, the new segment is all that a start has to add again
        return file

    async def _archive_forever(self) -> None:
        while True:
            self._sealable = trio.Event()
            try:
                await trio.to_thread.run_sync(self._seal_and_retire, self._base)
            except OSError as error:
                _log.error("archiving failed; it is tried again", error=str(error))
            self._sealed.set()
            self._sealed = trio.Event()
            with trio.move_on_after(_SWEEP):
                await self._sealable.wait()

    def _seal_and_retire(self, active: int) -> None:
        with self.files:
            self._seal_and_retire_now(active)

    def _seal_and_retire_now(self, active: int) -> None:
        archived = {segment.base for segment in self.folders.sealed()}
        for segment in self.folders.raw():
            if segment.base >= active:
                break
            if segment.base in archived:
                segment.path.unlink()
            else:
                seal(self.folders, segment)
        config = self._config
        floor, uncopied = self.floor(), self.uncopied()
        short = self._free() < 2 * config.min_free
        gone = retire(
            self.folders,
            floor=floor if short else min(floor, uncopied),
            retention=config.retention,
            max_size=config.max_size,
            now=time.time(),
        )
        lost = [segment.path.name for segment in gone if segment.base >= uncopied]
        if lost:
            _log.error("the disk is nearly full: archived segments went before they were copied", segments=lost)
        self._copied_bytes = sum(layout.sizes(self.folders.layout).values())

    def _free(self) -> int:
        status = os.statvfs(self.folders.journal)
        return status.f_bavail * status.f_frsize

    def _look_at_disk(self) -> None:
        free = self._free()
        refusing = None
        if free < self._config.min_free:
            refusing = f"{free // 2**20} MB free on the disk, less than journal.min_free ({self._config.min_free})"
        if refusing is not None and self._refusing is None:
            _log.error("events are refused: the disk reserve is gone", reason=refusing)
        elif refusing is None and self._refusing is not None:
            _log.info("events are accepted again")
        self._refusing = refusing


def open_journal(folders: Folders, config: model.Journal, dedupe: Dedupe, *, cursor: int, max_buffered: int) -> Journal:
    """Repair the log's end and open it for appending. Blocks. ``cursor`` is the highest of any destination's.

    Raises ``OSError``.
    """
    folders.journal.mkdir(parents=True, exist_ok=True)
    folders.archive.mkdir(parents=True, exist_ok=True)
    dedupe.flush()  # before any id: a power cut must not leave the last run's header, closed cleanly, beside newer ids
    raw = folders.raw()
    if raw:
        base, size = raw[-1].base, _recover(raw[-1], dedupe)
    else:
        sealed = folders.sealed()
        base, size = (sealed[-1].base + _length(sealed[-1]) if sealed else 0), 0
    if base + size < cursor:
        _log.warning("the log is shorter than a cursor; it goes on behind it", end=base + size, cursor=cursor)
        base, size = cursor, 0
    active = Segment(base, folders.raw_path(base))
    journal = Journal(folders, config, dedupe, active=active, size=size, max_buffered=max_buffered)
    dedupe.commit(dedupe.mark(), journal.head)
    if not size:
        dedupe.segment_start = dedupe.committed
    sync_folder(folders.journal)
    return journal


def _length(segment: Segment) -> int:
    with segment.open() as file:
        return file.seek(0, os.SEEK_END)


def _recover(active: Segment, dedupe: Dedupe) -> int:
    """Scan the last segment, cut off its torn tail, sync what is left, and return its size."""

    def visit(head: Head) -> None:
        dedupe.add((head.messageId,), int(head.receivedAt.timestamp()))

    with active.path.open("r+b") as file:
        length = file.seek(0, os.SEEK_END)
        start = dedupe.covered - active.base
        if start < 0 or (start and not ends_with_event(active.path, start)):
            # the index was built again, or knows of what the log has lost
            dedupe.forget_segment()
            start = 0
        elif not start:  # all ids are of earlier segments, also when a kill came before `_open_next` could say so
            dedupe.segment_start = dedupe.committed
        size, bad = scan(active.path, start, visit)
        if size < length:
            file.truncate(size)
            _log.warning("torn tail of the journal cut off", segment=active.path.name, bytes=length - size, end=size)
        os.fsync(file.fileno())  # what was written, but not synced when a kill came, is acknowledged from here on
    if bad:
        _log.error("the journal holds lines that are no events", segment=active.path.name, lines=bad)
    return size
