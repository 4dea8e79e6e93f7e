"""The daemon: what starts, in which order, and how it drains.

Start: the state directory is locked, the journal repaired and opened, then the delivery actors, the admin socket, and
last the listener, so that nothing is accepted before it can be kept.

Stop (SIGTERM, SIGINT): the listener takes no more requests and answers those it has; the actors finish what is in
flight, or put it back when ``drain_timeout`` is over; the journal syncs and closes.
"""

import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import structlog
import trio
from msgspec import Struct

from relayd import __version__
from relayd.admin.api import Api
from relayd.config import address
from relayd.config.load import Loaded
from relayd.delivery.resolver import Resolver
from relayd.delivery.supervisor import DestinationStatus, Supervisor, highest_cursor
from relayd.journal.dedupe import Dedupe
from relayd.journal.log import Journal, open_journal
from relayd.journal.segment import Folders
from relayd.listener.accounts import Accounts
from relayd.listener.http import Limits, Server, open_listeners
from relayd.listener.tracking import Tracking
from relayd.logs import redactor

_log = structlog.get_logger(__name__)


class JournalStatus(Struct):
    """The journal in ``relayd status --json``. ``head`` is an offset; ``events`` and ``commits`` are totals."""

    head: int
    bytes: int
    segments: int
    commits: int
    events: int
    refusing: str | None
    """Why events are refused at the moment."""


class SourceStatus(Struct):
    """A source in ``relayd status --json``: events in the journal, and those that are not, by code."""

    received: int
    rejected: Mapping[str, int]
    duplicates: int


class ListenerStatus(Struct):
    """The listener: ``rejected`` counts events under write keys that no source has, ``refused`` whole requests."""

    connections: int
    requests: int
    refused: Mapping[str, int]
    rejected: Mapping[str, int]


class Status(Struct):
    """``relayd status --json``, and GET /status of the admin API."""

    version: str
    state: Literal["running", "draining"]
    uptime_s: float
    state_dir: str
    journal: JournalStatus
    listener: ListenerStatus
    sources: dict[str, SourceStatus]
    destinations: dict[str, DestinationStatus]


class InUse(Exception):
    """Another daemon runs on the state directory; the text says which."""


def lock(state_dir: Path) -> BinaryIO:
    """Make the state directory this process's own; it is while the file that is returned is open. Raises `InUse`."""
    state_dir.mkdir(parents=True, exist_ok=True)
    file = (state_dir / "relayd.lock").open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        pid = file.read().decode("ascii", "replace").strip()
        file.close()
        raise InUse(f"{state_dir} is in use by relayd process {pid}; stop it, or set another state_dir") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n".encode())
    file.flush()
    return file


class Daemon:
    """One running relay."""

    def __init__(self, loaded: Loaded) -> None:
        self._config = loaded.config
        self._redact = redactor(loaded.secrets)
        self._started = time.monotonic()
        self._draining = False

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until SIGTERM, SIGINT or cancellation. Reports the address it listens on.

        Raises `InUse`, ``relayd.listener.http.BindError``, or ``OSError`` when the state can not be opened.
        """
        config = self._config
        trio.socket.set_custom_hostname_resolver(Resolver())
        with lock(config.state_dir):
            async with self._journal() as journal, trio.open_nursery() as background:
                self._supervisor = Supervisor(
                    config.destinations, journal, config.state_dir / "outbox", redact=self._redact
                )
                await trio.to_thread.run_sync(self._supervisor.prepare)
                tracking = Tracking(journal, sources=config.sources, limits=config.listener, accounts=self._accounts)
                self._server = Server(tracking, Limits.of(config.listener))
                admin = Server(Api(self.status, token=config.admin.token), Limits(connections=64))
                admin_listeners = await open_listeners(self._admin_bind())
                listeners = await open_listeners(
                    config.listener.bind,
                    tls_certificate=config.listener.tls_certificate,
                    tls_key=config.listener.tls_key,
                )
                await background.start(admin.serve, admin_listeners)
                background.start_soon(self._drain_on_signal, background.cancel_scope)
                async with trio.open_nursery() as work:
                    work.start_soon(self._supervisor.run)
                    await work.start(self._server.serve, listeners)
                    _log.info("relayd is ready", bind=config.listener.bind, state_dir=config.daemon.state_dir)
                    task_status.started(config.listener.bind)
                background.cancel_scope.cancel()
        _log.info("relayd has stopped")

    def status(self) -> Status:
        """Everything ``relayd status`` shows."""
        journal, accounts, server = self._open_journal, self._accounts, self._server
        files, http = journal.statistics(), server.statistics()
        return Status(
            version=__version__,
            state="draining" if self._draining else "running",
            uptime_s=round(time.monotonic() - self._started, 1),
            state_dir=str(self._config.state_dir.absolute()),
            journal=JournalStatus(
                head=files.head,
                bytes=files.bytes,
                segments=files.segments,
                commits=files.commits,
                events=sum(journal.received.values()),
                refusing=files.refusing,
            ),
            listener=ListenerStatus(
                connections=http.connections,
                requests=http.requests,
                refused=http.refused,
                rejected=accounts.rejected.get("", {}),
            ),
            sources={
                name: SourceStatus(
                    received=journal.received.get(name, 0),
                    rejected=accounts.rejected.get(name, {}),
                    duplicates=accounts.duplicates[name],
                )
                for name in self._config.sources
            },
            destinations=self._supervisor.status(),
        )

    @asynccontextmanager
    async def _journal(self) -> AsyncIterator[Journal]:
        """The journal and the sources' accounts, open and running."""
        journal = await trio.to_thread.run_sync(self._open_state)
        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run)
            nursery.start_soon(self._accounts.save_forever)
            try:
                yield journal
            finally:
                with trio.CancelScope(shield=True):
                    await journal.close()
                    await self._accounts.save()
                    self._accounts.close()
                nursery.cancel_scope.cancel()

    def _open_state(self) -> Journal:
        config, state = self._config, self._config.state_dir
        folders = Folders(state / "journal", state / "archive")
        dedupe = Dedupe(state / "dedupe", max_ids=config.dedupe.max_ids, window=config.dedupe.window)
        self._accounts = Accounts(state / "relayd.sqlite3")
        journal = open_journal(
            folders,
            config.journal,
            dedupe,
            cursor=max(highest_cursor(state / "outbox"), self._accounts.offset),
            max_buffered=config.listener.max_buffered,
        )
        self._accounts.attach(journal)
        self._open_journal = journal
        return journal

    def _admin_bind(self) -> str:
        where = address.parse(self._config.admin.bind)
        if isinstance(where, address.Unix):
            return f"unix:{self._config.state_dir / where.path}"
        return self._config.admin.bind

    async def _drain_on_signal(self, everything: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                if self._draining:
                    break  # the second time means now
                self._draining = True
                _log.info("draining", signal=signal.Signals(number).name, seconds=self._config.daemon.drain_timeout)
                everything.deadline = trio.current_time() + self._config.daemon.drain_timeout
                self._server.drain()
                self._supervisor.stop()
        everything.cancel()
