"""The daemon: what starts, in which order, and how it drains.

Start: the state directory is locked, the journal repaired and opened, then the delivery actors, the admin socket, and
last the listener, so that nothing is accepted before it can be kept. Sockets that systemd passes are listened on in
place of ``listener.bind``; what connects to them while no relayd runs waits for the next.

Stop (SIGTERM, SIGINT): the listener takes no more requests and answers those it has; the actors finish what is in
flight, or put it back when ``drain_timeout`` is over; the journal syncs and closes.
"""

import fcntl
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from relayd import __version__
from relayd.admin.api import Api
from relayd.config import address, model
from relayd.config.load import Loaded
from relayd.delivery.forwarding import Forwarding
from relayd.delivery.resolver import Resolver
from relayd.delivery.supervisor import DestinationStatus, Supervisor, highest_cursor
from relayd.journal.copy import CopyStatus, copies, least
from relayd.journal.dedupe import Dedupe
from relayd.journal.log import Journal, open_journal
from relayd.journal.segment import Folders
from relayd.listener.accounts import Accounts
from relayd.listener.functions import Functions
from relayd.listener.http import Limits, Server, names, open_listeners, passed_listeners
from relayd.listener.retries import Counts, Retries
from relayd.listener.tracking import Tracking
from relayd.listener.webhooks import Webhooks, with_webhooks
from relayd.logs import redactor, tell_left_out
from relayd.privacy.person import People
from relayd.privacy.runner import Parts, Privacy
from relayd.privacy.store import Store
from relayd.privacy.suppressed import Deleted, Suppressed
from relayd.replay.runner import Replays
from relayd.sources.function import MAX_BODY
from relayd.systemd import Manager

_log = structlog.get_logger(__name__)

_NOBODY = Manager()
_CLOSING = 20
"""Seconds that the journal and the outboxes may take to close, when all else is done."""

MAX_ADMIN_BODY = 8 * 2**20
"""Bytes of a request to the admin API: 5,000 ids of users and more."""


class JournalStatus(Struct):
    """The journal in ``relayd status --json``. ``head`` is an offset; ``events`` and ``commits`` are totals.

    ``bytes`` are those of journal and archive on the disk, the archive's second layout included.
    """

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


class FunctionStatus(Struct):
    """A source function in ``relayd status --json``: requests that it is to take later, and that it never took."""

    pending: int
    held: int


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
    copies: dict[str, CopyStatus]
    """Further copies of the archive, by name."""
    listener: ListenerStatus
    sources: dict[str, SourceStatus]
    functions: dict[str, FunctionStatus]
    destinations: dict[str, DestinationStatus]


def figures(status: Status) -> str:
    """A status in one line, as ``systemctl status`` shows it."""
    destinations = status.destinations
    held = sum(sum(each.failed.values()) for each in destinations.values())
    parts = [
        f"{status.journal.events:,} events of {len(status.sources)} sources",
        f"{len(destinations)} destinations: {sum(each.delivered for each in destinations.values()):,} delivered",
        f"{sum(each.pending for each in destinations.values()):,} pending",
        f"{held:,} held",
    ]
    ailing = [f"{name} {each.state}" for name, each in destinations.items() if each.state in ("backing_off", "crashed")]
    ailing += [f"events are refused: {status.journal.refusing}"] if status.journal.refusing else []
    return ", ".join(parts) + (f" ({'; '.join(ailing)})" if ailing else "")


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

    def __init__(self, loaded: Loaded, manager: Manager = _NOBODY) -> None:
        """``manager`` is told how it goes, and its sockets are listened on."""
        self._manager = manager
        self._config = loaded.config
        self._redact = redactor(loaded.secrets)
        self._started = time.monotonic()
        self._draining = False
        self._retries: Retries | None = None

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until SIGTERM, SIGINT or cancellation. Reports the address it listens on.

        Raises `InUse`, ``relayd.listener.http.BindError``, or ``OSError`` when the state can not be opened.
        """
        config = self._config
        trio.socket.set_custom_hostname_resolver(Resolver())
        gc.freeze()  # what start-up made stays; and events are no cycles, so that looking for some is mostly in vain
        gc.set_threshold(50_000, 20, 50)
        with lock(config.state_dir):
            async with self._journal() as journal, trio.open_nursery() as background:
                self._supervisor = Supervisor(
                    config.destinations,
                    journal,
                    config.state_dir / "outbox",
                    sources=config.sources,
                    redact=self._redact,
                    suppressed=self._suppressed,
                )
                await trio.to_thread.run_sync(self._supervisor.prepare)
                self._replays = Replays(
                    config,
                    journal,
                    config.state_dir / "replays",
                    live=self._supervisor.actor,
                    redact=self._redact,
                    suppressed=Deleted(self._suppressed),
                )
                await trio.to_thread.run_sync(self._replays.prepare)
                journal.floor = lambda: min(self._supervisor.floor(), self._replays.floor())
                tracking = Tracking(
                    journal,
                    sources=config.sources,
                    destinations=config.destinations,
                    limits=config.listener,
                    accounts=self._accounts,
                    suppressed=self._suppressed,
                )
                functions = self._functions = await self._start_functions(tracking, background)
                self._server = self._listener(tracking, functions)
                privacy = self._privacy(journal)
                api = Api(self.status, self._replays, privacy, token=config.admin.token)
                admin = Server(api, Limits(connections=64, body=MAX_ADMIN_BODY))
                admin_listeners = await open_listeners(self._admin_bind())
                listeners = await self._listeners()
                await background.start(admin.serve, admin_listeners)
                background.start_soon(tell_left_out)
                background.start_soon(self._drain_on_signal, background.cancel_scope)
                for copy in self._copies:
                    background.start_soon(copy.run, journal.next_sealing)
                async with trio.open_nursery() as work:
                    work.start_soon(self._supervisor.run)
                    await work.start(self._replays.run)
                    background.start_soon(privacy.run)
                    await work.start(self._server.serve, listeners)
                    bind = ", ".join(names(listeners))
                    _log.info("relayd is ready", bind=bind, state_dir=config.daemon.state_dir)
                    self._manager.ready(figures(self.status()))
                    background.start_soon(self._manager.inform, lambda: figures(self.status()), self._progress)
                    task_status.started(bind)
                background.cancel_scope.cancel()
        _log.info("relayd has stopped")

    def _kept_requests(self) -> Mapping[str, Counts]:
        """What source functions are to take later, or never took."""
        if self._functions is None:
            return {}
        names = [name for name, each in self._config.sources.items() if each.type == "function"]
        return {name: self._functions.retries.counts.get(name, Counts()) for name in names}

    async def _start_functions(self, tracking: Tracking, nursery: trio.Nursery) -> Functions | None:
        """The source functions, running, if there are any."""
        sources = self._config.sources
        if not any(each.type == "function" for each in sources.values()):
            return None
        retries = self._retries = await trio.to_thread.run_sync(Retries, self._config.state_dir / "functions.sqlite3")
        functions = Functions(tracking, retries, sources=sources, accounts=self._accounts)
        nursery.start_soon(functions.run)
        return functions

    def _listener(self, tracking: Tracking, functions: Functions | None) -> Server:
        """What serves the SDKs and, where there are sources for them, webhooks."""
        sources, limits = self._config.sources, Limits.of(self._config.listener)
        if all(each.write_key for each in sources.values()):
            return Server(tracking, limits)
        webhooks = Webhooks(tracking, sources=sources, accounts=self._accounts, functions=functions)
        handler = with_webhooks(tracking, webhooks, max_body=limits.body)
        return Server(handler, replace(limits, body=max(limits.body, MAX_BODY)) if functions else limits)

    async def _listeners(self) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        """Those that systemd passed, else what ``bind`` says."""
        config = self._config.listener
        certificate, key = config.tls_certificate, config.tls_key
        if not self._manager.files:
            return await open_listeners(config.bind, tls_certificate=certificate, tls_key=key)
        passed = passed_listeners(self._manager.files, tls_certificate=certificate, tls_key=key)
        places = names(passed)
        if config.bind not in places and config.bind != model.Listener().bind:
            _log.warning("systemd's sockets are listened on, and not listener.bind", bind=config.bind, sockets=places)
        return passed

    async def _progress(self) -> None:
        """Return when the journal has committed what it has, or has said that the disk does not take it."""
        with suppress(OSError):
            await self._open_journal.settle()

    def _privacy(self, journal: Journal) -> Privacy:
        """The regulations, with all that holds users' events."""
        parts = Parts(
            remove=self._supervisor.remove,
            remove_from_replays=self._replays.remove,
            save_accounts=self._accounts.save,
            remove_elsewhere=self._remove_elsewhere,
        )
        forwarding = Forwarding(self._config.destinations, redact=self._redact)
        scratch = self._config.state_dir / "privacy"
        return Privacy(self._regulations, self._suppressed, journal, self._copies, parts, forwarding, scratch=scratch)

    async def _remove_elsewhere(self, people: People) -> None:
        """Requests that source functions are yet to take, if they name the users."""
        if self._retries is not None:
            await self._retries.erase(people.texts)

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
            copies={each.name: each.status() for each in self._copies},
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
            functions={name: FunctionStatus(each.pending, each.held) for name, each in self._kept_requests().items()},
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
                    self._suppressed.close()
                    self._accounts.close()
                nursery.cancel_scope.cancel()

    def _open_state(self) -> Journal:
        config, state = self._config, self._config.state_dir
        folders = Folders.of(state, config.archive.segment_logs_in)
        dedupe = Dedupe(state / "dedupe", max_ids=config.dedupe.max_ids, window=config.dedupe.window)
        self._accounts = Accounts(state / "relayd.sqlite3")
        self._regulations = Store(self._accounts.connection, self._accounts.lock)
        self._suppressed = Suppressed(
            state / "relayd.sqlite3", self._regulations.keys, self._regulations.quick_digests()
        )
        journal = open_journal(
            folders,
            config.journal,
            dedupe,
            cursor=max(highest_cursor(state / "outbox"), self._accounts.offset),
            max_buffered=config.listener.max_buffered,
        )
        self._copies = copies(config.archive, folders, state, redact=self._redact)
        journal.uncopied = lambda: least(self._copies)
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
                self._manager.stopping(self._config.daemon.drain_timeout + _CLOSING)
                _log.info("draining", signal=signal.Signals(number).name, seconds=self._config.daemon.drain_timeout)
                everything.deadline = trio.current_time() + self._config.daemon.drain_timeout
                self._server.drain()
                self._supervisor.stop()
                self._replays.stop()
        everything.cancel()
