"""Does what regulations ask for.

Suppression
- From when a request is answered, no event of the user is taken; then what waits for destinations, or is held, goes.

Deletion, in this order
- The active segment is closed if it holds anything of the user; so all that is to go lies in sealed segments.
- Segment by segment, the user's messageIds are noted (as digests), the segment is written anew without their events
  (`relayd.journal.erase`), and its copies are to be made again.
- Outboxes and dead letters go, of replays too: all of an event that was noted, and all from before the request that
  has the userId. What is in flight ends first. The outboxes' files are written anew.
- The copies have come after. The destinations that are to be told have been told.
- The ids go from ``relayd.sqlite3``, which is written anew; digests stay.

Each step can be done again, so after a crash a deletion goes on at the segment where it was. What fails (a full disk, a
copy's storage) is tried again, with the reason in ``failure``; a segment that the disk did not keep makes it FAILED,
after all else is done. Deletions that were asked for before one begins are done in one go.
"""

import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import structlog
import trio
from msgspec import Struct

from relayd.journal.copy import Copy, CopyFailed
from relayd.journal.erase import erase, find
from relayd.journal.log import Journal
from relayd.journal.reader import Reader
from relayd.journal.segment import Damaged, Segment
from relayd.privacy.digests import Digests
from relayd.privacy.person import People, Removal, Row, message_id
from relayd.privacy.regulation import DELETED_USER, DELETES, SUPPRESSED_USER, SUPPRESSES, Regulation, Wanted
from relayd.privacy.store import ENDED, HISTORY, OUTBOXES, Entry, Store
from relayd.privacy.suppressed import Suppressed

_log = structlog.get_logger(__name__)

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0
"""Seconds before what failed is tried again; doubled with each failure in a row."""
_LOOK = 0.2
_LISTED = 1000
_LOG_SHARE = 0.9
"""The share of a deletion that the log is taken for."""
_REST = 0.25
"""For each second that a thread reads the log, so many pass until the next segment: others need the processor too."""

T = TypeVar("T")


class UnknownRegulation(KeyError):
    """There is no regulation of this id."""


class Forwarding(Protocol):
    """Who tells the destinations that offer deletion."""

    def names(self) -> Sequence[str]:
        """Those destinations."""

    async def tell(self, name: str, ids: Sequence[str]) -> str | None:
        """Tell one to delete users, and return why it refused, if it did. It tries again until there is an answer."""


class Parts(Struct, frozen=True):
    """What holds users' events besides the log. Each raises ``OSError`` or ``sqlite3.Error`` when the disk refuses."""

    remove: Callable[[Removal], Awaitable[int]]
    """Removes deliveries from the outboxes of destinations; returns how many."""
    remove_from_replays: Callable[[Removal, People], Awaitable[int]]
    """The same for replays, and leaves no userId in what else they keep."""
    remove_elsewhere: Callable[[People], Awaitable[None]]
    """Removes what names users and is no event yet."""
    save_accounts: Callable[[], Awaitable[None]]
    """Saves the sources' counters, which are counted again from the log otherwise."""


class Privacy:
    """All regulations. Keep `run` running."""

    def __init__(
        self,
        store: Store,
        suppressed: Suppressed,
        journal: Journal,
        copies: Sequence[Copy],
        parts: Parts,
        forwarding: Forwarding,
        *,
        scratch: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``scratch`` is a folder for what is brought from copies. ``clock`` in Unix seconds."""
        self._store = store
        self._suppressed = suppressed
        self._journal = journal
        self._copies = copies
        self._parts = parts
        self._forwarding = forwarding
        self._scratch = scratch
        self._clock = clock
        self._asking = trio.Lock()
        self._asked = trio.Event()

    # -- what users do ------------------------------------------------------------------------------------------

    async def request(self, wanted: Wanted) -> Regulation:
        """Begin a regulation; whom it suppresses is suppressed when this returns. Raises ``sqlite3.Error``."""
        async with self._asking:
            regulation = await _thread(lambda: self._store.create(wanted, self._clock()))
            if wanted.type in SUPPRESSES:
                self._suppressed.add(wanted.user_ids)
        self._wake()
        return regulation

    async def regulation(self, regulation_id: str) -> Regulation:
        """One by its id. Raises `UnknownRegulation`."""
        entry = await _thread(lambda: self._store.entry(regulation_id))
        if entry is None:
            raise UnknownRegulation(regulation_id)
        return await _thread(lambda: self._shown(entry))

    async def regulations(self, user_id: str | None = None) -> list[Regulation]:
        """The last 1,000, or those that name a user, the newest first."""
        store = self._store
        entries = await _thread(lambda: store.newest(_LISTED) if user_id is None else store.naming(user_id))
        return await _thread(lambda: [self._shown(each) for each in entries])

    async def is_suppressed(self, user_id: str) -> bool:
        """Whether a user is suppressed."""
        return await _thread(lambda: self._store.is_suppressed(user_id))

    def _shown(self, entry: Entry) -> Regulation:
        if entry.regulation.forward:
            entry.regulation.forwarded = self._store.forwarded(entry)
        return entry.regulation

    # -- how they run -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what is asked for, until cancelled; it goes on at the next start."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._work_forever, _to_suppress, self._suppress)
            nursery.start_soon(self._work_forever, _to_delete, self._delete)

    async def _work_forever(
        self,
        choose: Callable[[Sequence[Entry]], list[Entry]],
        work: Callable[[Sequence[Entry]], Awaitable[None]],
    ) -> None:
        """Do the work for those of the unfinished that are its own, and again what fails."""
        wait, entries = _FIRST_WAIT, list[Entry]()
        while True:
            asked = self._asked
            try:
                entries = choose(await _thread(self._store.unfinished))
                if not entries:
                    await asked.wait()
                    continue
                await work(entries)
            except (OSError, sqlite3.Error, CopyFailed) as error:
                reason = f"{type(error).__name__}: {error}"
                _log.error("a regulation can not go on; trying again", failure=reason, seconds=wait)
                await self._note_failure(entries, reason)
                await trio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
            else:
                wait = _FIRST_WAIT

    def _wake(self) -> None:
        self._asked.set()
        self._asked = trio.Event()

    async def _suppress(self, entries: Sequence[Entry]) -> None:
        await self._set(entries, status="RUNNING")
        suppressing = [each for each in entries if each.regulation.type in SUPPRESSES]
        if suppressing:
            people = People(await _thread(lambda: self._store.ids(suppressing, "user")))
            removal = Removal(lambda row: people.own(row.payload), SUPPRESSED_USER, scrub=False)
            removed = await self._parts.remove(removal)
            await _thread(lambda: self._store.add(suppressing, deliveries=removed))
        deleting = [each for each in suppressing if each.regulation.type in DELETES]
        await self._set(deleting, stage=HISTORY)
        self._wake()
        finished = [each for each in entries if each not in deleting]
        await _thread(lambda: self._store.forget(finished))
        await self._scrub(whole=False)
        await self._end(finished)

    async def _note_failure(self, entries: Sequence[Entry], reason: str) -> None:
        try:
            await self._set(entries, failure=reason)
        except sqlite3.Error as error:
            _log.error("the failure can not be noted", error=str(error))

    async def _delete(self, entries: Sequence[Entry]) -> None:
        store = self._store
        await self._set(entries, status="RUNNING")
        if entries[0].stage == HISTORY:
            await self._clear_scratch()
            people = await self._people(entries)
            resumed = entries[0].until is not None
            if not resumed:
                entries = await self._begin(entries, people)
            damaged = await self._erase_log(entries, people, resumed=resumed)
            await self._erase_deliveries(entries, people)
            await self._parts.remove_elsewhere(people)
            damaged += await self._erase_elsewhere(entries, people)
            await self._clear_scratch()
            await self._copies_made()
            refused = await self._forward(entries)
            await self._set(entries, failure="; ".join([*damaged, *refused]) or None, share=0.99)
            await _thread(lambda: store.forget(entries))
        await _thread(store.forget_messages)
        await self._scrub(whole=True)
        await self._end(entries)

    async def _scrub(self, *, whole: bool) -> None:
        while not await _thread(partial(self._store.scrub, whole=whole)):  # noqa: ASYNC110  another process reads it
            await trio.sleep(_LOOK)

    async def _people(self, entries: Sequence[Entry]) -> People:
        """Whose events go; looks for anonymousIds first, if they are to go too."""
        store = self._store
        users = await _thread(lambda: store.ids(entries, "user"))
        if entries[0].regulation.with_anonymous and entries[0].until is None:
            people = People(users)
            tied = await _thread(lambda: self._tied(people))
            await _thread(lambda: store.add_anonymous(entries, tied))
        return People(users, await _thread(lambda: store.ids(entries, "anonymous")))

    def _tied(self, people: People) -> set[str]:
        reader, found = Reader(self._journal.folders, 0), set[str]()
        try:
            while (chunk := reader.read(self._journal.head)) is not None:
                found |= people.tied(chunk.data)
        finally:
            reader.close()
        return found

    async def _begin(self, entries: Sequence[Entry], people: People) -> list[Entry]:
        """Fix what is to go: all of theirs that the log has now, up to where a segment begins."""
        at = int(self._clock() * 1000)
        await self._journal.settle()
        active = self._journal.active
        try:
            holds_theirs = bool(await _thread(lambda: find(active, people.pick)))
        except FileNotFoundError:
            holds_theirs = True  # it is sealed meanwhile
        until = await self._journal.cut() if holds_theirs else active.base
        await self._parts.save_accounts()
        await self._set(entries, until=until, at=at)
        numbers = {each.number for each in entries}
        return [each for each in await _thread(self._store.unfinished) if each.number in numbers]

    async def _erase_log(self, entries: Sequence[Entry], people: People, *, resumed: bool) -> list[str]:
        """Erase what is theirs from all segments; returns what is wrong with those that can not be read."""
        until, done = entries[0].until, entries[0].done
        assert until is not None
        await self._journal.sealed_before(until)
        damaged = []
        again = resumed  # a crash may have come between the writing of a segment and of a copy's note
        for segment in await _thread(self._journal.folders.sealed):
            if not done <= segment.base < until:
                continue
            started = trio.current_time()
            try:
                count = await _thread(partial(self._erase, segment, people))
            except Damaged as error:
                _log.error("a damaged segment can not be searched for users to delete", error=str(error))
                damaged.append(str(error))
                count = 0
            if count or again:
                for copy in self._copies:
                    await _thread(partial(copy.again, [segment.base]))
            again = False
            share = round(_LOG_SHARE * segment.base / until, 4)
            if damaged:  # which is to be found again after a crash
                await self._set(entries, share=share)
            else:
                await self._set(entries, done=segment.base + 1, share=share)
            await trio.sleep(_REST * (trio.current_time() - started))
        messages = await _thread(self._store.messages)
        await self._set(entries, events=len(messages), share=_LOG_SHARE)
        return damaged

    def _erase(self, segment: Segment, people: People) -> int:
        """Erase what is theirs from a segment, and return how many events that were. Blocks."""
        with self._journal.files:
            try:
                lines = find(segment, people.pick)
                if lines:
                    quick = self._store.keys.quick
                    self._store.note_messages(quick(message_id(line)) for line in lines)
                    erase(segment, lines)
            except FileNotFoundError:
                return 0  # retention let it go
        return len(lines)

    async def _erase_deliveries(self, entries: Sequence[Entry], people: People) -> None:
        messages, quick = Digests(await _thread(self._store.messages)), self._store.keys.quick
        before = entries[0].at or 0
        suppresses = entries[0].regulation.type in SUPPRESSES

        def theirs(row: Row) -> bool:
            return quick(row.message_id) in messages or (row.received < before and people.own(row.payload))

        removal = Removal(theirs, SUPPRESSED_USER if suppresses else DELETED_USER, scrub=True)
        removed = await self._parts.remove(removal)
        await _thread(lambda: self._store.add(entries, deliveries=removed))
        removed = await self._parts.remove_from_replays(removal, people)
        await _thread(lambda: self._store.add(entries, deliveries=removed))
        await self._set(entries, share=0.95)

    async def _erase_elsewhere(self, entries: Sequence[Entry], people: People) -> list[str]:
        """Erase what is theirs from segments that only copies have; returns what is wrong with those."""
        until, damaged = entries[0].until or 0, list[str]()

        def work(segment: Segment) -> bool:
            try:
                lines = find(segment, people.pick)
                if lines:
                    erase(segment, lines)
            except Damaged as error:
                damaged.append(str(error))
                return False
            return bool(lines)

        for copy in self._copies:
            await _thread(partial(copy.rewrite, until, work, self._scratch))
        return damaged

    async def _clear_scratch(self) -> None:
        await _thread(partial(shutil.rmtree, self._scratch, ignore_errors=True))

    async def _copies_made(self) -> None:
        """Return when no copy has anything from before a segment was written anew."""
        while any(copy.behind() for copy in self._copies):
            self._journal.look_again()
            await trio.sleep(_LOOK)

    async def _forward(self, entries: Sequence[Entry]) -> list[str]:
        """Tell the destinations that are to be told; returns which refused, and why."""
        store, refused = self._store, []
        for entry in [each for each in entries if each.regulation.forward]:
            told = await _thread(partial(store.forwarded, entry))
            ids = sorted(await _thread(partial(store.ids, [entry], "user")))
            for name in self._forwarding.names():
                outcome = told.get(name, "pending")
                if outcome == "pending":
                    await _thread(partial(store.set_forwarded, entry, name, outcome))
                    outcome = await self._forwarding.tell(name, ids) or "done"
                    await _thread(partial(store.set_forwarded, entry, name, outcome))
                if outcome != "done":
                    refused.append(f"{name} was told to delete, and refused: {outcome}")
        return refused

    async def _end(self, entries: Sequence[Entry]) -> None:
        now = self._clock()
        for entry in entries:
            found = await _thread(partial(self._store.entry, entry.regulation.id))
            failed = entry.regulation.type in DELETES and found is not None and found.regulation.failure is not None
            status = "FAILED" if failed else "FINISHED"
            await self._set([entry], status=status, ended=now, share=1.0, stage=ENDED)
            if not failed:
                await self._set([entry], failure=None)
            _log.info("regulation ended", regulation=entry.regulation.id, type=entry.regulation.type, status=status)

    async def _set(self, entries: Sequence[Entry], **values: object) -> None:
        if entries:
            await _thread(lambda: self._store.set(entries, **values))


def _to_suppress(unfinished: Sequence[Entry]) -> list[Entry]:
    return [each for each in unfinished if each.stage == OUTBOXES or each.regulation.type == "UNSUPPRESS"]


def _to_delete(unfinished: Sequence[Entry]) -> list[Entry]:
    """The deletions to be done in one go: that which has begun, or else the oldest, and those like it."""
    waiting = [each for each in unfinished if each.stage != OUTBOXES and each.regulation.type in DELETES]
    waiting.sort(key=lambda each: (each.until is None, each.number))
    return [each for each in waiting if _kind(each) == _kind(waiting[0])]


def _kind(entry: Entry) -> tuple[object, ...]:
    """What deletions that are done in one go have in common."""
    return entry.stage, entry.until, entry.regulation.type, entry.regulation.with_anonymous


async def _thread(work: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(work)
