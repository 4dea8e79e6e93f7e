"""Wrecks: the state that a relay under load leaves when it is killed, what a power cut may do to copies of it, and how
a relay goes on from there.
"""

import shutil
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from relayd.journal import dedupe
from tests.crash.laws import Entry, stored
from tests.crash.scene import BATCHES, Arrivals, Scene, scene
from tests.crash.sender import Sender
from tests.relay import Relay
from tests.waiting import until

TORN = "torn tail of the journal cut off"
PAGE = 4096
_CELL = 8
"""Bytes of a cell in the dedupe file's header."""
_WAL_HEADER, _FRAME_HEADER = 32, 24
_BACKFILL_ATTEMPTED = 128
"""Where in the -shm file SQLite notes up to which frame it began to copy the log into the database (wal.c)."""


class Wreck(NamedTuple):
    """A state, and all that is known of it."""

    root: Path
    sender: Sender
    journal: list[Entry]
    arrivals: Mapping[str, Arrivals]
    taken_in: Mapping[str, tuple[int, int]]
    """By destination: its cursor, and how many events it has received."""
    early_header: bytes
    """The dedupe file's header as it was some time before the end."""

    @property
    def unacknowledged(self) -> set[str]:
        return self.sender.sent.keys() - self.sender.acknowledged

    def copy(self, root: Path) -> Path:
        """The state once more, where a scene on ``root`` has it."""
        shutil.copytree(self.root / "state", root / "state", ignore=shutil.ignore_patterns("*.sock"))
        return root / "state"


class Aftermath(NamedTuple):
    """What a relay made of what was left."""

    relay: Relay
    senders: tuple[Sender, Sender]
    status: dict[str, Any]
    arrivals: Mapping[str, Arrivals]
    """Those before the wreck, too."""


async def wreck(
    root: Path, random: Random, *, fsync: str = "always", program: Sequence[str] = ("-m", "relayd")
) -> Wreck:
    """Let a relay run under load in ``root`` until some dozen or hundred events are acknowledged; kill it."""
    async with scene(root, fsync=fsync, program=program) as stage:
        relay, sender = stage.relay, stage.sender(random)
        much = random.choice((30, 200, 500)) + random.randrange(200)
        await relay.start()
        async with sender.sending(to_the_end=False):
            await until(lambda: len(sender.acknowledged) > much / 2)
            with (relay.state / "dedupe").open("rb") as file:
                early_header = file.read(PAGE)
            await until(lambda: len(sender.acknowledged) > much)
            relay.kill()
        outboxes = root / "outboxes"
        shutil.copytree(relay.state / "outbox", outboxes)  # to open one changes it
        return Wreck(
            root=root,
            sender=sender,
            journal=stored(relay, torn=True),
            arrivals=stage.arrivals(),
            taken_in={name: _taken_in(outboxes / f"{name}.sqlite3") for name in BATCHES},
            early_header=early_header,
        )


async def aftermath(
    left: Wreck, root: Path, random: Random, again: Collection[str], *, fsync: str = "always"
) -> Aftermath:
    """Start a relay on the state in ``root``, send ``again`` and more, drain it, and stop it."""
    async with scene(root, fsync=fsync) as stage:
        await stage.relay.start()
        senders = await send_again_and_more(left, stage, random, again)
        await until(lambda: stage.relay.status()["journal"]["head"] == _end(stage.relay.state))
        status = await stage.relay.drained()
        assert await stage.relay.stop() == 0
        arrivals = {name: left.arrivals[name].followed_by(later) for name, later in stage.arrivals().items()}
    return Aftermath(stage.relay, senders, status, arrivals)


async def send_again_and_more(
    left: Wreck, stage: Scene, random: Random, again: Collection[str]
) -> tuple[Sender, Sender]:
    """Send ``again`` as the wreck's client would, and new events; return who sent them."""
    old, new = left.sender.successor(stage.relay.port), stage.sender(random, name="b")
    await old.send(old.again(again))
    await new.send(new.unit(count) for count in (1, 10, 30))
    return old, new


def _end(state: Path) -> int:
    """Where the journal ends, synced or not."""
    active = max((state / "journal").glob("*.jsonl"))
    return int(active.stem) + active.stat().st_size


def _taken_in(path: Path) -> tuple[int, int]:
    with closing(sqlite3.connect(path)) as database:
        counters = dict(database.execute("SELECT name, value FROM counters"))
    return counters["cursor"], counters.get("received", 0)


def tear(path: Path, keep: int, random: Random) -> None:
    """Cut a file at a byte. Where it went on, there may then be nothing, zeros, or anything."""
    whole = path.read_bytes()
    lost = len(whole) - keep
    path.write_bytes(whole[:keep] + random.choice((b"", b"", bytes(lost), random.randbytes(lost))))


def cut_line(data: bytes, random: Random) -> int:
    """A byte to cut lines at: any, or one near to the end of a line."""
    ends = [place + 1 for place, byte in enumerate(data) if byte == ord("\n")]
    near = random.choice(ends or [0]) + random.choice((-1, 0, 1))
    return min(max(random.choice((near, random.randint(0, len(data)))), 0), len(data))


def cut_log(database: Path, random: Random) -> None:
    """Cut an SQLite file's write-ahead log at any byte that may not have been on the disk; its index is gone."""
    log, index = (database.with_name(f"{database.name}-{suffix}") for suffix in ("wal", "shm"))
    if not log.exists() or log.stat().st_size < _WAL_HEADER:
        return
    with log.open("rb") as file:
        page = int.from_bytes(file.read(_WAL_HEADER)[8:12], "big")
    with index.open("rb") as file:
        file.seek(_BACKFILL_ATTEMPTED)
        copied = int.from_bytes(file.read(4), "little")  # synced before
    index.unlink()
    synced = _WAL_HEADER + copied * (_FRAME_HEADER + page) if copied else 0
    tear(log, random.choice((synced, random.randint(synced, log.stat().st_size))), random)


def boot(index: Path) -> None:
    """Make the dedupe file that of another boot of the machine."""
    with index.open("r+b") as file:
        for cell in (dedupe._CLEAN, dedupe._BOOT):
            file.seek(cell * _CELL)
            file.write(bytes(_CELL))
