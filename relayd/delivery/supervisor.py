"""Keeps the delivery actors running: starts them, starts again what crashed, stops them within a deadline."""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from random import random
from typing import Literal

import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from relayd.config import model
from relayd.delivery.actor import Actor
from relayd.delivery.eligibility import Eligibility
from relayd.delivery.file_transport import FileTransport
from relayd.delivery.function_transport import FunctionTransport
from relayd.delivery.latency import percentile
from relayd.delivery.outbox import Outbox, read_cursor
from relayd.delivery.removal import remove_from
from relayd.delivery.transport import Transport
from relayd.destinations import get
from relayd.destinations.subscription import compile_subscriptions
from relayd.journal.log import Journal
from relayd.journal.reader import Reader, find_time
from relayd.privacy.person import Removal
from relayd.privacy.suppressed import NOBODY, Users

_log = structlog.get_logger(__name__)

_FIRST_RESTART, _LONGEST_RESTART = 1.0, 60.0
"""Seconds before a crashed actor is started again; doubled with each crash in a row."""
_STABLE = 300.0
"""Seconds without a crash after which the next one counts as the first."""

StateName = Literal["running", "paused", "backing_off", "crashed", "disabled"]


class DestinationStatus(Struct, omit_defaults=False):
    """One destination in ``relayd status --json``. Counters are totals since its outbox was made.

    ``received = sum(filtered) + matched`` and ``deliveries = delivered + pending + sum(failed)``.
    """

    state: StateName
    received: int
    filtered: dict[str, int]
    matched: int
    deliveries: int
    delivered: int
    pending: int
    in_flight: int
    failed: dict[str, int]
    first_attempts: dict[str, int]
    attempts: dict[str, int]
    deliverability: dict[str, float | None]
    """Shares of deliveries that succeeded at the first attempt, and in the end; None before there were any."""
    latency_s: dict[str, float | None]
    """Seconds from receipt to delivery."""
    last_failure: str | None
    """Why the last attempt failed; None when it succeeded."""
    cursor: int | None
    """The journal offset up to which events were taken in."""


class Supervisor:
    """All destinations of a configuration."""

    def __init__(
        self,
        destinations: Mapping[str, model.Destination],
        journal: Journal,
        folder: Path,
        *,
        sources: Mapping[str, model.Source],
        redact: Callable[[str], str],
        suppressed: Users = NOBODY,
    ) -> None:
        """``folder`` holds the outboxes. ``suppressed`` are users who get nothing delivered any more."""
        self._destinations = destinations
        self._journal = journal
        self._folder = folder
        self._sources = sources
        self._suppressed = suppressed
        self._redact = redact
        self._actors: dict[str, Actor] = {}
        self._outboxes: dict[str, Outbox] = {}
        self._at_rest: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)
        """Held for each destination while its outbox is open and no actor has it."""
        self._stopping = False

    def floor(self) -> int:
        """The least cursor of an enabled destination: what the journal must keep."""
        enabled = [name for name, config in self._destinations.items() if config.enabled and _is_fed(config)]
        cursors = [outbox.cursor for name, outbox in self._outboxes.items() if name in enabled]
        known = [cursor for cursor in cursors if cursor is not None]
        return min(known, default=self._journal.head) if len(known) == len(enabled) else 0

    def prepare(self) -> None:
        """Give each new destination its outbox and its place in the journal. Blocks.

        That comes before the first event is accepted, so that "latest" means the same however a first start ends.
        """
        for name, config in self._destinations.items():
            if _is_fed(config):
                try:
                    self._open(name, config).close()
                except sqlite3.DatabaseError as error:
                    _log.error("outbox can not be opened", destination=name, error=str(error))

    async def run(self) -> None:
        """Run all actors until all were stopped. Cancelled, it puts back what is in flight."""
        async with trio.open_nursery() as nursery:
            for name, config in self._destinations.items():
                if _is_fed(config):
                    nursery.start_soon(self._keep_running, name, config)

    def stop(self) -> None:
        """Let the actors finish what is in flight; `run` returns when they have."""
        self._stopping = True
        for actor in self._actors.values():
            actor.stop()

    def actor(self, name: str) -> Actor | None:
        """A destination's actor, while it runs."""
        return self._actors.get(name)

    async def remove(self, removal: Removal) -> int:
        """Remove deliveries from all outboxes, of destinations that are not configured any more too; how many.

        Raises ``sqlite3.Error``.
        """
        removed = 0
        for path in sorted(await trio.to_thread.run_sync(lambda: list(self._folder.glob("*.sqlite3")))):
            name = path.stem
            removed += await remove_from(
                path, removal, actor=lambda: self._actors.get(name), at_rest=self._at_rest[name]  # noqa: B023
            )  # fmt: skip
        return removed

    def status(self) -> dict[str, DestinationStatus]:
        """Every destination as it is now."""
        return {name: self._status(name, config) for name, config in self._destinations.items()}

    async def _keep_running(self, name: str, config: model.Destination) -> None:
        wait = _FIRST_RESTART
        while not self._stopping:
            started = trio.current_time()
            try:
                await self._run(name, config)
            except* Exception:  # whatever an actor raises is its own affair
                self._actors.pop(name, None)
                wait = _FIRST_RESTART if trio.current_time() - started > _STABLE else wait
                _log.exception("delivery actor crashed; it is started again", destination=name, seconds=wait)
            else:
                return
            await trio.sleep(wait)
            wait = min(wait * 2, _LONGEST_RESTART)

    async def _run(self, name: str, config: model.Destination) -> None:
        outbox = await trio.to_thread.run_sync(self._open, name, config)
        self._outboxes[name] = outbox
        destination = get(config.type)
        assert isinstance(config.settings, model.Section), "the loader checks settings against the type"
        subscriptions = compile_subscriptions(destination, config.settings, config.subscriptions, config.delivery)
        if destination.serial:
            config = replace(config, delivery=replace(config.delivery, concurrency=1))
        http = Transport(max_connections=config.delivery.concurrency, connect_timeout=math.inf)
        async with http, FunctionTransport(name) as functions:
            async with self._at_rest[name]:
                outbox = self._outboxes[name] = await trio.to_thread.run_sync(self._open, name, config)
                actor = self._actors[name] = Actor(
                    name,
                    config,
                    eligibility=Eligibility.of(
                        name,
                        config,
                        subscriptions,
                        sources=self._sources,
                        random=random,
                        disabled=not config.enabled,
                        suppressed=self._suppressed,
                    ),
                    subscriptions=subscriptions,
                    outbox=outbox,
                    reader=Reader(self._journal.folders, outbox.cursor or 0),
                    log=self._journal,
                    senders={"http": http, "https": http, "file": FileTransport(), "function": functions},
                    redact=self._redact,
                )
            if self._stopping:
                actor.stop()
            await actor.run()

    def _open(self, name: str, config: model.Destination) -> Outbox:
        self._folder.mkdir(parents=True, exist_ok=True)
        outbox = Outbox(outbox_path(self._folder, name))
        if outbox.cursor is None:
            outbox.start_at(self._start(config.start))
        return outbox

    def _start(self, start: str) -> int:
        """The offset that a new destination's ``start`` means."""
        if start == "latest":
            return self._journal.head
        if start == "earliest":
            return 0
        moment = datetime.fromisoformat(start)
        return find_time(self._journal.folders, self._journal.head, moment)

    def _status(self, name: str, config: model.Destination) -> DestinationStatus:
        outbox, actor = self._outboxes.get(name), self._actors.get(name)
        state: StateName
        if not config.enabled or not _is_fed(config):
            state = "disabled"
        elif actor is None:
            state = "crashed"
        else:
            state = "backing_off" if actor.backing_off else "running"
        count: Callable[[str], int] = outbox.count if outbox else lambda name: 0
        totals: Callable[[str], dict[str, int]] = outbox.totals if outbox else lambda name: {}
        buckets = {int(place): value for place, value in totals("latency").items()}
        first = {"ok": count("first_attempts:ok"), "failed": count("first_attempts:failed")}
        return DestinationStatus(
            state=state,
            received=count("received"),
            filtered=totals("filtered"),
            matched=count("matched"),
            deliveries=count("deliveries"),
            delivered=count("delivered"),
            pending=outbox.pending if outbox else 0,
            in_flight=actor.in_flight if actor else 0,
            failed=totals("failed"),
            first_attempts=first,
            attempts={"ok": count("attempts:ok"), "failed": count("attempts:failed")},
            deliverability={
                "first_attempt": _share(first["ok"], sum(first.values())),
                "final": _share(count("delivered"), count("delivered") + count("failed")),
            },
            latency_s={f"p{share}": percentile(buckets, share / 100) for share in (50, 95, 99)},
            last_failure=actor.last_failure if actor else None,
            cursor=outbox.cursor if outbox else None,
        )


def _is_fed(config: model.Destination) -> bool:
    """Whether it has an actor and an outbox: it is not of a kind that only devices talk to.

    What a disabled one has counts the events that pass it by, and keeps what waits.
    """
    return get(config.type).cloud


def outbox_path(folder: Path, name: str) -> Path:
    """Where a destination's outbox is."""
    return folder / f"{name}.sqlite3"


def highest_cursor(folder: Path) -> int:
    """The highest cursor of any outbox: the journal never gives out an offset before it. Blocks."""
    cursors = []
    for path in folder.glob("*.sqlite3"):
        try:
            cursors.append(read_cursor(path) or 0)
        except sqlite3.DatabaseError as error:
            _log.error("an outbox can not be read", path=str(path), error=str(error))
    return max(cursors, default=0)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
