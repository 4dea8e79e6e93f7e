"""Runs replays: each is a delivery actor of its own, beside its destination's, with its own outbox, cursor and rate.

- A job that runs when the daemon stops, or dies, goes on at the next start.
- Live events have precedence: a replay reads no further and sends nothing new while its destination's live actor is
  behind, has a quarter of its concurrency, and shares its limit of requests.
- What the replay's events come to is counted in its outbox, apart from the destination's figures.
"""

import math
import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import random

import msgspec
import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from relayd.config import model
from relayd.delivery.actor import Actor
from relayd.delivery.attempt import Sender
from relayd.delivery.eligibility import Eligibility
from relayd.delivery.file_transport import FileTransport
from relayd.delivery.function_transport import FunctionTransport
from relayd.delivery.outbox import Counters, Outbox, read_counters
from relayd.delivery.removal import Gone, Running, remove_from
from relayd.delivery.transport import Transport
from relayd.destinations import get
from relayd.destinations.subscription import compile_subscriptions
from relayd.journal.log import Journal
from relayd.privacy.person import People, Removal
from relayd.privacy.suppressed import NOBODY, Users
from relayd.replay.formats import FILE, ArchiveReader, Bad, NoArchive, files_of
from relayd.replay.job import Job, Spec, State, Store, UnknownReplay
from relayd.replay.scan import JournalLines, Lines, Scan, share, span

_log = structlog.get_logger(__name__)

_MOST_PENDING = 20_000
"""Events that wait in a replay's outbox before it reads on."""
_LOOK = 0.1
_USUAL_SWITCH, _SWITCH = 0.005, 0.0005
"""Seconds after which a thread that computes gives way: a replay reads in one, and each live answer awaits its turn
several times. The first is Python's default; switching costs some throughput."""
_PATIENCE = 5.0
"""Seconds for which a pause waits for what is in flight; after that it ends by itself."""
_FIRST_RESTART, _LONGEST_RESTART = 1.0, 60.0
_DELETED = "(deleted)"
"""What a replay's criteria have for a user who was deleted since."""
_BAD_LINES = 100_000
"""Bad lines that are written down; more are only counted."""


class Refused(Exception):
    """A replay that can not be started or changed as asked; the text says why, and what to do."""


class ReplayStatus(Struct):
    """A replay in ``relayd replay list --json``. Counters are exact, also after kill -9.

    ``received = sum(filtered) + matched`` and ``deliveries = delivered + pending + sum(failed)``, as of a destination.
    """

    id: str
    destination: str
    state: str
    created: float
    ended: float | None
    share: float
    """How much of the log was read, 0 to 1."""
    scanned: int
    """Events looked at."""
    bad_lines: int
    received: int
    """Events that fit the criteria."""
    filtered: dict[str, int]
    matched: int
    deliveries: int
    delivered: int
    pending: int
    failed: dict[str, int]
    spec: Spec


def check(spec: Spec, config: model.Config) -> None:
    """Raise `Refused` unless the destination takes replays."""
    name = spec.destination
    destination = config.destinations.get(name)
    if destination is None:
        names = ", ".join(config.destinations) or "none is configured"
        raise Refused(f'there is no destination "{name}"; the destinations are: {names}')
    if not get(destination.type).cloud:
        raise Refused(f"{name} is only in device-mode: pages and apps send it their events, so none can be replayed")


class Replays:
    """All replays of a daemon. Keep `run` running."""

    def __init__(
        self,
        config: model.Config,
        journal: Journal,
        folder: Path,
        *,
        live: Callable[[str], Actor | None],
        redact: Callable[[str], str],
        suppressed: Users = NOBODY,
    ) -> None:
        """``live`` gives a destination's own actor, if it runs. ``suppressed`` are users who are not replayed."""
        self._config = config
        self._journal = journal
        self._store = Store(folder)
        self._live = live
        self._redact = redact
        self._suppressed = suppressed
        self._running: dict[str, _Running] = {}
        self._jobs: dict[str, Job] = {}
        self._kept: set[str] = set()
        """Jobs that `_keep_running` has in hand."""
        self._nursery: trio.Nursery | None = None
        self._starting, self._saving = trio.Lock(), trio.Lock()
        self._at_rest: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)
        """Held for each job while its outbox is opened, or is changed though the job does not run."""
        self._stopping = trio.Event()

    def prepare(self) -> None:
        """Read the jobs of earlier runs. Blocks."""
        self._jobs = dict(self._store.all())

    def floor(self) -> float:
        """The least cursor of a replay that reads the journal: what the journal must keep; infinite without one."""
        jobs = [each for each in list(self._jobs.values()) if each.state in ("running", "paused")]  # for any thread
        return min((self._cursor(each) for each in jobs if each.reads_journal), default=math.inf)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the jobs until `stop`, then until what is in flight has ended. Cancelled, it puts that back."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for job in self._jobs.values():
                if job.state == "running":
                    if job.spec.destination in self._config.destinations:
                        self._begin(job.id)
                    else:
                        _log.error("replay's destination is gone; it waits", replay=job.id, name=job.spec.destination)
            task_status.started()
            await self._stopping.wait()

    def stop(self) -> None:
        """Let the jobs finish what is in flight; they go on at the next start."""
        self._stopping.set()
        for each in self._running.values():
            each.stop()

    # -- what users do ------------------------------------------------------------------------------------------

    async def start(self, spec: Spec, *, again: bool = False) -> Job:
        """Begin a replay. Raises `Refused`."""
        check(spec, self._config)
        async with self._starting:
            for each in self._jobs.values():
                if each.spec.essence == spec.essence and each.state != "cancelled" and not again:
                    raise Refused(f"replay {each.id} is the same and is {each.state}; use --again to do it once more")
            try:
                job = await trio.to_thread.run_sync(self._create, spec)
            except (NoArchive, OSError) as error:
                raise Refused(str(error)) from None
            self._jobs[job.id] = job
        self._begin(job.id)
        return job

    async def pause(self, id: str) -> None:  # noqa: A002  it is one
        """Stop for a while; what is in flight ends. Raises `UnknownReplay` or `Refused`."""
        await self._change(id, ("running",), "paused")

    async def resume(self, id: str) -> None:  # noqa: A002
        """Go on. Raises `UnknownReplay` or `Refused`."""
        check(self._job(id).spec, self._config)
        await self._change(id, ("paused",), "running")
        self._begin(id)

    async def cancel(self, id: str) -> None:  # noqa: A002
        """Stop for good; what was not sent is not sent. Raises `UnknownReplay` or `Refused`."""
        await self._change(id, ("running", "paused"), "cancelled")

    async def status(self, id: str | None = None) -> list[ReplayStatus]:  # noqa: A002
        """One or all. Raises `UnknownReplay`."""
        jobs = list(self._jobs.values()) if id is None else [self._job(id)]
        return [await trio.to_thread.run_sync(self._status, job) for job in jobs]

    async def remove(self, removal: Removal, people: People) -> int:
        """Remove deliveries from the replays' outboxes, and return how many; no job names these users any more.

        Raises ``OSError`` or ``sqlite3.Error``.
        """
        removed = 0
        for job in list(self._jobs.values()):
            path = self._outbox_path(job)
            if path.exists():
                removed += await remove_from(
                    path, removal, actor=partial(self._actor, job.id), at_rest=self._at_rest[job.id]
                )
            job = self._jobs[job.id]  # as it is now
            if job.spec.criteria.user in people.users | people.anonymous:
                criteria = replace(job.spec.criteria, user=_DELETED)
                await self._save(replace(job, spec=replace(job.spec, criteria=criteria)))
            await trio.to_thread.run_sync(_strike, self._store.folder(job.id) / "bad-lines.jsonl", people)
        return removed

    def _actor(self, id: str) -> Running | None:  # noqa: A002
        """What removes from a job's outbox while it runs."""
        running = self._running.get(id)
        return None if running is None else running.actor or _Starting()

    # -- how they run -------------------------------------------------------------------------------------------

    def _job(self, id: str) -> Job:  # noqa: A002
        try:
            return self._jobs[id]
        except KeyError:
            raise UnknownReplay(id) from None

    async def _change(self, id: str, was: tuple[State, ...], becomes: State) -> None:  # noqa: A002
        job = self._job(id)
        if job.state not in was:
            raise Refused(f"replay {id} is {job.state}")
        await self._save(replace(job, state=becomes, ended=time.time() if becomes == "cancelled" else None))
        running = self._running.get(id)
        if running is not None and becomes != "running":
            running.stop()
            with trio.move_on_after(_PATIENCE):
                await running.ended.wait()

    async def _save(self, job: Job) -> None:
        self._jobs[job.id] = job
        async with self._saving:
            await trio.to_thread.run_sync(self._store.save, self._jobs[job.id])

    def _create(self, spec: Spec) -> Job:
        if spec.archive is None:
            start, end = span(self._journal.folders, self._journal.head, spec.criteria)
            return self._store.create(spec, now=time.time(), start=start, end=end)
        files = files_of(Path(spec.archive))
        return self._store.create(spec, now=time.time(), start=0, end=len(files) * FILE, files=files)

    def _cursor(self, job: Job) -> int:
        """How far its events are in its outbox, as far as that is known without looking."""
        running = self._running.get(job.id)
        return job.start if running is None else running.cursor

    def _begin(self, id: str) -> None:  # noqa: A002
        """Have a job run, if not now then once `run` does."""
        if self._nursery is not None and not self._stopping.is_set():
            self._nursery.start_soon(self._keep_running, id)

    async def _keep_running(self, id: str) -> None:  # noqa: A002
        if id in self._kept:
            return  # paused, and resumed before what was in flight has ended
        self._kept.add(id)
        sys.setswitchinterval(_SWITCH)
        try:
            await self._run_again_and_again(id)
        finally:
            self._kept.discard(id)
            if not self._kept:
                sys.setswitchinterval(_USUAL_SWITCH)

    async def _run_again_and_again(self, id: str) -> None:  # noqa: A002
        wait = _FIRST_RESTART
        while self._may_run(id):
            running = self._running[id] = _Running(self._jobs[id].start)
            try:
                await self._run(self._jobs[id], running)
            except* Exception:  # whatever an actor raises is its own affair
                _log.exception("replay crashed; it is started again", replay=id, seconds=wait)
                with trio.move_on_after(wait):
                    await self._stopping.wait()
                wait = min(wait * 2, _LONGEST_RESTART)
            finally:
                del self._running[id]
                running.ended.set()

    def _may_run(self, id: str) -> bool:  # noqa: A002
        return self._jobs[id].state == "running" and not self._stopping.is_set()

    async def _run(self, job: Job, running: "_Running") -> None:
        async with self._at_rest[job.id]:
            outbox = running.outbox = await trio.to_thread.run_sync(_open_outbox, self._outbox_path(job), job.start)
        try:
            bad = await trio.to_thread.run_sync(_BadLines, self._store.folder(job.id) / "bad-lines.jsonl")
            lines = running.lines = await trio.to_thread.run_sync(self._lines, job, outbox.cursor or 0, bad.add)
            await self._deliver(job, running, outbox, lines)
        finally:
            outbox.close()

    async def _deliver(self, job: Job, running: "_Running", outbox: Outbox, lines: Lines) -> None:
        name, config = job.spec.destination, self._config.destinations[job.spec.destination]
        quarter = 1 if get(config.type).serial else max(config.delivery.concurrency // 4, 1)
        config = replace(config, enabled=True, sources=None, delivery=replace(config.delivery, concurrency=quarter))
        assert isinstance(config.settings, model.Section), "the loader checks settings against the type"
        subscriptions = compile_subscriptions(get(config.type), config.settings, config.subscriptions, config.delivery)

        def has_room() -> bool:
            live = self._live(name)
            return outbox.pending < _MOST_PENDING and not (live is not None and live.is_behind)

        scan = Scan(lines, job.spec.criteria, name, has_room=has_room)
        http = Transport(max_connections=quarter, connect_timeout=math.inf)
        functions = FunctionTransport(name)
        senders: Mapping[str, Sender] = {"http": http, "https": http, "file": FileTransport(), "function": functions}
        async with http, functions:
            actor = running.actor = Actor(
                name,
                config,
                eligibility=Eligibility.of(
                    name,
                    config,
                    subscriptions,
                    sources=self._config.sources,
                    random=random,
                    suppressed=self._suppressed,
                ),
                subscriptions=subscriptions,
                outbox=outbox,
                reader=scan,
                log=scan,
                senders=senders,
                redact=self._redact,
                event_rate=job.spec.rate,
                live=lambda: self._live(name),
            )
            if not self._may_run(job.id):
                actor.stop()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(actor.run)
                while not actor.stopping:
                    if scan.finished and not outbox.pending and self._may_run(job.id):
                        actor.stop()
                        await self._save(replace(self._jobs[job.id], state="finished", ended=time.time()))
                        _log.info("replay finished", replay=job.id, delivered=outbox.count("delivered"))
                        break
                    await trio.sleep(_LOOK)

    def _lines(self, job: Job, cursor: int, report: Callable[[Bad], None]) -> Lines:
        if job.reads_journal:
            return JournalLines(self._journal.folders, job.start, job.end, offset=cursor, report=report)
        files = self._store.files(job.id)
        return ArchiveReader(files, cursor, source=job.spec.criteria.source, report=report)

    def _outbox_path(self, job: Job) -> Path:
        return self._store.folder(job.id) / "outbox.sqlite3"

    def _status(self, job: Job) -> ReplayStatus:
        running = self._running.get(job.id)
        outbox: Counters | None = running.outbox if running else None
        if outbox is None:
            try:
                outbox = read_counters(self._outbox_path(job))
            except sqlite3.DatabaseError as error:
                _log.error("replay's outbox can not be read", replay=job.id, error=str(error))
                outbox = Counters({})
        return ReplayStatus(
            id=job.id,
            destination=job.spec.destination,
            state=job.state,
            created=job.created,
            ended=job.ended,
            share=self._share(job, running, outbox.cursor or job.start),
            scanned=outbox.count("scanned"),
            bad_lines=outbox.count("bad_lines"),
            received=outbox.count("received"),
            filtered=outbox.totals("filtered"),
            matched=outbox.count("matched"),
            deliveries=outbox.count("deliveries"),
            delivered=outbox.count("delivered"),
            pending=outbox.pending,
            failed=outbox.totals("failed"),
            spec=job.spec,
        )

    def _share(self, job: Job, running: "_Running | None", cursor: int) -> float:
        if job.state == "finished":
            return 1.0
        lines = running.lines if running else None
        return share(job.start, cursor, job.end) if lines is None else lines.share


class _Running:
    """What a job has while it runs."""

    def __init__(self, start: int) -> None:
        self.outbox: Outbox | None = None
        self.lines: Lines | None = None
        self.actor: Actor | None = None
        self.ended = trio.Event()
        self._start = start

    @property
    def cursor(self) -> int:
        """How far its events are in its outbox."""
        return self._start if self.outbox is None or self.outbox.cursor is None else self.outbox.cursor

    def stop(self) -> None:
        if self.actor is not None:
            self.actor.stop()


class _BadLines:
    """The file in which a job writes down what is no event. A crash can leave some there twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = _BAD_LINES - (path.read_bytes().count(b"\n") if path.exists() else 0)

    def add(self, bad: Bad) -> None:
        if self._left > 0:
            self._left -= 1
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(bad._asdict()) + b"\n")


def _strike(path: Path, people: People) -> None:
    """Take the lines out that name these users. What a job adds meanwhile can be lost. Blocks."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept = [line for line in lines if not people.named(line)]
    if len(kept) < len(lines):
        temporary = path.with_suffix(".new")
        temporary.write_bytes(b"".join(kept))
        temporary.replace(path)


class _Starting:
    """Stands for the actor of a job that is about to have one."""

    async def remove(self, removal: Removal) -> int:
        raise Gone


def _open_outbox(path: Path, start: int) -> Outbox:
    outbox = Outbox(path)
    if outbox.cursor is None:
        outbox.start_at(start)
    return outbox
