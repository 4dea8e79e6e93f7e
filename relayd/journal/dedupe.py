"""Which messageIds were seen within the window: exact, bounded, and there at once after a restart.

Guarantees
- No false positive: ids are compared by 128-bit digest under a secret seed (for a million ids, one false match in
  10^26 windows).
- The last ``max_ids`` ids or those of the last ``window`` seconds, whichever are fewer, are known.
- Memory and disk are about 30 bytes for each of ``max_ids``, allotted when the file is made.
- An id counts only once its event is in the journal: `add` is provisional until `commit`, and `rollback` takes it
  back. After a crash, what was not committed is forgotten, and the journal adds again what lies behind ``covered``.

On disk: one file, mapped into memory. A header of 64-bit cells, the time of each id (u32 Unix seconds), a hash table of
slots (u32: an id's position + 1), and the ring of digests (16 bytes each), oldest overwritten first. The hash table is
open addressed with linear probing, at most half full, and closes its gaps on removal.

How it fails: after a power cut parts of the file may be older than others. The header names the boot that wrote it;
in another boot, unless it was closed cleanly, the table is built again from the ring (about a second a million ids),
without the ids of the journal's active segment, which the journal adds again.
A file that is none is replaced, with a warning: duplicates within the window then pass, no event is lost.
"""

import mmap
import os
import secrets
from array import array
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from struct import Struct

import structlog
from xxhash import xxh3_128_digest

_log = structlog.get_logger(__name__)

_MAGIC = int.from_bytes(b"relayds3", "little")
_CELLS = 11
_KIND, _MAX_IDS, _SEED, _COVERED, _SEGMENT, _FIRST, _COMMITTED, _NEXT, _CLEAN, _BOOT, _BOOT_2 = range(_CELLS)
"""The header's cells. Ids are numbered in the order they came; id n is at position n modulo max_ids."""
_HEADER = mmap.PAGESIZE
_halves = Struct("=QQ").unpack
_DIGEST = 16


def _boot_id() -> tuple[int, int]:
    """The same until the machine boots again."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    return int(text[:16], 16), int(text[16:], 16)


class Dedupe:
    """The ids seen, oldest first. Used by one task at a time; only `flush` may run in a thread beside it.

    ``covered`` is the journal's offset up to which its ids are known to be here, 0 when nothing is known.
    """

    def __init__(self, path: Path, *, max_ids: int, window: float) -> None:
        self._path = path
        self._max_ids = max_ids
        self._window = int(window)
        self._mask = _slots(max_ids) - 1
        earlier = _read(path)
        if earlier is None or earlier[_MAX_IDS] != max_ids or not (earlier[_CLEAN] or earlier[_BOOT:] == _boot_id()):
            self._create(earlier)
            self.covered = 0
        else:
            self._map()
            self._first, self._committed, self._next = earlier[_FIRST : _NEXT + 1]
            self.covered = earlier[_COVERED]
            self.rollback()
        self._header[_CLEAN] = 0
        self._header[_BOOT], self._header[_BOOT_2] = _boot_id()

    def add(self, message_ids: Sequence[str], now: int) -> list[bool]:
        """Remember the ids, provisionally; for each, whether it is new. ``now`` is in Unix seconds."""
        if len(message_ids) == 1:
            low, high = _halves(xxh3_128_digest(message_ids[0].encode(), self._seed))
            return [self._insert(low, high, now)]
        digests = b"".join(map(xxh3_128_digest, map(str.encode, message_ids), repeat(self._seed)))
        halves = memoryview(digests).cast("Q").tolist()
        pairs = list(zip(halves[::2], halves[1::2], strict=True))
        count = self._append(digests, pairs, now) if self._has_room(len(pairs)) else 0
        return [True] * count + [self._insert(low, high, now) for low, high in pairs[count:]]

    def mark(self) -> int:
        """How far ids were added; for `commit`."""
        return self._next

    @property
    def committed(self) -> int:
        """The `mark` of the last commit."""
        return self._committed

    def commit(self, mark: int, covered: int) -> None:
        """What was added before ``mark`` is in the journal, which reaches to offset ``covered``, and stays."""
        self._committed = self._header[_COMMITTED] = max(mark, self._first)
        self.covered = self._header[_COVERED] = covered

    def rollback(self) -> None:
        """Forget what was added since the last commit: its events did not reach the journal."""
        while self._next > self._committed:
            self._remove((self._next - 1) % self._max_ids)
            self._next = self._header[_NEXT] = self._next - 1

    @property
    def segment_start(self) -> int:
        """The `mark` at which the journal's active segment began; what came since belongs to it."""
        return self._header[_SEGMENT]

    @segment_start.setter
    def segment_start(self, mark: int) -> None:
        self._header[_SEGMENT] = mark

    def forget_segment(self) -> None:
        """Forget the ids of the journal's active segment; those whose events it still has are to be added again.

        A power cut can cost the journal what ``fsync = "interval"`` had not yet synced, and leave the ids here.
        """
        self._committed = self._header[_COMMITTED] = max(min(self._committed, self.segment_start), self._first)
        self.rollback()

    def expire(self, now: int) -> None:
        """Forget what is older than the window. ``now`` is in Unix seconds."""
        horizon = now - self._window
        while self._first < self._committed and self._times[self._first % self._max_ids] < horizon:
            self._evict()

    def flush(self) -> None:
        """Write what was committed to the disk, and leave it to the page cache. Blocks."""
        self._file.flush()
        self._file.madvise(mmap.MADV_DONTNEED)  # of a shared mapping: the pages come back when they are touched

    def close(self) -> None:
        """Flush and unmap; what is not committed is taken back."""
        self.rollback()
        self._header[_CLEAN] = 1
        self._file.flush()
        for view in (self._header, self._times, self._slots, self._ring, self._view):
            view.release()
        self._file.close()

    def __len__(self) -> int:
        return self._next - self._first

    def _has_room(self, count: int) -> bool:
        """Whether so many ids fit into the ring in one piece, and none has to go for them."""
        return self._next - self._first + count <= self._max_ids and self._next % self._max_ids + count <= self._max_ids

    def _append(self, digests: bytes, pairs: Sequence[tuple[int, int]], seconds: int) -> int:
        """Remember ids up to the first that is known; how many that are. There has to be room for all."""
        slots, ring, mask, start = self._slots, self._ring, self._mask, self._next
        position, count = start % self._max_ids, len(pairs)
        ring[2 * position : 2 * (position + count)] = memoryview(digests).cast("Q")
        self._times[position : position + count] = memoryview(array("I", [seconds]) * count)
        # before the slots, so that a crash leaves nothing that rollback does not see
        self._next = self._header[_NEXT] = start + count
        for number, (low, high) in enumerate(pairs):
            slot = low & mask
            while occupant := slots[slot]:
                known = 2 * occupant - 2
                if ring[known] == low and ring[known + 1] == high and self._is_live(occupant - 1, start + number):
                    self._next = self._header[_NEXT] = start + number
                    return number
                slot = (slot + 1) & mask
            slots[slot] = position + number + 1
        return count

    def _insert(self, low: int, high: int, seconds: int) -> bool:
        """Remember an id; whether it is new."""
        slots, ring, mask, max_ids = self._slots, self._ring, self._mask, self._max_ids
        slot = low & mask
        while occupant := slots[slot]:
            known = 2 * occupant - 2
            if ring[known] == low and ring[known + 1] == high and self._is_live(occupant - 1, self._next):
                return False
            slot = (slot + 1) & mask
        if self._next - self._first == max_ids:
            self._evict()
            slot = low & mask  # closing the evicted id's gap may have opened a nearer slot, or filled this one
            while slots[slot]:
                slot = (slot + 1) & mask
        position = self._next % max_ids
        self._next = self._header[_NEXT] = self._next + 1  # before the slot, as above
        ring[2 * position], ring[2 * position + 1] = low, high
        self._times[position] = seconds
        slots[slot] = position + 1
        return True

    def _is_live(self, position: int, end: int) -> bool:
        """Whether one of the ids before number ``end`` is at ``position``.

        A kill while a gap was closed can leave a slot that leads to an id which is gone.
        """
        return (position - self._first) % self._max_ids < end - self._first

    def _evict(self) -> None:
        self._remove(self._first % self._max_ids)
        self._first = self._header[_FIRST] = self._first + 1
        self._committed = max(self._committed, self._first)

    def _remove(self, position: int) -> None:
        """Empty the slot of the id at ``position``, and move up those that linear probing put behind it."""
        slots, ring, mask = self._slots, self._ring, self._mask
        gap = ring[2 * position] & mask
        while slots[gap] != position + 1:
            if not slots[gap]:
                return  # a crash came before its slot was written, or after it was emptied
            gap = (gap + 1) & mask
        slot = gap
        while occupant := slots[slot := (slot + 1) & mask]:
            if (slot - ring[2 * occupant - 2]) & mask >= (slot - gap) & mask:
                slots[gap] = occupant
                gap = slot
        slots[gap] = 0

    def _create(self, earlier: tuple[int, ...] | None) -> None:
        """A new file, with what the earlier one's ring holds. Raises ``OSError`` when there is no room for it."""
        entries = [] if earlier is None else list(_entries(self._path, earlier))
        temporary = self._path.with_suffix(".new")
        with temporary.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _offsets(self._max_ids)[2] + self._max_ids * _DIGEST)
            # allotted now, since writing to a mapped hole ends the process when the disk is full
        temporary.replace(self._path)
        self._map()
        self._seed = self._header[_SEED] = secrets.randbits(64) if earlier is None else earlier[_SEED]
        self._header[_KIND], self._header[_MAX_IDS] = _MAGIC, self._max_ids
        self._first = self._committed = self._next = 0
        for low, high, seconds in entries:
            self._insert(low, high, seconds)
        self.commit(self._next, 0)
        self.segment_start = self._next  # the active segment's own ids were left out

    def _map(self) -> None:
        with self._path.open("r+b") as file:
            self._file = mmap.mmap(file.fileno(), 0)
        times, slots, ring = _offsets(self._max_ids)
        self._view = memoryview(self._file)
        self._header = self._view[: _CELLS * 8].cast("Q")
        self._times = self._view[times:slots].cast("I")
        self._slots = self._view[slots:ring].cast("I")
        self._ring = self._view[ring:].cast("Q")
        self._seed = self._header[_SEED]


def _slots(max_ids: int) -> int:
    return 1 << (2 * max_ids - 1).bit_length()


def _offsets(max_ids: int) -> tuple[int, int, int]:
    """Where the times, the slots and the ring begin, each at a multiple of eight bytes."""
    slots = _HEADER + 8 * ((max_ids + 1) // 2)
    return _HEADER, slots, slots + 4 * _slots(max_ids)


def _read(path: Path) -> tuple[int, ...] | None:
    """The header's cells of a file from an earlier run, if there is a whole one."""
    try:
        with path.open("rb") as file:
            cells = tuple(memoryview(file.read(_CELLS * 8).ljust(_CELLS * 8, b"\0")).cast("Q"))
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return None
    max_ids = cells[_MAX_IDS]
    if cells[_KIND] == _MAGIC and size == _offsets(max_ids)[2] + max_ids * _DIGEST:
        return cells
    _log.warning("the dedupe file is damaged; duplicates of earlier events may pass", path=str(path), bytes=size)
    return None


def _entries(path: Path, cells: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Digests, in halves, and times of the ids in a file, oldest first, but those of the journal's active segment."""
    max_ids = cells[_MAX_IDS]
    data = memoryview(path.read_bytes())
    times_at, slots_at, ring_at = _offsets(max_ids)
    times, ring = data[times_at:slots_at].cast("I"), data[ring_at:].cast("Q")
    for number in range(cells[_FIRST], min(cells[_COMMITTED], cells[_SEGMENT])):
        at = number % max_ids
        yield ring[2 * at], ring[2 * at + 1], times[at]
