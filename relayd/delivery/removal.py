"""Removing what is pending or held, for people's sake: from an outbox whose actor runs, or from one at rest."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import trio

from relayd.delivery.outbox import Outbox
from relayd.privacy.person import Removal

_AT_ONCE = 2000
_WAIT = 0.05


class Gone(Exception):
    """The actor has ended."""


def search(outbox: Outbox, removal: Removal, after: int = 0) -> tuple[set[int], int]:
    """The ids above ``after`` of what is to be removed, and the id up to which all is looked at. Blocks."""
    up_to = outbox.count("deliveries")
    found: set[int] = set()
    for table in ("deliveries", "dead_letters"):  # in this order: a row may move to the second meanwhile
        at = after
        while rows := outbox.rows(table, at, _AT_ONCE):
            found.update(each.id for each in rows if removal.theirs(each))
            at = rows[-1].id
    return found, up_to


class Running(Protocol):
    """An actor, as far as removing goes."""

    async def remove(self, removal: Removal) -> int: ...


async def remove_from(path: Path, removal: Removal, *, actor: Callable[[], Running | None], at_rest: trio.Lock) -> int:
    """Remove it from an outbox, and return how many deliveries that were.

    ``actor`` gives the outbox's actor while it runs; ``at_rest`` is held by who opens the outbox, until it does.
    Raises ``sqlite3.Error``.
    """
    while True:
        running = actor()
        if running is not None:
            try:
                return await running.remove(removal)
            except Gone:
                await trio.sleep(_WAIT)
                continue
        async with at_rest:
            if actor() is None:
                return await trio.to_thread.run_sync(_remove_at_rest, path, removal)


def _remove_at_rest(path: Path, removal: Removal) -> int:
    outbox = Outbox(path)
    try:
        found, _ = search(outbox, removal)
        removed = outbox.remove(found, removal.reason)
        if removal.scrub:
            outbox.vacuum()
            outbox.checkpoint()
    finally:
        outbox.close()
    return removed
