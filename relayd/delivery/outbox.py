"""The outbox: one SQLite file per destination with all that waits or is held, its counters, and its journal cursor.

Guarantees
- `take_in` inserts what it read from the journal and moves the cursor in one transaction: journal to outbox is exactly
  once. After a power cut the file may fall back a few transactions (``synchronous=NORMAL``), never to half of one.
- `record` applies what attempts came to, counters included, in one transaction. So the counters always agree with the
  rows: ``deliveries = delivered + failed + rows of deliveries``.
- Ids are never used twice and grow with the journal's order.

Tables (open the file with any SQLite tool, read-only)
    deliveries     what is pending. ``due`` is NULL until the first attempt has failed; then Unix milliseconds, or
                   `BEHIND` while an earlier event of the same user is not settled (``ordering = "user"``)
    dead_letters   what is held, and why
                   both: ``payload`` is the event, filtered but not mapped; ``subscription`` is NULL for the identity
    counters       totals since the file was made, ``cursor`` (the journal offset read up to), and the latency histogram

Failed deliveries have indexes of their own, so that the common row (inserted, delivered, deleted) maintains none.
One connection, one thread at a time. Times are Unix milliseconds. Any call may raise ``sqlite3.Error`` (a full disk,
say); nothing has changed then, and it can be called again.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import sqlite_utils
from msgspec import Struct

from relayd.delivery.eligibility import Selection
from relayd.delivery.outcome import EXPIRED

BEHIND = 2**62
"""The ``due`` of a delivery that waits for an earlier one of its user."""

_SCHEMA = """
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY, message_id TEXT NOT NULL, user_key TEXT, received INTEGER NOT NULL,
    queued INTEGER NOT NULL, payload BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, first_attempt INTEGER,
    due INTEGER, reason TEXT, detail TEXT, subscription TEXT
);
CREATE INDEX retries ON deliveries (due) WHERE due IS NOT NULL;
CREATE INDEX windows ON deliveries (first_attempt) WHERE first_attempt IS NOT NULL;
CREATE INDEX users ON deliveries (user_key, id) WHERE user_key IS NOT NULL;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY, message_id TEXT NOT NULL, user_key TEXT, received INTEGER NOT NULL,
    payload BLOB NOT NULL, attempts INTEGER NOT NULL, first_attempt INTEGER, failed INTEGER NOT NULL,
    reason TEXT NOT NULL, detail TEXT, subscription TEXT
);
CREATE INDEX reasons ON dead_letters (reason, failed);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_VERSION = 2
_UPGRADES = {
    1: "ALTER TABLE deliveries ADD COLUMN subscription TEXT; ALTER TABLE dead_letters ADD COLUMN subscription TEXT;"
}
"""What brings a file of an earlier version to the next one."""
_COLUMNS = "id, message_id, user_key, received, payload, attempts, first_attempt, subscription"
_NO_COUNTS: Mapping[str, int] = {}
_CURSOR, _LOADED = "cursor", "loaded"
_REMOVE_AT_ONCE = 5000


class Delivery(Struct):
    """A row of ``deliveries``, as far as an attempt needs it. Times in Unix milliseconds."""

    id: int
    message_id: str
    user_key: str | None
    received: int
    payload: bytes
    attempts: int = 0
    first_attempt: int | None = None
    subscription: str | None = None
    """By its name; None for the identity."""


class Retry(Struct, frozen=True):
    """An attempt failed: the delivery is due again at ``due``."""

    delivery: Delivery
    attempts: int
    first_attempt: int
    due: int
    reason: str
    detail: str


class Hold(Struct, frozen=True):
    """The delivery becomes a dead letter."""

    delivery: Delivery
    attempts: int
    first_attempt: int
    failed: int
    reason: str
    detail: str


class Results(Struct):
    """What a number of attempts came to, recorded together."""

    delivered: list[Delivery]
    retries: list[Retry]
    holds: list[Hold]
    behind: list[Delivery]
    """Not attempted: they wait for an earlier one of their user, which failed."""
    counts: dict[str, int]
    """What to add to the counters."""


class Stored(Struct, frozen=True):
    """What an outbox has of an event, for a person. Times in Unix milliseconds."""

    delivery: Delivery
    held: bool
    """Whether it is a dead letter; else it is pending."""
    at: int | None
    """When it was held, or when it is due again; None where it awaits its first attempt, or an event before it."""
    reason: str | None
    detail: str | None


class Counters:
    """What an outbox has counted since it was made. Any thread may look, also while they change."""

    def __init__(self, counters: dict[str, int]) -> None:
        self.counters = counters

    def count(self, name: str) -> int:
        """A counter; 0 when it was never counted."""
        return self.counters.get(name, 0)

    def totals(self, prefix: str) -> dict[str, int]:
        """The counters ``PREFIX:NAME`` by their names."""
        start = prefix + ":"
        return {name[len(start) :]: value for name, value in list(self.counters.items()) if name.startswith(start)}

    @property
    def cursor(self) -> int | None:
        """The journal offset up to which events were taken in; None before the first."""
        return self.counters.get(_CURSOR)

    @property
    def pending(self) -> int:
        """Deliveries that are not settled."""
        return self.count("deliveries") - self.count("delivered") - self.count("failed")

    @property
    def size(self) -> int:
        """Rows in the file: what is pending and what is held."""
        return self.pending + self.count("failed") - self.count("removed")


class Outbox(Counters):
    """One destination's outbox. Everything blocks: call it from a thread."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it. Raises ``sqlite3.DatabaseError`` for a file that is no outbox of this version."""
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._execute = self._database.execute
        version = self._execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise sqlite3.DatabaseError(f"{path} was made by another version of relayd (outbox format {version})")
        if version == 0:
            self._execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._execute("PRAGMA journal_mode = WAL")
        self._execute("PRAGMA synchronous = NORMAL")
        self._execute("PRAGMA journal_size_limit = 16777216")
        if version == 0:
            self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        while 0 < version < _VERSION:
            self._database.executescript(f"BEGIN; {_UPGRADES[version]} PRAGMA user_version = {version + 1}; COMMIT;")
            version += 1
        rows = sqlite_utils.Database(self._database)["counters"].rows
        super().__init__({row["name"]: row["value"] for row in rows})

    def close(self) -> None:
        """Close the file; its write-ahead log is folded in."""
        self._database.close()

    def start_at(self, offset: int) -> None:
        """Set the cursor of a new outbox."""
        self._transact(lambda: None, {}, {_CURSOR: offset})

    def take_in(
        self, selection: Selection, cursor: int, now: int, counts: Mapping[str, int] = _NO_COUNTS
    ) -> list[Delivery]:
        """Store what the journal gave, move the cursor to ``cursor``, and return the new deliveries.

        ``counts`` are added to the counters in the same transaction.
        """
        first = self.count("deliveries") + 1
        new = [
            Delivery(
                first + place,
                match.message_id,
                match.user_key,
                match.received,
                match.payload,
                subscription=match.subscription,
            )
            for place, match in enumerate(selection.matches)
        ]
        counts = dict(counts) | {f"filtered:{reason}": count for reason, count in selection.filtered.items()}
        counts["received"] = selection.received
        counts["matched"] = selection.matched
        counts["deliveries"] = len(new)
        self._transact(
            lambda: self._database.executemany(
                "INSERT INTO deliveries (id, message_id, user_key, received, queued, payload, subscription)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (each.id, each.message_id, each.user_key, each.received, now, each.payload, each.subscription)
                    for each in new
                ],
            ),
            counts,
            {_CURSOR: cursor},
        )
        return new

    @property
    def loaded(self) -> int:
        """The id up to which no delivery awaits its first attempt, as last recorded."""
        return self.count(_LOADED)

    def load_new(self, after: int, limit: int, size: int) -> list[Delivery]:
        """Deliveries that await their first attempt, with ids above ``after``, in order.

        At most ``limit`` of them and about ``size`` bytes of payload. What stands behind an unsettled event of its
        user is marked so, and left out.
        """
        while True:
            rows = self._execute(
                f"SELECT {_COLUMNS}, user_key IS NOT NULL AND EXISTS (SELECT 1 FROM deliveries e WHERE"
                " e.user_key = d.user_key AND e.id < d.id AND e.due IS NOT NULL)"
                " FROM deliveries d WHERE id > ? AND due IS NULL ORDER BY id LIMIT ?",
                (after, limit),
            )
            loaded, behind = [], []
            for row in rows:
                if row[-1]:
                    behind.append(row[0])
                    continue
                loaded.append(Delivery(*row[:-1]))
                size -= len(row[4])
                if size <= 0:
                    break
            rows.close()
            if behind:
                self._transact(partial(self._move_behind, behind), {}, {})
            if loaded or not behind:
                return loaded

    def load_due(self, now: int, limit: int, size: int, without: Collection[int]) -> list[Delivery]:
        """Failed deliveries that are due, longest due first, ``without`` those ids; bounded as in `load_new`."""
        rows = self._execute(
            f"SELECT {_COLUMNS} FROM deliveries WHERE due <= ? ORDER BY due, id LIMIT ?",
            (now, limit + len(without)),
        )
        loaded = []
        for row in islice((row for row in rows if row[0] not in without), limit):
            loaded.append(Delivery(*row))
            size -= len(row[4])
            if size <= 0:
                break
        rows.close()
        return loaded

    def next_due(self, after: int) -> int | None:
        """The earliest due time later than ``after``."""
        row = self._execute("SELECT min(due) FROM deliveries WHERE due > ? AND due < ?", (after, BEHIND)).fetchone()
        due: int | None = row[0]
        return due

    def record(self, results: Results, loaded: int) -> int:
        """Apply ``results``; ``loaded`` becomes the id of that name. Returns how many stood behind and are due now."""
        moved_up = 0

        def apply() -> None:
            nonlocal moved_up
            settled = [each.id for each in results.delivered] + [each.delivery.id for each in results.holds]
            if results.holds:
                self._database.executemany(
                    "INSERT INTO dead_letters SELECT id, message_id, user_key, received, payload, ?, ?, ?, ?, ?,"
                    " subscription FROM deliveries WHERE id = ?",
                    [
                        (each.attempts, each.first_attempt, each.failed, each.reason, each.detail, each.delivery.id)
                        for each in results.holds
                    ],
                )
            self._database.executemany("DELETE FROM deliveries WHERE id BETWEEN ? AND ?", ranges(settled))
            if results.retries:
                self._database.executemany(
                    "UPDATE deliveries SET attempts = ?, first_attempt = ?, due = ?, reason = ?, detail = ?"
                    " WHERE id = ?",
                    [
                        (each.attempts, each.first_attempt, each.due, each.reason, each.detail, each.delivery.id)
                        for each in results.retries
                    ],
                )
            if results.behind:
                self._move_behind([each.id for each in results.behind])
            users = {each.user_key for each in results.delivered} | {each.delivery.user_key for each in results.holds}
            moved_up = self._move_up(users - {None})

        self._transact(apply, results.counts, {_LOADED: loaded})
        return moved_up

    def expire(self, *, horizon: int, down_since: int, limit: int, without: Collection[int], now: int) -> int:
        """Turn deliveries whose window is over into dead letters, ``limit`` at most, and return how many.

        That is for a destination known to be down since ``down_since``. The window is over when it began before
        ``horizon``: at the first attempt, or for what was never attempted when it was queued or, if that is later,
        when the destination went down.
        """
        over = [
            row[0]
            for row in self._execute(
                "SELECT id FROM deliveries WHERE first_attempt < ? ORDER BY first_attempt LIMIT ?",
                (horizon, limit + len(without)),
            )
        ]
        if down_since < horizon:
            rows = self._execute(
                "SELECT id, queued FROM deliveries WHERE id > ? AND first_attempt IS NULL ORDER BY id LIMIT ?",
                (self.loaded, limit + len(without)),
            )
            over += [row[0] for row in rows if row[1] < horizon]
        over = [each for each in over if each not in without][:limit]
        if not over:
            return 0
        marks = ", ".join("?" * len(over))

        def apply() -> None:
            self._execute(
                "INSERT INTO dead_letters SELECT id, message_id, user_key, received, payload, attempts, first_attempt,"
                " ?, ?, coalesce(reason || ': ' || detail, 'the destination was down'), subscription"
                f" FROM deliveries WHERE id IN ({marks})",
                (now, EXPIRED, *over),
            )
            users = {row[0] for row in self._execute(f"SELECT user_key FROM deliveries WHERE id IN ({marks})", over)}
            self._execute(f"DELETE FROM deliveries WHERE id IN ({marks})", over)
            self._move_up(users - {None})

        self._transact(apply, {"failed": len(over), f"failed:{EXPIRED}": len(over)}, {})
        return len(over)

    def rows(self, table: str, after: int, limit: int) -> list[Delivery]:
        """What is pending (``deliveries``) or held (``dead_letters``), with ids above ``after``, in order."""
        found = self._execute(f"SELECT {_COLUMNS} FROM {table} WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [Delivery(*row) for row in found.fetchall()]

    def remove(self, ids: Iterable[int], reason: str) -> int:
        """Remove what is pending or held under these ids; returns how many rows that were.

        What was pending counts as failed for ``reason``, what was held for what it was held; ``removed`` counts those
        of the failed that have no row.
        """
        removed = 0
        wanted = [(each,) for each in ids]
        for start in range(0, len(wanted), _REMOVE_AT_ONCE):
            removed += self._remove(wanted[start : start + _REMOVE_AT_ONCE], reason)
        return removed

    def _remove(self, ids: Sequence[tuple[int]], reason: str) -> int:
        counts: dict[str, int] = {}

        def apply() -> None:
            users = {
                row[0] for each in ids for row in self._execute("SELECT user_key FROM deliveries WHERE id = ?", each)
            }
            pending = self._database.executemany("DELETE FROM deliveries WHERE id = ?", ids).rowcount
            held = self._database.executemany("DELETE FROM dead_letters WHERE id = ?", ids).rowcount
            counts.update({"failed": pending, f"failed:{reason}": pending, "removed": pending + held})
            self._move_up(users - {None})

        self._transact(apply, counts, {})
        return counts["removed"]

    def vacuum(self) -> None:
        """Write the file anew, without what rows that are gone left in it; `checkpoint` completes that."""
        self._execute("VACUUM")

    def checkpoint(self) -> bool:
        """Empty the write-ahead log; False when someone else reads the file, so that it is to be tried again."""
        busy: int = self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return not busy

    def tidy(self) -> None:
        """Give pages that a drained backlog left free back to the file system, some at a time."""
        self._execute("PRAGMA incremental_vacuum(2000)").fetchall()

    def _move_behind(self, ids: Iterable[int]) -> None:
        self._database.executemany("UPDATE deliveries SET due = ? WHERE id = ?", [(BEHIND, each) for each in ids])

    def _move_up(self, users: Collection[str | None]) -> int:
        """What stands behind the settled deliveries of these users is due, the first of each; returns how many."""
        if not users:
            return 0
        return self._database.executemany(
            "UPDATE deliveries SET due = 0 WHERE due = ? AND id = (SELECT min(id) FROM deliveries WHERE user_key = ?)",
            [(BEHIND, user) for user in users],
        ).rowcount

    def _transact(self, apply: Callable[[], object], add: Mapping[str, int], put: Mapping[str, int]) -> None:
        """Run ``apply`` and change the counters in one transaction; those in memory follow only a commit.

        ``apply`` may put into ``add`` what it finds.
        """
        self._execute("BEGIN IMMEDIATE")
        try:
            apply()
            changed = {name: self.counters.get(name, 0) + count for name, count in add.items() if count} | dict(put)
            self._database.executemany("INSERT OR REPLACE INTO counters VALUES (?, ?)", changed.items())
            self._execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._execute("ROLLBACK")
            raise
        self.counters.update(changed)


def ranges(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive ids as inclusive ranges, which SQLite deletes three times as fast as one by one."""
    found: list[tuple[int, int]] = []
    for each in sorted(ids):
        if found and found[-1][1] == each - 1:
            found[-1] = (found[-1][0], each)
        else:
            found.append((each, each))
    return found


def read_cursor(path: Path) -> int | None:
    """The cursor in an outbox that nobody needs to have open; None when there is none."""
    if not path.exists():
        return None
    database = sqlite3.connect(path)  # not read-only: a log left by a crash has to be recovered first
    try:
        row = database.execute("SELECT value FROM counters WHERE name = ?", (_CURSOR,)).fetchone()
    except sqlite3.OperationalError:
        return None  # it was made, but never started
    finally:
        database.close()
    return None if row is None else int(row[0])


def read_counters(path: Path) -> Counters:
    """The counters of an outbox, read-only, whoever has it open; none while it is being made. Blocks.

    Raises ``sqlite3.Error`` for a file that is no outbox.
    """
    if not path.exists():
        return Counters({})
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        made = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'counters'").fetchone()
        return Counters(dict(database.execute("SELECT name, value FROM counters")) if made else {})
    finally:
        database.close()


def find(path: Path, message_id: str) -> list[Stored]:
    """All that an outbox has of an event, read-only: what is pending first. Blocks; scans the file.

    Raises ``sqlite3.Error`` for a file that can not be read as an outbox of this version.
    """
    if not path.exists():
        return []
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        rows = [
            (held, row)
            for held, table, at in (
                (False, "deliveries", "nullif(due, ?)"),
                (True, "dead_letters", "nullif(failed, ?)"),
            )
            for row in database.execute(
                f"SELECT {_COLUMNS}, {at}, reason, detail FROM {table} WHERE message_id = ? ORDER BY id",
                (BEHIND, message_id),
            )
        ]
    finally:
        database.close()
    return [Stored(Delivery(*row[:-3]), held, *row[-3:]) for held, row in rows]
