"""The journal keeps what it acknowledged, whatever happens to its process and to the end of its files."""

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from relayd.config import model
from relayd.config.units import Duration, Size
from relayd.journal.archive import retire
from relayd.journal.dedupe import Dedupe
from relayd.journal.log import Journal, Overloaded, open_journal
from relayd.journal.reader import Reader
from relayd.journal.segment import Folders
from tests.events import line
from tests.waiting import until


def folders(root: Path) -> Folders:
    return Folders(root / "journal", root / "archive")


@asynccontextmanager
async def running(
    root: Path, *, cursor: int = 0, max_buffered: int = 2**20, **settings: object
) -> AsyncIterator[Journal]:
    dedupe = Dedupe(root / "dedupe", max_ids=1000, window=86400)
    config = model.Journal(**({"min_free": Size(0)} | settings))  # type: ignore[arg-type]
    journal = open_journal(folders(root), config, dedupe, cursor=cursor, max_buffered=max_buffered)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        yield journal
        await journal.close()


def everything(root: Path, head: int, start: int = 0) -> bytes:
    reader = Reader(folders(root), start)
    data = b""
    while chunk := reader.read(head, 1000):
        data += chunk.data
    reader.close()
    return data


async def test_what_arrives_together_shares_a_commit(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(journal.append, line(number), "web", 1)
        assert journal.commits < 20
        assert sorted(everything(tmp_path, journal.head).splitlines(keepends=True)) == sorted(map(line, range(200)))


async def test_readers_are_told_only_of_what_is_synced(tmp_path: Path) -> None:
    async with running(tmp_path, fsync="interval", fsync_interval=Duration(3600)) as journal:
        await journal.append(line(1), "web", 1)
        assert journal.head == 0
    assert journal.head == len(line(1))


async def test_a_full_segment_is_sealed_and_read_as_before(tmp_path: Path) -> None:
    async with running(tmp_path, segment_size=Size(1024)) as journal:
        for number in range(40):
            await journal.append(line(number), "web", 1)
        await until(lambda: len(folders(tmp_path).raw()) == 1)
        assert len(folders(tmp_path).sealed()) > 5
        assert everything(tmp_path, journal.head) == b"".join(map(line, range(40)))
        middle = sum(len(line(number)) for number in range(25))
        assert everything(tmp_path, journal.head, middle).startswith(line(25))


async def test_a_reader_goes_on_through_sealing(tmp_path: Path) -> None:
    async with running(tmp_path, segment_size=Size(1024)) as journal:
        reader = Reader(folders(tmp_path), 0)
        got = b""
        for number in range(60):
            await journal.append(line(number), "web", 1)
            while chunk := reader.read(journal.head, 100):
                assert chunk.start == len(got)
                got += chunk.data
        assert got == b"".join(map(line, range(60)))
        reader.close()


@pytest.mark.parametrize(
    "torn", [b"{", b'{"type":"track"', b"\0" * 700, line(99)[:-1], line(99)[:-1] + b"\0\n", b"\xff\xfe\n"]
)
async def test_a_torn_tail_is_cut_off_and_the_log_goes_on(tmp_path: Path, torn: bytes) -> None:
    async with running(tmp_path) as journal:
        await journal.append(line(1) + line(2), "web", 2)
        end = journal.head
    active = folders(tmp_path).raw()[-1].path
    with active.open("ab") as file:
        file.write(torn)
    async with running(tmp_path) as journal:
        assert journal.head == end
        await journal.append(line(3), "web", 1)
        assert everything(tmp_path, journal.head) == line(1) + line(2) + line(3)


async def test_every_truncation_of_the_last_segment_leaves_its_whole_lines(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await journal.append(line(1) + line(2) + line(3), "web", 3)
    active = folders(tmp_path).raw()[-1].path
    whole = active.read_bytes()
    lines = [line(1), line(2), line(3)]
    for size in range(0, len(whole), 7):
        active.write_bytes(whole[:size])
        (tmp_path / "dedupe").unlink()  # what a power cut leaves is scanned whole
        async with running(tmp_path) as journal:
            kept = everything(tmp_path, journal.head)
        count = kept.count(b"\n")
        assert kept == b"".join(lines[:count])
        assert size - len(kept) < len(lines[min(count, 2)])


async def test_a_log_shorter_than_a_cursor_goes_on_behind_it(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await journal.append(line(1), "web", 1)
    async with running(tmp_path, cursor=5000) as journal:
        assert journal.head == 5000
        await journal.append(line(2), "web", 1)
        assert everything(tmp_path, journal.head) == line(1) + line(2)
        assert everything(tmp_path, journal.head, 5000) == line(2)


async def test_ids_of_the_journal_are_known_after_a_crash_that_lost_the_index(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await journal.append(line(1), "web", 1)
    (tmp_path / "dedupe").unlink()
    async with running(tmp_path) as journal:
        assert journal.dedupe.add(["id-1"], 1) == [False]
        assert journal.dedupe.add(["id-2"], 1) == [True]


async def test_ids_of_events_that_a_power_cut_cost_are_not_taken_for_known(tmp_path: Path) -> None:
    async with running(tmp_path, fsync="interval", fsync_interval=Duration(3600)) as journal:
        for number in range(3):
            assert journal.dedupe.add([f"id-{number}"], 1795514400) == [True]  # the second of the events' receipt
            await journal.append(line(number), "web", 1)
    active = folders(tmp_path).raw()[-1].path
    active.write_bytes(active.read_bytes()[: len(line(0)) + 5])
    async with running(tmp_path) as journal:
        assert journal.dedupe.add(["id-0", "id-1", "id-2"], 1795514401) == [False, True, True]


async def test_a_commit_that_fails_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as journal:
        await journal.append(line(1), "web", 1)
        real = os.fdatasync

        def refuse(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fdatasync", refuse)
        assert journal.dedupe.add(["id-2"], 1) == [True]
        with pytest.raises(OSError, match="Input/output"):
            await journal.append(line(2), "web", 1)
        monkeypatch.setattr(os, "fdatasync", real)
        assert journal.dedupe.add(["id-2"], 1) == [True]
        await journal.append(line(2), "web", 1)
        await journal.append(line(3), "web", 1)
        assert everything(tmp_path, journal.head) == line(1) + line(2) + line(3)


async def test_ids_that_arrive_during_a_commit_are_not_taken_for_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncing, go_on = threading.Event(), threading.Event()

    def slow(descriptor: int) -> None:
        syncing.set()
        assert go_on.wait(20)

    async with running(tmp_path) as journal:
        monkeypatch.setattr(os, "fdatasync", slow)
        async with trio.open_nursery() as nursery:
            journal.dedupe.add(["id-1"], 1)
            nursery.start_soon(journal.append, line(1), "web", 1)
            await until(syncing.is_set)
            journal.dedupe.add(["id-2"], 1)
            go_on.set()
        journal.dedupe.rollback()
        assert journal.dedupe.add(["id-1"], 1) == [False]
        assert journal.dedupe.add(["id-2"], 1) == [True]


async def test_it_refuses_before_memory_or_disk_run_out(tmp_path: Path) -> None:
    async with running(tmp_path, max_buffered=1000) as journal:
        journal.check_room(1000)
        with pytest.raises(Overloaded, match="does not keep up"):
            journal.check_room(1001)
    async with running(tmp_path, min_free=Size(2**60)) as journal:
        with pytest.raises(Overloaded, match="min_free"):
            journal.check_room(1)


async def test_retention_spares_what_a_cursor_still_needs(tmp_path: Path) -> None:
    async with running(tmp_path, segment_size=Size(1024)) as journal:
        for number in range(62):
            await journal.append(line(number), "web", 1)
        await until(lambda: len(folders(tmp_path).raw()) == 1)
    sealed = folders(tmp_path).sealed()
    let_go = partial(retire, folders(tmp_path), retention=10**9, max_size=1, now=0)
    assert let_go(floor=0) == []
    cursor = sealed[3].base + 5
    assert let_go(floor=cursor) == sealed[:3]
    assert let_go(floor=10**9) == sealed[3:]
    assert everything(tmp_path, 10**9).startswith(b'{"type"')


async def test_retention_lets_go_by_age(tmp_path: Path) -> None:
    async with running(tmp_path, segment_size=Size(1024)) as journal:
        for number in range(20):
            await journal.append(line(number), "web", 1)
        await until(lambda: len(folders(tmp_path).raw()) == 1)
    first = folders(tmp_path).sealed()[0]
    os.utime(first.path, (1000, 1000))
    let_go = partial(retire, folders(tmp_path), floor=10**9, retention=3600, max_size=0)
    assert let_go(now=1000 + 3599) == []
    assert let_go(now=1000 + 3601) == [first]


async def test_a_crash_in_the_middle_of_sealing_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, segment_size=Size(1024)) as journal:
        for number in range(8):
            await journal.append(line(number), "web", 1)
        await until(lambda: len(folders(tmp_path).raw()) == 1)
        head = journal.head
    sealed = folders(tmp_path).sealed()[0]
    whole = everything(tmp_path, head)
    with sealed.open() as file:
        folders(tmp_path).raw_path(sealed.base).write_bytes(file.read())  # renamed, but the raw one is not yet gone
    sealed.path.with_name(sealed.path.name + ".partial").write_bytes(b"half")
    assert everything(tmp_path, head) == whole
    async with running(tmp_path, segment_size=Size(1024)):
        await until(lambda: len(folders(tmp_path).raw()) == 1)
    assert everything(tmp_path, head) == whole
