"""What came in from each source: received, rejected by code, duplicates.

``received`` is exact, also after kill -9: it is saved together with the journal offset that it counts up to, and what
the journal has behind that is counted again at the start. ``rejected`` and ``duplicates`` leave no trace in the
journal; a kill can cost the last second of them.

They are kept in ``relayd.sqlite3``, table ``sources`` (name, counter, value); the offset has the name "" there.
"""

import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
import sqlite_utils
import structlog
import trio

from relayd.event import decode_head
from relayd.journal.log import Journal
from relayd.journal.reader import Reader

_log = structlog.get_logger(__name__)

_SAVE_EVERY = 1.0
_OFFSET = ("", "offset")
_RECEIVED, _DUPLICATES, _REJECTED = "received", "duplicates", "rejected:"


class Accounts:
    """The sources' counters; "" is the source of requests whose write key no source has."""

    def __init__(self, path: Path) -> None:
        """Open or make the database at ``path``. Raises ``sqlite3.Error``."""
        self.rejected: dict[str, Counter[str]] = {}
        self.duplicates: Counter[str] = Counter()
        self.lock = threading.Lock()
        """Held while the connection is used, which others may share: there is one that writes the file."""
        self._database = sqlite_utils.Database(sqlite3.connect(path, check_same_thread=False))
        self._database.enable_wal()
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._table = self._database.table("sources", pk=("name", "counter"))
        self._table.create({"name": str, "counter": str, "value": int}, pk=("name", "counter"), if_not_exists=True)
        self._saved = {(row["name"], row["counter"]): row["value"] for row in self._table.rows}

    @property
    def connection(self) -> sqlite3.Connection:
        """The database's; see ``lock``."""
        connection: sqlite3.Connection = self._database.conn
        return connection

    @property
    def offset(self) -> int:
        """The journal's offset up to which what was last saved counts."""
        return int(self._saved.get(_OFFSET, 0))

    def attach(self, journal: Journal) -> None:
        """Put the numbers of earlier runs where they are counted on. Blocks; reads what the last save did not see."""
        self._journal = journal
        for (name, counter), value in self._saved.items():
            if counter == _RECEIVED:
                journal.received[name] = value
            elif counter == _DUPLICATES:
                self.duplicates[name] = value
            elif counter.startswith(_REJECTED):
                self.rejected.setdefault(name, Counter())[counter.removeprefix(_REJECTED)] = value
        reader = Reader(journal.folders, self.offset)
        while (chunk := reader.read(journal.head)) is not None:
            for line in chunk.data.splitlines():
                try:
                    source = decode_head(line).projectId
                except msgspec.DecodeError:
                    continue
                journal.received[source] = journal.received.get(source, 0) + 1
        reader.close()

    def reject(self, name: str, codes: Mapping[str, int]) -> None:
        """Count events that were answered 200 and not kept."""
        if codes:
            self.rejected.setdefault(name, Counter()).update(codes)

    async def save_forever(self) -> None:
        """Save every second what has changed, until cancelled."""
        while True:
            await trio.sleep(_SAVE_EVERY)
            try:
                await self.save()
            except sqlite3.OperationalError as error:
                _log.error("the sources' counters can not be saved; trying again", error=str(error))

    async def save(self) -> None:
        """Save what has changed. Raises ``sqlite3.Error``."""
        values = {(name, _RECEIVED): count for name, count in self._journal.received.items()}
        values |= {(name, _DUPLICATES): count for name, count in self.duplicates.items() if count}
        for name, codes in self.rejected.items():
            values |= {(name, _REJECTED + code): count for code, count in codes.items()}
        values[_OFFSET] = self._journal.written
        changed = {key: value for key, value in values.items() if self._saved.get(key) != value}
        if changed:
            await trio.to_thread.run_sync(self._write, changed)
            self._saved |= changed

    def _write(self, values: dict[tuple[str, str], int]) -> None:
        with self.lock:
            self._table.upsert_all(
                {"name": name, "counter": counter, "value": value} for (name, counter), value in values.items()
            )

    def close(self) -> None:
        """Close the database."""
        self._database.close()
