"""Requests that a source function could not take yet, kept for another try.

They are kept as they came, in ``functions.sqlite3``, table ``requests``: their own file, since one connection writes it
and syncs each commit, as the app that sent a request was told 200. A request that was tried often enough is held: it
stays in the table with no ``due``, with its reason, until somebody looks (any SQLite tool may, while relayd runs), and
``UPDATE requests SET due = 0, tries = 0 WHERE id = ...`` tries it again when relayd starts next.

Bounded: above `MAX_REQUESTS` or `MAX_BYTES` nothing more is kept, and the app is told to come again. The oldest that
are held go first. The file holds headers and bodies, so it is its owner's alone.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

import msgspec
import sqlite_utils
import trio
from msgspec import Struct

from relayd.functions.protocol import RawRequest

MAX_REQUESTS = 10_000
MAX_BYTES = 256 * 2**20

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RawRequest).decode


class Full(Exception):
    """No more requests can be kept."""


class Kept(Struct, frozen=True):
    """One that is kept."""

    source: str
    request: RawRequest
    tries: int
    wait: float
    """Seconds that it waits since the last try."""
    due: float
    """Unix seconds."""
    reason: str


class Counts(Struct):
    """The requests of one source."""

    pending: int = 0
    """To be tried again."""
    held: int = 0
    """Tried often enough, and kept for somebody to look at."""


class Retries:
    """The requests that are kept. All methods but those of the status block in a thread of their own."""

    def __init__(self, path: Path) -> None:
        """Open or make the database at ``path``. Blocks. Raises ``sqlite3.Error``."""
        path.touch(mode=0o600)
        self._database = sqlite_utils.Database(sqlite3.connect(path, check_same_thread=False))
        self._database.enable_wal()
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA secure_delete = ON")
        self._table = self._database.table("requests", pk="id")
        columns = {
            "id": str,
            "source": str,
            "request": bytes,
            "tries": int,
            "wait": float,
            "due": float,
            "reason": str,
            "size": int,
        }
        self._table.create(columns, pk="id", if_not_exists=True)
        self._table.create_index(["source", "due"], if_not_exists=True)
        self._thread = trio.CapacityLimiter(1)
        self.counts: dict[str, Counts] = {}
        """By source."""
        self._bytes = 0
        self._count()

    @property
    def pending(self) -> int:
        """Requests that will be tried again."""
        return sum(each.pending for each in self.counts.values())

    @property
    def held(self) -> int:
        """Requests that will not."""
        return sum(each.held for each in self.counts.values())

    async def put(self, kept: Kept) -> None:
        """Keep a request, or how its latest try ended. Raises `Full`, or ``sqlite3.Error``."""
        await trio.to_thread.run_sync(self._put, kept, True, limiter=self._thread)

    async def hold(self, kept: Kept) -> None:
        """Keep a request that is not tried again. Raises ``sqlite3.Error``."""
        await trio.to_thread.run_sync(self._put, kept, False, limiter=self._thread)

    async def forget(self, id_: str) -> None:
        """Let go of a request. Raises ``sqlite3.Error``."""
        await trio.to_thread.run_sync(self._forget, id_, limiter=self._thread)

    async def next_due(self, source: str) -> Kept | None:
        """The source's request whose turn is next. Raises ``sqlite3.Error``."""
        return await trio.to_thread.run_sync(self._next_due, source, limiter=self._thread)

    async def erase(self, texts: Iterable[str]) -> int:
        """Let go of every request that has one of the texts in it (such as a userId), and leave no trace of them.

        Says how many there were. Raises ``sqlite3.Error``.
        """
        return await trio.to_thread.run_sync(self._erase, list(texts), limiter=self._thread)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _put(self, kept: Kept, again: bool) -> None:
        request = _encode(kept.request)
        known = self._table.count_where("id = ?", [kept.request.id])
        if not known and (self.pending + self.held >= MAX_REQUESTS or self._bytes + len(request) > MAX_BYTES):
            self._make_room(len(request))
        row = {
            "id": kept.request.id,
            "source": kept.source,
            "request": request,
            "tries": kept.tries,
            "wait": kept.wait,
            "due": kept.due if again else None,
            "reason": kept.reason,
            "size": len(request),
        }
        self._table.upsert(row)
        self._count()

    def _make_room(self, size: int) -> None:
        """Let go of the oldest that are held. Raises `Full` if that is not enough."""
        held = list(self._table.rows_where("due IS NULL", order_by="rowid", limit=100, select="id, size"))
        room = sum(row["size"] for row in held) + MAX_BYTES - self._bytes
        if not held or room < size:
            raise Full(f"{self.pending} requests wait to be tried again already")
        self._table.delete_where(f"id IN ({', '.join('?' * len(held))})", [row["id"] for row in held])

    def _forget(self, id_: str) -> None:
        self._table.delete_where("id = ?", [id_])
        self._count()

    def _erase(self, texts: list[str]) -> int:
        before = self.pending + self.held
        for text in texts:
            self._table.delete_where("instr(request, ?) > 0", [text.encode()])
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._count()
        return before - self.pending - self.held

    def _next_due(self, source: str) -> Kept | None:
        due = self._table.rows_where("source = ? AND due IS NOT NULL", [source], order_by="due", limit=1)
        row = next(iter(due), None)
        if row is None:
            return None
        return Kept(row["source"], _decode(row["request"]), row["tries"], row["wait"], row["due"], row["reason"])

    def _count(self) -> None:
        query = "SELECT source, count(due), count(*) - count(due), sum(size) FROM requests GROUP BY source"
        rows = self._database.execute(query).fetchall()
        self.counts = {source: Counts(pending, held) for source, pending, held, _ in rows}
        self._bytes = sum(size for *_, size in rows)
