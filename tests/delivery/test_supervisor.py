"""Which destinations are fed, and what that means for the journal."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trio

from relayd.config import model
from relayd.config.units import Size
from relayd.delivery.supervisor import Supervisor
from relayd.destinations import get
from relayd.journal.dedupe import Dedupe
from relayd.journal.log import Journal, open_journal
from relayd.journal.segment import Folders
from tests.events import line
from tests.waiting import until


def destination(type_: str, **settings: object) -> model.Destination:
    return model.Destination(type=type_, settings=msgspec.convert(settings, get(type_).settings))


TOOL = destination("device", name="Heap")
HOOK = destination("webhook", url="http://127.0.0.1:9/")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    opened = open_journal(
        Folders(tmp_path / "journal", tmp_path / "archive"),
        model.Journal(min_free=Size(0)),
        Dedupe(tmp_path / "dedupe", max_ids=10, window=60),
        cursor=1000,
        max_buffered=1_000_000,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(opened.run)
        yield opened
        await opened.close()


async def test_a_tool_that_only_devices_talk_to_has_no_outbox_no_actor_and_zero_counters(
    journal: Journal, tmp_path: Path
) -> None:
    supervisor = Supervisor({"tool": TOOL, "hook": HOOK}, journal, tmp_path, sources={}, redact=str)
    supervisor.prepare()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        with trio.fail_after(5):
            while supervisor.status()["hook"].state != "running":  # noqa: ASYNC110  it has no event to wait for
                await trio.sleep(0.01)
        supervisor.stop()
    assert [path.name for path in tmp_path.glob("*.sqlite3")] == ["hook.sqlite3"]
    status = supervisor.status()["tool"]
    assert (status.state, status.received, status.delivered, status.filtered) == ("disabled", 0, 0, {})
    assert status.cursor is None


async def test_events_pass_a_disabled_destination_by_and_are_counted(journal: Journal, tmp_path: Path) -> None:
    off = msgspec.structs.replace(HOOK, enabled=False)
    supervisor = Supervisor({"off": off}, journal, tmp_path, sources={}, redact=str)
    supervisor.prepare()
    await journal.append(line(1) + line(2), "web", 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        await until(lambda: supervisor.status()["off"].received == 2)
        status = supervisor.status()["off"]
        assert (status.state, status.filtered, status.deliveries) == ("disabled", {"DESTINATION_DISABLED": 2}, 0)
        assert supervisor.floor() == journal.head
        supervisor.stop()


async def test_it_does_not_hold_the_journal(journal: Journal, tmp_path: Path) -> None:
    assert journal.head == 1000
    assert Supervisor({"tool": TOOL}, journal, tmp_path, sources={}, redact=str).floor() == 1000
    assert Supervisor({"tool": TOOL, "hook": HOOK}, journal, tmp_path, sources={}, redact=str).floor() == 0
