"""The delivery actor: one destination's nursery, from its cursor in the journal to its last answer.

    intake    journal -> eligibility -> outbox, cursor and rows in one transaction
    pump      outbox -> memory, and as many senders as there is work for, up to ``concurrency``
    sender    a batch -> requests -> answers -> outcomes
    recorder  outcomes -> outbox; what came meanwhile shares one transaction

It touches three things: the journal's files (to read), its outbox, its destination. What it owns ends with `run`.

How it fails
- A cancelled or killed actor loses nothing: what was in flight is pending again. A batch counts as in flight until its
  outcome is recorded, so at most ``concurrency`` batches may be sent twice after a crash.
- While the disk refuses a transaction nothing new is sent, and the transaction is tried again.
- Any other exception leaves `run`; the supervisor starts the actor again.

A destination that is down. The breaker stops all but probes, which use up no attempts of the others. An event's window
goes on meanwhile: it began with its first attempt, or for an event that was never tried, when the destination went
down or when it came, whichever was later. When a probe fails, what is beyond its window expires; so an event never
expires just because relayd itself was stopped.
"""

import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from random import random as system_random
from typing import Any, TypeVar

import structlog
import trio

from relayd.config import model
from relayd.delivery.attempt import Attempt, Sender
from relayd.delivery.breaker import Breaker
from relayd.delivery.eligibility import Eligibility, Selection
from relayd.delivery.feed import Log, Source
from relayd.delivery.outbox import Delivery, Outbox
from relayd.delivery.outcome import Event, Outcome
from relayd.delivery.ready import Ready
from relayd.delivery.removal import Gone, search
from relayd.delivery.schedule import policy_of
from relayd.delivery.settlement import Ended, settle
from relayd.delivery.throttle import Throttle
from relayd.destinations.subscription import Subscription
from relayd.journal.reader import Chunk
from relayd.privacy.person import Removal

_log = structlog.get_logger(__name__)

_MEMORY = 32 * 2**20
"""Bytes of payload in memory, in flight or about to be."""
_GATHER = 0.05
"""Seconds for which a batch that is not full gathers more while others are in flight: under load batches fill by
themselves, and without load nothing waits."""
_LOOK = 0.05
"""Seconds between looks at whether what is to be removed is still in flight."""
_PAUSE = 1.0
"""Seconds before a transaction that the disk refused is tried again."""
_EXPIRE_AT_ONCE = 1000
_PROBES = 100
"""Among how many failed deliveries the one is chosen that a destination is probed with."""
_TIDY = 60
"""Seconds between times at which a drained outbox gives free pages back."""

T = TypeVar("T")


class Actor:
    """One destination's delivery. Make it, and `run` it once."""

    def __init__(
        self,
        name: str,
        config: model.Destination,
        *,
        eligibility: Eligibility,
        subscriptions: Sequence[Subscription[Any]],
        outbox: Outbox,
        reader: Source,
        log: Log,
        senders: Mapping[str, Sender],
        redact: Callable[[str], str],
        event_rate: float | None = None,
        live: Callable[[], "Actor | None"] = lambda: None,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = system_random,
    ) -> None:
        """``outbox`` has its cursor set. ``senders`` by URL scheme; ``clock`` in Unix seconds; ``random`` in [0, 1).

        ``event_rate`` is how many events a second leave, at most; ``config`` limits requests. ``live`` gives the actor
        whose events have precedence, if there is one: the two share its limit of requests, and while it is behind
        nothing new is sent here.
        """
        delivery = config.delivery
        ordered = delivery.ordering == "user"
        self.outbox = outbox
        self._name = name
        self._config = config
        self._reader = reader
        self._journal = log
        self._clock = clock
        self._random = random
        self._policy = policy_of(config.retry)
        self._eligibility = eligibility
        self._attempt = Attempt(
            name,
            subscriptions,
            senders=senders,
            timeout=delivery.timeout,
            base_url=delivery.base_url,
            ordered=ordered,
            redact=redact,
            clock=clock,
            pace=self._pace,
            judge=self._judge,
        )
        batched = [each for each in subscriptions if each.batch_size > 1]
        self._batch_size = sum(each.batch_size for each in batched) or 1
        self._batch_bytes = sum(each.batch_bytes for each in batched)
        window = 2 * delivery.concurrency * self._batch_size
        self.last_failure: str | None = None
        """Reason and detail of the last attempt that failed; None since the last that succeeded."""
        self._ready = Ready(ordered=ordered, limit=max(window, 2048), size=_MEMORY)
        self._ready.watermark = outbox.loaded
        self._ordered = ordered
        self._own_throttle = Throttle(delivery.rate)
        self._live = live
        self._event_throttle = Throttle(event_rate)
        self._breaker = Breaker(random)
        self._down_since = 0
        self._paused_until = 0.0
        self._oldest_ready = 0.0
        self._due_at: float = 0
        """Unix milliseconds at which a failed delivery may be due; infinite when none is waiting."""
        self._in_flight = 0
        self._senders_running = 0
        self._unrecorded: list[Ended] = []
        self._between = trio.Lock()
        """Held while rows move between outbox and memory, so that a row is never in two hands."""
        self._intake = trio.Lock()
        """Held from when events are read until they are stored, and in memory if they are to be."""
        self._ended = False
        self._stopping = trio.Event()
        self._idle = trio.Event()
        self._wake = trio.Event()
        self._recordable = trio.Event()
        self._room = trio.Event()
        self._database = trio.CapacityLimiter(1)
        self._tidy_at = trio.current_time() + _TIDY

    @property
    def in_flight(self) -> int:
        """Events that were sent, or are being, and whose outcome is not recorded."""
        return self._in_flight

    @property
    def backing_off(self) -> bool:
        """Whether the destination is down, or asked for a pause."""
        return self._breaker.is_open or self._paused_until > trio.current_time()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    @property
    def is_behind(self) -> bool:
        """Whether more waits than could be in flight."""
        return self.outbox.pending > self._config.delivery.concurrency * self._batch_size

    @property
    def throttle(self) -> Throttle:
        """What spaces the requests."""
        live = self._live()
        return self._own_throttle if live is None else live.throttle

    def stop(self) -> None:
        """Take in and send no more; `run` returns when what is in flight has ended and is recorded."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Deliver until `stop`. Cancelled, it puts back what is in flight. Closes the outbox in any case."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._record_forever)
                with trio.CancelScope() as feeding:
                    async with trio.open_nursery() as feeders:
                        feeders.start_soon(self._take_in_forever)
                        if self._config.enabled:
                            feeders.start_soon(self._pump_forever, nursery)
                        await self._stopping.wait()
                        feeding.cancel()
                while self._senders_running:
                    self._idle = trio.Event()
                    await self._idle.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._ended = True
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._close, limiter=self._database)

    def _close(self) -> None:
        self._reader.close()
        self.outbox.close()

    async def remove(self, removal: Removal) -> int:
        """Remove deliveries that are pending or held, and return how many. What is in flight ends before.

        What is read from here on is what the log's files hold now. Raises `Gone` when the actor ends first.
        """
        await self._work(self._reader.close)
        found, seen = await self._work(lambda: search(self.outbox, removal))
        removed = 0
        while True:
            async with self._between, self._intake:
                self._ready.clear()
                self._due_at = 0
                more, seen = await self._work(lambda: search(self.outbox, removal, seen))  # noqa: B023  called now
                found |= more
                here = frozenset(self._ready.ids)
                removed += await self._work(lambda: self.outbox.remove(found - here, removal.reason))  # noqa: B023
                found &= here
                if not found and removal.scrub:
                    await self._work(self.outbox.vacuum)
            self._room.set()
            self._wake.set()
            if not found:
                break
            await trio.sleep(_LOOK)
        while removal.scrub and not await self._work(self.outbox.checkpoint):  # noqa: ASYNC110  another process reads
            await trio.sleep(_PAUSE)
        return removed

    async def _work(self, work: Callable[[], T]) -> T:
        """As `_persist`, for what may come when the actor has ended."""
        try:
            return await self._persist(work)
        except sqlite3.ProgrammingError:
            if self._ended:  # so the outbox is closed
                raise Gone from None
            raise

    # -- intake -------------------------------------------------------------------------------------------------

    async def _take_in_forever(self) -> None:
        while True:
            await self._journal.wait_beyond(self._reader.offset)
            if self.outbox.size >= self._config.delivery.max_outbox:
                self._room = trio.Event()
                await self._room.wait()
                continue
            async with self._intake:
                new = await self._persist(self._take_in)
                if new and self._may_hand_over(new):
                    self._note_ready()
                    self._ready.add_untried(new)
            self._wake.set()

    def _may_hand_over(self, new: Sequence[Delivery]) -> bool:
        """Whether what was just stored can be sent without being read again: all before it is in memory too."""
        is_next = self._ready.watermark == new[0].id - 1 and self._ready.room >= len(new)
        return is_next and not self._ordered and not self._breaker.is_open

    def _take_in(self) -> list[Delivery]:
        chunk = self._reader.read(self._journal.head)
        if chunk is None:
            return []
        selection = self._eligibility.select(chunk.data)
        return self._store(selection, chunk)

    def _store(self, selection: Selection, chunk: Chunk) -> list[Delivery]:
        try:
            return self.outbox.take_in(selection, chunk.end, round(self._clock() * 1000), chunk.counts)
        except BaseException:
            self._reader.seek(chunk.start)
            raise

    # -- pump ---------------------------------------------------------------------------------------------------

    async def _pump_forever(self, nursery: trio.Nursery) -> None:
        while True:
            self._wake = trio.Event()
            async with self._between:
                await self._load()
            wait = math.inf
            while self._senders_running < self._config.delivery.concurrency:
                wait = self._hindrance()
                if wait > 0:
                    break
                batch = self._take_batch()
                if batch:
                    self._senders_running += 1
                    nursery.start_soon(self._send_while_there_is_work, batch)
            if not self._breaker.is_open and len(self._ready) <= self._ready.room:
                wait = min(wait, self._due_at / 1000 - self._clock())
            with trio.move_on_after(max(wait, 0.0)):
                await self._wake.wait()

    async def _load(self) -> None:
        """Bring deliveries from the outbox into memory, when few are left there."""
        ready = self._ready
        if self._breaker.is_open:
            if not len(ready) and not self._breaker.wait(trio.current_time()):
                await self._load_probe()
            return
        if len(ready) > ready.room:
            return
        now = round(self._clock() * 1000)
        if self._due_at <= now:
            limit = max(ready.room // 2, 1)
            without = frozenset(ready.ids)
            found = await self._persist(lambda: self.outbox.load_due(now, limit, ready.room_bytes, without))
            self._note_ready()
            ready.add_due(each for each in found if each.id not in ready.ids)
            if len(found) < limit:
                self._due_at = math.inf  # before the look, so that a retry recorded meanwhile is not overlooked
                due = await self._persist(lambda: self.outbox.next_due(now))
                if due is not None:
                    self._due_at = min(self._due_at, due)
        newest = self.outbox.count("deliveries")
        if ready.room and ready.watermark < newest:
            after, count = ready.watermark, ready.room
            found = await self._persist(lambda: self.outbox.load_new(after, count, ready.room_bytes))
            if ready.watermark == after:  # else the breaker opened, or the intake handed some over
                self._note_ready()
                ready.add_untried(found)
                if not found:
                    ready.watermark = newest

    async def _load_probe(self) -> None:
        """Bring one delivery to try a destination with that is down: an untried one, or any of the failed."""
        after = self._ready.watermark
        found = await self._persist(lambda: self.outbox.load_new(after, 1, self._batch_bytes))
        if found and self._ready.watermark == after:
            self._ready.add_untried(found)
            return
        now, without = round(self._clock() * 1000), frozenset(self._ready.ids)
        due = await self._persist(lambda: self.outbox.load_due(now, _PROBES, _MEMORY, without))
        if due and self._breaker.is_open:
            self._ready.add_due([due[int(self._random() * len(due))]])

    def _hindrance(self) -> float:
        """Seconds until a batch may leave; 0: now, infinite: when something happens."""
        now = trio.current_time()
        wait = self._breaker.wait(now)
        if self._breaker.is_open and wait:
            return wait
        if self._stopping.is_set() or not len(self._ready):
            return math.inf
        live = self._live()
        if live is not None and live.is_behind:
            wait = max(wait, _GATHER)
        wait = max(wait, self._pause(now), self._event_throttle.wait(now))
        if len(self._ready) < self._batch_size and not self._breaker.is_open:
            fill: float = self._config.delivery.batch_wait
            if self._in_flight:
                fill = max(fill, _GATHER)
            wait = max(wait, self._oldest_ready + fill - now)
        return max(wait, 0.0)

    def _note_ready(self) -> None:
        if not len(self._ready):
            self._oldest_ready = trio.current_time()

    def _take_batch(self) -> list[Delivery]:
        """The next batch, which counts as out from now on; empty when all that is ready stands behind others."""
        count = 1 if self._breaker.is_open else self._batch_size
        batch = self._ready.take(count, self._batch_bytes)
        if batch:
            now = self._oldest_ready = trio.current_time()
            self._breaker.started()
            self.throttle.take(now)
            self._event_throttle.take(now, len(batch))
            self._in_flight += len(batch)
        return batch

    # -- sender -------------------------------------------------------------------------------------------------

    async def _send_while_there_is_work(self, batch: list[Delivery]) -> None:
        try:
            while batch:
                await self._deliver(batch)
                if self._hindrance() > 0:
                    break
                batch = self._take_batch()
                if len(self._ready) < self._ready.room:
                    self._wake.set()
        finally:
            self._senders_running -= 1
            self._wake.set()
            if not self._senders_running:
                self._idle.set()

    async def _deliver(self, batch: list[Delivery]) -> None:
        """Send a batch and see its outcomes recorded."""
        try:
            ended = Ended(batch, await self._attempt.send(batch), self._clock())
            self._unrecorded.append(ended)
            self._recordable.set()
            await ended.done.wait()
        finally:
            self._in_flight -= len(batch)

    async def _pace(self) -> None:
        """Wait until one more request may leave within a batch."""
        while (wait := self._pause(trio.current_time())) > 0:  # noqa: ASYNC110  others may have left meanwhile
            await trio.sleep(wait)
        self.throttle.take(trio.current_time())

    def _pause(self, now: float) -> float:
        """Seconds until the destination may be asked again."""
        return max(self._paused_until - now, self.throttle.wait(now))

    def _judge(self, result: Outcome) -> None:
        """What an answer tells about the destination, whichever event it was for."""
        delivered = result.event is Event.DELIVER
        self.last_failure = None if delivered else f"{result.reason} {result.detail}".strip()
        if result.alive is None:
            self._breaker.put_back()
            return
        now = trio.current_time()
        was_open = self._breaker.is_open
        self._breaker.ended(alive=result.alive, now=now)
        if self._breaker.is_open and not was_open:
            self._down_since = round(self._clock() * 1000)
            self._ready.clear()
            self._due_at = 0
            _log.warning("destination is down; probing it", destination=self._name, reason=result.reason)
        elif was_open and not self._breaker.is_open:
            _log.info("destination is back", destination=self._name)
        if result.reason == "429" and result.retry_after:
            self._paused_until = max(self._paused_until, now + min(result.retry_after, 3600))

    # -- recorder -----------------------------------------------------------------------------------------------

    async def _record_forever(self) -> None:
        while True:
            await self._recordable.wait()
            self._recordable = trio.Event()
            entries, self._unrecorded = self._unrecorded, []
            async with self._between:
                if entries:
                    await self._record(entries)
                if self._breaker.is_open:
                    await self._expire()
            if not self.outbox.pending and trio.current_time() >= self._tidy_at:
                await self._persist(self.outbox.tidy)
                self._tidy_at = trio.current_time() + _TIDY

    async def _record(self, entries: list[Ended]) -> None:
        for each in entries:
            if self._ordered and each.failed_users:
                each.behind += self._ready.detach(each.failed_users)
        results, tried = settle(entries, self._policy, self._random), self._ready.tried_up_to
        moved_up = await self._persist(lambda: self.outbox.record(results, tried))
        self._due_at = 0 if moved_up else min([self._due_at, *(retry.due for retry in results.retries)])
        for each in entries:
            self._ready.settle([*each.batch, *each.behind])
            each.done.set()
        self._room.set()
        self._wake.set()

    async def _expire(self) -> None:
        """The destination is down: what has outlived its window becomes a dead letter."""
        if not self._policy.window:
            return
        expired = _EXPIRE_AT_ONCE
        while expired == _EXPIRE_AT_ONCE:
            now = round(self._clock() * 1000)
            horizon = now - round(self._policy.window * 1000)
            without = frozenset(self._ready.ids)
            expired = await self._persist(
                lambda: self.outbox.expire(
                    horizon=horizon,  # noqa: B023  called before the loop goes on
                    down_since=self._down_since,
                    limit=_EXPIRE_AT_ONCE,
                    without=without,  # noqa: B023
                    now=now,  # noqa: B023
                )
            )
            if expired:
                self._room.set()

    # -- the outbox, in its thread ------------------------------------------------------------------------------

    async def _persist(self, work: Callable[[], T]) -> T:
        """Run ``work`` until the disk allows it. No two run at once."""
        while True:
            try:
                return await trio.to_thread.run_sync(work, limiter=self._database)
            except sqlite3.OperationalError as error:
                _log.error("the outbox can not be written; trying again", destination=self._name, error=str(error))
                await trio.sleep(_PAUSE)
