"""Files cut at any byte, as a power cut may leave them: relayd starts, says so, keeps the rest, and goes on."""

import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

import msgspec
import pytest

from relayd.delivery.outbox import read_cursor
from relayd.testing import Sink, open_sink
from tests.crash import laws
from tests.crash.sender import Sender
from tests.relay import Relay
from tests.waiting import until

CUTS = int(os.environ.get("RELAYD_CRASH_CUTS", "6"))
SEED = int(os.environ.get("RELAYD_CRASH_SEED", str(time.time_ns() % 100_000)))


class Wreck(NamedTuple):
    """What a relay that was killed under load left, and what is known of it."""

    state: Path
    sender: Sender
    delivered: set[str]


@asynccontextmanager
async def relay_on(root: Path, sink: Sink) -> AsyncIterator[Relay]:
    hook = f'type = "webhook"\nsettings.url = "{sink.url}"\nstart = "earliest"\ndelivery.concurrency = 4'
    with Relay(root, {"hook": hook}, more='journal.min_free = "1MB"') as relay:
        yield relay


@pytest.fixture
async def wreck(tmp_path: Path) -> Wreck:
    root = tmp_path / "wreck"
    root.mkdir()
    async with open_sink() as sink, relay_on(root, sink) as relay:
        await relay.start()
        sender = Sender(relay.url, SEED)
        async with sender.sending():
            await until(lambda: len(sender.acknowledged) > 400)
        relay.kill()
        return Wreck(relay.state, sender, set(sink.accepted))


@pytest.mark.parametrize("cut", range(CUTS))
async def test_a_journal_cut_at_any_byte(tmp_path: Path, wreck: Wreck, cut: int) -> None:
    random = Random(SEED * 100 + cut)
    state = copy(wreck, tmp_path)
    active = max((state / "journal").iterdir())
    whole = active.read_bytes()
    size = random.randrange(len(whole))
    end = whole.rfind(b"\n", 0, size) + 1
    active.write_bytes(whole[:size])
    (state / "dedupe").unlink()  # that of another boot is not trusted, and built again
    kept = [msgspec.json.decode(line) for line in whole[:end].splitlines()]
    async with open_sink() as sink, relay_on(tmp_path, sink) as relay:
        await relay.start()
        assert relay.status()["journal"]["head"] == max(end, read_cursor(state / "outbox" / "hook.sqlite3") or 0)
        assert ("torn tail" in relay.log.read_text()) == (size > end)
        new = await send_more(relay, wreck)
        await relay.drained()
        journal = [event["messageId"] for event in relay.journal()]
        assert journal[: len(kept)] == [event["messageId"] for event in kept]
        assert set(journal[len(kept) :]) == new
        assert set(journal) <= wreck.delivered | sink.accepted.keys()
        assert new <= sink.accepted.keys()
        assert await relay.stop() == 0


@pytest.mark.parametrize("cut", range(CUTS))
async def test_an_outboxs_log_cut_at_any_byte(tmp_path: Path, wreck: Wreck, cut: int) -> None:
    random = Random(SEED * 100 + cut)
    state = copy(wreck, tmp_path)
    log = state / "outbox" / "hook.sqlite3-wal"
    whole = log.read_bytes()
    log.write_bytes(whole[: random.randrange(len(whole))])
    log.with_name("hook.sqlite3-shm").unlink(missing_ok=True)
    async with open_sink() as sink, relay_on(tmp_path, sink) as relay:
        await relay.start()
        await send_more(relay, wreck)
        status = await relay.drained()
        journal = list(relay.journal())
        assert {event["messageId"] for event in journal} <= wreck.delivered | sink.accepted.keys()
        assert wreck.sender.acknowledged <= {event["messageId"] for event in journal}
        laws.conservation(relay, status, journal)
        assert await relay.stop() == 0


@pytest.mark.parametrize("damage", ["cut", "garbage", "gone"])
async def test_a_damaged_dedupe_file_costs_no_event(tmp_path: Path, wreck: Wreck, damage: str) -> None:
    state = copy(wreck, tmp_path)
    index = state / "dedupe"
    whole = index.read_bytes()
    index.write_bytes({"cut": whole[:5000], "garbage": b"?" * len(whole), "gone": b""}[damage])
    async with open_sink() as sink, relay_on(tmp_path, sink) as relay:
        await relay.start()
        assert "dedupe file is damaged" in relay.log.read_text()
        new = await send_more(relay, wreck)
        await relay.drained()
        journal = [event["messageId"] for event in relay.journal()]
        assert len(journal) == len(set(journal))
        assert wreck.sender.acknowledged | new <= set(journal) <= wreck.delivered | sink.accepted.keys()
        assert await relay.stop() == 0


def copy(wreck: Wreck, root: Path) -> Path:
    """The wreck's state, where a relay on ``root`` finds it."""
    shutil.copytree(wreck.state, root / "state", ignore=shutil.ignore_patterns("*.sock"))
    return root / "state"


async def send_more(relay: Relay, wreck: Wreck) -> set[str]:
    """Send new events, see them acknowledged, and return their messageIds."""
    sender = Sender(relay.url, SEED + 1, first=len(wreck.sender.sent))
    async with sender.sending():
        await until(lambda: len(sender.acknowledged) > 50)
    assert sender.acknowledged == sender.sent.keys()
    return sender.acknowledged
