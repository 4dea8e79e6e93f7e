"""What is kept about regulations in ``relayd.sqlite3``, and all the SQL for it.

    suppressed        who is suppressed: a digest of 128 bits (its key is beside it), a quick one of 63, and whether the
                      history is deleted too
    regulations       each request and how it stands; it stays
    subjects          whom it names: a digest, and until it is done the id itself
    deleted_messages  digests of the messageIds that a deletion in progress has found
    forwards          what the destinations said that were told
    privacy_keys      the secrets of the digests, made with the file

The digests are pseudonyms: who has this file can test whether a given id is among them, and can list none.

Everything blocks, and may raise ``sqlite3.Error``; nothing has changed then. The connection is shared with its owner,
who holds the same lock when writing.
"""

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from relayd.privacy.regulation import DELETES, SUPPRESSES, Regulation, Wanted
from relayd.privacy.suppressed import Keys

_SCHEMA = """
CREATE TABLE IF NOT EXISTS suppressed (
    digest BLOB PRIMARY KEY, quick INTEGER NOT NULL, deleted INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS regulations (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, status TEXT NOT NULL,
    created REAL NOT NULL, ended REAL,
    users INTEGER NOT NULL, with_anonymous INTEGER NOT NULL, forward INTEGER NOT NULL, share REAL NOT NULL,
    events INTEGER NOT NULL, deliveries INTEGER NOT NULL, failure TEXT,
    stage TEXT NOT NULL, until INTEGER, at INTEGER, done INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS subjects (
    regulation INTEGER, digest BLOB, kind TEXT NOT NULL, id TEXT, PRIMARY KEY (regulation, kind, digest)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS subjects_digests ON subjects (digest);
CREATE TABLE IF NOT EXISTS deleted_messages (digest INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS forwards (
    regulation INTEGER, destination TEXT, outcome TEXT NOT NULL, PRIMARY KEY (regulation, destination)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS privacy_keys (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = (
    "id, type, status, created, ended, users, with_anonymous, forward, share, events, deliveries, failure,"
    " number, stage, until, at, done"
)
OUTBOXES, HISTORY, SCRUB, ENDED = "outboxes", "history", "scrub", "ended"
"""The stages of a regulation: `SCRUB` is that its traces in the database go."""


class Entry(Struct):
    """A regulation, and what is known of it besides."""

    regulation: Regulation
    number: int
    """In the order in which they came."""
    stage: str
    until: int | None
    """The log's offset before which a deletion deletes, where a segment begins; None before that is known."""
    at: int | None
    """When that was, in Unix milliseconds."""
    done: int
    """The log's offset up to which it has deleted."""


class Store:
    """The regulations."""

    def __init__(self, database: sqlite3.Connection, lock: threading.Lock) -> None:
        """Makes the tables. ``lock`` is held while the connection is used."""
        self._database = database
        self._lock = lock
        with lock:
            database.execute("PRAGMA secure_delete = ON")
            database.executescript(_SCHEMA)
        made = [("seed", secrets.token_bytes(8)), ("key", secrets.token_bytes(32))]
        self._write(lambda run: [run("INSERT OR IGNORE INTO privacy_keys VALUES (?, ?)", each) for each in made])
        found = dict(self._read("SELECT name, value FROM privacy_keys"))
        self.keys = Keys(int.from_bytes(found["seed"], "little"), found["key"])

    def quick_digests(self) -> list[int]:
        """Those of all suppressed users."""
        return [row[0] for row in self._read("SELECT quick FROM suppressed")]

    def create(self, wanted: Wanted, now: float) -> Regulation:
        """Keep a new regulation; whom it suppresses, or suppresses no more, is so from here on."""
        regulation = Regulation(
            id=secrets.token_hex(6),
            type=wanted.type,
            status="INITIALIZED",
            created=now,
            users=len(set(wanted.user_ids)),
            with_anonymous=wanted.with_anonymous,
            forward=wanted.forward,
        )
        users = [(self.keys.strong(each), each) for each in set(wanted.user_ids)]
        deletes = wanted.type in DELETES
        # what a regulation takes out of an outbox that was not suppressed is left to the deletion itself
        stage = OUTBOXES if wanted.type in SUPPRESSES else HISTORY if deletes else SCRUB

        def insert(run: Callable[..., sqlite3.Cursor]) -> None:
            run(
                "INSERT INTO regulations (id, type, status, created, users, with_anonymous, forward, share, events,"
                " deliveries, stage, done) VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0, ?, 0)",
                (regulation.id, wanted.type, regulation.status, now, regulation.users, wanted.with_anonymous,
                 wanted.forward, stage),
            )  # fmt: skip
            number = run("SELECT last_insert_rowid()").fetchone()[0]
            for strong, user in users:
                run("INSERT INTO subjects VALUES (?, ?, 'user', ?)", (number, strong, user))
                if wanted.type in SUPPRESSES:
                    run(
                        "INSERT INTO suppressed VALUES (?, ?, ?)"
                        " ON CONFLICT (digest) DO UPDATE SET deleted = max(deleted, excluded.deleted)",
                        (strong, self.keys.quick(user), deletes),
                    )
                elif wanted.type == "UNSUPPRESS":
                    run("DELETE FROM suppressed WHERE digest = ?", (strong,))

        self._write(insert)
        return regulation

    def unfinished(self) -> list[Entry]:
        """Those that are not finished or failed, the oldest first."""
        return self._entries("WHERE stage != 'ended' ORDER BY number", ())

    def entry(self, regulation_id: str) -> Entry | None:
        """One by its id."""
        found = self._entries("WHERE id = ?", (regulation_id,))
        return found[0] if found else None

    def newest(self, limit: int) -> list[Entry]:
        """The last ones, the newest first."""
        return self._entries("ORDER BY number DESC LIMIT ?", (limit,))

    def naming(self, user_id: str) -> list[Entry]:
        """Those that name a user, the newest first."""
        return self._entries(
            "WHERE number IN (SELECT regulation FROM subjects WHERE digest = ?) ORDER BY number DESC",
            (self.keys.strong(user_id),),
        )

    def is_suppressed(self, user_id: str) -> bool:
        """Whether a user is."""
        return bool(self._read("SELECT 1 FROM suppressed WHERE digest = ?", (self.keys.strong(user_id),)))

    def ids(self, entries: Iterable[Entry], kind: str) -> set[str]:
        """The ids that regulations name, which are not done: of the kind "user" or "anonymous"."""
        return {
            row[0]
            for each in entries
            for row in self._read(
                "SELECT id FROM subjects WHERE regulation = ? AND kind = ? AND id IS NOT NULL", (each.number, kind)
            )
        }

    def add_anonymous(self, entries: Iterable[Entry], anonymous_ids: Iterable[str]) -> None:
        """These go too."""
        rows = [(each.number, self.keys.strong(id_), id_) for each in entries for id_ in anonymous_ids]
        self._write(
            lambda run: [run("INSERT OR IGNORE INTO subjects VALUES (?, ?, 'anonymous', ?)", row) for row in rows]
        )

    def set(self, entries: Sequence[Entry], **values: object) -> None:
        """Set columns of regulations."""
        assignments = ", ".join(f"{name} = ?" for name in values)
        rows = [(*values.values(), each.number) for each in entries]
        self._write(lambda run: [run(f"UPDATE regulations SET {assignments} WHERE number = ?", row) for row in rows])

    def add(self, entries: Sequence[Entry], *, events: int = 0, deliveries: int = 0) -> None:
        """Count what was deleted, or removed. What several regulations do together counts for each of them."""
        rows = [(events, deliveries, each.number) for each in entries]
        sql = "UPDATE regulations SET events = events + ?, deliveries = deliveries + ? WHERE number = ?"
        self._write(lambda run: [run(sql, row) for row in rows])

    def note_messages(self, digests: Iterable[int]) -> None:
        """The messageIds of these digests are about to be deleted."""
        rows = [(each,) for each in digests]
        self._write(lambda run: [run("INSERT OR IGNORE INTO deleted_messages VALUES (?)", row) for row in rows])

    def messages(self) -> list[int]:
        """The digests that were noted."""
        return [row[0] for row in self._read("SELECT digest FROM deleted_messages")]

    def forwarded(self, entry: Entry) -> dict[str, str]:
        """What each destination that is to be told has come to: "pending", "done", or why it failed."""
        return dict(self._read("SELECT destination, outcome FROM forwards WHERE regulation = ?", (entry.number,)))

    def set_forwarded(self, entry: Entry, destination: str, outcome: str) -> None:
        """What a destination has come to."""
        self._write(
            lambda run: run("INSERT OR REPLACE INTO forwards VALUES (?, ?, ?)", (entry.number, destination, outcome))
        )

    def forget(self, entries: Sequence[Entry]) -> None:
        """The ids go; the next stage is `SCRUB`."""

        def forget(run: Callable[..., sqlite3.Cursor]) -> None:
            for each in entries:
                run("UPDATE subjects SET id = NULL WHERE regulation = ?", (each.number,))
                run("UPDATE regulations SET stage = ? WHERE number = ?", (SCRUB, each.number))

        self._write(forget)

    def forget_messages(self) -> None:
        """The digests that were noted go."""
        self._write(lambda run: run("DELETE FROM deleted_messages"))

    def scrub(self, *, whole: bool) -> bool:
        """Leave nothing in the files of the ids that went; False when someone else reads them, so that it is to be
        tried again.

        SQLite overwrites what is deleted (``secure_delete``), so that only the write-ahead log has it still. With
        ``whole`` the file is written anew besides.
        """
        with self._lock:
            if whole:
                self._database.execute("VACUUM")
            busy: int = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return not busy

    def _entries(self, where: str, values: tuple[object, ...]) -> list[Entry]:
        return [_entry(row) for row in self._read(f"SELECT {_COLUMNS} FROM regulations {where}", values)]

    def _read(self, sql: str, values: tuple[object, ...] = ()) -> list[Any]:
        with self._lock:
            return self._database.execute(sql, values).fetchall()

    def _write(self, work: Callable[[Callable[..., sqlite3.Cursor]], object]) -> None:
        with self._lock, self._database:
            work(self._database.execute)


def _entry(row: tuple[Any, ...]) -> Entry:
    (id_, kind, status, created, ended, users, anonymous, forward, share, events, deliveries, failure, *rest) = row
    regulation = Regulation(
        id=id_,
        type=kind,
        status=status,
        created=created,
        ended=ended,
        users=users,
        with_anonymous=bool(anonymous),
        forward=bool(forward),
        share=share,
        events=events,
        deliveries=deliveries,
        failure=failure,
    )
    return Entry(regulation, *rest)
