"""A delivery actor on real files, with the network's other side in the test's hands."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from relayd.config import model
from relayd.config.units import Duration
from relayd.delivery.actor import Actor
from relayd.delivery.connection import Answer
from relayd.delivery.eligibility import Eligibility
from relayd.delivery.outbox import Outbox
from relayd.destinations import get
from relayd.destinations.subscription import compile_subscriptions
from relayd.destinations.webhook import Settings
from relayd.journal.reader import Reader
from relayd.journal.segment import Folders
from tests.events import line
from tests.waiting import until

Reply = int | Exception | tuple[int, dict[str, str]]


class Log:
    """The journal as actors see it: a segment's file, and how far it may be read."""

    def __init__(self, root: Path) -> None:
        self.folders = Folders(root / "journal", root / "archive")
        for folder in (self.folders.journal, self.folders.archive):
            folder.mkdir(exist_ok=True)
        self._path = self.folders.raw_path(0)
        self._path.touch()
        self.head = self._path.stat().st_size
        self._advanced = trio.Event()

    async def wait_beyond(self, offset: int) -> None:
        while self.head <= offset:
            await self._advanced.wait()

    def append(self, lines: Iterable[bytes]) -> None:
        with self._path.open("ab") as file:
            self.head += file.write(b"".join(lines))
        self._advanced.set()
        self._advanced = trio.Event()


class Destination:
    """The other side of the network: records what it gets and answers as ``reply`` says."""

    def __init__(self, reply: Callable[[list[str]], Reply] = lambda ids: 200) -> None:
        self.reply = reply
        self.requests: list[list[str]] = []
        """The messageIds of each request."""
        self.accepted: list[str] = []
        self.at_once = 0
        """The most requests that were under way at once."""
        self.gate = trio.Event()
        self.gate.set()
        self._under_way = 0

    async def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        decoded = msgspec.json.decode(body)
        ids = [each["messageId"] for each in (decoded if isinstance(decoded, list) else [decoded])]
        self.requests.append(ids)
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        try:
            await self.gate.wait()
            await trio.lowlevel.checkpoint()
        finally:
            self._under_way -= 1
        reply = self.reply(ids)
        if isinstance(reply, Exception):
            raise reply
        status, fields = (reply, {}) if isinstance(reply, int) else reply
        if 200 <= status < 300:
            self.accepted += ids
        raw = [(name.encode(), value.encode()) for name, value in fields.items()]
        return Answer(status=status, headers=raw, body=b"said no", http_version="1.1", truncated=False)


def configuration(**delivery: object) -> model.Destination:
    """A webhook that retries quickly; ``delivery`` overrides its delivery section."""
    retry = model.Retry(initial_wait=Duration(0.01), max_wait=Duration(0.05), jitter=0.0)
    return model.Destination(
        type="webhook",
        settings=Settings(url="http://destination.test/"),
        retry=retry,
        delivery=model.Delivery(**({"concurrency": 4} | delivery)),  # type: ignore[arg-type]
    )


class Stand:
    """An actor that runs, and what is around it."""

    def __init__(self, root: Path, log: Log, actor: Actor, destination: Destination) -> None:
        self.root, self.log, self.actor, self.destination = root, log, actor, destination

    @property
    def outbox(self) -> Outbox:
        return self.actor.outbox

    def append(self, numbers: Iterable[int], **fields: object) -> None:
        self.log.append(line(number, **fields) for number in numbers)

    async def settled(self) -> None:
        """Return once the actor has read all of the log, and nothing is pending."""
        await until(lambda: self.outbox.cursor == self.log.head and not self.outbox.pending)

    def check_conservation(self) -> None:
        """The law, between the counters themselves, and between them and the rows."""
        counters = self.outbox
        assert counters.count("received") == sum(counters.totals("filtered").values()) + counters.count("matched")
        rows = {
            table: counters._execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("deliveries", "dead_letters")
        }
        assert rows["deliveries"] == counters.pending
        assert rows["dead_letters"] == counters.count("failed") == sum(counters.totals("failed").values())
        assert counters.count("deliveries") == (
            counters.count("delivered") + counters.pending + sum(counters.totals("failed").values())
        )


@asynccontextmanager
async def standing(
    root: Path,
    destination: Destination,
    config: model.Destination | None = None,
    *,
    sources: Mapping[str, model.Source] | None = None,
    stop: bool = True,
) -> AsyncIterator[Stand]:
    """An actor on ``root``, running; at the end it is stopped gracefully, or cancelled (``stop=False``)."""
    config = config or configuration()
    log = Log(root)
    outbox = Outbox(root / "outbox.sqlite3")
    if outbox.cursor is None:
        outbox.start_at(0)
    settings = config.settings
    assert isinstance(settings, model.Section)
    subscriptions = compile_subscriptions(get(config.type), settings, config.subscriptions, config.delivery)
    actor = Actor(
        "hook",
        config,
        eligibility=Eligibility.of("hook", config, subscriptions, sources=sources or {}, random=lambda: 0.5),
        subscriptions=subscriptions,
        outbox=outbox,
        reader=Reader(log.folders, outbox.cursor or 0),
        log=log,
        senders={"http": destination},
        redact=lambda text: text.replace("said", "****"),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(actor.run)
        yield Stand(root, log, actor, destination)
        if stop:
            actor.stop()
        else:
            nursery.cancel_scope.cancel()
