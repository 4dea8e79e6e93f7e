"""Replays in this process, on real files, to a real sink; the live actors are the test's."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import trio

from relayd.config import model
from relayd.config.units import Duration, Rate, Size
from relayd.delivery.actor import Actor
from relayd.destinations import webhook
from relayd.journal.dedupe import Dedupe
from relayd.journal.log import Journal, open_journal
from relayd.journal.segment import Folders
from relayd.replay.job import Criteria, Spec
from relayd.replay.runner import Replays, ReplayStatus
from relayd.testing.sink import Sink
from tests.waiting import until


def hook(sink: Sink, *, enabled: bool = True, rate: str | None = None, **delivery: object) -> model.Destination:
    """A webhook to the sink that retries quickly."""
    delivery |= {} if rate is None else {"rate": Rate.parse(rate)}
    return model.Destination(
        type="webhook",
        enabled=enabled,
        settings=webhook.Settings(url=sink.url),
        retry=model.Retry(initial_wait=Duration(0.01), max_wait=Duration(0.05), jitter=0.0),
        delivery=model.Delivery(**delivery),  # type: ignore[arg-type]
    )


class Stand:
    """Replays that run on a journal that does not."""

    def __init__(self, root: Path, replays: Replays, journal: Journal) -> None:
        self.root, self.replays, self.journal = root, replays, journal

    async def start(
        self, destination: str = "hook", *, again: bool = False, archive: Path | None = None, **fields: Any
    ) -> str:
        """Start a replay, and return its id. ``fields`` are criteria, and ``rate``."""
        rate = fields.pop("rate", None)
        spec = Spec(
            destination=destination,
            criteria=msgspec.convert(fields, Criteria),
            archive=None if archive is None else str(archive),
            rate=rate,
        )
        return (await self.replays.start(spec, again=again)).id

    async def status(self, id_: str) -> ReplayStatus:
        """How it stands; checks that its figures agree with each other."""
        (status,) = await self.replays.status(id_)
        check_conservation(status)
        return status

    async def ended(self, id_: str, seconds: float = 30) -> ReplayStatus:
        """How it stands once it is finished; checks its figures against its outbox's rows too."""
        await until(lambda: self.replays._jobs[id_].state == "finished", seconds)
        status = await self.status(id_)
        check_rows(self.root / "replays" / id_ / "outbox.sqlite3", status)
        assert status.share == 1
        assert status.pending == 0
        return status


def check_conservation(status: ReplayStatus) -> None:
    """The law, between the counters."""
    assert status.received == sum(status.filtered.values()) + status.matched
    assert status.deliveries == status.delivered + status.pending + sum(status.failed.values())
    assert status.received <= status.scanned


def check_rows(outbox: Path, status: ReplayStatus) -> None:
    """The law, between the counters and the rows. The replay must not be running."""
    database = sqlite3.connect(outbox)
    try:
        rows = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("deliveries", "dead_letters")
        ]
    finally:
        database.close()
    assert rows == [status.pending, sum(status.failed.values())]


@asynccontextmanager
async def standing(
    root: Path,
    destinations: Mapping[str, model.Destination],
    lines: Sequence[bytes] = (),
    *,
    live: Callable[[str], Actor | None] = lambda name: None,
) -> AsyncIterator[Stand]:
    """Replays on ``root``, running, with ``lines`` appended to the journal; at the end they are stopped."""
    dedupe = Dedupe(root / "dedupe", max_ids=1000, window=86400)
    journal = open_journal(Folders.of(root), model.Journal(min_free=Size(0)), dedupe, cursor=0, max_buffered=64 * 2**20)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        if lines:
            await journal.append(b"".join(lines), "web", len(lines))
        replays = Replays(
            model.Config(destinations=destinations), journal, root / "replays", live=live, redact=lambda text: text
        )
        replays.prepare()
        await nursery.start(replays.run)
        yield Stand(root, replays, journal)
        replays.stop()
        await until(lambda: not replays._running)
        await journal.close()
